package db

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"
)

// Caller is the user that makes a request, and the legal entity for which the user acts.
type Caller struct {
	UserID   uuid.UUID
	ClientID uuid.UUID // the legal entity
}

// Grant holds the rights of a token and an api key.
type Grant struct {
	Caller
	Scopes      []string
	Expired     bool
	KnownAPIKey bool
}

const (
	// mostGrants limits the memory of the cache. An entry takes some 400 bytes.
	mostGrants = 1 << 15
	// trustFor is how long an epoch counts as the latest one after it was asked for. No revocation takes longer to come
	// into force.
	trustFor = 500 * time.Millisecond
	// renewAfter is the age of an epoch at which one request asks the database for it again. The other requests trust the
	// old epoch meanwhile.
	renewAfter = 100 * time.Millisecond
)

// grants is a cache of the rights of tokens in use, so that most requests need not ask the database. An entry counts
// only while its epoch (ops.access_epoch) is known to be the latest one. Each answer of the database to a request
// brings the epoch, so under traffic the epoch stays fresh. Without traffic each request asks the database. Decision
// 17.
type grants struct {
	known *lru.Cache[secrets, knownGrant]

	mu      sync.Mutex
	epoch   int64
	asked   time.Time // when the query for this epoch began
	renewed time.Time // when a request last began to ask again
}

// secrets are the hashes of a token and an api key.
type secrets struct{ token, apiKey [sha256.Size]byte }

// knownGrant is a grant at the moment asOf.
type knownGrant struct {
	Grant
	asOf     time.Time
	validFor time.Duration
	epoch    int64
}

// at is the grant at a later moment.
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

// get finds an entry that counts. Without one the caller asks the database, and adds the answer.
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

// add adds the answer to a query that began at that time. If a revocation has been committed since then, the epoch of
// the answer is not the latest, so the entry does not count.
func (g *grants) add(s secrets, k knownGrant, began time.Time) {
	g.known.Add(s, k)
	g.mu.Lock()
	defer g.mu.Unlock()
	if began.After(g.asked) || k.epoch > g.epoch {
		g.epoch, g.asked = k.epoch, began
	}
}
