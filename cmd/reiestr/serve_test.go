package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/internal/dev/testdb"
)

var httpCode = regexp.MustCompile(`(?m)^HTTP (\d+)$`)

// pasteDemo pastes the calls that `serve --demo` prints into a shell, checks the answers, and returns the calls.
func (p *process) pasteDemo() (calls string) {
	p.t.Helper()
	calls, answers := p.pasteCalls("# 7.", `^201 409 202( 200)+ 202( 200)+ 200 200$`)
	p.hasEveryState(answers)
	return calls
}

// pasteCalls waits until the call with the heading last is printed, pastes all printed calls into a shell, and compares
// the status codes with the pattern.
func (p *process) pasteCalls(last, wantCodes string) (calls, answers string) {
	p.t.Helper()
	p.await(last)
	eventually(p.t, "all calls are printed", func() bool { return strings.HasSuffix(p.stdout(), "\n\n") })
	_, calls, _ = strings.Cut(p.stdout(), "\n")
	shell := exec.Command("bash", "-euo", "pipefail")
	shell.Stdin = strings.NewReader(calls)
	output, err := shell.CombinedOutput()
	if err != nil {
		p.t.Fatalf("%v\n%s\n%s", err, calls, output)
	}
	var codes []string
	for _, m := range httpCode.FindAllStringSubmatch(string(output), -1) {
		codes = append(codes, m[1])
	}
	// The calls poll a job until it has ended, so the number of 200s varies.
	if got := strings.Join(codes, " "); !regexp.MustCompile(wantCodes).MatchString(got) {
		p.t.Errorf("answers %s\n%s", got, output)
	}
	if n := strings.Count(string(output), `"status":"processed"`); n != 2 {
		p.t.Errorf("%d jobs processed\n%s", n, output)
	}
	return calls, string(output)
}

// hasEveryState expects that one of the answers lists service requests in every state, and that two of them have
// expired.
func (p *process) hasEveryState(answers string) {
	p.t.Helper()
	type request struct {
		Status     string
		Processing string    `json:"program_processing_status"`
		Expires    time.Time `json:"expiration_date"`
	}
	var list struct{ Data []request }
	for line := range strings.Lines(answers) {
		if strings.Contains(line, `"type":"list"`) {
			must(p.t, json.Unmarshal([]byte(line), &list))
		}
	}
	expired, seen := 0, map[[2]string]bool{}
	for _, r := range list.Data {
		seen[[2]string{r.Status, r.Processing}] = true
		if r.Expires.Before(time.Now()) {
			expired++
		}
	}
	if want := len(demoStatuses) * len(demoProcessing); len(seen) != want || len(list.Data) != want+3 || expired != 2 {
		p.t.Errorf("%d service requests, %d expired, in %d states, want %d: %v", len(list.Data), expired, len(seen), want,
			seen)
	}
}

// TestDemo does what a new user does: start on a machine that has only PostgreSQL's binaries (or Docker), paste the
// calls, stop, start again.
func TestDemo(t *testing.T) {
	t.Parallel()
	env := []string{"REIESTR_DATABASE_URL=", "REIESTR_DATA_DIR=" + filepath.Join(t.TempDir(), "data")}
	first := serve(t, env, "--demo")
	calls := first.pasteDemo()

	second := start(t, env, "serve", "--listen", "127.0.0.1:0")
	if code := second.exit(); code != 1 ||
		!strings.Contains(second.stderr(), "another 'reiestr serve' runs on data directory") {
		t.Errorf("a second serve: exit code %d: %s", code, second.stderr())
	}
	first.stop()

	again := serve(t, env, "--demo")
	again.pasteDemo()
	// The data of the first start are still there: its licence still prevents another one.
	calls = regexp.MustCompile(`(?m)^URL=.*$`).ReplaceAllString(calls, "URL="+again.url)
	shell := exec.Command("bash", "-euo", "pipefail")
	shell.Stdin = strings.NewReader(calls)
	output, err := shell.CombinedOutput()
	must(t, err)
	if m := httpCode.FindStringSubmatch(string(output)); m == nil || m[1] != "409" {
		t.Errorf("the licence of the first start is gone:\n%s", output)
	}

	// Acknowledged changes survive kill -9.
	again.kill()
	after := serve(t, env)
	shell = exec.Command("bash", "-euo", "pipefail")
	shell.Stdin = strings.NewReader(strings.ReplaceAll(calls, again.url, after.url))
	output, err = shell.CombinedOutput()
	must(t, err)
	if m := httpCode.FindStringSubmatch(string(output)); m == nil || m[1] != "409" {
		t.Errorf("the licence is gone after kill -9:\n%s", output)
	}
	after.stop()
}

// registry is a migrated database with one clinic, and a token and an api key for it.
type registry struct {
	t      testing.TB
	url    string
	conn   *pgx.Conn
	clinic uuid.UUID
	user   uuid.UUID
	token  string
	key    string
}

func newRegistry(t testing.TB) *registry {
	t.Helper()
	r := &registry{t: t, url: testdb.New(t).URL, clinic: uuid.New(), user: uuid.New()}
	var err error
	r.conn, err = testdb.Connect(t.Context(), r.url)
	must(t, err)
	t.Cleanup(func() { r.conn.Close(context.Background()) })
	bundle := fmt.Sprintf(`{"legal_entities": [{"id": %q, "edrpou": "12345678",
		"name": "Clinic", "type": "OUTPATIENT", "status": "ACTIVE"}]}`, r.clinic)
	file := filepath.Join(t.TempDir(), "clinic.json")
	must(t, os.WriteFile(file, []byte(bundle), 0o600))
	done(t, "load", file, "--database-url", r.url)
	r.token = done(t, "token", "issue", "--legal-entity", r.clinic.String(), "--user", r.user.String(),
		"--scope", "service_request:use job:read", "--database-url", r.url)
	r.key = done(t, "apikey", "issue", "--name", "test", "--database-url", r.url)
	return r
}

// app opens the database as the role of the service.
func (r *registry) app() *db.DB {
	r.t.Helper()
	app, err := db.Open(r.t.Context(), db.Config{URL: r.url, TimeZone: "Europe/Kyiv"})
	must(r.t, err)
	return app
}

func (r *registry) env() []string { return []string{"REIESTR_DATABASE_URL=" + r.url} }

// reserved inserts n service requests that the clinic holds, and returns their ids.
func (r *registry) reserved(n int) []uuid.UUID {
	r.t.Helper()
	rows, err := r.conn.Query(r.t.Context(), `INSERT INTO medical_events.service_requests
		(id, requisition, patient_id, status, program_id, program_processing_status, used_by_legal_entity_id, category,
		 expiration_date, inserted_by, updated_by)
		SELECT gen_random_uuid(), 'R', gen_random_uuid(), 'active', gen_random_uuid(), 'in_queue', $1, 'counselling',
			now() + interval '1 year', $2, $2
		FROM generate_series(1, $3) RETURNING id`, r.clinic, r.user, n)
	must(r.t, err)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	must(r.t, err)
	return ids
}

// release calls the release of a service request, and returns the path of the job.
func (r *registry) release(p *process, id uuid.UUID) string {
	r.t.Helper()
	code, header, body := r.call(p, http.MethodPatch, "/api/service_requests/"+id.String()+"/actions/release")
	if code != http.StatusAccepted {
		r.t.Fatalf("release: %d %s", code, body)
	}
	return header.Get("Location")
}

// call sends a request. header holds names and values in turn.
func (r *registry) call(p *process, method, path string, header ...string) (int, http.Header, string) {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), method, p.url+path, nil)
	must(r.t, err)
	request.Header.Set("Authorization", "Bearer "+r.token)
	request.Header.Set("api-key", r.key)
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	must(r.t, err)
	defer response.Body.Close()
	var body json.RawMessage
	must(r.t, json.NewDecoder(response.Body).Decode(&body))
	return response.StatusCode, response.Header, string(body)
}

// processed waits until the jobs have ended, and expects that all were processed.
func (r *registry) processed(p *process, jobs []string) {
	r.t.Helper()
	for _, job := range jobs {
		eventually(r.t, job+" ends", func() bool {
			code, _, body := r.call(p, http.MethodGet, job)
			if code == http.StatusServiceUnavailable { // the machine is busy
				return false
			}
			if code != http.StatusOK || strings.Contains(body, `"failed"`) {
				r.t.Fatalf("%s: %d %s", job, code, body)
			}
			return strings.Contains(body, `"processed"`)
		})
	}
}

// TestKill kills a server while a batch of jobs is under way in the database. After the restart every acknowledged job
// ends, and no job takes effect twice.
func TestKill(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	p := serve(t, r.env())
	ids := r.reserved(120)

	// A batch that has claimed its jobs waits for this table.
	holder, err := r.conn.Begin(t.Context())
	must(t, err)
	_, err = holder.Exec(t.Context(), "LOCK TABLE medical_events.service_request_history IN SHARE MODE")
	must(t, err)
	var jobs []string
	for _, id := range ids {
		jobs = append(jobs, r.release(p, id))
	}
	watcher, err := testdb.Connect(t.Context(), r.url)
	must(t, err)
	defer watcher.Close(context.Background())
	eventually(t, "a worker waits for the table", func() bool {
		var waits bool
		must(t, watcher.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'reiestr all' AND wait_event_type = 'Lock')`).Scan(&waits))
		return waits
	})
	p.kill()
	must(t, holder.Rollback(t.Context()))

	var pending int
	must(t, watcher.QueryRow(t.Context(), `SELECT count(*) FROM ops.jobs WHERE status = 'pending'`).Scan(&pending))
	if pending == 0 {
		t.Fatal("no job was in flight")
	}
	p = serve(t, r.env())
	r.processed(p, jobs)
	var free, histories, events int
	must(t, watcher.QueryRow(t.Context(), `SELECT
		(SELECT count(*) FROM medical_events.service_requests
			WHERE program_processing_status = 'new' AND used_by_legal_entity_id IS NULL),
		(SELECT count(*) FROM medical_events.service_request_history),
		(SELECT count(*) FROM ops.events)`).Scan(&free, &histories, &events))
	if free != len(ids) || histories != len(ids) || events != len(ids) {
		t.Errorf("%d released: %d free, %d histories, %d events", len(ids), free, histories, events)
	}
	p.stop()
}

// TestReadinessTellsThatJobsAreNotCarriedOut: while the database cannot carry out jobs, the server is not ready and the
// log says why. When the cause is gone, the server is ready and the jobs are processed.
func TestReadinessTellsThatJobsAreNotCarriedOut(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	p := serve(t, r.env())
	_, err := r.conn.Exec(t.Context(), `
		CREATE FUNCTION medical_events.sick() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN RAISE EXCEPTION 'could not access file' USING ERRCODE = '58P01'; END $$;
		CREATE TRIGGER sick BEFORE UPDATE ON medical_events.service_requests
			FOR EACH ROW EXECUTE FUNCTION medical_events.sick()`)
	must(t, err)
	var jobs []string
	for _, id := range r.reserved(3) {
		jobs = append(jobs, r.release(p, id))
	}
	readyz := func() int {
		response, err := http.Get(p.url + "/readyz")
		must(t, err)
		response.Body.Close()
		return response.StatusCode
	}
	eventually(t, "the server is not ready", func() bool { return readyz() == http.StatusServiceUnavailable })
	eventually(t, "the log says why", func() bool {
		return strings.Contains(p.stderr(), "jobs are not carried out") &&
			strings.Contains(p.stderr(), "could not access file")
	})
	_, err = r.conn.Exec(t.Context(), `DROP FUNCTION medical_events.sick() CASCADE`)
	must(t, err)
	r.processed(p, jobs)
	eventually(t, "the server is ready", func() bool { return readyz() == http.StatusOK })
	p.stop()
}

// TestRoles: a process of role api accepts jobs, and one of role worker carries them out and serves no API.
func TestRoles(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	front := serve(t, r.env(), "--role", "api", "--listen", ":0") // the later flag counts: all addresses
	if !strings.HasPrefix(front.url, "http://127.0.0.1:") {
		t.Errorf("listening on %s", front.url)
	}
	back := serve(t, r.env(), "--role", "worker")
	for _, p := range []*process{front, back} {
		eventually(t, "ready", func() bool {
			response, err := http.Get(p.url + "/readyz")
			must(t, err)
			response.Body.Close()
			return response.StatusCode == http.StatusOK
		})
	}
	ids := r.reserved(20)
	var jobs []string
	for _, id := range ids {
		jobs = append(jobs, r.release(front, id))
	}
	if code, _, body := r.call(back, http.MethodGet, jobs[0]); code != http.StatusNotFound {
		t.Errorf("the worker answers the API: %d %s", code, body)
	}
	r.processed(front, jobs)
	back.stop()
	front.stop()
}

// TestSessionsNameTheirCommand: pg_stat_activity shows the command or the role of the process to which a session
// belongs.
func TestSessionsNameTheirCommand(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	for _, role := range []string{"all", "api", "worker"} {
		serve(t, r.env(), "--role", role)
	}
	file := filepath.Join(t.TempDir(), "empty.json")
	must(t, os.WriteFile(file, []byte(`{"parameters": [{"name": "x", "value": true}]}`), 0o600))
	looking, err := testdb.Connect(t.Context(), r.url)
	must(t, err)
	t.Cleanup(func() { looking.Close(context.Background()) })
	for want, commands := range map[string]string{
		"reiestr token": "token issue --legal-entity " + r.clinic.String() + " --user " + r.user.String() +
			" --scope job:read",
		"reiestr apikey": "apikey issue --name other",
		"reiestr revoke": "token revoke nonsense",
		"reiestr jobs":   "jobs list",
		"reiestr load":   "load " + file,
		"reiestr expire": "expire",
		"reiestr all":    "", "reiestr api": "", "reiestr worker": "",
	} {
		held, err := r.conn.Begin(t.Context())
		must(t, err)
		_, err = held.Exec(t.Context(), `LOCK TABLE ops.access_tokens, ops.api_keys, ops.jobs, prm.parameters,
			medical_events.service_requests IN ACCESS EXCLUSIVE MODE`)
		must(t, err)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if commands != "" {
				command(t, "", append(strings.Fields(commands), "--database-url", r.url)...)
			}
		}()
		eventually(t, want+" is seen", func() bool {
			var seen bool
			must(t, looking.QueryRow(t.Context(),
				`SELECT EXISTS (SELECT FROM pg_stat_activity
				WHERE datname = current_database() AND application_name = $1)`, want).Scan(&seen))
			return seen
		})
		must(t, held.Rollback(t.Context()))
		receive(t, ended)
	}
}

// TestGracefulStop: jobs that were accepted before SIGTERM are finished by this process or by the next one.
func TestGracefulStop(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	p := serve(t, r.env())
	var jobs []string
	for _, id := range r.reserved(60) {
		jobs = append(jobs, r.release(p, id))
	}
	p.stop()
	p = serve(t, r.env())
	r.processed(p, jobs)
	p.stop()
}
