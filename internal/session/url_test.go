package session_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/reiestr/reiestr/internal/session"
)

func TestURLOfSomethingElse(t *testing.T) {
	t.Parallel()
	for _, address := range []string{
		"jdbc:postgresql://localhost:5432/reiestr", "jdbc:postgresql://localhost/reiestr?user=u&password=p",
		"mysql://u:p@h/d", "http://localhost:8080",
		"https://h/d?a=b", "PostgreSQL://u:p@h/d", "localhost:5432/reiestr", "postgres:u@h/d",
		"reiestr", "%%%", "postgres", "sqlite:reiestr.db", "file:///tmp/x?mode=ro", `"jdbc:x"`,
	} {
		_, err := app.Configure(address)
		if !errors.Is(err, session.ErrNoURL) {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, address := range []string{
		"postgres://u:p@h/d", "postgresql://h/d", " postgres://u:p@h/d\n", "host=h dbname=d",
		"host=h password='a b: c'", "postgres:///d?host=/tmp",
		"postgres://u:p@h1,h2:5433/d", "postgres://u:p%40s@h/d?sslmode=disable",
	} {
		if _, err := app.Configure(address); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// TestNoErrorShowsAPassword: the passwords hold all characters that are special in URLs. No error shows a piece of a
// password, whether the URL can be read or not.
func TestNoErrorShowsAPassword(t *testing.T) {
	t.Parallel()
	const before, after = "S3CR", "TPW5"
	refused := 0
	for _, nasty := range []string{
		"@", "/", "?", "#", ":", "%", "%zz", "&", "=", " ", "'", `"`, `\`, "[", "]", "<", "^", "|",
		"`", "\t", "\n", "\x00", "ї", "@@", "//",
		"/@", "?@", "#@", ":@", "@:", "&=", "?a=",
		"@h/", "://", ",", ";", "%40", "+", "$", "!", "(", "~", " x=", "' x='",
	} {
		password := before + nasty + after
		for _, address := range []string{
			"postgres://u:" + password + "@127.0.0.1:1/d",
			"postgres://u:" + password + "@127.0.0.1:1/d?connect_timeout=1",
			"postgres://u:" + url.QueryEscape(password) + "@127.0.0.1:1/d",
			"postgres://" + password + "@127.0.0.1:1/d",
			"postgres://u:" + password,
			"postgresql://u@127.0.0.1:1/d?password=" + password,
			"postgresql://u@127.0.0.1:1/d?password=" + password + "&sslmode=nonsense",
			"host=127.0.0.1 port=1 user=u password=" + password + " dbname=d",
			"host=127.0.0.1 port=1 user=u password='" + password + "' dbname=d",
			"host=127.0.0.1 port=x user=u password='" + password + "' dbname=d",
			"jdbc:postgresql://127.0.0.1:1/d?user=u&password=" + password,
			"u:" + password + "@127.0.0.1:1/d",
			"mysql://u:" + password + "@127.0.0.1:1/d?x=" + password,
			`"postgres://u:` + password + `@127.0.0.1:1/d"`,
		} {
			if address == "postgres://u:S3CR@h/TPW5" {
				continue // this is a valid URL of another host: h, with the database TPW5
			}
			config, err := app.Configure(address)
			if err == nil && strings.HasPrefix(address, "postgres://"+password) {
				continue // the login is not a secret
			}
			if err == nil {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				config.ConnConfig.LookupFunc = func(context.Context, string) ([]string, error) {
					return nil, errors.New("no such host")
				}
				_, err = pgx.ConnectConfig(ctx, config.ConnConfig)
				cancel()
				err = session.Explain(err)
			} else {
				refused++
			}
			if err == nil {
				t.Fatalf("%q: the connection succeeds", address)
			}
			if text := err.Error(); strings.Contains(text, before) || strings.Contains(text, after) {
				t.Errorf("%q: the error shows a piece of the password: %s", address, text)
			}
			if config == nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("%q: more than one line: %s", address, err)
			}
		}
	}
	if refused < 100 {
		t.Errorf("only %d of the URLs are refused", refused)
	}
}

func TestReasonOfAURLThatIsNotUnderstood(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"postgres://u:p/x@h/d":                       "write @ as %40",
		"postgres://u:p@h:port/d":                    "write @ as %40",
		"postgres://h/d?sslmode=nonsense":            "failed to configure TLS: ",
		"postgres://h/d?sslrootcert=/no/such/file":   "/no/such/file",
		"postgres://h/d?target_session_attrs=master": "unknown target_session_attrs value",
		"postgres://h/d?connect_timeout=soon":        "invalid connect_timeout",
		"postgres://h/d?pool_max_conns=0":            "pool_max_conns too small",
		"postgres://h/d?pool_max_conns=many":         "cannot parse pool_max_conns",
		"host=h dbname":                              "nor keywords like host=",
		"postgres://h/d?service=none":                "failed to read service: ",
	} {
		_, err := app.Configure(address)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), address) {
			t.Errorf("%s: %v, want an error with %q", address, err, want)
		}
	}
}
