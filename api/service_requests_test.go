package api_test

import (
	"encoding/json"
	"fmt"
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
		if accepted.Status != "pending" || len(accepted.Links) != 1 || accepted.Links[0].Entity != "job" || accepted.Links[0].Href != location ||
			!strings.HasPrefix(location, "/api/jobs/") || a.header.Get("Retry-After") == "" || time.Since(accepted.ETA) > time.Minute {
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
			"type":  map[string]any{"coding": []any{map[string]any{"system": "eHealth/resources", "code": "legal_entity"}}, "text": ""},
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
	for _, field := range strings.Fields(`id requisition status program program_processing_status status_history program_processing_status_history
		used_by_legal_entity used_by_employee used_by_division used_by_legal_entity_history used_by_employee_history intent priority
		category code subject context requester_employee requester_legal_entity reason_reference supporting_info permitted_resources
		note patient_instruction expiration_date completed_with program_service status_reason explanatory_letter quantity inserted_at updated_at`) {
		if _, ok := got[field]; !ok {
			t.Errorf("field %s is missing", field)
		}
	}
}
