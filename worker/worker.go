// Package worker carries out pending jobs. The table ops.jobs is the queue. When a worker dies its jobs are still
// pending, so there are no leases and no clean-up.
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
	// BatchSize is the largest number of jobs in one transaction.
	BatchSize = 100
	// pollEvery is the time between two looks of an idle worker for jobs without a signal.
	pollEvery = time.Second
	// repeatEvery is the time between two looks of a busy worker for jobs that could not be carried out before.
	repeatEvery = 100 * time.Millisecond
	// attemptPause is the pause after the first failed attempt of a job. It doubles with each attempt.
	attemptPause = 200 * time.Millisecond
	// forgetEvery is the time between two removals of old idempotency keys.
	forgetEvery = time.Minute
	// channel is the channel of notifications on which processes without workers announce jobs (see Announce).
	channel = "reiestr_jobs"
)

// Pool is a number of workers on one database.
type Pool struct {
	db      *db.DB
	log     *slog.Logger
	size    int
	wake    chan struct{} // a place for each worker: a worker that finds a full batch leaves a signal for another worker
	trouble trouble

	alive atomic.Int32
}

// New makes a pool of that number of workers. Run starts them.
func New(d *db.DB, log *slog.Logger, size int) *Pool {
	return &Pool{db: d, log: log, size: size, wake: make(chan struct{}, size)}
}

// Alive tells whether all workers run.
func (p *Pool) Alive() bool { return p.alive.Load() == int32(p.size) }

// Trouble is the error because of which the workers cannot carry out jobs; nil: none is known.
func (p *Pool) Trouble() error { return p.trouble.last() }

// Run runs the workers until ctx ends. Each worker then finishes its transaction.
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

// listen wakes a worker when another process has accepted a job. While the connection is lost the poll finds such jobs.
func (p *Pool) listen(ctx context.Context) {
	p.db.Listen(ctx, channel, p.signal, p.signal, func(err error) {
		p.log.WarnContext(ctx, "not listening for jobs of other processes, trying again", "error", err)
	})
}

// forget removes the idempotency keys that are older than their retention.
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
	default: // there is a signal for each worker already
	}
}

// work is one worker: it carries out batches until the queue is empty, then it waits for a signal. Between the batches
// it repeats jobs that could not be carried out before, so that these do not wait for the end of a backlog: one job at
// a time, and for at most half of the time.
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

// drain runs one batch of jobs that have not been tried before, and tells whether there may be more.
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
	// One job of the batch may be the cause. Each is run alone, so that the others are carried out and the cause is found.
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

// repeat runs one job that could not be carried out before and whose pause is over, and tells whether there was one.
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

// failed handles the error of a transaction that has taken at most one job, or that failed because of the database. An
// attempt is counted only for a job that is itself the cause, which shows when the job runs alone. Any other job stays
// pending.
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
		if countErr != nil { // the attempt was not counted: the database may be the cause of both errors
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

// Announce is for a process without workers: it notifies the workers of other processes of the jobs that this process
// accepts, and does what db.DB.Announce does. It sends one notification for all jobs accepted since the last one, after
// they are durable, in a transaction of its own: a NOTIFY inside the accepting transactions would make their commits
// wait for each other.
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
