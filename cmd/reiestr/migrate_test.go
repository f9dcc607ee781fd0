package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/reiestr/reiestr/internal/dev/testdb"
	"github.com/reiestr/reiestr/migrations"
)

func TestMigratePlan(t *testing.T) {
	t.Parallel()
	url := testdb.New(t).URL
	plan := func(flags ...string) string {
		return done(t, append([]string{"migrate", "plan", "--database-url", url}, flags...)...)
	}
	status := func() string { return done(t, "migrate", "status", "--database-url", url) }
	if got := plan(); got != "nothing to do: every migration is applied" {
		t.Error(got)
	}
	if got := plan("--json"); got != "[]" {
		t.Error(got)
	}
	for !regexp.MustCompile(`00007_\S+ +pending`).MatchString(status()) {
		done(t, "migrate", "down", "--database-url", url)
	}
	before := status()
	got := plan()
	for _, line := range []string{
		`(?m)^00007_events_and_idempotency\.sql \(in a transaction: .*\)$`,
		`(?m)^  SET LOCAL lock_timeout = '2s' +none: no table +nothing$`,
		`(?m)^  ALTER TABLE ops\.events ADD COLUMN legal_entity_ids uuid\[\] .*… +ACCESS EXCLUSIVE on ops\.events ` +
			`+reads and writes$`,
		`(?m)^  CREATE TABLE ops\.event_feed .*… +none: new object +nothing$`,
		`(?m)^  CREATE TRIGGER events_are_published AFTER INSERT .*… +SHARE ROW EXCLUSIVE on ops\.events +writes$`,
		`(?m)^00009_service_request_expiry_index\.sql \(not in a transaction: .*\)$`,
		`(?m)^  CREATE INDEX CONCURRENTLY .*… +SHARE UPDATE EXCLUSIVE on medical_events.service_requests +schema ` +
			`changes only$`,
	} {
		if !regexp.MustCompile(line).MatchString(got) {
			t.Errorf("no line %s in\n%s", line, got)
		}
	}
	got = plan("--down")
	for _, line := range []string{
		`(?m)\A00006_domain_methods\.sql \(in a transaction: .*\)$`,
		`(?m)^  REVOKE UPDATE \(completed_with, .*… +(ACCESS SHARE on medical_events\.service_requests|none: .*) +`,
	} {
		if !regexp.MustCompile(line).MatchString(got) {
			t.Errorf("no line %s in\n%s", line, got)
		}
	}
	if strings.Contains(got, "GRANT ") || strings.Contains(got, "00005") {
		t.Errorf("down would run\n%s", got)
	}
	var object []migrations.PlannedMigration
	must(t, json.Unmarshal([]byte(plan("--json")), &object))
	want := migrations.PlannedLock{Table: "ops.events", Mode: migrations.AccessExclusive, Blocks: "reads and writes"}
	if object[0].Version != 7 || !object[0].InTransaction || object[2].InTransaction ||
		object[0].Statements[1].Locks[0] != want {
		t.Errorf("%+v", object)
	}
	if after := status(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// TestMigratePlanOfTheOwnServer: every other command that starts the own server migrates it. migrate plan does not.
func TestMigratePlanOfTheOwnServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for range 2 {
		if got := done(t, "migrate", "plan", "--data-dir", dir); !strings.HasPrefix(got, "00001_schemas.sql ") {
			t.Error(got)
		}
	}
	if got := done(t, "migrate", "status", "--data-dir", dir); strings.Contains(got, "pending") {
		t.Error(got)
	}
	if got := done(t, "migrate", "plan", "--data-dir", dir); got != "nothing to do: every migration is applied" {
		t.Error(got)
	}
}
