package rest

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/reiestr/reiestr/internal/recent"
)

const (
	readyKept    = time.Second     // for so long all callers get the same answer
	readyTimeout = 3 * time.Second // of the question
)

func healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, "ok\n") //nolint:errcheck // the caller has gone
}

// readyz needs no token and is behind no limit of requests. Therefore its callers share an answer.
func readyz(c *Config) http.HandlerFunc {
	ready := recent.New(readyKept, readyTimeout, func(ctx context.Context) (struct{}, error) {
		err := c.Ready(ctx)
		if err != nil {
			c.Log.WarnContext(ctx, "not ready", "error", err)
		}
		return struct{}{}, err
	})
	return func(w http.ResponseWriter, r *http.Request) {
		if _, err := ready.Get(r.Context()); err != nil {
			unavailable(r.Context()).write(w)
			return
		}
		healthz(w, r)
	}
}
