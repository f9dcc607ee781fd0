package api

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
)

// Answered is what may be told of a request that has been answered. It holds no path, query, header or body: they are full of persons.
type Answered struct {
	RequestID string
	Method    string
	Operation string     // "": none of the API
	Route     string     // with the names of its parameters, e.g. /api/jobs/{id}
	Client    uuid.UUID  // zero: not known
	Job       uuid.UUID  // that the request has become; zero: none
	Refusal   db.Refusal // of the rule that said no; "": none
	Code      int
	Took      time.Duration
}

// Quiet tells the paths that machines ask all the time; they are not worth a log line or a trace.
func Quiet(path string) bool { return path == "/healthz" || path == "/readyz" || path == "/metrics" }

// answered tells the log and the observer.
func (s *server) answered(ctx context.Context, path string, a Answered) {
	a.Code = cmp.Or(a.Code, http.StatusOK)
	if s.Answered != nil {
		s.Answered(ctx, a)
	}
	level := slog.LevelInfo
	if Quiet(path) {
		level = slog.LevelDebug
	}
	attributes := []slog.Attr{slog.String("request_id", a.RequestID), slog.String("method", a.Method), slog.String("route", a.Route),
		slog.Int("code", a.Code), slog.Duration("took", a.Took)}
	if a.Client != uuid.Nil {
		attributes = append(attributes, slog.String("client", a.Client.String()))
	}
	if a.Job != uuid.Nil {
		attributes = append(attributes, slog.String("job", a.Job.String()))
	}
	if a.Refusal != "" {
		attributes = append(attributes, slog.String("refusal", string(a.Refusal)))
	}
	s.Log.LogAttrs(ctx, level, "request", attributes...)
}
