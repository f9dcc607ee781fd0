package db

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/reiestr/reiestr/db/sqlc"
)

const (
	begin    = "begin isolation level read committed read write"
	commit   = "commit"
	rollback = "rollback"
)

// commitTimeout bounds the wait for a commit that has been sent. It outlasts the time-outs of statements and locks, so that it is met only
// when the connection is dead.
const commitTimeout = 30 * time.Second

// mostTries bounds how often a transaction is run that the database itself has undone (deadlock, serialisation failure).
const mostTries = 3

// transaction sends its statements in as few round trips as their results allow. It offers the accessors of sqlc in three ways:
//
//   - soon: a statement without result is queued and travels in front of the next one;
//   - now: what is queued and the statement travel together, and its result is awaited;
//   - last: as now, and the commit travels with it. The result counts only if the commit succeeded, which the accessor's error says. From
//     then on the caller's context can no longer cancel: the outcome is waited for, so that nothing is reported as failed and done all the same.
//
// Every statement has a snapshot of its own (READ COMMITTED), also within one round trip: what follows a lock sees what was committed
// before the lock was granted.
//
// Statements run with the context of the transaction, whatever context their accessor is given.
type transaction struct {
	ctx    context.Context
	conn   *pgx.Conn
	marked marked // the way to conn
	queued pgx.Batch
	done   bool            // the commit has been sent
	ended  func(err error) // told what became of this try; nil: nobody asks
}

func (t *transaction) soon() *sqlc.Queries { return sqlc.New(soon{t}) }
func (t *transaction) now() *sqlc.Queries  { return sqlc.New(now{t, false}) }
func (t *transaction) last() *sqlc.Queries { return sqlc.New(now{t, true}) }

// transact runs do in one transaction, READ COMMITTED whatever the server's defaults are, and commits what last has not committed. If do
// or the commit fails, nothing of it happened, with one exception that no client can rule out: a connection lost during the commit. name
// is for the error.
func (d *DB) transact(ctx context.Context, name string, do func(*transaction) error) (err error) {
	ctx, end := d.observer.Transaction(ctx, name)
	try := 1
	err = errPanicked
	defer func() { end(try, err) }()
	for ; ; try++ {
		err := d.try(ctx, do)
		if err == nil {
			signal(d.news.written)
			return nil
		}
		if try == mostTries || !undoneByDatabase(err) || ctx.Err() != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		// Two that met in a deadlock would meet again if both repeated at once.
		time.Sleep(rand.N(20 * time.Millisecond))
	}
}

// errPanicked is what observers hear of a transaction that did not return.
var errPanicked = errors.New("panic in a transaction")

func (d *DB) try(ctx context.Context, do func(*transaction) error) (err error) {
	c, err := d.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release()
	t := &transaction{ctx: ctx, conn: c.Conn(), marked: marked{c.Conn(), d.observer}}
	defer func() {
		if t.ended != nil {
			t.ended(err)
		}
	}()
	defer func() {
		// Also after a panic. A connection that cannot be rolled back is closed by Release.
		if c.Conn().PgConn().TxStatus() != 'I' && !c.Conn().IsClosed() {
			undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			_, rollbackErr := c.Exec(undo, rollback)
			err = errors.Join(err, rollbackErr)
		}
	}()
	t.queued.Queue(begin)
	err = errPanicked
	if err = do(t); err != nil {
		return err
	}
	if t.done {
		return nil
	}
	t.queued.Queue(commit)
	ending, cancel := uncancelled(t.ctx)
	defer cancel()
	tag, err := t.flush(ending)
	return errors.Join(err, notCommitted(err, tag))
}

// flush sends what is queued, and tells how the last of it ended.
func (t *transaction) flush(ctx context.Context) (tag pgconn.CommandTag, err error) {
	batch := t.queued
	t.queued = pgx.Batch{}
	results := t.marked.SendBatch(ctx, &batch)
	for range batch.Len() {
		if tag, err = results.Exec(); err != nil {
			break
		}
	}
	return tag, errors.Join(err, results.Close())
}

// uncancelled is the context of a commit that is under way.
func uncancelled(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Err() != nil {
		return context.WithCancel(ctx) // nothing has been sent yet, and nothing will be
	}
	return context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
}

// notCommitted reports a commit that the database answered with a rollback.
func notCommitted(err error, tag pgconn.CommandTag) error {
	if err == nil && tag.String() != "COMMIT" {
		return fmt.Errorf("the commit was answered with %q", tag)
	}
	return nil
}

// soon queues. Only accessors of :exec queries go through it: their result is nothing but an error, which the next round trip reports.
type soon struct{ t *transaction }

func (s soon) Exec(_ context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	s.t.queued.Queue(sql, args...)
	return pgconn.CommandTag{}, nil
}

func (s soon) Query(context.Context, string, ...any) (pgx.Rows, error) {
	return nil, errors.New("a statement with a result cannot be queued")
}

func (s soon) QueryRow(context.Context, string, ...any) pgx.Row { return failed{} }

type failed struct{}

func (failed) Scan(...any) error { return errors.New("a statement with a result cannot be queued") }

// now sends what is queued with the statement, and the commit behind it if it is the last.
type now struct {
	t    *transaction
	last bool
}

func (n now) Exec(_ context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	trip, err := n.send(sql, args)
	if err != nil {
		return pgconn.CommandTag{}, trip.abandon(err)
	}
	tag, err := trip.results.Exec()
	return tag, trip.finish(err)
}

func (n now) Query(_ context.Context, sql string, args ...any) (pgx.Rows, error) {
	trip, err := n.send(sql, args)
	if err != nil {
		return nil, trip.abandon(err)
	}
	rows, err := trip.results.Query()
	if err != nil {
		return nil, trip.finish(err)
	}
	return &pipelinedRows{Rows: rows, trip: trip}, nil
}

func (n now) QueryRow(_ context.Context, sql string, args ...any) pgx.Row {
	trip, err := n.send(sql, args)
	return pipelinedRow{trip, err}
}

// send leaves the results standing at the statement.
func (n now) send(sql string, args []any) (roundTrip, error) {
	before := n.t.queued.Len()
	n.t.queued.Queue(sql, args...)
	ctx, trip := n.t.ctx, roundTrip{last: n.last, cancel: func() {}}
	if n.last {
		n.t.queued.Queue(commit)
		n.t.done = true
		ctx, trip.cancel = uncancelled(ctx)
	}
	batch := n.t.queued
	n.t.queued = pgx.Batch{}
	trip.results = n.t.marked.SendBatch(ctx, &batch)
	for range before {
		if _, err := trip.results.Exec(); err != nil {
			return trip, err
		}
	}
	return trip, nil
}

// roundTrip is statements that have been sent, up to the last of which the results have been read.
type roundTrip struct {
	results pgx.BatchResults
	last    bool // the commit is behind the statement
	cancel  context.CancelFunc
}

// finish reads the commit, if there is one, and ends the round trip. err is what the statement itself said; no row found is an answer, and
// the commit behind it still counts.
func (r roundTrip) finish(err error) error {
	defer r.cancel()
	var commitErr error
	if r.last && (err == nil || errors.Is(err, pgx.ErrNoRows)) {
		var tag pgconn.CommandTag
		tag, commitErr = r.results.Exec()
		commitErr = errors.Join(commitErr, notCommitted(commitErr, tag))
	}
	closeErr := r.results.Close()
	if failure := errors.Join(commitErr, closeErr); failure != nil {
		return errors.Join(err, failure)
	}
	return err
}

// abandon ends a round trip in which a statement before the awaited one has failed.
func (r roundTrip) abandon(err error) error {
	defer r.cancel()
	return errors.Join(err, r.results.Close())
}

type pipelinedRow struct {
	trip roundTrip
	err  error
}

func (r pipelinedRow) Scan(dest ...any) error {
	if r.err != nil {
		return r.trip.abandon(r.err)
	}
	return r.trip.finish(r.trip.results.QueryRow().Scan(dest...))
}

// pipelinedRows ends the round trip when the rows do, so that Err speaks of the commit as well.
type pipelinedRows struct {
	pgx.Rows
	trip  roundTrip
	ended bool
	err   error
}

func (r *pipelinedRows) Next() bool {
	if r.Rows.Next() {
		return true
	}
	r.end()
	return false
}

func (r *pipelinedRows) Close() { r.end() }

func (r *pipelinedRows) Err() error { return r.err }

func (r *pipelinedRows) end() {
	if r.ended {
		return
	}
	r.ended = true
	r.Rows.Close()
	r.err = r.trip.finish(r.Rows.Err())
}
