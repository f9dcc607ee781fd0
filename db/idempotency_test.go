package db_test

import (
	"crypto/sha256"
	"errors"
	"net/http"
	"reflect"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
)

var (
	oneRequest     = sha256.Sum256([]byte("one"))
	anotherRequest = sha256.Sum256([]byte("another"))
	someAnswer     = db.Answer{Code: 201, Header: http.Header{"Location": {"/x"}}, Body: []byte("{\"a\": \"\\u0000\"}\n")}
)

func (h *house) lease(t testing.TB, client uuid.UUID, key string) *db.IdempotencyLease {
	t.Helper()
	lease, answer, err := h.Idempotency.Claim(t.Context(), client, key, oneRequest)
	if lease == nil || answer != nil || err != nil {
		t.Fatalf("%v, %v, %v", lease, answer, err)
	}
	return lease
}

func (h *house) noLease(t testing.TB, client uuid.UUID, key string, request [32]byte, want error) {
	t.Helper()
	if lease, answer, err := h.Idempotency.Claim(t.Context(), client, key, request); lease != nil || answer != nil || !errors.Is(err, want) {
		t.Errorf("%v, %v, %v; want %v", lease, answer, err, want)
	}
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	client, other := uuid.New(), uuid.New()
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

// A process that died does not hold its key for ever, and one that was only slow does not write over the other's answer.
func TestIdempotencyLeaseEnds(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	client := uuid.New()
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
	if _, answer, err := h.Idempotency.Claim(t.Context(), client, "k", oneRequest); err != nil || !reflect.DeepEqual(*answer, someAnswer) {
		t.Errorf("%v, %v", answer, err)
	}
}

func TestIdempotencyKeyIsForgottenAfterADay(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	client := uuid.New()
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
	if left := column[string](t, h, `SELECT key FROM ops.idempotency_records ORDER BY key`); len(left) != 2 || left[0] != "old" || left[1] != "young" {
		t.Errorf("left %v", left)
	}
}

func TestIdempotencyKeyClaimedAtOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	client := uuid.New()
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
