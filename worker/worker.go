// Package worker carries out pending jobs. The table of jobs is the queue (ops.jobs): a worker that dies leaves its
// jobs pending, so there are no leases and there is no clean-up.
package worker

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
)

const (
	// BatchSize is how many jobs one transaction takes at most.
	BatchSize = 100
	// pollEvery is how often an idle worker looks for jobs that it was not woken for.
	pollEvery = time.Second
	// repeatEvery is how often a busy worker looks for a job that could not be carried out before.
	repeatEvery = 100 * time.Millisecond
	// attemptPause is waited after the first unsuccessful attempt of a job; it doubles with each.
	attemptPause = 200 * time.Millisecond
	// forgetEvery is how often rows that are kept for a time only are removed.
	forgetEvery = time.Minute
	// channel is notified by processes without workers (see Announce).
	channel = "reiestr_jobs"
)

// Pool is a number of workers on one database.
type Pool struct {
	db      *db.DB
	log     *slog.Logger
	size    int
	wake    chan struct{} // one place a worker: a worker that finds a full batch leaves a signal for another one
	trouble trouble

	alive atomic.Int32
}

// New makes a pool of so many workers. Run starts them.
func New(d *db.DB, log *slog.Logger, size int) *Pool {
	return &Pool{db: d, log: log, size: size, wake: make(chan struct{}, size)}
}

// Alive tells whether all workers run.
func (p *Pool) Alive() bool { return p.alive.Load() == int32(p.size) }

// Trouble is why the workers cannot carry out jobs at the moment; nil: they can, as far as they know.
func (p *Pool) Trouble() error { return p.trouble.last() }

// Run works until ctx ends. Each worker then finishes its transaction.
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

// forget removes idempotency keys whose time is over.
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

// work is one worker: it drains the queue, then waits to be woken. Jobs that could not be carried out before get their
// turn between the batches, so that no backlog keeps them waiting: one at a time, and at most half of the time.
func (p *Pool) work(ctx context.Context) {
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	var nextRepeat time.Time
	for idle := true; ctx.Err() == nil; {
		p.trouble.wait(ctx)
		repeated := false
		if begun := time.Now(); idle || !begun.Before(nextRepeat) {
			repeated = p.repeat(ctx)
			nextRepeat = time.Now().Add(max(repeatEvery, time.Since(begun)))
		}
		idle = !p.drain(ctx)
		if !idle || repeated {
			continue
		}
		select {
		case <-ctx.Done():
		case <-p.wake:
		case <-poll.C:
		}
	}
}

// drain runs one batch of the jobs that have not been tried before, and tells whether there may be more.
func (p *Pool) drain(ctx context.Context) (more bool) {
	taken, err := p.run(ctx, db.Claim{Size: BatchSize})
	switch {
	case err == nil && len(taken) == BatchSize:
		p.signal() // there is work for another worker
		return true
	case err == nil:
		return len(taken) > 0
	case len(taken) < 2 || !db.OfRows(err):
		p.failed(ctx, taken, err)
		return true
	}
	// One of the batch may have made it fail. Each is run alone, so that the others are done and that one is found.
	p.log.WarnContext(ctx, "a batch of jobs failed, each is run alone", "jobs", len(taken), "error", err)
	for range taken {
		if ctx.Err() != nil || p.trouble.pausing() {
			break
		}
		alone, err := p.run(ctx, db.Claim{Size: 1})
		if err != nil {
			p.failed(ctx, alone, err)
		} else if len(alone) == 0 {
			break
		}
	}
	return true
}

// repeat runs one of the jobs that could not be carried out before and are due again, and tells whether there was one.
func (p *Pool) repeat(ctx context.Context) bool {
	alone, err := p.run(ctx, db.Claim{Size: 1, Repeated: true})
	if err != nil {
		p.failed(ctx, alone, err)
	}
	return len(alone) > 0
}

// run carries out jobs. It finishes its transaction even when ctx ends.
func (p *Pool) run(ctx context.Context, c db.Claim) (taken []uuid.UUID, err error) {
	taken, err = p.db.Jobs.Run(context.WithoutCancel(ctx), c)
	if err == nil {
		p.trouble.ended(len(taken))
	}
	return taken, err
}

// failed deals with the error of a transaction that has taken one job or none, or whose jobs did not cause it. Only a
// job that is itself the cause, which shows when it is run alone, is counted an attempt. Any other job stays pending.
func (p *Pool) failed(ctx context.Context, taken []uuid.UUID, err error) {
	log := p.log.With("error", err)
	if len(taken) != 1 || !db.OfRows(err) {
		pause := p.trouble.note(err, false)
		log.WarnContext(ctx, "jobs wait, the database cannot carry them out", "pause", pause)
		return
	}
	log = log.With("job", taken[0])
	if db.JobsFault(err) {
		ended, countErr := p.db.Jobs.CountAttempt(context.WithoutCancel(ctx), taken[0], attemptPause)
		log.ErrorContext(ctx, "a job made its transaction fail", "ended", ended)
		if countErr != nil { // the attempt does not count: perhaps the database is the cause after all
			pause := p.trouble.note(countErr, false)
			p.log.WarnContext(ctx, "an attempt of a job was not counted", "job", taken[0], "error", countErr, "pause", pause)
		}
		return
	}
	pause := p.trouble.note(err, true)
	log.ErrorContext(ctx, "a job waits, the database cannot carry it out", "pause", pause)
	if err := p.db.Jobs.Postpone(context.WithoutCancel(ctx), taken[0], leastPostponed, mostPostponed); err != nil {
		pause := p.trouble.note(err, false)
		p.log.WarnContext(ctx, "a job was not put aside", "job", taken[0], "error", err, "pause", pause)
	}
}

// Announce is for a process without workers: it tells the workers of other processes about the jobs that this one
// accepts, and does what db.DB.Announce does. It notifies after the acceptance is durable, once for all jobs that were
// accepted since the last time, by a connection of its own: a NOTIFY inside the accepting transactions would make their
// commits wait for each other.
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
		log.WarnContext(ctx, "events not published or other processes not notified, they will look by themselves",
			"error", err)
	}
}
