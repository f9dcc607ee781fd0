package db_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/reiestr/reiestr/db"
)

// held makes the next batch wait: a transaction that stays open until release is adding an equal order. Orders that
// arrive meanwhile form the batch behind it.
func (h *house) held(t *testing.T) (release func()) {
	t.Helper()
	e := newUse()
	job := e.accept(t, h)
	h.exec(t, `CREATE TABLE ops.model AS TABLE ops.jobs`)
	h.exec(t, `DELETE FROM ops.jobs WHERE id = $1`, job.ID)
	tx := h.begin(t)
	exec(t, tx, `INSERT INTO ops.jobs OVERRIDING SYSTEM VALUE TABLE ops.model`)
	first := started(func() error { _, err := h.Jobs.Accept(t.Context(), e.order()); return err })
	h.untilWaiting(t, 1)
	return func() {
		t.Helper()
		commit(t, tx)
		if err := <-first; err != nil {
			t.Error(err)
		}
	}
}

// untilJoined returns when n orders wait for the next batch.
func untilJoined(t *testing.T, group interface{ Joined() int }, n int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); group.Joined() != n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d wait for the next batch, want %d", group.Joined(), n)
		}
	}
}

func TestAcceptTogether(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	statements := &texts{}
	h.DB = h.openWith(t, db.Config{Tracer: statements, AsOf: func() time.Time { return noon }})
	// Orders of every action and with every kind of answer.
	orders := []*errand{newUse(), newUse(), newRelease(), newRelease(), newUse()}
	orders[1].request.status = "completed"
	orders[3].isMissing = true
	want := []db.Refusal{"", db.ServiceRequestInactive, "", db.ServiceRequestNotFound, ""}
	equal := *orders[4]
	orders, want = append(orders, &equal), append(want, "")
	for _, e := range orders {
		e.save(t, h)
	}
	release := h.held(t)
	statements.forget()

	jobs, errs := make([]db.Job, len(orders)), make([]error, len(orders))
	var all sync.WaitGroup
	for i, e := range orders {
		all.Go(func() { jobs[i], errs[i] = h.Jobs.Accept(t.Context(), e.order()) })
	}
	untilJoined(t, h.Jobs, len(orders))
	release()
	all.Wait()

	for i := range orders {
		if got := refusal(t, errs[i]); got != want[i] {
			t.Errorf("order %d: %q, want %q", i, got, want[i])
		}
		if want[i] != "" {
			continue
		}
		if jobs[i].Status != db.Pending || jobs[i].PatientID != orders[i].request.patient ||
			jobs[i].Action != orders[i].action {
			t.Errorf("order %d: %+v", i, jobs[i])
		}
		if stored := h.job(t, orders[i].entity.id, jobs[i].ID); !stored.InsertedAt.Equal(jobs[i].InsertedAt) ||
			stored.ServiceRequestID != orders[i].request.id {
			t.Errorf("order %d: %+v, stored %+v", i, jobs[i], stored)
		}
	}
	if jobs[4].ID != jobs[5].ID {
		t.Error("two jobs of equal orders")
	}
	if n := statements.count("EnqueueJobs"); n != 1 {
		t.Errorf("%d statements to enqueue", n)
	}
	if n := statements.count("Judge"); n != 2 {
		t.Errorf("%d statements to judge two actions", n)
	}
}

// TestAcceptBesideAFailure: an order that makes its batch fail does not make the other orders fail.
func TestAcceptBesideAFailure(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	// A value that does not fit the type of the column. No caller could send it.
	poisoned := newUse()
	poisoned.body = map[string]string{"used_by_legal_entity": "\x00"}
	poisoned.save(t, h)
	good := make([]*errand, 20)
	for i := range good {
		good[i] = newUse()
		good[i].save(t, h)
	}
	refused := newUse()
	refused.request.status = "completed"
	refused.save(t, h)
	release := h.held(t)
	errs := make([]error, len(good))
	var all sync.WaitGroup
	for i, e := range good {
		all.Go(func() { _, errs[i] = h.Jobs.Accept(t.Context(), e.order()) })
	}
	fault := started(func() error { _, err := h.Jobs.Accept(t.Context(), poisoned.order()); return err })
	rule := started(func() error { _, err := h.Jobs.Accept(t.Context(), refused.order()); return err })
	untilJoined(t, h.Jobs, len(good)+2)
	release()
	all.Wait()
	for i, err := range errs {
		if err != nil {
			t.Errorf("order %d: %v", i, err)
		}
	}
	if err := receive(t, rule); !errors.Is(err, db.ServiceRequestInactive) {
		t.Errorf("the refused order: %v", err)
	}
	if err := receive(t, fault); sqlState(err) != "22P05" {
		t.Errorf("the poisoned order: %v", err)
	}
	if n := value[int](t, h, `SELECT count(*) FROM ops.jobs WHERE service_request_id <> $1`,
		poisoned.request.id); n != len(good)+1 {
		t.Errorf("%d jobs", n)
	}
}

// TestAcceptWhoseCallerLeaves: a caller that leaves before its batch begins leaves no job behind. A caller that leaves
// while its batch is under way gets the outcome.
func TestAcceptWhoseCallerLeaves(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	early, late := newUse(), newUse()
	early.save(t, h)
	release := h.held(t)
	ctx, cancel := context.WithCancel(t.Context())
	answer := started(func() error { _, err := h.Jobs.Accept(ctx, early.order()); return err })
	untilJoined(t, h.Jobs, 1)
	cancel()
	if err := receive(t, answer); !errors.Is(err, context.Canceled) {
		t.Errorf("gone early: %v", err)
	}
	release()
	if n := value[int](t, h, `SELECT count(*) FROM ops.jobs WHERE service_request_id = $1`, early.request.id); n != 0 {
		t.Errorf("left before the batch: %d jobs", n)
	}

	late.save(t, h)
	job := late.accept(t, h)
	h.exec(t, `CREATE TABLE ops.late AS SELECT * FROM ops.jobs WHERE id = $1`, job.ID)
	h.exec(t, `DELETE FROM ops.jobs WHERE id = $1`, job.ID)
	tx := h.begin(t)
	exec(t, tx, `INSERT INTO ops.jobs OVERRIDING SYSTEM VALUE TABLE ops.late`)
	ctx, cancel = context.WithCancel(t.Context())
	outcome := started(func() uuid.UUID {
		job, err := h.Jobs.Accept(ctx, late.order())
		if err != nil {
			t.Errorf("gone late: %v", err)
		}
		return job.ID
	})
	h.untilWaiting(t, 1)
	cancel()
	exec(t, tx, "rollback")
	if id := receive(t, outcome); value[int](t, h, `SELECT count(*) FROM ops.jobs WHERE id = $1`, id) != 1 {
		t.Errorf("left during the batch: job %s was answered, but it does not exist", id)
	}
}

// texts records the statements that were sent.
type texts struct {
	mu        sync.Mutex
	sent      []string
	pipelines int
}

func (x *texts) add(sql string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.sent = append(x.sent, sql)
}

func (x *texts) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	x.add(data.SQL)
	return ctx
}
func (x *texts) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (x *texts) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.pipelines++
	return ctx
}
func (x *texts) TraceBatchQuery(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	x.add(data.SQL)
}
func (x *texts) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

func (x *texts) forget() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.sent, x.pipelines = nil, 0
}

// batches counts the pipelines that were sent.
func (x *texts) batches() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.pipelines
}

// count counts the statements of queries whose name begins with a prefix.
func (x *texts) count(name string) (n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, sql := range x.sent {
		if strings.Contains(sql, "/* "+name) {
			n++
		}
	}
	return n
}

// failingLook makes the second query for equal pending jobs fail before it is sent.
type failingLook struct{ looks atomic.Int32 }

func (f *failingLook) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	if strings.Contains(q.SQL, "/* FindPendingJobs */") && f.looks.Add(1) == 2 {
		failed, cancel := context.WithCancel(ctx)
		cancel()
		return failed
	}
	return ctx
}

func (*failingLook) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TestAcceptAnswersDurableJobs: an added job is answered whatever happens to its batch afterwards, and its order is not
// carried out again. Only the order whose equal job is not found gets the error.
func TestAcceptAnswersDurableJobs(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	pending, added := newUse(), newUse()
	pending.save(t, h)
	added.save(t, h)
	other := h.DB
	h.DB = h.openWith(t, db.Config{Tracer: &failingLook{}, AsOf: func() time.Time { return noon }})
	release := h.held(t)
	_, err := other.Jobs.Accept(t.Context(), pending.order())
	must(t, err)
	var job db.Job
	first := started(func() (err error) { job, err = h.Jobs.Accept(t.Context(), added.order()); return err })
	second := started(func() error { _, err := h.Jobs.Accept(t.Context(), pending.order()); return err })
	untilJoined(t, h.Jobs, 2)
	release()
	if err := receive(t, first); err != nil {
		t.Errorf("the added job: %v", err)
	}
	if err := receive(t, second); !errors.Is(err, context.Canceled) {
		t.Errorf("the order whose equal job was not found: %v", err)
	}
	n := value[int](t, h, `SELECT count(*) FROM ops.jobs WHERE service_request_id = $1`, added.request.id)
	if n != 1 || job.Status != db.Pending {
		t.Errorf("%d jobs, answered %+v", n, job)
	}
}
