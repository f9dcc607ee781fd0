package pg

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// CopyFrom is what :copyfrom statements need. What is queued goes first, in a round trip of its own.
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

// binaryUUIDs spares the driver the way over text, which doubles the cost of a row.
type binaryUUIDs struct{ pgx.CopyFromSource }

func (b binaryUUIDs) Values() ([]any, error) {
	values, err := b.CopyFromSource.Values()
	for i, v := range values {
		switch id := v.(type) {
		case uuid.UUID:
			values[i] = pgtype.UUID{Bytes: id, Valid: true}
		case uuid.NullUUID:
			values[i] = pgtype.UUID{Bytes: id.UUID, Valid: id.Valid}
		}
	}
	return values, err
}

// SendBatch is what :batch… statements need. What is queued goes first, in a round trip of its own.
func (n now) SendBatch(_ context.Context, batch *pgx.Batch) pgx.BatchResults {
	if err := n.settle(); err != nil {
		return failedBatch{err: err}
	}
	return n.t.statement.SendBatch(n.t.ctx, batch)
}

// settle sends what is queued.
func (n now) settle() error {
	if n.last {
		return errNotOneStatement
	}
	_, err := n.t.flush(n.t.ctx)
	return err
}

var errNotOneStatement = errors.New("a bulk statement can neither be queued nor be the last")

func (soon) CopyFrom(context.Context, pgx.Identifier, []string, pgx.CopyFromSource) (int64, error) {
	return 0, errNotOneStatement
}

func (soon) SendBatch(context.Context, *pgx.Batch) pgx.BatchResults {
	return failedBatch{err: errNotOneStatement}
}

// failedBatch is a batch that was never sent.
type failedBatch struct {
	pgx.BatchResults
	err error
}

func (f failedBatch) Exec() (pgconn.CommandTag, error) { return pgconn.CommandTag{}, f.err }
func (f failedBatch) Close() error                     { return f.err }
