package pg

import (
	"encoding/binary"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	pgxuuid "github.com/vgarvardt/pgx-google-uuid/v5"
)

// registerTypes makes uuids travel in binary form: as text each costs 5 µs. An array of uuids is written at once: the
// driver would use reflection, with two allocations for each uuid, a quarter of all allocations of an acceptance.
func registerTypes(m *pgtype.Map) {
	pgxuuid.Register(m)
	if array, ok := m.TypeForOID(pgtype.UUIDArrayOID); ok {
		m.RegisterType(&pgtype.Type{Name: array.Name, OID: array.OID, Codec: uuidArrayCodec{array.Codec}})
	}
}

// uuidArrayCodec is the driver's codec of uuid[], except that it writes a []uuid.UUID itself.
type uuidArrayCodec struct{ pgtype.Codec }

func (c uuidArrayCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, ok := value.([]uuid.UUID); ok && format == pgtype.BinaryFormatCode {
		return uuidArrayPlan{}
	}
	return c.Codec.PlanEncode(m, oid, format, value)
}

type uuidArrayPlan struct{}

// Encode writes an array of one dimension without nulls, whose indexes begin at 1. An empty slice has no dimension, and
// a nil slice is null.
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

// binaryUUIDs gives the driver uuids in its own type. Others are converted to text first, which doubles the cost of a
// row.
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
