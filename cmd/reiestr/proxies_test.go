package main

import (
	"bufio"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// answer is the part of an answer that these tests look at.
type answer struct {
	Meta struct {
		URL string `json:"url"`
	} `json:"meta"`
	Error struct {
		Type string `json:"type"`
	} `json:"error"`
}

// raw sends a request as it stands, and returns the answer. Its connection is closed after it.
func (p *process) raw(request string) (*http.Response, answer) {
	p.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	must(p.t, err)
	defer conn.Close()
	must(p.t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = conn.Write([]byte(request))
	must(p.t, err)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	must(p.t, err)
	var a answer
	if err := json.NewDecoder(response.Body).Decode(&a); err != nil {
		p.t.Errorf("%q: %s without an envelope: %v", request, response.Status, err)
	}
	return response, a
}

func TestServeTrustsTheConfiguredProxies(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	const request = "GET /nothing HTTP/1.1\r\nHost: inner:8080\r\nX-Forwarded-Host: registry.example\r\n" +
		"X-Forwarded-Proto: https\r\n\r\n"
	for _, c := range []struct{ role, setting, want string }{
		{"api", "127.0.0.0/8", "https://registry.example/nothing"},
		{"api", "127.0.0.99", "http://inner:8080/nothing"},
		{"api", "", "http://inner:8080/nothing"},
		{"worker", "127.0.0.0/8", "https://registry.example/nothing"},
	} {
		p := serve(t, append(r.env(), "REIESTR_TRUSTED_PROXIES="+c.setting), "--role", c.role)
		if _, a := p.raw(request); a.Meta.URL != c.want {
			t.Errorf("role %s, trusted %q: %s, want %s", c.role, c.setting, a.Meta.URL, c.want)
		}
		p.stop()
	}
}

// TestOptionsOfTheServerHasTheEnvelope: by default net/http answers "OPTIONS *" itself, with 200 and no body.
func TestOptionsOfTheServerHasTheEnvelope(t *testing.T) {
	t.Parallel()
	p := serve(t, newRegistry(t).env(), "--role", "api")
	for _, target := range []string{"*", "/nothing"} {
		response, a := p.raw("OPTIONS " + target + " HTTP/1.1\r\nHost: registry.example\r\nContent-Length: 0\r\n\r\n")
		want := "http://registry.example" + strings.TrimPrefix(target, "*")
		if response.StatusCode != http.StatusNotFound || a.Error.Type != "not_found" || a.Meta.URL != want ||
			response.Header.Get("X-Request-Id") == "" {
			t.Errorf("OPTIONS %s: %s %+v", target, response.Status, a)
		}
	}
}
