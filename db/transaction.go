package db

import (
	"context"
	"errors"
	"fmt"
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

// mostTries bounds how often a transaction is run that the database itself has undone (deadlock, serialisation failure).
const mostTries = 3

// transaction sends its statements in as few round trips as their results allow. It offers the accessors of sqlc in three ways:
//
//   - soon: a statement without result is queued and travels in front of the next one;
//   - now: what is queued and the statement travel together, and its result is awaited;
//   - last: as now, and the commit travels with it. The result counts only if the commit succeeded, which the accessor's error says.
//
// Every statement has a snapshot of its own (READ COMMITTED), also within one round trip: what follows a lock sees what was committed
// before the lock was granted.
//
// Statements run with the context of the transaction, whatever context their accessor is given.
type transaction struct {
	ctx    context.Context
	conn   *pgx.Conn
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
			return nil
		}
		if try == mostTries || !undoneByDatabase(err) || ctx.Err() != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
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
	t := &transaction{ctx: ctx, conn: c.Conn()}
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
	return t.flush()
}

// flush sends what is queued, where the last statement is the commit.
func (t *transaction) flush() error {
	size := t.queued.Len()
	results := t.conn.SendBatch(t.ctx, &t.queued)
	var tag pgconn.CommandTag
	var err error
	for range size {
		if tag, err = results.Exec(); err != nil {
			break
		}
	}
	return errors.Join(err, results.Close(), notCommitted(err, tag))
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
	results, err := n.send(sql, args)
	if err != nil {
		return pgconn.CommandTag{}, errors.Join(err, results.Close())
	}
	tag, err := results.Exec()
	return tag, n.finish(results, err)
}

func (n now) Query(_ context.Context, sql string, args ...any) (pgx.Rows, error) {
	results, err := n.send(sql, args)
	if err != nil {
		return nil, errors.Join(err, results.Close())
	}
	rows, err := results.Query()
	if err != nil {
		return nil, n.finish(results, err)
	}
	return &pipelinedRows{Rows: rows, now: n, results: results}, nil
}

func (n now) QueryRow(_ context.Context, sql string, args ...any) pgx.Row {
	results, err := n.send(sql, args)
	return pipelinedRow{now: n, results: results, err: err}
}

// send leaves the results standing at the statement.
func (n now) send(sql string, args []any) (pgx.BatchResults, error) {
	before := n.t.queued.Len()
	n.t.queued.Queue(sql, args...)
	if n.last {
		n.t.queued.Queue(commit)
		n.t.done = true
	}
	batch := n.t.queued
	n.t.queued = pgx.Batch{}
	results := n.t.conn.SendBatch(n.t.ctx, &batch)
	for range before {
		if _, err := results.Exec(); err != nil {
			return results, err
		}
	}
	return results, nil
}

// finish reads the commit, if there is one, and ends the round trip. err is what the statement itself said; no row found is an answer, and
// the commit behind it still counts.
func (n now) finish(results pgx.BatchResults, err error) error {
	var commitErr error
	if n.last && (err == nil || errors.Is(err, pgx.ErrNoRows)) {
		var tag pgconn.CommandTag
		tag, commitErr = results.Exec()
		commitErr = errors.Join(commitErr, notCommitted(commitErr, tag))
	}
	closeErr := results.Close()
	if failure := errors.Join(commitErr, closeErr); failure != nil {
		return errors.Join(err, failure)
	}
	return err
}

type pipelinedRow struct {
	now     now
	results pgx.BatchResults
	err     error
}

func (r pipelinedRow) Scan(dest ...any) error {
	if r.err != nil {
		return errors.Join(r.err, r.results.Close())
	}
	return r.now.finish(r.results, r.results.QueryRow().Scan(dest...))
}

// pipelinedRows ends the round trip when the rows do, so that Err speaks of the commit as well.
type pipelinedRows struct {
	pgx.Rows
	now     now
	results pgx.BatchResults
	ended   bool
	err     error
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
	r.err = r.now.finish(r.results, r.Rows.Err())
}
