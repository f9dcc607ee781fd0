package db

import (
	"context"
	"errors"
	"time"

	"github.com/reiestr/reiestr/db/sqlc"
)

// ShortestRetention is how long jobs and events are kept at least, whatever a Retention says: the stored answer of an
// idempotency key is kept for as long, and it names its job. The functions of migration 12 have the same bound.
const ShortestRetention = 24 * time.Hour

// prunedAtOnce is how many jobs, or places in the feeds of events, one transaction removes.
const prunedAtOnce = 1000

// Retention says how long ended jobs and events are kept.
type Retention struct {
	Jobs   time.Duration // after their end
	Events time.Duration // after the change that they tell of
}

// Pruned is how many rows Prune has removed.
type Pruned struct {
	Jobs            int64 `json:"jobs"`
	Events          int64 `json:"events"`
	IdempotencyKeys int64 `json:"idempotency_keys"`
}

// Prune removes the jobs and the events that are older than their retention, and the idempotency keys that are older than
// a day. It tells how many, also when it fails or is stopped: each batch is a transaction of its own, and the next run
// goes on. Any number of runs may work at once. Rows that another transaction holds are left to the next run.
func (d *DB) Prune(ctx context.Context, r Retention) (p Pruned, err error) {
	var jobs, events, keys error
	p.Jobs, jobs = d.Jobs.Prune(ctx, r.Jobs)
	p.Events, events = d.Events.Prune(ctx, r.Events)
	p.IdempotencyKeys, keys = d.Idempotency.Forget(ctx)
	return p, errors.Join(jobs, events, keys)
}

// Prune removes the jobs that ended longer ago than the retention, and tells how many.
func (j *Jobs) Prune(ctx context.Context, retention time.Duration) (pruned int64, err error) {
	batch := sqlc.PruneJobsParams{RetentionSeconds: retention.Seconds(), BatchSize: prunedAtOnce}
	for {
		var row sqlc.PruneJobsRow
		err := j.db.transact(ctx, "prune jobs", func(t *transaction) (err error) {
			row, err = t.last().PruneJobs(ctx, batch)
			return err
		})
		if err != nil {
			return pruned, err
		}
		j.db.observer.Pruned("jobs", row.Pruned)
		pruned += row.Pruned
		if row.Pruned < prunedAtOnce {
			return pruned, nil
		}
		batch.After = row.Last
	}
}

// Prune removes the events that are older than the retention, if every feed has them or they belong into no feed. It
// tells how many.
func (e *Events) Prune(ctx context.Context, retention time.Duration) (pruned int64, err error) {
	batch := sqlc.PruneEventsParams{RetentionSeconds: retention.Seconds(), BatchSize: prunedAtOnce}
	for {
		var row sqlc.PruneEventsRow
		err := e.db.transact(ctx, "prune events", func(t *transaction) (err error) {
			row, err = t.last().PruneEvents(ctx, batch)
			return err
		})
		if err != nil || row.Pruned == 0 {
			return pruned, err
		}
		e.db.observer.Pruned("events", row.Pruned)
		pruned += row.Pruned
		batch.After = row.Last
	}
}
