package main

import (
	"context"
	"errors"
	"time"

	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/internal/pgserver"
	"github.com/reiestr/reiestr/migrations"
)

// database is the database of a command: the configured one, or the own server.
type database struct {
	url    string
	server *pgserver.Server // nil: the database is configured
}

// openDatabase returns the configured database, or joins or starts the own server. A server that it starts is migrated
// to the schema of this program. A configured database is migrated only when its operator asks for it.
func openDatabase(ctx context.Context, env *environment) (*database, error) {
	d, err := findDatabase(ctx, env)
	if err != nil {
		return nil, err
	}
	if d.server != nil && !d.server.Joined() {
		if err := migrations.Up(ctx, d.url); err != nil {
			return nil, errors.Join(err, d.close())
		}
	}
	return d, nil
}

// findDatabase does the same as openDatabase, but migrates nothing.
func findDatabase(ctx context.Context, env *environment) (*database, error) {
	if env.DatabaseURL != "" {
		return &database{url: env.DatabaseURL}, nil
	}
	server, err := pgserver.Open(ctx, pgserver.Config{
		DataDir: env.DataDir, Bin: env.PostgresBin, Image: env.PostgresImage,
		Download: env.PostgresDownload, Mirror: env.PostgresMirror, Logger: env.log,
	})
	if err != nil {
		return nil, err
	}
	return &database{url: server.URL(), server: server}, nil
}

// connect opens a pool of connections whose sessions have the role.
func (d *database) connect(ctx context.Context, env *environment, role db.Role, name string,
	options ...func(*db.Config)) (*db.DB, error) {
	config := db.Config{URL: d.url, Role: role, Name: name, TimeZone: env.TimeZone}
	for _, option := range options {
		option(&config)
	}
	return db.Open(ctx, config)
}

// close stops the own server if this process started it.
func (d *database) close() error {
	if d.server == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return d.server.Close(ctx)
}

// asOwner calls do with the rights of the schema's owner. The schema must have the version of this program.
func (d *database) asOwner(ctx context.Context, env *environment, name string, do func(*db.DB) error) error {
	owner, err := d.connect(ctx, env, db.Owner, name)
	if err != nil {
		return err
	}
	defer owner.Close()
	if err := owner.Ready(ctx, migrations.Latest()); err != nil {
		return err
	}
	return do(owner)
}

// withDatabase calls do with the database, and closes the database afterwards.
func withDatabase(ctx context.Context, env *environment, do func(*database) error) (err error) {
	d, err := openDatabase(ctx, env)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	return do(d)
}

// asOwner calls do with the rights of the schema's owner, and closes the database afterwards.
func asOwner(ctx context.Context, env *environment, name string, do func(*db.DB) error) error {
	return withDatabase(ctx, env, func(d *database) error { return d.asOwner(ctx, env, name, do) })
}
