package api_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
)

// act is an action on a service request.
func act(id uuid.UUID, action, body string) call {
	return call{method: "PATCH", path: "/api/service_requests/" + id.String() + "/actions/" + action, body: body}
}

const completion = `{
	"completed_with": {"identifier": {
		"type": {"coding": [{"system": "eHealth/resources", "code": "procedure"}]},
		"value": "c5a1d9f0-7b2e-4c63-8d4f-1e0a9b8c7d65"
	}},
	"program_service": {"identifier": {"value": "d5a1d9f0-7b2e-4c63-8d4f-1e0a9b8c7d65"}},
	"status_reason": {
		"coding": [{"system": "eHealth/service_request_complete_reasons", "code": "default"}],
		"text": "done"
	}
}`

func TestProcessAndComplete(t *testing.T) {
	t.Parallel()
	s := newService(t).work()
	patient, id := s.serviceRequest("in_queue", held(s.clinic))
	for _, c := range []call{act(id, "process", ""), act(id, "complete", completion)} {
		a := s.do(c)
		if a.code != 202 {
			t.Fatalf("%s: %d %s", c.path, a.code, a.raw)
		}
		if job := s.ended(a.header.Get("Location")); job["status"] != "processed" {
			t.Fatalf("%s: %v", c.path, job)
		}
	}
	var got map[string]any
	read := call{method: "GET", path: fmt.Sprintf("/api/patients/%s/service_requests/%s", patient, id)}
	must(t, json.Unmarshal(s.do(read).body.Data, &got))
	reference := func(resource, id string) map[string]any {
		return map[string]any{"identifier": map[string]any{
			"type": map[string]any{
				"coding": []any{map[string]any{"system": "eHealth/resources", "code": resource}}, "text": "",
			},
			"value": id,
		}, "display_value": nil}
	}
	reason := ofJSON(completion)["status_reason"]
	for field, want := range map[string]any{
		"status": "completed", "program_processing_status": "completed", "status_reason": reason,
		"completed_with":       reference("procedure", "c5a1d9f0-7b2e-4c63-8d4f-1e0a9b8c7d65"),
		"program_service":      reference("program_service", "d5a1d9f0-7b2e-4c63-8d4f-1e0a9b8c7d65"),
		"used_by_legal_entity": reference("legal_entity", s.clinic.String()),
	} {
		if fmt.Sprint(got[field]) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", field, got[field], want)
		}
	}
	history := got["status_history"].([]any)
	last := history[len(history)-1].(map[string]any)
	if last["status"] != "completed" || fmt.Sprint(last["status_reason"]) != fmt.Sprint(reason) {
		t.Errorf("last of status_history: %v", last)
	}
	var statuses []any
	for _, item := range got["program_processing_status_history"].([]any) {
		statuses = append(statuses, item.(map[string]any)["program_processing_status"])
	}
	if fmt.Sprint(statuses) != "[in_queue in_progress completed]" {
		t.Errorf("program_processing_status_history: %v", statuses)
	}
}

// A completed_with without a type is an encounter, as the contract allows types to be left out.
func TestCompleteWithAnEncounter(t *testing.T) {
	t.Parallel()
	s := newService(t).work()
	_, id := s.serviceRequest("in_progress", held(s.clinic))
	value := `{"identifier": {"value": "c5a1d9f0-7b2e-4c63-8d4f-1e0a9b8c7d65"}}`
	a := s.do(act(id, "complete", `{"completed_with": `+value+`, "program_service": `+value+`}`))
	if job := s.ended(a.header.Get("Location")); job["status"] != "processed" {
		t.Fatal(job)
	}
	var kind string
	must(t, s.owner.QueryRow(t.Context(),
		`SELECT completed_with ->> 'type' FROM medical_events.service_requests`).Scan(&kind))
	if kind != "encounter" {
		t.Errorf("completed with a %s", kind)
	}
}

func TestProcessAndCompleteBodies(t *testing.T) {
	t.Parallel()
	s := newService(t)
	_, id := s.serviceRequest("in_progress", held(s.clinic))
	value := func(kind string) string {
		return `{"identifier": {"type": {"coding": [{"system": "eHealth/resources", "code": "` + kind + `"}]},
			"value": "c5a1d9f0-7b2e-4c63-8d4f-1e0a9b8c7d65"}}`
	}
	const enum = " inclusion value is not allowed in enum"
	const cast = " cast type mismatch. Expected object but got "
	for body, want := range map[string][]string{
		`{"completed_with": ` + value("employee") + `}`: {"$.completed_with.identifier.type.coding[0].code" + enum},
		`{"program_service": ` + value("service") + `}`: {"$.program_service.identifier.type.coding[0].code" + enum},
		`{"completed_with": null}`:                      {"$.completed_with" + cast + "null"},
		`{"status_reason": "default"}`:                  {"$.status_reason" + cast + "string"},
		`{"status_reason": {"coding": []}}`:             {"$.status_reason.coding length expected a length of at least 1"},
		`{"status_reason": {"coding": [{"code": "default"}]}}`: {
			"$.status_reason.coding[0].system required required property system was not present",
		},
		`{"status_reason": {"coding": [{"system": "x", "code": "default"}]}}`: {"$.status_reason.coding[0].system" + enum},
		`{"status_reason": {"coding": [{"system": "eHealth/service_request_complete_reasons", "code": "default"},
			{"system": "eHealth/service_request_complete_reasons", "code": "default"}]}}`: {
			"$.status_reason.coding length expected a length of at most 1",
		},
	} {
		s.invalid(act(id, "complete", body), want...)
	}
	first := s.do(act(id, "complete", ""))
	for _, body := range []string{"{}", `{"unknown": 1}`} {
		again := s.do(act(id, "complete", body))
		if again.code != 202 || again.header.Get("Location") != first.header.Get("Location") {
			t.Errorf("complete with %s: %d %s", body, again.code, again.raw)
		}
	}
	for action, scope := range map[string]string{
		"process": "service_request:makeinprogress", "complete": "service_request:complete",
	} {
		s.token = s.issue(s.clinic, "service_request:use service_request:read", time.Hour)
		s.refused(act(id, action, ""), 403, "forbidden", missingScope+scope)
	}
}
