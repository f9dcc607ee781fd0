package rest

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// urlAnswered sends GET /nothing?a=b from a peer, and returns the meta.url of the answer. Each header is "Name: value".
func urlAnswered(t *testing.T, trusted, peer string, encrypted bool, headers ...string) string {
	t.Helper()
	config := Config{Log: slog.New(slog.DiscardHandler)}
	if trusted != "" {
		if err := config.TrustedProxies.UnmarshalText([]byte(trusted)); err != nil {
			t.Fatal(err)
		}
	}
	r := httptest.NewRequest(http.MethodGet, "/nothing?a=b", http.NoBody)
	r.Host, r.RemoteAddr = "inner:8080", peer
	if encrypted {
		r.TLS = &tls.ConnectionState{}
	}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		r.Header.Add(name, value)
	}
	answer := httptest.NewRecorder()
	Health(config).ServeHTTP(answer, r)
	var failure Failure
	if err := json.Unmarshal(answer.Body.Bytes(), &failure); err != nil {
		t.Fatal(err)
	}
	return failure.Meta.URL
}

func TestForwardedURLBehindATrustedProxy(t *testing.T) {
	t.Parallel()
	const host, proto = "X-Forwarded-Host: registry.example", "X-Forwarded-Proto: https"
	for _, c := range []struct {
		trusted, peer string
		headers       []string
		want          string
	}{
		{"10.0.0.5", "10.0.0.5:1", []string{host, proto}, "https://registry.example"},
		{"10.0.0.5", "10.0.0.5:1", []string{host}, "http://registry.example"},
		{"10.0.0.5", "10.0.0.5:1", []string{proto}, "https://inner:8080"},
		{"10.0.0.5", "10.0.0.5:1", []string{"X-Forwarded-Proto: HTTPS"}, "https://inner:8080"},
		{"10.0.0.5", "10.0.0.5:1", nil, "http://inner:8080"},
		{"fd00::1, 10.0.0.0/8", "10.200.3.4:1", []string{host, proto}, "https://registry.example"},
		{"fd00::/8", "[fd12::1]:1", []string{host, proto}, "https://registry.example"},
		{"fd00::1", "[fd00:0::1]:1", []string{host, proto}, "https://registry.example"},
		// A socket that listens on IPv4 and IPv6 shows an IPv4 peer in its mapped form.
		{"10.0.0.5", "[::ffff:10.0.0.5]:1", []string{host, proto}, "https://registry.example"},
		{"10.0.0.0/8", "[::ffff:10.9.9.9]:1", []string{host, proto}, "https://registry.example"},
		{"::ffff:10.0.0.5", "10.0.0.5:1", []string{host, proto}, "https://registry.example"},
		{"::ffff:10.0.0.0/104", "10.9.9.9:1", []string{host, proto}, "https://registry.example"},
		{"fe80::1", "[fe80::1%eth0]:1", []string{host, proto}, "https://registry.example"},
		// The proxy appends to what its caller sent.
		{"10.0.0.5", "10.0.0.5:1", []string{"X-Forwarded-Host: evil.example, registry.example", proto},
			"https://registry.example"},
		{"10.0.0.5", "10.0.0.5:1", []string{"X-Forwarded-Host: evil.example", host, "X-Forwarded-Proto: https", proto},
			"https://registry.example"},
		{"10.0.0.5", "10.0.0.5:1", []string{"X-Forwarded-Proto: https,http"}, "http://inner:8080"},
		// Other forms of hosts.
		{"10.0.0.5", "10.0.0.5:1", []string{"X-Forwarded-Host: registry.example:8443", proto},
			"https://registry.example:8443"},
		{"10.0.0.5", "10.0.0.5:1", []string{"X-Forwarded-Host: [2001:db8::1]:8443"}, "http://[2001:db8::1]:8443"},
		{"10.0.0.5", "10.0.0.5:1", []string{"X-Forwarded-Host: 192.0.2.7"}, "http://192.0.2.7"},
	} {
		if got := urlAnswered(t, c.trusted, c.peer, false, c.headers...); got != c.want+"/nothing?a=b" {
			t.Errorf("trusted %s, peer %s, %s: %s, want %s", c.trusted, c.peer, c.headers, got, c.want)
		}
	}
	if got := urlAnswered(t, "10.0.0.5", "10.0.0.5:1", true, "X-Forwarded-Proto: http"); got !=
		"http://inner:8080/nothing?a=b" {
		t.Errorf("the proxy uses TLS and its caller does not: %s", got)
	}
}

func TestForwardedURLOfOthersIsIgnored(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ trusted, peer string }{
		{"", "127.0.0.1:1"},
		{"10.0.0.5", "10.0.0.6:1"},
		{"10.0.0.0/8", "11.0.0.1:1"},
		{"10.0.0.0/8", "[fd00::1]:1"},
		{"10.0.0.0/8", "[::ffff:11.0.0.1]:1"},
		{"fd00::/8", "10.0.0.5:1"},
		{"0.0.0.0/0", "[2001:db8::1]:1"},
		{"10.0.0.5", "@"}, // of a Unix socket
		{"10.0.0.5", ""},
	} {
		got := urlAnswered(t, c.trusted, c.peer, false, "X-Forwarded-Host: evil.example", "X-Forwarded-Proto: https",
			"X-Forwarded-For: 10.0.0.5", "X-Real-IP: 10.0.0.5")
		if got != "http://inner:8080/nothing?a=b" {
			t.Errorf("trusted %q, peer %q: %s", c.trusted, c.peer, got)
		}
	}
	// The values of a trusted proxy that cannot be right, and headers that are not read.
	for _, header := range []string{
		"X-Forwarded-Host: ", "X-Forwarded-Host: registry.example,", "X-Forwarded-Host: registry.example, a b",
		"X-Forwarded-Host: user@evil.example", "X-Forwarded-Host: evil.example/path", "X-Forwarded-Host: evil.example?a",
		"X-Forwarded-Host: evil.example#a", `X-Forwarded-Host: "><script>`, "X-Forwarded-Host: evil.example:port",
		"X-Forwarded-Host: :443", "X-Forwarded-Host: [::1", "X-Forwarded-Host: ::1", "X-Forwarded-Host: https://evil.example",
		"X-Forwarded-Host: реєстр.example", "X-Forwarded-Host: evil.example\r\nX: y",
		"X-Forwarded-Host: " + strings.Repeat("a", 254), "X-Forwarded-Proto: ", "X-Forwarded-Proto: https,",
		"X-Forwarded-Proto: wss", "X-Forwarded-Proto: javascript", "X-Forwarded-Proto: https://",
		"X-Forwarded-Port: 443", "X-Forwarded-Prefix: /api", "X-Forwarded-Ssl: on",
		"Forwarded: host=evil.example;proto=https",
	} {
		if got := urlAnswered(t, "10.0.0.5", "10.0.0.5:1", false, header); got != "http://inner:8080/nothing?a=b" {
			t.Errorf("%q: %s", header, got)
		}
	}
	if got := urlAnswered(t, "10.0.0.5", "10.0.0.6:1", true, "X-Forwarded-Proto: http"); got !=
		"https://inner:8080/nothing?a=b" {
		t.Errorf("over TLS: %s", got)
	}
}

func TestTrustedProxiesRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"proxy.example":        `"proxy.example" is neither an IP address nor a prefix: give the addresses`,
		"10.0.0.5:8080":        `"10.0.0.5:8080" is neither`,
		"10.0.0.5,,10.0.0.6":   `"" is neither`,
		"10.0.0.5,":            `"" is neither`,
		"10.0.0.5 10.0.0.6":    `"10.0.0.5 10.0.0.6" is neither`,
		"10.0.0.256":           `"10.0.0.256" is neither`,
		"10.0.0.0/33":          `"10.0.0.0/33" is neither`,
		"10.0.0.0/8/8":         `"10.0.0.0/8/8" is neither`,
		"[fd00::1]":            `"[fd00::1]" is neither`,
		"fe80::1%eth0":         `"fe80::1%eth0" is neither`,
		"*":                    `"*" is neither`,
		"10.0.0.1/8":           `"10.0.0.1/8" has bits behind its length: give 10.0.0.0/8`,
		"fd00::1/8":            `"fd00::1/8" has bits behind its length: give fd00::/8`,
		"::ffff:10.0.0.0/90":   `"::ffff:10.0.0.0/90" has bits behind its length`,
		"10.0.0.5, 10.0.0.6/8": `"10.0.0.6/8" has bits`,
	} {
		var p Proxies
		if err := p.UnmarshalText([]byte(text)); err == nil || !strings.HasPrefix(fmt.Sprint(err), want) {
			t.Errorf("%q: %v, %v", text, p, err)
		}
	}
}
