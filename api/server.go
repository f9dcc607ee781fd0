// Package api is the HTTP face of the service: routes, bodies, the envelope, who may call, and what a refusal of the database means to a
// caller. It knows the types of package db and no SQL.
package api

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"path"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
)

const (
	maxBodyBytes = 1 << 20
	bodyTimeout  = 15 * time.Second // to send all of a body

	// requestTimeout is what a request may take in all, waitTimeout what it may wait on top of that if the caller wishes (Prefer).
	requestTimeout = 25 * time.Second
	waitTimeout    = 30 * time.Second
)

// Config says what the API serves from and how.
type Config struct {
	DB            *db.DB
	Log           *slog.Logger
	RequireAPIKey bool
	Ready         func(context.Context) error // nil error: ready to serve
	Stopping      context.Context             // ends when requests are to wait no longer; nil: never

	Issuer         TokenSource                     // of bearer tokens that are JWTs; nil: there are none
	RatePerSecond  float64                         // requests that each client may make; 0: any number
	RateBurst      int                             // requests that a client may make at once; at least RatePerSecond
	BodyTimeout    time.Duration                   // to send all of a body; default 15 s
	RequestTimeout time.Duration                   // for an answer; default 25 s
	Metrics        http.Handler                    // of GET /metrics; nil: none
	Answered       func(context.Context, Answered) // told of every answer; nil: nobody is
}

type server struct {
	Config
	api     huma.API
	limiter *limiter // nil: no limit
}

// New makes the handler of everything the service answers.
func New(c Config) http.Handler {
	mux := http.NewServeMux()
	s := &server{Config: c, api: humago.New(mux, describe())}
	if c.RatePerSecond > 0 {
		s.limiter = newLimiter(c.RatePerSecond, c.RateBurst)
	}
	s.register()
	docs(mux)

	complete(s.api.OpenAPI()) // what is described is what is checked
	document := rendered()
	mux.HandleFunc("GET /openapi.json", document.serve("application/json", document.json))
	mux.HandleFunc("GET /openapi.yaml", document.serve("application/yaml", document.yaml))
	return s.serve(mux)
}

// Health makes the handler of a process that serves no API: whether it lives and is ready.
func Health(c Config) http.Handler {
	s := &server{Config: c}
	return s.serve(http.NewServeMux())
}

func (s *server) serve(mux *http.ServeMux) http.Handler {
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	if s.Metrics != nil {
		mux.Handle("GET /metrics", s.Metrics)
	}
	return s.identify(s.recover(exact(mux)))
}

func (s *server) register() {
	s.registerLicenses()
	s.registerServiceRequests()
	s.registerJobs()
	s.registerEvents()
}

var requestID = regexp.MustCompile(`^[A-Za-z0-9._:/+=-]{1,128}$`)

// identify gives the request its id, and the layers below what they may know of it.
func (s *server) identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get("X-Request-Id")
		if !requestID.MatchString(id) { // it is written to logs and headers
			id = uuid.NewString()
		}
		w.Header().Set("X-Request-Id", id)
		if r.ContentLength != 0 {
			http.NewResponseController(w).SetReadDeadline(time.Now().Add(cmp.Or(s.BodyTimeout, bodyTimeout))) //nolint:errcheck // a connection without deadlines is a test's
		}
		timeout := cmp.Or(s.RequestTimeout, requestTimeout)
		if r.Header.Get("Prefer") != "" {
			timeout += waitTimeout
		}
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		scheme := "http"
		if r.TLS != nil {
			scheme = "https"
		}
		note := &Answered{RequestID: id, Method: r.Method}
		ctx = context.WithValue(ctx, requestKey{}, request{id: id, url: scheme + "://" + r.Host + r.URL.RequestURI(), note: note})
		start := time.Now()
		seen := &statusRecorder{ResponseWriter: w}
		next.ServeHTTP(seen, r.WithContext(ctx))
		note.Code, note.Took = seen.status, time.Since(start)
		s.answered(ctx, r.URL.Path, *note)
	})
}

// statusRecorder remembers the status for the log.
type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (r *statusRecorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *statusRecorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// recover answers a panic with a 500, and keeps the stack in the log.
func (s *server) recover(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				s.Log.ErrorContext(r.Context(), "panic", "request_id", requestOf(r.Context()).id, "panic", p, "stack", string(debug.Stack()))
				internalError(r.Context()).write(w)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// exact serves only paths that are written as they are routed: ServeMux would redirect the others. It answers in the envelope where
// ServeMux answers in plain text.
func exact(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		if !strings.HasPrefix(r.URL.Path, "/") || path.Clean(r.URL.Path) != r.URL.Path {
			notFound(ctx, "Not found").write(w)
			return
		}
		handler, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		refusal := discarded{header: http.Header{}}
		handler.ServeHTTP(&refusal, r)
		if refusal.status == http.StatusMethodNotAllowed {
			failure(ctx, refusal.status, Fault{Type: "method_not_allowed", Message: "Method not allowed"}, "Allow", refusal.header.Get("Allow")).write(w)
			return
		}
		notFound(ctx, "Not found").write(w)
	})
}

// discarded takes an answer that is to be given in another form.
type discarded struct {
	header http.Header
	status int
}

func (d *discarded) Header() http.Header         { return d.header }
func (d *discarded) Write(p []byte) (int, error) { return len(p), nil }
func (d *discarded) WriteHeader(status int)      { d.status = status }

func (s *server) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, "ok\n") //nolint:errcheck // the caller has gone
}

func (s *server) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 3*time.Second)
	defer cancel()
	if err := s.Ready(ctx); err != nil {
		s.Log.WarnContext(ctx, "not ready", "error", err)
		unavailable(r.Context()).write(w)
		return
	}
	s.healthz(w, r)
}

// endpoint is one operation: who may call it, what it can answer, and what does the work.
type endpoint[I, O any] struct {
	huma.Operation
	scope         string
	bodyExample   any // of the request, if it has a body
	answerExample any // the data of a success; a slice: a list
	do            func(context.Context, db.Caller, *I) (*O, error)
}

// register adds an endpoint to the API. Everything that is the same for all stands here.
func register[I, O any](s *server, e endpoint[I, O]) {
	op := e.Operation
	op.Security = []map[string][]string{{"token": {e.scope}, "apiKey": {}}}
	op.Extensions = map[string]any{"x-required-scope": e.scope}
	op.MaxBodyBytes = maxBodyBytes + 1 // huma refuses a body of just that size; body has refused larger ones
	op.BodyReadTimeout = -1            // none: body has read it, and a deadline that passes later would cancel the request
	op.Middlewares = huma.Middlewares{func(ctx huma.Context, next func(huma.Context)) {
		_, w := humago.Unwrap(ctx)
		note := requestOf(ctx.Context()).note
		note.Operation, note.Route = op.OperationID, op.Path
		caller, fail := s.authorize(ctx, e.scope)
		if fail == nil {
			note.Client = caller.ClientID
			fail = s.limit(ctx.Context(), caller.ClientID, w)
		}
		if fail == nil {
			fail = acceptable(ctx)
		}
		if fail == nil {
			fail = body(ctx)
		}
		if fail != nil {
			fail.write(w)
			return
		}
		r, _ := humago.Unwrap(ctx)
		ctx = huma.WithValue(ctx, queryFaultsKey{}, queryFaults(r.URL.RawQuery, ctx.Operation().Parameters))
		ctx = huma.WithValue(ctx, callerKey{}, caller)
		ctx = huma.WithValue(ctx, preferKey{}, preferredWait(r.Header.Values("Prefer")))
		if op.Method == http.MethodGet {
			next(ctx)
			return
		}
		s.once(ctx, caller, next)
	}}
	if op.Method != http.MethodGet {
		op.Parameters = append(op.Parameters, idempotencyParameter())
	}
	if _, ok := any((*O)(nil)).(waits); ok {
		op.Parameters = append(op.Parameters, preferParameter())
	}
	describeErrors(s.api.OpenAPI(), &op)
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*O, error) {
		if len(queryFaultsOf(ctx)) > 0 {
			return nil, schemaFailure(ctx, nil)
		}
		out, err := e.do(ctx, ctx.Value(callerKey{}).(db.Caller), in)
		if err != nil {
			return nil, s.answer(ctx, op.OperationID, err)
		}
		return out, nil
	})
	describeExamples(s.api.OpenAPI(), &op, e.bodyExample, e.answerExample)
}

type callerKey struct{}

// answer turns what went wrong into what the caller is told. What is nobody's fault but ours stays in the log.
func (s *server) answer(ctx context.Context, operation string, err error) *Failure {
	var f *Failure
	if errors.As(err, &f) {
		return f
	}
	var r db.Refusal
	if errors.As(err, &r) {
		codes, codesErr := s.DB.AllowedCodes(ctx, r)
		if codesErr == nil {
			return refused(ctx, r, codes)
		}
		err = codesErr
	}
	log := s.Log.With("request_id", requestOf(ctx).id, "operation", operation, "error", err)
	switch {
	case errors.Is(err, context.Canceled):
		log.DebugContext(ctx, "the caller has gone")
		return unavailable(ctx)
	case db.Unavailable(err):
		log.WarnContext(ctx, "the database is not available")
		return unavailable(ctx)
	}
	log.ErrorContext(ctx, "request failed")
	return internalError(ctx)
}

// acceptable refuses, before anything is done, a caller that takes no JSON.
func acceptable(ctx huma.Context) *Failure {
	accept := ctx.Header("Accept")
	if accept == "" {
		return nil
	}
	for part := range strings.SplitSeq(accept, ",") {
		media, params, err := mime.ParseMediaType(part)
		if err == nil && (media == "*/*" || media == "application/*" || media == "application/json") && !zero(params["q"]) {
			return nil
		}
	}
	return failure(ctx.Context(), http.StatusNotAcceptable, Fault{Type: "content_type_invalid", Message: "Answers are application/json only"})
}

// zero tells a quality of nothing: 0, 0.0, 0.00, 0.000.
func zero(q string) bool { return q != "" && strings.Trim(q, "0.") == "" }

// body reads the body and refuses what is no JSON, so that everything behind it deals with JSON values only.
func body(ctx huma.Context) *Failure {
	r, w := humago.Unwrap(ctx)
	if r.Body == nil || r.Body == http.NoBody || ctx.Operation().RequestBody == nil {
		return nil
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	var limit *http.MaxBytesError
	switch {
	case errors.As(err, &limit):
		return tooLarge(ctx.Context())
	case err != nil:
		return malformed(ctx.Context(), "The body cannot be read")
	}
	http.NewResponseController(w).SetReadDeadline(time.Time{}) //nolint:errcheck // see identify
	r.Body = io.NopCloser(bytes.NewReader(data))
	if len(bytes.TrimSpace(data)) == 0 {
		r.Body = http.NoBody
		return nil
	}
	if contentType := r.Header.Get("Content-Type"); contentType != "" {
		if media, _, err := mime.ParseMediaType(contentType); err != nil || media != "application/json" {
			return unsupportedMediaType(ctx.Context())
		}
		r.Header.Set("Content-Type", "application/json") // huma knows it in this form only
	}
	if err := validJSON(data); err != nil {
		return malformed(ctx.Context(), "The body is not valid JSON: "+err.Error())
	}
	return nil
}
