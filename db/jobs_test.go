package db_test

import (
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
)

// by is the same errand of another legal entity.
func (e *errand) by(entity legalEntity) *errand {
	other := *e
	other.entity, other.user = entity, uuid.New()
	other.employee, other.division = entity.newEmployee(), entity.newDivision()
	if e.action == db.Use {
		other.body = &db.UseBody{UsedByLegalEntity: entity.id, UsedByEmployee: &other.employee.id, UsedByDivision: &other.division.id}
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
		{"a programme", func(e *errand) {
			e.body = body(e)
			e.use().Program = e.request.program
		}, false},
		{"another service request", func(e *errand) {
			category := e.request.category
			e.request = newServiceRequest()
			e.request.category = category
		}, false},
		// The body stays, so that the action is all that tells the orders apart.
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
	use.save(t, h) // free again
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

// An equal order that was added by an open transaction is waited for, and then answered whether it is committed or not.
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
			if id := <-answer; (id == model.ID) != (end == "commit") {
				t.Errorf("job %s, the other's was %s", id, model.ID)
			}
			if jobs := value[int](t, h, `SELECT count(*) FROM ops.jobs`); jobs != 1 {
				t.Errorf("%d jobs", jobs)
			}
		})
	}
}

func TestAcceptSignals(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	newUse().accept(t, h)
	newUse().accept(t, h)
	<-h.Jobs.Added()
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

func TestRunTwoRivalsMakeOneHolder(t *testing.T) {
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
	winner, loser := one, two // the older wins
	if job := h.job(t, winner.entity.id, jobs[winner]); job.Status != db.Processed {
		t.Errorf("the first: %s %s", job.Status, job.Refusal)
	}
	if job := h.job(t, loser.entity.id, jobs[loser]); job.Status != db.Failed || job.Refusal != db.AlreadyUsed {
		t.Errorf("the second: %s %s", job.Status, job.Refusal)
	}
	after := winner.trace(t, h)
	if after.Request["used_by_legal_entity_id"] != winner.entity.id.String() || after.Request["updated_by"] != winner.user.String() {
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
		SELECT (action, status, coalesce(refusal, ''), count(*)::int) FROM ops.jobs GROUP BY action, status, refusal ORDER BY action, status DESC`)
	if want := []outcome{
		{"release", "processed", "", each}, {"release", "failed", "processing_status_invalid", each * (rivals - 1)},
		{"use", "processed", "", each}, {"use", "failed", "already_used", each * (rivals - 1)},
	}; !reflect.DeepEqual(rows, want) {
		t.Errorf("jobs %v, want %v", rows, want)
	}
	// A use without employee adds two histories, a release one; each has an event.
	if odd := value[int](t, h, `
		SELECT count(*)
		FROM medical_events.service_requests s
		JOIN ops.jobs j ON j.service_request_id = s.id AND j.status = 'processed'
		WHERE (SELECT count(*) FROM medical_events.service_request_history x WHERE x.service_request_id = s.id)
				<> CASE j.action WHEN 'use' THEN 2 ELSE 1 END
			OR (SELECT count(*) FROM ops.events e WHERE e.entity_id = s.id) <> 1
			OR s.used_by_legal_entity_id IS DISTINCT FROM CASE j.action WHEN 'use' THEN j.client_id END
			OR s.updated_by <> j.user_id`); odd != 0 {
		t.Errorf("%d service requests with another trace than that of their winner", odd)
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

// A job that another worker holds is passed over, and so are the younger ones of its service request.
func TestRunSkipsWhatAnotherWorkerHolds(t *testing.T) {
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

// The job decides on what it finds after it has waited for the service request.
func TestRunSeesWhatItWaitedFor(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	e := newUse()
	job := e.accept(t, h)
	tx := h.begin(t)
	exec(t, tx, `UPDATE medical_events.service_requests SET used_by_legal_entity_id = $2, program_processing_status = 'in_queue' WHERE id = $1`,
		e.request.id, e.other.id)
	ended := started(func() error {
		_, err := h.Jobs.Run(t.Context(), db.Claim{Size: 1})
		return err
	})
	h.untilWaiting(t, 1)
	commit(t, tx)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if got := h.job(t, e.entity.id, job.ID); got.Refusal != db.AlreadyUsed {
		t.Errorf("%s %q", got.Status, got.Refusal)
	}
}

func TestRunFailedBefore(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	const (
		fresh  = false
		failed = true
	)
	over, paused, never := newUse(), newUse(), newUse()
	overID, pausedID, neverID := over.accept(t, h).ID, paused.accept(t, h).ID, never.accept(t, h).ID
	behindID := over.by(over.other).accept(t, h).ID // waits for the older one of its service request
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
		if taken := h.run(t, db.Claim{Size: 10, FailedBefore: claim.failedBefore}); !slices.Equal(taken, claim.want) {
			t.Fatalf("failed before %t: taken %v, want %v", claim.failedBefore, taken, claim.want)
		}
	}
	h.exec(t, `UPDATE ops.jobs SET not_before = statement_timestamp() WHERE id = $1`, pausedID)
	if taken := h.run(t, db.Claim{Size: 10, FailedBefore: failed}); !slices.Equal(taken, []uuid.UUID{pausedID}) {
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
			t.Errorf("attempt %d: counted %d", i, attempts)
		}
	}
	if got := h.job(t, e.entity.id, job.ID); got.Status != db.Failed || got.Refusal != db.InternalError {
		t.Errorf("%s %s", got.Status, got.Refusal)
	}
	for _, failedBefore := range []bool{false, true} {
		if taken := h.run(t, db.Claim{Size: 1, FailedBefore: failedBefore}); len(taken) != 0 {
			t.Errorf("taken %v", taken)
		}
	}
	if after := e.trace(t, h); !reflect.DeepEqual(after, before) {
		t.Errorf("was %v, is %v", before, after)
	}
}

// end brings a job to one of its ends.
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
			if _, err := h.owner.Exec(t.Context(), `UPDATE ops.jobs SET status = 'processed', refusal = NULL WHERE id = $1`, job.ID); err != nil {
				t.Errorf("the owner may: %v", err)
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

	// Put aside, it no longer holds up the others.
	if _, err := h.Jobs.CountAttempt(t.Context(), jobs[2], 0); err != nil {
		t.Fatal(err)
	}
	if taken := h.run(t, db.Claim{Size: 10}); !slices.Equal(taken, jobs[:2]) {
		t.Errorf("taken %v, want %v", taken, jobs[:2])
	}
	if _, err := h.Jobs.Run(t.Context(), db.Claim{Size: 1, FailedBefore: true}); sqlState(err) != "22000" {
		t.Errorf("alone: %v", err)
	}
	h.exec(t, `DROP TRIGGER poison ON medical_events.service_request_history`)
	if taken := h.run(t, db.Claim{Size: 1, FailedBefore: true}); !slices.Equal(taken, jobs[2:]) {
		t.Errorf("taken %v, want %v", taken, jobs[2:])
	}
	for i, want := range []db.JobStatus{db.Processed, db.Failed, db.Processed} {
		if got := value[string](t, h, `SELECT status FROM ops.jobs WHERE id = $1`, jobs[i]); got != string(want) {
			t.Errorf("job %d is %s", i+1, got)
		}
	}
}

// An action that the service cannot carry out fails like a poisoned job; it does not end as if it had been.
func TestRunUnknownActionFails(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	e := newUse()
	job := e.accept(t, h)
	h.exec(t, `ALTER TABLE ops.jobs DROP CONSTRAINT jobs_action_known`)
	h.exec(t, `UPDATE ops.jobs SET action = 'dance'`)
	if _, err := h.Jobs.Run(t.Context(), db.Claim{Size: 1}); err == nil {
		t.Error("no error")
	}
	if got := h.job(t, e.entity.id, job.ID); got.Status != db.Pending {
		t.Errorf("%s %s", got.Status, got.Refusal)
	}
}
