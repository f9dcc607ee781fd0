package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/api/rest"
	"github.com/reiestr/reiestr/db"
)

func TestRoutes(t *testing.T) {
	t.Parallel()
	s := newService(t)
	id := uuid.NewString()
	anonymous := map[string]string{"Authorization": "", "api-key": ""}
	for _, path := range []string{"/", "/api", "/api/licenses/", "/api//licenses", "/api/./licenses",
		"/api/x/../licenses", "/nothing", "/api/jobs/" + id + "/", "/%2e%2e/etc/passwd"} {
		s.refused(call{method: "GET", path: path, header: anonymous}, 404, "not_found", "Not found")
	}
	for path, allow := range map[string]string{
		"/api/licenses":   "GET, HEAD, POST",
		"/api/jobs/" + id: "GET, HEAD",
		"/healthz":        "GET, HEAD",
		"/api/service_requests/" + id + "/actions/release": "PATCH",
	} {
		a := s.refused(call{method: "DELETE", path: path, header: anonymous}, 405, "method_not_allowed", "Method not allowed")
		if got := a.header.Get("Allow"); got != allow {
			t.Errorf("%s: Allow %q, want %q", path, got, allow)
		}
	}
	a := s.do(call{method: "HEAD", path: "/api/jobs/" + id})
	if a.code != 404 || a.raw != "" {
		t.Errorf("HEAD: %d %q", a.code, a.raw)
	}
}

func TestBodies(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for name, body := range map[string]string{
		"nothing":        "",
		"white space":    " \n",
		"half":           `{"type": "MSP"`,
		"two values":     `{} {}`,
		"no JSON":        `type=MSP`,
		"name twice":     `{"is_primary": true, "is_primary": false}`,
		"bad UTF-8":      "{\"type\": \"\xff\"}",
		"half a pair":    `{"type": "\ud800"}`,
		"control":        "{\"type\": \"\x01\"}",
		"byte order":     "\ufeff{}",
		"deep":           strings.Repeat(`[`, 100_000),
		"trailing comma": `{"type": "MSP",}`,
	} {
		a := s.do(call{method: "POST", path: "/api/licenses", body: body})
		if a.code != 400 || a.body.Error.Type != "request_malformed" {
			t.Errorf("%s: %d %s", name, a.code, a.raw)
		}
	}
	s.refused(call{method: "POST", path: "/api/licenses", body: `{"type": "` + strings.Repeat("a", 1<<20) + `"}`}, 413,
		"request_too_large", "The body is larger than 1048576 bytes")
	// Exactly the limit is allowed.
	s.invalid(call{method: "POST", path: "/api/licenses", body: "[" + strings.Repeat(" ", 1<<20-2) + "]"},
		"$ cast type mismatch. Expected object but got array")
	for _, contentType := range []string{"text/plain", "application/xml", "application/x-www-form-urlencoded",
		"multipart/form-data; boundary=x", ";;;"} {
		s.refused(call{method: "POST", path: "/api/licenses", body: "{}",
			header: map[string]string{"Content-Type": contentType}},
			415, "content_type_invalid", "Content-Type must be application/json")
	}
	for _, contentType := range []string{"application/json; charset=utf-8", "Application/JSON", ""} {
		if a := s.do(call{method: "POST", path: "/api/licenses", body: "{}",
			header: map[string]string{"Content-Type": contentType}}); a.code != 422 {
			t.Errorf("Content-Type %q: %d %s", contentType, a.code, a.raw)
		}
	}
	s.primaryLicense(s.clinic)
	refusing := license()
	refusing.header = map[string]string{"Accept": "text/html, application/json;q=0"}
	s.refused(refusing, 406, "content_type_invalid", "Answers are application/json only")
	for _, accept := range []string{"application/json", "*/*", "text/html, application/*;q=0.1"} {
		accepting := license("type", "CASINO")
		accepting.header = map[string]string{"Accept": accept}
		s.refused(accepting, 422, "validation_failed", "value is not allowed in enum")
	}
}

// TestRaw sends what no HTTP client sends. The answer has the envelope all the same, and the server stays up.
func TestRaw(t *testing.T) {
	t.Parallel()
	s := newService(t)
	address := strings.TrimPrefix(s.url, "http://")
	for name, request := range map[string]string{
		"no HTTP":           "hello\r\n\r\n",
		"two lengths":       "POST /api/licenses HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
		"no host":           "GET /healthz HTTP/1.1\r\n\r\n",
		"bad header":        "GET /healthz HTTP/1.1\r\nHost: x\r\nA\x01b: c\r\n\r\n",
		"bad length":        "POST /api/licenses HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
		"length twice over": "POST /api/licenses HTTP/1.1\r\nHost: x\r\nContent-Length: 2, 3\r\n\r\n{}",
	} {
		conn, err := net.Dial("tcp", address)
		must(t, err)
		_, err = conn.Write([]byte(request))
		must(t, err)
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var f rest.Failure
		err = json.NewDecoder(response.Body).Decode(&f)
		if err != nil || response.StatusCode != 400 || f.Meta.Code != 400 || f.Fault.Type != "request_malformed" ||
			f.Meta.RequestID != response.Header.Get("X-Request-Id") {
			t.Errorf("%s: %v %+v %v", name, response.Status, f, err)
		}
		conn.Close()
	}
	// A chunked body that breaks off in a lie.
	conn, err := net.Dial("tcp", address)
	must(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("POST /api/licenses HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + s.token +
		"\r\napi-key: " + s.key +
		"\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n"))
	must(t, err)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	must(t, err)
	if response.StatusCode != 400 {
		t.Errorf("bad chunk: %s", response.Status)
	}
	s.do(call{method: "GET", path: "/api/jobs/" + uuid.NewString()})
}

// TestNoAnswerMayBeStored: no cache on the way may keep an answer, also one that refuses. The document and the console
// are the same for everyone.
func TestNoAnswerMayBeStored(t *testing.T) {
	t.Parallel()
	s := newService(t)
	patient, id := s.serviceRequest("new", uuid.NullUUID{})
	anonymous := map[string]string{"Authorization": ""}
	found := fmt.Sprintf("/api/patients/%s/service_requests/%s", patient, id)
	for _, c := range []struct {
		call
		code int
	}{
		{call{method: "GET", path: found}, 200},
		{call{method: "HEAD", path: found}, 200},
		{call{method: "GET", path: found, header: anonymous}, 401},
		{call{method: "GET", path: found + "/x"}, 404},
		{call{method: "DELETE", path: found}, 405},
		{call{method: "GET", path: found + "?x=1"}, 422},
		{act(id, "use", "{"), 400},
		{act(id, "process", ""), 409},
	} {
		a := s.do(c.call)
		if got := a.header.Values("Cache-Control"); a.code != c.code || len(got) != 1 || got[0] != "no-store" {
			t.Errorf("%s %s: %d, Cache-Control %q", c.method, c.path, a.code, got)
		}
	}
	_, reader := s.speak("GET /healthz HTTP/1.1\r\n\r\n") // net/http refuses it
	response, err := http.ReadResponse(reader, nil)
	must(t, err)
	if got := response.Header.Get("Cache-Control"); response.StatusCode != 400 || got != "no-store" {
		t.Errorf("no host: %s, Cache-Control %q", response.Status, got)
	}
	for _, path := range []string{"/docs", "/openapi.json", "/openapi.yaml"} {
		response, err := http.Get(s.url + path)
		must(t, err)
		response.Body.Close()
		if got := response.Header.Get("Cache-Control"); response.StatusCode != 200 || got != "" {
			t.Errorf("%s: %s, Cache-Control %q", path, response.Status, got)
		}
	}
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for given, kept := range map[string]bool{"trace-1.2:3": true, uuid.NewString(): true, "with space": false,
		strings.Repeat("x", 129): false, `"<script>`: false} {
		a := s.do(call{method: "GET", path: "/nothing", header: map[string]string{"X-Request-Id": given}})
		if got := a.header.Get("X-Request-Id"); (got == given) != kept {
			t.Errorf("X-Request-Id %q became %q", given, got)
		}
	}
}

func TestUnavailable(t *testing.T) {
	t.Parallel()
	nowhere, err := db.Open(t.Context(), db.Config{URL: "postgres://nobody@127.0.0.1:1/nothing"})
	must(t, err)
	defer nowhere.Close()
	s := newService(t, func(c *rest.Config) {
		c.DB = nowhere
		c.Ready = func(ctx context.Context) error { return nowhere.Ready(ctx, 1) }
	})
	const message = "The service is not available at the moment. Try again later."
	if a := s.refused(license(), 503, "service_unavailable", message); a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	s.refused(call{method: "GET", path: "/readyz"}, 503, "service_unavailable", message)
	if a := s.do(call{method: "GET", path: "/nothing"}); a.code != 404 {
		t.Errorf("%d %s", a.code, a.raw)
	}
}

// TestLockedTooLong: another session holds the legal entity's row for longer than a caller waits.
func TestLockedTooLong(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.primaryLicense(s.clinic)
	holder, err := s.owner.Begin(t.Context())
	must(t, err)
	_, err = holder.Exec(t.Context(), "SELECT FROM prm.legal_entities WHERE id = $1 FOR UPDATE", s.clinic)
	must(t, err)
	if a := s.refused(license(), 503, "service_unavailable",
		"The service is not available at the moment. Try again later."); a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	must(t, holder.Rollback(t.Context()))
	if a := s.do(license()); a.code != 201 {
		t.Errorf("%d %s", a.code, a.raw)
	}
}

// TestInternalError breaks the database in a way that no rule knows: the caller learns nothing, the log everything.
func TestInternalError(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.primaryLicense(s.clinic)
	s.sql(`ALTER TABLE prm.licenses ADD CONSTRAINT secret_constraint CHECK (order_no <> 'К-1')`)
	a := s.refused(license(), 500, "internal_error", "Internal error. Quote the request id when you report it.")
	if strings.Contains(a.raw, "secret") {
		t.Error(a.raw)
	}
	if log := s.log.String(); !strings.Contains(log, "secret_constraint") ||
		!strings.Contains(log, a.body.Meta.RequestID) || strings.Contains(log, s.token) || strings.Contains(log, s.key) {
		t.Errorf("log: %s", log)
	}
}

// eventually waits until GET is answered with the code, a minute at most: a busy machine is not ready at once.
func (s *service) eventually(path string, code int) {
	s.t.Helper()
	got := 0
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		response, err := http.Get(s.url + path)
		must(s.t, err)
		response.Body.Close()
		if got = response.StatusCode; got == code {
			return
		}
	}
	s.t.Fatalf("%s: %d, want %d", path, got, code)
}

func TestHealth(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for _, path := range []string{"/healthz", "/readyz", "/openapi.json", "/openapi.yaml"} {
		s.eventually(path, 200)
	}
	s.sql(`DELETE FROM ops.schema_versions WHERE version_id = ops.schema_version()`)
	s.eventually("/readyz", 503) // an answer is kept for a second
	s.refused(call{method: "GET", path: "/readyz"}, 503, "service_unavailable",
		"The service is not available at the moment. Try again later.")
}

// malformed is what the caller of a creation hears of a body that is not JSON.
func (s *service) malformed(body, message string) {
	s.t.Helper()
	s.refused(call{method: "POST", path: "/api/licenses", body: body}, 400, "request_malformed", message)
}

func TestBodyNestedTooDeepIsNamed(t *testing.T) {
	t.Parallel()
	s := newService(t)
	const tooDeep = "The body is not valid JSON: it is nested more than 10000 levels deep at byte "
	s.malformed(strings.Repeat("[", 100_000), tooDeep+"10000")
	s.malformed(`{"type": `+strings.Repeat("[", 10_000)+strings.Repeat("]", 10_000)+"}", tooDeep+"10008")
	s.malformed(strings.Repeat(`{"a":`, 10_001)+"1"+strings.Repeat("}", 10_001), tooDeep+"49999")
	// As deep as is taken, but broken, is a syntax error.
	s.malformed(strings.Repeat("[", 10_000)+"}", "The body is not valid JSON: syntax error at byte 10000")
	// As deep as is taken is not read as a licence.
	s.invalid(call{method: "POST", path: "/api/licenses", body: strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)},
		"$ cast type mismatch. Expected object but got array")
}

func TestMissingBodyIsNamed(t *testing.T) {
	t.Parallel()
	s := newService(t)
	const missing = "There is no body. A JSON object is expected."
	_, id := s.serviceRequest("in_queue", held(s.clinic))
	for _, c := range []struct{ method, path string }{
		{"POST", "/api/licenses"},
		{"PATCH", "/api/licenses/" + uuid.NewString()},
		{"PATCH", "/api/service_requests/" + id.String() + "/actions/use"},
	} {
		for _, body := range []string{"", " ", " \r\n\t"} {
			s.refused(call{method: c.method, path: c.path, body: body}, 400, "request_malformed", missing)
		}
	}
	// The other actions need none.
	for _, action := range []string{"process", "complete", "release"} {
		path := "/api/service_requests/" + id.String() + "/actions/" + action
		if a := s.do(call{method: "PATCH", path: path}); a.code == 400 {
			t.Errorf("%s: %d %s", action, a.code, a.raw)
		}
	}
	// It is decided before an idempotency key is used: the key can be used again, with a body.
	s.primaryLicense(s.clinic)
	key := uuid.NewString()
	s.refused(call{method: "POST", path: "/api/licenses"}.with("Idempotency-Key", key), 400, "request_malformed", missing)
	if a := s.do(license().with("Idempotency-Key", key)); a.code != 201 {
		t.Errorf("%d %s", a.code, a.raw)
	}
}

func TestByteOrderMarkIsNamed(t *testing.T) {
	t.Parallel()
	s := newService(t)
	const mark = "The body is not valid JSON: it begins with the byte order mark of %s; send UTF-8 without one"
	for body, encoding := range map[string]string{
		"\ufeff{}":                      "UTF-8",
		"\ufeff":                        "UTF-8",
		"\xff\xfe{\x00}\x00":            "UTF-16",
		"\xfe\xff\x00{\x00}":            "UTF-16",
		"\xff\xfe\x00\x00{\x00\x00\x00": "UTF-32",
		"\x00\x00\xfe\xff\x00\x00\x00{": "UTF-32",
	} {
		s.malformed(body, fmt.Sprintf(mark, encoding))
	}
	s.malformed(`{"type": "`+"\xff"+`"}`, "The body is not valid JSON: it is not valid UTF-8 at byte 7")
	// Within a text it is a character as any other.
	s.invalid(call{method: "POST", path: "/api/licenses", body: "[\"\ufeff\"]"},
		"$ cast type mismatch. Expected object but got array")
}
