// Package db decides and changes state: one type an aggregate, each method one transaction of the SQL in sql/, through
// the accessors that sqlc generates from it.
package db

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/reiestr/reiestr/db/pg"
	"github.com/reiestr/reiestr/db/sqlc"
)

// Role is a database role that every connection of a pool takes on, whatever login it came in with (see
// migrations/roles.sql).
type Role = pg.Role

const (
	App   = pg.App   // the service
	Owner = pg.Owner // the operator's commands
)

// Config says which database is used, and how.
type Config struct {
	URL      string // a PostgreSQL URL or key-value string; several hosts allowed
	Role     Role   // default App
	Name     string // application_name, shown in pg_stat_activity
	TimeZone string // the business time zone, e.g. Europe/Kyiv
	MaxConns int32  // 0: the number of cores, but at least 4
	Waiters  int    // commands that may wait for held rows at a time; 0: pg.DefaultWaiters

	// AsOf is the moment at which rules decide; nil: the database's clock at the start of each transaction.
	AsOf func() time.Time

	Observer Observer        // nil: nothing is observed
	Tracer   pgx.QueryTracer // is told of every statement; nil: none
}

// DB is the database as one role sees it. It is safe for concurrent use.
type DB struct {
	Access          *Access
	Licenses        *Licenses
	ServiceRequests *ServiceRequests
	Jobs            *Jobs
	JobRecords      *JobRecords
	Events          *Events
	Idempotency     *Idempotency
	Bundles         *Bundles

	*statements
	news *news
}

// Open makes a pool of connections. It does not ask whether the schema is there: see Ready.
func Open(ctx context.Context, c Config) (*DB, error) {
	if c.Role == "" {
		c.Role = App
	}
	if c.Observer == nil {
		c.Observer = unobserved{}
	}
	way, err := pg.Open(ctx, pg.Config{
		URL:      c.URL,
		Role:     c.Role,
		Name:     c.Name,
		MaxConns: c.MaxConns,
		Waiters:  c.Waiters,
		Observer: c.Observer,
		Tracer:   c.Tracer,
	})
	if err != nil {
		return nil, err
	}
	s := &statements{pg: way, observer: c.Observer, timeZone: c.TimeZone, asOf: c.AsOf, written: make(chan struct{}, 1)}
	n := newNews(s)
	return &DB{
		Access:          &Access{s, newGrants()},
		Licenses:        newLicenses(s),
		ServiceRequests: &ServiceRequests{s},
		Jobs:            newJobs(s, n),
		JobRecords:      &JobRecords{s},
		Events:          newEvents(s, n),
		Idempotency:     &Idempotency{s},
		Bundles:         &Bundles{s},
		statements:      s,
		news:            n,
	}, nil
}

// Close waits for the connections in use and closes all.
func (d *DB) Close() {
	d.news.close()
	d.pg.Close()
}

// Pool tells how the connections are used.
func (d *DB) Pool() *pgxpool.Stat { return d.pg.Stat() }

// Waiters tells how many commands wait for held rows now, how many may, and how many were refused for want of a place.
func (d *DB) Waiters() (now, most int, refused int64) { return d.pg.Waiters() }

// Ready tells whether the database answers, its sessions are what the service relies on (decision 22), and it holds the
// schema of this version or a newer one: a release never takes away what the release before it uses, so that the
// programs of both work on the newer schema (decision 16).
func (d *DB) Ready(ctx context.Context, schemaVersion int64) error {
	if err := d.pg.Check(ctx); err != nil {
		return err
	}
	row, err := d.read().CheckReadiness(ctx, sqlc.CheckReadinessParams{AsOf: d.moment(), TimeZone: d.timeZone})
	if err != nil {
		return err
	}
	if row.SchemaVersion < schemaVersion {
		return fmt.Errorf(
			"the database schema is at version %d and this program needs %d: run `reiestr migrate up`",
			row.SchemaVersion,
			schemaVersion,
		)
	}
	return nil
}

// Listen calls begun when it listens on the channel, heard after each notification, and lost when the connection is
// lost, after which it connects again; until ctx ends.
func (d *DB) Listen(ctx context.Context, channel string, begun, heard func(), lost func(error)) {
	d.pg.Listen(ctx, channel, pg.Subscriber{Begun: begun, Heard: func(string) { heard() }, Lost: lost})
}

// Notify wakes all listeners of the channel.
func (d *DB) Notify(ctx context.Context, channel string) error { return d.pg.Notify(ctx, channel, "") }

// AllowedCodes lists the codes of the dictionary that a refusal speaks of; nil: it speaks of none.
func (d *DB) AllowedCodes(ctx context.Context, r Refusal) ([]string, error) {
	return r.allowedCodes(ctx, d.read())
}

// Announce publishes the events that this process writes and tells the other processes what has happened here, until
// ctx ends. The notifications are sent after the commits they speak of, one for all that happened in between: a NOTIFY
// inside the transactions would make their commits wait for each other. failed is told of errors: what was to be
// published stays to be published, and a waiter that was to be woken looks at the end of its wait.
func (d *DB) Announce(ctx context.Context, failed func(error)) {
	written, rested := d.written, (<-chan time.Time)(nil)
	for {
		select {
		case <-ctx.Done():
			return
		case <-written:
			if err := d.Events.Publish(ctx); err != nil && ctx.Err() == nil {
				failed(err)
			}
			written, rested = nil, time.After(publishEvery)
		case <-rested:
			written = d.written
		case <-d.news.untold:
			if err := d.news.notify(ctx); err != nil && ctx.Err() == nil {
				failed(err)
			}
		}
	}
}

// Prune removes the jobs and the events that are older than their retention, and the idempotency keys that are older
// than a day. It counts the removed rows, also when it fails or is stopped: each batch is a transaction of its own, and
// the next run goes on. Any number of runs may work at once. Rows that another transaction holds are left to the next
// run.
func (d *DB) Prune(ctx context.Context, r Retention) (p Pruned, err error) {
	var jobs, events, keys error
	p.Jobs, jobs = d.Jobs.Prune(ctx, r.Jobs)
	p.Events, events = d.Events.Prune(ctx, r.Events)
	p.IdempotencyKeys, keys = d.Idempotency.Forget(ctx)
	return p, errors.Join(jobs, events, keys)
}
