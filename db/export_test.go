package db

import (
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Joined tells how many acceptances wait for the next group.
func (j *Jobs) Joined() int { return j.intake.joined() }

// Joined tells how many creations wait for the next group.
func (l *Licenses) Joined() int { return l.creation.joined() }

// Joined tells how many reads wait for the next group.
func (d *DB) Joined() int { return d.reads.group.joined() }

func (t *together[O, R]) joined() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.waiting)
}

// NewSecret is what a new token or api key is.
func NewSecret() string { return newSecret() }

// ConnectionPool is the pool as it was opened.
func (d *DB) ConnectionPool() *pgxpool.Pool { return d.pool }

// UUIDArrayOID is the type uuid[].
const UUIDArrayOID = pgtype.UUIDArrayOID

// NewTypeMap is how connections write and read values.
func NewTypeMap() *pgtype.Map {
	m := pgtype.NewMap()
	registerTypes(m)
	return m
}
