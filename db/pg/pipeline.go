package pg

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// pipeline carries out simultaneous queries in batches, each in one round trip. The failure of a query concerns only
// that query.
type pipeline struct {
	direct named
	group  *Group[query, *answer]
}

// query is a statement that changes nothing.
type query struct {
	sql  string
	args []any
}

func newPipeline(direct named, room *waitingRoom, lanes int) *pipeline {
	p := &pipeline{direct: direct}
	p.group = &Group[query, *answer]{room: room, lanes: lanes, run: p.run, abandonable: true}
	return p
}

// one runs a query without others.
func (p *pipeline) one(ctx context.Context, q query) (*answer, error) {
	rows, err := p.direct.Query(ctx, q.sql, q.args...)
	if err != nil {
		return nil, err
	}
	return taken(rows, nil)
}

// run sends the queries of a batch in one round trip. If a query fails the database skips all queries behind it. If the
// query is itself the cause, the skipped queries run in the next batch, so that each batch settles at least one query.
// If the database is sick all of them fail.
func (p *pipeline) run(ctx context.Context, members []*Member[query, *answer]) error {
	if len(members) == 1 {
		members[0].Settle(p.one(ctx, members[0].Order))
		return nil
	}
	var batch pgx.Batch
	for _, m := range members {
		batch.Queue(m.Order.sql, m.Order.args...)
	}
	results := p.direct.SendBatch(ctx, &batch)
	defer results.Close()                            //nolint:errcheck // the answers read before count
	fields := map[string][]pgconn.FieldDescription{} // by statement
	for i, m := range members {
		var found *answer
		rows, err := results.Query()
		if err == nil {
			found, err = taken(rows, fields[m.Order.sql])
		}
		if err != nil {
			if !ownFault(err) {
				return err
			}
			m.Settle(nil, err)
			for _, behind := range members[i+1:] {
				behind.Later()
			}
			return nil
		}
		m.Settle(found, nil)
		fields[m.Order.sql] = found.fields
	}
	return nil
}

// ownFault tells errors of the statement itself: of its data, and of class 42 (its text, its rights).
func ownFault(err error) bool { return ErrorOfData(err) || Undone(err) && SQLSTATE(err)[:2] == "42" }

// answer holds all rows of a query. It is valid after the connection has been given back.
type answer struct {
	fields []pgconn.FieldDescription
	tag    pgconn.CommandTag
	rows   [][][]byte // values by row and column
	at     int        // number of the current row; the first is 1
}

// taken reads all rows. fields describes the columns of the statement; nil: they are copied from the rows, whose own
// description belongs to the connection.
func taken(rows pgx.Rows, fields []pgconn.FieldDescription) (*answer, error) {
	defer rows.Close()
	a := &answer{fields: fields}
	for rows.Next() {
		if a.fields == nil {
			a.fields = slices.Clone(rows.FieldDescriptions())
		}
		raw := rows.RawValues()
		size := 0
		for _, v := range raw {
			size += len(v)
		}
		all, values := make([]byte, 0, size), make([][]byte, len(raw))
		for i, v := range raw {
			if v != nil {
				all = append(all, v...)
				values[i] = all[len(all)-len(v) : len(all) : len(all)]
			}
		}
		a.rows = append(a.rows, values)
	}
	a.tag = rows.CommandTag()
	return a, rows.Err()
}

// typeMaps decode values. A map serves one caller at a time.
var typeMaps = sync.Pool{New: func() any {
	m := pgtype.NewMap()
	registerTypes(m)
	return m
}}

func (a *answer) Next() bool {
	a.at++
	return a.at <= len(a.rows)
}

func (a *answer) RawValues() [][]byte { return a.rows[a.at-1] }

func (a *answer) Scan(dest ...any) error {
	m := typeMaps.Get().(*pgtype.Map)
	defer typeMaps.Put(m)
	return pgx.ScanRow(m, a.fields, a.RawValues(), dest...)
}

func (a *answer) Values() ([]any, error)                       { return nil, errors.New("values are scanned") }
func (a *answer) Close()                                       {}
func (a *answer) Err() error                                   { return nil }
func (a *answer) CommandTag() pgconn.CommandTag                { return a.tag }
func (a *answer) FieldDescriptions() []pgconn.FieldDescription { return a.fields }
func (a *answer) Conn() *pgx.Conn                              { return nil }
func (a *answer) TypeMap() *pgtype.Map                         { return nil }

// pipelined is the pipeline as a DBTX for the accessors of sqlc.
type pipelined struct {
	*pipeline
	DBTX // nil: only queries share a round trip
}

func (p pipelined) ask(ctx context.Context, sql string, args []any) (*answer, error) {
	if p.direct.trace(ctx) != "" { // the text of the statement is unique
		return p.one(ctx, query{sql, args})
	}
	return p.group.Do(ctx, query{sql, args})
}

func (p pipelined) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return p.ask(ctx, sql, args)
}

func (p pipelined) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	a, err := p.ask(ctx, sql, args)
	return firstRow{a, err}
}

// firstRow is the row of a query that has at most one row.
type firstRow struct {
	answer *answer
	err    error
}

func (r firstRow) Scan(dest ...any) error {
	switch {
	case r.err != nil:
		return r.err
	case !r.answer.Next():
		return pgx.ErrNoRows
	}
	return r.answer.Scan(dest...)
}
