package rest

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestLimiterFills(t *testing.T) {
	t.Parallel()
	l, client, now := newLimiter(2, 4), uuid.New(), time.Now()
	take := func(want bool, left float64) {
		t.Helper()
		if got, ok := l.take(client, now); ok != want || got != left {
			t.Errorf("%v, %v left", ok, got)
		}
	}
	for left := 3.0; left >= 0; left-- {
		take(true, left)
	}
	take(false, 0)
	now = now.Add(250 * time.Millisecond)
	take(false, 0.5)
	now = now.Add(250 * time.Millisecond)
	take(true, 0)
	now = now.Add(2 * time.Hour)
	take(true, 3)
}

// TestLimiterBoundsItsMemory: of more clients than there is room for, the one that has called least recently is
// forgotten.
func TestLimiterBoundsItsMemory(t *testing.T) {
	t.Parallel()
	l, now := newLimiter(1, 2), time.Now()
	idle, busy := uuid.New(), uuid.New()
	l.take(idle, now)
	l.take(busy, now)
	l.take(busy, now)
	for range mostClients {
		l.take(uuid.New(), now)
		if _, ok := l.take(busy, now); ok {
			t.Fatal("a busy client was forgotten")
		}
	}
	if l.clients.Len() != mostClients || l.clients.Contains(idle) {
		t.Errorf("%d clients, the idle one known: %v", l.clients.Len(), l.clients.Contains(idle))
	}
}

// TestLimiterCountsConcurrentRequests: the first requests of a client come at the same time and share its bucket.
func TestLimiterCountsConcurrentRequests(t *testing.T) {
	t.Parallel()
	l, client, now := newLimiter(1, 5), uuid.New(), time.Now()
	var taken atomic.Int64
	var running sync.WaitGroup
	for range 200 {
		running.Go(func() {
			if _, ok := l.take(client, now); ok {
				taken.Add(1)
			}
		})
	}
	running.Wait()
	if taken.Load() != 5 {
		t.Errorf("%d requests were let through", taken.Load())
	}
}
