package rest

import (
	"crypto/ed25519"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// issuerOf is an issuer whose answer to a request for its keys is set() at that moment.
func issuerOf(t *testing.T, set func() string) *Issuer {
	t.Helper()
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"issuer": "`+server.URL+`", "jwks_uri": "`+server.URL+`/keys"}`) //nolint:errcheck // the test sees
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, set()) //nolint:errcheck // the test sees
	})
	return NewIssuer(server.URL, "reiestr", nil, slog.New(slog.DiscardHandler))
}

// publicKey is a key with an id, as it stands in a key set.
func publicKey(t *testing.T, id string) string {
	t.Helper()
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(jose.JSONWebKey{Key: public, KeyID: id})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestWithdrawnKeyIsRefusedAfterFiveMinutes: keys of the issuer are kept for five minutes. Then they are fetched again,
// and a key that the issuer has withdrawn counts no longer.
func TestWithdrawnKeyIsRefusedAfterFiveMinutes(t *testing.T) {
	t.Parallel()
	kept, withdrawn := publicKey(t, "kept"), publicKey(t, "withdrawn")
	set := `{"keys": [` + kept + `, ` + withdrawn + `]}`
	i := issuerOf(t, func() string { return set })
	known := func(id string) int {
		keys, err := i.keys(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return len(keys)
	}
	if known("kept") != 1 || known("withdrawn") != 1 {
		t.Fatal("the keys of the issuer are not found")
	}
	set = `{"keys": [` + kept + `]}`
	fetched := *i.known.Load()
	for ago, want := range map[time.Duration]int{4 * time.Minute: 1, 5*time.Minute + time.Second: 0} {
		before := fetched
		before.fetchedAt = time.Now().Add(-ago)
		i.known.Store(&before)
		if n := known("withdrawn"); n != want {
			t.Errorf("%v after the fetch there are %d withdrawn keys, want %d", ago, n, want)
		}
		if n := known("kept"); n != 1 {
			t.Errorf("%v after the fetch there are %d other keys", ago, n)
		}
	}
}

// TestAnswerOfTheIssuerIsBounded: a key set of more than 1 MiB is refused, so an issuer cannot fill the memory.
func TestAnswerOfTheIssuerIsBounded(t *testing.T) {
	t.Parallel()
	key := publicKey(t, "a")
	for size, allowed := range map[int]bool{1<<20 - 1<<10: true, 1<<20 + 1: false} {
		set := `{"padding": "` + strings.Repeat(" ", size) + `", "keys": [` + key + `]}`
		keys, err := issuerOf(t, func() string { return set }).keys(t.Context(), "a")
		if allowed != (err == nil) || allowed != (len(keys) == 1) {
			t.Errorf("with %d bytes of padding: %d keys, %v", size, len(keys), err)
		}
	}
}
