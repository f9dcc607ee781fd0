package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
)

type jobsCommand struct {
	List  jobsList  `cmd:"" help:"List jobs: pending ones first, then the latest that ended."`
	Show  jobsShow  `cmd:"" help:"Show one job."`
	Retry jobsRetry `cmd:"" help:"Repeat the order of a job that failed with internal_error, as a new job, and print the id of the new job."`
}

type jobsList struct {
	Status string `enum:",pending,failed,processed" default:"" help:"List only the jobs with this status: pending, failed or processed." placeholder:"STATUS"`
	Limit  int    `default:"50" help:"List at most this many jobs."`
	JSON   bool   `name:"json" help:"Print a JSON list."`
}

func (c jobsList) Run(ctx context.Context, env *environment) error {
	if c.Limit < 1 || c.Limit > 10_000 {
		return usageError{errors.New("--limit is a number from 1 to 10000")}
	}
	return asOwner(ctx, env, "reiestr jobs", func(d *db.DB) error {
		jobs, err := d.JobRecords.List(ctx, db.JobStatus(c.Status), c.Limit)
		if err != nil {
			return err
		}
		if c.JSON {
			return json.NewEncoder(env.out).Encode(jobs)
		}
		table := tabwriter.NewWriter(env.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "ID\tSTATUS\tACTION\tACCEPTED\tENDED\tATTEMPTS\tREFUSAL")
		for _, j := range jobs {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d\t%s\n", j.ID, j.Status, j.Action, moment(&j.InsertedAt),
				moment(j.EndedAt), j.Attempts, string(j.Refusal))
		}
		return table.Flush()
	})
}

type jobsShow struct {
	ID   uuid.UUID `arg:"" help:"The job."`
	JSON bool      `name:"json" help:"Print a JSON object."`
}

func (c jobsShow) Run(ctx context.Context, env *environment) error {
	return asOwner(ctx, env, "reiestr jobs", func(d *db.DB) error {
		j, err := d.JobRecords.Show(ctx, c.ID)
		if err != nil {
			return jobError(c.ID, err)
		}
		if c.JSON {
			return json.NewEncoder(env.out).Encode(j)
		}
		table := tabwriter.NewWriter(env.out, 0, 0, 2, ' ', 0)
		for _, line := range [][2]any{
			{"id", j.ID}, {"status", j.Status}, {"refusal", string(j.Refusal)}, {"action", j.Action},
			{"service request", j.ServiceRequestID},
			{"legal entity", j.ClientID}, {"user", j.UserID}, {"attempts", j.Attempts}, {"accepted", moment(&j.InsertedAt)},
			{"ended", moment(j.EndedAt)},
		} {
			fmt.Fprintf(table, "%s\t%v\n", line[0], line[1])
		}
		return table.Flush()
	})
}

type jobsRetry struct {
	ID uuid.UUID `arg:"" help:"A job that failed with internal_error."`
}

func (c jobsRetry) Run(ctx context.Context, env *environment) error {
	return asOwner(ctx, env, "reiestr jobs", func(d *db.DB) error {
		id, err := d.JobRecords.Retry(ctx, c.ID)
		if err != nil {
			return jobError(c.ID, err)
		}
		_, err = fmt.Fprintln(env.out, id)
		return err
	})
}

func jobError(id uuid.UUID, err error) error {
	if errors.Is(err, db.ErrNotFound) {
		return fmt.Errorf("there is no job %s", id)
	}
	return err
}

// moment formats a time for the tables. Nil becomes an empty text.
func moment(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}
