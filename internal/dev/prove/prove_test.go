package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/reiestr/reiestr/internal/pgserver"
)

// TestProveWithFaults has the clients send calls while processes are killed, the server crashes and connections break.
func TestProveWithFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes half a minute")
	}
	if _, _, err := pgserver.Binaries(t.Context(), os.Getenv("REIESTR_POSTGRES_BIN")); err != nil {
		if os.Getenv("REIESTR_TEST_FAULTS") == "required" {
			t.Fatal(err)
		}
		t.Skip(err) // only a server of this machine can be killed
	}
	wanted := []string{"worker-killed", "api-killed", "postgres-killed", "sessions-terminated", "database-answers-halved",
		"clients-cut"}
	var out bytes.Buffer
	o := options{duration: 12 * time.Second, clients: 16, seed: uint64(time.Now().UnixNano()), keep: t.TempDir(),
		root: "../../..", faults: strings.Join(wanted, ","), ready: time.Minute}
	if err := run(t.Context(), o, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	t.Log(out.String())
	if rows := strings.Count(out.String(), " s |\n"); rows == 0 { // a busy machine may not get further than the first
		t.Error("no fault was done")
	}
}

// TestProve has the clients send calls for twenty seconds. What the run prints shows the seed that repeats its calls.
func TestProve(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes half a minute")
	}
	var out bytes.Buffer
	o := options{duration: 20 * time.Second, clients: 64, seed: uint64(time.Now().UnixNano()), keep: t.TempDir(),
		root: "../../.."}
	if err := run(t.Context(), o, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	t.Log(out.String())
}
