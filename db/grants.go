package db

import (
	"crypto/sha256"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

const (
	// mostGrants bounds the memory: some 400 bytes each.
	mostGrants = 1 << 15
	// trustFor is how long an epoch counts as the latest after it was asked for: the longest that a revocation can go unnoticed.
	trustFor = 500 * time.Millisecond
	// renewAfter is when one of those who need the epoch asks for it anew, while the others still trust it.
	renewAfter = 100 * time.Millisecond
)

// grants are what was last heard of tokens in use, so that most requests need not ask. Nothing in them counts longer than the epoch they
// were read at (ops.access_epoch) is known to be the latest. Every question for a grant answers the epoch too, so that it stays fresh where
// there is traffic; where there is none, each request asks.
type grants struct {
	known *lru.Cache[secrets, knownGrant]

	mu      sync.Mutex
	epoch   int64
	asked   time.Time // when the question began that the epoch was the answer to
	renewed time.Time // when somebody last set out to ask anew
}

// secrets are the hashes of a token and an api key.
type secrets struct{ token, apiKey [sha256.Size]byte }

// knownGrant is a grant as of a moment.
type knownGrant struct {
	Grant
	asOf     time.Time
	validFor time.Duration
	epoch    int64
}

// at is the grant as it stands later.
func (k knownGrant) at(moment time.Time) Grant {
	g := k.Grant
	g.Expired = moment.Sub(k.asOf) >= k.validFor
	return g
}

func newGrants() *grants {
	known, err := lru.New[secrets, knownGrant](mostGrants)
	if err != nil {
		panic(err) // the size is positive
	}
	return &grants{known: known}
}

// get finds a grant that still counts. Whoever does not get one asks the database and adds the answer.
func (g *grants) get(s secrets) (knownGrant, bool) {
	k, ok := g.known.Get(s)
	if !ok {
		return k, false
	}
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if k.epoch != g.epoch || now.Sub(g.asked) > trustFor {
		return k, false
	}
	if now.Sub(g.asked) > renewAfter && now.Sub(g.renewed) > renewAfter {
		g.renewed = now
		return k, false
	}
	return k, true
}

// add keeps an answer to a question that began at that time. An answer that has been overtaken by a revocation is kept in vain: its epoch is
// not the latest.
func (g *grants) add(s secrets, k knownGrant, began time.Time) {
	g.known.Add(s, k)
	g.mu.Lock()
	defer g.mu.Unlock()
	if began.After(g.asked) || k.epoch > g.epoch {
		g.epoch, g.asked = k.epoch, began
	}
}
