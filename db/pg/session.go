package pg

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// connectTimeout bounds the attempt to open a connection, where the URL does not say it.
const connectTimeout = 5 * time.Second

// Role is a database role that every connection of a pool takes on, whatever login it came in with (see migrations/roles.sql).
type Role string

const (
	App   Role = "reiestr_app"   // the service
	Owner Role = "reiestr_owner" // the operator's commands
)

// timeouts of a session, by the role it takes on; 0: none. They travel with each connection, as settings of a role in the database count
// only for sessions that log in as that role.
var timeouts = map[Role]struct{ statement, lock, idleInTransaction time.Duration }{
	App: {10 * time.Second, lockPatience, 10 * time.Second},
	// Whole registries are loaded in one transaction, whose statements take what they take, one load after the other; but one that stands
	// still holds up the service.
	Owner: {0, 10 * time.Minute, time.Minute},
}

// sessionConfig reads the URL and adds what each session is to be like. The defaults of the server or of the login never decide how a
// statement of the service runs.
func sessionConfig(c Config) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(c.URL)
	if err != nil {
		return nil, fmt.Errorf("the database URL cannot be read: %w", err)
	}
	if c.MaxConns > 0 {
		config.MaxConns = c.MaxConns
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
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
		// No plan of the service depends on the values (sql/plans has them both ways), and planning costs as much as running them.
		config.ConnConfig.RuntimeParams["plan_cache_mode"] = "force_generic_plan"
	}
	config.ConnConfig.Tracer = c.Tracer
	config.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		registerTypes(conn.TypeMap())
		return nil
	}
	return config, nil
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
