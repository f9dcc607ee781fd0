package api_test

import (
	"github.com/google/uuid"

	"bufio"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

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
	if took := time.Since(start); took > 4*time.Second || a.header.Get("Retry-After") == "" {
		t.Errorf("took %v, headers %v", took, a.header)
	}
	must(t, holder.Rollback(t.Context()))
	// On a busy machine the second may pass more than once.
	for deadline := time.Now().Add(time.Minute); s.do(read).code == 503 && time.Now().Before(deadline); {
	}
	s.refused(read, 404, "not_found", "Job not found")
}
