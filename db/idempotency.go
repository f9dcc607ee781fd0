package db

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db/sqlc"
)

const (
	// keyLease is how long a request with a key may take. After it, an equal request takes the process for dead. It is
	// longer than any answer takes, waiting for a job included.
	keyLease = 60 * time.Second
	// claimTries is how often a key is asked for that other requests take or free at the same moment.
	claimTries = 20
	// keyKept is how long an answer is kept for repetitions.
	keyKept = 24 * time.Hour
	// keysForgottenAtOnce is how many keys one statement removes.
	keysForgottenAtOnce = 1000
)

var (
	// ErrKeyRunning: an equal request with the key is being carried out.
	ErrKeyRunning = errors.New("a request with this idempotency key is being carried out")
	// ErrKeyOfAnother: the key was used for another request.
	ErrKeyOfAnother = errors.New("the idempotency key was used for another request")
)

// Answer is what a request was answered with.
type Answer struct {
	Code   int
	Header http.Header
	Body   []byte
}

// Idempotency keeps the answers of requests that may be repeated.
type Idempotency struct{ db *statements }

// IdempotencyLease is the right to carry out a request with a key.
type IdempotencyLease struct {
	db           *statements
	clientID, id uuid.UUID
	userKey      string
}

// Claim asks for the right to carry out a request, known by its digest, with a key of the caller: client and user. It
// returns a lease, or the answer that the request was given before, or an error: ErrKeyRunning, ErrKeyOfAnother.
func (i *Idempotency) Claim(
	ctx context.Context, caller Caller, key string, digest [32]byte,
) (*IdempotencyLease, *Answer, error) {
	userKey := caller.UserID.String() + " " + key
	lease := &IdempotencyLease{db: i.db, clientID: caller.ClientID, id: uuid.New(), userKey: userKey}
	// No caller's key has a control character. A digest, as the column holds at most 255 characters.
	standIn := fmt.Sprintf("\x1f%x", sha256.Sum256([]byte(userKey)))
	for range claimTries {
		rows, err := i.db.read().ClaimIdempotencyKey(ctx, sqlc.ClaimIdempotencyKeyParams{
			ClientID: caller.ClientID, Key: key, UserKey: userKey, StandInKey: standIn, RequestDigest: digest[:],
			LeaseID: lease.id, LeaseSeconds: keyLease.Seconds(), KeptSeconds: keyKept.Seconds(),
		})
		if err != nil {
			return nil, nil, err
		}
		if len(rows) == 0 {
			continue // another request took or freed it at this moment
		}
		found := rows[0]
		switch {
		case found.LeaseID == lease.id:
			return lease, nil, nil
		case !bytes.Equal(found.RequestDigest, digest[:]):
			return nil, nil, ErrKeyOfAnother
		case found.Code == 0:
			return nil, nil, ErrKeyRunning
		}
		answer := &Answer{Code: int(found.Code), Body: found.Body}
		return nil, answer, json.Unmarshal(found.Header, &answer.Header)
	}
	return nil, nil, ErrKeyRunning // other requests take and free the key all the time
}

// Keep writes down the answer, for repetitions of the request. The answer that follows a 202 replaces it. ErrNotFound:
// the lease has ended and another request has it.
func (l *IdempotencyLease) Keep(ctx context.Context, a Answer) error {
	header, err := json.Marshal(a.Header)
	if err != nil {
		return err
	}
	return oneRow(l.db.read().KeepIdempotentAnswer(ctx, sqlc.KeepIdempotentAnswerParams{
		ClientID: l.clientID, UserKey: l.userKey, LeaseID: l.id, Code: int16(a.Code), Header: header, Body: a.Body,
	}))
}

// Free gives the key back: the request came to no decision and may be tried again. A kept answer stays.
func (l *IdempotencyLease) Free(ctx context.Context) error {
	return l.db.read().FreeIdempotencyKey(ctx, sqlc.FreeIdempotencyKeyParams{
		ClientID: l.clientID, UserKey: l.userKey, LeaseID: l.id,
	})
}

// Forget removes the keys that are older than a day, in batches, and returns their number.
func (i *Idempotency) Forget(ctx context.Context) (forgotten int64, err error) {
	for {
		n, err := i.db.read().ForgetIdempotencyKeys(ctx, sqlc.ForgetIdempotencyKeysParams{
			KeptSeconds: keyKept.Seconds(), BatchSize: keysForgottenAtOnce,
		})
		if err != nil {
			return forgotten, err
		}
		i.db.observer.Pruned("idempotency_keys", n)
		forgotten += n
		if n < keysForgottenAtOnce {
			return forgotten, nil
		}
	}
}
