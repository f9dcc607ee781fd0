package session

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// No error of this file quotes the URL: in a malformed URL it is not known which part is the password.
var (
	errNoURL = errors.New("the database URL is not one of PostgreSQL: write " +
		"postgres://login:password@host:5432/database, or with several hosts " +
		"postgres://login:password@host1:5432,host2:5432/database (a jdbc: URL cannot be used)")
	errEscape = errors.New("the database URL cannot be read: in login and password, write @ as %40, / as %2F, ? as %3F, " +
		"# as %23, : as %3A, % as %25, a space as %20, and in parameters & as %26")
)

var (
	otherScheme   = regexp.MustCompile(`^[^\s=]*:`)
	parameterName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*$`)
)

// parse reads a PostgreSQL URL or libpq's keywords (host=… dbname=…), with the parameters of the pool (pool_max_conns).
// Variables of the environment (PGPASSWORD, PGSSLMODE, PGSERVICE, …) complete it, as for psql.
func parse(url string) (*pgxpool.Config, error) {
	url = strings.TrimSpace(url)
	rest, isURL := strings.CutPrefix(url, "postgres://")
	if !isURL {
		rest, isURL = strings.CutPrefix(url, "postgresql://")
	}
	switch {
	case isURL:
		// An @ behind the host means that the password holds / ? or #. The driver would take the rest of the password for the
		// name of the database, and errors show this name.
		if end := strings.IndexAny(rest, "/?#"); end >= 0 && strings.Contains(rest[end:], "@") {
			return nil, errEscape
		}
	case otherScheme.MatchString(url), !strings.Contains(url, "="):
		return nil, errNoURL
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, withoutSecrets(err)
	}
	for name := range config.ConnConfig.RuntimeParams {
		if !parameterName.MatchString(name) {
			return nil, errors.New("the database URL cannot be read: a parameter has no valid name; " +
				"put values with spaces in quotes ('…')")
		}
	}
	return config, nil
}

// withoutSecrets makes an error that says what is wrong with the URL, without the URL and without pieces of it.
func withoutSecrets(err error) error {
	var parsing *pgconn.ParseConfigError
	if !errors.As(err, &parsing) {
		return errEscape
	}
	anonymous := *parsing
	anonymous.ConnString = ""
	_, reason, _ := strings.Cut(anonymous.Error(), "cannot parse ``: ")
	cause := ""
	if inner := errors.Unwrap(parsing); inner != nil {
		cause = inner.Error()
		reason = strings.TrimSuffix(reason, " ("+cause+")")
	}
	reason, _, _ = strings.Cut(reason, ":") // a value follows the colon, perhaps a secret
	switch reason {
	case "failed to parse as URL", "invalid port":
		return errEscape
	case "failed to parse as keyword/value":
		return errors.New("the database URL cannot be read: it is neither a URL (postgres://…) nor keywords like " +
			"host=… dbname=… user=…; put values with spaces in quotes ('…')")
	case "failed to read service", "failed to configure TLS": // this cause is no secret: it names a file or a service
		reason += ": " + cause
	}
	return fmt.Errorf("the database URL, or a PG… variable of the environment, is not understood: %s", reason)
}
