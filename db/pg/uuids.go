package pg

import (
	"encoding/binary"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	pgxuuid "github.com/vgarvardt/pgx-google-uuid/v5"
)

// registerTypes makes uuids travel in binary form: as text each costs 5 µs. Arrays of them are written as a whole: the
// driver's way through reflection allocates twice for each, a quarter of all that an acceptance allocates.
func registerTypes(m *pgtype.Map) {
	pgxuuid.Register(m)
	if array, ok := m.TypeForOID(pgtype.UUIDArrayOID); ok {
		m.RegisterType(&pgtype.Type{Name: array.Name, OID: array.OID, Codec: uuidArrayCodec{array.Codec}})
	}
}

// uuidArrayCodec is the driver's codec of uuid[], but for how a []uuid.UUID is written.
type uuidArrayCodec struct{ pgtype.Codec }

func (c uuidArrayCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, ok := value.([]uuid.UUID); ok && format == pgtype.BinaryFormatCode {
		return uuidArrayPlan{}
	}
	return c.Codec.PlanEncode(m, oid, format, value)
}

type uuidArrayPlan struct{}

// Encode writes one dimension of elements that are not null, from index 1 on; of nothing, no dimension. A nil slice is
// null.
func (uuidArrayPlan) Encode(value any, buf []byte) ([]byte, error) {
	ids := value.([]uuid.UUID)
	if ids == nil {
		return nil, nil
	}
	dimensions := min(len(ids), 1)
	buf = binary.BigEndian.AppendUint32(buf, uint32(dimensions))
	buf = binary.BigEndian.AppendUint32(buf, 0) // no nulls
	buf = binary.BigEndian.AppendUint32(buf, pgtype.UUIDOID)
	for range dimensions {
		buf = binary.BigEndian.AppendUint32(buf, uint32(len(ids)))
		buf = binary.BigEndian.AppendUint32(buf, 1)
	}
	for _, id := range ids {
		buf = binary.BigEndian.AppendUint32(buf, uint32(len(id)))
		buf = append(buf, id[:]...)
	}
	return buf, nil
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
