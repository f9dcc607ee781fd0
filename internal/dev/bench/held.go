package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/reiestr/reiestr/internal/dev/population"
	"github.com/reiestr/reiestr/internal/dev/program"
)

// waiters is more than the connections of the service, and less than the commands that it allows to wait
// (REIESTR_LOCK_WAITERS).
const waiters = 60

// heldPaths are the requests that run beside commands that wait for a held legal entity. Their rates leave an
// undisturbed service mostly idle, so that p99 shows waiting for locks and not the queue for the processor.
var heldPaths = []struct {
	name    string
	rate    float64 // requests a second
	want    int
	request func(*cluster) request
}{
	{"reads", 400, http.StatusOK, func(c *cluster) request {
		return func(b []byte, _, n int) []byte { return c.as(append(b, "GET /api/licenses"...), n%c.size.Tokens+1) }
	}},
	{"readiness", 50, http.StatusOK, func(c *cluster) request {
		return func(b []byte, _, _ int) []byte { return c.as(append(b, "GET /readyz"...), 1) }
	}},
	{"commands on other rows", 100, http.StatusCreated, func(c *cluster) request {
		return func(b []byte, client, n int) []byte {
			return c.createLicense(
				b, client, n+n/(c.size.Tokens-1))
		} // all but the last token
	}},
}

// held measures reads, readiness and commands on other rows while sixty clients create licences for one legal entity,
// whose row another session holds. Each of the sixty waits until it is answered 503, and then asks again.
func (b *bench) held(ctx context.Context, c *cluster, r *report) (err error) {
	if err := c.restore(ctx); err != nil {
		return err
	}
	s, err := program.Serve(ctx, b.program, "api", c.url, b.serviceLog)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	undisturbed, err := b.beside(ctx, c, s)
	if err != nil {
		return err
	}
	if err := c.restore(ctx); err != nil {
		return err
	}
	token := c.size.Tokens
	tx, err := c.conn.Begin(ctx)
	if err != nil {
		return err
	}
	if _, err = tx.Exec(ctx, "SELECT FROM prm.legal_entities WHERE id = $1 FOR NO KEY UPDATE",
		population.LegalEntity(c.size.Caller(token))); err != nil {
		return errors.Join(err, tx.Rollback(ctx))
	}
	waiting, enough := context.WithCancel(ctx)
	var crowd sync.WaitGroup
	var crowdErr error
	crowd.Go(func() { crowdErr = c.waitFor(waiting, s.Address, token) })
	disturbed, err := b.beside(ctx, c, s)
	enough()
	err = errors.Join(err, tx.Rollback(ctx))
	crowd.Wait()
	if err = errors.Join(err, crowdErr); err != nil {
		return err
	}
	if r.held == nil {
		r.held = map[string][]float64{}
	}
	for i, p := range heldPaths {
		ratio := milliseconds(disturbed[i].p99) / milliseconds(undisturbed[i].p99)
		r.held[p.name] = append(r.held[p.name], ratio)
		b.log.Info("measured", "path", heldName, "beside", p.name, "p99", disturbed[i].p99, "undisturbed", undisturbed[i].p99)
	}
	r.remember("api, held legal entity", s)
	return c.restore(ctx)
}

// beside measures all heldPaths at the same time.
func (b *bench) beside(ctx context.Context, c *cluster, s *program.Service) ([]sample, error) {
	measured, errs := make([]sample, len(heldPaths)), make([]error, len(heldPaths))
	var all sync.WaitGroup
	for i, p := range heldPaths {
		all.Go(func() {
			l := load{address: s.Address, clients: 8, request: p.request(c), want: p.want, rate: p.rate}
			measured[i], errs[i] = l.run(ctx, b.warmUp, b.duration)
		})
	}
	all.Wait()
	return measured, errors.Join(errs...)
}

// waitFor lets clients create licences for the legal entity of a token until ctx ends. While another session holds the
// legal entity each answer is 503.
func (c *cluster) waitFor(ctx context.Context, address string, token int) error {
	conns, err := dial(ctx, address, waiters)
	if err != nil {
		return err
	}
	errs := make([]error, waiters)
	var all sync.WaitGroup
	for i, conn := range conns {
		all.Go(func() {
			message := c.createLicense(nil, 0, token-1)
			for ctx.Err() == nil {
				conn.SetDeadline(time.Now().Add(patience)) //nolint:errcheck // the next exchange reports a closed connection
				code, answer, err := conn.exchange(message)
				if err == nil && ctx.Err() == nil && code != http.StatusServiceUnavailable {
					err = fmt.Errorf("a held legal entity was answered %d: %s", code, strings.TrimSpace(string(answer)))
				}
				if err != nil {
					errs[i] = err
					return
				}
			}
		})
	}
	all.Wait()
	closeAll(conns)
	return errors.Join(errs...)
}
