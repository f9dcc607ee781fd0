package pg

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/reiestr/reiestr/internal/session"
)

// Role is a database role that every connection of a pool takes on, whatever its login is (see migrations/roles.sql).
type Role string

const (
	App   Role = "reiestr_app"   // the service
	Owner Role = "reiestr_owner" // the operator's commands
)

// Config says which database is used, and how.
type Config struct {
	URL      string // a PostgreSQL URL or key-value string; several hosts allowed
	Role     Role
	Name     string // application_name, shown in pg_stat_activity
	MaxConns int32  // 0: pool_max_conns of the URL, or else the number of cores but at least 4
	Waiters  int    // commands that may wait for held rows at a time; 0: DefaultWaiters

	Observer Observer        // nil: nothing is observed
	Tracer   pgx.QueryTracer // is told of every statement; nil: none
}

// timeouts of a session, by the role it takes on; 0: none. They travel with each connection, as settings of a role in
// the database count only for sessions that log in as that role.
var timeouts = map[Role]struct{ statement, lock, idleInTransaction time.Duration }{
	App: {10 * time.Second, lockPatience, 10 * time.Second},
	// A registry is loaded in one transaction. Its statements may take long, and two loads run one after the other. But
	// a transaction that stands still holds up the service.
	Owner: {0, 10 * time.Minute, time.Minute},
}

// wantedSession says what each session of a pool has to be.
func wantedSession(c Config) session.Wanted {
	of := timeouts[c.Role]
	settings := map[string]string{
		"statement_timeout":                   session.Duration(of.statement),
		"lock_timeout":                        session.Duration(of.lock),
		"idle_in_transaction_session_timeout": session.Duration(of.idleInTransaction),
	}
	if c.Role == App {
		// No plan of the service depends on the values (sql/plans has them both ways), and planning costs as much as
		// running them.
		settings["plan_cache_mode"] = "force_generic_plan"
	}
	return session.Wanted{Name: c.Name, Role: string(c.Role), Settings: settings}
}

// poolConfig reads the URL and adds how the pool and its sessions have to be. MaxConns, where it is set, takes
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
