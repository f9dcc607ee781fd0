package pg

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/reiestr/reiestr/internal/session"
)

// Role is the database role of every session of a pool, whatever its login is (see migrations/roles.sql).
type Role string

const (
	App   Role = "reiestr_app"   // the service
	Owner Role = "reiestr_owner" // the operator's commands
)

// Config holds the database, the role and the limits of a pool.
type Config struct {
	URL      string // a PostgreSQL URL or key-value string; several hosts allowed
	Role     Role
	Name     string // application_name, shown in pg_stat_activity
	MaxConns int32  // 0: pool_max_conns of the URL, or else the number of cores but at least 4
	Waiters  int    // commands that may wait for held rows at a time; 0: DefaultWaiters
	// Patience is how long a command waits for a held row; 0: five seconds.
	Patience time.Duration

	Observer Observer        // nil: none
	Tracer   pgx.QueryTracer // called for every statement; nil: none
}

// timeouts of a session, by its role; 0: none. Each connection sets them itself: settings of a role in the database
// apply only to sessions that log in as that role.
var timeouts = map[Role]struct{ statement, lock, idleInTransaction time.Duration }{
	App: {10 * time.Second, lockPatience, 10 * time.Second},
	// A registry is loaded in one transaction. Its statements may take long, and a second load waits for the first one.
	// But a transaction that does nothing holds up the service.
	Owner: {0, 10 * time.Minute, time.Minute},
}

// wantedSession is the session that each connection of a pool must have.
func wantedSession(c Config) session.Wanted {
	of := timeouts[c.Role]
	settings := map[string]string{
		"statement_timeout":                   session.Duration(of.statement),
		"lock_timeout":                        session.Duration(of.lock),
		"idle_in_transaction_session_timeout": session.Duration(of.idleInTransaction),
	}
	if c.Role == App {
		// No plan of the service depends on the values of parameters (sql/plans shows them both ways), and planning a query
		// costs as much as running it.
		settings["plan_cache_mode"] = "force_generic_plan"
	}
	return session.Wanted{Name: c.Name, Role: string(c.Role), Settings: settings}
}

// poolConfig reads the URL and adds the settings of the pool and of its sessions. MaxConns, where it is set, takes
// precedence over pool_max_conns of the URL.
func poolConfig(c Config, wanted session.Wanted) (*pgxpool.Config, error) {
	config, err := wanted.Configure(c.URL)
	if err != nil {
		return nil, err
	}
	if c.MaxConns > 0 {
		config.MaxConns = c.MaxConns
	}
	config.ConnConfig.Tracer = c.Tracer
	config.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		registerTypes(conn.TypeMap())
		return nil
	}
	return config, nil
}

func isFault(err error) bool {
	var fault *session.Fault
	return errors.As(err, &fault)
}
