// Package db decides about state and changes it. It has one type for each aggregate. Each method is one transaction of
// queries in sql/, for which sqlc generates the Go code.
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

// Role is the database role of every connection of a pool, whatever its login is (see migrations/roles.sql).
type Role = pg.Role

const (
	App   = pg.App   // the service
	Owner = pg.Owner // the operator's commands
)

// Config holds the database, the role and the limits of a DB.
type Config struct {
	URL      string // a PostgreSQL URL or key-value string; several hosts allowed
	Role     Role   // default App
	Name     string // application_name, shown in pg_stat_activity
	TimeZone string // the business time zone, e.g. Europe/Kyiv
	MaxConns int32  // 0: the number of cores, but at least 4
	Waiters  int    // commands that may wait for held rows at a time; 0: pg.DefaultWaiters
	// Patience is how long a command waits for a held row; 0: five seconds.
	Patience time.Duration

	// AsOf is the moment at which rules decide; nil: the database's clock at the start of each transaction.
	AsOf func() time.Time

	Observer Observer        // nil: none
	Tracer   pgx.QueryTracer // called for every statement; nil: none
}

// DB gives access to the database in one role. It is safe for concurrent use.
type DB struct {
	Access          *Access
	Dictionaries    *Dictionaries
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

// Open makes a pool of connections. It does not check the schema (see Ready).
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
		Patience: c.Patience,
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
		Dictionaries:    &Dictionaries{s},
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

// Pool answers the use of the connections.
func (d *DB) Pool() *pgxpool.Stat { return d.pg.Stat() }

// Waiters answers how many commands wait for held rows now, how many may wait, and how many were refused because all
// places were taken.
func (d *DB) Waiters() (now, most int, refused int64) { return d.pg.Waiters() }

// Ready returns nil if the database answers, its sessions have the properties that the service relies on (decision 22),
// and its schema has this version or a newer one. A newer schema has all that the release before it uses, so that
// programs of both releases work on it (decision 16).
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

// Listen listens on a channel until ctx ends. It calls begun when it listens, heard after each notification, and lost
// when it loses the connection. It then connects again.
func (d *DB) Listen(ctx context.Context, channel string, begun, heard func(), lost func(error)) {
	d.pg.Listen(ctx, channel, pg.Subscriber{Begun: begun, Heard: func(string) { heard() }, Lost: lost})
}

// Notify wakes all listeners of the channel.
func (d *DB) Notify(ctx context.Context, channel string) error { return d.pg.Notify(ctx, channel, "") }

// AllowedCodes lists the codes of the dictionary that a refusal is about; nil: it is about none.
func (d *DB) AllowedCodes(ctx context.Context, r Refusal) ([]string, error) {
	return r.allowedCodes(ctx, d.read())
}

// Announce publishes the events that this process writes, and notifies the other processes of ended jobs and new
// events, until ctx ends. A notification is sent after the commits that it is about, one for all since the last one: a
// NOTIFY inside the transactions would make their commits wait for each other. failed is called with each error.
// Unpublished events are published later, and a waiter that was not notified looks at the end of its wait.
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
// the next run continues. Any number of runs may work at once. Rows that another transaction holds are left to the next
// run.
func (d *DB) Prune(ctx context.Context, r Retention) (p Pruned, err error) {
	var jobs, events, keys error
	p.Jobs, jobs = d.Jobs.Prune(ctx, r.Jobs)
	p.Events, events = d.Events.Prune(ctx, r.Events)
	p.IdempotencyKeys, keys = d.Idempotency.Forget(ctx)
	return p, errors.Join(jobs, events, keys)
}
