package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"

	"github.com/google/uuid"
)

// Listener makes net/http answer in the envelope also where it finds a request so malformed (ambiguous framing, headers too large) that no
// handler sees it: there it writes one plain text, known by its first lines, straight to the connection.
func Listener(l net.Listener) net.Listener { return listener{l} }

type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return conn{c}, nil
}

type conn struct{ net.Conn }

var (
	statusLine  = []byte("HTTP/1.1 ")
	plainHeader = []byte("\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n")
)

func (c conn) Write(p []byte) (int, error) {
	first, _, found := bytes.Cut(p, plainHeader)
	if !found || !bytes.HasPrefix(first, statusLine) || bytes.ContainsAny(first, "\r\n") {
		return c.Conn.Write(p)
	}
	code, err := strconv.Atoi(string(first[len(statusLine):min(len(first), len(statusLine)+3)]))
	if err != nil {
		return c.Conn.Write(p)
	}
	id := uuid.NewString()
	kind := "request_malformed"
	if code == http.StatusRequestHeaderFieldsTooLarge {
		kind = "request_too_large"
	}
	f := Fail(context.WithValue(context.Background(), requestKey{}, request{id: id}), code, Fault{Type: kind, Message: http.StatusText(code)})
	body, err := json.Marshal(f)
	if err != nil {
		return c.Conn.Write(p)
	}
	_, err = fmt.Fprintf(c.Conn, "%s\r\nContent-Type: application/json\r\nX-Request-Id: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		first, id, len(body), body)
	return len(p), err // the caller counts its own bytes
}
