package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/reiestr/reiestr/api"
	"github.com/reiestr/reiestr/api/rest"
	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/internal/dev/testdb"
	"github.com/reiestr/reiestr/migrations"
	"github.com/reiestr/reiestr/worker"
)

// TestMain makes the test binary an OIDC issuer when a test asks for one.
func TestMain(m *testing.M) {
	if os.Getenv("REIESTR_TEST_IS_ISSUER") == "1" {
		beIssuer()
		return
	}
	os.Exit(testdb.Main(m))
}

const allScopes = "license:read license:write service_request:read service_request:use " +
	"service_request:makeinprogress service_request:complete job:read event:read address:read"

// service is the whole service on a database of the test's own, over real HTTP, with one clinic that may do everything.
type service struct {
	t      testing.TB
	url    string
	app    *db.DB
	access *db.Access // as the owner
	owner  *pgx.Conn
	log    *bytes.Buffer

	handler http.Handler // without a connection

	clinic, user uuid.UUID
	token, key   string
}

// enoughPlaces for all requests of a test at once: a busy machine must not count as overloaded.
const enoughPlaces = 1000

type option func(*rest.Config)

func newService(t testing.TB, options ...option) *service {
	t.Helper()
	ctx := t.Context()
	database := testdb.New(t)
	s := &service{t: t, clinic: uuid.New(), user: uuid.New(), log: &bytes.Buffer{}}

	owner, err := db.Open(ctx, db.Config{URL: database.URL, Role: db.Owner, TimeZone: "Europe/Kyiv"})
	must(t, err)
	t.Cleanup(owner.Close)
	s.access = owner.Access
	s.owner, err = testdb.Connect(ctx, database.URL)
	must(t, err)
	t.Cleanup(func() { s.owner.Close(context.Background()) })
	s.app, err = db.Open(ctx, db.Config{URL: database.URL, Role: db.App, TimeZone: "Europe/Kyiv"})
	must(t, err)
	t.Cleanup(s.app.Close)

	config := rest.Config{
		DB: s.app, RequireAPIKey: true, Places: enoughPlaces, Log: slog.New(slog.NewTextHandler(&locked{w: s.log}, nil)),
		Ready: func(ctx context.Context) error { return s.app.Ready(ctx, migrations.Latest()) },
	}
	for _, o := range options {
		o(&config)
	}
	s.handler = api.New(config)
	s.url = serveHTTP(t, s.handler)

	s.legalEntity(s.clinic, "OUTPATIENT", "ACTIVE")
	s.token = s.issue(s.clinic, allScopes, time.Hour)
	s.key, err = s.access.IssueAPIKey(ctx, "test")
	must(t, err)
	return s
}

// serveHTTP serves until the test ends, and answers where.
func serveHTTP(t testing.TB, handler http.Handler) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	server := &httptest.Server{Listener: rest.Listener(listener), Config: &http.Server{
		Handler: handler, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}}
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}

// serving is the same service as another process with a database of its own connections.
func (s *service) serving(app *db.DB) *service {
	other := *s
	other.app = app
	other.url = serveHTTP(s.t, api.New(rest.Config{
		DB: app, RequireAPIKey: true, Places: enoughPlaces, Log: slog.New(slog.DiscardHandler),
	}))
	return &other
}

// work carries out jobs until the test ends.
func (s *service) work() *service {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	pool := worker.New(s.app, slog.New(slog.DiscardHandler), 2)
	go func() { pool.Run(ctx); close(done) }()
	s.t.Cleanup(func() { stop(); receive(s.t, done) })
	return s
}

func (s *service) sql(query string, args ...any) {
	s.t.Helper()
	_, err := s.owner.Exec(s.t.Context(), query, args...)
	must(s.t, err)
}

func (s *service) legalEntity(id uuid.UUID, kind, status string) {
	s.sql(`INSERT INTO prm.legal_entities (id, edrpou, name, type, status, inserted_by, updated_by)
		VALUES ($1, '12345678', 'Clinic', $2, $3, $4, $4)`,
		id, kind, status, s.user)
}

func (s *service) primaryLicense(legalEntity uuid.UUID) {
	s.sql(`INSERT INTO prm.licenses
		(legal_entity_id, type, is_primary, issued_by, issued_date, active_from_date, inserted_by, updated_by)
		VALUES ($1, 'MSP', true, 'Ministry', '2020-01-01', '2020-01-01', $2, $2)`, legalEntity, s.user)
}

// serviceRequest lays out an active service request of a programme; patient and id are answered.
func (s *service) serviceRequest(processingStatus string, holder uuid.NullUUID) (patient, id uuid.UUID) {
	patient, id = uuid.New(), uuid.New()
	s.sql(`INSERT INTO medical_events.service_requests
		(id, requisition, patient_id, status, program_id, program_processing_status, used_by_legal_entity_id, category,
			expiration_date, inserted_by, updated_by)
		VALUES ($1, 'R-1', $2, 'active', gen_random_uuid(), $3, $4, 'counselling', now() + interval '1 year', $5, $5)`,
		id, patient, processingStatus, holder, s.user)
	s.sql(`INSERT INTO medical_events.service_request_history (service_request_id, status, inserted_by)
		VALUES ($1, 'active', $2)`, id, s.user)
	s.sql(`INSERT INTO medical_events.service_request_history (service_request_id, program_processing_status, inserted_by)
		VALUES ($1, $2, $3)`, id, processingStatus, s.user)
	return patient, id
}

func (s *service) issue(legalEntity uuid.UUID, scopes string, ttl time.Duration) string {
	s.t.Helper()
	token, _, err := s.access.IssueToken(s.t.Context(), db.Caller{UserID: s.user, ClientID: legalEntity},
		strings.Fields(scopes), ttl)
	must(s.t, err)
	return token
}

// call is one request; zero values mean what a well-behaved client sends.
type call struct {
	method, path string
	body         string
	header       map[string]string // "": leave out
}

type answer struct {
	code   int
	header http.Header
	raw    string
	body   struct {
		Meta   rest.Meta       `json:"meta"`
		Paging *rest.Paging    `json:"paging"`
		Cursor string          `json:"cursor"`
		Data   json.RawMessage `json:"data"`
		Error  *struct {
			Type    string           `json:"type"`
			Message string           `json:"message"`
			Invalid []map[string]any `json:"invalid"`
		} `json:"error"`
	}
}

func (s *service) do(c call) answer {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), c.method, s.url+c.path, strings.NewReader(c.body))
	must(s.t, err)
	request.Header.Set("Authorization", "Bearer "+s.token)
	request.Header.Set("api-key", s.key)
	request.Header.Set("Content-Type", "application/json")
	for name, value := range c.header {
		if value == "" {
			request.Header.Del(name)
		} else {
			request.Header.Set(name, value)
		}
	}
	response, err := http.DefaultClient.Do(request)
	must(s.t, err)
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	must(s.t, err)
	a := answer{code: response.StatusCode, header: response.Header, raw: string(raw)}
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &a.body); err != nil {
			s.t.Fatalf("%s %s: not JSON: %s", c.method, c.path, raw)
		}
		checkEnvelope(s.t, a)
	}
	kept := "no-store"
	if a.header.Get("ETag") != "" {
		kept = "no-cache"
	}
	if got := a.header.Get("Cache-Control"); got != kept {
		s.t.Errorf("%s %s: Cache-Control %q", c.method, c.path, got)
	}
	request.Body = io.NopCloser(strings.NewReader(c.body))
	checkContract(s.t, request, a)
	return a
}

// checkEnvelope holds for every answer: meta, and either data or error; a list, and nothing else, has paging. Lists of
// dictionaries have none.
func checkEnvelope(t testing.TB, a answer) {
	t.Helper()
	if got := a.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type %q", got)
	}
	m := a.body.Meta
	kind := "object"
	if bytes.HasPrefix(a.body.Data, []byte("[")) {
		kind = "list"
	}
	isPart := kind == "list" && !strings.Contains(m.URL, "/dictionaries")
	if (a.body.Paging != nil || a.body.Cursor != "") != isPart {
		t.Errorf("paging: %s", a.raw)
	}
	// The answer of an earlier request bears that one's id.
	own := m.RequestID == a.header.Get("X-Request-Id") || a.header.Get("Idempotency-Replayed") != ""
	if m.Code != a.code || m.Type != kind || m.RequestID == "" || !own {
		t.Errorf("meta %+v of an answer %d with X-Request-Id %q", m, a.code, a.header.Get("X-Request-Id"))
	}
	if (a.body.Data == nil) == (a.body.Error == nil) {
		t.Errorf("data and error, or neither: %s", a.raw)
	}
	if a.code >= 400 && a.body.Error == nil {
		t.Errorf("no error in an answer %d: %s", a.code, a.raw)
	}
}

// refused expects an error answer.
func (s *service) refused(c call, code int, kind, message string) answer {
	s.t.Helper()
	a := s.do(c)
	if a.code != code || a.body.Error == nil || a.body.Error.Type != kind || a.body.Error.Message != message {
		s.t.Errorf("%s %s %s\n got %d %s\nwant %d %s %q", c.method, c.path, c.body, a.code, a.raw, code, kind, message)
	}
	return a
}

// invalid expects a 422 of the schema with exactly these places and rules, "entry rule description", in order.
func (s *service) invalid(c call, want ...string) {
	s.t.Helper()
	a := s.refused(c, 422, "validation_failed", "Validation failed. See error.invalid for every fault.")
	if a.body.Error == nil {
		return
	}
	var got []string
	for _, i := range a.body.Error.Invalid {
		for _, r := range i["rules"].([]any) {
			rule := r.(map[string]any)
			if rule["params"] == nil {
				s.t.Errorf("no params: %v", i)
			}
			got = append(got, i["entry"].(string)+" "+rule["rule"].(string)+" "+rule["description"].(string))
		}
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		s.t.Errorf("%s %s\n got %q\nwant %q", c.path, c.body, got, want)
	}
}

// ended waits for the end of a job and answers it.
func (s *service) ended(href string) map[string]any {
	s.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		a := s.do(call{method: "GET", path: href})
		if a.code != 200 {
			s.t.Fatalf("%s: %d %s", href, a.code, a.raw)
		}
		var job map[string]any
		must(s.t, json.Unmarshal(a.body.Data, &job))
		if job["status"] != "pending" {
			return job
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s is pending for ever", href)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// receive is <-c with a bound: a test that waits in vain fails, and does not stop the tests of the package.
func receive[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(time.Minute):
		t.Fatal("nothing received within a minute")
		panic("unreachable")
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// locked lets the server's goroutines share one log.
type locked struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
