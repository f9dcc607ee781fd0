package db

import (
	"context"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db/pg"
)

// Observer watches the work of a DB, for metrics, traces and logs. Many goroutines call it at once, in the course of
// every transaction.
type Observer interface {
	// Observer watches transactions. The trace of an acceptance is stored with its job, and continues when the job is
	// carried out.
	pg.Observer

	// Jobs is called when one transaction has claimed these jobs. Their statements run with the context that is returned.
	// end is called once, after the commit, or with the error that has undone the transaction. By then each run has its
	// refusal.
	Jobs(ctx context.Context, runs []JobRun) (_ context.Context, end func(err error))

	// Pruned is called when rows of a kind (jobs, events, idempotency_keys) were removed because of their age.
	Pruned(kind string, rows int64)
}

// JobRun is one job that a worker carries out.
type JobRun struct {
	ID      uuid.UUID
	Action  Action
	Trace   string  // see Observer.Trace
	Refusal Refusal // set at the end of the job; "": processed
}

// unobserved is an Observer that does nothing.
type unobserved struct{}

func (unobserved) Transaction(ctx context.Context, _ string) (context.Context, func(int, error)) {
	return ctx, func(int, error) {}
}

func (unobserved) Trace(context.Context) string { return "" }

func (unobserved) Pruned(string, int64) {}

func (unobserved) Jobs(ctx context.Context, _ []JobRun) (context.Context, func(error)) {
	return ctx, func(error) {}
}
