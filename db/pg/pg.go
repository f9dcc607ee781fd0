// Package pg carries statements to PostgreSQL and brings their results back: sessions and their pool, transactions,
// pipelines, batches of simultaneous commands, codecs, statement names, notifications. It knows no table.
package pg

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/reiestr/reiestr/internal/session"
)

// acquireTimeout bounds the wait for a connection of the pool.
const acquireTimeout = 15 * time.Second

// DefaultWaiters is how many commands of a process may wait for held rows at a time, where Config does not say it.
const DefaultWaiters = 100

// Config says which database is used, and how.
type Config struct {
	URL      string // a PostgreSQL URL or key-value string; several hosts allowed
	Role     Role
	Name     string // application_name, shown in pg_stat_activity
	MaxConns int32  // 0: pool_max_conns of the URL, or else the number of cores but at least 4
	Waiters  int    // commands that may wait for held rows at a time; 0: DefaultWaiters

	Observer Observer        // nil: nothing is observed
	Tracer   pgx.QueryTracer // is told of every statement; nil: none
}

// Observer watches transactions, for metrics, traces and logs. Many goroutines call it at once, in the course of every
// transaction.
type Observer interface {
	// Transaction: a transaction of that name begins. Its statements run with the context that is returned. end is called
	// once, with the number of tries and the outcome.
	Transaction(ctx context.Context, name string) (_ context.Context, end func(tries int, err error))

	// Trace answers the traceparent of the context's trace; "": there is none.
	Trace(ctx context.Context) string
}

// DBTX is what the accessors of sqlc need: its methods are those of sqlc's own DBTX.
type DBTX interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// DB is the database as one role sees it. It is safe for concurrent use.
type DB struct {
	pool     *pgxpool.Pool
	session  session.Wanted
	pipeline *pipeline
	room     *waitingRoom
	observer Observer
}

// Open makes a pool of connections. It does not connect yet.
func Open(ctx context.Context, c Config) (*DB, error) {
	wanted := wantedSession(c)
	config, err := poolConfig(c, wanted)
	if err != nil {
		return nil, err
	}
	if c.Observer == nil {
		c.Observer = unobserved{}
	}
	if c.Waiters == 0 {
		c.Waiters = DefaultWaiters
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	d := &DB{pool: pool, session: wanted, room: newWaitingRoom(c.Waiters), observer: c.Observer}
	d.pipeline = newPipeline(d)
	return d, nil
}

// Close waits for the connections in use and closes all.
func (d *DB) Close() { d.pool.Close() }

// Stat tells how the connections are used.
func (d *DB) Stat() *pgxpool.Stat { return d.pool.Stat() }

// Pool is the pool itself, for tools and tests.
func (d *DB) Pool() *pgxpool.Pool { return d.pool }

// QueuedReads tells how many queries wait for the next pipeline.
func (d *DB) QueuedReads() int { return d.pipeline.group.Queued() }

// Waiters tells how many commands wait for held rows now, how many may, and how many were refused for want of a place.
func (d *DB) Waiters() (now, most int, refused int64) { return d.room.state() }

// Statements are for statements that are a transaction each: the snapshot of a statement is that of its transaction.
func (d *DB) Statements() DBTX { return named{d.pool, d.observer} }

// Pipeline is for short queries of one statement each, as Statements. Queries that are asked at the same moment share a
// round trip: a system call and a change of process cost as much as the look-up of a row.
func (d *DB) Pipeline() DBTX { return pipelined{pipeline: d.pipeline} }

// acquire takes a connection of the pool. ErrNoConnection: all are in use and none was given back in time.
func (d *DB) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	waiting, cancel := context.WithTimeout(ctx, acquireTimeout)
	defer cancel()
	c, err := d.pool.Acquire(waiting)
	if err != nil && waiting.Err() != nil && ctx.Err() == nil {
		return nil, fmt.Errorf("%w after %s: %w", ErrNoConnection, acquireTimeout, err)
	}
	return c, err
}

// unobserved is the Observer that watches nothing.
type unobserved struct{}

func (unobserved) Transaction(ctx context.Context, _ string) (context.Context, func(int, error)) {
	return ctx, func(int, error) {}
}

func (unobserved) Trace(context.Context) string { return "" }
