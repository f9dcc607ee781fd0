package api_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

func held(by uuid.UUID) uuid.NullUUID { return uuid.NullUUID{UUID: by, Valid: true} }

func useBody(legalEntity uuid.UUID) string {
	return fmt.Sprintf(`{"used_by_legal_entity": {"identifier": {"value": %q}}}`, legalEntity)
}

func TestUseAndRelease(t *testing.T) {
	t.Parallel()
	s := newService(t).work()
	patient, id := s.serviceRequest("new", uuid.NullUUID{})
	read := call{method: "GET", path: fmt.Sprintf("/api/patients/%s/service_requests/%s", patient, id)}

	act := func(action, body string) {
		t.Helper()
		a := s.do(call{method: "PATCH", path: "/api/service_requests/" + id.String() + "/actions/" + action, body: body})
		if a.code != 202 {
			t.Fatalf("%s: %d %s", action, a.code, a.raw)
		}
		var accepted struct {
			Status string
			ETA    time.Time
			Links  []struct{ Entity, Href string }
		}
		must(t, json.Unmarshal(a.body.Data, &accepted))
		location := a.header.Get("Location")
		if accepted.Status != "pending" || len(accepted.Links) != 1 || accepted.Links[0].Entity != "job" ||
			accepted.Links[0].Href != location || !strings.HasPrefix(location, "/api/jobs/") ||
			a.header.Get("Retry-After") == "" || time.Since(accepted.ETA) > time.Minute {
			t.Errorf("%s: %s, Location %q, Retry-After %q", action, a.raw, location, a.header.Get("Retry-After"))
		}
		job := s.ended(location)
		want := map[string]any{
			"status": "processed", "status_code": 200.0, "eta": job["eta"],
			"links": []any{map[string]any{"entity": "service_request", "href": read.path}},
		}
		if got, want := fmt.Sprint(job), fmt.Sprint(want); got != want {
			t.Errorf("%s\n got %s\nwant %s", action, got, want)
		}
		if eta, ok := job["eta"].(string); !ok || !strings.HasSuffix(eta, "Z") {
			t.Errorf("eta %v", job["eta"])
		}
	}

	act("use", useBody(s.clinic))
	var got map[string]any
	must(t, json.Unmarshal(s.do(read).body.Data, &got))
	reference := map[string]any{
		"identifier": map[string]any{
			"type": map[string]any{
				"coding": []any{map[string]any{"system": "eHealth/resources", "code": "legal_entity"}}, "text": "",
			},
			"value": s.clinic.String(),
		},
		"display_value": nil,
	}
	if got["program_processing_status"] != "in_queue" || fmt.Sprint(got["used_by_legal_entity"]) != fmt.Sprint(reference) {
		t.Errorf("after use: %v", got)
	}

	act("release", "")
	got = nil
	must(t, json.Unmarshal(s.do(read).body.Data, &got))
	if got["program_processing_status"] != "new" || got["used_by_legal_entity"] != nil {
		t.Errorf("after release: %v", got)
	}
	var statuses []string
	for _, item := range got["program_processing_status_history"].([]any) {
		statuses = append(statuses, item.(map[string]any)["program_processing_status"].(string))
	}
	if fmt.Sprint(statuses) != "[new in_queue new]" {
		t.Errorf("history %v", statuses)
	}
	if n := len(got["used_by_legal_entity_history"].([]any)); n != 1 {
		t.Errorf("%d holders in the history", n)
	}
	for _, field := range strings.Fields(`id requisition status program program_processing_status status_history
		program_processing_status_history used_by_legal_entity used_by_employee used_by_division
		used_by_legal_entity_history used_by_employee_history intent priority category code subject context
		requester_employee requester_legal_entity reason_reference supporting_info permitted_resources note
		patient_instruction expiration_date completed_with program_service status_reason explanatory_letter quantity
		inserted_at updated_at`) {
		if _, ok := got[field]; !ok {
			t.Errorf("field %s is missing", field)
		}
	}
}

func TestActionSchema(t *testing.T) {
	t.Parallel()
	s := newService(t)
	_, id := s.serviceRequest("new", uuid.NullUUID{})
	use := "/api/service_requests/" + id.String() + "/actions/use"
	release := "/api/service_requests/" + id.String() + "/actions/release"
	for _, c := range []struct {
		path, body string
		want       []string
	}{
		{use, `{}`, []string{"$.used_by_legal_entity required required property used_by_legal_entity was not present"}},
		{use, `{"used_by_legal_entity": null}`,
			[]string{"$.used_by_legal_entity cast type mismatch. Expected object but got null"}},
		{use, `{"used_by_legal_entity": {}}`,
			[]string{"$.used_by_legal_entity.identifier required required property identifier was not present"}},
		{use, `{"used_by_legal_entity": {"identifier": {"value": "1"}}}`,
			[]string{"$.used_by_legal_entity.identifier.value " + notUUID}},
		{use, `{"used_by_legal_entity": {"identifier": {"value": "` + id.String() + `", "extra": 1}}}`,
			[]string{"$.used_by_legal_entity.identifier.extra schema schema does not allow additional properties"}},
		{use, `{"used_by_legal_entity": {"identifier": {"value": "` + id.String() + `",
			"type": {"coding": [{"system": "eHealth/resources", "code": "employee"}]}}}}`,
			[]string{"$.used_by_legal_entity.identifier.type.coding[0].code inclusion value is not allowed in enum"}},
		{use, `{"used_by_legal_entity": {"identifier": {"value": "` + id.String() + `"}}, "used_by_employee": null}`,
			[]string{"$.used_by_employee cast type mismatch. Expected object but got null"}},
		{release, `[]`, []string{"$ cast type mismatch. Expected object but got array"}},
		{"/api/service_requests/42/actions/release", ``,
			[]string{"$.service_request_id " + notUUID}},
		{"/api/service_requests/{8be63914-a278-470b-b868-1af5b9087332}/actions/release", ``,
			[]string{"$.service_request_id " + notUUID}},
	} {
		s.invalid(call{method: "PATCH", path: c.path, body: c.body}, c.want...)
	}
	a := s.do(call{method: "PATCH", path: use, body: ``})
	if a.code != 400 {
		t.Errorf("use without a body: %d %s", a.code, a.raw)
	}
	// A reference in the form of the answers, and an unknown key beside it.
	a = s.do(call{method: "PATCH", path: use, body: `{
		"used_by_legal_entity": {
			"identifier": {
				"type": {"coding": [{"system": "eHealth/resources", "code": "legal_entity"}], "text": ""},
				"value": "` + strings.ToUpper(s.clinic.String()) + `"},
			"display_value": null},
		"service_request": {"anything": []}}`})
	if a.code != 202 {
		t.Errorf("use: %d %s", a.code, a.raw)
	}
}

// TestPendingDuplicate: equal actions share a job while it is pending, also if their bodies are written differently.
// Another action gets a job of its own.
func TestPendingDuplicate(t *testing.T) {
	t.Parallel()
	s := newService(t)
	patient, id := s.serviceRequest("in_queue", held(s.clinic))
	path := "/api/service_requests/" + id.String() + "/actions/"
	job := func(action, body, token string) string {
		t.Helper()
		a := s.do(call{method: "PATCH", path: path + action, body: body,
			header: map[string]string{"Authorization": "Bearer " + token}})
		if a.code != 202 {
			t.Fatalf("%s: %d %s", action, a.code, a.raw)
		}
		return a.header.Get("Location")
	}
	first := job("release", "", s.token)
	for _, body := range []string{"", "{}", " {\n} ", `{"ignored": true}`} {
		if again := job("release", body, s.issue(s.clinic, allScopes, time.Hour)); again != first {
			t.Errorf("release with body %q is another job", body)
		}
	}
	// The state now allows use while the release is still pending: it is no duplicate of it.
	s.sql(requests+`program_processing_status = 'new', used_by_legal_entity_id = NULL WHERE id = $1`, id)
	if use := job("use", useBody(s.clinic), s.token); use == first {
		t.Error("use answers the job of release")
	}
	// After the end of the job an equal action is checked again.
	s.sql(requests+`program_processing_status = 'in_queue', used_by_legal_entity_id = $2 WHERE id = $1`, id, s.clinic)
	if ended := s.work().ended(first); ended["status"] != "processed" {
		t.Errorf("release: %v", ended)
	}
	s.ended(first)
	read := s.do(call{method: "GET", path: fmt.Sprintf("/api/patients/%s/service_requests/%s", patient, id)})
	if read.code != 200 {
		t.Error(read.raw)
	}
}

func TestJobIsOfItsClient(t *testing.T) {
	t.Parallel()
	s := newService(t).work()
	_, id := s.serviceRequest("in_queue", held(s.clinic))
	location := s.do(act(id, "release", "")).header.Get("Location")
	other := uuid.New()
	s.legalEntity(other, "OUTPATIENT", "ACTIVE")
	stranger := map[string]string{"Authorization": "Bearer " + s.issue(other, allScopes, time.Hour)}
	s.refused(call{method: "GET", path: location, header: stranger}, 404, "not_found", "Job not found")
	s.ended(location)
	s.refused(call{method: "GET", path: location, header: stranger}, 404, "not_found", "Job not found")
	s.refused(call{method: "GET", path: "/api/jobs/" + uuid.NewString()}, 404, "not_found", "Job not found")
}

func TestReadOfAnotherPatient(t *testing.T) {
	t.Parallel()
	s := newService(t)
	patient, id := s.serviceRequest("new", uuid.NullUUID{})
	for _, path := range []string{
		fmt.Sprintf("/api/patients/%s/service_requests/%s", uuid.New(), id),
		fmt.Sprintf("/api/patients/%s/service_requests/%s", patient, uuid.New()),
		fmt.Sprintf("/api/patients/%s/service_requests/%s", id, patient),
	} {
		s.refused(call{method: "GET", path: path}, 404, "not_found", "Service request not found")
	}
	s.invalid(call{method: "GET", path: "/api/patients/x/service_requests/y?z=1"},
		"$.id "+notUUID, "$.patient_id "+notUUID, "$.z schema schema does not allow additional properties")
	s.invalid(call{method: "GET", path: "/api/patients/x/service_requests/y"}, "$.id "+notUUID, "$.patient_id "+notUUID)
}

// TestTwoLegalEntitiesRace: the use of both legal entities is accepted, and in the end one of them holds the service
// request.
func TestTwoLegalEntitiesRace(t *testing.T) {
	t.Parallel()
	s := newService(t)
	patient, id := s.serviceRequest("new", uuid.NullUUID{})
	rival := uuid.New()
	s.legalEntity(rival, "EMERGENCY", "ACTIVE")
	tokens := map[uuid.UUID]string{s.clinic: s.token, rival: s.issue(rival, allScopes, time.Hour)}
	jobs := map[uuid.UUID]string{}
	for legalEntity, token := range tokens {
		a := s.do(with(act(id, "use", useBody(legalEntity)), token, s.key))
		if a.code != 202 {
			t.Fatal(a.raw)
		}
		jobs[legalEntity] = a.header.Get("Location")
	}
	s.work()
	var holders []uuid.UUID
	for legalEntity, location := range jobs {
		s.token = tokens[legalEntity]
		switch job := s.ended(location); job["status"] {
		case "processed":
			holders = append(holders, legalEntity)
		case "failed":
			if got := fmt.Sprint(job["error"]); got != "map[message:Service request is already used type:request_conflict]" {
				t.Error(got)
			}
		}
	}
	var got struct {
		UsedByLegalEntity struct{ Identifier struct{ Value uuid.UUID } } `json:"used_by_legal_entity"`
	}
	read := call{method: "GET", path: fmt.Sprintf("/api/patients/%s/service_requests/%s", patient, id)}
	must(t, json.Unmarshal(s.do(read).body.Data, &got))
	if len(holders) != 1 || got.UsedByLegalEntity.Identifier.Value != holders[0] {
		t.Errorf("told to hold it: %v, holds it: %v", holders, got.UsedByLegalEntity.Identifier.Value)
	}
}

// TestEqualityCoversWhatTheRulesRead: bodies that differ only in elements that no rule and no effect reads are equal:
// the programme of use, keys that the contract does not know, and a body without elements against none.
func TestEqualityCoversWhatTheRulesRead(t *testing.T) {
	t.Parallel()
	s := newService(t)
	program := func(id uuid.UUID) string {
		return fmt.Sprintf(`{"used_by_legal_entity": {"identifier": {"value": %q}}, "program": {"identifier": {"value": %q}}}`, s.clinic, id)
	}
	for _, c := range []struct {
		action, state string
		holder        uuid.NullUUID
		bodies        []string
	}{
		{"use", "new", uuid.NullUUID{}, []string{useBody(s.clinic), program(uuid.New()), program(uuid.New())}},
		{"release", "in_queue", held(s.clinic), []string{"", "{}", `{"program": 1}`}},
		{"process", "in_queue", held(s.clinic), []string{"", "{}", `{"program": 1}`}},
		{"complete", "in_progress", held(s.clinic), []string{"", "{}", `{"program": 1}`}},
	} {
		_, id := s.serviceRequest(c.state, c.holder)
		first := ""
		for _, body := range c.bodies {
			a := s.do(call{method: "PATCH", path: "/api/service_requests/" + id.String() + "/actions/" + c.action, body: body})
			if a.code != 202 {
				t.Errorf("%s %q: %d %s", c.action, body, a.code, a.raw)
			}
			if first == "" {
				first = a.header.Get("Location")
			}
			if a.header.Get("Location") != first {
				t.Errorf("%s %q is another job than %q", c.action, body, c.bodies[0])
			}
		}
	}
}

// TestTooManyPendingJobs: a client that has twenty pending jobs on a service request hears 429 for one more, with the
// seconds to wait, also with an idempotency key, which it can use again.
func TestTooManyPendingJobs(t *testing.T) {
	t.Parallel()
	s := newService(t)
	_, id := s.serviceRequest("in_queue", held(s.clinic))
	s.sql(`INSERT INTO ops.jobs (id, action, service_request_id, patient_id, client_id, user_id, body, request_digest)
		SELECT gen_random_uuid(), 'release', $1, $1, $2, gen_random_uuid(), '{}', sha256(n::text::bytea)
			FROM generate_series(1, 20) AS n`, id, s.clinic)
	release := call{method: "PATCH", path: "/api/service_requests/" + id.String() + "/actions/release",
		header: map[string]string{"Idempotency-Key": `"k"`}}
	a := s.refused(release, 429, "too_many_requests", "Too many pending jobs of the legal entity on this service "+
		"request. Wait until one of them has ended.")
	if seconds, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || seconds < 1 || seconds > 60 {
		t.Errorf("Retry-After %q", a.header.Get("Retry-After"))
	}
	s.sql(`UPDATE ops.jobs SET status = 'failed', refusal = 'held_by_another', ended_at = now()
		WHERE request_digest = sha256('1')`)
	if a := s.do(release); a.code != 202 {
		t.Errorf("after one has ended: %d %s", a.code, a.raw)
	}
}
