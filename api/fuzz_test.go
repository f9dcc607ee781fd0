package api_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// The seeds run with every test; `go test ./api -fuzz FuzzBody` looks for more.

// FuzzBody throws bodies at the operations of the document.
func FuzzBody(f *testing.F) {
	loaded, err := documents()
	must(f, err)
	var operations []string // method and path
	for path, item := range loaded[0].Paths.Map() {
		for method := range item.Operations() {
			operations = append(operations, method+" "+path)
		}
	}
	slices.Sort(operations)
	s := newService(f)
	s.primaryLicense(s.clinic)
	patient, id := s.serviceRequest("new", uuid.NullUUID{})
	fill := strings.NewReplacer("{service_request_id}", id.String(), "{id}", id.String(), "{patient_id}", patient.String())
	for _, body := range []string{
		"", " ", "{}", "[]", "null", `"x"`, "0", "{", `{"a":1,"a":2}`, "{}{}", "\xff", `{"type":"\u0000"}`,
		`{"type":"\ud800"}`, "\ufeff{}",
		`{"expiry_date":"0000-01-01"}`, `{"issued_date":"2026-02-30"}`, `{"is_primary":1e400}`, `{"TYPE":"x"}`,
		strings.Repeat("[", 20000),
		license().body, license("is_primary", true).body, license("expiry_date", "9999-12-31").body, license("issued_date",
			"0001-01-01").body,
		useBody(s.clinic), `{"used_by_legal_entity":{"identifier":{"type":{"coding":[{"system":"eHealth/resources","code":"legal_entity"}],"text":""},"value":"` +
			s.clinic.String() + `"},"display_value":null}}`,
		`{"used_by_legal_entity":{"identifier":{"value":"x","type":{"coding":[null]}}}}`,
	} {
		for i := range operations {
			f.Add(uint8(i), body)
		}
	}
	f.Fuzz(func(t *testing.T, operation uint8, body string) {
		method, path, _ := strings.Cut(operations[int(operation)%len(operations)], " ")
		s.throw(t, method, fill.Replace(path), "Content-Type: application/json\r\n", body)
	})
}

// FuzzPath throws request lines at the handler.
func FuzzPath(f *testing.F) {
	s := newService(f)
	patient, id := s.serviceRequest("new", uuid.NullUUID{})
	for _, method := range []string{"GET", "POST", "PATCH", "HEAD", "OPTIONS", "DELETE", "CONNECT", "get", "X"} {
		for _, target := range []string{
			"/", "//", "*", "/api", "/api/", "/api/licenses", "/api/licenses/", "/api//licenses", "/api/../api/licenses",
			"/api/licenses?x=1&x=2;y=%zz",
			"/api/licenses?page=0&page_size=99999999999999999999", "/api/jobs/" +
				id.String(), "/api/jobs/%00", "/api/jobs/%2F", "/api/jobs/{id}", "/api/jobs/%ff%fe?%ff=%00",
			"/api/service_requests/" + strings.ToUpper(id.String()) + "/actions/release", "/api/service_requests/urn:uuid:" +
				id.String() + "/actions/release",
			fmt.Sprintf("/api/patients/%s/service_requests/%s", patient,
				id), fmt.Sprintf("/api/patients/%s/service_requests?code=%%00&status=&page=-1", patient),
			"http://elsewhere/api/licenses", "/openapi.json", "/healthz", "/readyz?", "/metrics", "/%61pi/licenses",
			"/api/licenses#x",
		} {
			f.Add(method, target)
		}
	}
	f.Fuzz(func(t *testing.T, method, target string) {
		s.throw(t, method, target, "", "")
	})
}

// FuzzHeader throws headers at an operation that reads them all.
func FuzzHeader(f *testing.F) {
	s := newService(f).work() // without workers a wait for the job would last
	_, id := s.serviceRequest("in_queue", held(s.clinic))
	path := "/api/service_requests/" + id.String() + "/actions/release"
	for _, name := range []string{"Authorization", "api-key", "Content-Type", "Accept", "X-Request-Id", "Content-Length",
		"Transfer-Encoding", "Expect",
		"Prefer", "Idempotency-Key", "If-Match", "Range", "X-HTTP-Method-Override", "X-Forwarded-Proto", "Forwarded", "Host",
		"traceparent"} {
		for _, value := range []string{"", " ", "x", "Bearer", "Bearer  x", "application/json",
			"application/json; charset=utf-8", "text/plain", "*/*;q=0", "a/b;c=\"", ";;",
			"chunked", "2", "-1", "100-continue", "wait=1", "wait=99999999999999999999", "wait=", "\xff\xfe", "Подпис",
			strings.Repeat("x", 5000), "https"} {
			f.Add(name, value)
		}
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		s.throw(t, "PATCH", path, name+": "+value+"\r\n", "{}")
	})
}

// throw sends what net/http takes for a request straight to the handler. Whatever it is, the answer is the envelope and
// no 5xx, and one of a documented operation is as documented. Credentials and length are added where header does not
// start with them.
func (s *service) throw(t *testing.T, method, target, header, body string) {
	t.Helper()
	head := method + " " + target + " HTTP/1.1\r\nHost: x\r\n" + header
	for _, line := range []string{"Authorization: Bearer " + s.token, "api-key: " + s.key,
		fmt.Sprintf("Content-Length: %d", len(body))} {
		name, _, _ := strings.Cut(line, ":")
		if given, _, _ := strings.Cut(header, ":"); !strings.EqualFold(name, given) {
			head += line + "\r\n"
		}
	}
	request, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head + "\r\n" + body)))
	if err != nil {
		return // net/http answers it, see Listener
	}
	recorder := httptest.NewRecorder()
	s.handler.ServeHTTP(recorder, request.WithContext(t.Context()))
	a := answer{code: recorder.Code, header: recorder.Result().Header, raw: recorder.Body.String()}
	if a.code >= 500 {
		t.Fatalf("%s %s: %d %s\n%s", method, target, a.code, a.raw, s.log)
	}
	if a.code < 300 && !strings.HasPrefix(request.URL.Path, "/api/") {
		return // the document itself, health
	}
	if err := json.Unmarshal(recorder.Body.Bytes(), &a.body); err != nil {
		t.Fatalf("%s %s: %d is not JSON: %q", method, target, a.code, a.raw)
	}
	checkEnvelope(t, a)
	request.Body = io.NopCloser(strings.NewReader(body))
	request.Header.Set("Content-Type", "application/json") // what was taken without a type was taken for this
	checkContract(t, request, a)
}
