package api_test

import (
	"regexp"
	"strconv"
	"testing"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/api/rest"
)

func TestRateLimit(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *rest.Config) { c.RatePerSecond, c.RateBurst = 0.01, 3 })
	get := call{method: "GET", path: "/api/jobs/" + uuid.NewString()}
	for left := 2; left >= 0; left-- {
		a := s.do(get)
		if want := `"client";r=` + strconv.Itoa(left) + ";t="; a.code != 404 ||
			!regexp.MustCompile("^"+want+"[0-9]+$").MatchString(a.header.Get("RateLimit")) {
			t.Errorf("%d, RateLimit %q, want %s", a.code, a.header.Get("RateLimit"), want)
		}
		if got := a.header.Get("RateLimit-Policy"); got != `"client";q=3;w=300` {
			t.Errorf("RateLimit-Policy %q", got)
		}
	}
	a := s.refused(get, 429, "too_many_requests", "Too many requests. Try again later.")
	if wait, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || wait < 1 || wait > 100 ||
		a.header.Get("RateLimit") == "" {
		t.Errorf("headers %v", a.header)
	}
	// A request without a token gets 401, not 429. Another client has a limit of its own.
	get.header = map[string]string{"Authorization": ""}
	s.refused(get, 401, "access_denied", "Unauthorized: access token is not set")
	other := uuid.New()
	s.legalEntity(other, "OUTPATIENT", "ACTIVE")
	s.token = s.issue(other, allScopes, 3600e9)
	get.header = nil
	s.refused(get, 404, "not_found", "Job not found")
}

func TestNoRateLimit(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for range 50 {
		a := s.refused(call{method: "GET", path: "/api/jobs/" + uuid.NewString()}, 404, "not_found", "Job not found")
		if a.header.Get("RateLimit") != "" {
			t.Error("RateLimit without a limit")
		}
	}
}
