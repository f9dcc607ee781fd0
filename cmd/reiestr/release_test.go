package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/internal/dev/testdb"
	"github.com/reiestr/reiestr/migrations"
)

// releaseBefore builds the program of the release before, whose commit stands in migrations/released, and returns it
// with the names of its migrations. A clone without this commit skips the test, or fails it if REIESTR_TEST_RELEASE is
// "required".
func releaseBefore(t testing.TB) (built program, released []string) {
	t.Helper()
	file, err := os.ReadFile("../../migrations/released")
	must(t, err)
	commit := strings.TrimSpace(regexp.MustCompile(`(?m)^#.*$`).ReplaceAllString(string(file), ""))
	git := func(args ...string) error {
		output, err := exec.Command("git", append([]string{"-c", "safe.directory=*", "-C", "../.."},
			args...)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("git %s: %w\n%s", strings.Join(args, " "), err, output)
		}
		return nil
	}
	if err := git("cat-file", "-e", commit+"^{commit}"); err != nil {
		if os.Getenv("REIESTR_TEST_RELEASE") == "required" {
			t.Fatal(err)
		}
		t.Skipf("the history does not reach back to the release before, as in a shallow clone: %v", err)
	}
	must(t, git("merge-base", "--is-ancestor", commit, "HEAD"))

	dir := t.TempDir()
	must(t, git("archive", "--output", filepath.Join(dir, "source.tar"), commit))
	output, err := exec.Command("tar", "-x", "-C", dir, "-f", filepath.Join(dir, "source.tar")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	built = program(filepath.Join(dir, "reiestr"))
	build := exec.Command("go", "build", "-buildvcs=false", "-trimpath", "-o", string(built), "./cmd/reiestr")
	build.Dir = dir
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}

	released, err = filepath.Glob(filepath.Join(dir, "migrations", "0*.sql"))
	must(t, err)
	if len(released) == 0 {
		t.Fatal("a release without migrations")
	}
	for i, path := range released {
		was, err := os.ReadFile(path)
		must(t, err)
		released[i] = filepath.Base(path)
		if is, err := migrations.FS.ReadFile(released[i]); err != nil || !bytes.Equal(is, was) {
			t.Errorf("%s is released and must stay as it was (%v)", released[i], err)
		}
	}
	return built, released
}

// run runs a command, which must succeed, and returns its output.
func (of program) run(t testing.TB, env []string, args ...string) string {
	t.Helper()
	p := of.start(t, env, args...)
	if code := p.exit(); code != 0 {
		t.Fatalf("reiestr %s: exit code %d: %s", strings.Join(args, " "), code, p.stderr())
	}
	return strings.TrimSpace(p.stdout())
}

// TestReleaseBeforeOnThisSchema calls all operations of the release before on the schema of this release, as in a
// rolling upgrade and after a rollback of the program (decision 16).
func TestReleaseBeforeOnThisSchema(t *testing.T) {
	t.Parallel()
	before, released := releaseBefore(t)
	url := testdb.New(t).URL
	env := []string{"REIESTR_DATABASE_URL=" + url}
	for range migrations.Latest() - int64(len(released)) {
		done(t, "migrate", "down", "--database-url", url)
	}

	// The old program on its own schema. Then the schema is migrated while the program runs: its sessions keep their
	// prepared statements.
	running := before.serve(t, env)
	useAll(t, before, env, running, running)
	done(t, "migrate", "up", "--database-url", url)
	expandFurther(t, url)
	useAll(t, before, env, running, running)

	// The old API with new workers, and the new API with old workers.
	running.stop()
	oldAPI, newWorker := before.serve(t, env, "--role", "api"), today.serve(t, env, "--role", "worker")
	useAll(t, today, env, oldAPI, newWorker)
	oldAPI.stop()
	newWorker.stop()
	newAPI, oldWorker := today.serve(t, env, "--role", "api"), before.serve(t, env, "--role", "worker")
	useAll(t, before, env, newAPI, oldWorker)
	newAPI.stop()
	oldWorker.stop()

	// The old program is started on the new schema, as in a rollback, and so are its commands.
	again := before.serve(t, env, "--demo", "--migrate")
	again.pasteCalls("# 6.", `^201 409 202( 200)+ 202( 200)+ 200$`)
	useAll(t, before, env, again, again)
	again.stop()
	before.run(t, env, "migrate", "up")
	if status := before.run(t, env, "migrate", "status"); strings.Contains(status, "pending") {
		t.Error(status)
	}
	if plan := before.run(t, env, "migrate", "plan"); !strings.HasPrefix(plan, "nothing to do") {
		t.Error(plan)
	}
}

// expandFurther adds to the schema everything that a release may add. So the schema is newer than the release before,
// even if this release has added nothing yet.
func expandFurther(t *testing.T, url string) {
	t.Helper()
	conn, err := testdb.Connect(t.Context(), url)
	must(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(t.Context(), `
		SET ROLE reiestr_owner;
		DO $$
		DECLARE t regclass;
		BEGIN
			FOR t IN SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
				WHERE c.relkind = 'r' AND n.nspname IN ('prm', 'medical_events', 'ops') AND c.relname <> 'schema_versions'
			LOOP
				EXECUTE format('ALTER TABLE %s ADD COLUMN of_tomorrow uuid,
					ADD COLUMN kind_of_tomorrow text NOT NULL DEFAULT ''usual''', t);
			END LOOP;
		END
		$$;
		CREATE TABLE ops.things_of_tomorrow (id bigint);
		INSERT INTO ops.schema_versions (version_id, is_applied) VALUES (ops.schema_version() + 1, true)`)
	must(t, err)
}

// useAll makes a clinic with the commands of the program operator, and calls every operation of the API of the process
// running. The process worker carries out the jobs.
func useAll(t *testing.T, operator program, env []string, running, worker *process) {
	t.Helper()
	for _, p := range []*process{running, worker} {
		eventually(t, "/readyz answers 200", func() bool { // the workers start at the same time as the listener
			response, err := http.Get(p.url + "/readyz")
			must(t, err)
			response.Body.Close()
			return response.StatusCode == http.StatusOK
		})
	}

	clinic, employee, patient, first, second, expired := uuid.New(), uuid.New(), uuid.New(), uuid.New(), uuid.New(),
		uuid.New()
	requisition := uuid.NewString()
	serviceRequest := func(id uuid.UUID, expires string) string {
		return fmt.Sprintf(`{"id": %q, "subject": {"identifier": {"value": %q}}, "status": "active", "category": "counselling",
			"requisition": %q, "expiration_date": %q,
			"program": {"identifier": {"value": %q}}, "program_processing_status": "new", "note": "a note",
			"requester_legal_entity": {"identifier": {"value": %q}}}`,
			id, patient, requisition, expires, uuid.New(), clinic)
	}
	file := filepath.Join(t.TempDir(), "clinic.json")
	must(t, os.WriteFile(file, fmt.Appendf(nil, `{
		"parameters": [{"name": "LEGAL_ENTITY_OUTPATIENT_ADDITIONAL_LICENSE_TYPES", "value": ["PHARMACY_DRUGS"]}],
		"dictionaries": [{"name": "OF_A_CLINIC", "values": [{"code": "A"}]}],
		"legal_entities": [{"id": %[1]q, "edrpou": "12345678", "name": "Clinic", "type": "OUTPATIENT", "status": "ACTIVE"}],
		"divisions": [{"id": %[2]q, "legal_entity_id": %[1]q, "name": "Division", "status": "ACTIVE"}],
		"employees": [{"id": %[3]q, "legal_entity_id": %[1]q, "employee_type": "SPECIALIST", "status": "APPROVED"}],
		"licenses": [{"id": %[2]q, "legal_entity_id": %[1]q, "type": "MSP", "is_primary": true, "issued_by": "Ministry",
			"issued_date": "2020-01-01", "active_from_date": "2020-01-01"}],
		"service_requests": [%[4]s, %[5]s, %[6]s]
	}`, clinic, uuid.New(), employee, serviceRequest(first, "2099-01-01T00:00:00Z"),
		serviceRequest(second, "2099-01-01T00:00:00Z"), serviceRequest(expired, "2020-01-01T00:00:00Z")), 0o600))
	for range 2 { // the first load makes rows, the second replaces them
		operator.run(t, env, "load", file)
	}
	response, err := http.Get(running.url + "/openapi.json")
	must(t, err)
	defer response.Body.Close()
	var document struct{ Paths map[string]map[string]any }
	must(t, json.NewDecoder(response.Body).Decode(&document))
	if len(document.Paths) == 0 {
		t.Error("no paths in the document")
	}
	scopes := "license:read license:write service_request:read service_request:use service_request:makeinprogress " +
		"service_request:complete job:read event:read"
	_, hasDictionaries := document.Paths["/api/v2/dictionaries"] // the release before has none
	if hasDictionaries {
		scopes += " address:read"
	}
	token := operator.run(t, env, "token", "issue", "--legal-entity", clinic.String(), "--user", uuid.NewString(),
		"--scope", scopes)
	key := operator.run(t, env, "apikey", "issue", "--name", "of a clinic")

	var called []string
	call := func(want int, operation, body string, values ...any) (data map[string]any, raw string) {
		t.Helper()
		called = append(called, operation)
		method, template, _ := strings.Cut(operation, " ")
		path := regexp.MustCompile(`\{[a-z_]+\}`).ReplaceAllStringFunc(template, func(string) string {
			value := fmt.Sprint(values[0])
			values = values[1:]
			return value
		})
		if len(values) > 0 {
			path += fmt.Sprint(values[0])
		}
		request, err := http.NewRequestWithContext(t.Context(), method, running.url+path, strings.NewReader(body))
		must(t, err)
		request.Header.Set("Authorization", "Bearer "+token)
		request.Header.Set("api-key", key)
		request.Header.Set("Prefer", "wait=10")
		if method != http.MethodGet {
			request.Header.Set("Content-Type", "application/json")
			request.Header.Set("Idempotency-Key", uuid.NewString())
		}
		var answers []string
		for range 2 { // the repetition gets the same answer
			request.Body = io.NopCloser(strings.NewReader(body))
			response, err := http.DefaultClient.Do(request)
			must(t, err)
			text, err := io.ReadAll(response.Body)
			must(t, err)
			response.Body.Close()
			if response.StatusCode != want {
				t.Fatalf("%s: %s\n%s", operation, response.Status, text)
			}
			answers = append(answers, string(text))
		}
		if method != http.MethodGet && answers[0] != answers[1] {
			t.Errorf("%s: answered %s, repeated %s", operation, answers[0], answers[1])
		}
		var answer struct{ Data any }
		must(t, json.Unmarshal([]byte(answers[0]), &answer))
		data, _ = answer.Data.(map[string]any)
		return data, answers[0]
	}
	contains := func(raw string, texts ...string) {
		t.Helper()
		for _, text := range texts {
			if !strings.Contains(raw, text) {
				t.Errorf("no %s in %s", text, raw)
			}
		}
	}

	license, _ := call(201, "POST /api/licenses",
		`{"type": "PHARMACY_DRUGS", "is_primary": false, "issued_by": "Issuer",
			"issued_date": "2026-01-15", "active_from_date": "2026-02-01"}`)
	call(200, "PATCH /api/licenses/{id}", `{"type": "PHARMACY_DRUGS", "is_primary": false, "order_no": "K-2"}`,
		license["id"])
	_, list := call(200, "GET /api/licenses", "")
	contains(list, `"K-2"`, fmt.Sprint(license["id"]))

	const actions = "PATCH /api/service_requests/{service_request_id}/actions/"
	hold := fmt.Sprintf(`{"used_by_legal_entity": {"identifier": {"value": %q}},
		"used_by_employee": {"identifier": {"value": %q}}}`, clinic, employee)
	_, ended := call(200, actions+"use", hold, first)
	contains(ended, `"processed"`)
	call(200, actions+"release", "", first)
	call(200, actions+"use", hold, second)
	call(200, actions+"process", "", second)
	call(200, actions+"complete", `{"completed_with": {"identifier": {
			"type": {"coding": [{"system": "eHealth/resources", "code": "procedure"}]}, "value": "c5a1d9f0-7b2e-4c63-8d4f-1e0a9b8c7d65"}},
		"program_service": {"identifier": {"value": "d5a1d9f0-7b2e-4c63-8d4f-1e0a9b8c7d65"}},
		"status_reason": {"coding": [{"system": "eHealth/service_request_complete_reasons", "code": "default"}],
			"text": "done"}}`, second)
	var jobs []db.JobRecord
	must(t, json.Unmarshal([]byte(operator.run(t, env, "jobs", "list", "--json")), &jobs))
	last := slices.IndexFunc(jobs, func(j db.JobRecord) bool { return j.ServiceRequestID == first })
	if last < 0 || len(jobs) < 5 {
		t.Fatalf("jobs %+v", jobs)
	}
	job := jobs[last].ID.String()
	contains(operator.run(t, env, "jobs", "show", job), job)
	_, one := call(200, "GET /api/jobs/{id}", "", job)
	contains(one, `"processed"`, first.String())

	if got := operator.run(t, env, "expire"); !regexp.MustCompile(`\b1\b`).MatchString(got) {
		t.Errorf("expire: %s", got)
	}
	_, found := call(200, "GET /api/service_requests", "", "?status=active&requisition="+requisition)
	contains(found, first.String())
	_, found = call(200, "GET /api/patients/{patient_id}/service_requests", "", patient)
	contains(found, first.String(), second.String(), expired.String(), `"recalled"`, `"completed"`)
	_, found = call(200, "GET /api/patients/{patient_id}/service_requests/{id}", "", patient, second)
	contains(found, `"in_progress"`, employee.String(), `"a note"`)
	_, events := call(200, "GET /api/events", "", "?limit=100")
	contains(events, fmt.Sprint(license["id"]), first.String(), second.String(), expired.String())
	if _, hasEvent := document.Paths["/api/events/{id}"]; hasEvent { // the release before has none
		var feed struct{ Data []struct{ ID uuid.UUID } }
		must(t, json.Unmarshal([]byte(events), &feed))
		_, one := call(200, "GET /api/events/{id}", "", feed.Data[0].ID)
		contains(one, feed.Data[0].ID.String())
	}
	if hasDictionaries {
		for _, path := range []string{"/api/v2/dictionaries", "/api/v2/mis/dictionaries", "/api/dictionaries"} {
			_, all := call(200, "GET "+path, "")
			contains(all, `"OF_A_CLINIC"`, `"LICENSE_TYPE"`)
		}
	}

	operator.run(t, env, "apikey", "revoke", "--", key)
	operator.run(t, env, "token", "revoke", "--", token)
	eventually(t, "the revoked token is refused", func() bool { // the revocation takes effect within a second
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, running.url+"/api/licenses", nil)
		must(t, err)
		request.Header.Set("Authorization", "Bearer "+token)
		request.Header.Set("api-key", key)
		response, err := http.DefaultClient.Do(request)
		must(t, err)
		response.Body.Close()
		return response.StatusCode == http.StatusUnauthorized
	})

	for path, operations := range document.Paths {
		for method := range maps.Keys(operations) {
			if operation := cmp.Or(strings.ToUpper(method), "?") + " " + path; !slices.Contains(called, operation) {
				t.Errorf("%s was not called", operation)
			}
		}
	}
}
