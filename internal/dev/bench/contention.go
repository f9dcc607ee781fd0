package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/internal/dev/population"
	"github.com/reiestr/reiestr/internal/dev/program"
)

// stormEvery is the time between two storms (see contention).
const stormEvery = 2 * time.Second

// contention measures the throughput on other rows, first undisturbed and then with storms. On the other rows, clients
// release and use service requests, and wait for the end of each job. A storm is a crowd of requests that want to use
// one service request at the same moment, each for a legal entity of its own, and wait for the outcome. One of them
// wins. All others are answered 409, at once or as the end of their job.
func (b *bench) contention(ctx context.Context, c *cluster, r *report) (err error) {
	if err := c.restore(ctx); err != nil {
		return err
	}
	s, err := program.Serve(ctx, b.program, "all", c.url, b.serviceLog)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	duration := max(b.duration, stormEvery)
	others := func() (float64, error) {
		measured, err := load{address: s.Address, clients: b.clients, request: c.cycle(b.clients),
			want: http.StatusOK}.run(ctx, b.warmUp, duration)
		return measured.perSecond, err
	}
	undisturbed, err := others()
	if err != nil {
		return err
	}
	if err := c.restore(ctx); err != nil {
		return err
	}
	storming, calm := context.WithCancel(ctx)
	defer calm()
	var (
		storms   sync.WaitGroup
		stormErr error
		losers   []time.Duration
	)
	storms.Go(func() {
		timer := time.NewTimer(b.warmUp + stormEvery/2)
		defer timer.Stop()
		for {
			select {
			case <-storming.Done():
				return
			case <-timer.C:
				timer.Reset(stormEvery)
			}
			took, err := b.storm(ctx, c, s)
			if losers = append(losers, took...); err != nil {
				stormErr = err
				return
			}
		}
	})
	disturbed, err := others()
	calm()
	storms.Wait()
	if err = errors.Join(err, stormErr); err != nil {
		return err
	}
	slices.Sort(losers)
	r.contended.losers = append(r.contended.losers, milliseconds(percentile(losers, 0.99)))
	r.contended.kept = append(r.contended.kept, disturbed/undisturbed)
	b.log.Info("measured", "path", contentionName, "losers", len(losers), "p99", percentile(losers, 0.99), "kept",
		disturbed/undisturbed)
	r.remember("all, contention", s)
	return c.restore(ctx)
}

// storm lets a crowd use one free service request, and answers the latencies of the losers. Any number of winners but
// one is an error, and so is any answer that is neither a success nor 409.
func (b *bench) storm(ctx context.Context, c *cluster, s *program.Service) ([]time.Duration, error) {
	var id uuid.UUID
	err := c.conn.QueryRow(ctx, `SELECT id FROM medical_events.service_requests
		WHERE status = 'active' AND program_processing_status = 'new' AND category = 'counselling' AND expiration_date > now()
			LIMIT 1`).Scan(&id)
	if err != nil {
		return nil, err
	}
	crowd := min(b.crowd, c.size.Tokens)
	conns, err := dial(ctx, s.Address, crowd)
	if err != nil {
		return nil, err
	}
	defer closeAll(conns)
	type outcome struct {
		took time.Duration
		won  bool
		err  error
	}
	outcomes := make([]outcome, crowd)
	start := make(chan struct{})
	var group sync.WaitGroup
	for i, conn := range conns {
		message := c.use(nil, id, i+1)
		group.Go(func() {
			<-start
			begun := time.Now()
			conn.SetDeadline(begun.Add(patience)) //nolint:errcheck // the next exchange reports a closed connection
			code, answer, err := conn.exchange(message)
			o := &outcomes[i]
			o.took, o.err = time.Since(begun), err
			if err == nil {
				o.won, o.err = judged(code, answer)
			}
		})
	}
	close(start)
	group.Wait()
	var losers []time.Duration
	var winners []int
	for i, o := range outcomes {
		switch {
		case o.err != nil:
			return nil, o.err
		case o.won:
			winners = append(winners, i+1)
		default:
			losers = append(losers, o.took)
		}
	}
	if len(winners) != 1 {
		return nil, fmt.Errorf("%d of %d got the service request", len(winners), crowd)
	}
	held, err := c.number(ctx, "SELECT count(*) FROM medical_events.service_requests WHERE id = $1 AND "+
		"used_by_legal_entity_id = $2",
		id, population.LegalEntity(c.size.Caller(winners[0])))
	if err == nil && held != 1 {
		err = errors.New("the service request is not held by the winner")
	}
	return losers, err
}

// judged tells whether an answer to use is a success. An answer that is neither a success nor a conflict is an error.
func judged(code int, answer []byte) (won bool, err error) {
	var said struct {
		Data struct {
			Status     string `json:"status"`
			StatusCode int    `json:"status_code"`
			Error      struct {
				Message string `json:"message"`
			} `json:"error"`
		} `json:"data"`
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.Unmarshal(answer, &said); err != nil {
		return false, fmt.Errorf("%d %s: %w", code, answer, err)
	}
	const used = "Service request is already used"
	switch {
	case code == http.StatusOK && said.Data.Status == "processed":
		return true, nil
	case code == http.StatusOK && said.Data.Status == "failed" && said.Data.StatusCode == http.StatusConflict &&
		said.Data.Error.Message == used,
		code == http.StatusConflict && said.Error.Message == used:
		return false, nil
	}
	return false, fmt.Errorf("neither done nor in use: %d %s", code, strings.TrimSpace(string(answer)))
}
