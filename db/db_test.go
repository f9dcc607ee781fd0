package db_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/internal/dev/testdb"
	"github.com/reiestr/reiestr/migrations"
)

func TestOpenRefusesAnAddressItCannotRead(t *testing.T) {
	t.Parallel()
	d, err := db.Open(t.Context(), db.Config{URL: "postgres://user:s3cret@host:port/database"})
	if err == nil {
		d.Close()
		t.Fatal("no error")
	}
	if strings.Contains(err.Error(), "s3cret") {
		t.Errorf("the password is in %q", err)
	}
}

func TestReady(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	// The schema may be newer than the program needs, or have the same version.
	for _, version := range []int64{migrations.Latest() - 1, migrations.Latest()} {
		if err := h.Ready(t.Context(), version); err != nil {
			t.Errorf("version %d: %v", version, err)
		}
	}
	if err := h.Ready(t.Context(), migrations.Latest()+1); err == nil || db.Unavailable(err) {
		t.Errorf("the schema is too old: %v", err)
	}
	elsewhere, err := db.Open(t.Context(), db.Config{URL: h.url, TimeZone: "Europe/Atlantis"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(elsewhere.Close)
	if err := elsewhere.Ready(t.Context(), migrations.Latest()); err == nil {
		t.Error("a time zone that does not exist: no error")
	}
}

func TestListen(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	heard := make(chan struct{}, 10)
	hear := func() { heard <- struct{}{} }
	ended := started(func() error { h.Listen(ctx, "A \"channel\"", hear, hear, func(error) {}); return ctx.Err() })
	receive(t, heard) // the connection listens
	for _, channel := range []string{"another", "A \"channel\""} {
		if err := h.Notify(t.Context(), channel); err != nil {
			t.Fatal(err)
		}
	}
	receive(t, heard)
	cancel()
	if err := receive(t, ended); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	if n := len(heard); n != 0 {
		t.Errorf("heard %d times more", n)
	}
}

// TestListenConnectsAgain: a lost connection is reported and replaced.
func TestListenConnectsAgain(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	begun, lost := make(chan struct{}, 10), make(chan error, 10)
	listening := h.openWith(t, db.Config{Name: "listener"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := started(func() error {
		listening.Listen(ctx, "channel", func() { begun <- struct{}{} }, func() {}, func(err error) { lost <- err })
		return nil
	})
	receive(t, begun)
	login, err := testdb.Connect(t.Context(), h.url)
	must(t, err)
	t.Cleanup(func() { login.Close(context.Background()) })
	exec(t, login, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'listener'
		AND datname = current_database()`)
	if err := receive(t, lost); !db.Unavailable(err) {
		t.Errorf("lost: %v", err)
	}
	receive(t, begun)
	cancel()
	receive(t, ended)
}

// Each role has its time-outs and each process its name, whatever defaults the database has.
func TestSessionsAreBoundedAndNamed(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	login, err := testdb.Connect(t.Context(), h.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { login.Close(context.Background()) })
	for _, setting := range []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"} {
		exec(t, login, `ALTER DATABASE `+login.Config().Database+` SET `+setting+` = '17ms'`)
	}
	for role, want := range map[db.Role]string{
		db.App:   "reiestr_app reiestr all: 10s 5s 10s force_generic_plan",
		db.Owner: "reiestr_owner reiestr load: 0 10min 1min auto",
	} {
		name := map[db.Role]string{db.App: "reiestr all", db.Owner: "reiestr load"}[role]
		d, err := db.Open(t.Context(), db.Config{URL: h.url, Role: role, Name: name, TimeZone: "Europe/Kyiv"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(d.Close)
		var got string
		if err := db.PoolOf(d).QueryRow(t.Context(), `
			SELECT current_user || ' ' || (SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()) || ': '
				|| concat_ws(' ', current_setting('statement_timeout'), current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout'),
				current_setting('plan_cache_mode'))`,
		).Scan(&got); err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
