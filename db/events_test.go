package db_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/db/sqlc"
)

// follow reads a feed to its end from a position.
func follow(t testing.TB, d *db.DB, client uuid.UUID, position int64, limit int) (events []db.Event, last int64) {
	t.Helper()
	for {
		found, next, err := d.Events.After(t.Context(), client, position, limit)
		if err != nil {
			t.Fatal(err)
		}
		if len(found) == 0 {
			if next != position {
				t.Errorf("nothing found and %d became %d", position, next)
			}
			return events, position
		}
		if len(found) > limit || next <= position {
			t.Errorf("%d found, limit %d, %d became %d", len(found), limit, position, next)
		}
		events, position = append(events, found...), next
	}
}

func entities(events []db.Event) (ids []uuid.UUID) {
	for _, e := range events {
		ids = append(ids, e.EntityID)
	}
	return ids
}

func TestEventsReachWhomTheyConcern(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	requester, stranger := newLegalEntity(), newLegalEntity()
	use, release := newUse(), newRelease()
	for _, e := range []*errand{use, release} {
		e.save(t, h)
		h.exec(t, `UPDATE medical_events.service_requests SET requester_legal_entity_id = $2 WHERE id = $1`, e.request.id,
			requester.id)
		if _, err := h.Jobs.Accept(t.Context(), e.order()); err != nil {
			t.Fatal(err)
		}
		h.run(t, db.Claim{Size: 1})
	}
	owner := newLegalEntity()
	h.save(t, owner, owner.primary())
	license, err := h.Licenses.Create(t.Context(), owner.caller(), licenseFields{
		Type: "PHARMACY_DRUGS", IssuedBy: "МОЗ", IssuedDate: today, ActiveFromDate: today,
	})
	if err != nil {
		t.Fatal(err)
	}
	for client, want := range map[uuid.UUID][]uuid.UUID{
		use.entity.id:     {use.request.id},
		release.entity.id: {release.request.id}, // held it, and holds it no longer
		requester.id:      {use.request.id, release.request.id},
		owner.id:          {license.ID},
		stranger.id:       nil,
		use.other.id:      nil,
	} {
		if events, _ := follow(t, h.DB, client, 0, 100); !slices.Equal(entities(events), want) {
			t.Errorf("told of %v, want %v", entities(events), want)
		}
	}
	events, _ := follow(t, h.DB, owner.id, 0, 100)
	if e := events[0]; e.Type != "StatusChangeEvent" || e.EntityType != "License" ||
		string(e.Properties) != `{"status": {"new_value": "active", "old_value": null}}` {
		t.Errorf("%+v", e)
	}
	if left := value[int](t, h, `SELECT count(*) FROM ops.unpublished_events`); left != 0 {
		t.Errorf("%d are left to be published", left)
	}
}

const insertEventFor = `INSERT INTO ops.events (entity_type, entity_id, properties, changed_by, legal_entity_ids)
	VALUES ('License', $1, jsonb_build_object('status', jsonb_build_object('new_value', $3::text)), gen_random_uuid(), ARRAY[$2::uuid, $2, NULL])`

// What was written first may be committed last: it comes behind what was read meanwhile, and is not missed.
func TestEventsCommittedOutOfOrder(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	client := uuid.New()
	first, second, third := uuid.New(), uuid.New(), uuid.New()
	early, undone := h.begin(t), h.begin(t)
	exec(t, early, insertEventFor, first, client, "")
	exec(t, undone, insertEventFor, uuid.New(), client, "")
	h.exec(t, insertEventFor, second, client, "")
	events, position := follow(t, h.DB, client, 0, 10)
	if !slices.Equal(entities(events), []uuid.UUID{second}) {
		t.Errorf("told of %v", entities(events))
	}
	exec(t, undone, `rollback`)
	if events, _ := follow(t, h.DB, client, position, 10); len(events) != 0 {
		t.Errorf("told of %v", entities(events))
	}
	commit(t, early)
	h.exec(t, insertEventFor, third, client, "")
	if events, _ := follow(t, h.DB, client, position, 10); !slices.Equal(entities(events), []uuid.UUID{first, third}) {
		t.Errorf("told of %v", entities(events))
	}
	// A consumer that comes back to another process gets the same, page by page.
	events, _ = follow(t, h.open(t, db.App, noon), client, 0, 1)
	if !slices.Equal(entities(events), []uuid.UUID{second, first, third}) {
		t.Errorf("told of %v", entities(events))
	}
}

// A publisher that is under way is waited for: its places come before those of the next.
func TestPublishersTakeTurns(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	client, first, second := uuid.New(), uuid.New(), uuid.New()
	tx := h.begin(t)
	exec(t, tx, `SELECT pg_advisory_xact_lock(7236108426)`)
	h.exec(t, insertEventFor, first, client, "")
	answer := started(func() []db.Event {
		events, _ := follow(t, h.DB, client, 0, 10)
		return events
	})
	h.untilWaiting(t, 1)
	h.exec(t, insertEventFor, second, client, "")
	exec(t, tx, `rollback`)
	if events := receive(t, answer); !slices.Equal(entities(events), []uuid.UUID{first, second}) {
		t.Errorf("told of %v", entities(events))
	}
}

// TestOnePublisherAtATime: what the service sends to become the publisher lets no second publisher in, of this process
// or of another, until the first one has committed. Else the second would find the events of the first under way,
// publish none, and report that all were published.
func TestOnePublisherAtATime(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	client, id := uuid.New(), uuid.New()
	first, err := h.pool(t, db.App).Begin(t.Context())
	must(t, err)
	defer first.Rollback(context.Background()) //nolint:errcheck // committed, or the test has failed
	must(t, sqlc.New(first).LockPublication(t.Context()))
	h.exec(t, insertEventFor, id, client, "")
	published := started(func() error { return h.Events.Publish(t.Context()) })
	h.untilWaiting(t, 1)
	if left := value[int](t, h, `SELECT count(*) FROM ops.unpublished_events`); left != 1 {
		t.Errorf("%d events are left to the publisher that waits", left)
	}
	must(t, first.Commit(t.Context()))
	must(t, receive(t, published))
	if events, _ := follow(t, h.DB, client, 0, 10); !slices.Equal(entities(events), []uuid.UUID{id}) {
		t.Errorf("told of %v", entities(events))
	}
}

// TestPublishTakesABatchOfTheOldest: a publication takes as many events as it was asked for, the oldest first.
func TestPublishTakesABatchOfTheOldest(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	client := uuid.New()
	ids := []uuid.UUID{uuid.New(), uuid.New(), uuid.New(), uuid.New(), uuid.New()}
	for _, id := range ids {
		h.exec(t, insertEventFor, id, client, "")
	}
	for n, want := range []int32{2, 2, 1, 0} {
		published, err := sqlc.New(h.pool(t, db.App)).PublishEvents(t.Context(), 2)
		if published.Events != want || err != nil {
			t.Errorf("publication %d took %d events, %v, want %d", n+1, published.Events, err, want)
		}
		fed := column[uuid.UUID](t, h, `SELECT e.entity_id FROM ops.event_feed f JOIN ops.events e ON e.id = f.event_id
			ORDER BY f.position`)
		if most := min(2*(n+1), len(ids)); !slices.Equal(fed, ids[:most]) {
			t.Errorf("after publication %d the feed has %v, want the first %d of %v", n+1, fed, most, ids)
		}
	}
}

// Many change a few entities, each under its lock, while many read: every reader is told of every change once, those of
// an entity in order.
func TestEventsOfAnEntityStayInOrder(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	const writers, changes, readers = 8, 15, 3
	client := uuid.New()
	rows := make([]serviceRequest, 3)
	for i := range rows {
		rows[i] = newServiceRequest()
		h.save(t, rows[i])
	}
	var writing, reading sync.WaitGroup
	for range writers {
		writing.Go(func() {
			for range changes {
				entity := rows[rand.IntN(len(rows))].id
				tx, err := h.owner.Begin(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				_, err = tx.Exec(t.Context(), `SELECT FROM medical_events.service_requests WHERE id = $1 FOR NO KEY UPDATE`, entity)
				if err == nil {
					_, err = tx.Exec(t.Context(), `INSERT INTO ops.events (entity_type, entity_id, properties, changed_by, legal_entity_ids)
						SELECT 'ServiceRequest', $1, jsonb_build_object('n', (SELECT count(*) FROM ops.events WHERE entity_id = $1)), gen_random_uuid(), ARRAY[$2::uuid]`, entity, client)
				}
				if err != nil {
					t.Error(err)
				}
				if err := tx.Commit(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	written := make(chan struct{})
	go func() { writing.Wait(); close(written) }()
	for range readers {
		reading.Go(func() {
			d := h.open(t, db.App, noon)
			var events []db.Event
			var position int64
			for last := false; ; {
				select {
				case <-written:
					last = true
				default:
				}
				var found []db.Event
				found, position = follow(t, d, client, position, 7)
				if events = append(events, found...); last {
					break
				}
			}
			seen := map[uuid.UUID]int{}
			for _, e := range events {
				if want := fmt.Sprintf(`{"n": %d}`, seen[e.EntityID]); string(e.Properties) != want {
					t.Errorf("%s, want %s", e.Properties, want)
				}
				seen[e.EntityID]++
			}
			if len(events) != writers*changes {
				t.Errorf("%d events, want %d", len(events), writers*changes)
			}
		})
	}
	reading.Wait()
}

func TestAwaitEvents(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"the same process", "another process"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			acting := h.DB
			if where == "another process" {
				acting = h.another(t)
			} else {
				announce(t, h.DB)
			}
			owner := newLegalEntity()
			h.save(t, owner, owner.primary())
			ctx, enough := patient(t)
			answer := started(func() []db.Event {
				events, _, err := h.Events.Await(ctx, owner.id, 0, 10, enough)
				if err != nil {
					t.Error(err)
				}
				return events
			})
			h.untilListening(t)
			license, err := acting.Licenses.Create(t.Context(), owner.caller(), licenseFields{
				Type: "PHARMACY_DRUGS", IssuedBy: "МОЗ", IssuedDate: today, ActiveFromDate: today,
			})
			if err != nil {
				t.Fatal(err)
			}
			if events := receive(t, answer); !slices.Equal(entities(events), []uuid.UUID{license.ID}) {
				t.Errorf("told of %v", entities(events))
			}
		})
	}
}

func TestAwaitEventsUntilEnough(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	enough, stop := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer stop()
	events, position, err := h.Events.Await(t.Context(), uuid.New(), 0, 10, enough.Done())
	if len(events) != 0 || position != 0 || err != nil {
		t.Errorf("%v, %d, %v", events, position, err)
	}
}

// TestAwaitEventsHeedsItsLimit: at the first look, and at the last one, which is taken when the time is up.
func TestAwaitEventsHeedsItsLimit(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	statements := &texts{}
	h.DB = h.openWith(t, db.Config{Tracer: statements, AsOf: func() time.Time { return noon }})
	client := uuid.New()
	ids := []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}
	ctx, _ := patient(t)
	enough := make(chan struct{})
	type page struct {
		events []db.Event
		last   int64
		err    error
	}
	await := func() page {
		events, last, err := h.Events.Await(ctx, client, 0, 2, enough)
		return page{events, last, err}
	}
	check := func(look string, p page) {
		t.Helper()
		if p.err != nil || !slices.Equal(entities(p.events), ids[:2]) {
			t.Fatalf("%s: told of %v, %v", look, entities(p.events), p.err)
		}
		if rest, _ := follow(t, h.DB, client, p.last, 10); !slices.Equal(entities(rest), ids[2:]) {
			t.Errorf("%s: %v behind the answered position", look, entities(rest))
		}
	}
	answer := started(await)
	// A look that has found nothing asks for the horizon.
	for deadline := time.Now().Add(time.Minute); statements.count("GetEventHorizon") == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not in time: the first look")
		}
	}
	tx := h.begin(t)
	for _, id := range ids {
		exec(t, tx, insertEventFor, id, client, "")
	}
	commit(t, tx) // no process announces, so nothing wakes the waiter
	close(enough)
	check("the last look", receive(t, answer))
	check("the first look", await())
}

// After a restore of an earlier state, a cursor from the lost state is refused, at once and for ever: the events that
// come after the restore get no position of a lost one. Cursors from before the restored state go on.
func TestEventsAfterARestore(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	client, other := uuid.New(), uuid.New()
	kept, lost := uuid.New(), uuid.New()
	h.exec(t, insertEventFor, kept, client, "")
	_, before := follow(t, h.DB, client, db.Beginning, 10)
	sequence := value[int64](t, h, `SELECT last_value FROM ops.event_feed_position_seq`)
	for range 3 {
		h.exec(t, insertEventFor, lost, client, "")
	}
	_, after := follow(t, h.DB, client, before, 10)
	h.exec(t, insertEventFor, uuid.New(), other, "")
	_, ofAnother := follow(t, h.DB, other, 0, 10)

	// What a restore does: the rows and the sequence are those of the earlier state.
	h.exec(t, `DELETE FROM ops.event_feed WHERE position > $1`, before)
	h.exec(t, `DELETE FROM ops.events WHERE entity_id = $1`, lost)
	h.exec(t, `SELECT setval('ops.event_feed_position_seq', $1)`, sequence)

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	refused := func(when string, client uuid.UUID, position int64) {
		t.Helper()
		if found, _, err := h.Events.After(t.Context(), client, position, 10); err != db.ErrUnknownPosition {
			t.Errorf("%s: %v, %v", when, found, err)
		}
		if found, _, err := h.Events.Await(ctx, client, position, 10, nil); err != db.ErrUnknownPosition {
			t.Errorf("%s, waiting: %v, %v", when, found, err)
		}
	}
	refused("nothing new", client, after)
	var fresh []uuid.UUID
	for range 5 {
		fresh = append(fresh, uuid.New())
		h.exec(t, insertEventFor, fresh[len(fresh)-1], client, "")
		refused("something new", client, after)
	}
	refused("of another feed", client, ofAnother)
	if events, _ := follow(t, h.DB, client, before, 10); !slices.Equal(entities(events), fresh) {
		t.Errorf("the reader from before is told of %v, want %v", entities(events), fresh)
	}
	events, _ := follow(t, h.DB, client, db.Beginning, 10)
	if !slices.Equal(entities(events), append([]uuid.UUID{kept}, fresh...)) {
		t.Errorf("from the beginning: %v", entities(events))
	}
}

// Positions grow also when the clock goes back, and from those of the release before on.
func TestPositionsGrowWithoutTheClock(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	client := uuid.New()
	future := value[int64](t, h, `SELECT setval('ops.event_feed_position_seq', (extract(epoch FROM now() + interval '1 day') * 1000000)::bigint)`)
	h.exec(t, insertEventFor, uuid.New(), client, "")
	_, first := follow(t, h.DB, client, 0, 10)
	h.exec(t, insertEventFor, uuid.New(), client, "")
	events, second := follow(t, h.DB, client, first, 10)
	if first <= future || second <= first || len(events) != 1 {
		t.Errorf("%d, %d, %d", future, first, second)
	}
}
