package testdb

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

func connect(t testing.TB, address string) *pgx.Conn {
	t.Helper()
	conn, err := Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func exec(t testing.TB, conn *pgx.Conn, statements ...string) {
	t.Helper()
	if err := execAll(t.Context(), conn, statements...); err != nil {
		t.Fatal(err)
	}
}

// query answers the first column of the first row.
func query[T any](t testing.TB, conn *pgx.Conn, statement string, args ...any) (value T) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), statement, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return value
}

// ofServer is a connection to the server's own database.
func ofServer(t testing.TB) *pgx.Conn {
	t.Helper()
	server, _, err := shared.get()
	if err != nil {
		t.Fatal(err)
	}
	return connect(t, server.URL)
}

const databaseExists = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)"

func TestDatabasesAreIsolated(t *testing.T) {
	t.Parallel()
	one, other := New(t), New(t)
	exec(t, connect(t, one.URL), "CREATE TABLE mine (n integer)")

	for _, db := range []*Database{other, New(t)} {
		if query[bool](t, connect(t, db.URL), "SELECT to_regclass('mine') IS NOT NULL") {
			t.Errorf("%s has the table that was made in %s", db.Name, one.Name)
		}
	}
}

func TestDatabaseIsMigratedAndTakesBothRoles(t *testing.T) {
	t.Parallel()
	db := New(t)
	conn := connect(t, db.URL)

	if name := query[string](t, conn, "SELECT current_database()"); name != db.Name {
		t.Errorf("the URL leads to %s, not to %s", name, db.Name)
	}
	for _, role := range []string{"reiestr_owner", "reiestr_app"} {
		exec(t, conn, "SET ROLE "+role)
		if !query[bool](t, conn, "SELECT has_schema_privilege(current_user, 'prm', 'USAGE')") {
			t.Errorf("%s has no use of the schema prm", role)
		}
		exec(t, conn, "RESET ROLE")
	}
}

// A server that was started for the tests counts statements if a test asks for it.
func TestServerCanCountStatements(t *testing.T) {
	t.Parallel()
	conn := connect(t, New(t).URL)
	if server, _, _ := shared.get(); server.Source == "url" {
		t.Skip("the server was not started for the tests")
	}
	exec(t, conn, "CREATE EXTENSION pg_stat_statements")
	if n := query[int](t, conn, "SELECT count(*) FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE "+
		"datname = current_database())"); n != 0 {
		t.Errorf("%d statements were counted without a request", n)
	}
}

func TestDatabaseIsDroppedAfterItsTest(t *testing.T) {
	t.Parallel()
	var db *Database
	t.Run("test", func(t *testing.T) {
		db = New(t)
		// The connection is still open when the test ends.
		if _, err := pgx.Connect(t.Context(), db.URL); err != nil {
			t.Fatal(err)
		}
	})
	if query[bool](t, ofServer(t), databaseExists, db.Name) {
		t.Errorf("%s outlives its test", db.Name)
	}
}

// failing is a test that has failed, whose clean-up is called by hand.
type failing struct {
	testing.TB
	cleanup func()
	log     []any
}

func (f *failing) Failed() bool               { return true }
func (f *failing) Cleanup(do func())          { f.cleanup = do }
func (f *failing) Logf(_ string, args ...any) { f.log = append(f.log, args...) }

func TestDatabaseOfFailedTest(t *testing.T) {
	for _, keep := range []string{"", "1"} {
		t.Run("keep="+keep, func(t *testing.T) {
			t.Setenv(keepVariable, keep)
			test := &failing{TB: t}
			db := New(test)
			test.cleanup()

			server := ofServer(t)
			kept := query[bool](t, server, databaseExists, db.Name)
			if kept != (keep == "1") {
				t.Errorf("kept: %t", kept)
			}
			if logged := len(test.log) == 1 && test.log[0] == db.URL; logged != kept {
				t.Errorf("kept: %t, logged: %v", kept, test.log)
			}
			exec(t, server, "DROP DATABASE IF EXISTS "+db.Name)
		})
	}
}

func TestSharedIsFilledOnce(t *testing.T) {
	t.Parallel()
	digest := strings.ToLower(rand.Text()[:12])
	failed := errors.New("half-way")
	broken := &fatal{TB: t}
	func() {
		defer func() { recover() }()
		Shared(broken, digest, func(context.Context, string) error { return failed })
	}()
	if len(broken.log) != 1 || !strings.Contains(broken.log[0], failed.Error()) {
		t.Errorf("got %q, want the failure of the filling", broken.log)
	}

	filled := 0
	fill := func(ctx context.Context, url string) error {
		filled++
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, "CREATE TABLE public.filling ()")
		return err
	}
	first, second := Shared(t, digest, fill), Shared(t, digest, fill)
	dropAtEnd(t, ofServer(t), first.Name)
	if filled != 1 || *first != *second {
		t.Errorf("filled %d times, %v and %v", filled, first, second)
	}
	conn := connect(t, second.URL)
	if !query[bool](t, conn, "SELECT to_regclass('public.filling') IS NOT NULL AND to_regclass('ops.jobs') IS NOT NULL") {
		t.Error("the database is not migrated or not filled")
	}
}

// fatal ends the calling function by a panic, and keeps the message.
type fatal struct {
	testing.TB
	log []string
}

func (f *fatal) Fatalf(format string, args ...any) {
	f.log = append(f.log, fmt.Sprintf(format, args...))
	panic(f)
}

func TestNewOutsideOfMain(t *testing.T) {
	var closed process
	if _, _, err := closed.get(); err == nil || !strings.Contains(err.Error(), "TestMain") {
		t.Errorf("got %v, want an error that names TestMain", err)
	}
}

func TestFailureToStartIsTriedOnce(t *testing.T) {
	t.Setenv(demandVariable, "nonsense")
	t.Setenv(noteVariable, "")
	t.Setenv(urlVariable, "unused")
	var p process
	p.open()
	_, _, first := p.get()
	t.Setenv(demandVariable, "")
	_, _, second := p.get()
	if first == nil || !errors.Is(second, first) {
		t.Errorf("got %v, then %v", first, second)
	}
	if err := p.close(); err != nil {
		t.Error(err)
	}
}

func TestWithDatabase(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"postgres://u:p@localhost:5432/postgres?sslmode=disable": "postgres://u:p@localhost:5432/x?sslmode=disable",
		"postgres://u@/reiestr?host=%2Frun%2Fpg":                 "postgres://u@/x?host=%2Frun%2Fpg",
		"postgres://one,other/db":                                "postgres://one,other/x",
		"postgres://localhost":                                   "postgres://localhost/x",
	} {
		if got, err := withDatabase(address, "x"); got != want || err != nil {
			t.Errorf("%s: got %s, %v; want %s", address, got, err, want)
		}
	}
	if _, err := withDatabase("postgres://u:secret@host:port/", "x"); err == nil ||
		strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v, want an error without the password", err)
	}
}

func BenchmarkNew(b *testing.B) {
	b.Setenv(keepVariable, "")
	New(b) // starts the server
	for b.Loop() {
		test := &failing{TB: b}
		New(test)
		test.cleanup()
	}
}
