package api_test

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"

	"github.com/reiestr/reiestr/api/rest"
	"github.com/reiestr/reiestr/db"
)

// beIssuer is an OIDC issuer in a process of its own: discovery and a key set. Tests have it sign claims (POST /sign),
// change its key (POST /rotate), and replace its key set (POST /set, where "good" stands for its key). It ends with its
// standard input.
func beIssuer() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	url := "http://" + listener.Addr().String()
	var mu sync.Mutex
	var key jose.JSONWebKey
	rotate := func(kind string) {
		private, err := any(nil), error(nil)
		algorithm := jose.RS256
		if kind == "EC" {
			algorithm = jose.ES256
			private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		} else {
			private, err = rsa.GenerateKey(rand.Reader, 2048)
		}
		if err != nil {
			panic(err)
		}
		key = jose.JSONWebKey{Key: private, KeyID: uuid.NewString(), Algorithm: string(algorithm), Use: "sig"}
	}
	rotate("RSA")
	var set []byte // of POST /set; empty: the key only
	answer := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(v) //nolint:errcheck // the test has gone
	}
	asked := 0
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"issuer": url, "jwks_uri": url + "/keys"})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		asked++
		if len(set) > 0 {
			good, _ := key.Public().MarshalJSON()
			w.Write(bytes.ReplaceAll(set, []byte(`"good"`), good)) //nolint:errcheck // the test has gone
			return
		}
		answer(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key.Public()}})
	})
	mux.HandleFunc("GET /asked", func(w http.ResponseWriter, _ *http.Request) { answer(w, asked) })
	mux.HandleFunc("POST /rotate", func(_ http.ResponseWriter, r *http.Request) { rotate(r.URL.Query().Get("kind")) })
	mux.HandleFunc("POST /set", func(_ http.ResponseWriter, r *http.Request) { set, _ = io.ReadAll(r.Body) })
	mux.HandleFunc("POST /sign", func(w http.ResponseWriter, r *http.Request) {
		options := &jose.SignerOptions{}
		if kind := r.URL.Query().Get("typ"); kind != "" {
			options.WithType(jose.ContentType(kind))
		}
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(key.Algorithm), Key: key}, options)
		if err != nil {
			panic(err)
		}
		claims, _ := io.ReadAll(r.Body)
		signed, err := signer.Sign(claims)
		if err != nil {
			panic(err)
		}
		token, _ := signed.CompactSerialize()
		io.WriteString(w, token) //nolint:errcheck // the test has gone
	})
	go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter,
		r *http.Request) { //nolint:errcheck // ends with the process
		mu.Lock()
		defer mu.Unlock()
		mux.ServeHTTP(w, r)
	}))
	fmt.Println(url)
	io.Copy(io.Discard, os.Stdin) //nolint:errcheck // the end is what counts
}

type issuer struct {
	t   testing.TB
	url string
	end func()
}

func newIssuer(t testing.TB) *issuer {
	t.Helper()
	process := exec.Command(os.Args[0])
	process.Env = append(os.Environ(), "REIESTR_TEST_IS_ISSUER=1")
	process.Stderr = os.Stderr
	input, err := process.StdinPipe()
	must(t, err)
	output, err := process.StdoutPipe()
	must(t, err)
	must(t, process.Start())
	i := &issuer{t: t, end: sync.OnceFunc(func() {
		input.Close()
		process.Wait() //nolint:errcheck // its exit code does not matter
	})}
	t.Cleanup(i.end)
	line, err := bufio.NewReader(output).ReadString('\n')
	must(t, err)
	i.url = strings.TrimSpace(line)
	return i
}

func (i *issuer) post(path string, body []byte) string {
	i.t.Helper()
	response, err := http.Post(i.url+path, "application/json", bytes.NewReader(body))
	must(i.t, err)
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	must(i.t, err)
	return string(answer)
}

// token is signed by the issuer; changes replace claims of a good one, nil leaves one out.
func (i *issuer) token(s *service, changes map[string]any) string {
	i.t.Helper()
	return i.tokenOfType(s, "", changes)
}

// tokenOfType has a type (typ) in its header; empty: none.
func (i *issuer) tokenOfType(s *service, kind string, changes map[string]any) string {
	i.t.Helper()
	claims := map[string]any{
		"iss": i.url, "aud": []string{"other", "reiestr"}, "sub": s.user, "client_id": s.clinic,
		"scope": "job:read license:write",
		"exp":   time.Now().Add(time.Hour).Unix(), "nbf": time.Now().Unix(), "iat": time.Now().Unix(),
	}
	maps.Copy(claims, changes)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	body, err := json.Marshal(claims)
	must(i.t, err)
	return i.post("/sign?typ="+url.QueryEscape(kind), body)
}

// withIssuer has JWTs of the issuer accepted.
func withIssuer(url string) option {
	return func(c *rest.Config) {
		c.Issuer = rest.NewIssuer(url, "reiestr", c.DB.Access, slog.New(slog.DiscardHandler))
	}
}

func bearing(token string) call {
	return call{method: "GET", path: "/api/jobs/" + uuid.NewString(),
		header: map[string]string{"Authorization": "Bearer " + token}}
}

func (s *service) accepts(name, token string) {
	s.t.Helper()
	if a := s.do(bearing(token)); a.code != 404 || a.body.Error.Message != "Job not found" {
		s.t.Errorf("%s: %d %s", name, a.code, a.raw)
	}
}

const (
	invalidToken = "Unauthorized: invalid access token"
	expiredToken = "Unauthorized: access token is expired"
)

func TestOIDC(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	s := newService(t, withIssuer(i.url))
	good := i.token(s, nil)
	s.accepts("good", good)
	s.accepts("opaque", s.token)
	s.accepts("legal_entity_id wins", i.token(s,
		map[string]any{"legal_entity_id": s.clinic, "client_id": "some-application"}))
	s.accepts("one audience", i.token(s, map[string]any{"aud": "reiestr"}))
	s.accepts("no nbf", i.token(s, map[string]any{"nbf": nil}))
	s.accepts("expired within the skew", i.token(s, map[string]any{"exp": time.Now().Add(-10 * time.Second).Unix()}))
	s.accepts("valid soon", i.token(s, map[string]any{"nbf": time.Now().Add(10 * time.Second).Unix()}))

	parts := strings.Split(good, ".")
	encode := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	must(t, err)
	shared, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: []byte(strings.Repeat("k", 32))}, nil)
	must(t, err)
	hs256, err := shared.Sign(payload)
	must(t, err)
	hs256Token, err := hs256.CompactSerialize()
	must(t, err)
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	strange, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: stranger}, nil)
	must(t, err)
	forged, err := strange.Sign(payload)
	must(t, err)
	forgedToken, err := forged.CompactSerialize()
	must(t, err)
	for _, c := range []struct{ name, token, message string }{
		{"wrong audience", i.token(s, map[string]any{"aud": "other"}), invalidToken},
		{"no audience", i.token(s, map[string]any{"aud": nil}), invalidToken},
		{"wrong issuer", i.token(s, map[string]any{"iss": i.url + "/"}), invalidToken},
		{"no issuer", i.token(s, map[string]any{"iss": nil}), invalidToken},
		{"expired", i.token(s, map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}), expiredToken},
		{"expired and wrong audience", i.token(s, map[string]any{"exp": 1, "aud": "other"}), invalidToken},
		{"no expiry", i.token(s, map[string]any{"exp": nil}), invalidToken},
		{"not valid yet", i.token(s, map[string]any{"nbf": time.Now().Add(time.Minute).Unix()}), invalidToken},
		{"none", encode(`{"alg":"none"}`) + "." + parts[1] + ".", invalidToken},
		{"none with a signature", encode(`{"alg":"none"}`) + "." + parts[1] + "." + parts[2], invalidToken},
		{"HS256", hs256Token, invalidToken},
		{"of another key", forgedToken, invalidToken},
		{"tampered", parts[0] + "." + encode(strings.Replace(string(payload), "job:read", "all:read", 1)) + "." + parts[2],
			invalidToken},
		{"no signature", parts[0] + "." + parts[1] + ".", invalidToken},
		{"no JSON", encode("x") + "." + encode("y") + "." + encode("z"), invalidToken},
		{"nothing but dots", "..", invalidToken},
		{"no sub", i.token(s, map[string]any{"sub": nil}), invalidToken},
		{"sub is no uuid", i.token(s, map[string]any{"sub": "somebody"}), invalidToken},
		{"sub in another form", i.token(s, map[string]any{"sub": "urn:uuid:" + s.user.String()}), invalidToken},
		{"sub is a number", i.token(s, map[string]any{"sub": 7}), invalidToken},
		{"no client", i.token(s, map[string]any{"client_id": nil}), invalidToken},
		{"client is no uuid", i.token(s, map[string]any{"client_id": "some-application"}), invalidToken},
		{"legal entity is no uuid", i.token(s, map[string]any{"legal_entity_id": ""}), invalidToken},
		{"scope is a list", i.token(s, map[string]any{"scope": []string{"job:read"}}), invalidToken},
	} {
		a := s.refused(bearing(c.token), 401, "access_denied", c.message)
		if got := a.header.Get("WWW-Authenticate"); got != `Bearer realm="reiestr", error="invalid_token"` {
			t.Errorf("%s: WWW-Authenticate %q", c.name, got)
		}
		if t.Failed() {
			t.Fatal(c.name)
		}
	}
	// What follows the token is as with opaque ones, and in its order.
	poor := bearing(i.token(s, map[string]any{"scope": nil}))
	s.refused(poor, 403, "forbidden", "Invalid scopes. Your scope does not allow to access this resource. Missing "+
		"allowances: job:read")
	poor.header["api-key"] = "guess"
	s.refused(poor, 401, "access_denied", "Unauthorized: Invalid api key")
	poor.header["api-key"] = ""
	s.refused(poor, 401, "access_denied", "Unauthorized: Api key is not set")
	late := bearing(i.token(s, map[string]any{"exp": 1}))
	late.header["api-key"] = "guess"
	s.refused(late, 401, "access_denied", expiredToken)

	// The token acts for its legal entity.
	s.primaryLicense(s.clinic)
	create := license()
	create.header = map[string]string{"Authorization": "Bearer " + good}
	if a := s.do(create); a.code != 201 || !strings.Contains(a.raw, s.clinic.String()) ||
		!strings.Contains(a.raw, s.user.String()) {
		t.Errorf("%d %s", a.code, a.raw)
	}
}

// TestJWTOfAnotherTypeIsRefused: the issuer's key signs other things than access tokens too.
func TestJWTOfAnotherTypeIsRefused(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	s := newService(t, withIssuer(i.url))
	for _, kind := range []string{"", "JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "application/jwt"} {
		s.accepts("typ "+kind, i.tokenOfType(s, kind, nil))
	}
	for _, kind := range []string{"logout+jwt", "dpop+jwt", "secevent+jwt", "JOSE", "x", "jwt ", "text/at+jwt"} {
		s.refused(bearing(i.tokenOfType(s, kind, nil)), 401, "access_denied", invalidToken)
	}
}

// TestRevokedAPIKeyWithAJWT: a JWT does not help an api key that is revoked. The key is refused at the next request.
func TestRevokedAPIKeyWithAJWT(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	s := newService(t, withIssuer(i.url))
	token := i.token(s, nil)
	s.accepts("before", token)
	must(t, s.access.RevokeAPIKey(t.Context(), s.key))
	s.refused(bearing(token), 401, "access_denied", "Unauthorized: Invalid api key")
}

// TestOIDCRotation: a new key is found at its first token, and one that the issuer has not is asked for once in a while
// only.
func TestOIDCRotation(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	s := newService(t, withIssuer(i.url))
	asked := func() string {
		response, err := http.Get(i.url + "/asked")
		must(t, err)
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		must(t, err)
		return strings.TrimSpace(string(body))
	}
	s.accepts("first key", i.token(s, nil))
	old := i.token(s, nil)
	i.post("/rotate?kind=EC", nil)
	next := i.token(s, nil)
	s.accepts("new key", next)
	if got := asked(); got != "2" {
		t.Errorf("asked for keys %s times", got)
	}
	began := time.Now()
	for range 20 {
		s.refused(bearing(old), 401, "access_denied", invalidToken) // withdrawn
	}
	// Once more, and then again only after a pause of five seconds.
	again, err := strconv.Atoi(asked())
	must(t, err)
	if most := 3 + int(time.Since(began)/(5*time.Second)); again < 3 || again > most {
		t.Errorf("asked for keys %d times, at most %d are needed", again, most)
	}
	s.accepts("new key", next)
	i.post("/rotate", nil)
	s.accepts("known key", next)
}

// TestOIDCUnreachable: opaque tokens need no issuer, the API starts without, and known keys outlive it.
func TestOIDCUnreachable(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	early := newService(t, withIssuer(i.url))
	late := newService(t, withIssuer(i.url))
	lying := newService(t, withIssuer(i.url+"/elsewhere"))
	token := i.token(early, nil)
	early.accepts("while it is up", token)
	lying.refused(bearing(token), 503, "service_unavailable", "The service is not available at the moment. Try again "+
		"later.")
	lying.accepts("opaque", lying.token)
	i.end()
	early.accepts("known key", token)
	a := late.refused(bearing(token), 503, "service_unavailable",
		"The service is not available at the moment. Try again later.")
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	late.accepts("opaque", late.token)
}

// TestOIDCOddKeys: a key that the service cannot use does not spoil the set that it stands in. A set without a usable
// key is answered as an unknown key is: 401, not 503.
func TestOIDCOddKeys(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	s := newService(t)
	token := i.token(s, nil)
	// check asks the issuer anew and returns the code of the answer; 200: the token is accepted.
	check := func(set string) int {
		i.post("/set", []byte(set))
		_, err := rest.NewIssuer(i.url, "reiestr", s.app.Access, slog.New(slog.DiscardHandler)).Check(t.Context(), token, "")
		var failure *rest.Failure
		switch {
		case errors.As(err, &failure):
			return failure.GetStatus()
		case errors.Is(err, db.ErrNotFound):
			return 401
		}
		must(t, err)
		return 200
	}
	for name, odd := range map[string]string{
		"unknown type":      `{"kty": "AKP", "alg": "ML-DSA-44", "kid": "odd", "pub": "AAAA"}`,
		"unknown type only": `{"kty": "AKP"}`,
		"X25519":            `{"kty": "OKP", "crv": "X25519", "kid": "odd", "x": "3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-IK08"}`,
		"Ed448":             `{"kty": "OKP", "crv": "Ed448", "x": "AAAA"}`,
		"secp256k1":         `{"kty": "EC", "crv": "secp256k1", "alg": "ES256K", "kid": "odd", "x": "AAAA", "y": "AAAA"}`,
		"unknown curve":     `{"kty": "EC", "crv": "P-999", "x": "AAAA", "y": "AAAA"}`,
		"not on its curve": `{"kty": "EC", "crv": "P-256", "x": "` + strings.Repeat("A", 43) + `", "y": "` +
			strings.Repeat("A", 43) + `"}`,
		"x5c no base64":      `{"kty": "RSA", "kid": "odd", "n": "AQAB", "e": "AQAB", "x5c": ["!"]}`,
		"x5c no certificate": `{"kty": "RSA", "kid": "odd", "n": "AQAB", "e": "AQAB", "x5c": ["AAAA"]}`,
		"x5c no list":        `{"kty": "RSA", "n": "AQAB", "e": "AQAB", "x5c": 7}`,
		"bad x5t":            `{"kty": "RSA", "n": "AQAB", "e": "AQAB", "x5t": "!"}`,
		"bad x5u":            `{"kty": "RSA", "n": "AQAB", "e": "AQAB", "x5u": ":"}`,
		"no modulus":         `{"kty": "RSA", "e": "AQAB"}`,
		"modulus zero":       `{"kty": "RSA", "n": "AA", "e": "AQAB"}`,
		"exponent zero":      `{"kty": "RSA", "n": "AQAB", "e": "AA"}`,
		"no base64":          `{"kty": "RSA", "n": "!", "e": "!"}`,
		"no type":            `{"kid": "odd"}`,
		"kid is a number":    `{"kty": "RSA", "kid": 7, "n": "AQAB", "e": "AQAB"}`,
		"shared secret":      `{"kty": "oct", "k": "AAAA"}`,
		"private key": `{"kty": "OKP", "crv": "Ed25519", "d": "` + strings.Repeat("A", 43) + `", "x": "` +
			strings.Repeat("A", 43) + `"}`,
		"null":   `null`,
		"number": `7`,
		"list":   `[]`,
		"text":   `"key"`,
	} {
		before, after, alone := check(`{"keys": [`+odd+`, "good"]}`), check(`{"keys": ["good", `+odd+`]}`),
			check(`{"keys": [`+odd+`]}`)
		if before != 200 || after != 200 || alone != 401 {
			t.Errorf("%s: %d before the good key, %d behind it, %d alone", name, before, after, alone)
		}
	}
	if code := check(`{"keys": []}`); code != 401 {
		t.Errorf("empty set: %d", code)
	}
	// An answer that is no key set says nothing about the token: known keys serve on, and without one it is 503.
	for _, body := range []string{`{}`, `{"keys": null}`, `{"keys": {}}`, `[]`, `<html>`, `{"keys": ["good"`} {
		if code := check(body); code != 503 {
			t.Errorf("%s: %d", body, code)
		}
	}

	i.post("/set", []byte(`{"keys": [{"kty": "AKP"}, "good"]}`))
	newService(t, withIssuer(i.url)).accepts("over HTTP", i.token(s, nil))
}

// Without an issuer a JWT is a token that nobody knows.
func TestJWTWithoutIssuer(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.refused(bearing("eyJhbGciOiJub25lIn0.e30."), 401, "access_denied", invalidToken)
}
