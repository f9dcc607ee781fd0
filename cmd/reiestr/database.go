package main

import (
	"context"
	"errors"
	"time"

	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/internal/pgserver"
	"github.com/reiestr/reiestr/migrations"
)

// database is what a command connects to: the one that is configured, or the own server for as long as the command runs.
type database struct {
	url    string
	server *pgserver.Server // nil: configured
}

// openDatabase finds or starts the database. The own server always has the schema of this program; a configured one is migrated when its
// operator says so.
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

// findDatabase is openDatabase that leaves the schema of the own server, too, as it is.
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

// connect opens the database as a role.
func (d *database) connect(ctx context.Context, env *environment, role db.Role, name string, options ...func(*db.Config)) (*db.DB, error) {
	config := db.Config{URL: d.url, Role: role, Name: name, TimeZone: env.TimeZone}
	for _, option := range options {
		option(&config)
	}
	return db.Open(ctx, config)
}

// close stops the own server, if this process started it.
func (d *database) close() error {
	if d.server == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return d.server.Close(ctx)
}

// asOwner does something with the rights of the operator.
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

// withDatabase is a command that needs the database for its own duration.
func withDatabase(ctx context.Context, env *environment, do func(*database) error) (err error) {
	d, err := openDatabase(ctx, env)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	return do(d)
}

// asOwner is a command that needs the rights of the operator for its own duration.
func asOwner(ctx context.Context, env *environment, name string, do func(*db.DB) error) error {
	return withDatabase(ctx, env, func(d *database) error { return d.asOwner(ctx, env, name, do) })
}
