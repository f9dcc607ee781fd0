package testdb

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Pin sets the parameters of a session that the defaults of the server may change (see [Serve]). It is for the
// connections with which tests write fixtures and read results. The service sets the parameters of its own connections.
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

// Connect opens a connection with pinned parameters.
func Connect(ctx context.Context, url string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	Pin(config)
	return pgx.ConnectConfig(ctx, config)
}
