package db

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/reiestr/reiestr/db/pg"
)

// Joined answers how many acceptances wait for the next batch.
func (j *Jobs) Joined() int { return j.intake.group.Queued() }

// Joined answers how many creations wait for the next batch.
func (l *Licenses) Joined() int { return l.creation.Queued() }

// Joined answers how many reads wait for the next batch.
func (d *DB) Joined() int { return d.pg.QueuedReads() }

// NewSecret makes the secret of a token or an api key.
func NewSecret() string { return newSecret() }

// ConnectionPool is the pool of a DB.
func (d *DB) ConnectionPool() *pgxpool.Pool { return d.pg.Pool() }

// PoolOf is the pg.DB of a DB.
func PoolOf(d *DB) *pgxpool.Pool { return d.pg.Pool() }

// SampledTrace is the traceparent of a trace that is sampled.
const SampledTrace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// Traced is an Observer for which all work is part of one trace.
type Traced string

func (Traced) Transaction(ctx context.Context, _ string) (context.Context, func(int, error)) {
	return ctx, func(int, error) {}
}
func (t Traced) Trace(context.Context) string { return string(t) }
func (Traced) Pruned(string, int64)           {}
func (Traced) Jobs(ctx context.Context, _ []JobRun) (context.Context, func(error)) {
	return ctx, func(error) {}
}

var _ pg.Observer = Traced("")
