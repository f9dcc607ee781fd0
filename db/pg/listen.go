package pg

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// listenAgain is the pause before a lost connection is replaced.
const listenAgain = time.Second

// Subscriber holds functions that are called when something happens on a channel. They must return at once.
type Subscriber struct {
	Begun func()               // the connection listens: earlier notifications are lost
	Heard func(payload string) // a notification
	Lost  func(error)          // the connection is lost; another attempt follows after a second
}

// subscription is a Subscriber as pgxlisten calls it.
type subscription struct{ Subscriber }

func (s subscription) HandleNotification(_ context.Context, n *pgconn.Notification, _ *pgx.Conn) error {
	s.Heard(n.Payload)
	return nil
}

// HandleBacklog is called when the connection listens.
func (s subscription) HandleBacklog(context.Context, string, *pgx.Conn) error {
	s.Begun()
	return nil
}
