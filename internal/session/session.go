// Package session opens sessions of PostgreSQL and makes sure that each is what the program relies on, whatever the
// defaults of server, database and login are, and whatever stands between. It knows no table.
//
// What can be set is sent as a start-up parameter. PostgreSQL gives such a parameter precedence over ALTER SYSTEM,
// ALTER DATABASE and ALTER ROLE. Then one query asks the server what is really in force, once for each new connection,
// and a session that is not as wanted is closed. See docs/decisions/0022-what-a-session-relies-on.md.
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
	// encoding is that of the database and of what travels: Go's strings are UTF-8.
	encoding = "UTF8"
	// connectTimeout bounds the attempt to open a connection to one host, where the URL does not say it.
	connectTimeout = 10 * time.Second
	// statementCache is how many prepared statements a connection keeps. The program has fewer.
	statementCache = 512
)

// everySession are the settings that the program's statements or its driver depend on, as SHOW writes them.
var everySession = map[string]string{
	"client_encoding": encoding,
	// Names in statements are qualified: what a schema of the search path holds cannot take their place.
	"search_path": "",
	// How values become text and text becomes values. Not all of them travel in binary form.
	"TimeZone":                    "UTC",
	"DateStyle":                   "ISO, MDY",
	"IntervalStyle":               "postgres",
	"bytea_output":                "hex",
	"extra_float_digits":          "1",
	"standard_conforming_strings": "on",
	"array_nulls":                 "on",
	"transform_null_equals":       "off",
	// A statement that fails undoes its transaction and not more.
	"exit_on_error": "off",
	// What is committed is seen, can be written, and lasts.
	"default_transaction_isolation": "read committed",
	"default_transaction_read_only": "off",
	"synchronous_commit":            "on",
	// A connection of the pool may rest.
	"idle_session_timeout": "0",
}

// Wanted is what a session has to be.
type Wanted struct {
	Name     string            // application_name, shown in pg_stat_activity
	Role     string            // the role that the session takes on; "": none, the login stays what it is
	Settings map[string]string // beside those of every session; values as SHOW writes them
}

// Configure reads a database URL, and has every connection that is opened by the answer set and checked. Of several
// hosts the first that passes the check is taken: the primary.
func (w Wanted) Configure(url string) (*pgxpool.Config, error) {
	config, err := parse(url)
	if err != nil {
		return nil, err
	}
	c := config.ConnConfig
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectTimeout
	}
	// The URL says where the database is, and not how the program talks to it.
	c.DefaultQueryExecMode, c.StatementCacheCapacity = pgx.QueryExecModeCacheStatement, statementCache
	settings := w.settings()
	// The server does not distinguish cases, and takes the last of two equal names.
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
	// It takes the place of target_session_attrs, which could ask for less than this.
	c.ValidateConnect = w.Check
	return config, nil
}

func (w Wanted) settings() map[string]string {
	all := maps.Clone(everySession)
	maps.Copy(all, w.Settings)
	all["application_name"] = w.Name
	return all
}

// Columns of the question that a new session is asked. The settings follow.
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

// question is one query that answers all that is checked. A server before 17 does not know transaction_timeout, so it
// cannot be a parameter of the start: it is set here.
const question = `SELECT /* CheckSession */
	pg_catalog.pg_backend_pid(), pg_catalog.current_setting('server_version_num'),
	pg_catalog.current_database(), pg_catalog.current_setting('server_encoding'),
	pg_catalog.pg_is_in_recovery(), current_user, pg_catalog.current_setting('session_replication_role'),
	CASE WHEN pg_catalog.current_setting('server_version_num')::int >= 170000
		THEN pg_catalog.set_config('transaction_timeout', '0', false) END`

// Check asks the server whether a session is as wanted. Error: *Fault.
func (w Wanted) Check(ctx context.Context, conn *pgconn.PgConn) error {
	settings := w.settings()
	names := slices.Sorted(maps.Keys(settings))
	var sql strings.Builder
	sql.WriteString(question)
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
	// A pooler makes up the key by which its client may cancel a statement, and the process id is a part of that.
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

// Duration writes a time as SHOW does: in the largest unit that needs no fraction.
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
