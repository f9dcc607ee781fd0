package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/textproto"
	"strconv"

	"github.com/google/uuid"
)

// Listener reads and rewrites the bytes of connections, for two cases that net/http cannot be configured for:
//
//   - A request with Content-Length and Transfer-Encoding is refused (RFC 9112, section 6.1: an attempt to smuggle a
//     request). net/http would drop Content-Length before a handler sees it.
//   - Requests that net/http refuses itself (malformed, headers too large, an unknown Expect) are answered in the
//     envelope. net/http writes plain text or no body.
func Listener(l net.Listener) net.Listener { return listener{l} }

type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c}, nil
}

type conn struct {
	net.Conn
	heads heads
}

// Read is called by one goroutine at a time.
func (c *conn) Read(p []byte) (int, error) {
	if c.heads.end != "" {
		n := copy(p, c.heads.end)
		c.heads.end = c.heads.end[n:]
		return n, nil
	}
	n, err := c.Conn.Read(p)
	c.heads.check(p[:n])
	return n, err
}

// maxHeadBytes is larger than the largest head that net/http reads by default (a little over 1 MiB).
const maxHeadBytes = 2 << 20

// heads finds the heads of requests in the bytes of a connection, and spoils a head with both framings.
type heads struct {
	head   []byte // bytes of the present head that have been read
	body   int64  // bytes of the present body that have not been read
	opaque bool   // the rest of the connection holds no head that will be answered
	end    string // the bytes that end a spoiled head; Read returns them first
}

// check spoils a head with both framings, so that net/http refuses it with 400 and closes the connection: the empty
// line at its end becomes a header line without a name. This line needs an end too. The client may send nothing more,
// so check provides the end.
func (h *heads) check(p []byte) {
	for len(p) > 0 && !h.opaque {
		if h.body > 0 {
			skipped := min(h.body, int64(len(p)))
			h.body -= skipped
			p = p[skipped:]
			continue
		}
		before := len(h.head)
		h.head = append(h.head, p...)
		end := endOfHead(h.head, before)
		if end < 0 {
			h.opaque = len(h.head) > maxHeadBytes // net/http refuses it
			return
		}
		length, chunked := framing(h.head[:end])
		if length != "" && chunked {
			p[end-before-1] = ':'
			h.opaque, h.end = true, "\n\n"
			return
		}
		var err error
		if length != "" {
			h.body, err = strconv.ParseInt(length, 10, 64)
		}
		// identify has the connection of a chunked request closed, and net/http that of a malformed one.
		h.opaque = chunked || err != nil || h.body < 0
		p = p[end-before:]
		h.head = h.head[:0]
	}
}

// endOfHead returns the index after the first empty line, or -1. The first known bytes have been searched before.
func endOfHead(head []byte, known int) int {
	for i := max(known, 1); i < len(head); i++ {
		if head[i] == '\n' && (head[i-1] == '\n' || i > 1 && head[i-1] == '\r' && head[i-2] == '\n') {
			return i + 1
		}
	}
	return -1
}

// framing returns the Content-Length of a head, and whether it has a Transfer-Encoding.
func framing(head []byte) (length string, transferEncoding bool) {
	for line := range bytes.Lines(head) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch textproto.CanonicalMIMEHeaderKey(string(bytes.TrimSpace(name))) {
		case "Content-Length":
			length = string(bytes.TrimSpace(value))
			if length == "" {
				length = "-"
			}
		case "Transfer-Encoding":
			transferEncoding = true
		}
	}
	return length, transferEncoding
}

var (
	statusLine    = []byte("HTTP/1.1 ")
	plainHeader   = []byte("\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n")
	unknownExpect = []byte("HTTP/1.1 417 Expectation Failed\r\n")
	noBody        = []byte("\r\nContent-Length: 0\r\n")
)

func (c *conn) Write(p []byte) (int, error) {
	first, _, found := bytes.Cut(p, plainHeader)
	if bytes.HasPrefix(p, unknownExpect) && bytes.Contains(p, noBody) {
		first, found = bytes.TrimSpace(unknownExpect), true
	}
	if !found || !bytes.HasPrefix(first, statusLine) || bytes.ContainsAny(first, "\r\n") {
		return c.Conn.Write(p)
	}
	code, err := strconv.Atoi(string(first[len(statusLine):min(len(first), len(statusLine)+3)]))
	if err != nil {
		return c.Conn.Write(p)
	}
	if code > http.StatusInternalServerError { // 501 and 505: of a coding and of a version that net/http does not know
		code = http.StatusBadRequest
	}
	id := uuid.NewString()
	kind := "request_malformed"
	if code == http.StatusRequestHeaderFieldsTooLarge {
		kind = "request_too_large"
	}
	ctx := context.WithValue(context.Background(), requestKey{}, request{id: id})
	body, err := json.Marshal(Fail(ctx, code, Fault{Type: kind, Message: http.StatusText(code)}))
	if err != nil {
		return c.Conn.Write(p)
	}
	_, err = fmt.Fprintf(c.Conn, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nX-Request-Id: %s\r\n"+
		"Cache-Control: no-store\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", code, http.StatusText(code), id,
		len(body), body)
	return len(p), err // net/http expects the number of bytes that it wrote
}
