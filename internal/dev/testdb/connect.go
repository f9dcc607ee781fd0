package testdb

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Pin gives a connection of a test's own what it would have from a server without defaults of its own (see [Serve]). It
// is for connections that lay out fixtures and look: those of the service have to see to themselves.
func Pin(config *pgx.ConnConfig) {
	for name, value := range map[string]string{
		"default_transaction_isolation": "read committed",
		"default_transaction_read_only": "off",
		"lock_timeout":                  "0",
		"statement_timeout":             "0",
	} {
		config.RuntimeParams[name] = value
	}
}

// Connect opens a connection of a test's own.
func Connect(ctx context.Context, url string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	Pin(config)
	return pgx.ConnectConfig(ctx, config)
}
