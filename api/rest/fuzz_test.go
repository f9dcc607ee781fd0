package rest

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// The seeds run with every test; `go test ./api/rest -fuzz FuzzPrefer` looks for more.

// FuzzPrefer: a wait is within its bounds, and what stands before it as a preference of its own changes it not.
func FuzzPrefer(f *testing.F) {
	for _, text := range []string{"", "wait=5", `wait="5"`, "WAIT = 05;a=b", `x="a, wait=3", wait=4`, `foo="\", wait=3`,
		"wait=-1",
		"wait=99999999999999999999", ",;=,", `wait="`, "wait", `\`, "wait=\xff", "wait=1\x00"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		wait := preferredWait([]string{text})
		if wait < 0 || wait > longestWait {
			t.Fatalf("%q: %d", text, wait)
		}
		if got := preferredWait([]string{"respond-async", text}); got != wait {
			t.Errorf("%q: %d, and behind another preference %d", text, wait, got)
		}
		if got := preferredWait([]string{`x="a, wait=3\""`, text}); got != wait {
			t.Errorf("%q: %d, and behind a quoted wait %d", text, wait, got)
		}
	})
}

// FuzzIdempotencyKey: a key that is taken is printable and of bounded length, and
// is the same when it is sent in quotes.
func FuzzIdempotencyKey(f *testing.F) {
	for _, text := range []string{"", " ", "x", `"x"`, `"`, `""`, `"\""`, `"\x"`, `"x" y`, "\xff", "é", "a\tb",
		strings.Repeat("x", 255),
		strings.Repeat("x", 256), `\`, "x, y"} {
		f.Add(text)
	}
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	f.Fuzz(func(t *testing.T, text string) {
		key, ok := idempotencyKey([]string{text})
		if !ok {
			return
		}
		if key == "" || len(key) > maxIdempotencyKey ||
			strings.ContainsFunc(key, func(c rune) bool { return c < ' ' || c > '~' }) {
			t.Fatalf("%q is taken as %q", text, key)
		}
		if again, ok := idempotencyKey([]string{`"` + quote.Replace(key) + `"`}); !ok || again != key {
			t.Errorf("%q is the key %q, in quotes it is %q, %t", text, key, again, ok)
		}
		if _, ok := idempotencyKey([]string{text, text}); ok {
			t.Errorf("%q is taken twice", text)
		}
	})
}

// FuzzAccept: what refuses JSON also refuses it beside another type, and a list that names JSON plainly is taken.
func FuzzAccept(f *testing.F) {
	for _, text := range []string{"", ",", "*/*", "application/json;q=0", "application/*;q=0.000", "text/html", `a/b;c="`,
		";;", "\xff",
		`text/html;x=",application/json"`, "application/json;q=0.001", "*/*;q=", "application/json;q=0;q=1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		taken := func(lines ...string) bool {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Header["Accept"] = lines
			return acceptable(humago.NewContext(&huma.Operation{}, r, httptest.NewRecorder())) == nil
		}
		if !taken("application/json", text) || !taken(text, "application/json") {
			t.Errorf("%q beside application/json is refused", text)
		}
		if !taken(text) && taken(text, "image/png") {
			t.Errorf("%q is refused, but not beside image/png", text)
		}
	})
}

// FuzzForwarded: whatever a proxy that is not trusted sends counts as not sent, and of one that is trusted only a host
// that can stand in a URL.
func FuzzForwarded(f *testing.F) {
	for _, text := range []string{"", "a.test", "a.test:8080", "[::1]:80", "a, b", "a/b", "a\r\nb", "x@y", "http",
		"HTTPS", "\xff", "[:]", "a:b",
		"a.test:99999999", "a\u0000"} {
		f.Add(text, text)
	}
	var trusted Proxies
	if err := trusted.UnmarshalText([]byte("192.0.2.0/24")); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, host, scheme string) {
		r := httptest.NewRequest(http.MethodGet, "http://own.test/x", nil) // from 192.0.2.1
		r.Header["X-Forwarded-Host"], r.Header["X-Forwarded-Proto"] = []string{host}, []string{scheme}
		if got := (Proxies{}).urlOf(r); got != "http://own.test/x" {
			t.Fatalf("not trusted: %q", got)
		}
		got := trusted.urlOf(r)
		rest, isHTTP := strings.CutPrefix(got, "http://")
		if !isHTTP {
			rest = strings.TrimPrefix(got, "https://")
		}
		own, isPath := strings.CutSuffix(rest, "/x")
		if rest == got || !isPath || own != "own.test" && !forwardedHost.MatchString(own) ||
			strings.ContainsAny(own, "/@?# \r\n") {
			t.Errorf("%q and %q: %q", host, scheme, got)
		}
	})
}

// FuzzProxies: a list that is taken holds masked prefixes, and none that is empty.
func FuzzProxies(f *testing.F) {
	for _, text := range []string{"", "10.0.0.5", "10.0.0.5,fd00::/8", "10.0.0.5/8", "::ffff:10.0.0.0/104",
		"::ffff:10.0.0.5", "fe80::1%eth0",
		",", "0.0.0.0/0", "::/0", "10.0.0.0/33", "::ffff:0:0/95", "10.1/8"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var p Proxies
		if p.UnmarshalText([]byte(text)) != nil {
			return
		}
		if len(p) != strings.Count(text, ",")+1 {
			t.Errorf("%q: %v", text, p)
		}
		for _, prefix := range p {
			if !prefix.IsValid() || prefix != prefix.Masked() || prefix.Addr().Is4In6() || prefix.Addr().Zone() != "" {
				t.Errorf("%q: %v", text, prefix)
			}
		}
	})
}

// FuzzJSON: what is taken for JSON is JSON for another reader too, can be read by huma's validator, and has no name
// twice. An error repeats nothing of the text.
func FuzzJSON(f *testing.F) {
	for _, text := range []string{"", "{}", "[]", "null", "1e400", "-0", "[1e400, -1e400]", `{"a":1,"a":2}`,
		`{"a":{"b":1,"\u0062":2}}`, "{}{}",
		"\xff", "\ufeff{}", "\xff\xfe{\x00}\x00", `"\ud800"`, `"\udc00\ud800"`, "01", "1.", "{\x00}", strings.Repeat("[",
			10001),
		strings.Repeat("[", 9999) + strings.Repeat("]", 9999), "9007199254740993", `{"":null}`, "\x00", "[1,]"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		err := validJSON([]byte(text))
		if err != nil {
			if len(err.Error()) > 120 {
				t.Errorf("a long error: %v", err)
			}
			return
		}
		if !json.Valid([]byte(text)) {
			t.Errorf("%q is taken for JSON", text)
		}
		var tree any
		if err := jsonFormat.Unmarshal([]byte(text), &tree); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	})
}

// FuzzQuery: any query has faults or can be read. A fault is at a documented parameter, or the key is unknown.
func FuzzQuery(f *testing.F) {
	for _, text := range []string{"", "page=1", "page=0", "page=99999999999999999999", "page=%zz", "a;b", "page=1&page=2",
		"type=%00",
		"type=%ff", "is_primary=TRUE", "page=+1", "page=%2B1", "page=-0", "=", "&&", "page=1%20"} {
		f.Add(text)
	}
	least := 1.0
	documented := []*huma.Param{
		{Name: "page", In: "query", Schema: &huma.Schema{Type: huma.TypeInteger, Minimum: &least}},
		{Name: "type", In: "query", Schema: &huma.Schema{Type: huma.TypeString}},
		{Name: "is_primary", In: "query", Schema: &huma.Schema{Type: huma.TypeBoolean}},
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, fault := range queryFaults(text, documented) {
			for _, i := range invalidOf([]error{fault}) {
				known := map[string]bool{"$": true, "$.page": true, "$.type": true, "$.is_primary": true}[i.Entry]
				right := i.Entry == "$" || known != (i.Rules[0].Rule == "schema")
				if !right || i.EntryType != "query_parameter" || len(i.Rules) != 1 || i.Rules[0].Rule == "invalid" {
					t.Errorf("%q: %+v", text, i)
				}
			}
		}
	})
}

// FuzzHeads: a request with both framings is never passed on in order, however its bytes are cut into pieces. net/http
// itself says what the first head of the bytes is.
func FuzzHeads(f *testing.F) {
	for _, text := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST / HTTP/1.1\nHost: x\nContent-Length: 2\nTransfer-Encoding: chunked\n\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\ncontent-length:2\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"\r\nGET / HTTP/1.1\r\n\r\n", "\n\n", "Content-Length: \r\nTransfer-Encoding: \r\n\r\n"} {
		f.Add(text, 1)
		f.Add(text, 7)
	}
	f.Fuzz(func(t *testing.T, text string, size int) {
		if size = min(max(size, 1), 4096); len(text) > 1<<16 {
			return
		}
		var h heads
		passed := ""
		for rest := []byte(text); len(rest) > 0; {
			piece := []byte(string(rest[:min(size, len(rest))]))
			rest = rest[len(piece):]
			h.check(piece)
			passed += string(piece)
		}
		read := func(text string) (*http.Request, error) {
			return http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
		}
		before, err := read(text)
		if err != nil {
			return
		}
		both := before.ContentLength == -1 && len(before.TransferEncoding) > 0 && hasLength(text)
		after, err := read(passed + h.end)
		if both && err == nil {
			t.Errorf("both framings pass: %q", passed)
		}
		if !both && (err != nil || after.Method != before.Method || after.RequestURI != before.RequestURI) &&
			h.end == "" {
			t.Errorf("a head in order is spoiled: %q became %q", text, passed)
		}
	})
}

// hasLength reports whether the first head of the bytes has a Content-Length.
func hasLength(text string) bool {
	head, _, _ := strings.Cut(strings.ReplaceAll(text, "\r\n", "\n"), "\n\n")
	for line := range strings.Lines(head) {
		if name, _, found := strings.Cut(line, ":"); found && strings.EqualFold(name, "Content-Length") {
			return true
		}
	}
	return false
}
