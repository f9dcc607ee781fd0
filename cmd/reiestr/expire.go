package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

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
		done, err := app.ServiceRequests.Expire(ctx, asOf, notRecalled(ctx, env.log))
		if err != nil {
			return fmt.Errorf("%d service requests expired, then: %w", done.Recalled, err)
		}
		if _, err := fmt.Fprintf(env.out, "%d service requests expired\n", done.Recalled); err != nil || done.Failed == 0 {
			return err
		}
		return fmt.Errorf("%d service requests could not be recalled and are left to the next run: the log names them", done.Failed)
	})
}

// notRecalled logs a service request that the expiry passes over.
func notRecalled(ctx context.Context, log *slog.Logger) func(uuid.UUID, error) {
	return func(id uuid.UUID, err error) {
		log.ErrorContext(ctx, "a service request could not be recalled, it is left to the next run", "service_request", id, "error", err)
	}
}
