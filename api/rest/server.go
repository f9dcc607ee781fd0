// Package rest holds the HTTP conventions that all resources share: the envelope, faults, JSON values, the query,
// Prefer, idempotency keys, limits, authentication, and the OpenAPI document. It knows no resource and no SQL.
package rest

import (
	"cmp"
	"context"
	"net/http"
	"path"
	"runtime/debug"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/google/uuid"
)

const (
	bodyTimeout = 15 * time.Second // to send all of a body

	// requestTimeout bounds a request. waitTimeout is added to it if the caller asks to wait (Prefer).
	requestTimeout = 25 * time.Second
	waitTimeout    = 30 * time.Second
)

// Server holds the things that all endpoints share.
type Server struct {
	Config
	api         huma.API
	mux         *http.ServeMux
	limiter     *limiter // nil: no limit
	reads       *places  // apart from those of commands, so that commands that wait for a lock keep no reads from places
	commands    *places
	open        *places // of requests that need no credentials: they keep no caller with credentials from a place
	errors      translator
	idempotency idempotency
}

// New makes a server without endpoints; Register adds them. refused answers the refusals of the database.
func New(c Config, about About, refused Refused) *Server {
	mux := http.NewServeMux()
	s := &Server{Config: c, api: humago.New(mux, about.config()), mux: mux}
	most := c.Places
	if most == 0 && c.DB != nil { // without a database only the document is made
		most = placesPerConnection * int(c.DB.Pool().MaxConns())
	}
	s.reads, s.commands = newPlaces(most), newPlaces(most+c.LockWaiters)
	s.open = newPlaces(max(1, most/8))
	s.errors = translator{&s.Config, refused}
	s.idempotency = idempotency{&s.Config, s.errors}
	if c.RatePerSecond > 0 {
		s.limiter = newLimiter(c.RatePerSecond, c.RateBurst)
	}
	return s
}

// OpenAPI completes the document of all endpoints. It is called once, after the last one was registered.
func (s *Server) OpenAPI() *huma.OpenAPI {
	complete(s.api.OpenAPI())
	return s.api.OpenAPI()
}

// Handler serves the endpoints, the document that describes them, a console, and the paths for operators.
func (s *Server) Handler(document Document) http.Handler {
	complete(s.api.OpenAPI()) // requests are checked against the document
	docs(s.mux)
	document.route(s.mux)
	return s.serve(s.mux)
}

// Health makes the handler of a process that serves no API: it answers whether the process lives and is ready.
func Health(c Config) http.Handler {
	s := &Server{Config: c}
	return s.serve(http.NewServeMux())
}

func (s *Server) serve(mux *http.ServeMux) http.Handler {
	mux.HandleFunc("GET /healthz", healthz)
	mux.HandleFunc("GET /readyz", readyz(&s.Config))
	if s.Metrics != nil {
		mux.Handle("GET /metrics", s.Metrics)
	}
	return s.identify(s.recover(exact(mux)))
}

// identify gives the request its id, its deadlines and the description that the handlers add to.
func (s *Server) identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get("X-Request-Id")
		if !requestID.MatchString(id) { // it is written to logs and headers
			id = uuid.NewString()
		}
		w.Header().Set("X-Request-Id", id)
		w.Header().Set("Cache-Control", "no-store") // answers hold personal data, and requests name patients
		if len(r.TransferEncoding) > 0 {
			w.Header().Set("Connection", "close") // framing sees no further heads on this connection
		}
		if r.ContentLength != 0 {
			deadline := time.Now().Add(cmp.Or(s.BodyTimeout, bodyTimeout))
			http.NewResponseController(w).SetReadDeadline(deadline) //nolint:errcheck // only in tests it has no deadlines
		}
		timeout := cmp.Or(s.RequestTimeout, requestTimeout)
		if r.Header.Get("Prefer") != "" {
			timeout += waitTimeout
		}
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		note := &Answered{RequestID: id, Method: r.Method}
		ctx = context.WithValue(ctx, requestKey{}, request{id: id, url: s.TrustedProxies.urlOf(r), note: note})
		start := time.Now()
		seen := &statusRecorder{ResponseWriter: w}
		next.ServeHTTP(seen, r.WithContext(ctx))
		note.Code, note.Took = cmp.Or(seen.status, http.StatusOK), time.Since(start)
		if s.Answered != nil {
			s.Answered(ctx, *note)
		}
		logAnswer(ctx, s.Log, r.URL.Path, *note)
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

// recover answers a panic with 500 and logs its stack.
func (s *Server) recover(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				s.Log.ErrorContext(r.Context(), "panic", "request_id", RequestID(r.Context()), "panic", p,
					"stack", string(debug.Stack()))
				internalError(r.Context()).write(w)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// exact serves only paths that are written exactly as they are routed; ServeMux would redirect others. It answers in
// the envelope where ServeMux answers in plain text.
func exact(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		if !strings.HasPrefix(r.URL.Path, "/") || path.Clean(r.URL.Path) != r.URL.Path {
			NotFound(ctx, "Not found").write(w)
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
			fault := Fault{Type: "method_not_allowed", Message: "Method not allowed"}
			Fail(ctx, refusal.status, fault, "Allow", refusal.header.Get("Allow")).write(w)
			return
		}
		NotFound(ctx, "Not found").write(w)
	})
}

// discarded takes the status and the headers of an answer of ServeMux, of which the envelope is made.
type discarded struct {
	header http.Header
	status int
}

func (d *discarded) Header() http.Header         { return d.header }
func (d *discarded) Write(p []byte) (int, error) { return len(p), nil }
func (d *discarded) WriteHeader(status int)      { d.status = status }
