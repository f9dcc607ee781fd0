package session_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/reiestr/reiestr/internal/dev/testdb"
	"github.com/reiestr/reiestr/internal/dev/topology"
	"github.com/reiestr/reiestr/internal/session"
)

// app describes the sessions of the service.
var app = session.Wanted{Name: "test", Role: "reiestr_app", Settings: map[string]string{
	"statement_timeout": "10s", "lock_timeout": "5s", "plan_cache_mode": "force_generic_plan",
}}

func open(t *testing.T, w session.Wanted, address string) (*pgx.Conn, error) {
	t.Helper()
	config, err := w.Configure(address)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(t.Context(), config.ConnConfig)
	if err == nil {
		t.Cleanup(func() { conn.Close(context.Background()) })
	}
	return conn, session.Explain(err)
}

func mustOpen(t *testing.T, w session.Wanted, address string) *pgx.Conn {
	t.Helper()
	conn, err := open(t, w, address)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// login opens a session with the defaults of the server and the rights of the login.
func login(t *testing.T, address string) *pgx.Conn {
	t.Helper()
	conn, err := testdb.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func wantFault(t *testing.T, err error, text string) {
	t.Helper()
	var fault *session.Fault
	if !errors.As(err, &fault) || err != error(fault) || !strings.Contains(err.Error(), text) ||
		strings.Contains(err.Error(), "\n") {
		t.Errorf("the error is %q (%T), want a Fault of one line that contains %q", err, err, text)
	}
}

// hostile holds defaults of a database that would change the effect of statements or of the driver.
var hostile = map[string]string{
	"client_encoding": "WIN1251", "search_path": "pg_temp", "timezone": "Pacific/Auckland", "datestyle": "German, DMY",
	"intervalstyle": "sql_standard", "bytea_output": "escape", "extra_float_digits": "-5",
	"standard_conforming_strings": "off", "array_nulls": "off", "transform_null_equals": "on", "exit_on_error": "on",
	"default_transaction_isolation": "serializable", "default_transaction_read_only": "on",
	"synchronous_commit": "off", "idle_session_timeout": "1h", "statement_timeout": "1h", "lock_timeout": "1h",
	"plan_cache_mode": "force_custom_plan", "application_name": "other", "transaction_timeout": "1h",
}

func TestSessionUnderHostileDefaults(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	before := login(t, db.URL)
	var version int
	err := before.QueryRow(t.Context(), "SELECT current_setting('server_version_num')::int").Scan(&version)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range hostile {
		if name != "transaction_timeout" || version >= 170000 {
			exec(t, before, fmt.Sprintf("ALTER DATABASE %s SET %s = '%s'", db.Name, name, value))
		}
	}
	conn := mustOpen(t, app, db.URL)
	const text = "Їжак ґречно з’їв €"
	var back string
	var length int
	err = conn.QueryRow(t.Context(), "SELECT $1::text, octet_length($1::text)", text).Scan(&back, &length)
	if err != nil {
		t.Fatal(err)
	}
	if back != text || length != len(text) {
		t.Errorf("%q came back as %q, of %d bytes in the database", text, back, length)
	}
	for name := range hostile {
		var inForce *string
		if err := conn.QueryRow(t.Context(), "SELECT current_setting($1, true)", name).Scan(&inForce); err != nil {
			t.Fatal(err)
		}
		var want string
		for own, value := range app.AllSettings() {
			if strings.EqualFold(own, name) {
				want = value
			}
		}
		if name == "transaction_timeout" {
			want = "0"
		}
		if inForce != nil && *inForce != want {
			t.Errorf("%s is %q, want %q", name, *inForce, want)
		}
	}
}

// TestDatabaseOfAnotherEncodingIsRefused: such a database refuses some characters, or stores bytes that are no text.
func TestDatabaseOfAnotherEncodingIsRefused(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	server := login(t, db.URL)
	for _, encoding := range []string{"WIN1251", "LATIN1", "SQL_ASCII"} {
		name := db.Name + "_" + strings.ToLower(encoding)
		exec(t, server, "CREATE DATABASE "+name+" ENCODING '"+encoding+"' LOCALE 'C' TEMPLATE template0")
		t.Cleanup(func() {
			if _, err := server.Exec(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
				t.Error(err)
			}
		})
		_, err := open(t, app, strings.Replace(db.URL, db.Name, name, 1))
		wantFault(t, err, "is encoded in "+encoding)
	}
}

func TestSessionWithoutTriggersIsRefused(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	server := login(t, db.URL)
	exec(t, server, "ALTER DATABASE "+db.Name+" SET session_replication_role = 'local'") // triggers run
	mustOpen(t, app, db.URL)
	exec(t, server, "ALTER DATABASE "+db.Name+" SET session_replication_role = 'replica'")
	_, err := open(t, app, db.URL)
	wantFault(t, err, "session_replication_role is replica")
}

// TestCheckSeesEachSetting changes one setting of a session at a time. The check notices each change.
func TestCheckSeesEachSetting(t *testing.T) {
	t.Parallel()
	address := testdb.New(t).URL
	conn := mustOpen(t, app, address)
	if err := app.Check(t.Context(), conn.PgConn()); err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(app.AllSettings())) {
		value := hostile[strings.ToLower(name)]
		exec(t, conn, fmt.Sprintf("SET %s = '%s'", name, value))
		wantFault(t, app.Check(t.Context(), conn.PgConn()), fmt.Sprintf("setting %s of a session is", name))
		exec(t, conn, "RESET "+name) // back to the start-up parameter
		if err := app.Check(t.Context(), conn.PgConn()); err != nil {
			t.Fatal(err)
		}
	}
	exec(t, conn, "SET ROLE none")
	wantFault(t, app.Check(t.Context(), conn.PgConn()), `and not "reiestr_app"`)
}

func TestStandbyIsRefusedAndThePrimaryFound(t *testing.T) {
	t.Parallel()
	primary, standby := topology.Standby(t)
	_, err := open(t, app, standby)
	wantFault(t, err, "the server is a standby")

	folder := func(address string) string {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		return u.Query().Get("host")
	}
	for _, attributes := range []string{"", "any", "standby", "read-only", "prefer-standby", "read-write", "primary"} {
		u, err := url.Parse(primary)
		if err != nil {
			t.Fatal(err)
		}
		q := url.Values{"host": {folder(standby) + "," + folder(primary)}, "port": {"5432"}}
		if attributes != "" {
			q.Set("target_session_attrs", attributes)
		}
		u.RawQuery = q.Encode()
		conn, err := open(t, app, u.String())
		if err != nil {
			t.Errorf("target_session_attrs %q: %v", attributes, err)
			continue
		}
		var recovering bool
		if err := conn.QueryRow(t.Context(), "SELECT pg_is_in_recovery()").Scan(&recovering); err != nil || recovering {
			t.Errorf("target_session_attrs %q: in recovery %t, %v", attributes, recovering, err)
		}
	}
	both, err := url.Parse(standby)
	if err != nil {
		t.Fatal(err)
	}
	both.RawQuery = url.Values{"host": {folder(standby) + "," + folder(standby)}, "port": {"5432"}}.Encode()
	_, err = open(t, app, both.String())
	wantFault(t, err, "the server is a standby")
}

// parameters returns the names of the start-up parameters of a session.
func parameters(w session.Wanted) []string {
	return append(slices.Collect(maps.Keys(w.AllSettings())), "role")
}

func TestPoolerIsRefused(t *testing.T) {
	t.Parallel()
	address := testdb.New(t).URL
	for _, mode := range []string{"session", "transaction", "statement"} {
		for _, ignored := range [][]string{nil, {"role", "search_path"}, parameters(app)} {
			_, err := open(t, app, topology.Pooler(t, address, mode, ignored...))
			wantFault(t, err, session.ErrPooler.Error())
		}
	}
}

// TestPoolerIsRefusedForTheLoginToo: a pooler that accepts all start-up parameters is refused too, also for a session
// without a role.
func TestPoolerIsRefusedForTheLoginToo(t *testing.T) {
	t.Parallel()
	w := session.Wanted{Name: "test"}
	_, err := open(t, w, topology.Pooler(t, testdb.New(t).URL, "session", parameters(w)...))
	wantFault(t, err, session.ErrPooler.Error())
}

// TestURLDoesNotOverruleASetting: the name of a parameter in the URL may differ in case from that of a setting.
func TestURLDoesNotOverruleASetting(t *testing.T) {
	t.Parallel()
	address := testdb.New(t).URL
	for _, parameter := range []string{
		"client_encoding=LATIN1", "Client_Encoding=LATIN1", "TIMEZONE=Europe/Kyiv", "timezone=Europe/Kyiv", "role=none",
		"options=-c%20timezone%3DEurope/Kyiv%20-c%20role%3Dreiestr_owner", "application_name=other",
		"default_query_exec_mode=simple_protocol", "statement_cache_capacity=0", "pool_max_conns=1&pool_min_conns=1",
	} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		u.RawQuery = strings.TrimPrefix(u.RawQuery+"&"+parameter, "&")
		config, err := app.Configure(u.String())
		if err != nil {
			t.Errorf("%s: %v", parameter, err)
			continue
		}
		pool, err := pgxpool.NewWithConfig(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Close)
		var zone, role string
		err = pool.QueryRow(t.Context(), "SELECT current_setting('timezone'), current_user WHERE $1::text = 'ї'", "ї").
			Scan(&zone, &role)
		if err != nil || zone != "UTC" || role != "reiestr_app" {
			t.Errorf("%s: zone %q, role %q, %v", parameter, zone, role, err)
		}
	}
}

func TestMissingRole(t *testing.T) {
	t.Parallel()
	w := app
	w.Role = "reiestr_nobody"
	_, err := open(t, w, testdb.New(t).URL)
	wantFault(t, err, "role reiestr_nobody does not exist: run `reiestr migrate up`")
}

func TestUnknownSettingInTheURL(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(testdb.New(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	u.RawQuery = strings.TrimPrefix(u.RawQuery+"&ecret=1", "&") // as if the password held an unescaped & and =
	_, err = open(t, app, u.String())
	wantFault(t, err, "does not know a setting")
	if strings.Contains(err.Error(), "ecret") {
		t.Error(err)
	}
}

// TestCheckIsCheap: the check is one round trip, far cheaper than the start of a session.
func TestCheckIsCheap(t *testing.T) {
	t.Parallel()
	conn := mustOpen(t, app, testdb.New(t).URL)
	best := time.Hour
	for range 20 {
		from := time.Now()
		if err := app.Check(t.Context(), conn.PgConn()); err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(from))
	}
	opening := time.Hour
	for range 10 {
		from := time.Now()
		mustOpen(t, app, conn.Config().ConnString())
		opening = min(opening, time.Since(from))
	}
	t.Logf("a check takes %s, the opening of a session with it %s", best, opening)
	if best > 20*time.Millisecond {
		t.Errorf("a check takes %s at best", best)
	}
}

// leftAlone lists the settings that the program neither sends nor checks, and why. The patterns match categories or
// names in pg_settings.
var leftAlone = []struct{ why, pattern string }{
	{"costs and plans are the DBA's", `Query Tuning.*|Resource Usage.*|Autovacuum|Vacuuming|vacuum_.*`},
	{"what is logged, counted and shown", `Reporting and Logging.*|Statistics.*|Process Title|log_.*`},
	{"extensions", `Customized Options`},
	{"for repair and development", `Developer Options|restrict_nonsystem_relation_kind`},
	{"where and how things are stored", `default_table_access_method|default_tablespace|temp_tablespaces|` +
		`default_toast_compression|file_copy_method|wal_\w+|track_wal_io_timing`},
	{"timing of the server", `commit_delay|commit_siblings|deadlock_timeout|tcp_\w+|` +
		`client_connection_check_interval|ssl_renegotiation_limit|synchronize_seqscans|createrole_self_grant|event_triggers`},
	{"no statement uses numbers by locale, text search, XML", `lc_\w+|default_text_search_config|xml\w+|` +
		`icu_validation_level`},
	{"no table has a GIN index, large objects, row security", `gin_\w+|lo_compat_privileges|row_security`},
	{"no statement sets a password or reads names of zones", `password_encryption|scram_iterations|` +
		`md5_password_warnings|timezone_abbreviations`},
	{"it only warns, or is about strings without standard rules", `backslash_quote|escape_string_warning|` +
		`client_min_messages|check_function_bodies|quote_all_identifiers`},
	{"libraries are the DBA's", `dynamic_library_path|local_preload_libraries|session_preload_libraries|` +
		`extension_control_path|extension_destdir|output_plugin_libraries`},
	{"set by each transaction", `transaction_isolation|transaction_read_only|transaction_deferrable|` +
		`default_transaction_deferrable`},
	{"checked in another way, because only a superuser may set it", `session_replication_role`},
	{"set at the start in another way", `transaction_timeout|role|session_authorization`},
	{"random numbers", `seed`},
}

// TestEverySettingOfASessionIsDecided: each setting that can be changed for a session is either sent and checked, or
// listed in leftAlone.
func TestEverySettingOfASessionIsDecided(t *testing.T) {
	t.Parallel()
	conn := login(t, testdb.New(t).URL)
	sent := map[string]bool{"idle_in_transaction_session_timeout": true} // every Wanted of the program sends it
	for name := range app.AllSettings() {
		sent[strings.ToLower(name)] = true
	}
	rows, err := conn.Query(t.Context(), `SELECT name, category FROM pg_settings WHERE context IN ('user', 'superuser')`)
	if err != nil {
		t.Fatal(err)
	}
	var name, category string
	seen := 0
	_, err = pgx.ForEachRow(rows, []any{&name, &category}, func() error {
		seen++
		decided := sent[strings.ToLower(name)]
		for _, those := range leftAlone {
			pattern := regexp.MustCompile("^(" + those.pattern + ")$")
			decided = decided || pattern.MatchString(category) || pattern.MatchString(name)
		}
		if !decided {
			t.Errorf("setting %s (%s) is neither sent nor in leftAlone", name, category)
		}
		return nil
	})
	if err != nil || seen < 100 {
		t.Errorf("%d settings, %v", seen, err)
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	conn := login(t, testdb.New(t).URL)
	for _, d := range []time.Duration{0, time.Millisecond, 1500 * time.Millisecond, 5 * time.Second, 90 * time.Second,
		time.Minute, 10 * time.Minute, 60 * time.Minute, 24 * time.Hour} {
		exec(t, conn, fmt.Sprintf("SET statement_timeout = %d", d.Milliseconds()))
		var shown string
		err := conn.QueryRow(t.Context(), "SHOW statement_timeout").Scan(&shown)
		if err != nil || shown != session.Duration(d) {
			t.Errorf("%s is shown as %q, and written as %q (%v)", d, shown, session.Duration(d), err)
		}
	}
}
