package pg

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	begin    = "begin isolation level read committed read write"
	commit   = "commit"
	rollback = "rollback"
)

// commitTimeout limits the wait for a commit that has been sent. It is longer than the time-outs of statements and
// locks, so that it passes only when the connection is dead.
const commitTimeout = 30 * time.Second

// rollbackTimeout limits the wait for a rollback. After it the connection is closed, which undoes the transaction too.
const rollbackTimeout = 5 * time.Second

// Tx is a transaction that sends its statements in as few round trips as their results allow. There are three ways to
// send a statement:
//
//   - Soon: a statement without result is queued, and is sent in front of the next one;
//   - Now: the queued statements and this one are sent together, and the result is awaited;
//   - Last: as Now, and the commit travels with it. The result counts only if the commit succeeded, which the
//     statement's error says. From then on the caller's context can no longer cancel: the outcome is awaited, so that
//     nothing is reported as failed and done all the same.
//
// Every statement has a snapshot of its own (READ COMMITTED), also within one round trip: a statement behind a lock
// sees all that was committed before the lock was granted.
//
// Statements run with the context of the transaction. The context that is passed with a statement is ignored.
type Tx struct {
	ctx       context.Context
	conn      *pgx.Conn
	statement named // sends on conn
	queued    pgx.Batch
	done      bool            // the commit has been sent
	ended     func(err error) // called with the outcome of this try; nil: none
}

// Soon queues statements without a result.
func (t *Tx) Soon() DBTX { return soon{t} }

// Now sends a statement and awaits its result.
func (t *Tx) Now() DBTX { return now{t, false} }

// Last sends the last statement, and the commit with it.
func (t *Tx) Last() DBTX { return now{t, true} }

// Context is the context of the statements.
func (t *Tx) Context() context.Context { return t.ctx }

// Observe sets the context of the following statements. ended is called with the outcome of this try.
func (t *Tx) Observe(ctx context.Context, ended func(err error)) { t.ctx, t.ended = ctx, ended }

// errPanicked is the outcome, for observers, of a transaction that panicked.
var errPanicked = errors.New("panic in a transaction")

// run calls do between the begin and the commit of the transaction, and rolls back if do or the commit fails.
func (t *Tx) run(do func(*Tx) error) (err error) {
	ctx := t.ctx // the caller's context: Observe changes t.ctx
	defer func() {
		if t.ended != nil {
			t.ended(err)
		}
	}()
	defer func() { // also after a panic
		if t.conn.PgConn().TxStatus() != 'I' && !t.conn.IsClosed() {
			undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
			defer cancel()
			_, rollbackErr := t.conn.Exec(undo, rollback)
			err = errors.Join(err, rollbackErr)
		}
	}()
	t.queued.Queue(begin)
	err = errPanicked
	if err = do(t); err != nil || t.done {
		return err
	}
	t.queued.Queue(commit)
	ending, cancel := uncancelled(t.ctx)
	defer cancel()
	tag, err := t.flush(ending)
	return errors.Join(err, notCommitted(err, tag))
}

// flush sends the queued statements, and answers the outcome of the last one.
func (t *Tx) flush(ctx context.Context) (tag pgconn.CommandTag, err error) {
	batch := t.queued
	t.queued = pgx.Batch{}
	results := t.statement.SendBatch(ctx, &batch)
	for range batch.Len() {
		if tag, err = results.Exec(); err != nil {
			break
		}
	}
	return tag, errors.Join(err, results.Close())
}

// uncancelled is the context in which a commit is sent.
func uncancelled(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Err() != nil {
		return context.WithCancel(ctx) // nothing has been sent, and nothing will be sent
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

// soon queues statements. Only accessors of :exec queries use it: their only result is an error, which the next round
// trip reports.
type soon struct{ t *Tx }

func (s soon) Exec(_ context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	s.t.queued.Queue(sql, args...)
	return pgconn.CommandTag{}, nil
}

func (s soon) Query(context.Context, string, ...any) (pgx.Rows, error) {
	return nil, errors.New("a statement with a result cannot be queued")
}

func (s soon) QueryRow(context.Context, string, ...any) pgx.Row { return failed{} }

var errNotOneStatement = errors.New("a bulk statement can neither be queued nor be the last")

func (soon) CopyFrom(context.Context, pgx.Identifier, []string, pgx.CopyFromSource) (int64, error) {
	return 0, errNotOneStatement
}

func (soon) SendBatch(context.Context, *pgx.Batch) pgx.BatchResults {
	return failedBatch{err: errNotOneStatement}
}

type failed struct{}

func (failed) Scan(...any) error { return errors.New("a statement with a result cannot be queued") }

// failedBatch is a batch that was never sent.
type failedBatch struct {
	pgx.BatchResults
	err error
}

func (f failedBatch) Exec() (pgconn.CommandTag, error) { return pgconn.CommandTag{}, f.err }
func (f failedBatch) Close() error                     { return f.err }

// now sends the queued statements with a statement, and the commit behind it if it is the last one.
type now struct {
	t    *Tx
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

// CopyFrom is for :copyfrom statements. Queued statements are sent first, in a round trip of their own.
func (n now) CopyFrom(
	_ context.Context,
	table pgx.Identifier,
	columns []string,
	rows pgx.CopyFromSource,
) (int64, error) {
	if err := n.settle(); err != nil {
		return 0, err
	}
	return n.t.conn.CopyFrom(n.t.ctx, table, columns, binaryUUIDs{rows})
}

// SendBatch is for :batch… statements. Queued statements are sent first, in a round trip of their own.
func (n now) SendBatch(_ context.Context, batch *pgx.Batch) pgx.BatchResults {
	if err := n.settle(); err != nil {
		return failedBatch{err: err}
	}
	return n.t.statement.SendBatch(n.t.ctx, batch)
}

// settle sends the queued statements.
func (n now) settle() error {
	if n.last {
		return errNotOneStatement
	}
	_, err := n.t.flush(n.t.ctx)
	return err
}

// send sends the statement. The next result to be read is that of the statement.
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
	trip.results = n.t.statement.SendBatch(ctx, &batch)
	for range before {
		if _, err := trip.results.Exec(); err != nil {
			return trip, err
		}
	}
	return trip, nil
}

// roundTrip holds the results of statements that have been sent. All results before that of the last statement have
// been read.
type roundTrip struct {
	results pgx.BatchResults
	last    bool // the commit is behind the statement
	cancel  context.CancelFunc
}

// finish reads the result of the commit, if there is one, and ends the round trip. err is the error of the statement
// itself. A missing row is an answer: the commit behind it still counts.
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

// abandon ends a round trip in which a queued statement has failed.
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

// pipelinedRows ends the round trip at the end of the rows, so that Err reports an error of the commit too.
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
