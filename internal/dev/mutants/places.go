package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// place is a text that holds a promise, and a text that breaks it. The text occurs once in its file.
type place struct {
	file, name, text, broken, promise string
}

// places hold the promises that no rule of the finder covers.
var places = []place{
	{"db/jobs.go", "row-count", "if err == nil && rows != int64(len(runs)) {",
		"if err == nil && rows < 0 {", "a job that another transaction has ended undoes the batch"},
	{"db/jobs.go", "passed-over", "const mostPassedOver = 10_000", "const mostPassedOver = 10",
		"a claim passes over many held jobs"},
	{"db/jobs.go", "attempts", "const mostAttempts = 5", "const mostAttempts = 6", "the fifth attempt ends a job"},
	{"db/jobs.go", "earlier-try", "taken = taken[:0] // of an earlier try", "_ = taken[:0]",
		"a transaction that is run again forgets the jobs of the first try"},
	{"db/jobs.go", "panic", "if p := recover(); p != nil {", "if p := any(nil); p != nil {",
		"a panic is an error of its batch alone"},
	{"db/jobs.go", "told", "if err == nil {\n\t\tj.news.tell(taken)", "if false {\n\t\tj.news.tell(taken)",
		"the end of a job wakes its waiters"},
	{"db/jobs.go", "last-look", "case <-enough:\n\t\t\treturn j.Get(ctx, clientID, id)",
		"case <-enough:\n\t\t\treturn job, nil", "a waiter looks once more at the end of its wait"},
	{"db/jobs.go", "subscriber-ends", "defer w.done()", "_ = w.done", "a waiter leaves nothing behind"},
	{"db/jobs.go", "blame", "return raised(err) || pg.SQLSTATE(err) == timedOut || ownFault(err)",
		"return err != nil", "an unavailable database is not blamed on a job"},
	{"db/jobs.go", "prune-batches", "if row.Pruned < prunedAtOnce {", "if true {", "all old jobs are removed"},

	{"db/actions.go", "row-count", "if err == nil && rows != int64(len(allowed.jobs)) {",
		"if err == nil && rows < 0 {", "an effect on a state that was not decided on undoes the batch"},
	{"db/actions.go", "refused", "if refusal == \"\" {\n\t\t\tallowed.add(o)", "if true {\n\t\t\tallowed.add(o)",
		"a refused order is not carried out"},

	{"db/accept.go", "pending-jobs", "const mostPending = 20", "const mostPending = 21",
		"the pending jobs of a client on a service request are bounded"},
	{"db/accept.go", "equal-orders", "if places[digest] == 0 {", "if true {", "equal orders of a batch count once"},
	{"db/accept.go", "signal", "signal(i.added)", "_ = i.added", "an accepted job wakes a worker"},

	{"db/idempotency.go", "lease", "keyLease = 60 * time.Second", "keyLease = 25 * time.Hour",
		"the lease of a dead process ends"},
	{"db/idempotency.go", "tries-without-end", "claimTries = 20", "claimTries = 1 << 40",
		"a key is not asked for without end"},
	{"db/idempotency.go", "one-try", "claimTries = 20", "claimTries = 1",
		"a key that is being freed is asked for again"},
	{
		"db/idempotency.go",
		"kept",
		"keyKept = 24 * time.Hour",
		"keyKept = 25 * time.Hour",
		"an answer is kept for a day",
	},
	{"db/idempotency.go", "other-request", "case !bytes.Equal(found.RequestDigest, digest[:]):",
		"case !bytes.Equal(found.RequestDigest, digest[:]) && false:", "a key is not used for another request"},
	{"db/idempotency.go", "user", "userKey := caller.UserID.String() + \" \" + key", "userKey := key",
		"each user has keys of its own"},
	{"db/idempotency.go", "forget-batches", "if n < keysForgottenAtOnce {", "if true {", "all old keys are removed"},

	{"db/grants.go", "cache-limit", "mostGrants = 1 << 15", "mostGrants = 1 << 25", "the cache of tokens is bounded"},
	{"db/grants.go", "trust", "trustFor = 500 * time.Millisecond", "trustFor = time.Hour",
		"a revocation comes into force within half a second"},
	{"db/grants.go", "renewal", "renewAfter = 100 * time.Millisecond", "renewAfter = time.Hour",
		"under traffic the epoch is renewed"},
	{"db/grants.go", "epoch", "if k.epoch != g.epoch || ", "if ", "an entry of an old epoch does not count"},
	{"db/grants.go", "older-answer", "if began.After(g.asked) || k.epoch > g.epoch {", "if true {",
		"an answer that was asked for earlier does not bring back an old epoch"},
	{"db/access.go", "unknown-key", "if row.APIKeyIsKnown || apiKey == \"\" {", "if true {",
		"a new api key is accepted at once"},

	{"db/events.go", "limit", "rows = rows[:min(len(rows), limit)]", "", "a page of events has a limit"},
	{"db/events.go", "await-limit", "found, last, err = e.After(ctx, clientID, position, limit)",
		"found, last, err = e.After(ctx, clientID, position, 1<<20)", "a page that was waited for has a limit"},
	{"db/events.go", "last-look", "case <-enough:\n\t\t\treturn e.After(ctx, clientID, position, limit)",
		"case <-enough:\n\t\t\treturn nil, position, nil", "a reader looks once more at the end of its wait"},
	{"db/events.go", "removed", "case position < horizon:", "case position < -1:",
		"a reader is told that it has missed events"},
	{"db/events.go", "unknown-position", "case position > horizon:", "case position < -1:",
		"a position of a lost state is recognised"},
	{"db/events.go", "published-first", "if err := e.Publish(ctx); err != nil {\n\t\treturn nil",
		"if err := ctx.Err(); err != nil {\n\t\treturn nil", "a reader finds all events that were committed before"},
	{"db/events.go", "publish-batches", "if published.Events < publishedAtOnce {", "if true {",
		"all events are published"},
	{"db/events.go", "told", "e.news.tell(published.LegalEntityIds)", "", "a new event wakes the readers that wait"},
	{"db/events.go", "prune-batches", "if err != nil || row.Pruned == 0 {", "if err != nil || row.Pruned >= 0 {",
		"all old events are removed"},

	{"db/licenses.go", "row-count", "case row.Updated != row.Differing:", "case row.Updated < 0:",
		"an update of a licence that was not decided on is undone"},
	{"db/licenses.go", "held-on-update", "isHeld = len(held) > 0", "isHeld = false",
		"nothing is updated for a legal entity that is held"},
	{"db/licenses.go", "held-on-creation", "if !isHeld[id] {", "if true {",
		"nothing is created for a legal entity that is held"},
	{"db/licenses.go", "held-license", "if pg.LockNotAvailable(err) {", "if false {",
		"the update of a held licence is tried again"},

	{"db/news.go", "before-listening", "n.lookOnce() // for news before this moment", "",
		"news from before the connection are found"},
	{"db/news.go", "lost-connection", "Lost: func(error) { n.hears.Store(false) },", "Lost: func(error) {},",
		"without the connection the database is asked"},
	{"db/news.go", "payload", "idsPerNotification = 200", "idsPerNotification = 2000",
		"a notification is not longer than PostgreSQL allows"},
	{"db/bundle.go", "dry-run", "if dryRun {", "if false {", "a dry run stores nothing"},
	{"db/db.go", "schema-version", "if row.SchemaVersion < schemaVersion {", "if false {",
		"a program does not work on an older schema"},

	{"db/pg/group.go", "batch-size", "mostTogether = 200", "mostTogether = 1 << 30", "a batch is bounded"},
	{"db/pg/group.go", "queue", "mostQueued = 4096", "mostQueued = 1 << 30", "the queue of commands is bounded"},
	{
		"db/pg/group.go",
		"detached",
		"context.WithTimeout(context.WithoutCancel(members[0].ctx), batchTimeout)",
		"context.WithTimeout(members[0].ctx, batchTimeout)",
		"a caller that leaves does not cut off the batch of others",
	},
	{"db/pg/group.go", "batch-timeout", "batchTimeout = 20 * time.Second", "batchTimeout = 20 * time.Hour",
		"the time of a batch is bounded"},
	{"db/pg/group.go", "no-halves", "if len(left) > 1 && ErrorOfData(err) {", "if false {",
		"one bad command does not fail the others of its batch"},
	{
		"db/pg/group.go",
		"halves-of-any-error",
		"if len(left) > 1 && ErrorOfData(err) {",
		"if len(left) > 1 && err != nil {",
		"a commit with an unknown outcome is not repeated",
	},
	{"db/pg/group.go", "panic", "if p := recover(); p != nil {", "if p := any(nil); p != nil {",
		"a panic is an error of its batch alone"},
	{"db/pg/group.go", "gone", "if m.state != settled && m.ctx.Err() != nil {", "if false {",
		"a caller that has gone does not wait for a held row"},
	{"db/pg/group.go", "waiters", "if !g.room.enter() {", "if g.room.enter(); false {",
		"the commands that wait for held rows are bounded"},
	{"db/pg/group.go", "patience", "if time.Now().After(m.waitsTil) {", "if false {",
		"a command waits for a held row for a bounded time"},
	{"db/pg/group.go", "abandoned", "if m.batch.callers--; m.batch.callers == 0 {", "if m.batch.callers--; false {",
		"a batch without callers is cancelled"},
	{"db/pg/transaction.go", "isolation", "\"begin isolation level read committed read write\"", "\"begin\"",
		"a transaction is READ COMMITTED whatever the server's default is"},
	{"db/pg/transaction.go", "commit-detached", "context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)",
		"context.WithTimeout(ctx, commitTimeout)", "the outcome of a commit is awaited"},
	{"db/pg/transaction.go", "commit-answer", "if err == nil && tag.String() != \"COMMIT\" {", "if false {",
		"a commit that was answered with a rollback is an error"},
	{"db/pg/transaction.go", "rollback-detached", "context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)",
		"context.WithTimeout(ctx, rollbackTimeout)", "the connection of a cancelled caller is usable again"},
	{"db/pg/waiting.go", "waiters", "if r.now.Add(1) > r.most {", "if r.now.Add(1) < 0 {",
		"the commands that wait for held rows are bounded"},
	{"db/pg/waiting.go", "patience", "if time.Now().After(end) {", "if false && time.Now().After(end) {",
		"a command waits for a held row for a bounded time"},
	{"db/pg/waiting.go", "place-is-freed", "defer r.leave()", "_ = r.leave", "a command leaves its place free"},
	{"db/pg/pg.go", "no-second-try", "const mostTries = 3", "const mostTries = 1",
		"a transaction that a deadlock has undone is run again"},
	{"db/pg/errors.go", "deadlock", "return code == \"40001\" || code == \"40P01\"", "return code == \"40001\"",
		"a transaction that a deadlock has undone is run again"},

	{"worker/worker.go", "run-detached", "p.db.Jobs.Run(context.WithoutCancel(ctx), c)", "p.db.Jobs.Run(ctx, c)",
		"a worker that is stopped finishes its transaction"},
	{"worker/worker.go", "attempt-detached", "p.db.Jobs.CountAttempt(context.WithoutCancel(ctx), ",
		"p.db.Jobs.CountAttempt(ctx, ", "a worker that is stopped counts the attempt"},
	{"worker/worker.go", "postpone-detached", "p.db.Jobs.Postpone(context.WithoutCancel(ctx), ",
		"p.db.Jobs.Postpone(ctx, ", "a worker that is stopped puts the job aside"},
	{"worker/worker.go", "alone", "case len(taken) < 2 || !db.OfRows(err):", "case true:",
		"the jobs of a failed batch are run alone"},
	{"worker/worker.go", "blame", "if len(taken) != 1 || !db.OfRows(err) {", "if len(taken) != 1 {",
		"an unavailable database is not blamed on a job"},
	{"worker/trouble.go", "jobs-in-trouble", "jobsInTrouble = 3", "jobsInTrouble = 1 << 30",
		"the workers pause when many jobs fail"},

	{"api/rest/failures.go", "body", "const maxBodyBytes = 1 << 20", "const maxBodyBytes = 1 << 30",
		"the body of a request is bounded"},
	{"api/rest/idempotency.go", "outliving", "context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)",
		"context.WithTimeout(ctx, 5*time.Second)", "an answer is kept for a caller that has gone"},
	{"api/rest/idempotency.go", "decision", "if isDecision(answer.Code) {", "if answer.Code > 0 && isDecision(200) {",
		"an answer that decides nothing leaves the key free"},
	{"api/rest/idempotency.go", "key-length", "maxIdempotencyKey = 255", "maxIdempotencyKey = 256",
		"a key has a largest length"},
	{"api/rest/prefer.go", "wait", "const longestWait = 30", "const longestWait = 3000", "a wait is bounded"},
	{"api/rest/server.go", "body-time", "bodyTimeout = 15 * time.Second", "bodyTimeout = 15 * time.Hour",
		"the time for a body is bounded"},
	{"api/rest/server.go", "request-time", "requestTimeout = 25 * time.Second", "requestTimeout = 25 * time.Hour",
		"the time of a request is bounded"},
	{"api/rest/oidc.go", "withdrawn-keys", "keysMaxAge    = 5 * time.Minute", "keysMaxAge    = 500 * time.Hour",
		"a withdrawn key of the issuer is refused"},
	{"api/rest/oidc.go", "issuer-answer", "maxKeysBytes   = 1 << 20", "maxKeysBytes   = 1 << 40",
		"the answer of the issuer is bounded"},

	{"sql/jobs.sql", "order-of-keys", "ORDER BY c.service_request_id, c.request_digest", "",
		"equal jobs are added in one order, so that two additions cannot wait for each other"},
	{"sql/service_requests.sql", "expiry-tells-holder",
		"ARRAY[s.used_by_legal_entity_id, s.requester_legal_entity_id] AS concerned\n), history AS (\n" +
			"    INSERT INTO medical_events.service_request_history (service_request_id, status, status_reason, inserted_by)",
		"ARRAY[s.requester_legal_entity_id] AS concerned\n), history AS (\n" +
			"    INSERT INTO medical_events.service_request_history (service_request_id, status, status_reason, inserted_by)",
		"the expiry is told to the holder"},
	{"sql/service_requests.sql", "release-tells-holder", "ARRAY[wanted.holder_id, s.requester_legal_entity_id]",
		"ARRAY[s.requester_legal_entity_id]", "the release is told to the holder before"},
	{
		"sql/service_requests.sql",
		"use-tells-requester",
		"ARRAY[used_by_legal_entity_id, requester_legal_entity_id]\nFROM used",
		"ARRAY[used_by_legal_entity_id]\nFROM used",
		"the use is told to the requester",
	},
	{
		"sql/service_requests.sql",
		"use-history-of-holder",
		"SELECT id, NULL, used_by_legal_entity_id, NULL, updated_by FROM used",
		"SELECT id, NULL, used_by_legal_entity_id, NULL, updated_by FROM used WHERE false",
		"the use has a history of its holder",
	},
	{"sql/service_requests.sql", "process-event-old-value",
		"{\"old_value\": \"in_queue\", \"new_value\": \"in_progress\"}",
		"{\"old_value\": \"new\", \"new_value\": \"in_progress\"}", "the event of process has the old value"},
	{"sql/licenses.sql", "event-of-creation", "SELECT 'License', created.id, '{\"status\": {\"old_value\": null, ",
		"SELECT 'License', created.id, '{\"status\": {\"old_value\": \"active\", ",
		"the event of a new licence has no old value"},

	{"migrations/00012_retention.sql", "jobs-kept-a-day",
		"j.ended_at <= statement_timestamp() - greatest(retention, interval '24 hours')",
		"j.ended_at <= statement_timestamp() - retention", "a job is kept for a day at least"},
	{"migrations/00012_retention.sql", "events-kept-a-day",
		"latest constant timestamptz := statement_timestamp() - greatest(retention, interval '24 hours')",
		"latest constant timestamptz := statement_timestamp() - retention", "an event is kept for a day at least"},
	{
		"migrations/00012_retention.sql",
		"horizon-goes-back",
		"DO UPDATE SET position = greatest(h.position, excluded.position)",
		"DO UPDATE SET position = excluded.position",
		"the horizon of a feed does not go back",
	},
	{"migrations/00012_retention.sql", "order-of-horizons",
		"GROUP BY unfed.legal_entity_id ORDER BY unfed.legal_entity_id", "GROUP BY unfed.legal_entity_id",
		"horizons are locked in order"},
	{
		"migrations/00012_retention.sql",
		"all-places",
		"AND found.places = (SELECT count(DISTINCT concerned.id) FROM unnest(e.legal_entity_ids) AS concerned (id))",
		"",
		"an event is removed with all its places",
	},
	{"migrations/00016_feed_positions_and_key_users.sql", "positions-grow",
		"greatest(s.last_value, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)",
		"(extract(epoch FROM clock_timestamp()) * 1000000)::bigint", "positions grow also when the clock goes back"},
}

// placeMutants answers the mutants of the places. An error names the places whose text does not occur exactly once.
func placeMutants(root string, all []place) (found []mutant, err error) {
	var lost []string
	for _, p := range all {
		text, err := os.ReadFile(filepath.Join(root, p.file))
		if err != nil {
			return nil, err
		}
		id := p.file + ":" + p.name
		if n := strings.Count(string(text), p.text); n != 1 {
			lost = append(lost, fmt.Sprintf("%s: the text occurs %d times in the file: %q", id, n, p.text))
			continue
		}
		start := strings.Index(string(text), p.text)
		found = append(found, mutant{id, p.file, start, start + len(p.text), p.broken, p.promise})
	}
	if len(lost) > 0 {
		return nil, fmt.Errorf("internal/dev/mutants/places.go has to follow the code:\n%s", strings.Join(lost, "\n"))
	}
	return found, nil
}
