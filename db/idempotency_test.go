package db_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
)

var (
	oneRequest     = sha256.Sum256([]byte("one"))
	anotherRequest = sha256.Sum256([]byte("another"))
	someAnswer     = db.Answer{Code: 201, Header: http.Header{"Location": {"/x"}}, Body: []byte("{\"a\": \"\\u0000\"}\n")}
)

func (h *house) lease(t testing.TB, client db.Caller, key string) *db.IdempotencyLease {
	t.Helper()
	lease, answer, err := h.Idempotency.Claim(t.Context(), client, key, oneRequest)
	if lease == nil || answer != nil || err != nil {
		t.Fatalf("%v, %v, %v", lease, answer, err)
	}
	return lease
}

func (h *house) noLease(t testing.TB, client db.Caller, key string, request [32]byte, want error) {
	t.Helper()
	if lease, answer, err := h.Idempotency.Claim(t.Context(), client, key, request); lease != nil || answer != nil ||
		!errors.Is(err, want) {
		t.Errorf("%v, %v, %v; want %v", lease, answer, err, want)
	}
}

func callerOf(client uuid.UUID) db.Caller { return db.Caller{ClientID: client, UserID: uuid.New()} }

// The same key of two users of one client is two keys, also when all claim it at once, and after one of them was freed.
func TestIdempotencyKeyOfTwoUsers(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	client := uuid.New()
	first, second, third := callerOf(client), callerOf(client), callerOf(client)
	lease := h.lease(t, first, "k")
	other, answer, err := h.Idempotency.Claim(t.Context(), second, "k", anotherRequest)
	if other == nil || answer != nil || err != nil {
		t.Fatalf("%v, %v, %v", other, answer, err)
	}
	h.noLease(t, first, "k", oneRequest, db.ErrKeyRunning)
	h.noLease(t, second, "k", anotherRequest, db.ErrKeyRunning)
	h.noLease(t, second, "k", oneRequest, db.ErrKeyOfAnother)
	must(t, other.Keep(t.Context(), someAnswer))
	must(t, lease.Free(t.Context()))
	// The key as such is free again, and the second user still has the answer.
	if again, answer, err := h.Idempotency.Claim(t.Context(), second, "k", anotherRequest); again != nil || err != nil ||
		!reflect.DeepEqual(*answer, someAnswer) {
		t.Errorf("%v, %+v, %v", again, answer, err)
	}
	h.lease(t, third, "k")
	h.lease(t, first, "k")

	users := []db.Caller{callerOf(client), callerOf(client), callerOf(client)}
	var leases [3]atomic.Int32
	atOnce(60, func(n int) {
		switch lease, _, err := h.Idempotency.Claim(t.Context(), users[n%3], "k2", oneRequest); {
		case lease != nil:
			leases[n%3].Add(1)
		case err != db.ErrKeyRunning:
			t.Error(err)
		}
	})
	for i := range leases {
		if n := leases[i].Load(); n != 1 {
			t.Errorf("user %d has %d leases", i, n)
		}
	}
}

// A key that the release before has claimed counts for the same request, of whichever user; and that release, which
// looks for the key of the client, finds the keys of this one.
func TestIdempotencyKeyOfTheReleaseBefore(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	caller := callerOf(uuid.New())
	before := `INSERT INTO ops.idempotency_records (client_id, key, request_digest, lease_id, locked_until, code, header, body)
		VALUES ($1, $2, $3, gen_random_uuid(), now() + make_interval(secs => $4), $5, $6, $7)`
	h.exec(t, before, caller.ClientID, "running", oneRequest[:], 60, nil, nil, nil)
	h.exec(t, before, caller.ClientID, "dead", oneRequest[:], -1, nil, nil, nil)
	h.exec(t, before, caller.ClientID, "answered", oneRequest[:], -1, 201, `{"Location": ["/x"]}`, someAnswer.Body)
	h.noLease(t, caller, "running", oneRequest, db.ErrKeyRunning)
	h.lease(t, caller, "dead")
	if _, answer, err := h.Idempotency.Claim(t.Context(), caller, "answered", oneRequest); err != nil ||
		!reflect.DeepEqual(*answer, someAnswer) {
		t.Errorf("%+v, %v", answer, err)
	}
	// Another request: that key may be another user's.
	if lease, _, err := h.Idempotency.Claim(t.Context(), caller, "answered", anotherRequest); lease == nil || err != nil {
		t.Errorf("%v, %v", lease, err)
	}
	h.lease(t, caller, "new")
	if n := value[int](t, h, `SELECT count(*) FROM ops.idempotency_records WHERE client_id = $1 AND key = 'new'`,
		caller.ClientID); n != 1 {
		t.Errorf("the release before finds %d rows", n)
	}
}

// The answer with the outcome replaces a 202, and nothing else.
func TestIdempotentAnswerAfterAccepted(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	caller := callerOf(uuid.New())
	lease := h.lease(t, caller, "k")
	accepted := db.Answer{Code: 202, Header: http.Header{"Location": {"/job"}}, Body: []byte("pending")}
	must(t, lease.Keep(t.Context(), accepted))
	must(t, lease.Free(t.Context()))
	if _, answer, err := h.Idempotency.Claim(t.Context(), caller, "k", oneRequest); err != nil ||
		!reflect.DeepEqual(*answer, accepted) {
		t.Errorf("%+v, %v", answer, err)
	}
	must(t, lease.Keep(t.Context(), someAnswer))
	if err := lease.Keep(t.Context(), accepted); err != db.ErrNotFound {
		t.Errorf("after the outcome: %v", err)
	}
	if _, answer, err := h.Idempotency.Claim(t.Context(), caller, "k", oneRequest); err != nil ||
		!reflect.DeepEqual(*answer, someAnswer) {
		t.Errorf("%+v, %v", answer, err)
	}
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	client, other := callerOf(uuid.New()), callerOf(uuid.New())
	lease := h.lease(t, client, "k")
	h.lease(t, other, "k")
	h.lease(t, client, "K")
	h.noLease(t, client, "k", oneRequest, db.ErrKeyRunning)
	h.noLease(t, client, "k", anotherRequest, db.ErrKeyOfAnother)
	if err := lease.Keep(t.Context(), someAnswer); err != nil {
		t.Fatal(err)
	}
	lease2, answer, err := h.Idempotency.Claim(t.Context(), client, "k", oneRequest)
	if lease2 != nil || err != nil || !reflect.DeepEqual(*answer, someAnswer) {
		t.Errorf("%v, %+v, %v", lease2, answer, err)
	}
	h.noLease(t, client, "k", anotherRequest, db.ErrKeyOfAnother)
	if err := lease.Free(t.Context()); err != nil { // too late
		t.Error(err)
	}
	h.noLease(t, client, "k", anotherRequest, db.ErrKeyOfAnother)

	freed := h.lease(t, client, "free")
	if err := freed.Free(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.lease(t, client, "free")
}

// A process that died does not hold its key for ever, and one that was only slow does not write over the other's
// answer.
func TestIdempotencyLeaseEnds(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	client := callerOf(uuid.New())
	slow := h.lease(t, client, "k")
	h.exec(t, `UPDATE ops.idempotency_records SET locked_until = statement_timestamp()`)
	h.noLease(t, client, "k", anotherRequest, db.ErrKeyOfAnother)
	next := h.lease(t, client, "k")
	h.noLease(t, client, "k", oneRequest, db.ErrKeyRunning)
	if err := slow.Keep(t.Context(), db.Answer{Code: 200, Header: http.Header{}, Body: []byte{}}); err != db.ErrNotFound {
		t.Errorf("the slow one: %v", err)
	}
	if err := slow.Free(t.Context()); err != nil {
		t.Error(err)
	}
	h.noLease(t, client, "k", oneRequest, db.ErrKeyRunning)
	if err := next.Keep(t.Context(), someAnswer); err != nil {
		t.Error(err)
	}
	if _, answer, err := h.Idempotency.Claim(t.Context(), client, "k", oneRequest); err != nil ||
		!reflect.DeepEqual(*answer, someAnswer) {
		t.Errorf("%v, %v", answer, err)
	}
}

func TestIdempotencyKeyIsForgottenAfterADay(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	client := callerOf(uuid.New())
	for _, key := range []string{"young", "old", "older"} {
		if err := h.lease(t, client, key).Keep(t.Context(), someAnswer); err != nil {
			t.Fatal(err)
		}
	}
	h.exec(t, `UPDATE ops.idempotency_records SET locked_until = inserted_at - interval '23 hours', inserted_at = inserted_at - interval '23 hours 59 minutes'`)
	if n, err := h.Idempotency.Forget(t.Context()); n != 0 || err != nil {
		t.Errorf("%d forgotten, %v", n, err)
	}
	h.exec(t, `UPDATE ops.idempotency_records SET inserted_at = inserted_at - interval '1 minute' WHERE key <> 'young'`)
	lease, _, err := h.Idempotency.Claim(t.Context(), client, "old", anotherRequest)
	if lease == nil || err != nil {
		t.Errorf("a day later: %v", err)
	}
	h.exec(t, `INSERT INTO ops.idempotency_records (client_id, key, request_digest, lease_id, locked_until, inserted_at)
		SELECT gen_random_uuid(), 'k', sha256('k'), gen_random_uuid(), now(), now() - interval '2 days' FROM generate_series(1, 2500)`)
	if n, err := h.Idempotency.Forget(t.Context()); n != 2501 || err != nil {
		t.Errorf("%d forgotten, %v", n, err)
	}
	if left := column[string](t, h, `SELECT key FROM ops.idempotency_records ORDER BY key`); len(left) != 2 ||
		left[0] != "old" || left[1] != "young" {
		t.Errorf("left %v", left)
	}
}

// TestIdempotencyKeyTakenOverKeepsNoOldAnswer: a day later the key belongs to another request. A repetition of this
// request is never given the answer of the first: the request is under way until its own answer is kept.
func TestIdempotencyKeyTakenOverKeepsNoOldAnswer(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for name, request := range map[string][32]byte{"another request": anotherRequest, "the same request": oneRequest} {
		caller := callerOf(uuid.New())
		must(t, h.lease(t, caller, "k").Keep(t.Context(), someAnswer))
		h.exec(t, `UPDATE ops.idempotency_records SET locked_until = inserted_at - interval '1 day',
			inserted_at = inserted_at - interval '1 day' WHERE client_id = $1`, caller.ClientID)
		lease, answer, err := h.Idempotency.Claim(t.Context(), caller, "k", request)
		if lease == nil || answer != nil || err != nil {
			t.Fatalf("%s: %v, %v, %v", name, lease, answer, err)
		}
		h.noLease(t, caller, "k", request, db.ErrKeyRunning)
		if left := value[bool](t, h, `SELECT num_nulls(code, header, body) = 3 FROM ops.idempotency_records
			WHERE client_id = $1`, caller.ClientID); !left {
			t.Errorf("%s: the old answer is still stored", name)
		}
		own := db.Answer{Code: 200, Header: http.Header{"X": {"own"}}, Body: []byte("own")}
		if err := lease.Keep(t.Context(), own); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, answer, err := h.Idempotency.Claim(t.Context(), caller, "k", request); err != nil ||
			answer == nil || !reflect.DeepEqual(*answer, own) {
			t.Errorf("%s: %+v, %v", name, answer, err)
		}
	}
}

// TestIdempotencyKeyIsNotAskedForWithoutEnd: a key that changes at each look is another request's in the end.
func TestIdempotencyKeyIsNotAskedForWithoutEnd(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.exec(t, `
		CREATE FUNCTION ops.swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
		CREATE TRIGGER swallow BEFORE INSERT ON ops.idempotency_records FOR EACH ROW EXECUTE FUNCTION ops.swallow()`)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	lease, answer, err := h.Idempotency.Claim(ctx, callerOf(uuid.New()), "k", oneRequest)
	if lease != nil || answer != nil || err != db.ErrKeyRunning {
		t.Errorf("%v, %v, %v", lease, answer, err)
	}
}

func TestIdempotencyKeyClaimedAtOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	client := callerOf(uuid.New())
	var leases atomic.Int32
	atOnce(50, func(int) {
		switch lease, _, err := h.Idempotency.Claim(t.Context(), client, "k", oneRequest); {
		case lease != nil:
			leases.Add(1)
		case err != db.ErrKeyRunning:
			t.Error(err)
		}
	})
	if leases.Load() != 1 {
		t.Errorf("%d leases", leases.Load())
	}
}
