package api_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/reiestr/reiestr/api/rest"
)

// TestIgnoredKeysAreReported: a key that an operation ignores stands in the log line of the request and in what metrics
// are made of, by its name and never with its value.
func TestIgnoredKeysAreReported(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var reported []string
	var log bytes.Buffer
	s := newService(t, func(c *rest.Config) {
		c.Log = slog.New(slog.NewTextHandler(&log, nil))
		c.Answered = func(_ context.Context, a rest.Answered) {
			mu.Lock()
			defer mu.Unlock()
			reported = append(reported, fmt.Sprint(a.Operation, " ", a.IgnoredKeys))
		}
	})
	s.primaryLicense(s.clinic)
	_, id := s.serviceRequest("in_queue", held(s.clinic))
	many := `{"` + strings.Join(manyNames(30), `": 0, "`) + `": 0}`
	for body, want := range map[string]string{
		`{"licence_number": "secret-1", "x-y": "secret-2", "` + strings.Repeat("n", 65) + `": 1}`: "[licence_number (other) (other)]",
		`{}`: "[]",
		many: fmt.Sprint(manyNames(20)),
	} {
		reported = nil
		c := act(id, "release", body)
		if a := s.do(c); a.code != 202 && a.code != 409 {
			t.Errorf("%s: %d %s", body, a.code, a.raw)
		}
		if !slices.Equal(reported, []string{"releaseServiceRequest " + want}) {
			t.Errorf("%s: reported %q, want %s", body, reported, want)
		}
	}
	reported = nil
	s.do(license("licence_number", "secret-3"))
	if !slices.Equal(reported, []string{"createLicense [licence_number]"}) {
		t.Errorf("reported %q", reported)
	}
	if text := log.String(); !strings.Contains(text, "operation=createLicense ignored_keys=[licence_number]") ||
		strings.Contains(text, "secret") || strings.Contains(text, "x-y") {
		t.Errorf("log: %s", text)
	}
}

func manyNames(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("name_%d", i))
	}
	return names
}

// TestStrictClients: where it is set, an unknown key is a fault beside all others.
func TestStrictClients(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *rest.Config) { c.StrictClients = true })
	s.primaryLicense(s.clinic)
	const unknown = " schema schema does not allow additional properties"
	s.invalid(license("licence_number", 1).with("Idempotency-Key", "k"), "$.licence_number"+unknown)
	wrong := license("issued_by", 1)
	wrong.body = strings.Replace(wrong.body, "{", `{"a": null, "b.c": {}, `, 1)
	s.invalid(wrong, "$.a"+unknown, "$.b.c"+unknown, "$.issued_by cast type mismatch. Expected string but got integer")
	_, id := s.serviceRequest("in_queue", held(s.clinic))
	s.invalid(act(id, "release", `{"used_by": 1}`), "$.used_by"+unknown)
	if a := s.do(act(id, "release", `{}`)); a.code != 202 {
		t.Errorf("%d %s", a.code, a.raw)
	}
	if a := s.do(license()); a.code != 201 {
		t.Errorf("%d %s", a.code, a.raw)
	}
}
