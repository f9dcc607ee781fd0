package pg

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// traced is an Observer for which all work is part of one trace.
type traced string

func (traced) Transaction(ctx context.Context, _ string) (context.Context, func(int, error)) {
	return ctx, func(int, error) {}
}
func (t traced) Trace(context.Context) string { return string(t) }

const (
	sampledTrace   = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	unsampledTrace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
)

// TestTransactionsOfASampledTrace: a transaction whose statements are sent one by one passes the tests of a transaction
// that travels in few round trips.
func TestTransactionsOfASampledTrace(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(*testing.T){
		"commits":                 TestTransactCommits,
		"nothing to do":           TestTransactWithNothingToDo,
		"reports a failed commit": TestTransactReportsAFailedCommit,
		"reports a commit answered with rollback": TestTransactReportsACommitAnsweredWithARollback,
		"commits behind no row":                   TestTransactCommitsBehindNoRow,
		"commits nothing after a refusal":         TestTransactCommitsNothingAfterARefusal,
		"reports an error of a queued statement":  TestTransactReportsAnErrorOfAQueuedStatement,
		"reports an error of a statement":         TestTransactReportsAnErrorOfAStatement,
		"cancelled while it waits":                TestTransactCancelledWhileItWaits,
		"cancelled as the lock is granted":        TestTransactCancelledAsTheLockIsGranted,
		"cancelled before":                        TestTransactCancelledBefore,
		"gives up a lock":                         TestTransactGivesUpALockAfterItsTimeOut,
		"whose connection is lost":                TestTransactWhoseConnectionIsLost,
		"repeats an undone transaction":           TestTransactRepeatsUndoneTransactions,
		"survives a deadlock":                     TestTransactSurvivesADeadlock,
		"read committed whatever the defaults":    TestTransactIsReadCommittedWhateverTheDefaults,
		"looks after it has the lock":             TestTransactReadsAfterTheLock,
		"rolls back after a panic":                TestTransactRollsBackAfterAPanic,
		"leaves rows unread":                      TestTransactLeavesRowsUnread,
	} {
		t.Run(name, test)
	}
}

// Statements as sqlc writes them.
const (
	lockScratch = `-- name: LockScratch :exec
SELECT FROM ops.scratch WHERE id = $1 FOR UPDATE`
	countScratch = `-- name: CountScratch :one
SELECT count(*) FROM ops.scratch`
)

// The text of a statement that waits, as the database shows it.
func TestStatementsCarryTheTraceOnlyWhereItIsSampled(t *testing.T) {
	t.Parallel()
	s := newScratch(t)
	hold := s.hold(t, `LOCK TABLE ops.scratch`)
	observers := map[string]Observer{"none": nil}
	for _, trace := range []string{
		"", sampledTrace, unsampledTrace, sampledTrace + " ", strings.ToUpper(sampledTrace), "01" + sampledTrace[2:],
		strings.Replace(sampledTrace, "0e", "*/", 1), "00-*/;DROP TABLE ops.scratch;/*-01",
	} {
		observers[trace] = traced(trace)
	}
	for trace, observer := range observers {
		d, err := Open(t.Context(), Config{URL: s.login.Config().ConnString(), Role: App, Name: trace, Observer: observer})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(d.Close)
		pid := make(chan uint32, 1)
		answers := make(chan error, 2)
		go func() {
			answers <- d.Transact(t.Context(), "wait", func(tx *Tx) error {
				pid <- tx.conn.PgConn().PID()
				if _, err := tx.Soon().Exec(t.Context(), lockScratch, 1); err != nil {
					return err
				}
				_, err := tx.Last().Exec(t.Context(), lockScratch, 1)
				return err
			})
		}()
		go func() {
			var n int
			answers <- d.Statements().QueryRow(t.Context(), countScratch).Scan(&n)
		}()
		want := map[string]string{
			"transaction": `SELECT /* LockScratch */ FROM ops.scratch`, "statement": `SELECT /* CountScratch */`,
		}
		if trace == sampledTrace {
			for way := range want {
				want[way] = "/*traceparent='" + sampledTrace + "'*/;" + want[way]
			}
		}
		s.untilBothWait(t)
		inTransaction := receive(t, pid)
		rows, _ := s.login.Query(t.Context(), `
			SELECT CASE pid WHEN $1 THEN 'transaction' ELSE 'statement' END, query FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock'`, inTransaction)
		var way, query string
		if _, err := pgx.ForEachRow(rows, []any{&way, &query}, func() error {
			if !strings.HasPrefix(query, want[way]) {
				return fmt.Errorf("%q", query)
			}
			return nil
		}); err != nil {
			t.Errorf("trace %q: %s: %v", trace, way, err)
		}
		s.cancelWaiting(t)
		for range 2 {
			if err := receive(t, answers); SQLSTATE(err) != "57014" {
				t.Errorf("trace %q: %v", trace, err)
			}
		}
	}
	if err := hold.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A text that is sent only once must not displace prepared statements that are sent again.
func TestStatementsOfASampledTraceAreNotPrepared(t *testing.T) {
	t.Parallel()
	s := newScratch(t)
	sampled := *s.DB
	sampled.observer = traced(sampledTrace)
	prepared := func(d *DB) (n int) {
		for range 3 {
			if err := d.Transact(t.Context(), "look", func(tx *Tx) error {
				_, err := tx.Last().Exec(t.Context(), lockScratch, 1)
				return err
			}); err != nil {
				t.Fatal(err)
			}
			if err := d.Statements().QueryRow(t.Context(), countScratch).Scan(&n); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.pool.QueryRow(t.Context(), `
			SELECT count(*) FROM pg_prepared_statements WHERE statement ~ '/\* (LockScratch|CountScratch) \*/'`).Scan(
			&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := prepared(&sampled); n != 0 {
		t.Errorf("%d statements of a sampled trace are prepared", n)
	}
	if n := prepared(s.DB); n != 2 {
		t.Errorf("%d statements are prepared", n)
	}
}
