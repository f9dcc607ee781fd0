package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/internal/dev/testdb"
	"github.com/reiestr/reiestr/internal/dev/topology"
)

// databaseCommands returns all command lines that need the database. It is harmless to run them on a database of a
// test.
func databaseCommands(t *testing.T) map[string][]string {
	t.Helper()
	id := uuid.NewString()
	bundle := filepath.Join(t.TempDir(), "bundle.json")
	must(t, os.WriteFile(bundle, []byte(`{"legal_entities": []}`), 0o600))
	return map[string][]string{
		"serve": {"serve", "--listen", "127.0.0.1:0"}, "serve as api": {"serve", "--listen", "127.0.0.1:0", "--role", "api"},
		"serve as worker": {"serve", "--listen", "127.0.0.1:0", "--role", "worker"},
		"serve, migrate":  {"serve", "--listen", "127.0.0.1:0", "--migrate"},
		"migrate up":      {"migrate", "up"}, "migrate down": {"migrate", "down"}, "migrate status": {"migrate", "status"},
		"migrate plan": {"migrate", "plan"}, "migrate plan --down": {"migrate", "plan", "--down"},
		"load":         {"load", bundle},
		"token issue":  {"token", "issue", "--legal-entity", id, "--user", id, "--scope", "job:read"},
		"token revoke": {"token", "revoke", "x"},
		"apikey issue": {"apikey", "issue", "--name", "n"}, "apikey revoke": {"apikey", "revoke", "x"},
		"expire": {"expire"}, "prune": {"prune"},
		"jobs list": {"jobs", "list"}, "jobs show": {"jobs", "show", id}, "jobs retry": {"jobs", "retry", id},
	}
}

// wantOneLine runs every command on the database of the address, and expects that each fails with the same line, which
// contains want.
func wantOneLine(t *testing.T, address, want string) {
	t.Helper()
	lines := map[string]bool{}
	for name, args := range databaseCommands(t) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		var out, errs bytes.Buffer
		code := run(ctx, append(args, "--database-url", address), streams{strings.NewReader(""), &out, &errs})
		cancel()
		if code != exitFailed || !strings.Contains(errs.String(), want) || strings.Count(errs.String(), "\n") != 1 {
			t.Errorf("%s: exit code %d, not one line that says %q: %s", name, code, want, errs.String())
		}
		lines[errs.String()] = true
	}
	if len(lines) != 1 {
		t.Errorf("the commands print %d different errors: %v", len(lines), lines)
	}
}

func TestEveryCommandRefusesAPooler(t *testing.T) {
	t.Parallel()
	direct := testdb.New(t).URL
	const want = "reiestr: a connection pooler (PgBouncer or the like) stands between this program and the PostgreSQL"
	for _, mode := range []string{"session", "transaction"} {
		wantOneLine(t, topology.Pooler(t, direct, mode), want)
		wantOneLine(t, topology.Pooler(t, direct, mode, "role", "application_name", "search_path", "client_encoding",
			"timezone", "datestyle", "intervalstyle", "bytea_output", "extra_float_digits", "standard_conforming_strings",
			"array_nulls", "transform_null_equals", "exit_on_error", "default_transaction_isolation",
			"default_transaction_read_only", "synchronous_commit", "statement_timeout", "lock_timeout",
			"idle_in_transaction_session_timeout", "idle_session_timeout", "plan_cache_mode"), want)
	}
}

func TestEveryCommandRefusesAStandby(t *testing.T) {
	t.Parallel()
	primary, standby := topology.Standby(t)
	wantOneLine(t, standby, "reiestr: the server is a standby, which takes no writes: let the database URL lead to")

	// The primary is found in a list of servers, whatever its place in the list.
	both, err := url.Parse(primary)
	must(t, err)
	other, err := url.Parse(standby)
	must(t, err)
	both.RawQuery = url.Values{
		"host": {other.Query().Get("host") + "," + both.Query().Get("host")}, "port": {"5432"},
	}.Encode()
	done(t, "apikey", "issue", "--name", "n", "--database-url", both.String())
	done(t, "migrate", "status", "--database-url", both.String())
	p := serve(t, []string{"REIESTR_DATABASE_URL=" + both.String()})
	wantStatus(t, p.url+"/readyz", http.StatusOK)
	p.stop()
}

func TestEveryCommandRefusesADatabaseOfAnotherEncoding(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	conn, err := testdb.Connect(t.Context(), db.URL)
	must(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(t.Context(), "CREATE DATABASE "+db.Name+"_w ENCODING 'WIN1251' LOCALE 'C' TEMPLATE template0")
	must(t, err)
	t.Cleanup(func() {
		conn, err := testdb.Connect(context.Background(), db.URL)
		must(t, err)
		defer conn.Close(context.Background())
		_, err = conn.Exec(context.Background(), "DROP DATABASE "+db.Name+"_w WITH (FORCE)")
		must(t, err)
	})
	// The roles exist on the server already, so that the encoding is the first fault that is found.
	wantOneLine(t, strings.Replace(db.URL, db.Name, db.Name+"_w", 1), "is encoded in WIN1251")
}

func TestEveryCommandRefusesSessionsWithoutTriggers(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	conn, err := testdb.Connect(t.Context(), db.URL)
	must(t, err)
	defer conn.Close(context.Background())
	p := serve(t, []string{"REIESTR_DATABASE_URL=" + db.URL})
	wantStatus(t, p.url+"/readyz", http.StatusOK)

	_, err = conn.Exec(t.Context(), "ALTER DATABASE "+db.Name+" SET session_replication_role = 'replica'")
	must(t, err)
	wantOneLine(t, db.URL, "reiestr: session_replication_role is replica, so triggers do not run")

	// A running service notices the change when it opens its next connections.
	_, err = conn.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = current_database() AND application_name LIKE 'reiestr %'`)
	must(t, err)
	eventually(t, "the service is not ready, and says why", func() bool {
		return status(t, p.url+"/readyz") == http.StatusServiceUnavailable &&
			strings.Contains(p.stderr(), "session_replication_role is replica")
	})
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/api/licenses", nil)
	must(t, err)
	request.Header.Set("Authorization", "Bearer unknown")
	request.Header.Set("api-key", "unknown")
	response, err := http.DefaultClient.Do(request)
	must(t, err)
	response.Body.Close()
	if response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a request is answered %d", response.StatusCode)
	}
	_, err = conn.Exec(t.Context(), "ALTER DATABASE "+db.Name+" RESET session_replication_role")
	must(t, err)
	eventually(t, "the service is ready again", func() bool { return status(t, p.url+"/readyz") == http.StatusOK })
}

// TestClientEncodingOfTheDatabaseDoesNotMatter: a default of the database that would change the encoding of a session
// has no effect.
func TestClientEncodingOfTheDatabaseDoesNotMatter(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	conn, err := testdb.Connect(t.Context(), db.URL)
	must(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(t.Context(), "ALTER DATABASE "+db.Name+" SET client_encoding = 'WIN1251'")
	must(t, err)
	const name = "Ґречний їжак €"
	bundle := filepath.Join(t.TempDir(), "bundle.json")
	must(t, os.WriteFile(bundle, []byte(`{"legal_entities": [{"id": "8be63914-a278-470b-b868-1af5b9087332",
		"edrpou": "12345678", "name": "`+name+`", "type": "OUTPATIENT", "status": "ACTIVE"}]}`), 0o600))
	done(t, "load", bundle, "--database-url", db.URL)
	var stored string
	must(t, conn.QueryRow(t.Context(), "SELECT name FROM prm.legal_entities").Scan(&stored))
	if stored != name {
		t.Errorf("%q was stored as %q", name, stored)
	}
}

func TestEveryCommandRefusesWhatIsNoURL(t *testing.T) {
	t.Parallel()
	for _, address := range []string{
		"jdbc:postgresql://localhost:5432/reiestr?user=u&password=p", "mysql://u:p@h/d", "http://h/d",
	} {
		wantOneLine(t, address, "reiestr: the database URL is not one of PostgreSQL: write postgres://login:password@host:")
	}
	wantOneLine(t, "postgres://u:p@S3/CRET@h/d", "reiestr: the database URL cannot be read: in login and password, write")
}

// TestEveryCommandTakesTheSameURL: every command accepts a URL with parameters of the pool.
func TestEveryCommandTakesTheSameURL(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(testdb.New(t).URL)
	must(t, err)
	q := u.Query()
	for name, value := range map[string]string{
		"pool_max_conns": "1", "pool_min_conns": "0", "pool_max_conn_lifetime": "1h", "pool_max_conn_idle_time": "1m",
		"pool_health_check_period": "1m", "default_query_exec_mode": "exec", "statement_cache_capacity": "0",
		"connect_timeout": "5", "target_session_attrs": "read-write", "application_name": "other",
	} {
		q.Set(name, value)
	}
	u.RawQuery = q.Encode()
	for name, args := range databaseCommands(t) {
		if args[0] == "serve" || name == "migrate down" { // they follow
			continue
		}
		code, _, errs := command(t, "", append(args, "--database-url", u.String())...)
		if code != 0 && !strings.HasPrefix(errs, "reiestr: there is no ") {
			t.Errorf("%s: %s", name, errs)
		}
	}
	done(t, "migrate", "down", "--database-url", u.String())
	done(t, "migrate", "up", "--database-url", u.String())
	p := serve(t, []string{"REIESTR_DATABASE_URL=" + u.String()})
	wantStatus(t, p.url+"/readyz", http.StatusOK)
	p.stop()
}

// astray are variables of libpq that would lead to another server, or change the settings of a session.
var astray = []string{
	"PGSERVICE=nonsense", "PGSERVICEFILE=/no/such/file", "PGTARGETSESSIONATTRS=nonsense", "PGHOST=192.0.2.1", "PGPORT=1",
	"PGDATABASE=nowhere", "PGUSER=nobody", "PGPASSWORD=x", "PGOPTIONS=-c nonsense=1", "PGSSLMODE=nonsense",
	"PGSSLROOTCERT=/no/such/file", "PGCONNECT_TIMEOUT=nonsense", "PGTZ=Nowhere/Atlantis", "PGAPPNAME=other",
	"PGCLIENTENCODING=nonsense", "PGDATESTYLE=nonsense", "PGMINPROTOCOLVERSION=9.9", "PGCHANNELBINDING=require",
	"PGREQUIREAUTH=scram-sha-256",
}

func TestOwnServerIgnoresTheEnvironmentOfClients(t *testing.T) {
	t.Parallel()
	env := append([]string{"REIESTR_DATABASE_URL=", "REIESTR_DATA_DIR=" + filepath.Join(t.TempDir(), "data")}, astray...)
	p := serve(t, env)
	wantStatus(t, p.url+"/readyz", http.StatusOK)
	// Another process joins the server.
	for _, args := range [][]string{{"migrate", "status"}, {"apikey", "issue", "--name", "n"}} {
		joined := start(t, env, args...)
		if code := joined.exit(); code != 0 {
			t.Errorf("%v: exit code %d: %s", args, code, joined.stderr())
		}
	}
	p.stop()
}

// TestEnvironmentOfClientsWithAURL: libpq's variables complete the URL, as for psql. They do not change the settings on
// which a session relies.
func TestEnvironmentOfClientsWithAURL(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(testdb.New(t).URL)
	must(t, err)
	password, _ := u.User.Password()
	login := u.User.Username()
	u.User = nil
	env := []string{
		"REIESTR_DATABASE_URL=" + u.String(), "PGUSER=" + login, "PGPASSWORD=" + password, "PGAPPNAME=other",
		"PGTARGETSESSIONATTRS=standby", "PGTZ=Europe/Kyiv",
		"PGOPTIONS=-c role=none -c timezone=Europe/Kyiv -c default_transaction_read_only=on",
	}
	for _, args := range [][]string{{"migrate", "up"}, {"apikey", "issue", "--name", "n"}} {
		p := start(t, env, args...)
		if code := p.exit(); code != 0 {
			t.Errorf("%v: exit code %d: %s", args, code, p.stderr())
		}
	}
	p := start(t, append(env, "PGSERVICE=nonsense"), "migrate", "status")
	if code := p.exit(); code != exitFailed || !strings.Contains(p.stderr(), "PG… variable of the environment") {
		t.Errorf("exit code %d: %s", code, p.stderr())
	}
}

func status(t *testing.T, address string) int {
	t.Helper()
	response, err := http.Get(address) //nolint:gosec // the test's own server
	must(t, err)
	response.Body.Close()
	return response.StatusCode
}

func wantStatus(t *testing.T, address string, want int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s is answered %d", address, want), func() bool { return status(t, address) == want })
}
