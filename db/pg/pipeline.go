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

// pipeline carries out simultaneous queries in batches, one round trip each. A query that fails, fails alone.
type pipeline struct {
	direct named
	group  *Group[query, *answer]
}

// query is a statement that only reads.
type query struct {
	sql  string
	args []any
}

func newPipeline(direct named, room *waitingRoom, lanes int) *pipeline {
	p := &pipeline{direct: direct}
	p.group = &Group[query, *answer]{room: room, lanes: lanes, run: p.run, abandonable: true}
	return p
}

// one asks a query by itself.
func (p *pipeline) one(ctx context.Context, q query) (*answer, error) {
	rows, err := p.direct.Query(ctx, q.sql, q.args...)
	if err != nil {
		return nil, err
	}
	return taken(rows, nil)
}

// run asks the queries of a batch in one pipeline. The queries behind one that fails have not been asked. Where the
// fault is that query's own they are asked in the next batch, so that each batch has at least one outcome; where the
// database is sick all of them fail.
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
	defer results.Close()                            //nolint:errcheck // what has been answered stays answered
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

// ownFault tells errors that only the statement itself can be to blame for: those of its data, and class 42 (its text,
// its rights).
func ownFault(err error) bool { return ErrorOfData(err) || Undone(err) && SQLSTATE(err)[:2] == "42" }

// answer is all rows of a query, which outlive the use of its connection.
type answer struct {
	fields []pgconn.FieldDescription
	tag    pgconn.CommandTag
	rows   [][][]byte // values by row and column
	at     int        // rows that Next has come to
}

// taken reads all rows. fields are those of the statement, where they are known: those of rows are the connection's.
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

// typeMaps decode values; one at a time each.
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

// pipelined is the pipeline as the accessors of sqlc use it.
type pipelined struct {
	*pipeline
	DBTX // nil: only queries share a round trip
}

func (p pipelined) ask(ctx context.Context, sql string, args []any) (*answer, error) {
	if p.direct.trace(ctx) != "" { // the text is this trace's own
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

// firstRow is the row of a query that has one at most.
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
