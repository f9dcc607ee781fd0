package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/reiestr/reiestr/migrations"
)

type migrateCommand struct {
	Up     migrateUp     `cmd:"" help:"Apply all pending migrations."`
	Down   migrateDown   `cmd:"" help:"Take the newest applied migration back."`
	Status migrateStatus `cmd:"" help:"List the migrations and which of them are applied."`
	Plan   migratePlan   `cmd:"" help:"Print the statements that up (or down) would run, and the lock that each takes; changes nothing."`
}

type migrateUp struct{}

func (migrateUp) Run(ctx context.Context, env *environment) error {
	return withDatabase(ctx, env, func(d *database) error {
		if err := migrations.Up(ctx, d.url); err != nil {
			return err
		}
		steps, err := migrations.Status(ctx, d.url)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(env.out, "the schema is at version %d\n", steps[len(steps)-1].Version)
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
			fmt.Fprintf(table, "%d\t%s\t%s\n", s.Version, cmp.Or(s.Name, "of a newer release"), at)
		}
		return table.Flush()
	})
}

type migratePlan struct {
	Down bool `help:"Print what down would run."`
	JSON bool `name:"json" help:"Print a JSON array."`
}

func (p migratePlan) Run(ctx context.Context, env *environment) (err error) {
	d, err := findDatabase(ctx, env) // the own server keeps its schema
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	var plan []migrations.PlannedMigration
	if p.Down {
		plan = make([]migrations.PlannedMigration, 1)
		plan[0], err = migrations.PlanDown(ctx, d.url)
	} else {
		plan, err = migrations.Plan(ctx, d.url)
	}
	if err != nil {
		return err
	}
	if p.JSON {
		return json.NewEncoder(env.out).Encode(plan)
	}
	if len(plan) == 0 {
		_, err := fmt.Fprintln(env.out, "nothing to do: every migration is applied")
		return err
	}
	table := tabwriter.NewWriter(env.out, 0, 0, 2, ' ', 0)
	for _, migration := range plan {
		held := "in a transaction: every lock is held to its end"
		if !migration.InTransaction {
			held = "not in a transaction: each statement by itself"
		}
		fmt.Fprintf(table, "%s (%s)\n  STATEMENT\tLOCK\tBLOCKS\n", migration.Name, held)
		for _, statement := range migration.Statements {
			sql := shortened(statement.SQL)
			if len(statement.Locks) == 0 {
				fmt.Fprintf(table, "  %s\tnone: %s\tnothing\n", sql, statement.None)
			}
			for _, lock := range statement.Locks {
				fmt.Fprintf(table, "  %s\t%s\t%s\n", sql, describe(lock), lock.Blocks)
				sql = "" // its further locks are printed below, without the statement
			}
		}
		fmt.Fprintln(table)
	}
	return table.Flush()
}

func describe(lock migrations.PlannedLock) string {
	table, certainty := lock.Table, ""
	if table == "" {
		table = "any table"
	}
	if lock.Assumed {
		certainty = " (not known, assumed)"
	}
	return string(lock.Mode) + " on " + table + certainty
}

// shortened returns a statement on one line, cut to the width of its column.
func shortened(sql string) string {
	const width = 72
	line := []rune(strings.TrimSuffix(strings.Join(strings.Fields(sql), " "), ";"))
	if len(line) > width {
		return string(line[:width-1]) + "…"
	}
	return string(line)
}
