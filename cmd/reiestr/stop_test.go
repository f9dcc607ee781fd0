package main

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

// TestSIGTERMUnderLoadAnswersWhatItAccepted: a process that is told to stop while clients send requests answers each
// request that has had an effect, also those that wait for the end of a job, and exits with 0. Requests that come
// later find the port closed, and have no effect.
func TestSIGTERMUnderLoadAnswersWhatItAccepted(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	p := serve(t, r.env())
	const clients, most = 16, 100
	const waiting = 8
	ids := r.reserved(waiting + clients*most)

	// The jobs of these service requests cannot end, so their requests wait.
	held, err := r.conn.Begin(t.Context())
	must(t, err)
	_, err = held.Exec(t.Context(), `SELECT FROM medical_events.service_requests WHERE id = ANY ($1) FOR UPDATE`,
		ids[:waiting])
	must(t, err)

	// A connection that breaks must not make the client send the request again.
	client := http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}, Timeout: time.Minute}
	ask := func(id uuid.UUID, prefer string) (code int) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPatch,
			p.url+"/api/service_requests/"+id.String()+"/actions/release", nil)
		if err != nil {
			t.Error(err)
			return 0
		}
		request.Header.Set("Authorization", "Bearer "+r.token)
		request.Header.Set("api-key", r.key)
		request.Header.Set("Prefer", prefer)
		response, err := client.Do(request)
		if err != nil {
			return 0
		}
		response.Body.Close()
		return response.StatusCode
	}
	var mu sync.Mutex
	codes := map[uuid.UUID]int{}
	note := func(id uuid.UUID, code int) {
		mu.Lock()
		defer mu.Unlock()
		codes[id] = code
	}
	var running sync.WaitGroup
	for _, id := range ids[:waiting] {
		running.Go(func() { note(id, ask(id, "wait=30")) })
	}
	for c := range clients {
		running.Go(func() {
			for _, id := range ids[waiting+c*most:][:most] {
				code := ask(id, "")
				note(id, code)
				if code == 0 {
					return
				}
			}
		})
	}
	eventually(t, "clients have answers, and the held jobs are accepted", func() bool {
		var accepted int
		must(t, held.QueryRow(t.Context(), `SELECT count(*) FROM ops.jobs WHERE service_request_id = ANY ($1)`,
			ids[:waiting]).Scan(&accepted))
		mu.Lock()
		defer mu.Unlock()
		return accepted == waiting && len(codes) > 100
	})
	begin := time.Now()
	p.stop()
	took := time.Since(begin)
	running.Wait()
	must(t, held.Rollback(t.Context()))
	if strings.Contains(p.stderr(), "requests under way were cut") {
		t.Errorf("requests were cut after %s:\n%s", took, p.stderr())
	}
	for _, id := range ids[:waiting] {
		if codes[id] != http.StatusAccepted {
			t.Errorf("a waiting request is answered %d", codes[id])
		}
	}
	rows, err := r.conn.Query(t.Context(), `SELECT service_request_id FROM ops.jobs`)
	must(t, err)
	effects := map[uuid.UUID]bool{}
	for rows.Next() {
		var id uuid.UUID
		must(t, rows.Scan(&id))
		effects[id] = true
		if codes[id] != http.StatusAccepted {
			t.Errorf("%s has a job, and its request was answered %d", id, codes[id])
		}
	}
	must(t, rows.Err())
	cut := 0
	for id, code := range codes {
		switch {
		case code == 0:
			cut++
		case code == http.StatusAccepted && !effects[id]:
			t.Errorf("%s was accepted, and has no job", id)
		}
	}
	t.Logf("%d answers, %d connections refused, stopped after %s", len(codes)-cut, cut, took)
}
