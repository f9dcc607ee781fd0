package main

import (
	"context"
	"fmt"
	"time"

	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/migrations"
)

type expireCommand struct {
	AsOf time.Time `help:"The moment, like 2026-03-01T00:00:00+02:00, that counts as now. Left out: now." placeholder:"TIME"`
}

// Run does what the service does at its times, with the service's rights.
func (c expireCommand) Run(ctx context.Context, env *environment) error {
	return withDatabase(ctx, env, func(d *database) error {
		app, err := d.connect(ctx, env, db.App, "reiestr expire")
		if err != nil {
			return err
		}
		defer app.Close()
		if err := app.Ready(ctx, migrations.Latest()); err != nil {
			return err
		}
		var asOf *time.Time
		if !c.AsOf.IsZero() {
			asOf = &c.AsOf
		}
		recalled, err := app.ServiceRequests.Expire(ctx, asOf)
		if err != nil {
			return fmt.Errorf("%d service requests expired, then: %w", recalled, err)
		}
		_, err = fmt.Fprintf(env.out, "%d service requests expired\n", recalled)
		return err
	})
}
