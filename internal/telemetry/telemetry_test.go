package telemetry_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/reiestr/reiestr/api"
	"github.com/reiestr/reiestr/api/rest"
	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/internal/dev/testdb"
	"github.com/reiestr/reiestr/internal/telemetry"
	"github.com/reiestr/reiestr/migrations"
	"github.com/reiestr/reiestr/worker"
)

func TestMain(m *testing.M) { os.Exit(testdb.Main(m)) }

// service is the whole service with its telemetry, and one clinic.
type service struct {
	t            testing.TB
	url          string
	owner        *pgx.Conn
	log          *lockedBuffer
	spans        *tracetest.InMemoryExporter
	clinic, user uuid.UUID
	token, key   string
}

func newService(t testing.TB) *service {
	t.Helper()
	ctx := t.Context()
	database := testdb.New(t)
	s := &service{t: t, log: &lockedBuffer{}, spans: tracetest.NewInMemoryExporter(), clinic: uuid.New(), user: uuid.New()}
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(s.spans))
	log := slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	observed := telemetry.New(log, provider)

	owner, err := db.Open(ctx, db.Config{URL: database.URL, Role: db.Owner, TimeZone: "Europe/Kyiv"})
	must(t, err)
	t.Cleanup(owner.Close)
	app, err := db.Open(ctx, db.Config{URL: database.URL, TimeZone: "Europe/Kyiv", Observer: observed,
		Tracer: observed.Tracer()})
	must(t, err)
	t.Cleanup(app.Close)
	s.owner, err = testdb.Connect(ctx, database.URL)
	must(t, err)
	t.Cleanup(func() { s.owner.Close(context.Background()) })
	s.sql(`INSERT INTO prm.legal_entities (id, edrpou, name, type, status, inserted_by, updated_by)
		VALUES ($1, '12345678', 'Clinic', 'OUTPATIENT', 'ACTIVE', $2, $2)`, s.clinic, s.user)
	scopes := strings.Fields("license:write service_request:read service_request:use job:read")
	s.token, _, err = owner.Access.IssueToken(ctx, db.Caller{UserID: s.user, ClientID: s.clinic}, scopes, time.Hour)
	must(t, err)
	s.key, err = owner.Access.IssueAPIKey(ctx, "test")
	must(t, err)

	handler := api.New(rest.Config{
		DB: app, Log: log, RequireAPIKey: true, Answered: observed.Answered, Metrics: observed.Metrics(app),
		Ready: func(ctx context.Context) error { return app.Ready(ctx, migrations.Latest()) },
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	server := &httptest.Server{Listener: rest.Listener(listener), Config: &http.Server{Handler: observed.Handler(handler)}}
	server.Start()
	t.Cleanup(server.Close)
	s.url = server.URL

	working, stop := context.WithCancel(context.Background())
	pool := worker.New(app, log, 2)
	var running sync.WaitGroup
	running.Go(func() { pool.Run(working) })
	t.Cleanup(func() { stop(); running.Wait() })
	return s
}

func (s *service) sql(query string, args ...any) {
	s.t.Helper()
	_, err := s.owner.Exec(s.t.Context(), query, args...)
	must(s.t, err)
}

// reserved is a service request that the clinic holds.
func (s *service) reserved() (patient, id uuid.UUID) {
	patient, id = uuid.New(), uuid.New()
	s.sql(`INSERT INTO medical_events.service_requests
		(id, requisition, patient_id, status, program_id, program_processing_status, used_by_legal_entity_id, category,
		 expiration_date, inserted_by, updated_by)
		VALUES ($1, 'R-SECRET-1', $2, 'active', gen_random_uuid(), 'in_queue', $3, 'counselling', now() + interval '1 year',
			$4, $4)`, id, patient, s.clinic, s.user)
	return patient, id
}

// call sends a request. It is sent again if the busy machine let its time run out.
func (s *service) call(method, path, body string, header ...string) (code int, text string) {
	s.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; {
		code, text = s.send(method, path, body, header...)
		if code != http.StatusServiceUnavailable || time.Now().After(deadline) {
			return code, text
		}
	}
}

func (s *service) send(method, path, body string, header ...string) (code int, text string) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	must(s.t, err)
	request.Header.Set("Authorization", "Bearer "+s.token)
	request.Header.Set("api-key", s.key)
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	must(s.t, err)
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	must(s.t, err)
	return response.StatusCode, string(raw)
}

var jobHref = regexp.MustCompile(`/api/jobs/[0-9a-f-]{36}`)

// release asks for a release and waits for the end of its job, which is answered with its id.
func (s *service) release(id uuid.UUID, header ...string) (job, end string) {
	s.t.Helper()
	code, body := s.call("PATCH", "/api/service_requests/"+id.String()+"/actions/release", "", header...)
	if code != 202 {
		s.t.Fatalf("%d %s", code, body)
	}
	href := jobHref.FindString(body)
	s.until("the job ends", func() bool {
		_, end = s.call("GET", href, "")
		return !strings.Contains(end, `"pending"`)
	})
	return strings.TrimPrefix(href, "/api/jobs/"), end
}

func (s *service) until(what string, is func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !is() {
		if time.Now().After(deadline) {
			s.t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestStatementsLeadToTheirTrace: a statement of a sampled request carries the traceparent, which pg_stat_activity
// shows.
func TestStatementsLeadToTheirTrace(t *testing.T) {
	t.Parallel()
	s := newService(t)
	holder, err := pgx.ConnectConfig(t.Context(), s.owner.Config())
	must(t, err)
	t.Cleanup(func() { holder.Close(context.Background()) })
	const body = `{"type": "PHARMACY_DRUGS", "is_primary": false, "issued_by": "MOZ",
		"issued_date": "2020-01-01", "active_from_date": "2020-01-01"}`
	for flags, want := range map[string]string{
		"01": "/*traceparent='00-4bf92f3577b34da6a3ce929d0e0e4736-________________-01'*/;SELECT /* LockLegalEntities */ %",
		"00": "SELECT /* LockLegalEntities */ %",
	} {
		tx, err := holder.Begin(t.Context())
		must(t, err)
		_, err = tx.Exec(t.Context(), `LOCK TABLE prm.legal_entities IN EXCLUSIVE MODE`)
		must(t, err)
		answered := make(chan int, 1)
		go func() {
			code, _ := s.call("POST", "/api/licenses", body, "traceparent",
				"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-"+flags)
			answered <- code
		}()
		var query string
		s.until("the request waits", func() bool {
			// PostgreSQL reads the query before the wait event: without its name it could be the statement before.
			err := s.owner.QueryRow(t.Context(), `SELECT query FROM pg_stat_activity WHERE datname = current_database()
				AND wait_event_type = 'Lock' AND query LIKE '%LockLegalEntities%'`).Scan(&query)
			return err == nil
		})
		var like bool
		must(t, s.owner.QueryRow(t.Context(), `SELECT $1 LIKE $2`, query, want).Scan(&like))
		if !like {
			t.Errorf("flags %s: %s", flags, query)
		}
		must(t, tx.Rollback(t.Context()))
		if code := receive(t, answered); code < 400 || code >= 500 { // a clinic without a primary licence
			t.Errorf("flags %s: code %d", flags, code)
		}
	}
	names := map[string]bool{}
	for _, span := range s.spans.GetSpans() {
		names[span.Name] = true
	}
	for _, name := range []string{"LockLegalEntities", "CreateLicenses", "BEGIN"} {
		if !names[name] {
			t.Errorf("no span %s among %v", name, names)
		}
	}
}

// TestOneTrace: the request and its job, up to the commit, belong to the caller's trace.
func TestOneTrace(t *testing.T) {
	t.Parallel()
	s := newService(t)
	patient, id := s.reserved()
	const caller = "4bf92f3577b34da6a3ce929d0e0e4736"
	job, end := s.release(id, "traceparent", "00-"+caller+"-00f067aa0ba902b7-01")
	if !strings.Contains(end, `"processed"`) {
		t.Fatal(end)
	}
	var spans []tracetest.SpanStub
	s.until("the spans have ended", func() bool {
		spans = slices.DeleteFunc(s.spans.GetSpans(),
			func(span tracetest.SpanStub) bool { return span.SpanContext.TraceID().String() != caller })
		return slices.ContainsFunc(spans, func(span tracetest.SpanStub) bool { return span.Name == "job release" }) &&
			slices.ContainsFunc(spans, func(span tracetest.SpanStub) bool { return strings.HasPrefix(span.Name, "PATCH ") })
	})
	byName := map[string]tracetest.SpanStub{}
	children := map[trace.SpanID]int{}
	for _, span := range spans {
		byName[span.Name] = span
		children[span.Parent.SpanID()]++
	}
	request := byName["PATCH /api/service_requests/{service_request_id}/actions/release"]
	worked := byName["job release"]
	if request.Parent.SpanID().String() != "00f067aa0ba902b7" || worked.Parent.SpanID() != request.SpanContext.SpanID() {
		t.Errorf("request's parent %v, job's parent %v, request %v", request.Parent.SpanID(), worked.Parent.SpanID(),
			request.SpanContext.SpanID())
	}
	if children[worked.SpanContext.SpanID()] == 0 || children[request.SpanContext.SpanID()] < 2 {
		t.Errorf("statements are missing: %v", children)
	}
	if !slices.Contains(worked.Attributes, attribute.String("reiestr.job", job)) {
		t.Errorf("job %s: %v", job, worked.Attributes)
	}
	var committed time.Time
	must(t, s.owner.QueryRow(t.Context(), `SELECT ended_at FROM ops.jobs WHERE id = $1`, job).Scan(&committed))
	if worked.EndTime.Before(committed) {
		t.Errorf("the job's span ends at %v, before the end of the job at %v", worked.EndTime, committed)
	}

	// Neither a patient nor a secret is in any span.
	search := "/api/patients/" + patient.String() + "/service_requests/" + id.String() + "?requisition=R-SECRET-1"
	if code, _ := s.call("GET", search, ""); code != 422 {
		t.Errorf("code %d", code)
	}
	if code, _ := s.call("GET", "/api/patients/"+patient.String()+"/service_requests/"+id.String(), ""); code != 200 {
		t.Errorf("code %d", code)
	}
	all := fmt.Sprintf("%+v", s.spans.GetSpans().Snapshots())
	for _, secret := range []string{patient.String(), s.token, s.key, "R-SECRET-1"} {
		for _, span := range s.spans.GetSpans().Snapshots() {
			for _, a := range span.Attributes() {
				if strings.Contains(a.Value.String(), secret) {
					t.Errorf("%s: %s holds %s", span.Name(), a.Key, secret)
				}
			}
		}
		if strings.Contains(all, secret) {
			t.Errorf("a span holds %s", secret)
		}
	}
	// Only requests begin traces.
	for _, span := range s.spans.GetSpans() {
		if !span.Parent.IsValid() && span.SpanKind != trace.SpanKindServer {
			t.Errorf("%s is the root of a trace", span.Name)
		}
	}
}

// TestSpansTakeNoAddressFromHeaders: any caller can send X-Forwarded-For and the like. A span shows the peer of the
// connection.
func TestSpansTakeNoAddressFromHeaders(t *testing.T) {
	t.Parallel()
	s := newService(t)
	const invented = "203.0.113.9"
	s.call("GET", "/api/licenses", "", "X-Forwarded-For", invented, "X-Real-IP", invented, "Forwarded", "for="+invented)
	var request tracetest.SpanStub
	s.until("the span has ended", func() bool {
		for _, span := range s.spans.GetSpans() {
			if span.Name == "GET /api/licenses" {
				request = span
				return true
			}
		}
		return false
	})
	for _, a := range request.Attributes {
		if strings.Contains(a.Value.String(), invented) {
			t.Errorf("%s holds %s", a.Key, invented)
		}
	}
	if !slices.Contains(request.Attributes, attribute.String("client.address", "127.0.0.1")) {
		t.Errorf("the peer is missing: %v", request.Attributes)
	}
}

// TestBatchTraces: the span of each job of a batch belongs to the trace of its acceptance. The statements belong to the
// span of the first job, to which the other spans have a link.
func TestBatchTraces(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	observed := telemetry.New(slog.New(slog.DiscardHandler), provider)
	runs := make([]db.JobRun, 3)
	for i := range runs {
		ctx, span := provider.Tracer("test").Start(t.Context(), "request")
		runs[i] = db.JobRun{ID: uuid.New(), Action: db.Use, Trace: observed.Trace(ctx)}
		span.End()
	}
	runs = append(runs, db.JobRun{ID: uuid.New(), Action: db.Use},
		db.JobRun{ID: uuid.New(), Action: db.Use, Trace: "junk"})
	ctx, end := observed.Jobs(t.Context(), runs)
	if got := trace.SpanContextFromContext(ctx).TraceID().String(); !strings.Contains(runs[0].Trace, got) {
		t.Errorf("the statements are in trace %s", got)
	}
	runs[1].Refusal = db.StatusInvalid
	end(nil)
	jobs := slices.DeleteFunc(spans.GetSpans(), func(s tracetest.SpanStub) bool { return s.Name != "job use" })
	if len(jobs) != 3 {
		t.Fatalf("%d spans of jobs", len(jobs))
	}
	for i, job := range jobs {
		if !strings.Contains(runs[i].Trace, job.SpanContext.TraceID().String()) || (len(job.Links) == 1) != (i > 0) {
			t.Errorf("%d: trace %s of %s, links %v", i, job.SpanContext.TraceID(), runs[i].Trace, job.Links)
		}
	}
	if !slices.Contains(jobs[1].Attributes, attribute.String("reiestr.refusal", "status_invalid")) {
		t.Errorf("attributes %v", jobs[1].Attributes)
	}
}

// counter counts the statements that contain a text.
type counter struct {
	text string
	seen atomic.Int64
}

func (c *counter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if strings.Contains(data.SQL, c.text) {
		c.seen.Add(1)
	}
	return ctx
}

func (c *counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TestScrapesCountTheQueueOnceASecond: scrapes need no token, so many scrapes must not become many queries.
func TestScrapesCountTheQueueOnceASecond(t *testing.T) {
	t.Parallel()
	queries := &counter{text: "MeasureQueue"}
	app, err := db.Open(t.Context(), db.Config{URL: testdb.New(t).URL, TimeZone: "Europe/Kyiv", Tracer: queries})
	must(t, err)
	t.Cleanup(app.Close)
	_, err = app.Jobs.Queue(t.Context()) // opens a connection, which may take longer than a scrape waits
	must(t, err)
	queries.seen.Store(0)
	handler := telemetry.New(slog.New(slog.DiscardHandler), nil).Metrics(app)
	var counted atomic.Int64
	scrape := func() {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", http.NoBody))
		if answer.Code != 200 {
			t.Errorf("%d %s", answer.Code, answer.Body)
		}
		if strings.Contains(answer.Body.String(), "\nreiestr_queue_jobs 0\n") {
			counted.Add(1)
		}
	}
	start := time.Now()
	var running sync.WaitGroup
	for range 300 {
		running.Go(scrape)
	}
	running.Wait()
	// On a busy machine a query may take longer than a scrape waits: then the scrapes have no number for a second.
	for end := start.Add(time.Minute); counted.Load() == 0 && time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		scrape()
	}
	if counted.Load() == 0 {
		t.Error("no scrape has the number of jobs")
	}
	took := time.Since(start)
	if asked := queries.seen.Load(); asked < 1 || asked > 1+int64(took/time.Second) {
		t.Errorf("asked %d times in %v", asked, took)
	}
}

// TestMetrics: the metrics after some requests and jobs, read without a token. docs/metrics.md explains every name.
func TestMetrics(t *testing.T) {
	t.Parallel()
	s := newService(t)
	_, id := s.reserved()
	s.release(id)
	if code, _ := s.call("PATCH", "/api/service_requests/"+id.String()+"/actions/release", ""); code != 409 {
		t.Errorf("second release: %d", code)
	}
	s.call("POST", "/api/licenses", `{"type": "MSP", "is_primary": false, "issued_by": "I",
		"issued_date": "2020-01-01", "active_from_date": "2020-01-01", "licence_number": "1"}`)
	s.call("GET", "/nothing", "")
	// A pending job: its service request is locked.
	_, held := s.reserved()
	holder, err := s.owner.Begin(t.Context())
	must(t, err)
	_, err = holder.Exec(t.Context(), `SELECT FROM medical_events.service_requests WHERE id = $1 FOR UPDATE`, held)
	must(t, err)
	if code, body := s.call("PATCH", "/api/service_requests/"+held.String()+"/actions/release", ""); code != 202 {
		t.Errorf("%d %s", code, body)
	}
	code, text := s.call("GET", "/metrics", "", "Authorization", "", "api-key", "")
	must(t, holder.Rollback(t.Context()))
	if code != 200 {
		t.Fatalf("%d %s", code, text)
	}
	for _, line := range []string{
		`reiestr_http_request_duration_seconds_count{code="202",operation="releaseServiceRequest"} 2`,
		`reiestr_http_request_duration_seconds_count{code="409",operation="releaseServiceRequest"} 1`,
		`reiestr_http_request_duration_seconds_count{code="404",operation="none"} 1`,
		`reiestr_refusals_total{operation="releaseServiceRequest",refusal="processing_status_invalid"} 1`,
		`reiestr_ignored_keys_total{key="licence_number",operation="createLicense"} 1`,
		`reiestr_jobs_ended_total{action="release",refusal="",status="processed"} 1`,
		`reiestr_transaction_duration_seconds_count{outcome="committed",transaction="create licenses"} 1`,
		`reiestr_transaction_retries_total{transaction="create licenses"} 0`,
		`reiestr_worker_batch_jobs_count{outcome="committed"} 1`,
		`reiestr_queue_jobs 1`,
		`reiestr_pool_connections_max`,
		`reiestr_pool_waits_total`,
	} {
		if !strings.Contains(text, "\n"+line) {
			t.Errorf("no line %s", line)
		}
	}
	if strings.Contains(text, "\nreiestr_queue_oldest_seconds 0\n") {
		t.Error("the oldest job has no age")
	}
	docs, err := os.ReadFile("../../docs/metrics.md")
	must(t, err)
	names := regexp.MustCompile(`(?m)^# TYPE (reiestr_\w+) `).FindAllStringSubmatch(text, -1)
	if len(names) == 0 {
		t.Error("no metrics")
	}
	for _, name := range names {
		if !strings.Contains(string(docs), "`"+name[1]+"`") {
			t.Errorf("docs/metrics.md does not explain %s", name[1])
		}
	}
	for _, name := range regexp.MustCompile("`(reiestr_\\w+)`").FindAllStringSubmatch(string(docs), -1) {
		if !strings.Contains(text, "# TYPE "+name[1]+" ") {
			t.Errorf("docs/metrics.md explains %s, which is not served", name[1])
		}
	}
}

// TestLogIsDiscreet: at level debug the log shows routes, codes and jobs, but no personal data and no secrets.
func TestLogIsDiscreet(t *testing.T) {
	t.Parallel()
	s := newService(t)
	patient, id := s.reserved()
	job, _ := s.release(id)
	read := "/api/patients/" + patient.String() + "/service_requests/" + id.String()
	for _, c := range []struct{ method, path, body string }{
		{"GET", read, ""},
		{"GET", read + "?requisition=R-SECRET-1", ""},
		{"GET", "/api/patients/" + patient.String() + "/service_requests/nonsense", ""},
		{"GET", "/api/patients/" + patient.String() + "/unknown", ""},
		{"DELETE", read, ""},
		{"GET", "/api//" + patient.String(), ""},
		{"POST", "/api/licenses", `{"issued_by": "NAME-SECRET"`},
		{"POST", "/api/licenses", `{"type": "X", "is_primary": false, "issued_by": "NAME-SECRET",
			"issued_date": "2020-01-01", "active_from_date": "2020-01-01"}`},
		{"PATCH", "/api/service_requests/" + id.String() + "/actions/release", ""},
		{"PATCH", "/api/service_requests/" + id.String() + "/actions/use",
			`{"used_by_legal_entity": {"identifier": {"value": "NAME-SECRET"}}}`},
		{"GET", "/healthz", ""},
	} {
		s.call(c.method, c.path, c.body)
		s.call(c.method, c.path, c.body, "Authorization", "Bearer TOKEN-SECRET", "api-key", "KEY-SECRET")
		s.call(c.method, c.path, c.body, "Authorization", "Bearer TOKEN-SECRET.a.b")
		s.call(c.method, c.path, c.body, "api-key", "KEY-SECRET")
	}
	s.sql(`ALTER TABLE ops.events ADD CONSTRAINT broken CHECK (false) NOT VALID`)
	_, broken := s.reserved()
	if code, body := s.call("PATCH", "/api/service_requests/"+broken.String()+"/actions/release", ""); code != 202 {
		t.Errorf("%d %s", code, body)
	}
	s.until("the failure is logged", func() bool {
		return strings.Contains(s.log.String(),
			"a job made its transaction fail")
	})
	log := s.log.String()
	for _, secret := range []string{s.token, s.key, "SECRET", patient.String(), s.user.String()} {
		if at := strings.Index(log, secret); at >= 0 {
			t.Errorf("the log holds %s: %s", secret, log[max(0, at-200):at+100])
		}
	}
	line := func(want ...string) {
		t.Helper()
		for l := range strings.SplitSeq(log, "\n") {
			if !slices.ContainsFunc(want, func(w string) bool { return !strings.Contains(l, w) }) {
				return
			}
		}
		t.Errorf("no line with %q", want)
	}
	line(`"level":"INFO"`, `"msg":"request"`, `"route":"/api/patients/{patient_id}/service_requests/{id}"`, `"code":200`,
		`"client":"`+s.clinic.String())
	line(`"level":"INFO"`, `"msg":"request"`, `"code":202`, `"job":"`+job, `"request_id":"`)
	line(`"level":"INFO"`, `"msg":"job ended"`, `"job":"`+job, `"action":"release"`)
	line(`"level":"DEBUG"`, `"msg":"request"`, `"route":""`, `"code":200`)
	line(`"msg":"request"`, `"code":409`, `"refusal":"processing_status_invalid"`)
}

// TestExport: traces are sent to the collector that the standard variables name. Without one there are no traces.
func TestExport(t *testing.T) {
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SDK_DISABLED",
		"OTEL_TRACES_EXPORTER"} {
		t.Setenv(name, "")
	}
	log := slog.New(slog.DiscardHandler)
	if provider, err := telemetry.Export(t.Context(), log, "v"); provider != nil || err != nil {
		t.Errorf("without a collector: %v %v", provider, err)
	}
	if telemetry.New(log, nil).Tracer() != nil {
		t.Error("there is a tracer although nothing is traced")
	}
	received := make(chan string, 1)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		received <- r.URL.Path + " " + string(body)
	}))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	provider, err := telemetry.Export(t.Context(), log, "v")
	must(t, err)
	_, span := provider.Tracer("test").Start(t.Context(), "a span of the test")
	span.End()
	must(t, provider.Shutdown(t.Context()))
	got := receive(t, received)
	if !strings.HasPrefix(got, "/v1/traces ") || !strings.Contains(got, "a span of the test") ||
		!strings.Contains(got, "reiestr") {
		t.Errorf("received %q", got)
	}
	t.Setenv("OTEL_SDK_DISABLED", "true")
	if provider, err := telemetry.Export(t.Context(), log, "v"); provider != nil || err != nil {
		t.Errorf("switched off: %v %v", provider, err)
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

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }
