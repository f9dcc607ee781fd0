package pg

import (
	"context"
	"regexp"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// DBTX is the interface that the accessors of sqlc need. Its methods are those of the DBTX of sqlc.
type DBTX interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// named marks statements, so that the views of the database show which query a statement is, and for which trace it
// runs:
//
//	SELECT /* GetJob */ id, …                                                              always
//	/*traceparent='00-4bf92f3577b34da6a3ce92…-00f067aa0ba902b7-01'*/;SELECT /* GetJob */ …    of a sampled trace
//
// The name is inside the statement, because version 18 of pg_stat_statements removes comments in front of it. The trace
// is in front, where pg_stat_activity does not cut it off. A semicolon separates it: it ends an empty statement, so the
// trace is not part of the text that pg_stat_statements stores for all runs.
//
// Most statements have no sampled trace. Their text is always the same, so they are prepared once and share round
// trips. A statement with a sampled trace has a unique text: it is not kept, and needs two round trips of its own.
type named struct {
	DBTX
	observer Observer
}

// sampled is a traceparent with the flag for sampled traces, and nothing else: it comes from the caller.
var sampled = regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f][13579bdf]$`)

// trace is the comment for a sampled trace; "": the trace is not sampled, or there is none.
func (n named) trace(ctx context.Context) string {
	trace := n.observer.Trace(ctx)
	if trace == "" || !sampled.MatchString(trace) {
		return ""
	}
	return "/*traceparent='" + trace + "'*/;"
}

func (n named) mark(ctx context.Context, sql string, args []any) (string, []any) {
	sql = withName(sql)
	if trace := n.trace(ctx); trace != "" {
		return trace + sql, append([]any{pgx.QueryExecModeDescribeExec}, args...)
	}
	return sql, args
}

func (n named) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	sql, args = n.mark(ctx, sql, args)
	return n.DBTX.Exec(ctx, sql, args...)
}

func (n named) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	sql, args = n.mark(ctx, sql, args)
	return n.DBTX.Query(ctx, sql, args...)
}

func (n named) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	sql, args = n.mark(ctx, sql, args)
	return n.DBTX.QueryRow(ctx, sql, args...)
}

// SendBatch returns results that end at the first error: results behind it must not be read.
func (n named) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if n.trace(ctx) != "" {
		return &oneByOne{ctx: ctx, named: n, queued: b.QueuedQueries}
	}
	for _, q := range b.QueuedQueries {
		q.SQL = withName(q.SQL)
	}
	return n.DBTX.SendBatch(ctx, b)
}

// oneByOne is a batch whose statements are sent when their results are read. A statement whose result is never read is
// never sent.
type oneByOne struct {
	pgx.BatchResults // nil: there is no transaction of the batch's own
	ctx              context.Context
	named            named
	queued           []*pgx.QueuedQuery
}

func (o *oneByOne) next() *pgx.QueuedQuery {
	q := o.queued[0]
	o.queued = o.queued[1:]
	return q
}

func (o *oneByOne) Exec() (pgconn.CommandTag, error) {
	q := o.next()
	return o.named.Exec(o.ctx, q.SQL, q.Arguments...)
}

func (o *oneByOne) Query() (pgx.Rows, error) {
	q := o.next()
	return o.named.Query(o.ctx, q.SQL, q.Arguments...)
}

func (o *oneByOne) QueryRow() pgx.Row {
	q := o.next()
	return o.named.QueryRow(o.ctx, q.SQL, q.Arguments...)
}

func (o *oneByOne) Close() error { return nil }

// heading is the first line of a statement of sqlc, with the keyword behind it.
var heading = regexp.MustCompile(`^-- name: (\w+) :\w+\s+(\w+)`)

// names are the statements with their names inside, by the texts of sqlc.
var names sync.Map

// withName moves the name of a statement of sql/ behind its keyword.
func withName(sql string) string {
	if !strings.HasPrefix(sql, "-- name: ") {
		return sql
	}
	if text, known := names.Load(sql); known {
		return text.(string)
	}
	text := heading.ReplaceAllString(sql, "$2 /* $1 */")
	names.Store(sql, text)
	return text
}
