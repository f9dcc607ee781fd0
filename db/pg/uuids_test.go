package pg

import (
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

// TestUUIDArrays: an array of any length comes back unchanged.
func TestUUIDArrays(t *testing.T) {
	t.Parallel()
	pool := newScratch(t).pool
	for _, ids := range [][]uuid.UUID{nil, {}, {uuid.New()}, {uuid.Nil, uuid.Max, uuid.New()}} {
		var sent []uuid.UUID
		var length *int
		if err := pool.QueryRow(t.Context(), `SELECT $1::uuid[], pg_catalog.cardinality($1::uuid[])`, ids).Scan(
			&sent, &length); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(sent, ids) || (length == nil) != (ids == nil) || length != nil && *length != len(ids) {
			t.Errorf("%v came back as %v, of length %v", ids, sent, length)
		}
	}
}

func BenchmarkUUIDArray(b *testing.B) {
	ids := make([]uuid.UUID, 50)
	for i := range ids {
		ids[i] = uuid.New()
	}
	m := pgtype.NewMap()
	registerTypes(m)
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if buf, err = m.Encode(pgtype.UUIDArrayOID, 1, ids, buf[:0]); err != nil {
			b.Fatal(err)
		}
	}
}
