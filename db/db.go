// Package db decides and changes state: one type an aggregate, each method one transaction of the SQL in sql/, through the
// accessors that sqlc generates from it.
package db

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/reiestr/reiestr/db/sqlc"
)

// Role is a database role that every connection of a pool takes on, whatever login it came in with (see migrations/roles.sql).
type Role string

const (
	App   Role = "reiestr_app"   // the service
	Owner Role = "reiestr_owner" // the operator's commands
)

// timeouts of a session, by the role it takes on; 0: none. They travel with each connection, as what is set on a role in the database counts
// only for those who log in as that role.
var timeouts = map[Role]struct{ statement, lock, idleInTransaction time.Duration }{
	App: {10 * time.Second, 5 * time.Second, 10 * time.Second},
	// Whole registries are loaded in one transaction, whose statements take what they take, one load after the other; but one that stands
	// still holds up the service.
	Owner: {0, 10 * time.Minute, time.Minute},
}

// Config says which database is used, and how.
type Config struct {
	URL      string // a PostgreSQL URL or key-value string; several hosts allowed
	Role     Role   // default App
	Name     string // application_name, for those who look at pg_stat_activity
	TimeZone string // the business time zone, e.g. Europe/Kyiv
	MaxConns int32  // 0: the pool's own default (by cores)

	// AsOf is the moment at which rules decide; nil: the database's clock at the start of each transaction.
	AsOf func() time.Time

	Observer Observer        // nil: nobody watches
	Tracer   pgx.QueryTracer // told of every statement; nil: nobody is
}

// DB is the database as one role sees it. It is safe for concurrent use.
type DB struct {
	Access          *Access
	Licenses        *Licenses
	ServiceRequests *ServiceRequests
	Jobs            *Jobs
	Events          *Events
	Idempotency     *Idempotency

	pool     *pgxpool.Pool
	reads    *reads
	news     *news
	timeZone string
	asOf     func() time.Time
	observer Observer
}

// Open connects to the database. It does not ask whether the schema is there: see Ready.
func Open(ctx context.Context, c Config) (*DB, error) {
	config, err := pgxpool.ParseConfig(c.URL)
	if err != nil {
		return nil, fmt.Errorf("the database URL cannot be read: %w", err)
	}
	if c.Role == "" {
		c.Role = App
	}
	if c.MaxConns > 0 {
		config.MaxConns = c.MaxConns
	}
	// What the server or the login has as defaults never decides how a statement of ours runs.
	for name, value := range map[string]string{
		"role":                                string(c.Role),
		"application_name":                    c.Name,
		"search_path":                         "",
		"timezone":                            "UTC",
		"default_transaction_isolation":       "read committed",
		"default_transaction_read_only":       "off",
		"synchronous_commit":                  "on", // what was acknowledged is durable
		"statement_timeout":                   milliseconds(timeouts[c.Role].statement),
		"lock_timeout":                        milliseconds(timeouts[c.Role].lock),
		"idle_in_transaction_session_timeout": milliseconds(timeouts[c.Role].idleInTransaction),
	} {
		config.ConnConfig.RuntimeParams[name] = value
	}
	if c.Role == App {
		// No plan of ours depends on the values (sql/plans has them both ways), and planning costs as much as running them.
		config.ConnConfig.RuntimeParams["plan_cache_mode"] = "force_generic_plan"
	}
	config.ConnConfig.Tracer = c.Tracer
	config.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		registerTypes(conn.TypeMap())
		return nil
	}
	if c.Observer == nil {
		c.Observer = unobserved{}
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	d := &DB{pool: pool, timeZone: c.TimeZone, asOf: c.AsOf, observer: c.Observer}
	d.reads = newReads(d)
	d.Access = &Access{d, newGrants()}
	d.Licenses = newLicenses(d)
	d.ServiceRequests = &ServiceRequests{d}
	d.Jobs = newJobs(d)
	d.Events = &Events{d}
	d.Idempotency = &Idempotency{d}
	d.news = newNews(d)
	return d, nil
}

// Close waits for the connections in use and closes all.
func (d *DB) Close() {
	d.news.close()
	d.pool.Close()
}

// Ready tells whether the database answers and holds the schema of this version or a newer one: a release never takes away what the release
// before it uses, so that the programs of both work on the newer schema (decision 16).
func (d *DB) Ready(ctx context.Context, schemaVersion int64) error {
	row, err := d.read().CheckReadiness(ctx, sqlc.CheckReadinessParams{AsOf: d.moment(), TimeZone: d.timeZone})
	if err != nil {
		return err
	}
	if row.SchemaVersion < schemaVersion {
		return fmt.Errorf("the database schema is at version %d and this program needs %d: run `reiestr migrate up`", row.SchemaVersion, schemaVersion)
	}
	return nil
}

// read gives queries of one statement each: its snapshot is its transaction.
func (d *DB) read() *sqlc.Queries { return sqlc.New(marked{d.pool, d.observer}) }

// now is the moment at which rules decide, where no database is asked for it.
func (d *DB) now() time.Time {
	if d.asOf == nil {
		return time.Now()
	}
	return d.asOf()
}

func (d *DB) moment() *time.Time {
	if d.asOf == nil {
		return nil
	}
	now := d.asOf()
	return &now
}

func milliseconds(d time.Duration) string { return fmt.Sprint(d.Milliseconds()) }
