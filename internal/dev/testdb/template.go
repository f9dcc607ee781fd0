package testdb

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
)

// makeLock is the advisory lock under which processes make a database, one at a time. The number is arbitrary.
const makeLock = 810265739

// prepareTemplate answers the name of the template: the database to which the migrations have been applied. A missing
// template is made. The name holds a digest of the migrations, so a template is never out of date. Any number of
// processes may call it at once. A template takes no connections, so it can always be cloned, and no test can change
// it.
//
// The template gets its name when it is complete. Until then it has the name of a draft, so an interrupted process
// leaves only a draft behind.
func prepareTemplate(ctx context.Context, s *Server, files fs.FS, up func(context.Context, string) error) (string,
	error) {
	digest, err := fingerprint(files)
	if err != nil {
		return "", err
	}
	name := templatePrefix + digest
	return name, makeOnce(ctx, s, name, "TEMPLATE template0 ENCODING 'UTF8'", up,
		"ALTER DATABASE "+name+"_draft ALLOW_CONNECTIONS false")
}

// makeOnce makes a database unless it exists: CREATE DATABASE with these options, then fill. The name of the draft is
// name with _draft. The statements in seal come last.
func makeOnce(ctx context.Context, s *Server, name, options string, fill func(context.Context, string) error,
	seal ...string) error {
	draft := name + "_draft"
	address, err := withDatabase(s.URL, draft)
	if err != nil {
		return err
	}

	conn, err := Connect(ctx, s.URL)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) // and unlock
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1, hashtext($2))", makeLock, name); err != nil {
		return err
	}
	var made bool
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&made)
	if err != nil || made {
		return err
	}
	if err := execAll(ctx, conn,
		"DROP DATABASE IF EXISTS "+draft+" WITH (FORCE)",
		"CREATE DATABASE "+draft+" "+options,
	); err != nil {
		return err
	}
	err = fill(ctx, address)
	if err == nil {
		err = execAll(ctx, conn, append(seal, "ALTER DATABASE "+draft+" RENAME TO "+name)...)
	}
	if err != nil {
		dropCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropLimit)
		defer cancel()
		return errors.Join(fmt.Errorf("making %s: %w", name, err),
			s.exec(dropCtx, "DROP DATABASE IF EXISTS "+draft+" WITH (FORCE)"))
	}
	return nil
}

// fingerprint is a digest of the names and contents of all files.
func fingerprint(files fs.FS) (string, error) {
	digest := sha256.New()
	err := fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(files, path)
		fmt.Fprintf(digest, "%s %d\n%s", path, len(content), content)
		return err
	})
	return hex.EncodeToString(digest.Sum(nil))[:16], err
}

func execAll(ctx context.Context, conn *pgx.Conn, statements ...string) error {
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}
