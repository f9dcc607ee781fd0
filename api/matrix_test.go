package api_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/api/rest"
)

// usage is how an operation is called rightly, and what the same call gets with the token of another legal entity.
type usage struct {
	prepare func(*service) call // lays out what the call needs
	code    int                 // of the right call
	another outcome
	closed  outcome // the legal entity of the token is closed; zero: as the right call
	// suspended is the answer for a suspended legal entity; zero: as the right call.
	suspended outcome
}

// The answers for a legal entity that is not active: contract 3.1, 3.3 and 4.3. Other methods do not ask for it.
var (
	notActive = outcome{code: 422, kind: "validation_failed",
		message: "Legal entity must be in active or suspended status"}
	notAllowed = outcome{code: 409, kind: "request_conflict", message: "Action is not allowed for the legal entity"}
)

// outcome is an answer: a refusal, or, with no message, a success.
type outcome struct {
	code          int
	kind, message string
	data          string // of a success: exactly this; "": anything
}

// usages has every operation of the document, by operationId. A new operation is added here.
var usages = map[string]usage{
	"createLicense": {
		prepare: func(s *service) call { s.primaryLicense(s.clinic); return license() },
		code:    201,
		another: outcome{code: 404, kind: "not_found", message: "No active primary license found for legal entity"},
		closed:  notActive,
	},
	"useServiceRequest": {
		prepare: func(s *service) call {
			_, id := s.serviceRequest("new", uuid.NullUUID{})
			return call{method: "PATCH", path: "/api/service_requests/" + id.String() + "/actions/use", body: useBody(s.clinic)}
		},
		code: 202,
		another: outcome{code: 409, kind: "request_conflict",
			message: "You can assign service request only to your legal entity"},
		closed: notAllowed, suspended: notAllowed,
	},
	"releaseServiceRequest": {
		prepare: func(s *service) call {
			_, id := s.serviceRequest("in_queue", held(s.clinic))
			return call{method: "PATCH", path: "/api/service_requests/" + id.String() + "/actions/release"}
		},
		code:    202,
		another: outcome{code: 409, kind: "request_conflict", message: "Service request is used by another legal entity"},
		closed:  notAllowed, suspended: notAllowed,
	},
	"updateLicense": {
		prepare: func(s *service) call {
			s.primaryLicense(s.clinic)
			var created struct{ ID string }
			must(s.t, json.Unmarshal(s.do(license()).body.Data, &created))
			return call{method: "PATCH", path: "/api/licenses/" + created.ID,
				body: `{"type": "PHARMACY_DRUGS", "is_primary": false, "order_no": "К-2"}`}
		},
		code:    200,
		another: outcome{code: 409, kind: "request_conflict", message: "License doesn't correspond to your legal entity"},
		closed:  notActive,
	},
	"listLicenses": {
		prepare: func(s *service) call {
			s.primaryLicense(s.clinic)
			return call{method: "GET", path: "/api/licenses"}
		},
		code:    200,
		another: outcome{code: 200, data: "[]"},
	},
	"processServiceRequest": {
		prepare: func(s *service) call {
			_, id := s.serviceRequest("in_queue", held(s.clinic))
			return act(id, "process", "")
		},
		code:    202,
		another: outcome{code: 409, kind: "request_conflict", message: "Service request is used by another legal entity"},
		closed:  notAllowed, suspended: notAllowed,
	},
	"completeServiceRequest": {
		prepare: func(s *service) call {
			_, id := s.serviceRequest("in_progress", held(s.clinic))
			return act(id, "complete", completion)
		},
		code:    202,
		another: outcome{code: 409, kind: "request_conflict", message: "Service request is used by another legal entity"},
		closed:  notAllowed, suspended: notAllowed,
	},
	"listServiceRequests": {
		prepare: func(s *service) call {
			s.serviceRequest("new", uuid.NullUUID{})
			return call{method: "GET", path: "/api/service_requests?requisition=R-1"}
		},
		code:    200,
		another: outcome{code: 200}, // found by the requisition alone
	},
	"listPatientServiceRequests": {
		prepare: func(s *service) call {
			patient, _ := s.serviceRequest("new", uuid.NullUUID{})
			return call{method: "GET", path: "/api/patients/" + patient.String() + "/service_requests"}
		},
		code:    200,
		another: outcome{code: 200}, // any legal entity that may use it may read it
	},
	"listEvents": {
		prepare: func(s *service) call {
			s.primaryLicense(s.clinic)
			s.do(license())
			return call{method: "GET", path: "/api/events"}
		},
		code:    200,
		another: outcome{code: 200, data: "[]"},
	},
	"listDictionaries": {
		prepare: func(*service) call { return call{method: "GET", path: "/api/v2/dictionaries"} },
		code:    200,
		another: outcome{code: 200},
	},
	"listFlatDictionaries": {
		prepare: func(*service) call { return call{method: "GET", path: "/api/dictionaries"} },
		code:    200,
		another: outcome{code: 200},
	},
	"listMISDictionaries": {
		prepare: func(*service) call { return call{method: "GET", path: "/api/v2/mis/dictionaries"} },
		code:    200,
		another: outcome{code: 200}, // dictionaries belong to no legal entity
	},
	"getEvent": {
		prepare: func(s *service) call {
			s.primaryLicense(s.clinic)
			s.do(license())
			feed, _ := s.events("", "")
			return call{method: "GET", path: "/api/events/" + feed.Data[0].ID.String()}
		},
		code:    200,
		another: outcome{code: 404, kind: "not_found", message: "Event not found"},
	},
	"getServiceRequest": {
		prepare: func(s *service) call {
			patient, id := s.serviceRequest("new", uuid.NullUUID{})
			return call{method: "GET", path: fmt.Sprintf("/api/patients/%s/service_requests/%s", patient, id)}
		},
		code:    200,
		another: outcome{code: 200}, // any legal entity that may use it may read it
	},
	"getJob": {
		prepare: func(s *service) call {
			_, id := s.serviceRequest("in_queue", held(s.clinic))
			release := s.do(call{method: "PATCH", path: "/api/service_requests/" + id.String() + "/actions/release"})
			return call{method: "GET", path: release.header.Get("Location")}
		},
		code:    200,
		another: outcome{code: 404, kind: "not_found", message: "Job not found"},
	},
}

// TestMatrix calls every operation of the document with every kind of credentials.
func TestMatrix(t *testing.T) {
	t.Parallel()
	issuer := newIssuer(t)
	loaded, err := documents()
	must(t, err)
	scopes := map[string]string{} // of an operation
	for _, item := range loaded[0].Paths.Map() {
		for _, op := range item.Operations() {
			scopes[op.OperationID], _ = op.Extensions["x-required-scope"].(string)
		}
	}
	for id := range scopes {
		if _, ok := usages[id]; !ok {
			t.Errorf("usages lacks the operation %s: add a right call of it, and the answer to another legal entity", id)
		}
	}
	for id, u := range usages {
		if _, ok := scopes[id]; !ok {
			t.Errorf("the document has no operation %s: take it out of usages", id)
			continue
		}
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			s := newService(t, withIssuer(issuer.url))
			if needs := neededBy[id]; needs != "" {
				tryWithoutToken(s, u, needs == "an api key")
				return
			}
			tryCredentials(s, u, scopes[id], scopes)
			tryCallers(s, issuer, u, scopes[id])
			tryRevoked(s, u, scopes[id])
		})
	}
}

func tryCredentials(s *service, u usage, scope string, scopes map[string]string) {
	t := s.t
	right := u.prepare(s)
	var others []string
	for _, other := range scopes {
		if other != "" && other != scope && !slices.Contains(others, other) {
			others = append(others, other)
		}
	}
	token := s.issue(s.clinic, scope, time.Hour)
	revoked := s.issue(s.clinic, scope, time.Hour)
	must(t, s.access.RevokeToken(t.Context(), revoked))
	stranger := uuid.New()
	s.legalEntity(stranger, "OUTPATIENT", "ACTIVE")

	const (
		realm   = `Bearer realm="reiestr"`
		invalid = realm + `, error="invalid_token"`
		keyed   = `Api-Key realm="reiestr"`
	)
	for _, c := range []struct {
		name, token, key   string
		code               int
		message, challenge string
	}{
		{"no token", "", s.key, 401, "Unauthorized: access token is not set", realm},
		{"unknown token", uuid.NewString(), s.key, 401, "Unauthorized: invalid access token", invalid},
		{"revoked token", revoked, s.key, 401, "Unauthorized: invalid access token", invalid},
		{"expired token", s.issue(s.clinic, scope, time.Nanosecond), s.key, 401, "Unauthorized: access token is expired",
			invalid},
		{"no key", token, "", 401, "Unauthorized: Api key is not set", keyed},
		{"unknown key", token, "guess", 401, "Unauthorized: Invalid api key", keyed},
		{"every other scope", s.issue(s.clinic, strings.Join(others, " "), time.Hour), s.key, 403,
			"Invalid scopes. Your scope does not allow to access this resource. Missing allowances: " + scope,
			`Bearer error="insufficient_scope", scope="` + scope + `"`},
	} {
		kind := map[int]string{401: "access_denied", 403: "forbidden"}[c.code]
		a := s.refused(with(right, c.token, c.key), c.code, kind, c.message)
		if got := a.header.Values("WWW-Authenticate"); len(got) != 1 || got[0] != c.challenge {
			t.Errorf("%s: WWW-Authenticate %q", c.name, got)
		}
	}

	s.answers("another legal entity", with(right, s.issue(stranger, scope, time.Hour), s.key), u.another)

	a := s.do(with(right, token, s.key))
	if a.code != u.code {
		t.Errorf("right: %d %s, want %d", a.code, a.raw, u.code)
	}
	if got := a.header.Values("WWW-Authenticate"); got != nil {
		t.Errorf("right: WWW-Authenticate %q", got)
	}
}

// tryWithoutToken calls an operation that asks for no token. Tokens are not looked at, whatever they are. An api key is
// asked for or, if the operation is open, not looked at either.
func tryWithoutToken(s *service, u usage, isKeyed bool) {
	t := s.t
	right := u.prepare(s)
	revoked, err := s.access.IssueAPIKey(t.Context(), "revoked")
	must(t, err)
	must(t, s.access.RevokeAPIKey(t.Context(), revoked))
	for _, token := range []string{"", s.token, "unknown", s.issue(s.clinic, "job:read", time.Nanosecond)} {
		s.answers("with a key", with(right, token, s.key), outcome{code: u.code})
		for key, message := range map[string]string{
			"": "Unauthorized: Api key is not set", "guess": "Unauthorized: Invalid api key",
			revoked: "Unauthorized: Invalid api key",
		} {
			if !isKeyed {
				s.answers("open", with(right, token, key), outcome{code: u.code})
				continue
			}
			a := s.refused(with(right, token, key), 401, "access_denied", message)
			if got := a.header.Values("WWW-Authenticate"); len(got) != 1 || got[0] != `Api-Key realm="reiestr"` {
				t.Errorf("key %q: WWW-Authenticate %q", key, got)
			}
		}
	}
	lax := newService(t, func(c *rest.Config) { c.RequireAPIKey = false })
	lax.answers("where no key is required", with(right, "", ""), outcome{code: u.code})
}

// answers expects an outcome.
func (s *service) answers(name string, c call, want outcome) {
	s.t.Helper()
	a := s.do(c)
	told := a.body.Error
	switch {
	case a.code != want.code, want.data != "" && compact(a.body.Data) != want.data,
		want.message != "" && (told == nil || told.Type != want.kind || told.Message != want.message):
		s.t.Errorf("%s: %d %s, want %+v", name, a.code, a.raw, want)
	}
}

// tryCallers makes the right call for legal entities in other states, for a second user, and with tokens of the issuer.
func tryCallers(s *service, i *issuer, u usage, scope string) {
	right := outcome{code: u.code}
	refusal := func(message string) outcome { return outcome{code: 401, kind: "access_denied", message: message} }
	or := func(o outcome) outcome {
		if o.code == 0 {
			return right
		}
		return o
	}
	for _, c := range []struct {
		name, status string
		token        func(*service) string // nil: an opaque one of the legal entity
		want         outcome
	}{
		{"closed legal entity", "CLOSED", nil, or(u.closed)},
		{"suspended legal entity", "SUSPENDED", nil, or(u.suspended)},
		{"another user of the legal entity", "ACTIVE", func(own *service) string {
			other := *own
			other.user = uuid.New()
			return other.issue(own.clinic, scope, time.Hour)
		}, right},
		{"JWT", "ACTIVE", func(own *service) string { return i.token(own, map[string]any{"scope": scope}) }, right},
		{"JWT for another audience", "ACTIVE", func(own *service) string {
			return i.token(own, map[string]any{"scope": scope, "aud": "other"})
		}, refusal(invalidToken)},
		{"JWT that has expired", "ACTIVE", func(own *service) string {
			return i.token(own, map[string]any{"scope": scope, "exp": time.Now().Add(-time.Minute).Unix()})
		}, refusal(expiredToken)},
		{"JWT without the scope", "ACTIVE", func(own *service) string {
			return i.token(own, map[string]any{"scope": "x" + scope})
		}, outcome{code: 403, kind: "forbidden", message: missingScope + scope}},
	} {
		own := *s // the same service with a legal entity of its own
		own.clinic = uuid.New()
		own.legalEntity(own.clinic, "OUTPATIENT", "ACTIVE")
		own.token = own.issue(own.clinic, allScopes, time.Hour)
		prepared := u.prepare(&own)
		own.sql("UPDATE prm.legal_entities SET status = $2 WHERE id = $1", own.clinic, c.status)
		token := own.token
		if c.token != nil {
			token = c.token(&own)
		}
		own.answers(c.name, with(prepared, token, own.key), c.want)
	}
}

// tryRevoked revokes a token and a key that the process knows, and calls a second later.
func tryRevoked(s *service, u usage, scope string) {
	own := *s
	own.clinic = uuid.New()
	own.legalEntity(own.clinic, "OUTPATIENT", "ACTIVE")
	own.token = own.issue(own.clinic, allScopes, time.Hour)
	right := u.prepare(&own)
	token, kept := own.issue(own.clinic, scope, time.Hour), own.issue(own.clinic, scope, time.Hour)
	key, err := own.access.IssueAPIKey(own.t.Context(), "another")
	must(own.t, err)
	known := call{method: "GET", path: "/api/jobs/" + uuid.NewString()}
	for _, c := range []call{with(known, token, own.key), with(known, kept, key)} {
		if a := own.do(c); a.code != 404 && a.code != 403 {
			own.t.Errorf("before the revocation: %d %s", a.code, a.raw)
		}
	}
	must(own.t, own.access.RevokeToken(own.t.Context(), token))
	must(own.t, own.access.RevokeAPIKey(own.t.Context(), key))
	time.Sleep(time.Second) // the time that the contract allows (section 1)
	own.refused(with(right, token, own.key), 401, "access_denied", invalidToken)
	own.refused(with(right, kept, key), 401, "access_denied", "Unauthorized: Invalid api key")
}

// TestNothingOfAnotherIsTold asks for what another legal entity has, and for what does not exist: both answers are
// equal.
func TestNothingOfAnotherIsTold(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.primaryLicense(s.clinic)
	keyed := license()
	keyed.header = map[string]string{"Idempotency-Key": "shared"}
	var created struct{ ID string }
	must(t, json.Unmarshal(s.do(keyed).body.Data, &created))
	_, id := s.serviceRequest("in_queue", held(s.clinic))
	job := s.do(act(id, "release", "")).header.Get("Location")
	feed, _ := s.events("", "")
	cursor, event := feed.Cursor, feed.Data[0].ID.String()

	other := *s
	other.clinic, other.user = uuid.New(), uuid.New()
	other.legalEntity(other.clinic, "OUTPATIENT", "ACTIVE")
	other.token = other.issue(other.clinic, allScopes, time.Hour)
	told := func(c call) string { // without what is the caller's own
		a := other.do(c)
		a.body.Meta.URL, a.body.Meta.RequestID = "", ""
		text, err := json.Marshal(a.body)
		must(t, err)
		if strings.Contains(string(text), s.clinic.String()) || strings.Contains(string(text), s.user.String()) {
			t.Errorf("%s %s tells of the other: %s", c.method, c.path, text)
		}
		return fmt.Sprint(a.code, " ", a.header.Get("Retry-After"), a.header.Get("Idempotency-Replayed"), string(text))
	}
	get := func(path string) call { return call{method: "GET", path: path} }
	for name, pair := range map[string][2]call{
		"job":                  {get(job), get("/api/jobs/" + uuid.NewString())},
		"waiting for a job":    {waiting(get(job)), waiting(get("/api/jobs/" + uuid.NewString()))},
		"licence":              {get("/api/licenses?id=" + created.ID), get("/api/licenses?id=" + uuid.NewString())},
		"licences of a type":   {get("/api/licenses?type=PHARMACY_DRUGS"), get("/api/licenses?type=OTHER")},
		"a later page":         {get("/api/licenses?page=1&page_size=1"), get("/api/licenses?type=OTHER&page=1&page_size=1")},
		"cursor":               {get("/api/events?after=" + cursor), get("/api/events?after=7fffffffffffff00")},
		"event":                {get("/api/events/" + event), get("/api/events/" + uuid.NewString())},
		"events of an hour":    {get("/api/events?page=1"), get("/api/events?page=1&attribute_name=other")},
		"release of a holding": {act(id, "process", ""), act(id, "process", "{}")},
	} {
		if one, none := told(pair[0]), told(pair[1]); one != none {
			t.Errorf("%s:\n%s\n%s", name, one, none)
		}
	}
	if a := other.do(get("/api/events")); compact(a.body.Data) != "[]" {
		t.Errorf("events of another: %s", a.raw)
	}
	if a := other.do(get("/api/licenses")); a.body.Paging == nil || a.body.Paging.TotalEntries != 0 {
		t.Errorf("licences of another are counted: %s", a.raw)
	}
	// The key of another is free: neither its answer nor a conflict comes.
	fresh := license()
	if one, none := told(keyed), told(fresh); one != none {
		t.Errorf("idempotency key:\n%s\n%s", one, none)
	}
	changed := license("order_no", "К-9")
	changed.header = map[string]string{"Idempotency-Key": "shared2"}
	s.do(changed)
	if one, none := told(withKey(fresh, "shared2")), told(fresh); one != none {
		t.Errorf("idempotency key of another request:\n%s\n%s", one, none)
	}
}

func waiting(c call) call { c.header = map[string]string{"Prefer": "wait=1"}; return c }

func withKey(c call, key string) call {
	c.header = map[string]string{"Idempotency-Key": key}
	return c
}

// TestGuessedTokensCostOneIndexLookUp: of an address that fails to authenticate again and again nothing is limited
// (decision 14), because each guess costs at most one look-up in an index, and nothing is kept of it.
func TestGuessedTokensCostOneIndexLookUp(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.sql(`INSERT INTO ops.access_tokens (token_hash, user_id, client_id, scopes, expires_at)
		SELECT sha256(n::text::bytea), gen_random_uuid(), $1, '{}', now() + interval '1 day' FROM generate_series(1, 5000) n`,
		s.clinic)
	s.sql("ANALYZE ops.access_tokens")
	scans := func() (sequential, byIndex int) {
		s.sql("SELECT pg_stat_clear_snapshot()")
		must(t, s.owner.QueryRow(t.Context(), `SELECT seq_scan, idx_scan FROM pg_stat_all_tables
			WHERE schemaname = 'ops' AND relname = 'access_tokens'`).Scan(&sequential, &byIndex))
		return sequential, byIndex
	}
	const guesses = 200
	sequential, byIndex := scans()
	read := call{method: "GET", path: "/api/jobs/" + uuid.NewString()}
	for n := range guesses {
		token := uuid.NewString()
		if n%4 == 0 {
			token = strings.Repeat("x", 8000) + token
		}
		s.refused(with(read, token, s.key), 401, "access_denied", invalidToken)
		s.refused(with(read, "", s.key), 401, "access_denied", "Unauthorized: access token is not set")
	}
	// A session reports its numbers when it is idle, ten seconds later at most.
	deadline := time.Now().Add(time.Minute)
	after, found := scans()
	for found-byIndex < guesses && time.Now().Before(deadline) {
		time.Sleep(100 * time.Millisecond)
		after, found = scans()
	}
	if after != sequential || found-byIndex != guesses {
		t.Errorf("%d guesses: %d look-ups by index, %d scans of the whole table", guesses, found-byIndex, after-sequential)
	}
	if a := s.do(read); a.code != 404 {
		t.Errorf("a right token after the guesses: %d %s", a.code, a.raw)
	}
}

// with is the call with other credentials; "": none.
func with(c call, token, key string) call {
	header := map[string]string{"Authorization": "", "api-key": key}
	for name, value := range c.header {
		header[name] = value
	}
	if token != "" {
		header["Authorization"] = "Bearer " + token
	}
	c.header = header
	return c
}

// compact is JSON without white space.
func compact(data json.RawMessage) string {
	var value any
	if err := json.Unmarshal(data, &value); err != nil {
		return string(data)
	}
	text, err := json.Marshal(value)
	if err != nil {
		return string(data)
	}
	return string(text)
}
