package main

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestHostileInput sends the attempts of testdata, and some hundred others to each operation. What the run prints shows
// the seed that repeats them.
func TestHostileInput(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a minute")
	}
	var out bytes.Buffer
	o := options{requests: 200, held: 500, seed: uint64(time.Now().UnixNano()), keep: t.TempDir(), replay: "testdata",
		root: "../../.."}
	if err := run(t.Context(), o, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	t.Log(out.String())
}

// TestSameSeedMakesTheSameAttempts holds what the walker says of its seed.
func TestSameSeedMakesTheSameAttempts(t *testing.T) {
	t.Parallel()
	w := &walker{}
	if err := w.load(); err != nil {
		t.Fatal(err)
	}
	if len(w.operations) < 12 {
		t.Fatalf("%d operations", len(w.operations))
	}
	differ := 0
	for _, op := range w.operations {
		for n := range 100 {
			one := string(encode(w.make(7, op, n)))
			if other := string(encode(w.make(7, op, n))); one != other {
				t.Fatalf("the same seed and number:\n%s\n%s", one, other)
			}
			if one != string(encode(w.make(8, op, n))) {
				differ++
			}
		}
	}
	if differ < 250 {
		t.Errorf("another seed differs in %d attempts only", differ)
	}
}

// TestJudgeRejects gives the judge answers that the contract forbids.
func TestJudgeRejects(t *testing.T) {
	t.Parallel()
	w := &walker{}
	if err := w.load(); err != nil {
		t.Fatal(err)
	}
	header := http.Header{"Content-Type": {"application/json"}, "X-Request-Id": {"1"}, "Cache-Control": {"no-store"}}
	meta := `"meta": {"code": %d, "url": "u", "type": "object", "request_id": "1"}`
	refusal := func(code int, kind, rest string) answer {
		text := fmt.Sprintf(`{`+meta+`, "error": {"type": %q, "message": %q%s}}`, code, kind, schemaMessage, rest)
		return answer{code, header, []byte(text)}
	}
	listed := func(entry, rule string) string {
		return fmt.Sprintf(
			`, "invalid": [{"entry": %q, "entry_type": "json_data_property", "rules": [{"rule": %q, "params": [],
			"description": "x"}]}]`,
			entry, rule,
		)
	}
	one := attempt{
		Operation: "createLicense",
		Method:    "POST",
		Want:      []int{422},
		Faults:    []fault{{"$.type", "json_data_property", "cast"}},
	}
	two := one
	two.Faults = append(slices.Clone(one.Faults), fault{"$.issued_by", "json_data_property", "cast"})
	right := refusal(422, "validation_failed", listed("$.type", "cast"))
	if faults := w.judgeOne(one, right); len(faults) > 0 {
		t.Errorf("a right answer: %v", faults)
	}
	fits := attempt{Operation: "createLicense", Method: "POST", Fits: true}
	for name, c := range map[string]struct {
		attempt attempt
		answer  answer
		says    string
	}{
		"5xx":           {one, refusal(500, "internal_error", ""), "fault of the service"},
		"another code":  {one, refusal(400, "request_malformed", ""), "want one of [422]"},
		"another entry": {one, refusal(422, "validation_failed", listed("$.typ", "cast")), "it lists $.typ of"},
		"another rule": {one, refusal(422, "validation_failed", listed("$.type", "length")),
			"the broken rules of $.type are length"},
		"a hidden fault": {two, right, "it does not list $.issued_by"},
		"may be kept": {one, answer{422, http.Header{"Content-Type": {"application/json"}, "X-Request-Id": {"1"}}, right.raw},
			"Cache-Control"},
		"no list": {one, refusal(422, "validation_failed", ""), "it does not list $.type"},
		"code of meta": {one, answer{422, header, bytes.Replace(right.raw, []byte("422"), []byte("400"), 1)},
			"meta.code is 400"},
		"no JSON":         {one, answer{422, header, []byte("no")}, "not JSON"},
		"another type":    {one, answer{422, http.Header{"X-Request-Id": {"1"}}, right.raw}, "Content-Type"},
		"another id":      {one, answer{422, http.Header{"Content-Type": {"application/json"}}, right.raw}, "X-Request-Id"},
		"a kind too many": {one, refusal(422, "nonsense", listed("$.type", "cast")), "not what the document describes"},
		"refused form":    {fits, right, "though it is right"},
		"unlisted code":   {fits, refusal(418, "validation_failed", ""), "want one of"},
		"no Allow": {attempt{Method: "PUT", Want: []int{405}, Allow: "GET"}, refusal(405, "method_not_allowed", ""),
			"Allow is"},
	} {
		if got := strings.Join(w.judgeOne(c.attempt, c.answer), "; "); !strings.Contains(got, c.says) {
			t.Errorf("%s: %q, want %q", name, got, c.says)
		}
	}
}
