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
	AsOf *string `help:"Recall the service requests that had expired at this moment, like 2026-03-01T09:00:00+02:00, or at the beginning of this day in the business time zone, like 2026-03-01. It must not be in the future. Default: now." placeholder:"TIME"`
}

// Run does once what the service does at REIESTR_EXPIRY_TIMES, and acts as the same role.
func (c expireCommand) Run(ctx context.Context, env *environment) error {
	var asOf *time.Time // nil: now
	if c.AsOf != nil {
		at, err := pastMoment(*c.AsOf, env.TimeZone, time.Now())
		if err != nil {
			return usageError{fmt.Errorf("--as-of: %w", err)}
		}
		asOf = &at
	}
	return withDatabase(ctx, env, func(d *database) error {
		app, err := d.connect(ctx, env, db.App, "reiestr expire")
		if err != nil {
			return err
		}
		defer app.Close()
		if err := app.Ready(ctx, migrations.Latest()); err != nil {
			return err
		}
		done, err := app.ServiceRequests.Expire(ctx, asOf, notRecalled(ctx, env.log))
		if err != nil {
			return fmt.Errorf("%d service requests expired, then: %w", done.Recalled, err)
		}
		if _, err := fmt.Fprintf(env.out, "%d service requests expired\n", done.Recalled); err != nil || done.Failed == 0 {
			return err
		}
		return fmt.Errorf("%d service requests could not be recalled and are left to the next run: the log names them",
			done.Failed)
	})
}

// notRecalled returns a function that logs a service request whose recall failed.
func notRecalled(ctx context.Context, log *slog.Logger) func(uuid.UUID, error) {
	return func(id uuid.UUID, err error) {
		log.ErrorContext(ctx, "a service request could not be recalled, it is left to the next run",
			"service_request", id, "error", err)
	}
}

// pastMoment reads a moment, or a day, which means its beginning in the time zone. A moment after now is refused: it
// would recall service requests that are still valid, and a recall cannot be undone.
func pastMoment(text, zone string, now time.Time) (time.Time, error) {
	at, err := time.Parse(time.RFC3339, text)
	if day, dayErr := time.Parse(time.DateOnly, text); dayErr == nil {
		location, err := time.LoadLocation(zone)
		if err != nil {
			return at, err
		}
		at = time.Date(day.Year(), day.Month(), day.Day(), 0, 0, 0, 0, location)
		if at.Day() != day.Day() { // the clocks of the zone skip midnight on that day
			at = at.Add(time.Hour)
		}
	} else if err != nil {
		return at, fmt.Errorf("%q is no moment like 2026-03-01T09:00:00+02:00 and no existing day like 2026-03-01", text)
	}
	if at.After(now) {
		return at, fmt.Errorf("%s lies in the future: service requests that are still valid would be recalled for good", text)
	}
	return at, nil
}
