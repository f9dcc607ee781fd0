package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/api"
	"github.com/reiestr/reiestr/internal/dev/testdb"
)

func TestExitCodes(t *testing.T) {
	t.Parallel()
	url := testdb.New(t).URL
	id := uuid.NewString()
	for _, c := range []struct {
		args   string
		code   int
		stderr string
	}{
		{"version", 0, ""},
		{"help", 0, ""},
		{"help config", 0, ""},
		{"openapi", 0, ""},
		{"openapi --version 3.0", 0, ""},
		{"", 2, "reiestr: expected one of"},
		{"fly", 2, "reiestr: unexpected argument fly"},
		{"serve --role king", 2, "reiestr: --role must be one of"},
		{"serve --oidc-issuer https://issuer.example", 2, "reiestr: the OIDC issuer is set and the audience is not"},
		{"serve --oidc-audience reiestr --oidc-issuer issuer", 2, "reiestr: the OIDC issuer is no URL"},
		{"serve --rate-limit=-1", 2, "reiestr: the rate limit"},
		{"serve --trusted-proxies=proxy.example", 2, `reiestr: --trusted-proxies: "proxy.example" is neither an IP address`},
		{"serve --trusted-proxies=10.0.0.1/8", 2, `reiestr: --trusted-proxies: "10.0.0.1/8" has bits behind its length`},
		{"version --time-zone Mars/Base", 2, `reiestr: time zone "Mars/Base" is not known`},
		{"token issue --legal-entity x --user " + id + " --scope job:read", 2, "reiestr: --legal-entity"},
		{"token revoke nonsense --database-url " + url, 1, "reiestr: there is no such token"},
		{"apikey revoke nonsense --database-url " + url, 1, "reiestr: there is no such api key"},
		{"load /no/such/file --database-url " + url, 1, "reiestr: "},
		{"migrate status --database-url postgres://127.0.0.1:1/x", 1, "reiestr: "},
		{"migrate status --database-url %%%", 1, "reiestr: "},
	} {
		code, _, stderr := command(t, "", strings.Fields(c.args)...)
		if code != c.code || !strings.HasPrefix(stderr, c.stderr) {
			t.Errorf("reiestr %s: exit code %d, want %d: %s", c.args, code, c.code, stderr)
		}
		if strings.Count(stderr, "\n") > 1 || strings.Contains(stderr, "goroutine") {
			t.Errorf("reiestr %s: more than one line: %s", c.args, stderr)
		}
	}
}

func TestOpenAPICommand(t *testing.T) {
	t.Parallel()
	want, err := os.ReadFile("../../docs/openapi.yaml")
	must(t, err)
	if got := done(t, "openapi"); got != strings.TrimSpace(string(want)) {
		t.Error("openapi does not print docs/openapi.yaml")
	}
}

func TestHelpConfig(t *testing.T) {
	t.Parallel()
	table := done(t, "help", "config")
	for _, variable := range strings.Fields("REIESTR_DATABASE_URL REIESTR_DATA_DIR REIESTR_LISTEN REIESTR_TIME_ZONE " +
		"REIESTR_REQUIRE_API_KEY REIESTR_OIDC_ISSUER REIESTR_OIDC_AUDIENCE REIESTR_RATE_LIMIT REIESTR_RATE_BURST " +
		"REIESTR_DATABASE_CONNECTIONS REIESTR_LOCK_WAITERS OTEL_EXPORTER_OTLP_ENDPOINT " +
		"REIESTR_LOG_LEVEL REIESTR_LOG_FORMAT REIESTR_TRUSTED_PROXIES REIESTR_STRICT_CLIENTS") {
		if !strings.Contains(table, variable+" ") {
			t.Errorf("%s is missing:\n%s", variable, table)
		}
	}
}

// A command that would make a useless token is refused, and the error says what would be right.
func TestTokensAreRefused(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	all := strings.Join(api.Scopes(), ", ")
	for _, c := range []struct {
		change string // of a right call
		code   int
		want   string
	}{
		{"--legal-entity=" + uuid.Nil.String(), exitUsage, "--legal-entity: the UUID of zeros names no legal entity"},
		{"--user=" + uuid.Nil.String(), exitUsage, "--user: the UUID of zeros names no person"},
		{"--legal-entity=8be63914-a278-470b-b868-1af5b9087332", exitFailed,
			"there is no legal entity 8be63914-a278-470b-b868-1af5b9087332: load it first"},
		{"--ttl=0", exitUsage, "--ttl is a second or more"},
		{"--ttl=1ms", exitUsage, "--ttl is a second or more"},
		{"--ttl=-1h", exitUsage, "--ttl is a second or more"},
		{"--scope= ", exitUsage, "--scope: a token needs at least one of " + all},
		{"--scope=job:read licence:write", exitUsage, `--scope: there is no "licence:write"; did you mean "license:write"?`},
		{"--scope=Job:Read", exitUsage, `did you mean "job:read"?`},
		{"--scope=service_requests:use", exitUsage, `did you mean "service_request:use"?`},
		{"--scope=service_request:make_in_progress", exitUsage, `did you mean "service_request:makeinprogress"?`},
		{"--scope=job:read,event:read", exitUsage, `--scope: there is no "job:read,event:read"`},
		{"--scope=everything", exitUsage, "known are " + all},
	} {
		code, out, errs := command(t, "", "token", "issue", "--legal-entity", r.clinic.String(), "--user", r.user.String(),
			"--scope", "job:read", "--database-url", r.url, c.change)
		if code != c.code || out != "" || !strings.Contains(errs, c.want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s: exit code %d: %s%s", c.change, code, out, errs)
		}
	}
	var tokens int
	must(t, r.conn.QueryRow(t.Context(), "SELECT count(*) FROM ops.access_tokens").Scan(&tokens))
	if tokens != 1 { // the one of the registry
		t.Errorf("%d tokens were issued", tokens)
	}
	for _, scope := range api.Scopes() {
		done(t, "token", "issue", "--legal-entity", r.clinic.String(), "--user", r.user.String(), "--scope", scope,
			"--database-url", r.url)
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	url := r.url
	issue := []string{"token", "issue", "--legal-entity", r.clinic.String(), "--user", r.user.String(), "--scope",
		"job:read event:read",
		"--ttl", "2h", "--database-url", url}
	plain := done(t, issue...)
	if len(plain) != 43 {
		t.Errorf("token %q", plain)
	}
	var object struct {
		AccessToken string    `json:"access_token"`
		ExpiresAt   time.Time `json:"expires_at"`
		Scope       string    `json:"scope"`
	}
	must(t, json.Unmarshal([]byte(done(t, append(issue, "--json")...)), &object))
	if len(object.AccessToken) != 43 || object.AccessToken == plain || object.Scope != "job:read event:read" ||
		time.Until(object.ExpiresAt).Round(time.Minute) != 2*time.Hour {
		t.Errorf("%+v", object)
	}
	done(t, "token", "revoke", plain, "--database-url", url)
	if code, _, errs := command(t, object.AccessToken+"\n", "token", "revoke", "-", "--database-url", url); code != 0 {
		t.Errorf("from stdin: %d %s", code, errs)
	}
	if code, _, _ := command(t, "", "token", "revoke", plain, "--database-url", url); code != 1 {
		t.Errorf("revoked twice: %d", code)
	}
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	url := testdb.New(t).URL
	status := func() string { return done(t, "migrate", "status", "--database-url", url) }
	if strings.Contains(status(), "pending") {
		t.Error(status())
	}
	done(t, "migrate", "down", "--database-url", url)
	if !strings.HasSuffix(status(), "pending") {
		t.Error(status())
	}
	// No command works on a schema that it does not know.
	if code, _, errs := command(t, "", "apikey", "issue", "--name", "n", "--database-url", url); code != 1 ||
		!strings.Contains(errs, "run `reiestr migrate up`") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	done(t, "migrate", "up", "--database-url", url)
	if strings.Contains(status(), "pending") {
		t.Error(status())
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	url := testdb.New(t).URL
	file := filepath.Join(t.TempDir(), "clinic.json")
	must(t, os.WriteFile(file, []byte(`{"legal_entities": [{"id": "8be63914-a278-470b-b868-1af5b9087332",
		"edrpou": "1", "name": "n", "type": "OUTPATIENT", "status": "ACTIVE"}]}`), 0o600))
	if got := done(t, "load", "--dry-run", file, "--database-url",
		url); got != file+": 1 legal_entities checked, nothing loaded" {
		t.Error(got)
	}
	if got := done(t, "load", file, "--database-url", url); got != file+": 1 legal_entities loaded" {
		t.Error(got)
	}
	faulty := filepath.Join(t.TempDir(), "faulty.json")
	must(t, os.WriteFile(faulty, []byte(`{"legal_entities": [{"id": "8be63914-a278-470b-b868-1af5b9087332",
		"edrpou": "1", "name": "n", "type": "OUTPATIENT", "status": "SLEEPING"}]}`), 0o600))
	if code, _, errs := command(t, "", "load", faulty, "--database-url", url); code != 1 ||
		!strings.Contains(errs, "legal_entities[0].status") {
		t.Errorf("exit code %d: %s", code, errs)
	}
}
