package db

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/reiestr/reiestr/db/sqlc"
)

// shared gives short queries of one statement each, whose snapshot is its transaction, as read does. Those that are asked at the same
// moment share a round trip: a system call and a change of process cost as much as looking up a row.
func (d *DB) shared() *sqlc.Queries { return sqlc.New(shared{reads: d.reads}) }

// reads carries out queries together, in a pipeline. One that fails, fails alone.
type reads struct {
	direct marked
	group  *together[query, *answer]
}

// query is a statement that only reads.
type query struct {
	sql  string
	args []any
}

func newReads(d *DB) *reads {
	r := &reads{direct: marked{d.pool, d.observer}}
	// Half of the connections, so that writes find one too.
	r.group = &together[query, *answer]{lanes: max(1, int(d.pool.Config().MaxConns)/2), many: r.many, one: r.one, harmless: true}
	return r
}

// one asks a query by itself.
func (r *reads) one(ctx context.Context, q query) (*answer, error) {
	rows, err := r.direct.Query(ctx, q.sql, q.args...)
	if err != nil {
		return nil, err
	}
	return taken(rows, nil)
}

// many asks the queries of a group in one pipeline. What stands behind one that fails has not been asked.
func (r *reads) many(ctx context.Context, group []*member[query, *answer]) (err error) {
	if len(group) == 1 {
		group[0].result, err = r.one(ctx, group[0].order)
		return err
	}
	var batch pgx.Batch
	for _, m := range group {
		batch.Queue(m.order.sql, m.order.args...)
	}
	results := r.direct.SendBatch(ctx, &batch)
	fields := map[string][]pgconn.FieldDescription{} // by statement
	for i, m := range group {
		rows, err := results.Query()
		if err == nil {
			m.result, err = taken(rows, fields[m.order.sql])
		}
		if err != nil {
			for _, m := range group[i:] {
				m.fate = alone
			}
			break
		}
		fields[m.order.sql] = m.result.fields
	}
	results.Close() //nolint:errcheck // what has been answered stays answered
	return nil
}

// answer is the rows of a query, whole, to be read when the connection is somebody else's.
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

// shared is reads as the accessors of sqlc use it.
type shared struct {
	*reads
	sqlc.DBTX // nil: nothing but queries is shared
}

func (s shared) ask(ctx context.Context, sql string, args []any) (*answer, error) {
	if s.direct.trace(ctx) != "" { // a text of its own
		return s.one(ctx, query{sql, args})
	}
	return s.group.do(ctx, query{sql, args})
}

func (s shared) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return s.ask(ctx, sql, args)
}

func (s shared) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	a, err := s.ask(ctx, sql, args)
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
