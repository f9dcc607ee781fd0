// Package pg carries statements to PostgreSQL and brings their results back: sessions and their pool, transactions,
// pipelines, batches of simultaneous commands, codecs, statement names, notifications. It knows no table.
package pg

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgxlisten"

	"github.com/reiestr/reiestr/internal/session"
)

// acquireTimeout bounds the wait for a connection of the pool.
const acquireTimeout = 15 * time.Second

// mostTries bounds how often a transaction is run that the database itself has undone (deadlock, serialisation
// failure).
const mostTries = 3

// DB is the pool of connections of one role. It is safe for concurrent use.
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
	if c.Patience == 0 {
		c.Patience = lockPatience
	}
	room := newWaitingRoom(c.Waiters, c.Patience)
	lanes := max(1, int(config.MaxConns)/2) // half of the connections, so that writes find one too
	return &DB{
		pool:     pool,
		session:  wanted,
		pipeline: newPipeline(named{pool, c.Observer}, room, lanes),
		room:     room,
		observer: c.Observer,
	}, nil
}

// Close waits for the connections in use and closes all.
func (d *DB) Close() { d.pool.Close() }

// Stat answers the use of the connections.
func (d *DB) Stat() *pgxpool.Stat { return d.pool.Stat() }

// Pool is the pool itself, for tools and tests.
func (d *DB) Pool() *pgxpool.Pool { return d.pool }

// QueuedReads answers the number of queries that wait for the next pipeline.
func (d *DB) QueuedReads() int { return d.pipeline.group.Queued() }

// Waiters answers how many commands wait for held rows now, how many may wait, and how many were refused because all
// places were taken.
func (d *DB) Waiters() (now, most int, refused int64) { return d.room.state() }

// Statements sends each statement as a transaction of its own: the snapshot of the statement is that of its
// transaction.
func (d *DB) Statements() DBTX { return named{d.pool, d.observer} }

// Pipeline is for short queries, each of which is a transaction of its own, as with Statements. Queries that are asked
// at the same moment share a round trip: a system call and a switch of processes cost as much as the look-up of a row.
func (d *DB) Pipeline() DBTX { return pipelined{pipeline: d.pipeline} }

// Check tells whether sessions have the properties that the service relies on. It checks one session of the pool: a
// server that reads its configuration again changes open sessions too. If the session fails the check, the connections
// of the pool are closed. Requests then need new ones, which are refused (see Unavailable). The error is one line that
// says what to do.
func (d *DB) Check(ctx context.Context) error {
	c, err := d.acquire(ctx)
	if err != nil {
		return session.Explain(err)
	}
	err = d.session.Check(ctx, c.Conn().PgConn())
	c.Release()
	if isFault(err) {
		d.pool.Reset()
	}
	return err
}

// Transact runs do in one transaction, which is READ COMMITTED whatever the defaults of the server are. It commits what
// Last has not committed. If do or the commit fails, nothing has been changed, with one exception that no client can
// exclude: a connection lost during the commit (see Undone). name is for observers and for the error.
func (d *DB) Transact(ctx context.Context, name string, do func(*Tx) error) (err error) {
	ctx, end := d.observer.Transaction(ctx, name)
	try := 1
	err = errPanicked
	defer func() { end(try, err) }()
	for ; ; try++ {
		err := d.try(ctx, do)
		if err == nil {
			return nil
		}
		if try == mostTries || !undoneByDatabase(err) || ctx.Err() != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		// Two transactions that met in a deadlock would meet again if both started again at once.
		time.Sleep(rand.N(20 * time.Millisecond))
	}
}

// try runs do in one transaction, once.
func (d *DB) try(ctx context.Context, do func(*Tx) error) error {
	c, err := d.acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release() // it closes a connection that could not be rolled back
	t := &Tx{ctx: ctx, conn: c.Conn(), statement: named{c.Conn(), d.observer}}
	return t.run(do)
}

// Patiently calls try, and calls it again as long as it finds its rows held. Before each call is a pause, and all
// together last for Config.Patience. Between the calls the command has no connection. Errors: ErrCrowded, ErrHeld,
// those of try.
func (d *DB) Patiently(ctx context.Context, try func() (held bool, err error)) error {
	return d.room.patiently(ctx, try)
}

// Listen passes the notifications of a channel to a subscriber until ctx ends. It has a connection of its own, because
// all connections of the pool may be in use.
func (d *DB) Listen(ctx context.Context, channel string, s Subscriber) {
	listener := pgxlisten.Listener{
		Connect: func(ctx context.Context) (*pgx.Conn, error) {
			return pgx.ConnectConfig(ctx, d.pool.Config().ConnConfig)
		},
		ReconnectDelay: listenAgain,
		LogError: func(ctx context.Context, err error) {
			if ctx.Err() == nil {
				s.Lost(err)
			}
		},
	}
	listener.Handle(channel, subscription{s})
	listener.Listen(ctx) //nolint:errcheck // it ends when ctx does
}

// Notify sends a notification for each payload to all listeners of a channel. It is a transaction of its own: a NOTIFY
// inside other transactions would make their commits wait for each other.
func (d *DB) Notify(ctx context.Context, channel string, payloads ...string) error {
	const notify = "SELECT pg_catalog.pg_notify($1, payload) FROM pg_catalog.unnest($2::text[]) AS payload"
	_, err := d.pool.Exec(ctx, notify, channel, payloads)
	return err
}

// NewGroup makes a group of one lane, whose commands run carries out.
func NewGroup[O, R any](d *DB, run func(context.Context, []*Member[O, R]) error) *Group[O, R] {
	return &Group[O, R]{room: d.room, lanes: 1, run: run}
}

// NewAbandonableGroup makes a group of one lane for commands whose outcome need not be known.
func NewAbandonableGroup[O, R any](d *DB, run func(context.Context, []*Member[O, R]) error) *Group[O, R] {
	return &Group[O, R]{room: d.room, lanes: 1, run: run, abandonable: true}
}

// acquire takes a connection of the pool. ErrNoConnection: all are in use, and none became free in time.
func (d *DB) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	waiting, cancel := context.WithTimeout(ctx, acquireTimeout)
	defer cancel()
	c, err := d.pool.Acquire(waiting)
	if err != nil && waiting.Err() != nil && ctx.Err() == nil {
		return nil, fmt.Errorf("%w after %s: %w", ErrNoConnection, acquireTimeout, err)
	}
	return c, err
}
