package rest

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// deadlineRecorder remembers the deadline for the rest of the request.
type deadlineRecorder struct {
	*httptest.ResponseRecorder
	read time.Time
}

func (d *deadlineRecorder) SetReadDeadline(at time.Time) error {
	d.read = at
	return nil
}

// TestTimeLimitsOfARequest: without other settings a body may take 15 seconds and a request 25 seconds, or 55 if it
// asks to wait.
func TestTimeLimitsOfARequest(t *testing.T) {
	t.Parallel()
	var ends time.Time
	handler := Health(Config{Log: slog.New(slog.DiscardHandler), Answered: func(ctx context.Context, _ Answered) {
		ends, _ = ctx.Deadline()
	}})
	for prefer, limit := range map[string]time.Duration{"": 25 * time.Second, "wait=30": 55 * time.Second} {
		request := httptest.NewRequest(http.MethodPost, "/healthz", strings.NewReader("{}"))
		request.Header.Set("Prefer", prefer)
		w := &deadlineRecorder{ResponseRecorder: httptest.NewRecorder()}
		before := time.Now()
		handler.ServeHTTP(w, request)
		after := time.Now()
		for name, of := range map[string]struct {
			at    time.Time
			limit time.Duration
		}{"the body": {w.read, 15 * time.Second}, "the request": {ends, limit}} {
			if of.at.Before(before.Add(of.limit)) || of.at.After(after.Add(of.limit)) {
				t.Errorf("Prefer %q: %s may take %v, want %v", prefer, name, of.at.Sub(before), of.limit)
			}
		}
	}
}
