package rest

import (
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
	now = now.Add(-time.Hour) // a clock that goes back gives nothing
	take(false, 0)
	now = now.Add(2 * time.Hour)
	take(true, 3)
}

func TestLimiterBoundsItsMemory(t *testing.T) {
	t.Parallel()
	l, now := newLimiter(1, 2), time.Now()
	idle, busy := uuid.New(), uuid.New()
	l.take(idle, now)
	for range mostBuckets - 2 {
		l.take(uuid.New(), now.Add(time.Minute))
	}
	l.take(busy, now.Add(time.Minute))
	l.take(uuid.New(), now.Add(time.Minute)) // who is idle makes room
	if _, known := l.buckets[idle]; known || len(l.buckets) != mostBuckets {
		t.Errorf("idle client known: %v, %d buckets", known, len(l.buckets))
	}
	for range 100 {
		l.take(uuid.New(), now.Add(time.Minute))
	}
	if len(l.buckets) > mostBuckets {
		t.Errorf("%d buckets", len(l.buckets))
	}
}
