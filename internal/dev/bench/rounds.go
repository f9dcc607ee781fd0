package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/reiestr/reiestr/internal/dev/program"
)

// The three ways in which a path is measured.
const (
	asSteps   = "steps"
	asSent    = "as sent"
	asService = "service"
)

// series are the samples of one row of the table, one for each round.
type series struct {
	path    string // title
	way     string
	samples []sample
}

// measureRounds measures all that the command line asks for, once in each round. Measurements that are compared follow
// each other, in an order that changes from round to round.
func (b *bench) measureRounds(ctx context.Context) (r report, err error) {
	c, err := openCluster(ctx, b.root, b.cache, b.scale, b.log)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.compare(ctx); err != nil {
		return r, err
	}
	paths, err := c.paths(b.queries, b.clients)
	if err != nil {
		return r, err
	}
	r.header(c)
	r.about = append(r.about, fmt.Sprintf("%d clients, %d rounds of %s after %s of warm-up each. Medians "+
		"(lowest–highest).", b.clients, b.rounds, b.duration, b.warmUp))
	api, err := program.Serve(ctx, b.program, "api", c.url, b.serviceLog)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, api.Stop()) }()
	floor := pgbench{b.pgbench, c, b.clients, b.temp, sessionOptions}
	sent := floor
	sent.options = sentOptions
	rows := map[string]*series{} // by name of the path and way
	row := func(name, title, way string) *series {
		key := name + "/" + way
		if rows[key] == nil {
			rows[key] = &series{path: title, way: way}
			r.rows = append(r.rows, rows[key])
		}
		return rows[key]
	}
	for round := range b.rounds {
		changed := true // the rows, since the last restore
		for _, p := range paths {
			if !b.wants(p.name) {
				continue
			}
			ways := []string{asSteps, asSent, asService}
			for i := range ways { // the first round fixes the order of the rows in the table
				row(p.name, p.title, ways[i])
			}
			for i := range ways {
				way := ways[(i+round)%len(ways)]
				if changed {
					if err := c.restore(ctx); err != nil {
						return r, err
					}
				}
				changed = p.done != ""
				var s sample
				switch way {
				case asSteps:
					s, err = floor.run(ctx, p.steps, b.warmUp, b.duration, b.transactions)
				case asSent:
					sent := floor
					sent.clients = p.connections
					s, err = sent.run(ctx, p.sent, b.warmUp, b.duration, b.transactions)
					s = s.times(p.batch)
				case asService:
					s, err = b.overHTTP(ctx, c, api, p)
				}
				if err == nil {
					err = p.verify(ctx, c, s)
				}
				if err != nil {
					return r, fmt.Errorf("%s, %s: %w", p.name, way, err)
				}
				row(p.name, p.title, way).samples = append(row(p.name, p.title, way).samples, s)
				b.log.Info("measured", "round", round+1, "path", p.name, "way", way, "per_second", int(s.perSecond), "p50", s.p50,
					"p99", s.p99)
			}
		}
		if b.wants(drainName) {
			if err := b.drain(ctx, c, floor, round, row); err != nil {
				return r, fmt.Errorf("drain: %w", err)
			}
		}
		if b.wants(latencyName) {
			if err := b.latency(ctx, c, &r); err != nil {
				return r, fmt.Errorf("latency: %w", err)
			}
		}
		if b.wants(contentionName) {
			if err := b.contention(ctx, c, &r); err != nil {
				return r, fmt.Errorf("contention: %w", err)
			}
		}
		if b.wants(heldName) {
			if err := b.held(ctx, c, &r); err != nil {
				return r, fmt.Errorf("held: %w", err)
			}
		}
	}
	r.judge(paths, rows)
	r.remember("api", api)
	return r, c.restore(ctx)
}

// overHTTP measures a path of the service.
func (b *bench) overHTTP(ctx context.Context, c *cluster, s *program.Service, p path) (sample, error) {
	serviceBefore, _ := cpuOf(s.Pid())
	postgresBefore, _ := c.cpu()
	measured, err := load{address: s.Address, clients: b.clients, request: p.request, want: p.status}.run(ctx, b.warmUp,
		b.duration)
	serviceAfter, serviceKnown := cpuOf(s.Pid())
	postgresAfter, postgresKnown := c.cpu()
	measured.service = perThousand(serviceAfter-serviceBefore, serviceKnown, measured.total)
	measured.postgres = perThousand(postgresAfter-postgresBefore, postgresKnown, measured.total)
	return measured, err
}

// accepted adds pending jobs that release the first service requests of the pool, as if they had been accepted.
func (c *cluster) accepted(ctx context.Context, jobs int) error {
	_, err := c.conn.Exec(ctx, `INSERT INTO ops.jobs (id, action, service_request_id, patient_id, client_id, user_id, body,
		request_digest)
		SELECT gen_random_uuid(), 'release', p.id, p.patient_id, p.holder_id, p.user_id, '{}',
			sha256(convert_to('release' || p.k, 'UTF8'))
		FROM bench.pool p ORDER BY p.k * $2 % (SELECT count(*) FROM bench.pool) LIMIT $1`, jobs, stride)
	if err != nil {
		return err
	}
	return c.statements(ctx, "ANALYZE ops.jobs", "CHECKPOINT") // as autovacuum would have done for so many rows
}

// jobsPerSecond are guesses for the service and its floor. The number of jobs of a measurement follows from them.
const (
	workedPerSecond  = 2_000
	drainedPerSecond = 12_000
)

// drain measures how fast workers end jobs: pgbench one by one, the service in batches.
func (b *bench) drain(ctx context.Context, c *cluster, floor pgbench, round int,
	row func(name, title, way string) *series) error {
	const title = "jobs drained (`release`)"
	script, err := workerSteps(b.queries)
	if err != nil {
		return err
	}
	inSteps := func() (sample, error) {
		jobs := min(c.pool(), int(workedPerSecond*b.duration.Seconds())) / b.clients * b.clients
		if err := c.accepted(ctx, jobs+b.clients); err != nil { // each client of pgbench must find a job at the end too
			return sample{}, err
		}
		return floor.run(ctx, script, 0, 0, jobs)
	}
	byService := func() (s sample, err error) {
		jobs := min(c.pool(), int(drainedPerSecond*b.duration.Seconds()))
		if err := c.accepted(ctx, jobs); err != nil {
			return s, err
		}
		before, _ := c.cpu()
		worker, err := program.Serve(ctx, b.program, "worker", c.url, b.serviceLog)
		if err != nil {
			return s, err
		}
		defer func() { err = errors.Join(err, worker.Stop()) }()
		if err := c.awaitJobs(ctx); err != nil {
			return s, err
		}
		used, known := cpuOf(worker.Pid())
		after, postgresKnown := c.cpu()
		s.total, s.count = jobs, jobs
		s.service, s.client = perThousand(used, known, jobs), 0
		s.postgres = perThousand(after-before, postgresKnown, jobs)
		var failed int
		err = c.conn.QueryRow(ctx, `SELECT count(*) / extract(epoch FROM max(ended_at) - min(ended_at)),
			count(*) FILTER (WHERE status <> 'processed')
			FROM ops.jobs WHERE sequence_number > (SELECT jobs FROM bench.marks)`).Scan(&s.perSecond, &failed)
		if err == nil && failed > 0 {
			err = fmt.Errorf("%d jobs failed", failed)
		}
		return s, err
	}
	ways, measure := []string{asSteps, asService}, []func() (sample, error){inSteps, byService}
	for _, way := range ways {
		row(drainName, title, way)
	}
	for i := range ways {
		i = (i + round) % len(ways)
		if err := c.restore(ctx); err != nil {
			return err
		}
		s, err := measure[i]()
		if err != nil {
			return fmt.Errorf("%s: %w", ways[i], err)
		}
		r := row(drainName, title, ways[i])
		r.samples = append(r.samples, s)
		b.log.Info("measured", "round", round+1, "path", drainName, "way", ways[i], "per_second", int(s.perSecond))
	}
	return nil
}

// awaitJobs waits until no job is pending. It reads the latest jobs first, by the index of the queue, because a query
// that runs every few milliseconds must not read the ended jobs.
func (c *cluster) awaitJobs(ctx context.Context) error {
	limit := time.Now().Add(5 * time.Minute)
	for {
		pending, err := c.number(ctx, "SELECT count(*) FROM (SELECT FROM ops.jobs WHERE ended_at IS NULL ORDER BY "+
			"sequence_number DESC LIMIT 1) AS pending")
		if err != nil || pending == 0 {
			return err
		}
		if time.Now().After(limit) {
			return errors.New("jobs are still pending after five minutes")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// latency measures the time from the acceptance of a job to its end, at 200 accepted jobs a second, by the clock of the
// database.
func (b *bench) latency(ctx context.Context, c *cluster, r *report) (err error) {
	const rate = 200
	if err := c.restore(ctx); err != nil {
		return err
	}
	s, err := program.Serve(ctx, b.program, "all", c.url, b.serviceLog)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	accepted, err := load{address: s.Address, clients: b.clients, request: c.releaseNext, want: 202, rate: rate}.run(ctx,
		b.warmUp, b.duration)
	if err != nil {
		return err
	}
	if err := c.awaitJobs(ctx); err != nil {
		return err
	}
	var p50, p99 float64
	var failed int
	err = c.conn.QueryRow(ctx, `SELECT
			percentile_disc(0.50) WITHIN GROUP (ORDER BY extract(epoch FROM j.ended_at - j.inserted_at)) FILTER (WHERE
				j.inserted_at > begun.at),
			percentile_disc(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM j.ended_at - j.inserted_at)) FILTER (WHERE
				j.inserted_at > begun.at),
			count(*) FILTER (WHERE j.status <> 'processed')
		FROM ops.jobs j, (SELECT min(inserted_at) + make_interval(secs => $1) AS at FROM ops.jobs
			WHERE sequence_number > (SELECT jobs FROM bench.marks)) AS begun
		WHERE j.sequence_number > (SELECT jobs FROM bench.marks)`, b.warmUp.Seconds()).Scan(&p50, &p99, &failed)
	if err == nil && failed > 0 {
		err = fmt.Errorf("%d jobs failed", failed)
	}
	r.processed.p50 = append(r.processed.p50, p50*1000)
	r.processed.p99 = append(r.processed.p99, p99*1000)
	r.processed.accepted50 = append(r.processed.accepted50, milliseconds(accepted.p50))
	r.processed.accepted99 = append(r.processed.accepted99, milliseconds(accepted.p99))
	b.log.Info("measured", "path", latencyName, "p50_ms", p50*1000, "p99_ms", p99*1000)
	r.remember("all, 200 jobs a second", s)
	return err
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
