package db_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/reiestr/reiestr/db"
)

// another opens the database as another process does. This process announces its news.
func (h *house) another(t testing.TB) *db.DB {
	t.Helper()
	d := h.open(t, db.App, noon)
	announce(t, d)
	return d
}

// announce runs DB.Announce until the end of the test.
func announce(t testing.TB, d *db.DB) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		d.Announce(ctx, func(err error) { t.Error(err) })
		close(ended)
	}()
	t.Cleanup(func() { stop(); receive(t, ended) })
}

const listening = `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
	AND query ILIKE 'LISTEN "reiestr_news"'`

// untilListening returns when the waiting process listens for notifications.
func (h *house) untilListening(t testing.TB) {
	t.Helper()
	login := *h
	login.owner = h.pool(t, "none") // the login, since a role does not see the statements of other roles
	login.until(t, "a session listens", `SELECT (`+listening+`) = 1`)
	login.owner.Close()
}

// patient is far longer than anything in these tests takes.
func patient(t testing.TB) (context.Context, <-chan struct{}) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx, nil
}

type awaited struct {
	job db.Job
	err error
}

func await(t testing.TB, d *db.DB, e *errand, job db.Job) <-chan awaited {
	ctx, enough := patient(t)
	return started(func() awaited {
		got, err := d.Jobs.Await(ctx, e.entity.id, job.ID, enough)
		return awaited{got, err}
	})
}

// TestNewsOfManyArrive: the news of a publication that concerns 500 legal entities, some 18 kB, reach other processes.
// A notification of PostgreSQL has less than 8 kB.
func TestNewsOfManyArrive(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	announce(t, h.DB)
	listener, err := h.owner.Acquire(t.Context())
	must(t, err)
	defer listener.Release()
	exec(t, listener.Conn(), `LISTEN reiestr_news`)
	const n = 500
	h.exec(t, `INSERT INTO ops.events (entity_type, entity_id, properties, changed_by, legal_entity_ids)
		SELECT 'License', gen_random_uuid(), '{"status": {}}', gen_random_uuid(), array_agg(gen_random_uuid())
		FROM generate_series(1, $1::int)`, n)
	must(t, h.Events.Publish(t.Context()))
	ctx, _ := patient(t)
	told := map[string]bool{}
	for len(told) < n {
		notification, err := listener.Conn().WaitForNotification(ctx)
		if err != nil {
			t.Fatalf("%d of %d have arrived: %v", len(told), n, err)
		}
		for id := range strings.FieldsSeq(notification.Payload) {
			told[id] = true
		}
	}
}

func TestAwaitTheEndInTheSameProcess(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]db.Job{
		"processed": {Status: db.Processed},
		"refused":   {Status: db.Failed, Refusal: db.ServiceRequestNotFound},
		"given up":  {Status: db.Failed, Refusal: db.InternalError},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			e := newUse()
			answer := await(t, h.DB, e, e.accept(t, h))
			h.untilListening(t)
			ends[name](t, h, e) // an equal order is answered the same job
			if got := receive(t, answer); got.err != nil || got.job.Status != want.Status || got.job.Refusal != want.Refusal {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestAwaitTheEndInAnotherProcess(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	other := h.another(t)
	e := newUse()
	answer := await(t, h.DB, e, e.accept(t, h))
	h.untilListening(t)
	if _, err := other.Jobs.Run(t.Context(), db.Claim{Size: 1}); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, answer); got.err != nil || got.job.Status != db.Processed {
		t.Errorf("%+v", got)
	}
}

// TestAwaitLooksOnceMoreWhenTheTimeIsUp: the end is not notified. A request whose time is up answers the end all the
// same.
func TestAwaitLooksOnceMoreWhenTheTimeIsUp(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	silent := h.open(t, db.App, noon)
	e := newUse()
	job := e.accept(t, h)
	ctx, _ := patient(t)
	enough := make(chan struct{})
	answer := started(func() awaited {
		got, err := h.Jobs.Await(ctx, e.entity.id, job.ID, enough)
		return awaited{got, err}
	})
	h.untilListening(t)
	_, err := silent.Jobs.Run(t.Context(), db.Claim{Size: 1})
	must(t, err)
	close(enough)
	if got := receive(t, answer); got.err != nil || got.job.Status != db.Processed {
		t.Errorf("%+v", got)
	}
}

// The end is not notified, and the listening connection is cut: the query that backs up the notifications finds the
// end.
func TestAwaitWithALostListener(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	silent := h.open(t, db.App, noon)
	e := newUse()
	answer := await(t, h.DB, e, e.accept(t, h))
	h.untilListening(t)
	if _, err := silent.Jobs.Run(t.Context(), db.Claim{Size: 1}); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-answer:
		t.Fatalf("woken without a notification: %+v", got)
	default:
	}
	exec(t, h.pool(t, "none"), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()
		AND query ILIKE 'LISTEN "reiestr_news"'`)
	if got := receive(t, answer); got.err != nil || got.job.Status != db.Processed {
		t.Errorf("%+v", got)
	}
}

func TestAwaitUntilEnough(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	e := newUse()
	job := e.accept(t, h)
	enough, stop := context.WithCancel(t.Context())
	answer := started(func() awaited {
		got, err := h.Jobs.Await(t.Context(), e.entity.id, job.ID, enough.Done())
		return awaited{got, err}
	})
	h.untilListening(t)
	stop()
	if got := receive(t, answer); got.err != nil || got.job.Status != db.Pending {
		t.Errorf("%+v", got)
	}
	if _, err := h.Jobs.Await(t.Context(), e.other.id, job.ID, nil); err != db.ErrNotFound {
		t.Errorf("another client: %v", err)
	}
}

// Two hundred callers wait with a pool of four connections. They hold none of these, and one more connection listens
// for all.
func TestAwaitByManyOnASmallPool(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	small, err := db.Open(t.Context(), db.Config{URL: h.url, TimeZone: "Europe/Kyiv",
		AsOf: func() time.Time { return noon }, MaxConns: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(small.Close)
	var answers []<-chan awaited
	for range 10 {
		e := newUse()
		job := e.accept(t, h)
		for range 20 {
			answers = append(answers, await(t, small, e, job))
		}
	}
	h.untilListening(t)
	if _, err := small.AllowedCodes(t.Context(), db.LicenseTypeUnknown); err != nil {
		t.Errorf("no connection is left for others: %v", err)
	}
	other := h.another(t)
	for taken := 0; taken < 10; {
		ids, err := other.Jobs.Run(t.Context(), db.Claim{Size: 50})
		if err != nil {
			t.Fatal(err)
		}
		taken += len(ids)
	}
	for _, answer := range answers {
		if got := receive(t, answer); got.err != nil || got.job.Status != db.Processed {
			t.Fatalf("%+v", got)
		}
	}
}

// Not parallel, because goroutines of other tests would look like leaks.
func TestAwaitLeavesNothingBehind(t *testing.T) {
	h := newHouse(t)
	e := newUse()
	job := e.accept(t, h)
	before := goleak.IgnoreCurrent()
	d, err := db.Open(t.Context(), db.Config{URL: h.url, TimeZone: "Europe/Kyiv"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, gone := context.WithCancel(t.Context())
	answer := started(func() awaited {
		got, err := d.Jobs.Await(ctx, e.entity.id, job.ID, nil)
		return awaited{got, err}
	})
	h.untilListening(t)
	gone()
	if got := receive(t, answer); !errors.Is(got.err, context.Canceled) {
		t.Errorf("%+v", got)
	}
	d.Close()
	h.owner.Reset() // ends the goroutines of its connections
	goleak.VerifyNone(t, before)
}

func TestEstimate(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var jobs []db.Job
	var errands []*errand
	for range 3 {
		e := newUse()
		errands, jobs = append(errands, e), append(jobs, e.accept(t, h))
	}
	// eta is the estimate for the third job in a process that has not measured yet, in seconds from its acceptance.
	eta := func() float64 {
		t.Helper()
		got, err := h.open(t, db.App, noon).Jobs.Get(t.Context(), errands[2].entity.id, jobs[2].ID)
		if err != nil {
			t.Fatal(err)
		}
		return got.ETA.Sub(jobs[2].InsertedAt).Seconds()
	}
	near := func(got, want float64) {
		t.Helper()
		if got < want-1 || got > want+30 { // the test takes some time itself
			t.Errorf("expected after %.1f s, want %.0f", got, want)
		}
	}
	near(eta(), 0)
	for i, took := range []int{100, 300} { // the mean is 200
		h.exec(t, `UPDATE ops.jobs SET status = 'processed', ended_at = inserted_at + make_interval(secs => $2)
			WHERE id = $1`, jobs[i].ID, took)
	}
	near(eta(), 200)
	// The queue stands still: the age of its oldest job counts more than the jobs before.
	stuck := newUse()
	h.exec(t, `UPDATE ops.jobs SET inserted_at = inserted_at - interval '900 seconds' WHERE id = $1`,
		stuck.accept(t, h).ID)
	h.exec(t, `UPDATE ops.jobs SET attempts = 1, not_before = inserted_at WHERE id = $1`, jobs[2].ID)
	near(eta(), 900)
	// A job that failed before does not count for other jobs.
	h.exec(t, `UPDATE ops.jobs SET attempts = 1, not_before = inserted_at WHERE status = 'pending'`)
	near(eta(), 200)
	// The estimate of an ended job is its end.
	got, err := h.Jobs.Get(t.Context(), errands[1].entity.id, jobs[1].ID)
	if err != nil || got.ETA.Sub(got.InsertedAt) != 300*time.Second {
		t.Errorf("%+v, %v", got, err)
	}
}
