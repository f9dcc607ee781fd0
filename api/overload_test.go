package api_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/api"
	"github.com/reiestr/reiestr/api/rest"
	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/migrations"
)

const overloadMessage = "The service is overloaded, and has not carried out the request. Try again later."

// TestOverloadIsRefused: while as many commands are carried out as may be, each further one is answered 503 with
// Retry-After and has no effect. Reads go on, and the process is ready. Afterwards commands are answered as before.
func TestOverloadIsRefused(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.primaryLicense(s.clinic)
	app, err := db.Open(t.Context(), db.Config{URL: s.owner.Config().ConnString(), TimeZone: "Europe/Kyiv", MaxConns: 4,
		Patience: time.Minute})
	must(t, err)
	t.Cleanup(app.Close)
	const places = 3
	served := *s
	served.url = serveHTTP(t, api.New(rest.Config{DB: app, RequireAPIKey: true, Places: places,
		Log: slog.New(slog.DiscardHandler), RequestTimeout: 2 * time.Minute,
		Ready: func(ctx context.Context) error { return app.Ready(ctx, migrations.Latest()) }}))
	holder, err := s.owner.Begin(t.Context())
	must(t, err)
	_, err = holder.Exec(t.Context(), `SELECT FROM prm.legal_entities WHERE id = $1 FOR NO KEY UPDATE`, s.clinic)
	must(t, err)
	answers := make(chan answer, places)
	for range places {
		go func() { answers <- served.do(license()) }()
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if waiting, _, _ := app.Waiters(); waiting == places {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the commands do not wait")
		}
	}
	_, id := s.serviceRequest("new", uuid.NullUUID{})
	for range 3 { // the first one waits for a place, as in a burst
		a := served.refused(call{method: "PATCH", path: "/api/service_requests/" + id.String() + "/actions/release"},
			503, "service_unavailable", overloadMessage)
		if a.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	if a := served.do(call{method: "GET", path: "/api/licenses"}); a.code != 200 {
		t.Errorf("a read: %d %s", a.code, a.raw)
	}
	served.eventually("/readyz", 200)
	must(t, holder.Commit(t.Context()))
	codes := map[int]int{}
	for range places {
		codes[receive(t, answers).code]++
	}
	if codes[201] != 1 || codes[409] != places-1 {
		t.Errorf("the commands that had places: %v", codes)
	}
	if a := served.do(license()); a.code != 409 {
		t.Errorf("after the overload: %d %s", a.code, a.raw)
	}
}

// TestManySlowBodiesTakeNoPlace: many clients that have sent half of their bodies keep no command from the only place,
// not for a moment. A body that never becomes whole is answered 400, also when there is no place.
func TestManySlowBodiesTakeNoPlace(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *rest.Config) { c.Places, c.BodyTimeout = 1, 10*time.Second })
	_, id := s.serviceRequest("in_queue", uuid.NullUUID{UUID: s.clinic, Valid: true})
	release := "/api/service_requests/" + id.String() + "/actions/release"
	var readers []*bufio.Reader
	for range 20 {
		_, reader := s.speak("PATCH " + release + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + s.token +
			"\r\napi-key: " + s.key + "\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{")
		readers = append(readers, reader)
	}
	a := s.do(call{method: "PATCH", path: release})
	for range 100 { // a busy machine may count as overloaded
		if a.code != 503 {
			break
		}
		time.Sleep(50 * time.Millisecond)
		a = s.do(call{method: "PATCH", path: release})
	}
	if a.code != 202 {
		t.Errorf("a command beside them: %d %s", a.code, a.raw)
	}
	codes := map[int]int{}
	for _, reader := range readers {
		response, err := http.ReadResponse(reader, nil)
		must(t, err)
		codes[response.StatusCode]++
	}
	// A busy machine may refuse some before it reads their bodies.
	if codes[400] == 0 || codes[400]+codes[503] != len(readers) {
		t.Errorf("bodies that are cut off: %v", codes)
	}
}

// TestWaitingAndSlowClientsTakeNoPlace: a request that waits by Prefer, and a client that sends its body slowly, keep
// no other request from the only place.
func TestWaitingAndSlowClientsTakeNoPlace(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *rest.Config) { c.Places, c.BodyTimeout = 1, time.Minute })
	_, id := s.serviceRequest("in_queue", uuid.NullUUID{UUID: s.clinic, Valid: true})
	release := "/api/service_requests/" + id.String() + "/actions/release"
	waiting := make(chan answer, 1)
	go func() {
		waiting <- s.do(call{method: "PATCH", path: release, header: map[string]string{"Prefer": "wait=30"}})
	}()
	job := func() (n int) {
		must(t, s.owner.QueryRow(t.Context(), `SELECT count(*) FROM ops.jobs`).Scan(&n))
		return n
	}
	for deadline := time.Now().Add(time.Minute); job() == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the action is not accepted")
		}
	}
	// On a busy machine either command may find that the other one has had the place for too long, and is then refused.
	beside, slow := 0, 0
	for deadline := time.Now().Add(time.Minute); slow != 202 && time.Now().Before(deadline); {
		conn, reader := s.speak("PATCH " + release + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + s.token +
			"\r\napi-key: " + s.key + "\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{")
		for beside = 0; beside != 202 && time.Now().Before(deadline); {
			beside = s.do(call{method: "PATCH", path: release}).code
		}
		_, err := fmt.Fprint(conn, "}")
		must(t, err)
		response, err := http.ReadResponse(reader, nil)
		must(t, err)
		slow = response.StatusCode
	}
	if beside != 202 || slow != 202 {
		t.Errorf("a command is answered %d beside a slow client, and the slow client %d", beside, slow)
	}
	s.work()
	if a := receive(t, waiting); a.code != 200 {
		t.Errorf("the waiting request: %d %s", a.code, a.raw)
	}
}
