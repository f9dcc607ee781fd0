package db_test

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/db/sqlc"
)

// effects are the queries that carry out an action, called without the ladder and the locks in front of them. allows
// tells the states in which the query may change the service request, for the legal entity own.
var effects = []struct {
	action db.Action
	make   func() *errand
	allows func(s serviceRequest, own uuid.UUID) bool
	apply  func(ctx context.Context, q *sqlc.Queries, ids, clients, users []uuid.UUID, bodies [][]byte) (int64, error)
}{
	{db.Use, newUse, func(s serviceRequest, _ uuid.UUID) bool {
		return s.status == "active" && s.program != nil && s.legalEntity == nil &&
			(s.processing == nil || *s.processing == "new")
	}, func(ctx context.Context, q *sqlc.Queries, ids, _, users []uuid.UUID, bodies [][]byte) (int64, error) {
		return q.UseServiceRequests(ctx, sqlc.UseServiceRequestsParams{
			ServiceRequestIds: ids, UserIds: users, Bodies: bodies,
		})
	}},
	{db.Release, newRelease, func(s serviceRequest, _ uuid.UUID) bool {
		return s.status == "active" && s.isProcessed("in_queue")
	}, func(ctx context.Context, q *sqlc.Queries, ids, _, users []uuid.UUID, _ [][]byte) (int64, error) {
		return q.ReleaseServiceRequests(ctx, sqlc.ReleaseServiceRequestsParams{ServiceRequestIds: ids, UserIds: users})
	}},
	{db.Process, newProcess, func(s serviceRequest, own uuid.UUID) bool {
		return s.status == "active" && s.isProcessed("in_queue") && *s.legalEntity == own
	}, func(ctx context.Context, q *sqlc.Queries, ids, clients, users []uuid.UUID, _ [][]byte) (int64, error) {
		return q.ProcessServiceRequests(ctx, sqlc.ProcessServiceRequestsParams{
			ServiceRequestIds: ids, ClientIds: clients, UserIds: users,
		})
	}},
	{db.Complete, newComplete, func(s serviceRequest, own uuid.UUID) bool {
		return s.status == "active" && (s.program == nil || s.isProcessed("in_progress") && *s.legalEntity == own)
	}, func(ctx context.Context, q *sqlc.Queries, ids, clients, users []uuid.UUID, bodies [][]byte) (int64, error) {
		return q.CompleteServiceRequests(ctx, sqlc.CompleteServiceRequestsParams{
			ServiceRequestIds: ids, ClientIds: clients, UserIds: users, Bodies: bodies,
		})
	}},
}

func (s serviceRequest) isProcessed(status string) bool {
	return s.processing != nil && *s.processing == status
}

// everyState is a service request in each state that the constraints of the table allow: by status, programme,
// processing status and holder.
func everyState(own, other uuid.UUID) (all []serviceRequest) {
	for _, status := range []string{"active", "completed", "recalled", "entered_in_error"} {
		for _, program := range []*uuid.UUID{nil, new(uuid.New())} {
			for _, processing := range []*string{nil, new("new"), new("in_queue"), new("in_progress"), new("completed")} {
				for _, holder := range []*uuid.UUID{nil, &own, &other} {
					s := newServiceRequest()
					s.status, s.program, s.processing, s.legalEntity = status, program, processing, holder
					isReserved := s.isProcessed("in_queue") || s.isProcessed("in_progress")
					if processing != nil && program == nil || isReserved && holder == nil || s.isProcessed("new") && holder != nil {
						continue
					}
					all = append(all, s)
				}
			}
		}
	}
	return all
}

func (s serviceRequest) String() string {
	return fmt.Sprintf("%s, programme %t, processing status %v, holder %v", s.status, s.program != nil,
		orNull(s.processing), s.legalEntity)
}

// trace is what an action may change of a service request.
func (s serviceRequest) trace(t testing.TB, h *house) trace {
	t.Helper()
	return (&errand{request: s}).trace(t, h)
}

// TestEffectsChangeNoOtherState: an effect that is carried out without its ladder changes the service requests in the
// states that its ladder allows, and no other one. Its answer is their number.
func TestEffectsChangeNoOtherState(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	app := h.pool(t, db.App)
	for _, effect := range effects {
		t.Run(string(effect.action), func(t *testing.T) {
			t.Parallel()
			e := effect.make()
			e.save(t, h)
			body, err := json.Marshal(e.body)
			must(t, err)
			var ids, clients, users []uuid.UUID
			var bodies [][]byte
			var before []trace
			want := 0
			states := everyState(e.entity.id, e.other.id)
			for _, s := range states {
				h.save(t, s)
				before = append(before, s.trace(t, h))
				ids, clients = append(ids, s.id), append(clients, e.entity.id)
				users, bodies = append(users, e.user), append(bodies, body)
				if effect.allows(s, e.entity.id) {
					want++
				}
			}
			n, err := effect.apply(t.Context(), sqlc.New(app), ids, clients, users, bodies)
			if err != nil || n != int64(want) {
				t.Errorf("%d rows, %v, want %d", n, err, want)
			}
			for i, s := range states {
				after := s.trace(t, h)
				if changed := !reflect.DeepEqual(after, before[i]); changed != effect.allows(s, e.entity.id) {
					t.Errorf("%s: changed %t: %v", s, changed, after)
				}
			}
		})
	}
}

// TestEffectsSeeTheChangeTheyWaitedFor: an effect that meets a held service request decides by the state that the
// other transaction has committed. If this is not the state that its statement has read, nothing is changed.
func TestEffectsSeeTheChangeTheyWaitedFor(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	app := h.pool(t, db.App)
	changes := map[db.Action][]struct{ name, change string }{ // $1 is the service request, $2 another legal entity
		db.Use: {
			{"used by another", `program_processing_status = 'in_queue', used_by_legal_entity_id = $2`},
			{"recalled", `status = 'recalled', updated_by = $2`},
			{"processing status is another free one", `program_processing_status = NULL, updated_by = $2`},
		},
		db.Release: {
			{"in the queue of another", `used_by_legal_entity_id = $2, used_by_employee_id = NULL, used_by_division_id = NULL`},
			{"recalled", `status = 'recalled', updated_by = $2`},
			{"in progress", `program_processing_status = 'in_progress', updated_by = $2`},
		},
		db.Process: {
			{"in the queue of another", `used_by_legal_entity_id = $2`},
			{"recalled", `status = 'recalled', updated_by = $2`},
			{"in progress", `program_processing_status = 'in_progress', updated_by = $2`},
		},
		db.Complete: {
			{"in progress with another", `used_by_legal_entity_id = $2`},
			{"completed", `status = 'completed', updated_by = $2`},
			{"in the queue", `program_processing_status = 'in_queue', updated_by = $2`},
		},
	}
	for _, effect := range effects {
		for _, c := range changes[effect.action] {
			t.Run(string(effect.action)+", "+c.name, func(t *testing.T) {
				e := effect.make()
				e.save(t, h)
				body, err := json.Marshal(e.body)
				must(t, err)
				tx := h.begin(t)
				exec(t, tx, `UPDATE medical_events.service_requests SET `+c.change+` WHERE id = $1`, e.request.id, e.other.id)
				type answer struct {
					rows int64
					err  error
				}
				ended := started(func() answer {
					n, err := effect.apply(t.Context(), sqlc.New(app), []uuid.UUID{e.request.id}, []uuid.UUID{e.entity.id},
						[]uuid.UUID{e.user}, [][]byte{body})
					return answer{n, err}
				})
				h.untilWaiting(t, 1)
				commit(t, tx)
				if a := receive(t, ended); a != (answer{}) {
					t.Errorf("%d rows, %v", a.rows, a.err)
				}
				left := e.trace(t, h)
				if left.Request["updated_by"] == e.user.String() || len(left.History) > 0 || len(left.Events) > 0 {
					t.Errorf("left %v", left)
				}
			})
		}
	}
}

// TestUpdateLicenseSeesTheChangeItWaitedFor: without the locks in front of it, UpdateLicense meets a licence that
// another transaction changes. It changes nothing if the licence became one that the rules do not let be changed.
func TestUpdateLicenseSeesTheChangeItWaitedFor(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	app := h.pool(t, db.App)
	for name, change := range map[string]string{ // $1 is the licence, $2 another legal entity
		"it is a primary licence":         `is_primary = true, updated_by = $2`,
		"it has another type":             `type = 'PHARMACY', updated_by = $2`,
		"it belongs to another":           `legal_entity_id = $2`,
		"a change that forbids no update": `what_licensed = 'x', updated_by = $2`,
	} {
		t.Run(name, func(t *testing.T) {
			a := newAmendment()
			a.save(t, h)
			changes, err := json.Marshal(a.changes)
			must(t, err)
			tx := h.begin(t)
			exec(t, tx, `UPDATE prm.licenses SET `+change+` WHERE id = $1`, a.stored.id, a.other.id)
			type answer struct {
				row sqlc.UpdateLicenseRow
				err error
			}
			ended := started(func() answer {
				row, err := sqlc.New(app).UpdateLicense(t.Context(), sqlc.UpdateLicenseParams{
					ID: a.stored.id, LegalEntityID: a.entity.id, Changes: changes, UserID: a.caller.UserID, AsOf: &noon,
					TimeZone: "Europe/Kyiv",
				})
				return answer{row, err}
			})
			h.untilWaiting(t, 1)
			commit(t, tx)
			want := sqlc.UpdateLicenseRow{Differing: 1}
			if strings.HasPrefix(name, "a change") {
				want.Updated = 1
			}
			if got := receive(t, ended); got != (answer{row: want}) {
				t.Errorf("%+v, want %+v", got, want)
			}
			updated := value[bool](t, h, `SELECT updated_by = $2 FROM prm.licenses WHERE id = $1`, a.stored.id, a.caller.UserID)
			if updated != (want.Updated == 1) {
				t.Errorf("the licence is changed: %t", updated)
			}
		})
	}
}

// TestEndJobsEndsNoEndedJob: jobs that have ended already are passed over, and the answer does not count them.
func TestEndJobsEndsNoEndedJob(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.endedJobs(t, 2, day) // one is processed, one has failed
	pending := newUse().accept(t, h)
	rows := func() []string {
		return column[string](t, h, `SELECT j::text FROM ops.jobs j WHERE id <> $1 ORDER BY id`, pending.ID)
	}
	before := rows()
	ids := column[uuid.UUID](t, h, `SELECT id FROM ops.jobs`)
	n, err := sqlc.New(h.pool(t, db.App)).EndJobs(t.Context(), sqlc.EndJobsParams{
		Ids: ids, Refusals: slices.Repeat([]string{"status_invalid"}, len(ids)),
	})
	if len(ids) != 3 || n != 1 || err != nil {
		t.Errorf("%d of %d rows, %v", n, len(ids), err)
	}
	if after := rows(); !slices.Equal(after, before) {
		t.Errorf("ended jobs were %v, are %v", before, after)
	}
	if left := value[string](t, h, `SELECT refusal FROM ops.jobs WHERE id = $1`, pending.ID); left != "status_invalid" {
		t.Errorf("the pending job: %s", left)
	}
}

// TestRunFailsIfARowIsNotChanged: if the database leaves one row of a batch unchanged, without an error, the whole
// batch is undone, and the error is one of the jobs. Else a job would be processed without its effect, or be carried
// out twice.
func TestRunFailsIfARowIsNotChanged(t *testing.T) {
	t.Parallel()
	for name, of := range map[string]func(e *errand, job uuid.UUID) (table string, id uuid.UUID){
		"the service request": func(e *errand, _ uuid.UUID) (string, uuid.UUID) {
			return "medical_events.service_requests", e.request.id
		},
		"the job": func(_ *errand, job uuid.UUID) (string, uuid.UUID) { return "ops.jobs", job },
	} {
		for _, make := range []func() *errand{newUse, newRelease, newProcess, newComplete} {
			t.Run(name+" of "+string(make().action), func(t *testing.T) {
				t.Parallel()
				h := newHouse(t)
				errands := []*errand{make(), make(), make()}
				var jobs []uuid.UUID
				var before []trace
				for _, e := range errands {
					jobs = append(jobs, e.accept(t, h).ID)
					before = append(before, e.trace(t, h))
				}
				table, id := of(errands[1], jobs[1])
				h.exec(t, `CREATE FUNCTION ops.swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`)
				h.exec(t, `CREATE TRIGGER swallow BEFORE UPDATE ON `+table+` FOR EACH ROW WHEN (OLD.id = '`+id.String()+`')
					EXECUTE FUNCTION ops.swallow()`)
				taken, err := h.Jobs.Run(t.Context(), db.Claim{Size: 10})
				if err == nil || !db.JobsFault(err) || !slices.Equal(taken, jobs) {
					t.Errorf("taken %v, %v", taken, err)
				}
				for i, e := range errands {
					if after := e.trace(t, h); !reflect.DeepEqual(after, before[i]) {
						t.Errorf("was %v, is %v", before[i], after)
					}
				}
				if n := value[int](t, h, `SELECT count(*) FROM ops.jobs WHERE status = 'pending' AND attempts = 0`); n != len(jobs) {
					t.Errorf("%d of %d jobs are pending", n, len(jobs))
				}
				h.exec(t, `DROP FUNCTION ops.swallow() CASCADE`)
				if taken := h.run(t, db.Claim{Size: 10}); !slices.Equal(taken, jobs) {
					t.Errorf("taken %v, want %v", taken, jobs)
				}
			})
		}
	}
}
