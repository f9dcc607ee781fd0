package rest

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// placesPerConnection is how many reads, and how many commands, are carried out at a time for each connection to the
	// database, where Config sets no number. So many fill the batches of package db. More would make each answer later,
	// and not one more request would be carried out.
	placesPerConnection = 16
	// placePatience is how long a request waits for a place when many arrive at once.
	placePatience = time.Second
	// overloadAfter is for how long more than half of the places have been taken when a process counts as overloaded.
	overloadAfter = 500 * time.Millisecond
)

// places bound how many requests are carried out at a time. When all places are taken, a request waits for one, as
// others may have arrived by chance at the same moment. If this lasts, the process is overloaded: then a request is
// refused at once. So those that are accepted are answered in time, and there is no queue to work off afterwards.
type places struct {
	taken    chan struct{}
	patience time.Duration
	begun    time.Time
	quiet    atomic.Int64 // when a request last found half of the places free; nanoseconds since begun
}

func newPlaces(most int) *places {
	return &places{taken: make(chan struct{}, most), patience: placePatience, begun: time.Now()}
}

// enter takes a place; ok is false if there is none. leave gives the place back; it may be called again.
func (p *places) enter(ctx context.Context) (leave func(), ok bool) {
	leave = sync.OnceFunc(func() { <-p.taken })
	now := time.Since(p.begun)
	if len(p.taken) <= cap(p.taken)/2 {
		p.quiet.Store(int64(now))
	}
	select {
	case p.taken <- struct{}{}:
		return leave, true
	default:
	}
	if now-time.Duration(p.quiet.Load()) > overloadAfter {
		return func() {}, false
	}
	timer := time.NewTimer(p.patience)
	defer timer.Stop()
	select {
	case p.taken <- struct{}{}: // those who wait take the places in their order
		return leave, true
	case <-timer.C:
	case <-ctx.Done():
	}
	return func() {}, false
}

type leaveKey struct{}

// leave gives the place of the request under way back: the request has only to be answered, or waits.
func leave(ctx context.Context) {
	if leave, ok := ctx.Value(leaveKey{}).(func()); ok {
		leave()
	}
}
