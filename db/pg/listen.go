package pg

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgxlisten"
)

// listenAgain is the pause before a lost connection is replaced.
const listenAgain = time.Second

// Subscriber is told what happens on a channel. Its functions must not wait.
type Subscriber struct {
	Begun func()               // the connection listens: what was notified before this moment is lost
	Heard func(payload string) // a notification
	Lost  func(error)          // the connection is lost; another attempt follows after a second
}

// Listen tells a subscriber what is notified on a channel, until ctx ends. It has a connection of its own beside the
// pool, all of whose connections may be in use.
func (d *DB) Listen(ctx context.Context, channel string, s Subscriber) {
	listener := pgxlisten.Listener{
		Connect: func(ctx context.Context) (*pgx.Conn, error) {
			return pgx.ConnectConfig(ctx, d.pool.Config().ConnConfig)
		},
		ReconnectDelay: listenAgain,
		LogError: func(ctx context.Context, err error) {
			if ctx.Err() == nil {
				s.Lost(err)
			}
		},
	}
	listener.Handle(channel, subscription{s})
	listener.Listen(ctx) //nolint:errcheck // it ends when ctx does
}

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

// Notify sends notifications to all listeners of a channel, one a payload. It is a transaction of its own: a NOTIFY
// inside other transactions would make their commits wait for each other.
func (d *DB) Notify(ctx context.Context, channel string, payloads ...string) error {
	const notify = "SELECT pg_catalog.pg_notify($1, payload) FROM pg_catalog.unnest($2::text[]) AS payload"
	_, err := d.pool.Exec(ctx, notify, channel, payloads)
	return err
}
