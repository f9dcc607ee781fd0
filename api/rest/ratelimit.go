package rest

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
)

// mostBuckets bounds the memory of a limiter.
const mostBuckets = 10_000

// limiter bounds the requests of each client by a bucket of tokens: it holds burst of them, a request takes one,
// perSecond come back.
type limiter struct {
	perSecond float64
	burst     int

	mu      sync.Mutex
	buckets map[uuid.UUID]bucket // a client without one has a full one
}

type bucket struct {
	tokens float64
	at     time.Time
}

func newLimiter(perSecond float64, burst int) *limiter {
	return &limiter{perSecond: perSecond, burst: max(burst, int(math.Ceil(perSecond)), 1), buckets: map[uuid.UUID]bucket{}}
}

// take tells whether the client may have its request, and how many tokens it has left.
func (l *limiter) take(client uuid.UUID, now time.Time) (left float64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, known := l.buckets[client]
	if !known {
		l.makeRoom(now)
		b = bucket{float64(l.burst), now}
	}
	b = bucket{l.filled(b, now), now}
	if b.tokens >= 1 {
		b.tokens--
		ok = true
	}
	l.buckets[client] = b
	return b.tokens, ok
}

func (l *limiter) filled(b bucket, now time.Time) float64 {
	return min(float64(l.burst), b.tokens+max(0, now.Sub(b.at).Seconds())*l.perSecond)
}

// makeRoom forgets the buckets that are full again, or, where more clients than there is room for are busy, any one.
func (l *limiter) makeRoom(now time.Time) {
	if len(l.buckets) < mostBuckets {
		return
	}
	for client, b := range l.buckets {
		if l.filled(b, now) >= float64(l.burst) {
			delete(l.buckets, client)
		}
	}
	for client := range l.buckets {
		if len(l.buckets) < mostBuckets {
			return
		}
		delete(l.buckets, client)
	}
}

// limit takes a request from what the client may ask, and tells it how much that is
// (draft-ietf-httpapi-ratelimit-headers).
func (l *limiter) limit(ctx context.Context, client uuid.UUID, w http.ResponseWriter) *Failure {
	if l == nil {
		return nil
	}
	left, ok := l.take(client, time.Now())
	until := func(tokens float64) int { return int(math.Ceil(max(0, tokens-left) / l.perSecond)) }
	w.Header().Set("RateLimit-Policy", fmt.Sprintf(`"client";q=%d;w=%d`, l.burst, max(1, int(math.Ceil(float64(l.burst)/l.perSecond)))))
	w.Header().Set("RateLimit", fmt.Sprintf(`"client";r=%d;t=%d`, int(left), until(float64(l.burst))))
	if ok {
		return nil
	}
	return Fail(ctx, http.StatusTooManyRequests, Fault{Type: "too_many_requests", Message: tooManyMessage}, "Retry-After", strconv.Itoa(max(1, until(1))))
}
