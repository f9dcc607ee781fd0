package db

import (
	"context"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db/pg"
)

// Observer watches the work of a DB, for metrics, traces and logs. Its methods are called by many goroutines at once,
// on the way of every transaction.
type Observer interface {
	// Observer watches transactions. The trace of an acceptance goes with its job and goes on when the job is carried out.
	pg.Observer

	// Jobs: these jobs of one transaction were claimed. The context is the one that their statements run with; end is
	// called once, after the commit, or with the error that has undone the transaction. By then each run knows its
	// refusal.
	Jobs(ctx context.Context, runs []JobRun) (_ context.Context, end func(err error))

	// Pruned: so many rows of a kind (jobs, events, idempotency_keys) were removed, as their time was over.
	Pruned(kind string, rows int64)
}

// JobRun is one job in the hands of a worker.
type JobRun struct {
	ID      uuid.UUID
	Action  Action
	Trace   string  // see Observer.Trace
	Refusal Refusal // when it has ended; "": processed
}

// unobserved watches nothing.
type unobserved struct{}

func (unobserved) Transaction(ctx context.Context, _ string) (context.Context, func(int, error)) {
	return ctx, func(int, error) {}
}

func (unobserved) Trace(context.Context) string { return "" }

func (unobserved) Pruned(string, int64) {}

func (unobserved) Jobs(ctx context.Context, _ []JobRun) (context.Context, func(error)) {
	return ctx, func(error) {}
}
