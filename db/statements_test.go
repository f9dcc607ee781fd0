package db_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/internal/dev/testdb"
	"github.com/reiestr/reiestr/migrations"
)

// TestStatistics: pg_stat_statements shows one line for each query of the service, by its name and without a literal,
// whether it was part of a sampled trace or not, and beside them only what begins and ends transactions and carries the
// news.
func TestStatistics(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	login, err := testdb.Connect(t.Context(), h.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { login.Close(context.Background()) })
	var loaded bool
	if err := login.QueryRow(t.Context(), `SELECT current_setting('shared_preload_libraries') LIKE '%pg_stat_statements%'`).Scan(&loaded); err != nil {
		t.Fatal(err)
	}
	if !loaded {
		t.Skip("this server does not load pg_stat_statements")
	}
	exec(t, login, `CREATE EXTENSION pg_stat_statements`)
	fillStatistics(t, login, h.url)
	// pg_stat_statements keeps what databases that were dropped have executed. If it is full it forgets statements of this
	// test as soon as they have been counted.
	exec(t, login, `SELECT pg_stat_statements_reset(0, gone.dbid, 0)
		FROM (SELECT DISTINCT dbid FROM pg_stat_statements WHERE dbid NOT IN (SELECT oid FROM pg_database)) AS gone`)
	exec(t, login, `ALTER DATABASE `+login.Config().Database+` SET pg_stat_statements.track = 'top'`)
	shown := func() map[string]int64 {
		rows, _ := login.Query(t.Context(), `
			SELECT query, calls FROM pg_stat_statements
			WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND userid = 'reiestr_app'::regrole`)
		calls := map[string]int64{}
		var query string
		var n int64
		if _, err := pgx.ForEachRow(rows, []any{&query, &n}, func() error { calls[query] += n; return nil }); err != nil {
			t.Fatal(err)
		}
		return calls
	}
	named := regexp.MustCompile(`^\w+ /\* (\w+) \*/ `)
	plain := []string{
		`begin isolation level read committed read write`, `commit`, `rollback`, `listen "reiestr_news"`,
	}

	for _, observer := range []db.Observer{db.Traced(db.SampledTrace), nil} {
		d, err := db.Open(t.Context(), db.Config{URL: h.url, TimeZone: "Europe/Kyiv", Observer: observer})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(d.Close)
		(&house{d, h.owner, h.url}).useAll(t, func() (calls int64) {
			for query, n := range shown() {
				if strings.Contains(query, "/* FindNews */") {
					calls += n
				}
			}
			return calls
		})
	}

	found := map[string]int64{}
	for query, calls := range shown() {
		query = strings.Join(strings.Fields(query), " ")
		if strings.Contains(query, `'`) {
			t.Errorf("with a literal: %s", query)
		}
		if name := named.FindStringSubmatch(query); name != nil {
			if found[name[1]] != 0 {
				t.Errorf("%s has two lines", name[1])
			}
			found[name[1]] = calls
		} else if !slices.Contains(plain, query) {
			t.Errorf("without a name: %s", query)
		}
	}
	for _, name := range queriesOfTheService(t) {
		if found[name] < 2 {
			t.Errorf("%s was counted %d times", name, found[name])
		}
	}
}

// fillStatistics makes pg_stat_statements as full as on a server that has served many runs, with statements of a
// database that is dropped then. It leaves room for fewer statements than the service has: when it is full, the
// statements that were executed least are forgotten, a twentieth of all at once, and those of the test are among them.
func fillStatistics(t *testing.T, login *pgx.Conn, url string) {
	t.Helper()
	name := login.Config().Database + "_dropped"
	exec(t, login, `CREATE DATABASE `+name)
	config, err := pgx.ParseConfig(url)
	must(t, err)
	testdb.Pin(config)
	config.Database = name
	dropped, err := pgx.ConnectConfig(t.Context(), config)
	must(t, err)
	exec(t, dropped, `SET pg_stat_statements.track = 'all'`)
	exec(t, dropped, `CREATE EXTENSION pg_stat_statements`)
	exec(t, dropped, `DO $$
	DECLARE
		room constant int := current_setting('pg_stat_statements.max')::int - (SELECT count(*) FROM pg_stat_statements) - 40;
	BEGIN
		FOR n IN 0..10 * room LOOP
			EXECUTE 'SELECT 1' || repeat(' + 1', n / 10 / 100) || repeat(' - 1', n / 10 % 100);
		END LOOP;
	END $$`)
	must(t, dropped.Close(t.Context()))
	exec(t, login, `DROP DATABASE `+name+` WITH (FORCE)`)
}

// queriesOfTheService are the names of those queries that are not the owner's.
func queriesOfTheService(t *testing.T) (names []string) {
	t.Helper()
	files, err := filepath.Glob("../sql/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		head, _, _ := strings.Cut(string(text), "\n-- name: ")
		starts := queryHead.FindAllStringSubmatchIndex(string(text), -1)
		for i, at := range starts {
			end := len(text)
			if i+1 < len(starts) {
				end = starts[i+1][0]
			}
			if !strings.Contains(head+string(text[at[0]:end]), "Run by the owner") {
				names = append(names, string(text[at[2]:at[3]]))
			}
		}
	}
	return names
}

// useAll has every query of the service run; looks tells how often FindNews has.
func (h *house) useAll(t *testing.T, looks func() int64) {
	t.Helper()
	ctx := t.Context()
	may := func(err error, also ...error) {
		t.Helper()
		if err != nil && !slices.ContainsFunc(also, func(a error) bool { return errors.Is(err, a) }) {
			t.Fatal(err)
		}
	}
	may(h.Ready(ctx, migrations.Latest()))
	_, err := h.Access.Check(ctx, "token", "key")
	may(err, db.ErrNotFound)
	_, err = h.Access.KnowsAPIKey(ctx, "key")
	may(err)

	a := newApplication()
	a.save(t, h)
	a.fields.ExpiryDate = nil
	_, err = h.Licenses.Create(ctx, a.caller, a.fields)
	may(err)
	_, err = h.Events.ByTime(ctx, a.entity.id, db.EventFilter{}, db.Page{Number: 1, Size: 1})
	may(err)
	_, err = h.Events.Get(ctx, a.entity.id, uuid.New())
	may(err, db.ErrNotFound)
	_, err = h.Dictionaries.All(ctx)
	may(err)
	_, err = h.Licenses.List(ctx, a.entity.id, db.LicenseFilter{}, db.Page{Number: 1, Size: 10})
	may(err)
	m := newAmendment()
	m.changes.ExpiryDate = new(date(2999, 1, 1))
	m.save(t, h)
	_, err = h.Licenses.Update(ctx, m.caller, m.stored.id, m.changes)
	may(err)

	for _, e := range []*errand{newUse(), newRelease(), newProcess(), newComplete()} {
		e.request.expires = date(2999, 1, 1)
		job := e.accept(t, h)
		h.job(t, e.entity.id, job.ID)
		_, err := h.ServiceRequests.Get(ctx, e.request.patient, e.request.id)
		may(err)
		_, err = h.ServiceRequests.OfPatient(ctx, e.request.patient, db.ServiceRequestFilter{}, db.Page{Number: 1, Size: 10})
		may(err)
	}
	_, err = h.ServiceRequests.ByRequisition(ctx, "0000-1111-2222-3333", "active", db.Page{Number: 1, Size: 10})
	may(err)
	_, err = h.Jobs.Queue(ctx)
	may(err)
	if taken := h.run(t, db.Claim{Size: 10}); len(taken) != 4 {
		t.Fatalf("%d jobs taken", len(taken))
	}
	waiting := newUse()
	waiting.request.expires = date(2999, 1, 1)
	job := waiting.accept(t, h)
	waiting.accept(t, h) // finds the first
	_, err = h.Jobs.CountAttempt(ctx, job.ID, 0)
	may(err)
	may(h.Jobs.Postpone(ctx, job.ID, time.Hour, time.Hour))
	if taken := h.run(t, db.Claim{Size: 1, Repeated: true}); len(taken) != 0 {
		t.Fatalf("%d jobs repeated before their time", len(taken))
	}
	_, err = h.AllowedCodes(ctx, db.StatusReasonUnknown)
	may(err)
	expired := newServiceRequest()
	expired.expires = date(2000, 1, 1)
	h.save(t, expired)
	cure := h.poison(t, "22000", "0000-1111-2222-3333")
	_, err = h.ServiceRequests.Expire(ctx, nil, func(uuid.UUID, error) {})
	may(err)
	cure()

	// The first who waits: the look that is taken for her when the process begins to listen.
	before := looks()
	waits, enough := context.WithTimeout(ctx, 20*time.Second)
	ended := started(func() error { _, err := h.Jobs.Await(waits, waiting.entity.id, job.ID, nil); return err })
	for looks() == before && waits.Err() == nil {
		time.Sleep(5 * time.Millisecond)
	}
	enough()
	may(receive(t, ended), context.Canceled)

	may(h.Events.Publish(ctx))
	at := make(chan struct{})
	close(at)
	_, _, err = h.Events.Await(ctx, a.entity.id, 0, 10, at)
	may(err)
	client := callerOf(uuid.New())
	_, _, err = h.Events.After(ctx, client.ClientID, 0, 10) // of whom there is none
	may(err)
	_, err = h.Prune(ctx, db.Retention{Jobs: 24 * time.Hour, Events: 24 * time.Hour})
	may(err)
	may(h.lease(t, client, "kept").Keep(ctx, someAnswer))
	may(h.lease(t, client, "freed").Free(ctx))
	_, err = h.Idempotency.Forget(ctx)
	may(err)

	h.exec(t, `DELETE FROM ops.jobs WHERE id = $1`, job.ID)
}
