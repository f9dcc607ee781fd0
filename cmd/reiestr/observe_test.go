package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestObserved: a process sends its traces at the latest when it stops, serves metrics in every role, and limits
// requests as configured.
func TestObserved(t *testing.T) {
	t.Parallel()
	received := make(chan string, 100)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		received <- string(body)
	}))
	defer collector.Close()
	r := newRegistry(t)
	p := serve(t, append(r.env(), "OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL, "OTEL_SDK_DISABLED=",
		"OTEL_TRACES_EXPORTER=", "REIESTR_RATE_LIMIT=1000"))
	job := r.release(p, r.reserved(1)[0])
	r.processed(p, []string{job})
	if _, header, _ := r.call(p, http.MethodGet, job); header.Get("RateLimit-Policy") != `"client";q=1000;w=1` {
		t.Errorf("headers %v", header)
	}
	worker := serve(t, r.env(), "--role", "worker")
	for url, want := range map[string]string{
		p.url + "/metrics":      "\nreiestr_queue_jobs 0\n",
		worker.url + "/metrics": "\nreiestr_queue_jobs 0\n",
		p.url + "/docs":         "",
	} {
		// A scrape leaves out the queue if a busy database does not count it in time.
		eventually(t, fmt.Sprintf("%s has %q", url, want), func() bool {
			response, err := http.Get(url)
			must(t, err)
			body, err := io.ReadAll(response.Body)
			must(t, err)
			response.Body.Close()
			return response.StatusCode == 200 && strings.Contains(string(body), want)
		})
	}
	worker.stop()
	p.stop()
	close(received)
	var traces string
	for part := range received {
		traces += part
	}
	for _, span := range []string{"job release", "PATCH /api/service_requests/{service_request_id}/actions/release"} {
		if !strings.Contains(traces, span) {
			t.Errorf("no span %s was exported", span)
		}
	}
	if log := p.stderr(); !strings.Contains(log, strings.TrimPrefix(job, "/api/jobs/")) ||
		strings.Contains(log, r.token) || strings.Contains(log, r.key) {
		t.Errorf("log: %s", log)
	}
}
