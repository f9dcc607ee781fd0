// Package session configures sessions of PostgreSQL, and checks that each has the properties on which the program
// relies. The defaults of server, database and login do not matter, and a pooler in between is detected. The package
// knows no table.
//
// Settings are sent as start-up parameters. PostgreSQL gives them precedence over ALTER SYSTEM, ALTER DATABASE and
// ALTER ROLE. Then, once for each new connection, one query reads the values that are in force. A session with other
// values is closed. See docs/decisions/0022-what-a-session-relies-on.md.
package session

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// oldestVersion is server_version_num of the oldest server that the program works with.
	oldestVersion = 150000
	// encoding is the encoding of the database and of the connection, because Go's strings are UTF-8.
	encoding = "UTF8"
	// connectTimeout bounds the attempt to connect to one host. connect_timeout in the URL takes precedence.
	connectTimeout = 10 * time.Second
	// statementCache is the number of prepared statements that a connection keeps. It is larger than the number of
	// statements of the program.
	statementCache = 512
)

// everySession holds the settings on which the program's statements or its driver depend. The values are written as
// SHOW writes them.
var everySession = map[string]string{
	"client_encoding": encoding,
	// Names in statements are qualified with their schema. An empty path makes sure that no object of another schema is
	// used instead.
	"search_path": "",
	// The text form of values. Not all values are sent in binary form.
	"TimeZone":                    "UTC",
	"DateStyle":                   "ISO, MDY",
	"IntervalStyle":               "postgres",
	"bytea_output":                "hex",
	"extra_float_digits":          "1",
	"standard_conforming_strings": "on",
	"array_nulls":                 "on",
	"transform_null_equals":       "off",
	// A failed statement rolls back its transaction and does not end the session.
	"exit_on_error": "off",
	// A statement sees what is committed, may write, and its commit is durable.
	"default_transaction_isolation": "read committed",
	"default_transaction_read_only": "off",
	"synchronous_commit":            "on",
	// A connection of the pool may be idle for any time.
	"idle_session_timeout": "0",
}

// Wanted describes the sessions that the program needs.
type Wanted struct {
	Name     string            // application_name, shown in pg_stat_activity
	Role     string            // the role that the session changes to; "": the session keeps the role of the login
	Settings map[string]string // in addition to everySession; values as SHOW writes them
}

// Configure reads a database URL, and returns a configuration with which every new connection gets these settings and
// is checked. If the URL names several hosts, the first one that passes the check is used: the primary.
func (w Wanted) Configure(url string) (*pgxpool.Config, error) {
	config, err := parse(url)
	if err != nil {
		return nil, err
	}
	c := config.ConnConfig
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectTimeout
	}
	// Parameters of the URL must not change how the driver sends statements.
	c.DefaultQueryExecMode, c.StatementCacheCapacity = pgx.QueryExecModeCacheStatement, statementCache
	settings := w.settings()
	// To the server, names that differ only in case are equal, and the last of two equal names counts. So those of the URL
	// are removed.
	maps.DeleteFunc(c.RuntimeParams, func(name, _ string) bool {
		for own := range settings {
			if strings.EqualFold(name, own) {
				return true
			}
		}
		return false
	})
	maps.Copy(c.RuntimeParams, settings)
	if w.Role != "" {
		c.RuntimeParams["role"] = w.Role
	}
	// The check replaces target_session_attrs, which may demand less.
	c.ValidateConnect = w.Check
	return config, nil
}

func (w Wanted) settings() map[string]string {
	all := maps.Clone(everySession)
	maps.Copy(all, w.Settings)
	all["application_name"] = w.Name
	return all
}

// Columns of the result of checkSession. The columns of the settings follow.
const (
	backendPID = iota
	serverVersion
	databaseName
	databaseEncoding
	inRecovery
	currentUser
	replicationRole
	transactionTimeout
	firstSetting
)

// checkSession is the query that reads everything that Check compares. It also sets transaction_timeout: servers before
// 17 do not know this setting and would refuse it as a start-up parameter.
const checkSession = `SELECT /* CheckSession */
	pg_catalog.pg_backend_pid(), pg_catalog.current_setting('server_version_num'),
	pg_catalog.current_database(), pg_catalog.current_setting('server_encoding'),
	pg_catalog.pg_is_in_recovery(), current_user, pg_catalog.current_setting('session_replication_role'),
	CASE WHEN pg_catalog.current_setting('server_version_num')::int >= 170000
		THEN pg_catalog.set_config('transaction_timeout', '0', false) END`

// Check compares a session with w. Error: *Fault, or the error of the query.
func (w Wanted) Check(ctx context.Context, conn *pgconn.PgConn) error {
	settings := w.settings()
	names := slices.Sorted(maps.Keys(settings))
	var sql strings.Builder
	sql.WriteString(checkSession)
	for _, name := range names {
		fmt.Fprintf(&sql, ", pg_catalog.current_setting('%s', true)", name)
	}
	answer := conn.ExecParams(ctx, sql.String(), nil, nil, nil, nil).Read()
	if answer.Err != nil {
		return answer.Err
	}
	if len(answer.Rows) != 1 || len(answer.Rows[0]) != firstSetting+len(names) {
		return fmt.Errorf("the check of a session was answered with %d rows", len(answer.Rows))
	}
	got := make([]string, len(answer.Rows[0]))
	for i, value := range answer.Rows[0] {
		got[i] = string(value)
	}
	version, err := strconv.Atoi(got[serverVersion])
	if err != nil {
		return err
	}
	switch {
	// A pooler gives its client a cancellation key of its own, and the process id is a part of the key.
	case got[backendPID] != strconv.FormatUint(uint64(conn.PID()), 10):
		return errPooler
	case version < oldestVersion:
		return faultf("the server is PostgreSQL %d, and this program needs %d or newer", version/10000, oldestVersion/10000)
	case got[databaseEncoding] != encoding:
		return faultf("database %q is encoded in %s, which cannot hold every text: make a database with "+
			"CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and use that", got[databaseName], got[databaseEncoding])
	case got[inRecovery] != "f":
		return errStandby
	case w.Role != "" && got[currentUser] != w.Role:
		return faultf("a session is role %q and not %q: something between this program and the server, or a login trigger, "+
			"takes the role away; let the database URL lead to the server itself", got[currentUser], w.Role)
	case got[replicationRole] == "replica":
		return faultf("session_replication_role is replica, so triggers do not run and events would be missing: " +
			"RESET it where it is set (ALTER SYSTEM, ALTER DATABASE or ALTER ROLE)")
	}
	for i, name := range names {
		if value := got[firstSetting+i]; value != settings[name] {
			return faultf("setting %s of a session is %q and not %q: something between this program and the server, "+
				"or a login trigger, changes it; take that away", name, value, settings[name])
		}
	}
	return nil
}

// Duration writes a duration as SHOW does: in the largest unit that needs no fraction.
func Duration(d time.Duration) string {
	for _, unit := range []struct {
		length time.Duration
		name   string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "min"}, {time.Second, "s"}, {time.Millisecond, "ms"}} {
		if d >= unit.length && d%unit.length == 0 {
			return strconv.FormatInt(int64(d/unit.length), 10) + unit.name
		}
	}
	return "0"
}
