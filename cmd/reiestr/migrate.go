package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/reiestr/reiestr/migrations"
)

type migrateCommand struct {
	Up     migrateUp     `cmd:"" help:"Apply all pending migrations."`
	Down   migrateDown   `cmd:"" help:"Take the newest applied migration back."`
	Status migrateStatus `cmd:"" help:"List the migrations and which of them are applied."`
}

type migrateUp struct{}

func (migrateUp) Run(ctx context.Context, env *environment) error {
	return withDatabase(ctx, env, func(d *database) error {
		if err := migrations.Up(ctx, d.url); err != nil {
			return err
		}
		_, err := fmt.Fprintf(env.out, "the schema is at version %d\n", migrations.Latest())
		return err
	})
}

type migrateDown struct{}

func (migrateDown) Run(ctx context.Context, env *environment) error {
	return withDatabase(ctx, env, func(d *database) error { return migrations.Down(ctx, d.url) })
}

type migrateStatus struct{}

func (migrateStatus) Run(ctx context.Context, env *environment) error {
	return withDatabase(ctx, env, func(d *database) error {
		steps, err := migrations.Status(ctx, d.url)
		if err != nil {
			return err
		}
		table := tabwriter.NewWriter(env.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "VERSION\tMIGRATION\tAPPLIED AT")
		for _, s := range steps {
			at := "pending"
			if !s.AppliedAt.IsZero() {
				at = s.AppliedAt.UTC().Format(time.RFC3339)
			}
			fmt.Fprintf(table, "%d\t%s\t%s\n", s.Version, s.Name, at)
		}
		return table.Flush()
	})
}
