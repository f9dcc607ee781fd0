package api_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/api/rest"
)

// TestScopes tries every operation without its scope and with no other.
func TestScopes(t *testing.T) {
	t.Parallel()
	s := newService(t)
	id := uuid.NewString()
	for _, c := range []struct {
		call
		scope string
	}{
		{call{method: "POST", path: "/api/licenses"}, "license:write"},
		{call{method: "PATCH", path: "/api/service_requests/" + id + "/actions/use"}, "service_request:use"},
		{call{method: "PATCH", path: "/api/service_requests/" + id + "/actions/release"}, "service_request:use"},
		{call{method: "GET", path: "/api/patients/" + id + "/service_requests/" + id}, "service_request:read"},
		{call{method: "GET", path: "/api/jobs/" + id}, "job:read"},
		{call{method: "GET", path: "/api/events"}, "event:read"},
		{call{method: "GET", path: "/api/events?page=1"}, "event:read"},
		{call{method: "GET", path: "/api/events/" + id}, "event:read"},
	} {
		c.header = map[string]string{"Authorization": "Bearer " + s.issue(s.clinic, "other:scope", time.Hour)}
		s.refused(c.call, 403, "forbidden", missingScope+c.scope)
		c.header = map[string]string{"Authorization": "Bearer " + s.issue(s.clinic, c.scope, time.Hour)}
		if a := s.do(c.call); a.code == 401 || a.code == 403 {
			t.Errorf("%s with %s: %d %s", c.path, c.scope, a.code, a.raw)
		}
	}
}

func TestAPIKeyNotRequired(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *rest.Config) { c.RequireAPIKey = false })
	read := call{method: "GET", path: "/api/jobs/" + uuid.NewString(), header: map[string]string{"api-key": ""}}
	s.refused(read, 404, "not_found", "Job not found")
}
