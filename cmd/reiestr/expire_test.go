package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/reiestr/reiestr/internal/dev/testdb"
)

func TestExpire(t *testing.T) {
	t.Parallel()
	url := testdb.New(t).URL
	const request = `{"id": "8be63914-a278-470b-b868-1af5b908733%d", 
		"subject": {"identifier": {"value": "8be63914-a278-470b-b868-1af5b9087330"}},
		"status": "active", "requisition": "R",
		"category": {"coding": [{"system": "eHealth/SNOMED/service_request_categories", "code": "counselling"}]},
		"expiration_date": "%s"}`
	file := filepath.Join(t.TempDir(), "requests.json")
	requests := []string{
		strings.NewReplacer("%d", "1", "%s", "2026-01-01T00:00:00Z").Replace(request),
		strings.NewReplacer("%d", "2", "%s", "2026-01-02T00:00:00Z").Replace(request),
		strings.NewReplacer("%d", "3", "%s", "2199-01-01T00:00:00Z").Replace(request),
	}
	must(t, os.WriteFile(file, []byte(`{"service_requests": [`+strings.Join(requests, ",")+`]}`), 0o600))
	done(t, "load", file, "--database-url", url)
	for _, c := range []struct{ asOf, want string }{
		{"0001-01-01T00:00:00Z", "0 service requests expired"}, // Go's zero time must not mean now
		{"0001-01-01", "0 service requests expired"},
		{"0000-01-01T00:00:00Z", "0 service requests expired"},
		{"2026-01-01", "0 service requests expired"},                // it begins in Kyiv two hours earlier
		{"2026-01-01T02:00:00+02:00", "0 service requests expired"}, // the moment of the expiration itself
		{"2026-01-01T00:00:01Z", "1 service requests expired"},
		{"", "1 service requests expired"},
		{"", "0 service requests expired"},
	} {
		args := []string{"expire", "--database-url", url}
		if c.asOf != "" {
			args = append(args, "--as-of", c.asOf)
		}
		if got := done(t, args...); got != c.want {
			t.Errorf("as of %q: %s, want %s", c.asOf, got, c.want)
		}
	}
}

// A wrong --as-of is refused with an explanation, before the command connects to the database.
func TestExpireRefusesBadMoments(t *testing.T) {
	t.Parallel()
	for asOf, want := range map[string]string{
		"yesterday":                 `--as-of: "yesterday" is no moment like 2026-03-01T09:00:00+02:00 and no existing day`,
		"2026-02-29":                "no existing day like 2026-03-01",
		"2026-02-28T10:00":          "is no moment like",
		"01.02.2026":                "is no moment like",
		"":                          `"" is no moment like`,
		"9999-01-01":                "lies in the future",
		"2999-01-01T00:00:00+02:00": "lies in the future",
	} {
		code, _, errs := command(t, "", "expire", "--as-of="+asOf, "--database-url", "postgres://127.0.0.1:1/none")
		if code != exitUsage || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, want) {
			t.Errorf("--as-of=%s: exit code %d: %s", asOf, code, errs)
		}
	}
}

// TestExpireTellsHowManyFailed: one service request cannot be recalled. The others are recalled all the same. The
// failed one is counted, named in the log, and recalled by a later run.
func TestExpireTellsHowManyFailed(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	ids := r.reserved(3)
	_, err := r.conn.Exec(t.Context(), `UPDATE medical_events.service_requests
		SET program_processing_status = 'new', used_by_legal_entity_id = NULL, expiration_date = now() - interval '1 day'`)
	must(t, err)
	_, err = r.conn.Exec(t.Context(), fmt.Sprintf(`
		CREATE FUNCTION medical_events.poison() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN RAISE EXCEPTION 'poison' USING ERRCODE = 'check_violation'; END $$;
		CREATE TRIGGER poison BEFORE UPDATE ON medical_events.service_requests
		FOR EACH ROW WHEN (OLD.id = '%s') EXECUTE FUNCTION medical_events.poison()`, ids[1]))
	must(t, err)
	code, out, errs := command(t, "", "expire", "--database-url", r.url)
	if code != 1 || strings.TrimSpace(out) != "2 service requests expired" {
		t.Errorf("exit code %d: %s", code, out)
	}
	if !strings.Contains(errs, ids[1].String()) || !strings.Contains(errs, "1 service requests could not be recalled") ||
		strings.Contains(errs, ids[0].String()) {
		t.Errorf("the log: %s", errs)
	}
	_, err = r.conn.Exec(t.Context(), `DROP FUNCTION medical_events.poison() CASCADE`)
	must(t, err)
	if got := done(t, "expire", "--database-url", r.url); got != "1 service requests expired" {
		t.Errorf("the next run: %s", got)
	}
}

// TestDaysBeginInTheBusinessTimeZone: a day means its beginning in the business time zone, also where the clocks skip
// midnight.
func TestDaysBeginInTheBusinessTimeZone(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct{ text, zone, want string }{
		{"2026-02-28", "Europe/Kyiv", "2026-02-27T22:00:00Z"},
		{"2026-06-30", "Europe/Kyiv", "2026-06-29T21:00:00Z"},
		{"2026-03-29", "Europe/Kyiv", "2026-03-28T22:00:00Z"},       // the clocks go forward at three
		{"2018-11-04", "America/Sao_Paulo", "2018-11-04T03:00:00Z"}, // the clocks go from midnight to one
		{"2026-07-01", "UTC", "2026-07-01T00:00:00Z"},               // now
	} {
		got, err := pastMoment(c.text, c.zone, now)
		if err != nil || got.UTC().Format(time.RFC3339) != c.want {
			t.Errorf("%s in %s: %s, want %s (%v)", c.text, c.zone, got.UTC(), c.want, err)
		}
	}
	if _, err := pastMoment("2026-07-01T00:00:01Z", "UTC", now); err == nil {
		t.Error("a second after now is taken")
	}
}
