package db

import (
	"context"
	"time"

	"github.com/reiestr/reiestr/db/pg"
	"github.com/reiestr/reiestr/db/sqlc"
)

// statements are the ways in which the aggregates reach the database, and the clock that their rules decide by.
type statements struct {
	pg       *pg.DB
	observer Observer
	timeZone string
	asOf     func() time.Time
	written  chan struct{} // one place: a transaction was committed here, there may be events to publish
}

// transaction is a pg.Tx with the accessors of sqlc in place of bare statements.
type transaction struct{ *pg.Tx }

func (t *transaction) soon() *sqlc.Queries { return sqlc.New(t.Soon()) }
func (t *transaction) now() *sqlc.Queries  { return sqlc.New(t.Now()) }
func (t *transaction) last() *sqlc.Queries { return sqlc.New(t.Last()) }

// transact runs do in one transaction (see pg.DB.Transact).
func (s *statements) transact(ctx context.Context, name string, do func(*transaction) error) error {
	err := s.pg.Transact(ctx, name, func(t *pg.Tx) error { return do(&transaction{t}) })
	if err == nil {
		signal(s.written)
	}
	return err
}

// read gives queries of one statement each: its snapshot is its transaction.
func (s *statements) read() *sqlc.Queries { return sqlc.New(s.pg.Statements()) }

// shared is read for short queries: those that are asked at the same moment share a round trip.
func (s *statements) shared() *sqlc.Queries { return sqlc.New(s.pg.Pipeline()) }

// now is the moment at which rules decide, where the database is not asked for it.
func (s *statements) now() time.Time {
	if s.asOf == nil {
		return time.Now()
	}
	return s.asOf()
}

// moment is the moment at which rules decide; nil: the database's clock at the start of the transaction.
func (s *statements) moment() *time.Time {
	if s.asOf == nil {
		return nil
	}
	now := s.asOf()
	return &now
}

// signal leaves a signal in a channel of one place, unless one waits there already.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
