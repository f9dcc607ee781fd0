package api_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/api/rest"
)

// TestAccess goes through the order of section 1: whoever fails several checks hears of the first.
func TestAccess(t *testing.T) {
	t.Parallel()
	s := newService(t)
	expired := s.issue(s.clinic, allScopes, time.Nanosecond)
	poor := s.issue(s.clinic, "license:read", time.Hour)
	revoked := s.issue(s.clinic, allScopes, time.Hour)
	must(t, s.access.RevokeToken(t.Context(), revoked))
	revokedKey, err := s.access.IssueAPIKey(t.Context(), "revoked")
	must(t, err)
	must(t, s.access.RevokeAPIKey(t.Context(), revokedKey))

	const (
		basic   = `Bearer realm="reiestr"`
		invalid = `Bearer realm="reiestr", error="invalid_token"`
		keyed   = `Api-Key realm="reiestr"`
	)
	for _, c := range []struct {
		name, authorization, key, message, challenge string
	}{
		{"no token", "", s.key, "Unauthorized: access token is not set", basic},
		{"no token, no key", "", "", "Unauthorized: access token is not set", basic},
		{"another scheme", "Basic YTpi", s.key, "Unauthorized: access token is not set", basic},
		{"unknown", "Bearer " + uuid.NewString(), s.key, "Unauthorized: invalid access token", invalid},
		{"unknown, no key", "Bearer " + uuid.NewString(), "", "Unauthorized: invalid access token", invalid},
		{"empty", "Bearer ", s.key, "Unauthorized: invalid access token", invalid},
		{"no credentials", "Bearer", s.key, "Unauthorized: invalid access token", invalid},
		{"strange bytes", "Bearer \xff\xfe'; --", s.key, "Unauthorized: invalid access token", invalid},
		{"revoked", "Bearer " + revoked, s.key, "Unauthorized: invalid access token", invalid},
		{"expired", "Bearer " + expired, s.key, "Unauthorized: access token is expired", invalid},
		{"expired, no key", "Bearer " + expired, "", "Unauthorized: access token is expired", invalid},
		{"no key", "Bearer " + s.token, "", "Unauthorized: Api key is not set", keyed},
		{"no key, no scope", "Bearer " + poor, "", "Unauthorized: Api key is not set", keyed},
		{"unknown key", "Bearer " + s.token, "guess", "Unauthorized: Invalid api key", keyed},
		{"revoked key", "Bearer " + s.token, revokedKey, "Unauthorized: Invalid api key", keyed},
	} {
		a := s.refused(call{method: "POST", path: "/api/licenses?unknown=1", body: "{", header: map[string]string{"Authorization": c.authorization, "api-key": c.key}},
			401, "access_denied", c.message)
		if got := a.header.Values("WWW-Authenticate"); len(got) != 1 || got[0] != c.challenge {
			t.Errorf("%s: WWW-Authenticate %q", c.name, got)
		}
	}
	a := s.refused(call{method: "POST", path: "/api/licenses", body: "{", header: map[string]string{"Authorization": "bearer " + poor}}, 403, "forbidden",
		"Invalid scopes. Your scope does not allow to access this resource. Missing allowances: license:write")
	if got := a.header.Get("WWW-Authenticate"); got != `Bearer error="insufficient_scope", scope="license:write"` {
		t.Errorf("WWW-Authenticate %q", got)
	}
}

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
	} {
		c.header = map[string]string{"Authorization": "Bearer " + s.issue(s.clinic, "other:scope", time.Hour)}
		s.refused(c.call, 403, "forbidden", "Invalid scopes. Your scope does not allow to access this resource. Missing allowances: "+c.scope)
		c.header = map[string]string{"Authorization": "Bearer " + s.issue(s.clinic, c.scope, time.Hour)}
		if a := s.do(c.call); a.code == 401 || a.code == 403 {
			t.Errorf("%s with %s: %d %s", c.path, c.scope, a.code, a.raw)
		}
	}
}

func TestAPIKeyNotRequired(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *rest.Config) { c.RequireAPIKey = false })
	s.refused(call{method: "GET", path: "/api/jobs/" + uuid.NewString(), header: map[string]string{"api-key": ""}}, 404, "not_found", "Job not found")
}
