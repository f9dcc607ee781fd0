package db

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"
)

// Caller is the person that makes a request, and the legal entity that the person acts for.
type Caller struct {
	UserID   uuid.UUID
	ClientID uuid.UUID // the legal entity
}

// Grant tells what a token and an api key allow.
type Grant struct {
	Caller
	Scopes      []string
	Expired     bool
	KnownAPIKey bool
}

const (
	// mostGrants bounds the memory: some 400 bytes each.
	mostGrants = 1 << 15
	// trustFor is how long an epoch counts as the latest after it was asked for. It is the longest time that a revocation
	// can go unnoticed.
	trustFor = 500 * time.Millisecond
	// renewAfter is the age of the epoch at which one request asks for it anew, while the other requests still trust it.
	renewAfter = 100 * time.Millisecond
)

// grants are a cache of what tokens in use allow, so that most requests need not ask the database. An entry counts only
// as long as its epoch (ops.access_epoch), read with it, is known to be the latest. Every answer of the database to a
// request brings the epoch along, so under traffic the epoch stays fresh; without traffic each request asks the
// database. Decision 17.
type grants struct {
	known *lru.Cache[secrets, knownGrant]

	mu      sync.Mutex
	epoch   int64
	asked   time.Time // when the query began that answered the epoch
	renewed time.Time // when a request last began to ask anew
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

// get finds an entry that still counts. Without one the caller asks the database, and adds the answer.
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

// add keeps the answer to a query that began at that time. An answer that a revocation has overtaken does no harm: its
// epoch is not the latest, so it does not count.
func (g *grants) add(s secrets, k knownGrant, began time.Time) {
	g.known.Add(s, k)
	g.mu.Lock()
	defer g.mu.Unlock()
	if began.After(g.asked) || k.epoch > g.epoch {
		g.epoch, g.asked = k.epoch, began
	}
}
