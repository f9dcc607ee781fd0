package rest

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// mostClients bounds the memory of a limiter. A client beyond it replaces the one whose last request is the oldest,
// which then begins with a full bucket again.
const mostClients = 10_000

// limiter bounds the requests of each client by a bucket of tokens. A bucket holds up to burst tokens, a request takes
// one, and perSecond are added each second.
type limiter struct {
	perSecond float64
	burst     int
	clients   *lru.Cache[uuid.UUID, *rate.Limiter]
}

func newLimiter(perSecond float64, burst int) *limiter {
	clients, _ := lru.New[uuid.UUID, *rate.Limiter](mostClients) // it fails for a negative size only
	return &limiter{perSecond, max(burst, int(math.Ceil(perSecond)), 1), clients}
}

// take takes a token of the client. It returns whether there was one and how many are left.
func (l *limiter) take(client uuid.UUID, now time.Time) (left float64, ok bool) {
	bucket, known := l.clients.Get(client)
	if !known {
		bucket = rate.NewLimiter(rate.Limit(l.perSecond), l.burst)
		if other, exists, _ := l.clients.PeekOrAdd(client, bucket); exists { // of a request at the same time
			bucket = other
		}
	}
	ok = bucket.AllowN(now, 1)
	return bucket.TokensAt(now), ok
}

// limit takes a token for a request and sets the headers that tell the client its limit
// (draft-ietf-httpapi-ratelimit-headers).
func (l *limiter) limit(ctx context.Context, client uuid.UUID, w http.ResponseWriter) *Failure {
	if l == nil {
		return nil
	}
	left, ok := l.take(client, time.Now())
	seconds := func(tokens float64) int { return int(math.Ceil(max(0, tokens) / l.perSecond)) } // until so many have come
	full := float64(l.burst)
	w.Header().Set("RateLimit-Policy", fmt.Sprintf(`"client";q=%d;w=%d`, l.burst, max(1, seconds(full))))
	w.Header().Set("RateLimit", fmt.Sprintf(`"client";r=%d;t=%d`, int(left), seconds(full-left)))
	if ok {
		return nil
	}
	return Fail(ctx, http.StatusTooManyRequests, Fault{Type: "too_many_requests", Message: tooManyMessage},
		"Retry-After", strconv.Itoa(max(1, seconds(1-left))))
}
