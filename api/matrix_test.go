package api_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// usage is how an operation is called rightly, and what the same call gets with the token of another legal entity.
type usage struct {
	prepare func(*service) call // lays out what the call needs
	code    int                 // of the right call
	another outcome
}

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
	},
	"useServiceRequest": {
		prepare: func(s *service) call {
			_, id := s.serviceRequest("new", uuid.NullUUID{})
			return call{method: "PATCH", path: "/api/service_requests/" + id.String() + "/actions/use", body: useBody(s.clinic)}
		},
		code: 202,
		another: outcome{code: 409, kind: "request_conflict",
			message: "You can assign service request only to your legal entity"},
	},
	"releaseServiceRequest": {
		prepare: func(s *service) call {
			_, id := s.serviceRequest("in_queue", held(s.clinic))
			return call{method: "PATCH", path: "/api/service_requests/" + id.String() + "/actions/release"}
		},
		code:    202,
		another: outcome{code: 409, kind: "request_conflict", message: "Service request is used by another legal entity"},
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
	},
	"completeServiceRequest": {
		prepare: func(s *service) call {
			_, id := s.serviceRequest("in_progress", held(s.clinic))
			return act(id, "complete", completion)
		},
		code:    202,
		another: outcome{code: 409, kind: "request_conflict", message: "Service request is used by another legal entity"},
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
			tryCredentials(newService(t), u, scopes[id], scopes)
		})
	}
}

func tryCredentials(s *service, u usage, scope string, scopes map[string]string) {
	t := s.t
	right := u.prepare(s)
	var others []string
	for _, other := range scopes {
		if other != scope && !slices.Contains(others, other) {
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

	foreign := with(right, s.issue(stranger, scope, time.Hour), s.key)
	if want := u.another; want.message != "" {
		s.refused(foreign, want.code, want.kind, want.message)
	} else if a := s.do(foreign); a.code != want.code || want.data != "" && compact(a.body.Data) != want.data {
		t.Errorf("another legal entity: %d %s, want %d %s", a.code, a.raw, want.code, want.data)
	}

	a := s.do(with(right, token, s.key))
	if a.code != u.code {
		t.Errorf("right: %d %s, want %d", a.code, a.raw, u.code)
	}
	if got := a.header.Values("WWW-Authenticate"); got != nil {
		t.Errorf("right: WWW-Authenticate %q", got)
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
