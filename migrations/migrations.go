// Package migrations holds the versioned schema of the database, and brings a database to a version.
package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"

	"github.com/reiestr/reiestr/internal/session"
)

// FS holds the versioned migrations and roles.sql.
//
//go:embed *.sql
var FS embed.FS

const (
	ownerRole    = "reiestr_owner"
	versionTable = "ops.schema_versions"
	// advisoryLock lets one migrator of a database run at a time. The number is arbitrary; no other lock has it.
	advisoryLock = 7236108425
)

var errNewer = errors.New("the schema is newer than this program: only the newer release can take its migrations back")

// Step is one migration and its state in a database.
type Step struct {
	Version   int64
	Name      string    // empty: of a newer release, applied by its program
	AppliedAt time.Time // zero: pending
}

// Up brings the database at url to the newest version: roles first, as the login itself, then each pending migration as
// reiestr_owner in a transaction of its own. Migrators of one database run one after the other.
func Up(ctx context.Context, url string) error {
	if err := prepareRoles(ctx, url); err != nil {
		return err
	}
	return withProvider(ctx, url, func(p *goose.Provider) error {
		_, err := p.Up(ctx)
		return err
	})
}

var errNothingApplied = errors.New("no migration is applied, so there is none to take back")

// Down rolls back the newest applied migration. It is an error if none is applied.
func Down(ctx context.Context, url string) error {
	return withProvider(ctx, url, func(p *goose.Provider) error {
		_, err := p.Down(ctx)
		switch {
		case errors.Is(err, goose.ErrNoNextVersion):
			return errNothingApplied
		case errors.Is(err, goose.ErrVersionNotFound):
			return errNewer
		}
		return err
	})
}

// Status lists every migration, oldest first, and whether it is applied: those of this program, then applied ones of
// newer programs. It changes nothing.
func Status(ctx context.Context, url string) ([]Step, error) {
	applied, err := appliedAt(ctx, url)
	if err != nil {
		return nil, err
	}
	steps, err := sources()
	for i := range steps {
		steps[i].AppliedAt = applied[steps[i].Version]
	}
	for _, version := range slices.Sorted(maps.Keys(applied)) {
		if version > Latest() {
			steps = append(steps, Step{Version: version, AppliedAt: applied[version]})
		}
	}
	return steps, err
}

// Latest is the newest version of this program.
func Latest() int64 {
	steps, err := sources()
	if err != nil || len(steps) == 0 {
		panic(fmt.Sprintf("migrations: the embedded files cannot be read: %v", err))
	}
	return steps[len(steps)-1].Version
}

// sources lists the versioned files, oldest first.
func sources() ([]Step, error) {
	files, err := fs.Glob(FS, "*_*.sql")
	if err != nil {
		return nil, err
	}
	steps := make([]Step, len(files))
	for i, file := range files {
		version, err := goose.NumericComponent(file)
		if err != nil {
			return nil, err
		}
		steps[i] = Step{Version: version, Name: file}
	}
	return steps, nil
}

// appliedAt reads the history without goose, because goose would create its table in a database that has none yet.
func appliedAt(ctx context.Context, url string) (map[int64]time.Time, error) {
	conn, err := connect(ctx, url)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	applied := map[int64]time.Time{}
	var exists bool
	err = conn.QueryRow(ctx, "SELECT pg_catalog.to_regclass($1) IS NOT NULL", versionTable).Scan(&exists)
	if err != nil || !exists {
		return applied, err
	}
	rows, err := conn.Query(ctx, "SELECT version_id, tstamp FROM "+versionTable+" WHERE is_applied")
	if err != nil {
		return nil, err
	}
	var version int64
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&version, &at}, func() error { applied[version] = at; return nil })
	return applied, err
}

func prepareRoles(ctx context.Context, url string) error {
	script, err := FS.ReadFile("roles.sql")
	if err != nil {
		return err
	}
	conn, err := connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	// Roles are common to all databases of a server: if two databases are prepared at once, both change rows of pg_authid,
	// and the statement is repeated.
	for range 20 {
		if _, err = conn.Exec(ctx, string(script)); err == nil || !isConcurrentUpdate(err) {
			break
		}
	}
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "P0001" { // roles.sql refuses a role
		return fmt.Errorf("preparing the roles: %s", refused.Message)
	}
	if err != nil {
		return fmt.Errorf("preparing the roles (needs CREATEROLE once, or roles.sql run by a superuser): %w", err)
	}
	return nil
}

func withProvider(ctx context.Context, url string, do func(*goose.Provider) error) error {
	db, err := openAsOwner(url)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := db.PingContext(ctx); err != nil {
		return session.Explain(err)
	}
	// Goose tries a lock that is taken again: every second, for five minutes.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(advisoryLock), lock.WithLockTimeout(1, 300))
	if err != nil {
		return err
	}
	store, err := database.NewStore(database.DialectPostgres, versionTable)
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectCustom, db, FS, goose.WithStore(store), goose.WithSessionLocker(locker))
	if err != nil {
		return err
	}
	return do(p)
}

func openAsOwner(url string) (*sql.DB, error) {
	// Each file has a lock time-out of its own. The build of an index CONCURRENTLY waits as long as it takes.
	config, err := wantedSession(ownerRole, 0).Configure(url)
	if err != nil {
		return nil, err
	}
	return stdlib.OpenDB(*config.ConnConfig), nil
}

// connect opens a connection as the login itself.
func connect(ctx context.Context, url string) (*pgx.Conn, error) {
	config, err := wantedSession("", 10*time.Second).Configure(url)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	return conn, session.Explain(err)
}

// wantedSession is the session that a migration must have, whatever the defaults of the server, the database and the
// login are.
func wantedSession(role string, lockTimeout time.Duration) session.Wanted {
	return session.Wanted{Name: "reiestr migrate", Role: role, Settings: map[string]string{
		"statement_timeout": "0",
		"lock_timeout":      session.Duration(lockTimeout),
		// A transaction that does nothing would hold the strongest locks.
		"idle_in_transaction_session_timeout": "1min",
	}}
}

// isConcurrentUpdate tells whether the error is gone when the statement is repeated: two sessions have changed one row
// of the catalogue.
func isConcurrentUpdate(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "XX000" && pg.Message == "tuple concurrently updated" || pg.Code == "23505")
}
