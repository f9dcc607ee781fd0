package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// TestKilledWhileWaitingKeepsTheAcceptance kills the process while a request with Prefer: wait and an Idempotency-Key
// waits for its job. The repetition is given the 202 of the job at once, also when the job has ended, and nothing is
// done twice.
func TestKilledWhileWaitingKeepsTheAcceptance(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	id := r.reserved(1)[0]
	path := "/api/service_requests/" + id.String() + "/actions/release"
	p := serve(t, r.env(), "--role", "api")

	request, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, p.url+path, nil)
	must(t, err)
	for name, value := range map[string]string{
		"Authorization": "Bearer " + r.token, "api-key": r.key, "Idempotency-Key": "k", "Prefer": "wait=30",
	} {
		request.Header.Set(name, value)
	}
	waiting := make(chan error)
	go func() {
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			response.Body.Close()
		}
		waiting <- err
	}()
	eventually(t, "the acceptance is stored", func() (stored bool) {
		must(t, r.conn.QueryRow(t.Context(),
			`SELECT EXISTS (SELECT FROM ops.idempotency_records WHERE code = 202)`).Scan(&stored))
		return stored
	})
	p.kill()
	if err := receive(t, waiting); err == nil {
		t.Fatal("the request was answered before the process was killed")
	}

	p = serve(t, r.env(), "--role", "api")
	repeat := func() (answer, location string) {
		t.Helper()
		code, header, body := r.call(p, http.MethodPatch, path, "Idempotency-Key", "k", "Prefer", "wait=30")
		if code != http.StatusAccepted || header.Get("Idempotency-Replayed") != "true" {
			t.Fatalf("repeated: %d %v %s", code, header, body)
		}
		return body, header.Get("Location")
	}
	first, job := repeat()
	var accepted struct {
		Data struct {
			Status string
			Links  []struct{ Href string }
		}
	}
	must(t, json.Unmarshal([]byte(first), &accepted))
	if accepted.Data.Status != "pending" || len(accepted.Data.Links) != 1 || accepted.Data.Links[0].Href != job {
		t.Errorf("%s, Location %s", first, job)
	}
	p.stop()

	p = serve(t, r.env())
	r.processed(p, []string{job})
	if again, _ := repeat(); again != first {
		t.Errorf("after the end of the job: %s\nbefore: %s", again, first)
	}
	var jobs, events int
	must(t, r.conn.QueryRow(t.Context(),
		`SELECT (SELECT count(*) FROM ops.jobs), (SELECT count(*) FROM ops.events)`).Scan(&jobs, &events))
	if jobs != 1 || events != 1 || !strings.HasPrefix(job, "/api/jobs/") {
		t.Errorf("%d jobs, %d events, %s", jobs, events, job)
	}
}
