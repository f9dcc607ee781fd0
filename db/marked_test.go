package db

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// PoolOf is the way to the database that a DB has.
func PoolOf(d *DB) *pgxpool.Pool { return d.pool }

// Traced observes that all is part of a trace.
type Traced string

func (Traced) Transaction(ctx context.Context, _ string) (context.Context, func(int, error)) {
	return ctx, func(int, error) {}
}
func (t Traced) Trace(context.Context) string { return string(t) }
func (Traced) Pruned(string, int64)           {}
func (Traced) Jobs(ctx context.Context, _ []JobRun) (context.Context, func(error)) {
	return ctx, func(error) {}
}

const (
	SampledTrace   = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	unSampledTrace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
)

// TestTransactionsOfASampledTrace: whatever holds for a transaction that travels in few round trips holds for one whose statements are sent
// one by one.
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
		"repeats what the database has undone":    TestTransactRepeatsWhatTheDatabaseHasUndone,
		"survives a deadlock":                     TestTransactSurvivesADeadlock,
		"read committed whatever the defaults":    TestTransactIsReadCommittedWhateverTheDefaults,
		"looks after it has the lock":             TestTransactLooksAfterItHasTheLock,
		"rolls back after a panic":                TestTransactRollsBackAfterAPanic,
		"leaves rows unread":                      TestTransactLeavesRowsUnread,
	} {
		t.Run(name, test)
	}
}

// What the database is told of a statement that waits.
func TestStatementsCarryTheTraceOnlyWhereItIsSampled(t *testing.T) {
	t.Parallel()
	s := newScratch(t)
	hold := s.hold(t, `LOCK TABLE prm.legal_entities, ops.jobs`)
	observers := map[string]Observer{"nobody": nil}
	for _, trace := range []string{
		"", SampledTrace, unSampledTrace, SampledTrace + " ", strings.ToUpper(SampledTrace), "01" + SampledTrace[2:],
		strings.Replace(SampledTrace, "0e", "*/", 1), "00-*/;DROP TABLE ops.scratch;/*-01",
	} {
		observers[trace] = Traced(trace)
	}
	for trace, observer := range observers {
		d, err := Open(t.Context(), Config{URL: s.login.Config().ConnString(), TimeZone: "Europe/Kyiv", Name: trace, Observer: observer})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(d.Close)
		pid := make(chan uint32, 1)
		answers := make(chan error, 2)
		go func() {
			answers <- d.transact(t.Context(), "wait", func(tx *transaction) error {
				pid <- tx.conn.PgConn().PID()
				if err := tx.soon().LockLegalEntity(t.Context(), SystemUser); err != nil {
					return err
				}
				return tx.last().LockLegalEntity(t.Context(), SystemUser)
			})
		}()
		go func() { _, err := d.Jobs.Queue(t.Context()); answers <- err }()
		want := map[string]string{"transaction": `SELECT /* LockLegalEntity */ FROM prm`, "read": `SELECT /* MeasureQueue */`}
		if trace == SampledTrace {
			for way := range want {
				want[way] = "/*traceparent='" + SampledTrace + "'*/;" + want[way]
			}
		}
		s.untilBothWait(t)
		inTransaction := <-pid
		rows, _ := s.login.Query(t.Context(), `
			SELECT CASE pid WHEN $1 THEN 'transaction' ELSE 'read' END, query FROM pg_stat_activity
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
			if err := <-answers; codeOf(err) != "57014" {
				t.Errorf("trace %q: %v", trace, err)
			}
		}
	}
	if err := hold.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A text that comes once only is not kept in the place of those that come again.
func TestStatementsOfASampledTraceAreNotPrepared(t *testing.T) {
	t.Parallel()
	s := newScratch(t)
	sampled := *s.DB
	sampled.observer = Traced(SampledTrace)
	prepared := func(d *DB) (n int) {
		for range 3 {
			if err := d.transact(t.Context(), "look", func(tx *transaction) error { return tx.last().LockLegalEntity(t.Context(), SystemUser) }); err != nil {
				t.Fatal(err)
			}
			if _, err := d.read().ShowJob(t.Context(), SystemUser); !errors.Is(err, pgx.ErrNoRows) {
				t.Fatal(err)
			}
		}
		if err := s.pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_prepared_statements WHERE statement ~ '/\* (LockLegalEntity|ShowJob) \*/'`).Scan(&n); err != nil {
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
