package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// TestServeLeavesNoGoroutines runs the server in this process. When the server has stopped, all its goroutines have
// ended: those of workers, waiters, listeners and the pool of connections. The test is not parallel, because it would
// take the goroutines of other tests for leaks.
func TestServeLeavesNoGoroutines(t *testing.T) {
	r := newRegistry(t)
	ids := r.reserved(5)
	before := goleak.IgnoreCurrent()
	for _, role := range []string{"all", "api", "worker"} {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		said, out := io.Pipe()
		exit := make(chan int, 1)
		go func() {
			exit <- run(ctx, []string{"serve", "--role", role, "--listen", "127.0.0.1:0", "--database-url", r.url},
				streams{out: out, err: io.Discard})
			out.Close()
		}()
		line, err := bufio.NewReader(said).ReadString('\n')
		must(t, err)
		p := &process{url: strings.TrimPrefix(strings.TrimSpace(line), "listening on ")}
		if role == "all" {
			for _, id := range ids {
				code, _, body := r.call(p, http.MethodPatch, "/api/service_requests/"+id.String()+"/actions/release", "Prefer",
					"wait=20")
				if code != http.StatusOK {
					t.Fatalf("release: %d %s", code, body)
				}
			}
		}
		http.DefaultClient.CloseIdleConnections()
		stop()
		if code := receive(t, exit); code != exitDone {
			t.Errorf("%s: exit code %d", role, code)
		}
		goleak.VerifyNone(t, before)
	}
}
