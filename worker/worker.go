// Package worker carries out pending jobs. The jobs are the queue (ops.jobs), so there is nothing to keep, renew or rescue here: a worker
// that dies leaves its jobs pending.
package worker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
)

const (
	batchSize = 100 // jobs a transaction
	// pollEvery is the net under the wake-ups: also what becomes due again after an unsuccessful attempt is found by it.
	pollEvery = time.Second
	// attemptPause is waited after the first unsuccessful attempt of a job; it doubles with each.
	attemptPause = 200 * time.Millisecond
	// forgetEvery is how often what is kept for a time only is removed.
	forgetEvery = time.Minute
	// channel is what processes that only accept notify (see Announce).
	channel = "reiestr_jobs"
)

// Pool is a number of workers on one database.
type Pool struct {
	db   *db.DB
	log  *slog.Logger
	size int
	wake chan struct{} // one place a worker: whoever finds a full batch leaves one for a neighbour

	alive atomic.Int32
}

// New makes a pool of so many workers; Run starts them.
func New(d *db.DB, log *slog.Logger, size int) *Pool {
	return &Pool{db: d, log: log, size: size, wake: make(chan struct{}, size)}
}

// Alive tells whether all workers run.
func (p *Pool) Alive() bool { return p.alive.Load() == int32(p.size) }

// Run works until ctx ends. What a worker has begun by then it finishes.
func (p *Pool) Run(ctx context.Context) {
	var running sync.WaitGroup
	for range p.size {
		running.Go(func() {
			p.alive.Add(1)
			defer p.alive.Add(-1)
			p.work(ctx)
		})
	}
	running.Go(func() { p.forward(ctx) })
	running.Go(func() { p.listen(ctx) })
	running.Go(func() { p.db.Announce(ctx, unannounced(ctx, p.log)) })
	running.Go(func() { p.forget(ctx) })
	running.Wait()
}

// forward wakes a worker when this process has accepted a job.
func (p *Pool) forward(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.db.Jobs.Added():
			p.signal()
		}
	}
}

// listen wakes a worker when another process has accepted a job. Without a connection the poll finds the jobs.
func (p *Pool) listen(ctx context.Context) {
	p.db.Listen(ctx, channel, p.signal, p.signal, func(err error) {
		p.log.WarnContext(ctx, "not listening for jobs of other processes, trying again", "error", err)
	})
}

// forget removes idempotency keys that are too old to be asked for.
func (p *Pool) forget(ctx context.Context) {
	for ctx.Err() == nil {
		if n, err := p.db.Idempotency.Forget(ctx); err != nil && ctx.Err() == nil {
			p.log.WarnContext(ctx, "idempotency keys not removed, trying again later", "error", err)
		} else if n > 0 {
			p.log.DebugContext(ctx, "idempotency keys removed", "keys", n)
		}
		pause(ctx, forgetEvery)
	}
}

func (p *Pool) signal() {
	select {
	case p.wake <- struct{}{}:
	default: // all have been woken
	}
}

// work is one worker: it drains the queue, then waits to be woken.
func (p *Pool) work(ctx context.Context) {
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	for {
		if ctx.Err() != nil {
			return
		}
		if p.drain(ctx) {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-poll.C:
			p.repeat(ctx)
		}
	}
}

// drain runs one batch of the jobs that have not failed before, and tells whether there may be more.
func (p *Pool) drain(ctx context.Context) (more bool) {
	taken, err := p.run(ctx, db.Claim{Size: batchSize})
	switch {
	case err == nil:
		if len(taken) == batchSize {
			p.signal() // there is work for a neighbour
		}
		return len(taken) > 0
	case !p.blame(ctx, err, taken):
		return false
	}
	// One of the batch has made it fail. Each is run alone, so that the others are done and the culprit is found.
	for range taken {
		if ctx.Err() != nil {
			break
		}
		alone, err := p.run(ctx, db.Claim{Size: 1})
		if err != nil && p.blame(ctx, err, alone) {
			p.count(ctx, alone, err)
		}
		if err == nil && len(alone) == 0 {
			break
		}
	}
	return ctx.Err() == nil
}

// repeat runs the jobs that have failed before and are due again, one by one.
func (p *Pool) repeat(ctx context.Context) {
	for ctx.Err() == nil {
		alone, err := p.run(ctx, db.Claim{Size: 1, FailedBefore: true})
		if err != nil {
			if !p.blame(ctx, err, alone) {
				return
			}
			p.count(ctx, alone, err)
		}
		if len(alone) == 0 {
			return
		}
	}
}

// run finishes what it has begun even when ctx ends.
func (p *Pool) run(ctx context.Context, c db.Claim) (taken []uuid.UUID, err error) {
	return p.db.Jobs.Run(context.WithoutCancel(ctx), c)
}

// blame tells whether an error can be the fault of a job. A database that cannot be reached, or a lock that somebody holds for long, is
// nobody's: the worker waits and the jobs stay as they are. So it is with an error that came before any job was taken.
func (p *Pool) blame(ctx context.Context, err error, taken []uuid.UUID) bool {
	switch {
	case db.Unavailable(err):
		p.log.WarnContext(ctx, "jobs wait, the database is not available", "error", err)
	case len(taken) == 0:
		p.log.ErrorContext(ctx, "jobs wait, none can be taken", "error", err)
	default:
		return true
	}
	pause(ctx, pollEvery)
	return false
}

func (p *Pool) count(ctx context.Context, alone []uuid.UUID, cause error) {
	for _, id := range alone {
		ended, err := p.db.Jobs.CountAttempt(context.WithoutCancel(ctx), id, attemptPause)
		p.log.ErrorContext(ctx, "a job made its transaction fail", "job", id, "ended", ended, "error", errors.Join(cause, err))
	}
}

// Announce is for a process without workers: it tells the workers of other processes about the jobs that this one accepts, and does what
// db.DB.Announce does. The notification is sent by a connection of its own after the acceptance is durable, one for as many jobs as were
// accepted meanwhile: a NOTIFY inside the accepting transactions would make their commits wait for each other.
func Announce(ctx context.Context, d *db.DB, log *slog.Logger) {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { d.Announce(ctx, unannounced(ctx, log)) })
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.Jobs.Added():
			if err := d.Notify(ctx, channel); err != nil && ctx.Err() == nil {
				log.WarnContext(ctx, "workers not notified, they will find the jobs by themselves", "error", err)
			}
		}
	}
}

func unannounced(ctx context.Context, log *slog.Logger) func(error) {
	return func(err error) {
		log.WarnContext(ctx, "events not published or other processes not notified, they will look by themselves", "error", err)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
