package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/api/rest"
)

// speak sends bytes as they are and leaves the connection open.
func (s *service) speak(request string) (net.Conn, *bufio.Reader) {
	s.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	must(s.t, err)
	s.t.Cleanup(func() { conn.Close() })
	must(s.t, conn.SetDeadline(time.Now().Add(time.Minute)))
	conn.Write([]byte(request)) //nolint:errcheck // the answer tells
	return conn, bufio.NewReader(conn)
}

// TestDrippingBody: a client that sends its body byte by byte is cut off when the time for bodies is over.
func TestDrippingBody(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *rest.Config) { c.BodyTimeout = time.Second })
	start := time.Now()
	conn, reader := s.speak("POST /api/licenses HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + s.token +
		"\r\napi-key: " + s.key +
		"\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{")
	go func() {
		for {
			if _, err := conn.Write([]byte(" ")); err != nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	response, err := http.ReadResponse(reader, nil)
	must(t, err)
	var f rest.Failure
	must(t, json.NewDecoder(response.Body).Decode(&f))
	if response.StatusCode != 400 || f.Fault.Type != "request_malformed" {
		t.Errorf("%s %+v", response.Status, f)
	}
	if _, err := reader.ReadByte(); err == nil {
		t.Error("the connection stays open")
	}
	if took := time.Since(start); took < time.Second || took > 30*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestLargeHeader(t *testing.T) {
	t.Parallel()
	s := newService(t)
	_, reader := s.speak("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Large: " + strings.Repeat("a", 2<<20) + "\r\n\r\n")
	response, err := http.ReadResponse(reader, nil)
	must(t, err)
	var f rest.Failure
	must(t, json.NewDecoder(response.Body).Decode(&f))
	if response.StatusCode != 431 || f.Meta.Code != 431 || f.Fault.Type != "request_too_large" || f.Meta.RequestID == "" {
		t.Errorf("%s %+v", response.Status, f)
	}
}

// TestRequestTimeout: a request that waits for a lock longer than its time is answered, and leaves nothing behind.
func TestRequestTimeout(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *rest.Config) { c.RequestTimeout = time.Second })
	read := call{method: "GET", path: "/api/jobs/" + uuid.NewString()}
	s.do(read) // the first answer of a process waits for the documents it is checked against
	holder, err := s.owner.Begin(t.Context())
	must(t, err)
	defer holder.Rollback(context.Background()) //nolint:errcheck // the test may have ended it
	_, err = holder.Exec(t.Context(), "LOCK TABLE ops.jobs IN ACCESS EXCLUSIVE MODE")
	must(t, err)
	start := time.Now()
	a := s.refused(read, 503, "service_unavailable", "The service is not available at the moment. Try again later.")
	if took := time.Since(start); took > 30*time.Second || a.header.Get("Retry-After") == "" {
		t.Errorf("took %v, headers %v", took, a.header)
	}
	must(t, holder.Rollback(t.Context()))
	// On a busy machine the second may pass more than once.
	for deadline := time.Now().Add(time.Minute); a.code == 503 && time.Now().Before(deadline); {
		a = s.do(read)
	}
	if a.code != 404 {
		t.Errorf("without the lock: %d %s", a.code, a.raw)
	}
}

// TestFraming sends bytes as no library would. Each answer is in the envelope, and only an unambiguous request is
// followed by another one on its connection.
func TestFraming(t *testing.T) {
	t.Parallel()
	s := newService(t)
	access := "Host: x\r\nAuthorization: Bearer " + s.token + "\r\napi-key: " + s.key + "\r\n"
	const get, post = "GET /healthz HTTP/1.1\r\nHost: x\r\n", "POST /api/licenses HTTP/1.1\r\n"
	const next = get + "\r\n"
	for _, c := range []struct {
		name, request string
		code          int
		kind          string
		open          bool
	}{
		{"length and chunked", post + access + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400,
			"request_malformed", false},
		{"chunked and length", post + access + "transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n0\r\n\r\n", 400,
			"request_malformed", false},
		{"bare line ends", post + "Host: x\nContent-Length: 2\nTransfer-Encoding: chunked\n\n0\r\n\r\n", 400,
			"request_malformed", false},
		{"both, on GET", get + "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "request_malformed",
			false},
		{"both, HTTP/1.0", "POST /api/licenses HTTP/1.0\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", 400,
			"request_malformed", false},
		{"two lengths", post + access + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400, "request_malformed", false},
		{"chunked twice", post + access + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400,
			"request_malformed", false},
		{"identity", post + access + "Transfer-Encoding: identity\r\n\r\n{}", 400, "request_malformed", false},
		{"unknown version", "GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n", 400, "request_malformed", false},
		{"length no number", post + access + "Content-Length: two\r\n\r\n{}", 400, "request_malformed", false},
		{"chunked", post + access + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 422, "validation_failed",
			false},
		{"length", post + access + "Content-Length: 2\r\n\r\n{}", 422, "validation_failed", true},
		{"the body speaks of both", post + access + "Content-Length: 53\r\n\r\n" + strings.Repeat(" ", 2) +
			"\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
			400, "request_malformed", true},
		{"99 MB announced", post + access + "Content-Length: 99000000\r\nExpect: 100-continue\r\n\r\n", 413,
			"request_too_large", false},
		{"unknown Expect", post + access + "Content-Length: 2\r\nExpect: 200-ok\r\n\r\n{}", 417, "request_malformed", false},
		{"gzip", post + access + "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", 415, "content_type_invalid", true},
		{"identity and gzip", post + access +
			"Content-Encoding: identity\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
			415, "content_type_invalid", true},
		{"coding identity", post + access + "Content-Encoding: Identity\r\nContent-Length: 2\r\n\r\n{}", 422,
			"validation_failed", true},
		{"two Accept lines", post + access + "Accept: text/html\r\nAccept: application/json\r\nContent-Length: 2\r\n\r\n{}",
			422, "validation_failed", true},
		{"two Accept lines, none fits", post + access +
			"Accept: text/html\r\nAccept: application/json;q=0\r\nContent-Length: 2\r\n\r\n{}", 406, "content_type_invalid",
			true},
		{"no such file of the console", "GET /docs/nonexistent.js HTTP/1.1\r\nHost: x\r\n\r\n", 404, "not_found", true},
	} {
		_, reader := s.speak(c.request + next)
		response, err := http.ReadResponse(reader, nil)
		must(t, err)
		var f rest.Failure
		if err := json.NewDecoder(response.Body).Decode(&f); err != nil {
			t.Errorf("%s: %s: %v", c.name, response.Status, err)
			continue
		}
		response.Body.Close()
		if response.StatusCode != c.code || f.Meta.Code != c.code || f.Fault.Type != c.kind || f.Meta.RequestID == "" {
			t.Errorf("%s: %s %+v", c.name, response.Status, f)
		}
		after, err := http.ReadResponse(reader, nil)
		if open := err == nil; open != c.open || errors.Is(err, os.ErrDeadlineExceeded) || open && after.StatusCode != 200 {
			t.Errorf("%s: the connection goes on: %t, want %t", c.name, open, c.open)
		}
	}

	// Behind other requests on the same connection, and byte by byte.
	ambiguous := post + access + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
	for name, before := range map[string]string{"a GET": next, "a POST": post + access + "Content-Length: 2\r\n\r\n{}"} {
		_, reader := s.speak(before + ambiguous)
		response, err := http.ReadResponse(reader, nil)
		must(t, err)
		_, err = io.Copy(io.Discard, response.Body)
		must(t, err)
		if response, err = http.ReadResponse(reader, nil); err != nil || response.StatusCode != 400 {
			t.Errorf("behind %s: %v %v", name, response, err)
		}
	}
	conn, reader := s.speak("")
	for i := range len(ambiguous) {
		conn.Write([]byte{ambiguous[i]}) //nolint:errcheck // the answer tells
	}
	if response, err := http.ReadResponse(reader, nil); err != nil || response.StatusCode != 400 {
		t.Errorf("byte by byte: %v %v", response, err)
	}
}
