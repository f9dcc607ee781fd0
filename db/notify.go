package db

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Listen calls heard after each notification on the channel, and once when it has begun to listen: what was notified before is lost. It
// returns when ctx ends or the connection fails.
func (d *DB) Listen(ctx context.Context, channel string, heard func()) error {
	c, err := d.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	// A connection that listens does not go back to the pool.
	conn := c.Hijack()
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
		return err
	}
	for {
		heard()
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return err
		}
	}
}

// Notify wakes all who listen on the channel.
func (d *DB) Notify(ctx context.Context, channel string) error {
	_, err := d.pool.Exec(ctx, "SELECT pg_catalog.pg_notify($1, '')", channel)
	return err
}
