package main

import (
	"strings"
	"testing"
	"time"
)

// outdated inserts, for each number of days, one ended job, one event of the clinic and one idempotency key of that
// age.
func (r *registry) outdated(days ...int) {
	r.t.Helper()
	for _, ago := range days {
		for _, sql := range []string{
			`INSERT INTO ops.jobs (id, action, service_request_id, patient_id, client_id, user_id, body, request_digest, status,
					inserted_at, ended_at)
				VALUES (gen_random_uuid(), 'use', gen_random_uuid(), gen_random_uuid(), $2, $2, '{}', sha256('1'), 'processed',
					now() - make_interval(days => $1), now() - make_interval(days => $1))`,
			`INSERT INTO ops.events (entity_type, entity_id, properties, changed_by, event_time, legal_entity_ids)
				VALUES ('License', gen_random_uuid(), '{"status": {}}', $2, now() - make_interval(days => $1), ARRAY[$2::uuid])`,
			`INSERT INTO ops.idempotency_records (client_id, key, request_digest, lease_id, locked_until, inserted_at)
				VALUES ($2, gen_random_uuid(), sha256('1'), $2, now() - interval '1 minute', now() - make_interval(days => $1))`,
		} {
			_, err := r.conn.Exec(r.t.Context(), sql, ago, r.clinic)
			must(r.t, err)
		}
	}
}

// published puts the events of the registry into the feed.
func (r *registry) published() {
	r.t.Helper()
	app := r.app()
	defer app.Close()
	must(r.t, app.Events.Publish(r.t.Context()))
}

func TestPrune(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	r.outdated(0, 5, 31, 91)
	r.published()
	for _, c := range []struct{ args, want string }{
		{"", "2 jobs, 1 events and 3 idempotency keys removed"},
		{"", "0 jobs, 0 events and 0 idempotency keys removed"},
		{"--json --event-retention 720h", `{"jobs":0,"events":1,"idempotency_keys":0}`},
		{"--job-retention 48h", "1 jobs, 0 events and 0 idempotency keys removed"},
	} {
		if got := done(t, append([]string{"prune", "--database-url", r.url}, strings.Fields(c.args)...)...); got != c.want {
			t.Errorf("%s: %s, want %s", c.args, got, c.want)
		}
	}
	for args, code := range map[string]int{
		"prune --job-retention 23h59m --database-url " + r.url: 2,
		"prune --event-retention 0s --database-url " + r.url:   2,
		"serve --event-retention 1h --database-url " + r.url:   2,
		"prune --job-retention month":                          2,
		"version --prune-times 25:00":                          2,
		"prune --database-url postgres://127.0.0.1:1/none":     1,
	} {
		if got, _, errs := command(t, "", strings.Fields(args)...); got != code || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s: exit code %d: %s", args, got, errs)
		}
	}
}

// TestServePrunes: a server prunes at the configured times, which are whole minutes. The test configures each of the
// next ten minutes, so that a slow start does not miss all of them.
func TestServePrunes(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	r.outdated(31)
	var times []string
	for minute := range 10 {
		times = append(times, time.Now().UTC().Add(time.Duration(minute+1)*time.Minute).Format("15:04"))
	}
	env := append(r.env(), "REIESTR_TIME_ZONE=UTC", "REIESTR_PRUNE_TIMES="+strings.Join(times, ","))
	p := serve(t, env, "--role", "worker")
	within(t, 2*time.Minute, "the log reports the removal", func() bool {
		return strings.Contains(p.stderr(), `"removed":{"jobs":1,"events":0,"idempotency_keys":`)
	})
	p.stop()
}
