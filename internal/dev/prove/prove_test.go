package main

import (
	"bytes"
	"testing"
	"time"
)

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
