package pg

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/reiestr/reiestr/internal/dev/testdb"
	"github.com/reiestr/reiestr/internal/dev/topology"
)

// A server that reads its configuration again changes open sessions. The check finds the change, and no request uses
// these sessions afterwards.
func TestCheckClosesSessionsThatHaveChanged(t *testing.T) {
	t.Parallel()
	s := newScratch(t)
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	pid := func() (id uint32) {
		t.Helper()
		err := s.Pool().QueryRow(t.Context(), `SELECT pg_backend_pid()`).Scan(&id)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	before := pid()
	_, err := s.Pool().Exec(t.Context(), `SET ROLE none; SET session_replication_role = replica; SET ROLE reiestr_app`)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Check(t.Context())
	if !isFault(err) || !strings.Contains(err.Error(), "session_replication_role is replica") {
		t.Fatalf("the check says %v", err)
	}
	if pid() == before {
		t.Error("the session is still in use")
	}
	if err := s.Check(t.Context()); err != nil {
		t.Errorf("the new session: %v", err)
	}
}

// Where a connection cannot be made, no statement has been sent, so the request may be repeated: 503.
func TestRequestWithoutAFitSessionIsUnavailable(t *testing.T) {
	t.Parallel()
	direct := testdb.New(t).URL
	login, err := testdb.Connect(t.Context(), direct)
	if err != nil {
		t.Fatal(err)
	}
	defer login.Close(context.Background())
	_, err = login.Exec(t.Context(), `DO $$ BEGIN
		EXECUTE format('ALTER DATABASE %I SET session_replication_role = replica', current_database()); END $$`)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]Config{
		"no triggers":      {URL: direct, Role: App},
		"no such role":     {URL: direct, Role: "reiestr_unknown"},
		"no such database": {URL: strings.Replace(direct, login.Config().Database, "reiestr_nowhere", 1), Role: App},
		"pooler":           {URL: topology.Pooler(t, direct, "transaction"), Role: App},
		"no server":        {URL: "postgres://127.0.0.1:1/d", Role: App},
	} {
		d, err := Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(d.Close)
		_, statement := d.Statements().Exec(t.Context(), `SELECT 1`)
		transaction := d.Transact(t.Context(), "t", func(tx *Tx) error {
			_, err := tx.Now().Exec(t.Context(), `SELECT 1`)
			return err
		})
		rows, pipeline := d.Pipeline().Query(t.Context(), `SELECT 1`)
		if pipeline == nil {
			rows.Close()
			pipeline = rows.Err()
		}
		for way, err := range map[string]error{
			"statement": statement, "transaction": transaction, "pipeline": pipeline, "check": d.Check(t.Context()),
			"notify": d.Notify(t.Context(), "c", ""),
		} {
			if err == nil || !Unavailable(err) {
				t.Errorf("%s, %s: not unavailable: %v", name, way, err)
			}
		}
	}
}

// The connection that listens is not one of the pool, but it is checked in the same way.
func TestListeningNeedsAFitSession(t *testing.T) {
	t.Parallel()
	pooler := topology.Pooler(t, testdb.New(t).URL, "transaction", ignoredByAPooler(t)...)
	d, err := Open(t.Context(), Config{URL: pooler, Role: App})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	lost := make(chan error, 1)
	go d.Listen(ctx, "c", Subscriber{
		Begun: func() { lost <- errors.New("the connection listens") },
		Lost: func(err error) {
			select {
			case lost <- err:
			default:
			}
		},
	})
	if err := receive(t, lost); !isFault(err) {
		t.Errorf("the listener says %v", err)
	}
}

// ignoredByAPooler are all start-up parameters of a session, for a pooler that ignores them.
func ignoredByAPooler(t *testing.T) (names []string) {
	t.Helper()
	config, err := wantedSession(Config{Role: App}).Configure("postgres://127.0.0.1/d")
	if err != nil {
		t.Fatal(err)
	}
	for name := range config.ConnConfig.RuntimeParams {
		names = append(names, name)
	}
	return names
}

// The operator's setting takes precedence over that of the URL. Every command accepts the same URL.
func TestSizeOfThePool(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		url  string
		most int32
		want int32
	}{
		{"postgres://h/d?pool_max_conns=7", 0, 7},
		{"postgres://h/d?pool_max_conns=7", 3, 3},
		{"postgres://h/d", 3, 3},
	} {
		config, err := poolConfig(Config{URL: c.url, Role: App, MaxConns: c.most}, wantedSession(Config{Role: App}))
		if err != nil || config.MaxConns != c.want {
			t.Errorf("%s with %d: %d, %v", c.url, c.most, config.MaxConns, err)
		}
	}
}

func TestUnavailableKnowsTheTimeOutOfATransaction(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]bool{"25P03": true, "25P04": true, "25006": true, "0A000": true, "42501": false} {
		if err := (&pgconn.PgError{Code: code}); Unavailable(err) != want {
			t.Errorf("%s: not %t", code, want)
		}
	}
	if Unavailable(pgx.ErrNoRows) {
		t.Error("no row is an answer")
	}
}
