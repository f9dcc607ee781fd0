package db

import (
	"context"
	"time"

	"github.com/reiestr/reiestr/db/pg"
	"github.com/reiestr/reiestr/db/sqlc"
)

// statements are the ways in which the aggregates reach the database, and the clock of their rules.
type statements struct {
	pg       *pg.DB
	observer Observer
	timeZone string
	asOf     func() time.Time
	written  chan struct{} // has one place: a signal that a transaction was committed, so there may be new events
}

// transaction is a pg.Tx with the accessors of sqlc.
type transaction struct{ *pg.Tx }

func (t *transaction) soon() *sqlc.Queries { return sqlc.New(t.Soon()) }
func (t *transaction) now() *sqlc.Queries  { return sqlc.New(t.Now()) }
func (t *transaction) last() *sqlc.Queries { return sqlc.New(t.Last()) }

// transact calls do in one transaction (see pg.DB.Transact).
func (s *statements) transact(ctx context.Context, name string, do func(*transaction) error) error {
	err := s.pg.Transact(ctx, name, func(t *pg.Tx) error { return do(&transaction{t}) })
	if err == nil {
		signal(s.written)
	}
	return err
}

// read gives queries that are a transaction each.
func (s *statements) read() *sqlc.Queries { return sqlc.New(s.pg.Statements()) }

// shared gives short queries that are a transaction each. Those that are asked at the same moment share a round trip.
func (s *statements) shared() *sqlc.Queries { return sqlc.New(s.pg.Pipeline()) }

// now is the moment at which rules decide, for code that does not ask the database.
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

// signal sends a signal to a channel with one place, unless a signal waits there already.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
