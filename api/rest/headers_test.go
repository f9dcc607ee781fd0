package rest

import (
	"strings"
	"testing"
)

func TestPreferredWait(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		header string // several, parted by a bar
		want   Patience
	}{
		{"wait=5", 5},
		{"WAIT = 5", 5},
		{`wait="5"`, 5},
		{"wait=5; foo=bar", 5},
		{"respond-async, wait=10", 10},
		{"return=minimal; x=\"a, wait=3\", wait=4", 4},
		{`foo="\", wait=3", wait=4`, 4},
		{"respond-async|wait=7", 7},
		{"wait=3, wait=9", 3},
		{"wait=30", 30},
		{"wait=31", 30},
		{"wait=99999999999999999999999999", 30},
		{"wait=0", 0},
		{"wait=-1", 0},
		{"wait=1.5", 0},
		{"wait=soon", 0},
		{"wait=", 0},
		{"wait", 0},
		{`wait="`, 0},
		{"x; wait=5", 0},
		{"", 0},
		{",;=|,", 0},
	} {
		if got := preferredWait(strings.Split(c.header, "|")); got != c.want {
			t.Errorf("%q: %d, want %d", c.header, got, c.want)
		}
	}
	if preferredWait(nil) != 0 {
		t.Error("no header")
	}
}

func TestReadIdempotencyKey(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("k", 255)
	for _, c := range []struct {
		header string
		want   string // "": refused
	}{
		{"k-1", "k-1"},
		{`"k-1"`, "k-1"},
		{`" k \"1\" \\ "`, ` k "1" \ `},
		{long, long},
		{`"` + long + `"`, long},
		{long + "k", ""},
		{"", ""},
		{" ", ""},
		{`""`, ""},
		{`"`, ""},
		{`"k`, ""},
		{`"k"x`, ""},
		{`"k\x"`, ""},
		{`"k\`, ""},
		{"k\x01", ""},
		{"k\x7f", ""},
		{"ключ", ""},
		{"\xff", ""},
	} {
		if got, ok := idempotencyKey([]string{c.header}); got != c.want && ok || ok != (c.want != "") {
			t.Errorf("%q: %q, %t, want %q", c.header, got, ok, c.want)
		}
	}
	if key, ok := idempotencyKey(nil); key != "" || !ok {
		t.Error("no header is no fault")
	}
	if _, ok := idempotencyKey([]string{"a", "b"}); ok {
		t.Error("two headers")
	}
}
