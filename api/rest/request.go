package rest

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"regexp"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
)

// requestID is the form of an X-Request-Id that is taken over: it is written to logs and headers.
var requestID = regexp.MustCompile(`^[A-Za-z0-9._:/+=-]{1,128}$`)

// Answered describes a request that has been answered, for logs and metrics. It has no path, query, header or body,
// because those hold personal data.
type Answered struct {
	RequestID string
	Method    string
	Operation string     // operationId; "": the request reached no operation of the API
	Route     string     // with the names of its parameters, e.g. /api/jobs/{id}
	Client    uuid.UUID  // legal entity of the caller; zero: not known
	Job       uuid.UUID  // the job that the request created; zero: none
	Refusal   db.Refusal // the rule that refused the request; "": none
	Code      int
	Took      time.Duration

	IgnoredKeys []string // of the body, which its schema does not know; at most 20, odd ones as OtherKey
}

// request describes the request under way to the handlers.
type request struct {
	id   string
	url  string
	note *Answered // the handlers add what they learn
}

type requestKey struct{}

func requestOf(ctx context.Context) request {
	r, _ := ctx.Value(requestKey{}).(request)
	if r.note == nil { // net/http refused the request before a handler saw it
		r.note = &Answered{}
	}
	return r
}

// Note is the description of the request under way. A handler adds what it learns.
func Note(ctx context.Context) *Answered { return requestOf(ctx).note }

// RequestID is the id of the request under way, for logs.
func RequestID(ctx context.Context) string { return requestOf(ctx).id }

// Quiet reports whether a path is one that machines ask every few seconds. Such a request gets no log line at the usual
// level and no trace.
func Quiet(path string) bool { return path == "/healthz" || path == "/readyz" || path == "/metrics" }

// logAnswer writes the log line of an answered request.
func logAnswer(ctx context.Context, log *slog.Logger, path string, a Answered) {
	a.Code = cmp.Or(a.Code, http.StatusOK)
	level := slog.LevelInfo
	if Quiet(path) {
		level = slog.LevelDebug
	}
	attributes := []slog.Attr{slog.String("request_id", a.RequestID), slog.String("method", a.Method),
		slog.String("route", a.Route), slog.Int("code", a.Code), slog.Duration("took", a.Took)}
	if a.Client != uuid.Nil {
		attributes = append(attributes, slog.String("client", a.Client.String()))
	}
	if a.Job != uuid.Nil {
		attributes = append(attributes, slog.String("job", a.Job.String()))
	}
	if a.Refusal != "" {
		attributes = append(attributes, slog.String("refusal", string(a.Refusal)))
	}
	if len(a.IgnoredKeys) > 0 {
		attributes = append(attributes, slog.String("operation", a.Operation), slog.Any("ignored_keys", a.IgnoredKeys))
	}
	log.LogAttrs(ctx, level, "request", attributes...)
}
