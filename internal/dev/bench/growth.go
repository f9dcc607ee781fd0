package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/reiestr/reiestr/internal/dev/population"
	"github.com/reiestr/reiestr/internal/dev/program"
)

// growthClients is small: the latency of one request is wanted, not the time in a queue.
const growthClients = 2

// measureGrowth measures the latency of one service request by id and by requisition at each scale. All databases and
// services run at the same time and are measured in turn, round by round; an idle one costs nothing. The rows have been
// read once before, so that the measurement shows the look-up and not the disk.
func (b *bench) measureGrowth(ctx context.Context) (r report, err error) {
	tokens := math.MaxInt // the same number at each scale: only the rows grow
	for _, scale := range b.growth {
		tokens = min(tokens, sizeOf(scale).Tokens)
	}
	token := func() int { return 1 + rand.IntN(tokens) }
	lookups := []struct {
		name    string
		request func(c *cluster) request
	}{
		{"by id", func(c *cluster) request {
			return func(to []byte, _, _ int) []byte {
				row := c.active()
				to = appendID(append(to, "GET /api/patients/"...), c.size.Patient(row))
				to = appendID(append(to, "/service_requests/"...), population.ServiceRequest(row))
				return c.as(to, token())
			}
		}},
		{"by requisition", func(c *cluster) request {
			return func(to []byte, _, _ int) []byte { return c.search(to, c.active(), token()) }
		}},
	}
	type site struct {
		cluster *cluster
		service *program.Service
		p50     [][]float64 // for each look-up one of each round
	}
	var sites []*site
	defer func() {
		for _, s := range sites {
			if s.service != nil {
				err = errors.Join(err, s.service.Stop())
			}
			err = errors.Join(err, s.cluster.close())
		}
	}()
	for _, scale := range b.growth {
		c, err := openCluster(ctx, b.root, b.cache, scale, b.log)
		if err != nil {
			return r, err
		}
		s := &site{cluster: c, p50: make([][]float64, len(lookups))}
		sites = append(sites, s)
		if s.service, err = program.Serve(ctx, b.program, "api", c.url, b.serviceLog); err != nil {
			return r, err
		}
	}
	for _, s := range slices.Backward(sites) { // the largest first, so that it does not displace the others in the cache
		if err := s.cluster.warm(ctx); err != nil {
			return r, err
		}
	}
	for round := range b.rounds {
		for l, lookup := range lookups {
			for i := range sites {
				s := sites[(i+round)%len(sites)]
				measured, err := load{
					address: s.service.Address, clients: growthClients, request: lookup.request(s.cluster), want: http.StatusOK,
				}.run(ctx, b.warmUp, b.duration)
				if err != nil {
					return r, fmt.Errorf("%s at %d: %w", lookup.name, s.cluster.size.ServiceRequests, err)
				}
				s.p50[l] = append(s.p50[l], milliseconds(measured.p50))
				b.log.Info("measured", "round", round+1, "look-up", lookup.name, "scale", s.cluster.size.ServiceRequests, "p50",
					measured.p50)
			}
		}
	}
	var t strings.Builder
	fmt.Fprintf(&t, "Latency over HTTP, %d clients, %d rounds of %s.\n\n| service requests | look-up | p50 ms | to %d "+
		"|\n|---|---|---|---|\n",
		growthClients, b.rounds, b.duration, b.growth[0])
	for l, lookup := range lookups {
		for i, s := range sites {
			var ratio []float64
			for round, p50 := range s.p50[l] {
				ratio = append(ratio, p50/sites[0].p50[l][round])
			}
			fmt.Fprintf(&t, "| %d | %s | %s | %s |\n", s.cluster.size.ServiceRequests, lookup.name, spread(s.p50[l], 3),
				spread(ratio, 2))
			if i > 0 {
				r.atMost(fmt.Sprintf("latency %s, %d to %d service requests", lookup.name, s.cluster.size.ServiceRequests,
					b.growth[0]), 1.2, ratio, "")
			}
		}
	}
	r.about = append(r.about, sites[0].cluster.version()+".")
	r.tables = append(r.tables, t.String())
	return r, nil
}

// measureSoak puts a mixed load on the service for a long time. It measures the memory of the service once a second,
// and the goroutines before and after.
func (b *bench) measureSoak(ctx context.Context) (r report, err error) {
	c, err := openCluster(ctx, b.root, b.cache, b.scale, b.log)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.wearOut(); err != nil {
		return r, err
	}
	r.header(c)
	s, err := program.Serve(ctx, b.program, "all", c.url, b.serviceLog)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	paths, err := c.paths(b.queries, b.clients)
	if err != nil {
		return r, err
	}
	cycle := c.cycle(b.clients)
	reads := paths[2:] // they are answered 200, and so is an action that waits for its end
	mixed := func(to []byte, client, n int) []byte {
		if n%2 == 0 {
			return cycle(to, client, n)
		}
		return reads[n/2%len(reads)].request(to, client, n)
	}
	stream := load{address: s.Address, clients: b.clients, request: mixed, want: http.StatusOK}
	if _, err := stream.run(ctx, 0, b.warmUp); err != nil {
		return r, err
	}
	before, err := settledGoroutines(ctx, s.Address, 0)
	if err != nil {
		return r, err
	}

	var resident []float64 // MB, one value for each second
	watching, stop := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for watching.Err() == nil {
			if now, _, ok := memoryOf(s.Pid()); ok {
				resident = append(resident, float64(now)/1e6)
			}
			select {
			case <-watching.Done():
			case <-time.After(time.Second):
			}
		}
	}()
	measured, err := stream.run(ctx, 0, b.soak)
	stop()
	<-watched
	if err != nil {
		return r, err
	}
	after, err := settledGoroutines(ctx, s.Address, before)
	if err != nil {
		return r, err
	}
	r.remember("all, mixed load", s)
	r.atMost("goroutines left behind", 0, []float64{float64(after - before)}, "")
	var t strings.Builder
	fmt.Fprintf(&t, "Mixed load of %d clients for %s: %d requests, half of them actions whose end is waited for, no "+
		"error. Goroutines: %d before, %d after.\n",
		b.clients, b.soak, measured.total, before, after)
	if n := len(resident); n >= 3 {
		// In the first tenth caches fill. The second tenth is compared with the last one.
		early, late := resident[n/10:max(n/5, n/10+1)], resident[n-max(1, n/10):]
		r.atMost("memory resident, most", 100, []float64{float64(r.memory["all, mixed load"]) / 1e6}, " MB")
		r.atMost("memory resident, last tenth to second tenth", 1.1, []float64{median(late) / median(early)}, "")
		fmt.Fprintf(&t, "\n| part of the time | resident MB |\n|---|---|\n")
		for i := range min(10, n) {
			part := resident[n*i/min(10, n) : n*(i+1)/min(10, n)]
			fmt.Fprintf(&t, "| %d/%d | %s |\n", i+1, min(10, n), spread(part, 1))
		}
	}
	r.tables = append(r.tables, t.String())
	return r, c.restore(ctx)
}

// settledGoroutines asks the service for its number of goroutines after its connections have ended. It asks until the
// number is at most wanted, or stays the same for a second.
func settledGoroutines(ctx context.Context, address string, wanted int) (n int, err error) {
	same := 0
	for same < 5 {
		conns, err := dial(ctx, address, 1)
		if err != nil {
			return 0, err
		}
		code, text, err := conns[0].exchange([]byte("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"))
		closeAll(conns)
		if err != nil || code != http.StatusOK {
			return 0, fmt.Errorf("GET /metrics: %d %w", code, err)
		}
		now := 0
		for line := range strings.Lines(string(text)) {
			if value, ok := strings.CutPrefix(line, "go_goroutines "); ok {
				if _, err := fmt.Sscan(value, &now); err != nil {
					return 0, err
				}
			}
		}
		if same++; now != n {
			n, same = now, 0
		}
		if wanted > 0 && n <= wanted {
			break
		}
		select {
		case <-ctx.Done():
			return n, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
	return n, nil
}
