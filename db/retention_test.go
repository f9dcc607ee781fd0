package db_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
)

const day = 24 * time.Hour

var month = db.Retention{Jobs: 30 * day, Events: 30 * day}

// endedJobs adds jobs that ended that long ago.
func (h *house) endedJobs(t testing.TB, n int, ago time.Duration) {
	t.Helper()
	h.exec(t, `INSERT INTO ops.jobs (id, action, service_request_id, patient_id, client_id, user_id, body, request_digest,
		status, refusal, inserted_at, ended_at)
		SELECT gen_random_uuid(), 'use', gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), '{}',
			sha256(n::text::bytea),
			CASE WHEN n % 2 = 0 THEN 'processed' ELSE 'failed' END, CASE WHEN n % 2 = 1 THEN 'already_used' END, now() - interval '1 year', now() - $2::interval
		FROM generate_series(1, $1::int) AS n`, n, ago)
}

// oldEvents adds events of that age for legal entities. Their entity_type has no meaning; old_value is their number.
func (h *house) oldEvents(t testing.TB, n int, ago time.Duration, clients ...*uuid.UUID) {
	t.Helper()
	h.exec(t, `INSERT INTO ops.events (entity_type, entity_id, properties, changed_by, event_time, legal_entity_ids)
		SELECT 'License', gen_random_uuid(), jsonb_build_object('status', jsonb_build_object('old_value', n::text)),
			gen_random_uuid(), now() - $2::interval, $3
		FROM generate_series(1, $1::int) AS n`, n, ago, append([]*uuid.UUID{}, clients...))
}

func (h *house) prunes(t testing.TB, want db.Pruned) {
	t.Helper()
	if got, err := h.Prune(t.Context(), month); err != nil || got != want {
		t.Errorf("%+v pruned, %v, want %+v", got, err, want)
	}
}

// batches records the calls of Observer.Pruned.
type batches struct {
	db.Observer
	mu    sync.Mutex
	sizes map[string][]int64
}

func (*batches) Transaction(ctx context.Context, _ string) (context.Context, func(int, error)) {
	return ctx, func(int, error) {}
}

func (*batches) Trace(context.Context) string { return "" }

func (b *batches) Pruned(kind string, rows int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sizes[kind] = append(b.sizes[kind], rows)
}

func TestPruneJobs(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.endedJobs(t, 2300, 30*day+time.Minute)
	h.endedJobs(t, 2, 30*day-time.Minute)
	h.exec(t, `INSERT INTO ops.jobs (id, action, service_request_id, patient_id, client_id, user_id, body, request_digest,
		inserted_at, not_before)
		SELECT gen_random_uuid(), 'use', gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), '{}',
			sha256('p'), now() - interval '9 years', now()`)
	seen := &batches{sizes: map[string][]int64{}}
	app, err := db.Open(t.Context(), db.Config{URL: h.url, TimeZone: "Europe/Kyiv", Observer: seen})
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	if n, err := app.Jobs.Prune(t.Context(), month.Jobs); n != 2300 || err != nil {
		t.Errorf("%d pruned, %v", n, err)
	}
	if !slices.Equal(seen.sizes["jobs"], []int64{1000, 1000, 300}) {
		t.Errorf("batches of %v", seen.sizes)
	}
	if left := column[string](t, h, `SELECT status FROM ops.jobs ORDER BY status`); !slices.Equal(left,
		[]string{"failed", "pending", "processed"}) {
		t.Errorf("left %v", left)
	}
	h.prunes(t, db.Pruned{})
}

// Jobs and events are kept for a day whatever the service asks for, also if its own checks are skipped.
func TestPruneKeepsADay(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	client := uuid.New()
	for _, ago := range []time.Duration{day - time.Minute, day + time.Minute} {
		h.endedJobs(t, 1, ago)
		h.oldEvents(t, 1, ago, &client)
		h.oldEvents(t, 1, ago)
	}
	if err := h.Events.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := h.Prune(t.Context(), db.Retention{Jobs: -time.Hour}); err != nil ||
		got != (db.Pruned{Jobs: 1, Events: 2}) {
		t.Errorf("%+v, %v", got, err)
	}
	app := h.pool(t, db.App)
	exec(t, app, `SELECT ops.prune_jobs('-1 year', '-infinity', 1000), ops.prune_events('-1 year', -1, 1000)`)
	if jobs, events := value[int](t, h, `SELECT count(*) FROM ops.jobs`),
		value[int](t, h, `SELECT count(*) FROM ops.events`); jobs != 1 || events != 2 {
		t.Errorf("%d jobs, %d events left", jobs, events)
	}
}

// An event that is in no feed yet stays. An event that concerns no legal entity will never be in a feed, and is
// removed.
func TestPruneEvents(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	client, other, quiet := uuid.New(), uuid.New(), uuid.New()
	h.oldEvents(t, 3, 31*day, &client, &other, nil, &client)
	h.prunes(t, db.Pruned{})
	if events, _ := follow(t, h.DB, client, 0, 2); len(events) != 3 {
		t.Errorf("told of %d", len(events))
	}
	h.oldEvents(t, 2, 31*day, nil, nil)
	h.oldEvents(t, 2, 31*day)
	h.oldEvents(t, 1, 31*day, &other)
	h.oldEvents(t, 2, 29*day, &client)
	h.oldEvents(t, 1, 29*day)
	if err := h.Events.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.prunes(t, db.Pruned{Events: 8})
	if left := value[int](t, h, `SELECT count(*) FROM ops.events`); left != 3 {
		t.Errorf("%d events left", left)
	}
	if strays := value[int](t, h, `SELECT count(*) FROM ops.event_feed f WHERE NOT EXISTS (SELECT FROM ops.events e WHERE e.id = f.event_id)`); strays != 0 {
		t.Errorf("%d places of removed events", strays)
	}
	horizon := func(legalEntity uuid.UUID) int64 {
		return value[int64](t, h, `SELECT coalesce(max(position), 0) FROM ops.event_horizons WHERE legal_entity_id = $1`,
			legalEntity)
	}
	newest := value[int64](t, h, `SELECT max(position) FROM ops.event_feed WHERE legal_entity_id = $1`, client)
	for _, test := range []struct {
		name           string
		client         uuid.UUID
		position, last int64
		found          int
		err            error
	}{
		{"from the first position", client, 0, 0, 0, db.ErrEventsRemoved},
		{"before the horizon", client, horizon(client) - 1, horizon(client) - 1, 0, db.ErrEventsRemoved},
		{"before the horizon of an empty feed", other, horizon(other) - 1, horizon(other) - 1, 0, db.ErrEventsRemoved},
		{"at the horizon", client, horizon(client), newest, 2, nil},
		{"from the oldest that is kept", client, db.Beginning, newest, 2, nil},
		{"at the horizon of an empty feed", other, horizon(other), horizon(other), 0, nil},
		{"from the oldest that is kept, in an empty feed", other, db.Beginning, horizon(other), 0, nil},
		{"nothing was ever removed", quiet, 0, 0, 0, nil},
		{"no event was ever added", quiet, db.Beginning, 0, 0, nil},
	} {
		found, last, err := h.Events.After(t.Context(), test.client, test.position, 10)
		if len(found) != test.found || last != test.last || !errors.Is(err, test.err) {
			t.Errorf("%s: %d found, on from %d, %v; want %+v", test.name, len(found), last, err, test)
		}
	}
}

// Events with two places, behind an event with one place: the ends of the batches fall between the places of an event.
func TestPruneEventsInBatches(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a, b := uuid.New(), uuid.New()
	h.oldEvents(t, 1, 31*day, &a)
	h.oldEvents(t, 1500, 31*day, &a, &b)
	h.oldEvents(t, 1200, 31*day)
	if err := h.Events.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	newest := value[int64](t, h, `SELECT max(position) FROM ops.event_feed WHERE legal_entity_id = $1`, a)
	h.prunes(t, db.Pruned{Events: 2701})
	for position, want := range map[int64]error{newest - 1: db.ErrEventsRemoved, newest: nil} {
		if _, _, err := h.Events.After(t.Context(), a, position, 10); !errors.Is(err, want) {
			t.Errorf("after %d of %d: %v", position, newest, err)
		}
	}
	if left := value[int](t, h, `SELECT (SELECT count(*) FROM ops.events) + (SELECT count(*) FROM ops.event_feed)`); left != 0 {
		t.Errorf("%d rows left", left)
	}
}

// TestPruneRemovesTheOldestFirst: a batch has the oldest rows, wherever they lie in the table. So a removal that is
// interrupted keeps what is needed longest.
func TestPruneRemovesTheOldestFirst(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, ago := range []time.Duration{33 * day, 32 * day, 35 * day, 31 * day, 34 * day} {
		h.endedJobs(t, 1, ago)
		h.oldEvents(t, 1, ago)
	}
	h.exec(t, `ANALYZE ops.jobs, ops.events`)
	for n := range 4 {
		exec(t, h.pool(t, db.App), `SELECT ops.prune_jobs('30 days', '-infinity', 1), ops.prune_events('30 days', -1, 1)`)
		for name, oldest := range map[string]string{
			"jobs":   `SELECT count(*) FROM ops.jobs WHERE ended_at < now() - $1::interval`,
			"events": `SELECT count(*) FROM ops.events WHERE event_time < now() - $1::interval`,
		} {
			if left := value[int](t, h, oldest, time.Duration(35-n)*day-time.Hour); left != 0 {
				t.Errorf("after %d batches the oldest of the %s is left", n+1, name)
			}
		}
	}
}

func TestPruneLeavesLockedRows(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	client := uuid.New()
	h.endedJobs(t, 3, 31*day)
	h.oldEvents(t, 3, 31*day, &client)
	h.oldEvents(t, 2, 31*day)
	if err := h.Events.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	tx := h.begin(t)
	exec(t, tx, `SELECT FROM ops.jobs ORDER BY ended_at LIMIT 1 FOR SHARE`)
	exec(t, tx, `SELECT FROM ops.events e WHERE e.id = (SELECT event_id FROM ops.event_feed ORDER BY position LIMIT 1)
		FOR SHARE`)
	exec(t, tx, `SELECT FROM ops.events e WHERE e.legal_entity_ids = '{}' LIMIT 1 FOR SHARE`)
	h.prunes(t, db.Pruned{Jobs: 2, Events: 3})
	if places := value[int](t, h, `SELECT count(*) FROM ops.event_feed`); places != 1 {
		t.Errorf("%d places left", places)
	}
	exec(t, tx, `rollback`)
	h.prunes(t, db.Pruned{Jobs: 1, Events: 2})
}

// TestHorizonNeverGoesBack: an older event that is removed after newer ones, because another transaction held it,
// leaves the horizon where it is. Else a reader behind the horizon would miss the newer events without an error.
func TestHorizonNeverGoesBack(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	client := uuid.New()
	h.oldEvents(t, 3, 31*day, &client)
	must(t, h.Events.Publish(t.Context()))
	positions := column[int64](t, h, `SELECT position FROM ops.event_feed ORDER BY position`)
	tx := h.begin(t)
	exec(t, tx, `SELECT FROM ops.events e WHERE e.id = (SELECT event_id FROM ops.event_feed ORDER BY position LIMIT 1)
		FOR SHARE`)
	h.prunes(t, db.Pruned{Events: 2})
	exec(t, tx, `rollback`)
	h.prunes(t, db.Pruned{Events: 1})
	if horizon := value[int64](t, h, `SELECT position FROM ops.event_horizons`); horizon != positions[2] {
		t.Errorf("the horizon is %d; removed were %v", horizon, positions)
	}
	if _, _, err := h.Events.After(t.Context(), client, positions[0], 10); !errors.Is(err, db.ErrEventsRemoved) {
		t.Errorf("a reader that has missed two events: %v", err)
	}
}

// TestHorizonsAreLockedInOrder: while a removal waits for the horizon of one legal entity, it holds none that comes
// later in the order. So two removals never wait for each other.
func TestHorizonsAreLockedInOrder(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	clients := make([]*uuid.UUID, 40)
	for i := range clients {
		clients[i] = new(uuid.New())
	}
	prepare := func() {
		h.oldEvents(t, 1, 31*day, clients...)
		must(t, h.Events.Publish(t.Context()))
	}
	prepare()
	h.prunes(t, db.Pruned{Events: 1}) // each legal entity has a horizon now
	prepare()
	ids := column[uuid.UUID](t, h, `SELECT legal_entity_id FROM ops.event_horizons ORDER BY legal_entity_id`)
	middle := len(ids) / 2
	tx := h.begin(t)
	exec(t, tx, `SELECT FROM ops.event_horizons WHERE legal_entity_id = $1 FOR UPDATE`, ids[middle])
	pruned := started(func() error { _, err := h.Prune(t.Context(), month); return err })
	h.untilWaiting(t, 1)
	free := column[uuid.UUID](t, h, `SELECT legal_entity_id FROM ops.event_horizons ORDER BY legal_entity_id
		FOR UPDATE SKIP LOCKED`)
	if !slices.Equal(free, ids[middle+1:]) {
		t.Errorf("%d horizons are free, want the %d behind the held one", len(free), len(ids)-middle-1)
	}
	exec(t, tx, `rollback`)
	must(t, receive(t, pruned))
}

func TestPruneAtOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a, b := uuid.New(), uuid.New()
	h.endedJobs(t, 3500, 31*day)
	h.oldEvents(t, 1200, 31*day, &a, &b)
	h.oldEvents(t, 1200, 31*day, &b, &a)
	h.oldEvents(t, 1500, 31*day)
	h.oldEvents(t, 5, day, &a)
	if err := h.Events.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	var jobs, events atomic.Int64
	atOnce(6, func(int) {
		p, err := h.Prune(t.Context(), month)
		if err != nil {
			t.Error(err)
		}
		jobs.Add(p.Jobs)
		events.Add(p.Events)
	})
	// The rows that one run had locked, the others have left to it.
	if jobs.Load() != 3500 || events.Load() != 3900 {
		t.Errorf("%d jobs, %d events", jobs.Load(), events.Load())
	}
	if left := value[int](t, h, `SELECT count(*) FROM ops.events`); left != 5 {
		t.Errorf("%d events left", left)
	}
}

// A reader that is overtaken by the removal gets an error: no reader ever skips an event unnoticed.
func TestPruneTellsReadersThatItOvertakes(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	client := uuid.New()
	h.oldEvents(t, 3000, 31*day, &client)
	if err := h.Events.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	begun := make(chan struct{}, 4)
	for range cap(begun) {
		reading.Go(func() {
			var position int64
			for next := 1; ; {
				found, last, err := h.Events.After(t.Context(), client, position, 5)
				if next == 1 {
					begun <- struct{}{}
				}
				switch {
				case errors.Is(err, db.ErrEventsRemoved):
					return
				case err != nil || len(found) == 0:
					if next != 3001 { // else it has read all before the removal
						t.Errorf("%d read, then none, %v", next-1, err)
					}
					return
				}
				for _, e := range found {
					if !strings.Contains(string(e.Properties), strconv.Quote(strconv.Itoa(next))) {
						t.Errorf("%s, not number %d", e.Properties, next)
						return
					}
					next++
				}
				position = last
			}
		})
	}
	for range cap(begun) {
		receive(t, begun)
	}
	h.prunes(t, db.Pruned{Events: 3000})
	reading.Wait()
}
