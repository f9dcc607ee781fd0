package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/reiestr/reiestr/api/rest"
	"github.com/reiestr/reiestr/db"
)

func (s *service) release(id uuid.UUID, prefer string) call {
	return call{method: "PATCH", path: "/api/service_requests/" + id.String() + "/actions/release",
		header: map[string]string{"Prefer": prefer}}
}

// status is that of the job in an answer.
func (a answer) status(t testing.TB) string {
	t.Helper()
	var job struct{ Status string }
	must(t, json.Unmarshal(a.body.Data, &job))
	return job.Status
}

func TestWaitForAnAction(t *testing.T) {
	t.Parallel()
	s := newService(t).work()
	_, id := s.serviceRequest("in_queue", held(s.clinic))
	a := s.do(s.release(id, "respond-async, wait=60"))
	if a.code != 200 || a.status(t) != "processed" || a.header.Get("Preference-Applied") != "wait=30" ||
		a.header.Get("Location") == "" ||
		a.header.Get("Retry-After") != "" {
		t.Errorf("%d %v %s", a.code, a.header, a.raw)
	}
	again := s.do(call{method: "GET", path: a.header.Get("Location"), header: map[string]string{"Prefer": "wait=5"}})
	if again.code != 200 || again.status(t) != "processed" || again.header.Get("Preference-Applied") != "wait=5" {
		t.Errorf("%d %v %s", again.code, again.header, again.raw)
	}
	// A rule that refuses at once does so.
	s.refused(s.release(id, "wait=30"), 409, "request_conflict", "Invalid program processing status")
}

func TestWaitInVain(t *testing.T) {
	t.Parallel()
	s := newService(t) // nobody works
	_, id := s.serviceRequest("in_queue", held(s.clinic))
	a := s.do(s.release(id, "wait=1"))
	if a.code != 202 || a.status(t) != "pending" || a.header.Get("Preference-Applied") != "wait=1" ||
		a.header.Get("Retry-After") == "" {
		t.Errorf("%d %v %s", a.code, a.header, a.raw)
	}
	job := call{method: "GET", path: a.header.Get("Location"), header: map[string]string{"Prefer": "wait=1"}}
	if a := s.do(job); a.code != 200 || a.status(t) != "pending" || a.header.Get("Preference-Applied") != "wait=1" {
		t.Errorf("%d %v %s", a.code, a.header, a.raw)
	}
	job.header["Prefer"] = "wait=0"
	if a := s.do(job); a.code != 200 || a.header.Get("Preference-Applied") != "" {
		t.Errorf("%d %v %s", a.code, a.header, a.raw)
	}
	job.path = "/api/jobs/" + uuid.NewString()
	job.header["Prefer"] = "wait=30"
	s.refused(job, 404, "not_found", "Job not found")
}

// A server that stops answers at once what there is to say.
func TestWaitEndsWhenTheServerStops(t *testing.T) {
	t.Parallel()
	stopping, stop := context.WithCancel(context.Background())
	s := newService(t, func(c *rest.Config) { c.Stopping = stopping })
	_, id := s.serviceRequest("in_queue", held(s.clinic))
	time.AfterFunc(50*time.Millisecond, stop)
	start := time.Now()
	if a := s.do(s.release(id, "wait=30")); a.code != 202 || a.status(t) != "pending" ||
		time.Since(start) > 20*time.Second {
		t.Errorf("%d %s after %s", a.code, a.raw, time.Since(start))
	}
}

func TestTwoHundredWaitOnASmallPool(t *testing.T) {
	t.Parallel()
	s := newService(t)
	url := s.owner.Config().ConnString()
	small, err := db.Open(t.Context(), db.Config{URL: url, TimeZone: "Europe/Kyiv", MaxConns: 4})
	must(t, err)
	t.Cleanup(small.Close)
	served := s.serving(small)
	_, id := s.serviceRequest("in_queue", held(s.clinic))
	job := s.do(s.release(id, "")).header.Get("Location")
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			if a := served.do(call{method: "GET", path: job, header: map[string]string{"Prefer": "wait=30"}}); a.code != 200 ||
				a.status(t) != "processed" {
				t.Errorf("%d %s", a.code, a.raw)
			}
		})
	}
	if a := served.do(call{method: "GET", path: job}); a.code != 200 {
		t.Errorf("beside them: %d %s", a.code, a.raw)
	}
	served.work()
	all.Wait()
}

// Not parallel: other tests' goroutines would be taken for leaks.
func TestAClientThatGoesAwayLeavesNothingBehind(t *testing.T) {
	s := newService(t)
	_, id := s.serviceRequest("in_queue", held(s.clinic))
	job := s.do(s.release(id, "wait=1")).header.Get("Location") // from now on the process listens
	http.DefaultClient.CloseIdleConnections()
	before := goleak.IgnoreCurrent()
	client := &http.Client{Transport: &http.Transport{}}
	for _, path := range []string{job, "/api/events"} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
		must(t, err)
		request.Header.Set("Authorization", "Bearer "+s.token)
		request.Header.Set("api-key", s.key)
		request.Header.Set("Prefer", "wait=30")
		if response, err := client.Do(request); err == nil {
			response.Body.Close()
			t.Errorf("%s: answered %s", path, response.Status)
		}
		cancel()
	}
	client.CloseIdleConnections()
	goleak.VerifyNone(t, before)
}
