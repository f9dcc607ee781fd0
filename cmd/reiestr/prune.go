package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/migrations"
)

type pruneCommand struct {
	JSON bool `name:"json" help:"Print a JSON object."`
}

// Run does once what the service does at REIESTR_PRUNE_TIMES, and acts as the same role.
func (c pruneCommand) Run(ctx context.Context, env *environment) error {
	if err := env.checkRetention(); err != nil {
		return usageError{err}
	}
	return withDatabase(ctx, env, func(d *database) error {
		app, err := d.connect(ctx, env, db.App, "reiestr prune")
		if err != nil {
			return err
		}
		defer app.Close()
		if err := app.Ready(ctx, migrations.Latest()); err != nil {
			return err
		}
		pruned, err := app.Prune(ctx, env.retention())
		removed := fmt.Sprintf("%d jobs, %d events and %d idempotency keys removed", pruned.Jobs, pruned.Events,
			pruned.IdempotencyKeys)
		if err != nil {
			return fmt.Errorf("%s, then: %w", removed, err)
		}
		if c.JSON {
			return json.NewEncoder(env.out).Encode(pruned)
		}
		_, err = fmt.Fprintln(env.out, removed)
		return err
	})
}

func (c Config) retention() db.Retention {
	return db.Retention{Jobs: c.JobRetention, Events: c.EventRetention}
}

func (c Config) checkRetention() error {
	if min(c.JobRetention, c.EventRetention) < db.ShortestRetention {
		return fmt.Errorf("jobs and events must be kept for at least %s, as long as an idempotency key, whose stored answer "+
			"may refer to a job", db.ShortestRetention)
	}
	return nil
}
