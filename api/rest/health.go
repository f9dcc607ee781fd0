package rest

import (
	"context"
	"io"
	"net/http"
	"time"
)

func healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, "ok\n") //nolint:errcheck // the caller has gone
}

func readyz(c *Config) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 3*time.Second)
		defer cancel()
		if err := c.Ready(ctx); err != nil {
			c.Log.WarnContext(ctx, "not ready", "error", err)
			unavailable(r.Context()).write(w)
			return
		}
		healthz(w, r)
	}
}
