package api_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
)

func (c call) with(header, value string) call {
	added := map[string]string{header: value}
	for name, value := range c.header {
		if name != header {
			added[name] = value
		}
	}
	c.header = added
	return c
}

// replayed expects the answer of before once more.
func (s *service) replayed(c call, before answer) {
	s.t.Helper()
	a := s.do(c)
	if a.code != before.code || a.raw != before.raw || a.header.Get("Idempotency-Replayed") != "true" ||
		a.header.Get("Location") != before.header.Get("Location") {
		s.t.Errorf("got %d %v %s\nwant %d %s", a.code, a.header, a.raw, before.code, before.raw)
	}
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.primaryLicense(s.clinic)
	create := license().with("Idempotency-Key", "k-1")
	first := s.do(create)
	if first.code != 201 || first.header.Get("Idempotency-Replayed") != "" {
		t.Fatalf("%d %s", first.code, first.raw)
	}
	s.replayed(create, first)
	s.replayed(create.with("Idempotency-Key", `"k-1"`), first)
	s.refused(license("order_no", "К-2").with("Idempotency-Key", "k-1"), 422, "validation_failed",
		"Idempotency-Key was used for another request")
	_, id := s.serviceRequest("in_queue", held(s.clinic))
	s.refused(s.release(id, "").with("Idempotency-Key", "k-1"), 422, "validation_failed",
		"Idempotency-Key was used for another request")

	// A refusal is a decision: it is given again also when the state has changed.
	again := license().with("Idempotency-Key", "k-2")
	refused := s.refused(again, 409, "request_conflict", "License with type PHARMACY_DRUGS is already present")
	s.sql(`DELETE FROM prm.licenses WHERE NOT is_primary`)
	s.replayed(again, refused)
	faulty := call{method: "POST", path: "/api/licenses", body: `{}`}.with("Idempotency-Key", "k-3")
	s.replayed(faulty, s.do(faulty))

	// An action's job, also when an equal one would be another by now.
	release := s.release(id, "").with("Idempotency-Key", "k-4")
	accepted := s.do(release)
	if accepted.code != 202 {
		t.Fatalf("%d %s", accepted.code, accepted.raw)
	}
	s.work()
	s.ended(accepted.header.Get("Location"))
	s.replayed(release, accepted)

	// Keys are the client's own.
	other := uuid.New()
	s.legalEntity(other, "OUTPATIENT", "ACTIVE")
	s.primaryLicense(other)
	if a := s.do(create.with("Authorization", "Bearer "+s.issue(other, "license:write", time.Hour))); a.code != 201 ||
		a.header.Get("Idempotency-Replayed") != "" {
		t.Errorf("another client: %d %s", a.code, a.raw)
	}
	for _, key := range []string{`""`, strings.Repeat("k", 256), "k\tk"} {
		s.refused(license().with("Idempotency-Key", key), 400, "request_malformed",
			"Idempotency-Key must be one string of 1 to 255 printable ASCII characters")
	}
}

// What came to no decision leaves the key free, and neither is a key looked at before it is known who calls.
func TestIdempotencyKeyStaysFree(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.primaryLicense(s.clinic)
	create := license().with("Idempotency-Key", "k")
	if a := s.do(create.with("Authorization", "Bearer x").with("Idempotency-Key", `""`)); a.code != 401 {
		t.Errorf("%d %s", a.code, a.raw)
	}
	if a := s.do(create.with("Authorization", "Bearer "+s.issue(s.clinic, "job:read", time.Hour)).with("Idempotency-Key",
		`""`)); a.code != 403 {
		t.Errorf("%d %s", a.code, a.raw)
	}
	s.sql(`ALTER TABLE prm.licenses ADD CONSTRAINT broken CHECK (is_primary) NOT VALID`)
	if a := s.do(create); a.code != 500 {
		t.Errorf("%d %s", a.code, a.raw)
	}
	s.sql(`ALTER TABLE prm.licenses DROP CONSTRAINT broken`)
	first := s.do(create)
	if first.code != 201 || first.header.Get("Idempotency-Replayed") != "" {
		t.Errorf("%d %s", first.code, first.raw)
	}
	s.replayed(create, first)
}

func TestAHundredWithOneIdempotencyKey(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.primaryLicense(s.clinic)
	var all sync.WaitGroup
	var done atomic.Int32
	answers := make([]answer, 100)
	for i := range answers {
		all.Go(func() {
			answers[i] = s.do(license().with("Idempotency-Key", "k"))
			if answers[i].code == 201 && answers[i].header.Get("Idempotency-Replayed") == "" {
				done.Add(1)
			}
		})
	}
	all.Wait()
	if done.Load() != 1 {
		t.Errorf("carried out %d times", done.Load())
	}
	var created string
	for _, a := range answers {
		switch {
		case a.code == 201:
			if created == "" {
				created = a.raw
			}
			if a.raw != created {
				t.Errorf("%s, another was answered %s", a.raw, created)
			}
		case a.code != 409 || a.body.Error.Message != "A request with this Idempotency-Key is being carried out":
			t.Errorf("%d %s", a.code, a.raw)
		}
	}
}

// TestNoBodyAndAnEmptyObjectAreTheSameRequest: each of the four actions, with the key of the one and the body of the
// other. The action use must have a body, so without one it is refused before its key is looked at.
func TestNoBodyAndAnEmptyObjectAreTheSameRequest(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for _, action := range []string{"use", "release", "process", "complete"} {
		_, id := s.serviceRequest("in_queue", held(s.clinic))
		request := call{method: "PATCH", path: "/api/service_requests/" + id.String() + "/actions/" + action}
		bodies := []string{"", "{}", "{ }", " {\r\n\t}\n"}
		if action == "use" {
			s.refused(request.with("Idempotency-Key", "k"), 400, "request_malformed",
				"There is no body. A JSON object is expected.")
			bodies = []string{"{}", "{ }", " {\r\n\t}\n"}
		}
		for n, first := range bodies {
			request.body = first
			keyed := request.with("Idempotency-Key", fmt.Sprint(action, n))
			answer := s.do(keyed)
			if answer.code >= 500 || answer.header.Get("Idempotency-Replayed") != "" {
				t.Errorf("%s %q: %d %s", action, first, answer.code, answer.raw)
			}
			for _, repeated := range bodies {
				keyed.body = repeated
				s.replayed(keyed, answer)
			}
			for _, other := range []string{`{"a": 1}`, `[]`, `{"{}": {}}`} {
				keyed.body = other
				s.refused(keyed, 422, "validation_failed", "Idempotency-Key was used for another request")
			}
		}
	}
}

// TestIdempotencyKeyOfTwoUsers: the same key of two users of one clinic is two keys.
func TestIdempotencyKeyOfTwoUsers(t *testing.T) {
	t.Parallel()
	s := newService(t)
	_, id := s.serviceRequest("in_queue", held(s.clinic))
	first := s.release(id, "").with("Idempotency-Key", "k")
	answer := s.do(first)
	colleague := *s
	colleague.user = uuid.New()
	token := colleague.issue(s.clinic, "service_request:use", time.Hour)
	_, another := s.serviceRequest("in_queue", held(s.clinic))
	second := s.release(another, "").with("Idempotency-Key", "k").with("Authorization", "Bearer "+token)
	own := s.do(second)
	if answer.code != 202 || own.code != 202 || own.header.Get("Idempotency-Replayed") != "" {
		t.Errorf("%d %s, %d %s", answer.code, answer.raw, own.code, own.raw)
	}
	s.replayed(first, answer)
	s.replayed(second, own)
}

// TestAcceptanceIsKeptWhileTheRequestWaits: a repetition is given the 202 as long as the first request waits, and then
// the answer that the first request was given.
func TestAcceptanceIsKeptWhileTheRequestWaits(t *testing.T) {
	t.Parallel()
	s := newService(t)
	_, id := s.serviceRequest("in_queue", held(s.clinic))
	waiting := s.release(id, "wait=30").with("Idempotency-Key", "k")
	outcome := make(chan answer, 1)
	go func() { outcome <- s.do(waiting) }()
	// Before its acceptance is stored, a repetition might come first and be the one that waits.
	for deadline, stored := time.Now().Add(20*time.Second), false; !stored; time.Sleep(10 * time.Millisecond) {
		must(t, s.owner.QueryRow(t.Context(),
			`SELECT EXISTS (SELECT FROM ops.idempotency_records WHERE code = 202)`).Scan(&stored))
		if time.Now().After(deadline) {
			t.Fatal("the acceptance is not stored")
		}
	}
	repeated := s.do(waiting)
	if repeated.code != 202 || repeated.header.Get("Idempotency-Replayed") != "true" ||
		repeated.header.Get("Retry-After") == "" ||
		repeated.header.Get("Content-Type") != "application/json" || repeated.header.Get("Preference-Applied") != "" ||
		repeated.status(t) != "pending" {
		t.Errorf("%v %s", repeated.header, repeated.raw)
	}
	s.ended(s.work().do(waiting).header.Get("Location"))
	answer := receive(t, outcome)
	if answer.code != 200 || answer.status(t) != "processed" ||
		answer.header.Get("Location") != repeated.header.Get("Location") {
		t.Errorf("%d %s", answer.code, answer.raw)
	}
	s.replayed(waiting, answer)
}

// TestCallerThatHasGone: a caller that gives up while its request is carried out finds the answer when it repeats the
// request. If nothing was decided, its key is free.
func TestCallerThatHasGone(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.primaryLicense(s.clinic)
	create := license().with("Idempotency-Key", "k")
	// leave sends the request, and gives up when the service waits for the change of another transaction. The caller's
	// context has ended when the change is undone.
	leave := func(c call, change, waits string) {
		t.Helper()
		tx, err := s.owner.Begin(t.Context())
		must(t, err)
		defer tx.Rollback(context.Background()) //nolint:errcheck // undone already, or the test has failed
		_, err = tx.Exec(t.Context(), change, s.clinic)
		must(t, err)
		waiting := func() (is bool) {
			if waits == "" {
				now, _, _ := s.app.Waiters()
				return now > 0
			}
			// A transaction keeps what it has read of pg_stat_activity, without the sessions that came later.
			_, err := tx.Exec(t.Context(), `SELECT pg_stat_clear_snapshot()`)
			must(t, err)
			must(t, tx.QueryRow(t.Context(), waits).Scan(&is))
			return is
		}
		// On a busy machine the request may be answered 503 before it waits, and has done nothing then.
		for deadline := time.Now().Add(time.Minute); ; {
			ctx, giveUp := context.WithCancel(t.Context())
			defer giveUp()
			request := httptest.NewRequestWithContext(ctx, c.method, c.path, strings.NewReader(c.body))
			request.Header.Set("Authorization", "Bearer "+s.token)
			request.Header.Set("api-key", s.key)
			request.Header.Set("Content-Type", "application/json")
			for name, value := range c.header {
				request.Header.Set(name, value)
			}
			answer := httptest.NewRecorder()
			ended := make(chan struct{})
			go func() { s.handler.ServeHTTP(answer, request); close(ended) }()
			over := false
			for !over && !waiting() {
				select {
				case <-ended:
					over = true
				case <-time.After(5 * time.Millisecond):
				}
			}
			if over && answer.Code == 503 && time.Now().Before(deadline) {
				continue
			}
			if over {
				t.Fatalf("the request does not wait: %d %s", answer.Code, answer.Body)
			}
			giveUp()
			must(t, tx.Rollback(t.Context()))
			receive(t, ended)
			return
		}
	}

	// The licence waits for an equal one that is being added. When that one is undone the licence is registered.
	leave(create, `INSERT INTO prm.licenses
		(legal_entity_id, type, is_primary, issued_by, issued_date, active_from_date, inserted_by, updated_by)
		VALUES ($1, 'PHARMACY_DRUGS', false, '', '2020-01-01', '2020-01-01', $1, $1)`,
		`SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
			WHERE NOT l.granted AND a.datname = current_database())`)
	repeated := s.do(create)
	if repeated.code != 201 || repeated.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("%d %v %s", repeated.code, repeated.header, repeated.raw)
	}

	// The next licence waits for its legal entity, without a transaction. Nothing is decided when its caller leaves.
	s.sql(`DELETE FROM prm.licenses WHERE NOT is_primary`)
	next := create.with("Idempotency-Key", "k-2")
	leave(next, `SELECT FROM prm.legal_entities WHERE id = $1 FOR UPDATE`, "")
	if a := s.do(next); a.code != 201 || a.header.Get("Idempotency-Replayed") != "" {
		t.Errorf("%d %v %s", a.code, a.header, a.raw)
	}
}
