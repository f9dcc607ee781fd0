package db_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/reiestr/reiestr/db"
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
	for _, version := range []int64{migrations.Latest() - 1, migrations.Latest()} { // the schema is newer; it is the program's own
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
	ended := started(func() error { return h.Listen(ctx, "A \"channel\"", func() { heard <- struct{}{} }) })
	<-heard // it listens
	for _, channel := range []string{"another", "A \"channel\""} {
		if err := h.Notify(t.Context(), channel); err != nil {
			t.Fatal(err)
		}
	}
	<-heard
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	if n := len(heard); n != 0 {
		t.Errorf("heard %d times more", n)
	}
}
