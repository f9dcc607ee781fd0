package db_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/db/sqlc"
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

// TestIdempotencyLeaseLastsAMinute: if the process dies, the same request is carried out a minute later.
func TestIdempotencyLeaseLastsAMinute(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.lease(t, callerOf(uuid.New()), "k")
	if lasts := value[time.Duration](t, h, `SELECT locked_until - inserted_at FROM ops.idempotency_records`); lasts !=
		time.Minute {
		t.Errorf("the lease lasts %v", lasts)
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

// TestIdempotencyKeySeesTheChangeItWaitedFor: the lease of a key has ended, and while a request takes the key over,
// another transaction holds it. If that transaction gives the key an answer or another lease, the request gets no
// lease.
func TestIdempotencyKeySeesTheChangeItWaitedFor(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for name, change := range map[string]string{
		"answered":   `code = 201, header = '{"Location": ["/x"]}', body = ''`,
		"taken over": `lease_id = gen_random_uuid(), locked_until = now() + interval '1 hour'`,
	} {
		t.Run(name, func(t *testing.T) {
			caller := callerOf(uuid.New())
			h.lease(t, caller, "k")
			h.exec(t, `UPDATE ops.idempotency_records SET locked_until = now() WHERE client_id = $1`, caller.ClientID)
			tx := h.begin(t)
			exec(t, tx, `UPDATE ops.idempotency_records SET `+change+` WHERE client_id = $1`, caller.ClientID)
			ended := started(func() bool {
				rows, err := sqlc.New(h.owner).ClaimIdempotencyKey(t.Context(), sqlc.ClaimIdempotencyKeyParams{
					ClientID: caller.ClientID, Key: "k", UserKey: caller.UserID.String() + " k", StandInKey: "stand-in",
					RequestDigest: oneRequest[:], LeaseID: uuid.New(), LeaseSeconds: 60, KeptSeconds: day.Seconds(),
				})
				return err == nil && len(rows) == 0
			})
			h.untilWaiting(t, 1)
			commit(t, tx)
			if !receive(t, ended) {
				t.Error("the request has got the key")
			}
		})
	}
}

// TestIdempotencyKeyThatIsBeingFreedIsAskedForAgain: a key goes away while a request waits for it. The request gets it.
func TestIdempotencyKeyThatIsBeingFreedIsAskedForAgain(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	caller := callerOf(uuid.New())
	h.lease(t, caller, "k")
	h.exec(t, `UPDATE ops.idempotency_records SET locked_until = now()`)
	tx := h.begin(t)
	exec(t, tx, `DELETE FROM ops.idempotency_records`)
	claimed := started(func() error {
		lease, _, err := h.Idempotency.Claim(t.Context(), caller, "k", oneRequest)
		if lease == nil && err == nil {
			err = db.ErrNotFound
		}
		return err
	})
	h.untilWaiting(t, 1)
	commit(t, tx)
	must(t, receive(t, claimed))
}

// TestIdempotencyLeaseActsOnItsKeyOnly: a lease is renewed, answered and freed in the row of its client and key,
// whatever stands in the rows of others, and even if they had the same lease.
func TestIdempotencyLeaseActsOnItsKeyOnly(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	caller := callerOf(uuid.New())
	for name, act := range map[string]func(key string, lease *db.IdempotencyLease) error{
		"renewed": func(key string, _ *db.IdempotencyLease) error {
			lease, _, err := h.Idempotency.Claim(t.Context(), caller, key, oneRequest)
			if lease == nil {
				t.Error("the lease is not renewed")
			}
			return err
		},
		"answered": func(_ string, lease *db.IdempotencyLease) error { return lease.Keep(t.Context(), someAnswer) },
		"freed":    func(_ string, lease *db.IdempotencyLease) error { return lease.Free(t.Context()) },
	} {
		t.Run(name, func(t *testing.T) {
			lease := h.lease(t, caller, name)
			h.lease(t, caller, name+" of the same client")
			another := callerOf(uuid.New())
			another.UserID = caller.UserID
			h.lease(t, another, name)
			h.exec(t, `UPDATE ops.idempotency_records SET lease_id = (
					SELECT lease_id FROM ops.idempotency_records WHERE client_id = $1 AND key = $2)
				WHERE key LIKE $2 || '%'`, caller.ClientID, name)
			h.exec(t, `UPDATE ops.idempotency_records SET locked_until = now()`)
			others := func() []string {
				return column[string](t, h, `SELECT r::text FROM ops.idempotency_records r
					WHERE client_id <> $1 OR key <> $2 ORDER BY client_id, key`, caller.ClientID, name)
			}
			row := func() []string {
				return column[string](t, h, `SELECT r::text FROM ops.idempotency_records r WHERE client_id = $1 AND key = $2`,
					caller.ClientID, name)
			}
			own, before := row(), others()
			must(t, act(name, lease))
			if after := others(); !slices.Equal(after, before) {
				t.Errorf("the rows of others were %v, are %v", before, after)
			}
			if after := row(); slices.Equal(after, own) {
				t.Errorf("the own row is still %v", own)
			}
		})
	}
}

// TestForgettingPassesOverHeldKeys: keys that another transaction holds stay, and nothing waits for them. A batch has
// the oldest keys, wherever they lie in the table.
func TestForgettingPassesOverHeldKeys(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, key := range []string{"3", "1", "5", "2", "4"} {
		h.exec(t, `INSERT INTO ops.idempotency_records (client_id, key, request_digest, lease_id, locked_until, inserted_at)
			VALUES (gen_random_uuid(), $1, sha256('k'), gen_random_uuid(), now(), now() - make_interval(days => 10 - $1::text::int))`,
			key)
	}
	h.exec(t, `ANALYZE ops.idempotency_records`)
	left := func() []string { return column[string](t, h, `SELECT key FROM ops.idempotency_records ORDER BY key`) }
	tx := h.begin(t)
	exec(t, tx, `SELECT FROM ops.idempotency_records WHERE key = '1' FOR SHARE`)
	forgets := h.begin(t)
	exec(t, forgets, `SET LOCAL lock_timeout = '5s'`) // it does not wait for a lock
	_, err := sqlc.New(forgets).ForgetIdempotencyKeys(t.Context(), sqlc.ForgetIdempotencyKeysParams{
		KeptSeconds: day.Seconds(), BatchSize: 2,
	})
	must(t, err)
	commit(t, forgets)
	if got := left(); !slices.Equal(got, []string{"1", "4", "5"}) {
		t.Errorf("left %v", got)
	}
	must(t, tx.Rollback(context.WithoutCancel(t.Context())))
	if n, err := h.Idempotency.Forget(t.Context()); n != 3 || err != nil {
		t.Errorf("%d forgotten, %v", n, err)
	}
}
