package db_test

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/internal/dev/testdb"
)

// busy leaves one connection for reads, which stays busy until release: its query waits for a locked table.
func (h *house) busy(t *testing.T) (statements *texts, release func()) {
	t.Helper()
	statements = &texts{}
	h.DB = h.openWith(t, db.Config{Tracer: statements, MaxConns: 2, AsOf: func() time.Time { return noon }})
	tx := h.begin(t)
	exec(t, tx, `LOCK TABLE ops.api_keys IN ACCESS EXCLUSIVE MODE`)
	first := started(func() error { _, err := h.Access.KnowsAPIKey(t.Context(), "key"); return err })
	h.untilWaiting(t, 1)
	statements.forget()
	return statements, func() {
		t.Helper()
		commit(t, tx)
		if err := <-first; err != nil {
			t.Error(err)
		}
	}
}

// reading is a read, with its answer when it runs alone.
type reading struct {
	name string
	do   func(context.Context) (any, error)
	want any
	err  error
}

// readings are of every kind that shares round trips: one row, no row, many rows, an error.
func readings(t *testing.T, h *house) []reading {
	t.Helper()
	entity := newLegalEntity()
	h.save(t, entity, entity.primary())
	s := newServiceRequest().usedBy(entity)
	h.save(t, s)
	job, err := h.Jobs.Accept(t.Context(), db.Order{Action: db.Release, ServiceRequestID: s.id, Caller: entity.caller(),
		Body: db.ReleaseBody{}})
	must(t, err)
	_, err = h.Jobs.Run(t.Context(), db.Claim{Size: 1})
	must(t, err)
	requisition := value[string](t, h, `SELECT requisition FROM medical_events.service_requests WHERE id = $1`, s.id)
	page := db.Page{Number: 1, Size: 5}
	all := []reading{
		{name: "job", do: func(ctx context.Context) (any, error) { return h.Jobs.Get(ctx, entity.id, job.ID) }},
		{name: "another's job", do: func(ctx context.Context) (any, error) { return h.Jobs.Get(ctx, uuid.New(), job.ID) }},
		{name: "service request", do: func(ctx context.Context) (any, error) {
			return h.ServiceRequests.Get(ctx, s.patient,
				s.id)
		}},
		{name: "no service request", do: func(ctx context.Context) (any, error) {
			return h.ServiceRequests.Get(ctx, s.patient,
				uuid.New())
		}},
		{name: "requisition", do: func(ctx context.Context) (any, error) {
			return h.ServiceRequests.ByRequisition(ctx, requisition, "active", page)
		}},
		{name: "patient", do: func(ctx context.Context) (any, error) {
			return h.ServiceRequests.OfPatient(ctx, s.patient, db.ServiceRequestFilter{}, page)
		}},
		{name: "licenses", do: func(ctx context.Context) (any, error) {
			return h.Licenses.List(ctx, entity.id, db.LicenseFilter{}, page)
		}},
		{name: "no licenses", do: func(ctx context.Context) (any, error) {
			return h.Licenses.List(ctx, uuid.New(), db.LicenseFilter{}, page)
		}},
		{name: "unknown token", do: func(ctx context.Context) (any, error) { return h.Access.Check(ctx, "token", "key") }},
	}
	for i := range all {
		all[i].want, all[i].err = all[i].do(t.Context())
	}
	return all
}

func (r reading) check(t *testing.T, got any, err error) {
	t.Helper()
	if !reflect.DeepEqual(got, r.want) || !errors.Is(err, r.err) {
		t.Errorf("%s: %+v, %v; by itself %+v, %v", r.name, got, err, r.want, r.err)
	}
}

func TestReadsShareARoundTrip(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	all := readings(t, h)
	statements, release := h.busy(t)
	const times = 5
	var group sync.WaitGroup
	for range times {
		for _, r := range all {
			group.Go(func() {
				got, err := r.do(t.Context())
				r.check(t, got, err)
			})
		}
	}
	untilJoined(t, h.DB, times*len(all))
	release()
	group.Wait()
	if n := statements.batches(); n != 1 {
		t.Errorf("%d pipelines", n)
	}
	if n := statements.count("GetJob"); n != 2*times {
		t.Errorf("%d queries for jobs", n)
	}
}

// TestReadBesideAFailure: a query that fails does not make the other queries fail.
func TestReadBesideAFailure(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	all := readings(t, h)
	_, release := h.busy(t)
	h.exec(t, `REVOKE SELECT ON prm.licenses FROM reiestr_app`)
	var group sync.WaitGroup
	for range 5 {
		for _, r := range all {
			group.Go(func() {
				got, err := r.do(t.Context())
				if r.name == "licenses" || r.name == "no licenses" {
					if sqlState(err) != "42501" {
						t.Errorf("%s: %v", r.name, err)
					}
					return
				}
				r.check(t, got, err)
			})
		}
	}
	untilJoined(t, h.DB, 5*len(all))
	release()
	group.Wait()
}

// TestReadWhoseCallerLeaves: a caller that leaves while it waits for a connection waits no longer.
func TestReadWhoseCallerLeaves(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	statements, release := h.busy(t)
	ctx, cancel := context.WithCancel(t.Context())
	answer := started(func() error { _, err := h.Jobs.Get(ctx, uuid.New(), uuid.New()); return err })
	untilJoined(t, h.DB, 1)
	cancel()
	if err := receive(t, answer); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	release()
	if n := statements.count("GetJob"); n != 0 {
		t.Errorf("%d queries for a caller that has left", n)
	}
}

// outcomes receives how queries end.
type outcomes chan error

func (outcomes) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

func (o outcomes) TraceQueryEnd(_ context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	select {
	case o <- data.Err:
	default:
	}
}

// TestReadWithoutCallersIsCancelled: a query gives its connection back when all its callers have left.
func TestReadWithoutCallersIsCancelled(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ended := make(outcomes, 1)
	h.DB = h.openWith(t, db.Config{Tracer: ended, MaxConns: 2, AsOf: func() time.Time { return noon }})
	tx := h.begin(t)
	exec(t, tx, `LOCK TABLE ops.api_keys IN ACCESS EXCLUSIVE MODE`)
	ctx, cancel := context.WithCancel(t.Context())
	answer := started(func() error { _, err := h.Access.KnowsAPIKey(ctx, "key"); return err })
	h.untilWaiting(t, 1)
	cancel()
	if err := receive(t, answer); !errors.Is(err, context.Canceled) {
		t.Errorf("the caller that left got %v", err)
	}
	if err := receive(t, ended); !errors.Is(err, context.Canceled) {
		t.Errorf("the query ended with %v", err)
	}
	if _, err := h.Jobs.Get(t.Context(), uuid.New(), uuid.New()); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("the next query: %v", err)
	}
	commit(t, tx)
}

// TestReadsOfASickDatabase: when the database ends a pipeline (here by a time-out), its queries are not asked again.
func TestReadsOfASickDatabase(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	statements, release := h.busy(t)
	tx := h.begin(t)
	exec(t, tx, `LOCK TABLE ops.jobs IN ACCESS EXCLUSIVE MODE`)
	const n = 20
	answers := make(chan error, n)
	for range n {
		go func() {
			_, err := h.Jobs.Get(t.Context(), uuid.New(), uuid.New())
			answers <- err
		}()
	}
	untilJoined(t, h.DB, n)
	release()
	h.untilWaiting(t, 1)
	login, err := testdb.Connect(t.Context(), h.url)
	must(t, err)
	t.Cleanup(func() { login.Close(context.Background()) })
	exec(t, login, `SELECT pg_cancel_backend(pid) FROM pg_stat_activity
		WHERE datname = current_database() AND wait_event_type = 'Lock'`)
	for range n {
		if err := receive(t, answers); sqlState(err) != "57014" || !db.Unavailable(err) {
			t.Errorf("%v", err)
		}
	}
	if batches, alone := statements.batches(), statements.count("GetJob"); batches != 1 || alone > 1 {
		t.Errorf("%d pipelines, and %d queries asked again", batches, alone)
	}
	commit(t, tx)
}
