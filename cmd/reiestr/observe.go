package main

import (
	"context"
	"errors"
	"math"
	"net/url"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/internal/telemetry"
)

// flushTimeout bounds how long the end of the process waits until the last traces are sent.
const flushTimeout = 3 * time.Second

// observation is the telemetry of a server process.
type observation struct {
	*telemetry.Telemetry
	provider *sdktrace.TracerProvider // nil: no traces
}

func observe(ctx context.Context, env *environment) (*observation, error) {
	provider, err := telemetry.Export(ctx, env.log, buildID())
	if err != nil {
		return nil, err
	}
	if provider == nil {
		return &observation{telemetry.New(env.log, nil), nil}, nil
	}
	return &observation{telemetry.New(env.log, provider), provider}, nil
}

// watch makes a database report its work to this telemetry.
func (o *observation) watch(c *db.Config) {
	c.Observer = o
	c.Tracer = o.Tracer()
}

func (o *observation) close() {
	if o.provider == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	o.provider.Shutdown(ctx) //nolint:errcheck // the provider logs its errors
}

// bounds sets how many connections a server process uses, and how many of its commands may wait for locked rows.
func (c Config) bounds(d *db.Config) {
	d.MaxConns, d.Waiters = int32(c.DatabaseConnections), int(c.LockWaiters)
}

// check refuses settings of a server that do not fit together or are out of range.
func (c Config) check() error {
	issuer, err := url.Parse(c.OIDCIssuer)
	switch {
	case c.OIDCIssuer != "" && c.OIDCAudience == "":
		return errors.New("the OIDC issuer is set and the audience is not: set REIESTR_OIDC_AUDIENCE, or tokens that " +
			"the issuer made for other services would be accepted")
	case c.OIDCIssuer != "" && (err != nil || issuer.Host == "" || issuer.Scheme != "https" && issuer.Scheme != "http"):
		return errors.New("the OIDC issuer is no URL: give one like https://issuer.example")
	case c.RateLimit < 0 || math.IsInf(c.RateLimit, 0) || math.IsNaN(c.RateLimit) || c.RateBurst < 0:
		return errors.New("the rate limit and its burst are numbers of requests, 0 or more")
	case c.LockWaiters == 0:
		return errors.New("REIESTR_LOCK_WAITERS, the number of commands that may wait for locked rows, must be 1 or more")
	}
	return c.checkRetention()
}
