package session

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Fault is the error for a session that the program refuses. Its text is one line that says why, and what to do.
type Fault struct{ text string }

func (f *Fault) Error() string { return f.text }

func faultf(format string, values ...any) *Fault { return &Fault{fmt.Sprintf(format, values...)} }

var (
	errPooler = faultf("a connection pooler (PgBouncer or the like) stands between this program and the PostgreSQL " +
		"server, and cannot be used yet: let the database URL lead to the server itself")
	errStandby = faultf("the server is a standby, which takes no writes: let the database URL lead to the primary, " +
		"or name all servers (postgres://login@host1:5432,host2:5432/database)")
)

// Explain returns the Fault that caused an error of a connection attempt. The driver's error also lists other failed
// attempts at the same host (with and without TLS); Explain leaves them out. It returns err itself if there is no
// Fault, or if several hosts failed for different reasons.
func Explain(err error) error {
	var connecting *pgconn.ConnectError
	if !errors.As(err, &connecting) {
		return err
	}
	several := severalHosts(connecting.Config)
	var found *Fault
	for i, attempt := range attempts(connecting.Unwrap()) {
		fault := faultOf(attempt, connecting.Config)
		if several && (fault == nil || i > 0 && *fault != *found) {
			return err
		}
		if found == nil {
			found = fault
		}
	}
	if found == nil {
		return err
	}
	return found
}

// attempts returns the errors of all attempts, in their order.
func attempts(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

func severalHosts(c *pgconn.Config) bool {
	for _, other := range c.Fallbacks {
		if other.Host != c.Host || other.Port != c.Port {
			return true
		}
	}
	return false
}

// faultOf returns the Fault that a failed attempt shows; nil if it shows none.
func faultOf(err error, c *pgconn.Config) *Fault {
	var fault *Fault
	if errors.As(err, &fault) {
		return fault
	}
	var refused *pgconn.PgError
	if !errors.As(err, &refused) {
		return nil
	}
	role := c.RuntimeParams["role"]
	aboutRole := role != "" && strings.Contains(refused.Message, `"`+role+`"`)
	switch {
	case refused.Code == "08P01" && strings.Contains(refused.Message, "startup parameter"): // the text is PgBouncer's
		return errPooler
	case refused.Code == "42501" && aboutRole:
		return faultf("login %q may not become %s: GRANT %s TO that login, or run `reiestr migrate up` as a login that "+
			"may create roles", c.User, role, role)
	case aboutRole: // the role does not exist on this server
		return faultf("role %s does not exist: run `reiestr migrate up`", role)
	case refused.Code == "42704": // undefined_object: a setting
		// The text does not show the name of the setting, which could be a piece of a password.
		return faultf("the server does not know a setting that the database URL or PGOPTIONS names, or is older than "+
			"PostgreSQL %d", oldestVersion/10000)
	}
	return nil
}
