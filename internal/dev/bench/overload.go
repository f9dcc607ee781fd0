package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/internal/dev/program"
)

const (
	// mostConnections bounds the connections of a flood. When all are in use the next request is sent late, but its
	// latency counts from the moment at which it was due.
	mostConnections = 2000
	// oneClientsLimit is the limit of requests a second in the measurement of one client that sends too many.
	oneClientsLimit = 20
	// recoveredWithin is how long a service may take after an overload until it answers as before.
	recoveredWithin = 10 * time.Second
	// slice is the unit in which the recovery is measured.
	slice = 500 * time.Millisecond
)

// flood is a load of mixed requests. Unlike load it takes any answer, and reports the answers one by one.
type flood struct {
	address string
	request func(b []byte, n int) []byte
	first   int // number of the first request
	// rate is how many requests are sent a second, by a fixed schedule, however slow the answers are. 0: each of so many
	// clients sends its next request when it has its answer.
	rate    float64
	clients int
}

// reply is the answer to a request of a flood.
type reply struct {
	due  time.Duration // since the beginning of the flood
	took time.Duration // from the moment at which the request was due to the end of its answer
	code int
	id   uuid.UUID // of the job or the licence that the request made
	err  error     // no answer, or one that the contract does not have
}

// run sends requests for a duration, and waits for all answers.
func (f flood) run(ctx context.Context, duration time.Duration) (replies []reply, connections int) {
	type task struct {
		n   int
		due time.Duration
	}
	var (
		tasks = make(chan task)
		group sync.WaitGroup
		mu    sync.Mutex
	)
	start := time.Now()
	client := func() {
		var own []reply
		var conn *connection
		var message []byte
		for t := range tasks {
			if f.rate == 0 {
				t.due = time.Since(start)
			}
			r := reply{due: t.due}
			if conn == nil {
				if conns, err := dial(ctx, f.address, 1); err != nil {
					r.err = err
				} else {
					conn = conns[0]
				}
			}
			if conn != nil {
				conn.SetDeadline(time.Now().Add(patience)) //nolint:errcheck // the exchange reports a closed connection
				message = f.request(message[:0], t.n)
				code, body, err := conn.exchange(message)
				r.code, r.err = code, err
				if err == nil {
					r.id, r.err = conn.judge(code, body)
				} else {
					conn.Close()
					conn = nil
				}
			}
			r.took = time.Since(start) - t.due
			own = append(own, r)
		}
		if conn != nil {
			conn.Close()
		}
		mu.Lock()
		replies = append(replies, own...)
		mu.Unlock()
	}
	most := mostConnections
	if f.rate == 0 {
		most = f.clients
	}
	for n := 0; ctx.Err() == nil; n++ {
		due := time.Since(start)
		if f.rate > 0 {
			due = time.Duration(float64(n) / f.rate * float64(time.Second))
			time.Sleep(due - time.Since(start))
		}
		if due >= duration {
			break
		}
		next := task{f.first + n, due}
		select {
		case tasks <- next:
			continue
		default:
		}
		if connections < most {
			connections++
			group.Go(client)
		}
		tasks <- next
	}
	close(tasks)
	group.Wait()
	return replies, connections
}

// judge returns the id of what a request has made. An error: the contract does not have this answer to a right request.
func (c *connection) judge(code int, body []byte) (id uuid.UUID, err error) {
	switch code {
	case http.StatusOK:
		return id, nil
	case http.StatusCreated, http.StatusAccepted:
		var made struct {
			Data struct {
				ID    string
				Links []struct{ Href string }
			}
		}
		if err = json.Unmarshal(body, &made); err == nil {
			if code == http.StatusAccepted && len(made.Data.Links) > 0 {
				made.Data.ID = strings.TrimPrefix(made.Data.Links[0].Href, "/api/jobs/")
			}
			id, err = uuid.Parse(made.Data.ID)
		}
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		kind := map[int]string{
			http.StatusServiceUnavailable: `"type":"service_unavailable"`,
			http.StatusTooManyRequests:    `"type":"too_many_requests"`,
		}[code]
		meta := fmt.Appendf(nil, `"code":%d`, code)
		if c.retryAfter == "" || !bytes.Contains(body, []byte(kind)) || !bytes.Contains(body, meta) {
			err = fmt.Errorf(
				"a refusal without Retry-After or without the envelope: %d, Retry-After %q, %s",
				code,
				c.retryAfter,
				body,
			)
		}
	default:
		err = fmt.Errorf("answered %d: %s", code, body)
	}
	return id, err
}

// taken tells whether the service has carried out the request.
func (r reply) taken() bool { return r.err == nil && r.code < 300 }

// times are the latencies of those replies, in order.
func times(replies []reply, which func(reply) bool) (took []time.Duration) {
	for _, r := range replies {
		if which(r) {
			took = append(took, r.took)
		}
	}
	slices.Sort(took)
	return took
}

// turn is the number of requests after which the kinds of a mixed load repeat.
const turn = 20

// mixed makes the requests of an overload, each of another client. Of twenty, four release a service request, two
// create a licence, one asks whether the service is ready, seven search a requisition of a hundred service requests,
// and the others read a single row or a short list. Without the searches, which cost the service much and the client
// little, the client would take most of the processors.
func (c *cluster) mixed(reads []path) func(b []byte, n int) []byte {
	return func(b []byte, n int) []byte {
		round, place := n/turn, n%turn
		switch {
		case place < 4:
			return c.releaseNext(b, 0, round*4+place)
		case place < 6:
			return c.createLicense(b, 0, round*2+place-4)
		case place == 6:
			return append(b, "GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"...)
		case place < 14:
			g := c.groups()
			row := 1 + 100*rand.IntN(g/100) + g*rand.IntN(activeStates) // a requisition of a hundred service requests
			return c.search(b, row, 1+rand.IntN(c.size.Tokens))
		}
		return reads[place%len(reads)].request(b, 0, n)
	}
}

// overloadRun is a run of measureOverload.
type overloadRun struct {
	*bench
	cluster *cluster
	service *program.Service
	request func(b []byte, n int) []byte
	next    int // number of the next request
	made    []reply
	faults  []error
	rows    strings.Builder
}

// measureOverload sends twice as many requests a second as the service can take. It measures the answers, the time
// until a usual load is answered as before, and the memory, and compares what was accepted with the tables.
func (b *bench) measureOverload(ctx context.Context) (r report, err error) {
	c, err := openCluster(ctx, b.root, b.cache, b.scale, b.log)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	r.header(c)
	paths, err := c.paths(b.queries, b.clients)
	if err != nil {
		return r, err
	}
	o := &overloadRun{bench: b, cluster: c, request: c.mixed(paths[2:])}
	if o.service, err = program.Serve(ctx, b.program, "all", c.url, b.serviceLog); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, o.service.Stop()) }()

	capacity, err := o.capacity(ctx)
	if err != nil {
		return r, err
	}
	usual := o.send(ctx, "half of it", capacity/2, b.duration)
	limit := max(2*percentile(times(usual, reply.taken), 0.99), 50*time.Millisecond)
	accepted := times(o.send(ctx, "twice of it", 2*capacity, b.overload), reply.taken)
	after := o.send(ctx, "half of it, immediately afterwards", capacity/2, max(b.duration, recoveredWithin))
	if ctx.Err() != nil {
		return r, ctx.Err()
	}
	r.remember("all, twice the load that it can take", o.service)
	lost, err := o.lost(ctx)
	if err != nil {
		return r, err
	}
	r.atMost(
		"p99 of what is accepted at twice the load",
		1000,
		[]float64{milliseconds(percentile(accepted, 0.99))},
		" ms",
	)
	r.atMost("time until half of the load is answered as before", recoveredWithin.Seconds(),
		[]float64{recovery(after, limit).Seconds()}, " s")
	r.atMost("acknowledged and not in the tables, or there and not acknowledged", 0, []float64{float64(lost)}, "")
	r.atMost(
		"memory resident, most",
		512,
		[]float64{float64(r.memory["all, twice the load that it can take"]) / 1e6},
		" MB",
	)
	if err := o.oneClient(ctx, capacity, &r); err != nil {
		return r, err
	}
	if err := errors.Join(o.faults[:min(len(o.faults), 10)]...); err != nil {
		return r, fmt.Errorf("%d wrong answers, the first ones: %w", len(o.faults), err)
	}
	r.tables = append(r.tables, "| load | sent a second | taken a second | p50 ms | p99 ms | max ms | refused a second | "+
		"p99 ms | other answers | connections | memory MB |\n|---"+strings.Repeat("|---", 10)+"|\n"+o.rows.String())
	return r, c.restore(ctx)
}

// capacity measures how many requests a second the service can take from clients that wait for their answers.
func (o *overloadRun) capacity(ctx context.Context) (perSecond float64, err error) {
	f := flood{address: o.service.Address, request: o.request, clients: 2 * o.clients}
	f.run(ctx, o.warmUp)
	if err := o.restore(ctx); err != nil {
		return 0, err
	}
	replies, connections := f.run(ctx, o.duration)
	o.row("what it can take", o.duration, replies, connections)
	return float64(len(times(replies, reply.taken))) / o.duration.Seconds(), o.restore(ctx)
}

// restore waits for the jobs that were accepted and puts the rows back.
func (o *overloadRun) restore(ctx context.Context) error {
	o.next, o.made = 0, nil
	if err := o.cluster.awaitJobs(ctx); err != nil {
		return err
	}
	return o.cluster.restore(ctx)
}

// send sends mixed requests at a rate. It leaves half of the service requests that can still be released to later ones.
func (o *overloadRun) send(ctx context.Context, title string, rate float64, duration time.Duration) []reply {
	left := o.cluster.pool()*turn/4 - o.next
	duration = min(duration, time.Duration(float64(left)/2/rate*float64(time.Second)))
	f := flood{address: o.service.Address, request: o.request, first: o.next, rate: rate}
	replies, connections := f.run(ctx, duration)
	o.next += len(replies)
	o.made = append(o.made, replies...)
	o.row(title, duration, replies, connections)
	return replies
}

func (o *overloadRun) row(title string, duration time.Duration, replies []reply, connections int) {
	taken := times(replies, reply.taken)
	refused := times(replies, func(r reply) bool { return r.err == nil && !r.taken() })
	second := func(n int) string { return fmt.Sprintf("%.0f", float64(n)/duration.Seconds()) }
	ms := func(took []time.Duration, p float64) string {
		if len(took) == 0 {
			return ""
		}
		return fmt.Sprintf("%.0f", milliseconds(percentile(took, p)))
	}
	for _, r := range replies {
		if r.err != nil {
			o.faults = append(o.faults, fmt.Errorf("%s: %w", title, r.err))
		}
	}
	now, _, _ := memoryOf(o.service.Pid())
	fmt.Fprintf(&o.rows, "| %s | %s | %s | %s | %s | %s | %s | %s | %d | %d | %.0f |\n", title, second(len(replies)),
		second(len(taken)), ms(taken, 0.5), ms(taken, 0.99), ms(taken, 1), second(len(refused)), ms(refused, 0.99),
		len(replies)-len(taken)-len(refused), connections, float64(now)/1e6)
	o.log.Info("measured", "load", title, "sent", len(replies), "taken", len(taken), "p99", percentile(taken, 0.99),
		"refused", len(refused), "connections", connections)
}

// recovery is the time after which each request of a slice of the load is taken within the limit (p99).
func recovery(replies []reply, limit time.Duration) time.Duration {
	for begin := time.Duration(0); ; begin += slice {
		var part []reply
		for _, r := range replies {
			if r.due >= begin && r.due < begin+slice {
				part = append(part, r)
			}
		}
		taken := times(part, reply.taken)
		if len(taken) == len(part) && percentile(taken, 0.99) <= limit {
			return begin
		}
	}
}

// lost waits until no job is pending, and counts acknowledged jobs and licences that are not in the tables, and those
// in the tables that were not acknowledged. An error: a job has failed.
func (o *overloadRun) lost(ctx context.Context) (int, error) {
	if err := o.cluster.awaitJobs(ctx); err != nil {
		return 0, err
	}
	byCode := map[int][]uuid.UUID{}
	for _, r := range o.made {
		byCode[r.code] = append(byCode[r.code], r.id)
	}
	var lost, failed int
	for code, rows := range map[int]string{
		http.StatusAccepted: "SELECT id, status <> 'processed' AS failed FROM ops.jobs WHERE sequence_number > " +
			"(SELECT jobs FROM bench.marks)",
		http.StatusCreated: `SELECT id, false AS failed FROM prm.licenses WHERE type LIKE 'BENCH\_%'`,
	} {
		var different, wrong int
		err := o.cluster.conn.QueryRow(ctx, `SELECT count(*) FILTER (WHERE m.id IS NULL OR a.id IS NULL),
				count(*) FILTER (WHERE m.failed)
			FROM (`+rows+`) AS m FULL JOIN unnest($1::uuid[]) AS a (id) ON a.id = m.id`, byCode[code]).Scan(&different, &wrong)
		if err != nil {
			return 0, err
		}
		lost, failed = lost+different, failed+wrong
	}
	if failed > 0 {
		return lost, fmt.Errorf("%d jobs have failed", failed)
	}
	return lost, nil
}

// oneClient sends many more requests of one client than its limit allows, beside a usual load of the others.
func (o *overloadRun) oneClient(ctx context.Context, capacity float64, r *report) (err error) {
	unlimited := o.service
	defer func() { o.service = unlimited }()
	o.service, err = program.Serve(ctx, o.program, "api", o.cluster.url, o.serviceLog,
		fmt.Sprintf("REIESTR_RATE_LIMIT=%d", oneClientsLimit))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.service.Stop()) }()
	licences := func(token func(n int) int) func(b []byte, n int) []byte {
		return func(b []byte, n int) []byte { return o.cluster.as(append(b, "GET /api/licenses"...), token(n)) }
	}
	floods := []flood{
		{address: o.service.Address, rate: capacity / 2, request: licences(func(int) int { return 1 })},
		{
			address: o.service.Address,
			rate:    capacity / 4,
			request: licences(func(n int) int { return 2 + n%(o.cluster.size.Tokens-1) }),
		},
	}
	replies, connections := make([][]reply, len(floods)), make([]int, len(floods))
	var all sync.WaitGroup
	for i, f := range floods {
		all.Go(func() { replies[i], connections[i] = f.run(ctx, o.duration) })
	}
	all.Wait()
	o.row(fmt.Sprintf("one client, whose limit is %d", oneClientsLimit), o.duration, replies[0], connections[0])
	o.row("beside it: others", o.duration, replies[1], connections[1])
	refused := len(replies[1]) - len(times(replies[1], reply.taken))
	r.atMost("requests of others that are refused beside a client over its limit", 0, []float64{float64(refused)}, "")
	return ctx.Err()
}
