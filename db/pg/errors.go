package pg

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"
)

// SQLSTATE answers the code of an error of the database; "": it is not an error of the database.
func SQLSTATE(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// undoneByDatabase tells whether the database has undone the transaction because of another one. A second try may
// succeed.
func undoneByDatabase(err error) bool {
	code := SQLSTATE(err)
	return code == "40001" || code == "40P01"
}

// LockNotAvailable tells whether a statement with NOWAIT has met a held row, or another statement has waited for its
// lock time-out.
func LockNotAvailable(err error) bool { return SQLSTATE(err) == "55P03" }

// Undone tells whether the database has reported that the transaction has changed nothing. After any other error, for
// example a lost connection, the transaction may have been committed.
func Undone(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.SeverityUnlocalized == "ERROR"
}

// ErrorOfData tells whether the error follows from the values of a statement: classes 22 (data exception) and 23
// (integrity constraint violation). The same statement with the same values would fail again, and its transaction has
// changed nothing.
func ErrorOfData(err error) bool {
	return Undone(err) && slices.Contains([]string{"22", "23"}, SQLSTATE(err)[:2])
}

// Unavailable tells whether the error has nothing to do with the request: the database cannot be reached, its sessions
// lack a property that the service relies on, it is shutting down, is full, takes no writes, or a lock or a statement
// took too long. The same request may succeed later.
func Unavailable(err error) bool {
	var connecting *pgconn.ConnectError // whatever the cause, no statement has been sent
	if errors.As(err, &connecting) || isFault(err) {
		return true
	}
	if code := SQLSTATE(err); code != "" {
		// connection, resources, undone, operator intervention (shutdown, time-outs)
		return slices.Contains([]string{"08", "53", "40", "57"}, code[:2]) ||
			// lock time-out, time-outs of a transaction, a standby's answers to a write
			slices.Contains([]string{"55P03", "25P03", "25P04", "25006", "0A000"}, code)
	}
	var network net.Error // of a connection that was lost
	return errors.As(err, &network) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, ErrCrowded) || errors.Is(err, ErrHeld) || errors.Is(err, ErrNoConnection) ||
		pgconn.SafeToRetry(err)
}
