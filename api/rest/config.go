package rest

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/reiestr/reiestr/db"
)

// Config holds the settings of the HTTP server and the things it serves from.
type Config struct {
	DB            *db.DB
	Log           *slog.Logger
	RequireAPIKey bool
	Ready         func(context.Context) error // nil error: ready to serve
	Stopping      context.Context             // ends when requests must no longer wait; nil: never

	Issuer         TokenSource                     // of bearer tokens that are JWTs; nil: JWTs are not taken
	RatePerSecond  float64                         // requests that each client may make; 0: any number
	RateBurst      int                             // requests that a client may make at once; at least RatePerSecond
	Places         int                             // reads, and commands, to carry out at a time; 0: 16 a connection
	LockWaiters    int                             // further commands: so many may wait for held rows
	TrustedProxies Proxies                         // from these peers X-Forwarded-Host and -Proto are taken
	StrictClients  bool                            // refuse unknown keys of bodies that are ignored otherwise
	BodyTimeout    time.Duration                   // to send all of a body; default 15 s
	RequestTimeout time.Duration                   // for an answer; default 25 s
	Metrics        http.Handler                    // of GET /metrics; nil: none
	Answered       func(context.Context, Answered) // is called after every answer; nil: nothing is called
}

// TokenSource tells what a bearer token and an api key allow. db.ErrNotFound: the token is unknown, revoked or
// malformed.
type TokenSource interface {
	Check(ctx context.Context, token, apiKey string) (db.Grant, error)
}
