// Package testdb gives each test a PostgreSQL database of its own. The database is a clone of a template to which all
// migrations have been applied. A clone takes some 20 ms.
//
// A package whose tests need databases wraps its tests in [Main] and asks for a database with [New]:
//
//	func TestMain(m *testing.M) { os.Exit(testdb.Main(m)) }
//
//	func TestSomething(t *testing.T) {
//		db := testdb.New(t)
//		…
//	}
//
// [Serve] tells where the server comes from. Under plain "go test" the process of each package starts a server of its
// own, if its tests ask for a database. The command withdb starts one server for all packages of a run:
//
//	go run ./internal/dev/testdb/withdb -- go test -race ./...
package testdb

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/reiestr/reiestr/migrations"
)

const (
	// keepVariable set to 1 keeps the databases of failed tests, and the container that holds them.
	keepVariable = "REIESTR_TEST_KEEP"
	// databasePrefix begins the name of every test's database.
	databasePrefix = "reiestr_test_"
	templatePrefix = "reiestr_template_"

	startLimit = 4 * time.Minute
	dropLimit  = 30 * time.Second
)

// Database is a test's own database.
type Database struct {
	Name string
	// URL is for a login that may SET ROLE to reiestr_owner and to reiestr_app.
	URL string
}

// Main runs the tests of a package and answers the exit code. The server is found or started when the first test asks
// for a database; one line on standard error describes it. It is stopped after the last test or at a signal to end.
func Main(m *testing.M) int {
	shared.open()
	code := m.Run()
	if err := shared.close(); err != nil {
		fmt.Fprintln(os.Stderr, "testdb:", err)
		code = max(code, 1)
	}
	return code
}

// New clones the template for the test and drops the clone when the test ends. If the test has failed and
// REIESTR_TEST_KEEP is 1, New keeps the clone and logs its URL. Rights on the database itself are PostgreSQL's
// defaults; those on its content are of the migrations.
func New(t testing.TB) *Database {
	t.Helper()
	server, template := served(t)
	return own(t, server, template)
}

// Empty is New, except that the database has no schema: it is for tests of the migrations themselves.
func Empty(t testing.TB) *Database {
	t.Helper()
	server, _ := served(t)
	return own(t, server, "template0 ENCODING 'UTF8'")
}

// served answers the server of this process and the name of the template.
func served(t testing.TB) (*Server, string) {
	t.Helper()
	server, template, err := shared.get()
	if err != nil {
		t.Fatalf("testdb: %v", err)
	}
	return server, template
}

// own makes the test's database from a template, which may be followed by other options of CREATE DATABASE.
func own(t testing.TB, server *Server, template string) *Database {
	t.Helper()
	db, err := clone(t.Context(), server, template)
	if err != nil {
		t.Fatalf("testdb: cloning %s: %v", template, err)
	}
	t.Cleanup(func() {
		if t.Failed() && os.Getenv(keepVariable) == "1" {
			t.Logf("testdb: kept %s", db.URL)
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), dropLimit)
		defer cancel()
		if err := server.exec(ctx, "DROP DATABASE "+db.Name+" WITH (FORCE)"); err != nil {
			t.Errorf("testdb: dropping %s: %v", db.Name, err)
		}
	})
	return db
}

// Shared is a clone of the template that all tests on the server share, also those of later runs on the same server.
// The first test that asks for it fills it. Its content follows from the migrations and from the digest. Tests must
// leave it unchanged: they roll back.
func Shared(t testing.TB, digest string, fill func(ctx context.Context, url string) error) *Database {
	t.Helper()
	server, template := served(t)
	name := "reiestr_shared_" + strings.TrimPrefix(template, templatePrefix) + "_" + digest
	if err := makeOnce(t.Context(), server, name, "TEMPLATE "+template+" STRATEGY FILE_COPY", fill); err != nil {
		t.Fatalf("testdb: %v", err)
	}
	address, err := withDatabase(server.URL, name)
	if err != nil {
		t.Fatalf("testdb: %v", err)
	}
	return &Database{name, address}
}

// clone makes a database from the template. FILE_COPY is the faster strategy for so small a database: 17 ms against 60
// for WAL_LOG where the data directory is in memory, 50 against 60 where it is on a disk.
func clone(ctx context.Context, server *Server, template string) (*Database, error) {
	name := databasePrefix + strings.ToLower(rand.Text()[:12])
	address, err := withDatabase(server.URL, name)
	if err != nil {
		return nil, err
	}
	return &Database{name, address}, server.exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+template+" STRATEGY FILE_COPY")
}

// Of is the URL of another database of the server.
func (s *Server) Of(database string) (string, error) { return withDatabase(s.URL, database) }

// withDatabase is the URL with another database's name in it.
func withDatabase(address, name string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", errors.New("the database URL cannot be parsed") // the cause would quote the URL with its password
	}
	u.Path = "/" + name
	return u.String(), nil
}

// shared is the server of the tests of this process.
var shared process

// process is a server and its template, started at the first use between open and close.
type process struct {
	mu       sync.Mutex
	running  context.Context // bounds the start; nil when not open
	cancel   context.CancelFunc
	started  bool
	server   *Server
	template string
	err      error
}

func (p *process) open() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running, p.cancel = context.WithCancel(context.Background())
}

// get answers the server and the name of the template. The first call starts and makes them; its error is the error of
// all later calls.
func (p *process) get() (*Server, string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil {
		return nil, "", errors.New("no server outside of Main: let the package's TestMain call it")
	}
	if !p.started {
		p.started = true
		p.err = p.start()
	}
	return p.server, p.template, p.err
}

func (p *process) start() (err error) {
	if address, _, _ := named(); address == "" { // a server that this process starts must end with it
		go p.closeAtSignal(p.cancel)
	}
	ctx, cancel := context.WithTimeout(p.running, startLimit)
	defer cancel()
	if p.server, err = Serve(ctx); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "testdb:", p.server.Description)
	p.template, err = prepareTemplate(ctx, p.server, migrations.FS, migrations.Up)
	return err
}

func (p *process) closeAtSignal(cancel context.CancelFunc) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	<-signals
	cancel() // the start that may be under way: close waits for its end
	p.close()
	os.Exit(1)
}

// close stops a server that was started. A start under way ends first.
func (p *process) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = nil
	if p.server == nil {
		return nil
	}
	defer func() { p.server = nil }()
	return p.server.Close()
}

// exec runs one statement on the server's own database. The connection is kept for the next call.
func (s *Server) exec(ctx context.Context, statement string) error {
	var conn *pgx.Conn
	select {
	case conn = <-s.idle:
	default:
		var err error
		if conn, err = Connect(ctx, s.URL); err != nil {
			return err
		}
	}
	_, err := conn.Exec(ctx, statement)
	if !conn.IsClosed() {
		select {
		case s.idle <- conn:
			return err
		default:
		}
	}
	conn.Close(context.WithoutCancel(ctx))
	return err
}
