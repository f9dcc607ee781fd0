package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reiestr/reiestr/internal/dev/testdb"
)

func TestExpire(t *testing.T) {
	t.Parallel()
	url := testdb.New(t).URL
	const request = `{"id": "8be63914-a278-470b-b868-1af5b908733%d", "subject": {"identifier": {"value": "8be63914-a278-470b-b868-1af5b9087330"}},
		"status": "active", "requisition": "R", "category": {"coding": [{"system": "eHealth/SNOMED/service_request_categories", "code": "counselling"}]},
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
		{"2026-01-01T02:00:00+02:00", "0 service requests expired"}, // the very moment
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
	for _, args := range []string{"expire --as-of yesterday", "version --expiry-times 25:00"} {
		if code, _, errs := command(t, "", strings.Fields(args)...); code != 2 || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s: exit code %d: %s", args, code, errs)
		}
	}
}
