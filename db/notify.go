package db

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Listen calls heard after each notification on the channel, and once when it has begun to listen: what was notified before is lost. It
// returns when ctx ends or the connection fails.
func (d *DB) Listen(ctx context.Context, channel string, heard func()) error {
	return d.listen(ctx, channel, heard, func(string) { heard() })
}

// listen calls begun when it has begun to listen on the channel, and heard with the payload of each notification. Its connection is not of
// the pool, which may be in use to the last.
func (d *DB) listen(ctx context.Context, channel string, begun func(), heard func(payload string)) error {
	conn, err := pgx.ConnectConfig(ctx, d.pool.Config().ConnConfig)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
		return err
	}
	begun()
	for {
		notification, err := conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		heard(notification.Payload)
	}
}

// Notify wakes all who listen on the channel.
func (d *DB) Notify(ctx context.Context, channel string) error {
	_, err := d.pool.Exec(ctx, "SELECT pg_catalog.pg_notify($1, '')", channel)
	return err
}
