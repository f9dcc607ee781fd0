package db_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/db/sqlc"
)

// by is the same errand for another legal entity.
func (e *errand) by(entity legalEntity) *errand {
	other := *e
	other.entity, other.user = entity, uuid.New()
	other.employee, other.division = entity.newEmployee(), entity.newDivision()
	if e.action == db.Use {
		other.body = &db.UseBody{UsedByLegalEntity: entity.id, UsedByEmployee: &other.employee.id,
			UsedByDivision: &other.division.id}
	}
	return &other
}

func TestAcceptTakesAnEqualOrderOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	body := func(e *errand) *db.UseBody { return new(*e.use()) }
	for _, test := range []struct {
		name   string
		change func(*errand)
		equal  bool
	}{
		{"nothing", func(*errand) {}, true},
		{"an equal body elsewhere in memory", func(e *errand) { e.body = body(e) }, true},
		{"another user", func(e *errand) { e.user = uuid.New() }, false},
		{"another client", func(e *errand) { *e = *e.by(newLegalEntity()) }, false},
		{"another division", func(e *errand) {
			e.division = e.entity.newDivision()
			e.body = body(e)
			e.use().UsedByDivision = &e.division.id
		}, false},
		{"no employee", func(e *errand) {
			e.body = body(e)
			e.use().UsedByEmployee = nil
		}, false},
		{"another service request", func(e *errand) {
			category := e.request.category
			e.request = newServiceRequest()
			e.request.category = category
		}, false},
		// The bodies are equal, so that the orders differ in the action only.
		{"another action", func(e *errand) {
			e.action = db.Release
			e.request = e.request.usedBy(e.entity)
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e := newUse()
			first := e.accept(t, h)
			test.change(e)
			second := e.accept(t, h)
			if equal := first.ID == second.ID; equal != test.equal {
				t.Errorf("jobs %s and %s", first.ID, second.ID)
			}
			if second.Action != e.action || second.ServiceRequestID != e.request.id || second.PatientID != e.request.patient {
				t.Errorf("the second is %+v", second)
			}
			want := map[bool]int{true: 1, false: 2}[test.equal]
			if jobs := value[int](t, h, `SELECT count(*) FROM ops.jobs WHERE service_request_id IN ($1, $2)`,
				first.ServiceRequestID, second.ServiceRequestID); jobs != want {
				t.Errorf("%d jobs", jobs)
			}
		})
	}
}

func TestAcceptAnEqualOrderAfterTheEnd(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	use := newUse()
	first := use.accept(t, h)
	h.run(t, db.Claim{Size: 1})

	_, err := h.Jobs.Accept(t.Context(), use.order())
	if got := refusal(t, err); got != db.AlreadyUsed {
		t.Errorf("used already: %q", got)
	}
	use.save(t, h) // the service request is free again
	second, err := h.Jobs.Accept(t.Context(), use.order())
	if err != nil || second.ID == first.ID {
		t.Errorf("free again: %v, %v after %v", err, second.ID, first.ID)
	}
	if ended := h.job(t, use.entity.id, first.ID); ended.Status != db.Processed {
		t.Errorf("the first is %s", ended.Status)
	}
}

func TestAcceptFiftyAtOnceMakeOneJob(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	e := newUse()
	e.save(t, h)
	const n = 50
	jobs, errs := make([]db.Job, n), make([]error, n)
	atOnce(n, func(i int) { jobs[i], errs[i] = h.Jobs.Accept(t.Context(), e.order()) })
	for i := range n {
		if errs[i] != nil || jobs[i].ID != jobs[0].ID {
			t.Errorf("job %v, error %v", jobs[i].ID, errs[i])
		}
	}
	if rows := column[uuid.UUID](t, h, `SELECT id FROM ops.jobs`); !slices.Equal(rows, []uuid.UUID{jobs[0].ID}) {
		t.Errorf("jobs %v", rows)
	}
}

// While an open transaction adds an equal order, the second order waits. It gets an answer whether the first one is
// committed or rolled back.
func TestAcceptWaitsForAnEqualOrderBeingAdded(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"commit", "rollback"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			e := newUse()
			model := e.accept(t, h)
			h.exec(t, `CREATE TABLE ops.model AS TABLE ops.jobs`)
			h.exec(t, `DELETE FROM ops.jobs`)
			tx := h.begin(t)
			exec(t, tx, `INSERT INTO ops.jobs OVERRIDING SYSTEM VALUE TABLE ops.model`)
			answer := started(func() uuid.UUID {
				job, err := h.Jobs.Accept(t.Context(), e.order())
				if err != nil {
					t.Error(err)
				}
				return job.ID
			})
			h.untilWaiting(t, 1)
			exec(t, tx, end)
			if id := receive(t, answer); (id == model.ID) != (end == "commit") {
				t.Errorf("job %s, that of the first order was %s", id, model.ID)
			}
			if jobs := value[int](t, h, `SELECT count(*) FROM ops.jobs`); jobs != 1 {
				t.Errorf("%d jobs", jobs)
			}
		})
	}
}

// TestAcceptAddsEqualOrdersInOneOrder: while an acceptance waits for an equal order that another transaction adds, it
// has added only orders that come earlier in the order of service requests. So two acceptances never wait for each
// other.
func TestAcceptAddsEqualOrdersInOneOrder(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var p sqlc.EnqueueJobsParams
	for range 9 {
		digest := sha256.Sum256([]byte("order"))
		p.Ids, p.Actions = append(p.Ids, uuid.New()), append(p.Actions, "use")
		p.ServiceRequestIds, p.PatientIds = append(p.ServiceRequestIds, uuid.New()), append(p.PatientIds, uuid.New())
		p.ClientIds, p.UserIds = append(p.ClientIds, uuid.New()), append(p.UserIds, uuid.New())
		p.Bodies, p.RequestDigests = append(p.Bodies, []byte("{}")), append(p.RequestDigests, digest[:])
		p.Places, p.TraceContexts = append(p.Places, 1), append(p.TraceContexts, "")
	}
	p.MostPending = 20
	const add = `INSERT INTO ops.jobs (id, action, service_request_id, patient_id, client_id, user_id, body, request_digest)
		VALUES (gen_random_uuid(), 'use', $1, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), '{}', sha256('order'))`
	ordered := slices.SortedFunc(slices.Values(p.ServiceRequestIds), func(a, b uuid.UUID) int {
		return bytes.Compare(a[:], b[:])
	})
	held := len(ordered) / 2
	tx := h.begin(t)
	exec(t, tx, add, ordered[held])
	accepted := started(func() error {
		_, err := sqlc.New(h.owner).EnqueueJobs(t.Context(), p)
		return err
	})
	h.untilWaiting(t, 1)
	for n, id := range ordered {
		if n == held {
			continue
		}
		other := h.begin(t)
		exec(t, other, `SET LOCAL lock_timeout = '200ms'`) // one that is free waits for nothing
		_, err := other.Exec(t.Context(), add, id)
		if isAdded := sqlState(err) == "55P03"; isAdded != (n < held) || err != nil && !isAdded {
			t.Errorf("order %d of %d, while order %d is waited for: %v", n, len(ordered), held, err)
		}
		must(t, other.Rollback(t.Context()))
	}
	must(t, tx.Rollback(t.Context()))
	must(t, receive(t, accepted))
}

func TestAcceptSignals(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	newUse().accept(t, h)
	newUse().accept(t, h)
	receive(t, h.Jobs.Added())
	select {
	case <-h.Jobs.Added():
		t.Error("two signals wait")
	default:
	}
}

func TestGetJob(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	e := newUse()
	accepted := e.accept(t, h)
	got := h.job(t, e.entity.id, accepted.ID)
	if now := time.Now().Add(-time.Minute); got.ETA.Before(now) || accepted.ETA.Before(now) {
		t.Errorf("expected at %s, %s", accepted.ETA, got.ETA)
	}
	if got.ETA, accepted.ETA = (time.Time{}), (time.Time{}); !reflect.DeepEqual(got, accepted) {
		t.Errorf("%+v, accepted %+v", got, accepted)
	}
	for name, ids := range map[string][2]uuid.UUID{
		"another client": {e.other.id, accepted.ID},
		"another job":    {e.entity.id, uuid.New()},
	} {
		if _, err := h.Jobs.Get(t.Context(), ids[0], ids[1]); err != db.ErrNotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
	h.run(t, db.Claim{Size: 1})
	ended := value[time.Time](t, h, `SELECT ended_at FROM ops.jobs`)
	if got := h.job(t, e.entity.id, accepted.ID); got.Status != db.Processed || !got.ETA.Equal(ended) {
		t.Errorf("%+v, ended at %s", got, ended)
	}
}

func TestRunWithoutJobs(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	if taken := h.run(t, db.Claim{Size: 10}); len(taken) != 0 {
		t.Errorf("taken %v", taken)
	}
}

// TestRunAfterADeadlockTakesEachJobOnce: a transaction that PostgreSQL has undone runs again, and forgets what the
// first try had taken.
func TestRunAfterADeadlockTakesEachJobOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var ids []uuid.UUID
	for range 3 {
		ids = append(ids, newUse().accept(t, h).ID)
	}
	// A sequence counts on when its transaction is undone.
	h.exec(t, `CREATE SEQUENCE ops.tries;
		CREATE FUNCTION ops.fail_once() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
		BEGIN
			IF nextval('ops.tries') = 1 THEN
				RAISE EXCEPTION 'on purpose' USING ERRCODE = '40P01';
			END IF;
			RETURN NULL;
		END $$;
		CREATE TRIGGER fails_once BEFORE UPDATE ON ops.jobs FOR EACH STATEMENT EXECUTE FUNCTION ops.fail_once()`)
	if taken := h.run(t, db.Claim{Size: 10}); !slices.Equal(taken, ids) {
		t.Errorf("taken %v, want %v", taken, ids)
	}
	if tries := value[int](t, h, `SELECT last_value FROM ops.tries`); tries != 2 {
		t.Errorf("%d tries", tries)
	}
	if ended := value[int](t, h, `SELECT count(*) FROM ops.jobs WHERE status = 'processed'`); ended != len(ids) {
		t.Errorf("%d of %d jobs are processed", ended, len(ids))
	}
}

func TestRunTwoUsesMakeOneHolder(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	one := newUse()
	two := one.by(one.other)
	two.other = one.entity
	jobs := map[*errand]uuid.UUID{}
	for _, e := range []*errand{one, two} {
		jobs[e] = e.accept(t, h).ID
	}
	if jobs[one] == jobs[two] {
		t.Fatal("one job for two legal entities")
	}
	for range 2 {
		atOnce(2, func(int) {
			if _, err := h.Jobs.Run(t.Context(), db.Claim{Size: 10}); err != nil {
				t.Error(err)
			}
		})
	}
	winner, loser := one, two // the older job wins
	if job := h.job(t, winner.entity.id, jobs[winner]); job.Status != db.Processed {
		t.Errorf("the first: %s %s", job.Status, job.Refusal)
	}
	if job := h.job(t, loser.entity.id, jobs[loser]); job.Status != db.Failed || job.Refusal != db.AlreadyUsed {
		t.Errorf("the second: %s %s", job.Status, job.Refusal)
	}
	after := winner.trace(t, h)
	if after.Request["used_by_legal_entity_id"] != winner.entity.id.String() ||
		after.Request["updated_by"] != winner.user.String() {
		t.Errorf("held by %v", after.Request)
	}
	if len(after.History) != 3 || len(after.Events) != 1 {
		t.Errorf("history %v, events %v", after.History, after.Events)
	}
}

func TestRunByManyEndsEachJobOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	const (
		each    = 50 // of service requests to use, and to release
		rivals  = 3  // orders for each
		workers = 12
	)
	var all []uuid.UUID
	entities := []legalEntity{newLegalEntity(), newLegalEntity(), newLegalEntity()}
	h.save(t, entities[0], entities[1], entities[2])
	order := func(a db.Action, s serviceRequest, c db.Caller, body any) {
		job, err := h.Jobs.Accept(t.Context(), db.Order{Action: a, ServiceRequestID: s.id, Caller: c, Body: body})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, job.ID)
	}
	for range each {
		free, held := newServiceRequest(), newServiceRequest().usedBy(entities[0])
		h.save(t, free, held)
		for i := range rivals {
			order(db.Use, free, entities[i].caller(), db.UseBody{UsedByLegalEntity: entities[i].id})
			order(db.Release, held, entities[0].caller(), db.ReleaseBody{})
		}
	}

	var mu sync.Mutex
	count := map[uuid.UUID]int{}
	atOnce(workers, func(int) {
		for t.Context().Err() == nil {
			taken, err := h.Jobs.Run(t.Context(), db.Claim{Size: 7})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			for _, id := range taken {
				count[id]++
			}
			left := len(all) - len(count)
			mu.Unlock()
			if left == 0 {
				return
			}
		}
	})

	for _, id := range all {
		if count[id] != 1 {
			t.Errorf("job %s taken %d times", id, count[id])
		}
	}
	type outcome struct {
		Action, Status, Refusal string
		Jobs                    int
	}
	rows := column[outcome](t, h, `
		SELECT (action, status, coalesce(refusal, ''), count(*)::int) FROM ops.jobs GROUP BY action, status, refusal
			ORDER BY action, status DESC`)
	if want := []outcome{
		{"release", "processed", "", each}, {"release", "failed", "processing_status_invalid", each * (rivals - 1)},
		{"use", "processed", "", each}, {"use", "failed", "already_used", each * (rivals - 1)},
	}; !reflect.DeepEqual(rows, want) {
		t.Errorf("jobs %v, want %v", rows, want)
	}
	// A use without employee adds two histories, a release adds one. Each has one event.
	if odd := value[int](t, h, `
		SELECT count(*)
		FROM medical_events.service_requests s
		JOIN ops.jobs j ON j.service_request_id = s.id AND j.status = 'processed'
		WHERE (SELECT count(*) FROM medical_events.service_request_history x WHERE x.service_request_id = s.id)
				<> CASE j.action WHEN 'use' THEN 2 ELSE 1 END
			OR (SELECT count(*) FROM ops.events e WHERE e.entity_id = s.id) <> 1
			OR s.used_by_legal_entity_id IS DISTINCT FROM CASE j.action WHEN 'use' THEN j.client_id END
			OR s.updated_by <> j.user_id`); odd != 0 {
		t.Errorf("%d service requests have another trace than the one of their winner", odd)
	}
}

func TestRunTakesJobsOfAServiceRequestOneByOneOldestFirst(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	one := newUse()
	first := one.accept(t, h)
	between := newUse().accept(t, h)
	second := one.by(one.other).accept(t, h)
	third := func() db.Job {
		e := *one
		e.user = uuid.New()
		return e.accept(t, h)
	}()
	for _, want := range [][]uuid.UUID{{first.ID, between.ID}, {second.ID}, {third.ID}, nil} {
		if taken := h.run(t, db.Claim{Size: 10}); !slices.Equal(taken, want) {
			t.Fatalf("taken %v, want %v", taken, want)
		}
	}
}

func TestRunTakesNoMoreThanItsSize(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var want []uuid.UUID
	for range 5 {
		want = append(want, newUse().accept(t, h).ID)
	}
	var taken []uuid.UUID
	for _, n := range []int{2, 2, 1, 0} {
		batch := h.run(t, db.Claim{Size: 2})
		if len(batch) != n {
			t.Errorf("%d taken, want %d", len(batch), n)
		}
		taken = append(taken, batch...)
	}
	if !slices.Equal(taken, want) {
		t.Errorf("taken %v, want %v", taken, want)
	}
}

// A job that another worker holds is passed over, and so are the younger jobs of its service request.
func TestRunSkipsJobsThatAnotherWorkerHolds(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	held := newUse()
	first := held.accept(t, h)
	second := held.by(held.other).accept(t, h)
	free := newUse().accept(t, h)
	tx := h.begin(t)
	exec(t, tx, `SELECT FROM ops.jobs WHERE id = $1 FOR NO KEY UPDATE`, first.ID)
	if taken := h.run(t, db.Claim{Size: 10}); !slices.Equal(taken, []uuid.UUID{free.ID}) {
		t.Errorf("taken %v", taken)
	}
	exec(t, tx, `rollback`)
	for _, want := range []uuid.UUID{first.ID, second.ID} {
		if taken := h.run(t, db.Claim{Size: 10}); !slices.Equal(taken, []uuid.UUID{want}) {
			t.Errorf("taken %v, want %v", taken, want)
		}
	}
}

// TestRunRepeatedSkipsJobsThatAnotherWorkerHolds: the same holds for jobs that could not be carried out before.
func TestRunRepeatedSkipsJobsThatAnotherWorkerHolds(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var ids []uuid.UUID
	for range 2 {
		ids = append(ids, newUse().accept(t, h).ID)
		_, err := h.Jobs.CountAttempt(t.Context(), ids[len(ids)-1], 0)
		must(t, err)
	}
	tx := h.begin(t)
	exec(t, tx, `SELECT FROM ops.jobs WHERE id = $1 FOR NO KEY UPDATE`, ids[0])
	if taken := h.run(t, db.Claim{Size: 10, Repeated: true}); !slices.Equal(taken, ids[1:]) {
		t.Errorf("taken %v", taken)
	}
	exec(t, tx, `rollback`)
	if taken := h.run(t, db.Claim{Size: 10, Repeated: true}); !slices.Equal(taken, ids[:1]) {
		t.Errorf("taken %v", taken)
	}
}

// TestRunGoesOnWithoutHeldServiceRequests: a job whose service request another transaction holds is passed over. It is
// not ended, no attempt is counted, and no job waits for it. When it runs, it sees the changes of the other
// transaction.
func TestRunGoesOnWithoutHeldServiceRequests(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	held, free, missing := newUse(), newUse(), newUse()
	heldID, freeID, missingID := held.accept(t, h).ID, free.accept(t, h).ID, missing.accept(t, h).ID
	behindID := held.by(held.other).accept(t, h).ID // waits for the older job of its service request
	missing.isMissing = true
	missing.save(t, h)
	tx := h.begin(t)
	exec(t, tx, `UPDATE medical_events.service_requests
		SET used_by_legal_entity_id = $2, program_processing_status = 'in_queue' WHERE id = $1`,
		held.request.id, held.other.id)
	row := `SELECT j::text FROM ops.jobs j WHERE id = $1`
	before := value[string](t, h, row, heldID)

	// A service request that does not exist cannot be held: the ladder refuses the order.
	if taken := h.run(t, db.Claim{Size: 10}); !slices.Equal(taken, []uuid.UUID{freeID, missingID}) {
		t.Errorf("taken %v", taken)
	}
	if taken := h.run(t, db.Claim{Size: 10}); len(taken) != 0 {
		t.Errorf("taken %v while the service request is held", taken)
	}
	if after := value[string](t, h, row, heldID); after != before {
		t.Errorf("the job was %s, is %s", before, after)
	}
	if got := h.job(t, missing.entity.id, missingID); got.Refusal != db.ServiceRequestNotFound {
		t.Errorf("%s %q", got.Status, got.Refusal)
	}
	commit(t, tx)
	for _, id := range []uuid.UUID{heldID, behindID} {
		if taken := h.run(t, db.Claim{Size: 10}); !slices.Equal(taken, []uuid.UUID{id}) {
			t.Errorf("taken %v, want %v", taken, id)
		}
	}
	if got := h.job(t, held.entity.id, heldID); got.Refusal != db.AlreadyUsed {
		t.Errorf("%s %q", got.Status, got.Refusal)
	}
}

// TestRunRepeatedWithoutHeldServiceRequests: the same holds for jobs that could not be carried out before.
func TestRunRepeatedWithoutHeldServiceRequests(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	held, free := newUse(), newUse()
	heldID, freeID := held.accept(t, h).ID, free.accept(t, h).ID
	for _, id := range []uuid.UUID{heldID, freeID} {
		if _, err := h.Jobs.CountAttempt(t.Context(), id, 0); err != nil {
			t.Fatal(err)
		}
	}
	tx := h.begin(t)
	exec(t, tx, `SELECT FROM medical_events.service_requests WHERE id = $1 FOR NO KEY UPDATE`, held.request.id)
	if taken := h.run(t, db.Claim{Size: 10, Repeated: true}); !slices.Equal(taken, []uuid.UUID{freeID}) {
		t.Errorf("taken %v", taken)
	}
	commit(t, tx)
	if taken := h.run(t, db.Claim{Size: 10, Repeated: true}); !slices.Equal(taken, []uuid.UUID{heldID}) {
		t.Errorf("taken %v", taken)
	}
}

func TestRunJobsThatFailedBefore(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	const (
		fresh  = false
		failed = true
	)
	over, paused, never := newUse(), newUse(), newUse()
	overID, pausedID, neverID := over.accept(t, h).ID, paused.accept(t, h).ID, never.accept(t, h).ID
	behindID := over.by(over.other).accept(t, h).ID // waits for the older job of its service request
	for id, pause := range map[uuid.UUID]time.Duration{overID: 0, pausedID: time.Hour} {
		if ended, err := h.Jobs.CountAttempt(t.Context(), id, pause); ended || err != nil {
			t.Fatalf("ended %t, %v", ended, err)
		}
	}
	for _, claim := range []struct {
		failedBefore bool
		want         []uuid.UUID
	}{
		{fresh, []uuid.UUID{neverID}},
		{fresh, nil},
		{failed, []uuid.UUID{overID}},
		{failed, nil},
		{fresh, []uuid.UUID{behindID}},
	} {
		if taken := h.run(t, db.Claim{Size: 10, Repeated: claim.failedBefore}); !slices.Equal(taken, claim.want) {
			t.Fatalf("failed before %t: taken %v, want %v", claim.failedBefore, taken, claim.want)
		}
	}
	h.exec(t, `UPDATE ops.jobs SET not_before = statement_timestamp() WHERE id = $1`, pausedID)
	if taken := h.run(t, db.Claim{Size: 10, Repeated: failed}); !slices.Equal(taken, []uuid.UUID{pausedID}) {
		t.Errorf("after the pause: taken %v", taken)
	}
	for id, e := range map[uuid.UUID]*errand{overID: over, pausedID: paused, neverID: never} {
		if job := h.job(t, e.entity.id, id); job.Status != db.Processed {
			t.Errorf("%s %s", job.Status, job.Refusal)
		}
	}
}

func TestCountAttemptEndsAJobAfterFive(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	e := newUse()
	job := e.accept(t, h)
	before := e.trace(t, h)
	for i := 1; i <= 5; i++ {
		ended, err := h.Jobs.CountAttempt(t.Context(), job.ID, 0)
		if err != nil || ended != (i == 5) {
			t.Errorf("attempt %d: ended %t, %v", i, ended, err)
		}
		if attempts := value[int](t, h, `SELECT attempts FROM ops.jobs`); attempts != i {
			t.Errorf("after attempt %d the count is %d", i, attempts)
		}
	}
	if got := h.job(t, e.entity.id, job.ID); got.Status != db.Failed || got.Refusal != db.InternalError {
		t.Errorf("%s %s", got.Status, got.Refusal)
	}
	for _, failedBefore := range []bool{false, true} {
		if taken := h.run(t, db.Claim{Size: 1, Repeated: failedBefore}); len(taken) != 0 {
			t.Errorf("taken %v", taken)
		}
	}
	if after := e.trace(t, h); !reflect.DeepEqual(after, before) {
		t.Errorf("was %v, is %v", before, after)
	}
}

// TestATroubledJobChangesNoOtherJob: what is written about one job that could not be carried out, or that has ended,
// changes no other pending job.
func TestATroubledJobChangesNoOtherJob(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	other := newUse().accept(t, h)
	row := func() string {
		return value[string](t, h, `SELECT j::text FROM ops.jobs j WHERE id = $1`, other.ID)
	}
	before := row()
	for name, write := range map[string]func(id uuid.UUID) error{
		"count an attempt": func(id uuid.UUID) error { _, err := h.Jobs.CountAttempt(t.Context(), id, 0); return err },
		"postpone":         func(id uuid.UUID) error { return h.Jobs.Postpone(t.Context(), id, time.Second, time.Minute) },
		"end": func(id uuid.UUID) error {
			_, err := sqlc.New(h.pool(t, db.App)).EndJobs(t.Context(), sqlc.EndJobsParams{
				Ids: []uuid.UUID{id}, Refusals: []string{""},
			})
			return err
		},
	} {
		must(t, write(newUse().accept(t, h).ID))
		if after := row(); after != before {
			t.Errorf("%s: the other job was %s, is %s", name, before, after)
		}
	}
}

// end brings a job to one of its final states.
var ends = map[string]func(t *testing.T, h *house, e *errand) db.Job{
	"processed": func(t *testing.T, h *house, e *errand) db.Job {
		job := e.accept(t, h)
		h.run(t, db.Claim{Size: 1})
		return job
	},
	"refused": func(t *testing.T, h *house, e *errand) db.Job {
		job := e.accept(t, h)
		h.exec(t, `DELETE FROM medical_events.service_requests`)
		h.run(t, db.Claim{Size: 1})
		return job
	},
	"given up": func(t *testing.T, h *house, e *errand) db.Job {
		job := e.accept(t, h)
		for range 5 {
			if _, err := h.Jobs.CountAttempt(t.Context(), job.ID, 0); err != nil {
				t.Fatal(err)
			}
		}
		return job
	},
}

func TestAnEndedJobStays(t *testing.T) {
	t.Parallel()
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			job := end(t, h, newUse())
			row := func() string { return value[string](t, h, `SELECT j::text FROM ops.jobs j WHERE id = $1`, job.ID) }
			before := row()

			if ended, err := h.Jobs.CountAttempt(t.Context(), job.ID, time.Minute); !ended || err != nil {
				t.Errorf("CountAttempt: ended %t, %v", ended, err)
			}
			app := h.pool(t, db.App)
			for _, change := range []string{
				`status = 'pending', refusal = NULL, ended_at = NULL`,
				`status = 'processed', refusal = NULL`,
				`status = 'failed', refusal = 'already_used'`,
				`attempts = 0`,
				`not_before = NULL`,
				`ended_at = ended_at`,
			} {
				_, err := app.Exec(t.Context(), `UPDATE ops.jobs SET `+change+` WHERE id = $1`, job.ID)
				if constraintOf(err) != "jobs_end_stays" {
					t.Errorf("%s: %v", change, err)
				}
			}
			if after := row(); after != before {
				t.Errorf("was %s, is %s", before, after)
			}
			if _, err := h.owner.Exec(t.Context(), `UPDATE ops.jobs SET status = 'processed', refusal = NULL WHERE id = $1`,
				job.ID); err != nil {
				t.Errorf("the owner could change it: %v", err)
			}
		})
	}
}

func TestRunWithAPoisonedJobLeavesAllPending(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	good, refused, poisoned := newUse(), newUse(), newUse()
	var jobs []uuid.UUID
	for _, e := range []*errand{good, refused, poisoned} {
		jobs = append(jobs, e.accept(t, h).ID)
	}
	refused.request.status = "recalled"
	refused.save(t, h)
	h.exec(t, `
		CREATE FUNCTION medical_events.poison() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN RAISE EXCEPTION 'poison' USING ERRCODE = 'data_exception'; END $$`)
	h.exec(t, `
		CREATE TRIGGER poison BEFORE INSERT ON medical_events.service_request_history
		FOR EACH ROW WHEN (NEW.service_request_id = '`+poisoned.request.id.String()+`') EXECUTE FUNCTION medical_events.poison()`)
	before := map[*errand]trace{}
	for _, e := range []*errand{good, refused, poisoned} {
		before[e] = e.trace(t, h)
	}
	row := func() []string {
		return column[string](t, h, `SELECT j::text FROM ops.jobs j ORDER BY sequence_number`)
	}
	rows := row()

	taken, err := h.Jobs.Run(t.Context(), db.Claim{Size: 10})
	if sqlState(err) != "22000" {
		t.Fatalf("error %v", err)
	}
	if !slices.Equal(taken, jobs) {
		t.Errorf("taken %v, want %v", taken, jobs)
	}
	for e, want := range before {
		if after := e.trace(t, h); !reflect.DeepEqual(after, want) {
			t.Errorf("was %v, is %v", want, after)
		}
	}
	if after := row(); !slices.Equal(after, rows) {
		t.Errorf("jobs were %v, are %v", rows, after)
	}

	// A job that was put aside no longer delays the others.
	if _, err := h.Jobs.CountAttempt(t.Context(), jobs[2], 0); err != nil {
		t.Fatal(err)
	}
	if taken := h.run(t, db.Claim{Size: 10}); !slices.Equal(taken, jobs[:2]) {
		t.Errorf("taken %v, want %v", taken, jobs[:2])
	}
	if _, err := h.Jobs.Run(t.Context(), db.Claim{Size: 1, Repeated: true}); sqlState(err) != "22000" {
		t.Errorf("alone: %v", err)
	}
	h.exec(t, `DROP TRIGGER poison ON medical_events.service_request_history`)
	if taken := h.run(t, db.Claim{Size: 1, Repeated: true}); !slices.Equal(taken, jobs[2:]) {
		t.Errorf("taken %v, want %v", taken, jobs[2:])
	}
	for i, want := range []db.JobStatus{db.Processed, db.Failed, db.Processed} {
		if got := value[string](t, h, `SELECT status FROM ops.jobs WHERE id = $1`, jobs[i]); got != string(want) {
			t.Errorf("job %d is %s", i+1, got)
		}
	}
}

// TestRunLeavesActionsThatItDoesNotKnow: a job with an action of a newer release stays pending. It delays only the
// later jobs of its service request.
func TestRunLeavesActionsThatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	unknown, other := newUse(), newUse()
	unknownID := unknown.accept(t, h).ID
	behindID := unknown.by(unknown.other).accept(t, h).ID
	otherID := other.accept(t, h).ID
	h.exec(t, `ALTER TABLE ops.jobs DROP CONSTRAINT jobs_action_known`)
	h.exec(t, `UPDATE ops.jobs SET action = 'dance' WHERE id = $1`, unknownID)
	row := `SELECT j::text FROM ops.jobs j WHERE id = $1`
	before := value[string](t, h, row, unknownID)
	if taken := h.run(t, db.Claim{Size: 10}); !slices.Equal(taken, []uuid.UUID{otherID}) {
		t.Errorf("taken %v", taken)
	}
	// The newer release carries it out.
	h.exec(t, `UPDATE ops.jobs SET attempts = 1, not_before = statement_timestamp() WHERE id = $1`, unknownID)
	for _, repeated := range []bool{false, true} {
		if taken := h.run(t, db.Claim{Size: 10, Repeated: repeated}); len(taken) != 0 {
			t.Errorf("repeated %t: taken %v", repeated, taken)
		}
	}
	h.exec(t, `UPDATE ops.jobs SET attempts = 0, not_before = NULL WHERE id = $1`, unknownID)
	if after := value[string](t, h, row, unknownID); after != before {
		t.Errorf("the job was %s, is %s", before, after)
	}
	h.exec(t, `UPDATE ops.jobs SET status = 'processed', ended_at = statement_timestamp() WHERE id = $1`, unknownID)
	if taken := h.run(t, db.Claim{Size: 10}); !slices.Equal(taken, []uuid.UUID{behindID}) {
		t.Errorf("taken %v", taken)
	}
}

// TestPostpone: a job that is put aside is no longer in the batches, and no attempt is counted. Its pause is as long as
// the time since its acceptance, within the limits.
func TestPostpone(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	const least, most = time.Second, 30 * time.Second
	for _, test := range []struct{ age, want time.Duration }{{0, least}, {10 * time.Second, 10 * time.Second},
		{time.Hour, most}} {
		e := newUse()
		id := e.accept(t, h).ID
		h.exec(t, `UPDATE ops.jobs SET inserted_at = statement_timestamp() - make_interval(secs => $2) WHERE id = $1`, id,
			test.age.Seconds())
		if err := h.Jobs.Postpone(t.Context(), id, least, most); err != nil {
			t.Fatal(err)
		}
		pause := value[float64](t, h, `SELECT extract(epoch FROM not_before - statement_timestamp())::float8 FROM ops.jobs WHERE id = $1`, id)
		if pause > test.want.Seconds()+1 || pause < test.want.Seconds()-5 {
			t.Errorf("age %s: pause of %.1f s, want %s", test.age, pause, test.want)
		}
		if attempts := value[int](t, h, `SELECT attempts FROM ops.jobs WHERE id = $1`, id); attempts != 0 {
			t.Errorf("age %s: %d attempts", test.age, attempts)
		}
		h.exec(t, `UPDATE ops.jobs SET not_before = statement_timestamp() WHERE id = $1`, id)
		if taken := h.run(t, db.Claim{Size: 10}); len(taken) != 0 {
			t.Errorf("age %s: taken in a batch", test.age)
		}
		if taken := h.run(t, db.Claim{Size: 1, Repeated: true}); !slices.Equal(taken, []uuid.UUID{id}) {
			t.Errorf("age %s: taken %v when the pause was over", test.age, taken)
		}
		row := `SELECT j::text FROM ops.jobs j WHERE id = $1`
		before := value[string](t, h, row, id)
		if err := h.Jobs.Postpone(t.Context(), id, least, most); err != nil || value[string](t, h, row, id) != before {
			t.Errorf("age %s: an ended job was put aside, %v", test.age, err)
		}
	}
}

// TestEstimateKnowsJobsThatAreRepeated: a job behind another one whose repetition is due in an hour cannot end before.
// The acceptance and later reads tell its client so. Other jobs are not affected.
func TestEstimateKnowsJobsThatAreRepeated(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	first := newUse()
	firstID := first.accept(t, h).ID
	if _, err := h.Jobs.CountAttempt(t.Context(), firstID, time.Hour); err != nil {
		t.Fatal(err)
	}
	due := value[time.Time](t, h, `SELECT not_before FROM ops.jobs WHERE id = $1`, firstID)
	second := first.by(first.other)
	behind := second.accept(t, h)
	other := newUse()
	free := other.accept(t, h)
	for name, eta := range map[string]time.Time{
		"the job that is repeated":    h.job(t, first.entity.id, firstID).ETA,
		"the next one, at acceptance": behind.ETA,
		"behind it, read":             h.job(t, second.entity.id, behind.ID).ETA,
		"an equal order, answered":    second.accept(t, h).ETA,
	} {
		if eta.Before(due) || eta.After(due.Add(time.Minute)) {
			t.Errorf("%s: expected at %s, the repetition is due at %s", name, eta, due)
		}
	}
	for name, eta := range map[string]time.Time{"at acceptance": free.ETA,
		"read": h.job(t, other.entity.id, free.ID).ETA} {
		if time.Until(eta) > time.Minute {
			t.Errorf("another service request, %s: expected at %s", name, eta)
		}
	}
}

// TestMeasureJobsPassesOverOvertakenJobs: a job that still waits after later jobs have ended waits for a reason of its
// own. It does not count for the expected time of other jobs.
func TestMeasureJobsPassesOverOvertakenJobs(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	stuck, passed := newUse(), newUse()
	stuckID := stuck.accept(t, h).ID
	passed.accept(t, h)
	h.exec(t, `UPDATE ops.jobs SET inserted_at = statement_timestamp() - interval '1 hour' WHERE id = $1`, stuckID)
	tx := h.begin(t)
	exec(t, tx, `SELECT FROM medical_events.service_requests WHERE id = $1 FOR NO KEY UPDATE`, stuck.request.id)
	h.run(t, db.Claim{Size: 10})
	if eta := newUse().accept(t, h).ETA; time.Until(eta) > time.Minute {
		t.Errorf("expected at %s", eta)
	}
	h.exec(t, `UPDATE ops.jobs SET inserted_at = statement_timestamp() - interval '2 hours' WHERE sequence_number = 3`)
	h.DB = h.open(t, db.App, noon) // a process that has not measured yet
	if eta := newUse().accept(t, h).ETA; time.Until(eta) < time.Hour {
		t.Errorf("no job has ended for two hours, but a job is expected at %s", eta)
	}
}

// TestAcceptBoundsThePendingJobsOfAClient: a client with the highest number of pending jobs on a service request gets
// no further one until one of them has ended. Equal orders are still answered, and other clients are not affected.
func TestAcceptBoundsThePendingJobsOfAClient(t *testing.T) {
	t.Parallel()
	const most = 20
	h := newHouse(t)
	e := newUse()
	e.save(t, h)
	order := func(e *errand, user uuid.UUID) (db.Job, error) {
		o := e.order()
		o.Caller.UserID = user
		return h.Jobs.Accept(t.Context(), o)
	}
	users := make([]uuid.UUID, most+1)
	var first db.Job
	for i := range users {
		users[i] = uuid.New()
		job, err := order(e, users[i])
		if i == 0 {
			first = job
		}
		var full db.TooManyPending
		switch {
		case i < most && err != nil:
			t.Fatalf("order %d: %v", i+1, err)
		case i == most && !errors.As(err, &full):
			t.Errorf("order %d: job %v, %v", i+1, job.ID, err)
		case i == most && full.Until.Before(time.Now()):
			t.Errorf("wait until %s", full.Until)
		}
	}
	if again, err := order(e, users[0]); err != nil || again.ID != first.ID {
		t.Errorf("an equal order: %v, %v", again.ID, err)
	}
	e.by(e.other).accept(t, h) // another client
	other := *e
	other.request = newServiceRequest()
	h.save(t, other.request)
	other.request.category = e.request.category
	if _, err := order(&other, uuid.New()); err != nil {
		t.Errorf("another service request: %v", err)
	}
	h.run(t, db.Claim{Size: 1})
	e.request.legalEntity, e.request.processing = nil, new("new")
	e.save(t, h) // the service request is free again
	if _, err := order(e, users[most]); err != nil {
		t.Errorf("after a job has ended: %v", err)
	}
}

// TestAcceptBoundsThePendingJobsOfABatch: the bound is exact for the orders of one statement too. Equal orders among
// them count once.
func TestAcceptBoundsThePendingJobsOfABatch(t *testing.T) {
	t.Parallel()
	const most = 20
	h := newHouse(t)
	e := newUse()
	e.save(t, h)
	release := h.held(t)
	errs := make([]error, 2*(most+10))
	users := make([]uuid.UUID, most+10)
	var all sync.WaitGroup
	for i := range errs {
		if i < len(users) {
			users[i] = uuid.New()
		}
		o := e.order()
		o.Caller.UserID = users[i%len(users)]
		all.Go(func() { _, errs[i] = h.Jobs.Accept(t.Context(), o) })
	}
	untilJoined(t, h.Jobs, len(errs))
	release()
	all.Wait()
	refused := 0
	for i, err := range errs {
		switch {
		case errors.As(err, new(db.TooManyPending)):
			refused++
		case err != nil:
			t.Errorf("order %d: %v", i, err)
		}
		if twin := errs[(i+len(users))%len(errs)]; (twin == nil) != (err == nil) {
			t.Errorf("order %d: %v, the equal order: %v", i, err, twin)
		}
	}
	if jobs := value[int](t, h, `SELECT count(*) FROM ops.jobs WHERE client_id = $1`, e.entity.id); jobs != most ||
		refused != 2*10 {
		t.Errorf("%d jobs, %d orders refused", jobs, refused)
	}
}

// TestClaimBehindManyJobsOfAServiceRequest: if a service request has many jobs, a claim reads each of them once, and
// one job in front of each. It does not read all of them again for each one.
func TestClaimBehindManyJobsOfAServiceRequest(t *testing.T) {
	t.Parallel()
	const line, others = 1000, 50
	h := newHouse(t)
	e := newUse()
	e.save(t, h)
	enqueue := `INSERT INTO ops.jobs (id, action, service_request_id, patient_id, client_id, user_id, body, request_digest)
		SELECT gen_random_uuid(), 'use', coalesce($2, gen_random_uuid()), $3, gen_random_uuid(), $3, '{}',
			sha256(uuid_send(gen_random_uuid()))
		FROM generate_series(1, $1::int)`
	h.exec(t, enqueue, line, e.request.id, e.user)
	h.exec(t, enqueue, others, nil, e.user)
	h.exec(t, `ANALYZE ops.jobs`)
	q := capture(t, call{do: func(ctx context.Context, q *sqlc.Queries) {
		q.ClaimJobs(ctx, sqlc.ClaimJobsParams{Actions: everyAction, WalkSize: 10_000, BatchSize: plansBatch})
	}})
	var explained []struct{ Plan *node }
	must(t, json.Unmarshal(value[[]byte](t, h, `EXPLAIN (ANALYZE, BUFFERS, TIMING off, FORMAT JSON) `+q.sql, q.args...),
		&explained))
	plan := explained[0].Plan
	var read float64
	for n := range plan.all() {
		if n.RelationName != "" {
			read += (n.ActualRows + n.RemovedByFilter + n.RemovedByRecheck) * n.ActualLoops
		}
	}
	if most := 2.0*line + 3*others + 100; read > most || plan.ActualRows != others+1 {
		t.Errorf("%.0f jobs claimed, %.0f rows read, more than %.0f\n%s", plan.ActualRows, read, most, plan.shape())
	}
	if buffers := plan.SharedHitBlocks + plan.SharedReadBlocks; buffers > 5*line {
		t.Errorf("%.0f buffers\n%s", buffers, plan.shape())
	}
}
