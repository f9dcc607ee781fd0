package db_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
)

// errand is an action on a service request, with all rows of the registry that it meets. Errands share no rows, so that
// one database can serve any number of them.
type errand struct {
	entity, other legalEntity
	employee      employee
	division      division
	request       serviceRequest
	isMissing     bool // the service request does not exist
	action        db.Action
	user          uuid.UUID
	body          any
}

// newUse is an order to use. No rule refuses it.
func newUse() *errand {
	e := &errand{entity: newLegalEntity(), other: newLegalEntity(), request: newServiceRequest(), action: db.Use,
		user: uuid.New()}
	e.employee, e.division = e.entity.newEmployee(), e.entity.newDivision()
	e.request.category = "hospitalization"
	e.body = &db.UseBody{UsedByLegalEntity: e.entity.id, UsedByEmployee: &e.employee.id, UsedByDivision: &e.division.id}
	return e
}

// newRelease is an order to release. No rule refuses it.
func newRelease() *errand {
	e := newUse()
	e.action, e.body = db.Release, db.ReleaseBody{}
	e.request = e.request.usedBy(e.entity)
	e.request.employee, e.request.division = &e.employee.id, &e.division.id
	return e
}

func (e *errand) use() *db.UseBody { return e.body.(*db.UseBody) }

func (e *errand) order() db.Order {
	return db.Order{
		Action: e.action, ServiceRequestID: e.request.id, Caller: db.Caller{UserID: e.user, ClientID: e.entity.id},
		Body: e.body,
	}
}

func (e *errand) save(t testing.TB, h *house) {
	t.Helper()
	h.save(t, e.entity, e.other, e.employee, e.division)
	if e.isMissing {
		h.exec(t, `DELETE FROM medical_events.service_requests WHERE id = $1`, e.request.id)
	} else {
		h.save(t, e.request)
	}
}

// accept accepts an order that no rule may refuse.
func (e *errand) accept(t testing.TB, h *house) db.Job {
	t.Helper()
	e.save(t, h)
	job, err := h.Jobs.Accept(t.Context(), e.order())
	if err != nil {
		t.Fatal(err)
	}
	return job
}

// trace is everything that an action may change.
type trace struct {
	Request map[string]any
	History []map[string]any
	Events  []map[string]any
}

func (e *errand) trace(t testing.TB, h *house) trace {
	t.Helper()
	var found trace
	if rows := column[map[string]any](t, h, `SELECT to_jsonb(s) FROM medical_events.service_requests s WHERE id = $1`,
		e.request.id); len(rows) > 0 {
		found.Request = rows[0]
	}
	found.History = column[map[string]any](t, h, `
		SELECT jsonb_strip_nulls(to_jsonb(x) - '{sequence_number,inserted_at,service_request_id}'::text[])
		FROM medical_events.service_request_history x WHERE service_request_id = $1 ORDER BY sequence_number`, e.request.id)
	found.Events = eventsOf(t, h, e.request.id)
	return found
}

// run runs pending jobs.
func (h *house) run(t testing.TB, c db.Claim) []uuid.UUID {
	t.Helper()
	taken, err := h.Jobs.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return taken
}

// job is the job as its client sees it.
func (h *house) job(t testing.TB, client, id uuid.UUID) db.Job {
	t.Helper()
	job, err := h.Jobs.Get(t.Context(), client, id)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

// step is a step of a ladder: it breaks its own rule and no other. The steps of a ladder can be combined in their
// order, except for those of one group, which break their rules in ways that exclude each other.
type step struct {
	refusal db.Refusal
	violate func(*errand)
	group   string
}

// The ladders of contract 4.3 no. 3 and 4, and 4.5 or 4.4.
var (
	useLadder = []step{
		{db.LegalEntityNotAllowed, func(e *errand) { e.entity.status = "SUSPENDED" }, ""},
		{db.ServiceRequestNotFound, func(e *errand) { e.isMissing = true }, ""},
		{db.ProgramMissing, func(e *errand) { e.request.program, e.request.processing = nil, nil }, ""},
		{db.ServiceRequestExpired, func(e *errand) { e.request.expires = noon.Add(-time.Microsecond) }, ""},
		{db.ServiceRequestInactive, func(e *errand) { e.request.status = "recalled" }, ""},
		{db.AlreadyUsed, func(e *errand) {
			e.request.legalEntity = &e.other.id
			if e.request.program != nil {
				e.request.processing = new("in_queue")
			}
		}, ""},
		{db.AlreadyCompleted, func(e *errand) {
			if e.request.program != nil {
				e.request.processing = new("completed")
			}
		}, ""},
		{db.EmployeeNotOwn, func(e *errand) { e.employee.legalEntity = e.other.id }, ""},
		{db.EmployeeTypeInvalid, func(e *errand) { e.employee.kind = "RECEPTIONIST" }, ""},
		{db.HolderNotOwn, func(e *errand) { e.use().UsedByLegalEntity = e.other.id }, ""},
		{db.DivisionMissingForHospitalization, func(e *errand) { e.use().UsedByDivision = nil }, "division"},
		{db.DivisionMissingForTransferOfCare, func(e *errand) {
			e.request.category = "transfer_of_care"
			e.use().UsedByDivision = nil
		}, "division"},
		{db.DivisionNotOwn, func(e *errand) { e.division.legalEntity = e.other.id }, "division"},
	}
	releaseLadder = []step{
		{db.LegalEntityNotAllowed, func(e *errand) { e.entity.status = "SUSPENDED" }, ""},
		{db.ServiceRequestNotFound, func(e *errand) { e.isMissing = true }, ""},
		{db.StatusInvalid, func(e *errand) { e.request.status = "completed" }, ""},
		{db.ProcessingStatusInvalid, func(e *errand) { e.request.processing = new("in_progress") }, ""},
		{db.HeldByAnother, func(e *errand) { e.request.legalEntity = &e.other.id }, ""},
	}
)

// fall is a violation of one step or of two steps. The answer must be the refusal of the first.
type fall struct {
	name   string
	want   db.Refusal
	make   func() *errand
	change func(*errand)
}

// falls are the violations of every single step and of every two steps.
func falls() []fall {
	var all []fall
	for _, ladder := range []struct {
		make  func() *errand
		steps []step
	}{{newUse, useLadder}, {newRelease, releaseLadder}, {newProcess, processLadder}, {newComplete, completeLadder}} {
		action := string(ladder.make().action)
		for i, first := range ladder.steps {
			all = append(all, fall{action + ": " + string(first.refusal), first.refusal, ladder.make, first.violate})
			for _, second := range ladder.steps[i+1:] {
				if first.group != "" && first.group == second.group {
					continue
				}
				all = append(all, fall{
					action + ": " + string(first.refusal) + " and " + string(second.refusal), first.refusal, ladder.make,
					func(e *errand) { first.violate(e); second.violate(e) },
				})
			}
		}
	}
	return all
}

func TestAcceptAnswersTheFirstRefusal(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, f := range falls() {
		e := f.make()
		f.change(e)
		e.save(t, h)
		before := e.trace(t, h)
		_, err := h.Jobs.Accept(t.Context(), e.order())
		if got := refusal(t, err); got != f.want {
			t.Errorf("%s: answered %q", f.name, got)
		}
		if after := e.trace(t, h); !reflect.DeepEqual(after, before) {
			t.Errorf("%s: was %v, is %v", f.name, before, after)
		}
	}
	if jobs := value[int](t, h, `SELECT count(*) FROM ops.jobs`); jobs != 0 {
		t.Errorf("%d jobs", jobs)
	}
}

// Between the request and the job everything may change: the same ladder decides again, for a whole batch at once.
func TestRunAnswersTheFirstRefusal(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	type pending struct {
		fall
		*errand
		job    db.Job
		before trace
	}
	var all []pending
	for _, f := range falls() {
		e := f.make()
		job := e.accept(t, h)
		f.change(e)
		e.save(t, h)
		body, err := json.Marshal(e.body)
		if err != nil {
			t.Fatal(err)
		}
		h.exec(t, `UPDATE ops.jobs SET body = $2 WHERE id = $1`, job.ID, body)
		all = append(all, pending{f, e, job, e.trace(t, h)})
	}
	lucky := newUse()
	lucky.accept(t, h)

	if taken := h.run(t, db.Claim{Size: 1000}); len(taken) != len(all)+1 {
		t.Fatalf("%d jobs taken of %d", len(taken), len(all)+1)
	}
	for _, p := range all {
		if job := h.job(t, p.entity.id, p.job.ID); job.Status != db.Failed || job.Refusal != p.want {
			t.Errorf("%s: %s with %q", p.name, job.Status, job.Refusal)
		}
		if after := p.trace(t, h); !reflect.DeepEqual(after, p.before) {
			t.Errorf("%s: was %v, is %v", p.name, p.before, after)
		}
	}
	if after := lucky.trace(t, h); len(after.Events) != 1 {
		t.Errorf("the order that no rule refuses: %v", after)
	}
}

func TestAcceptByRule(t *testing.T) {
	t.Parallel()
	const allowed = db.Refusal("")
	h := newHouse(t)
	for _, test := range []struct {
		name   string
		make   func() *errand
		change func(*errand)
		want   db.Refusal
	}{
		{"nothing is wrong", newUse, func(*errand) {}, allowed},
		{"legal entity closed", newUse, func(e *errand) { e.entity.status = "CLOSED" }, db.LegalEntityNotAllowed},
		{"legal entity reorganized", newUse, func(e *errand) { e.entity.status = "REORGANIZED" }, db.LegalEntityNotAllowed},
		{"legal entity of a type not listed", newUse, func(e *errand) { e.entity.kind = "PHARMACY" },
			db.LegalEntityNotAllowed},
		{"legal entity of another type listed", newUse, func(e *errand) { e.entity.kind = "EMERGENCY" }, allowed},
		{"expires now", newUse, func(e *errand) { e.request.expires = noon }, allowed},
		{"completed", newUse, func(e *errand) { e.request.status = "completed" }, db.ServiceRequestInactive},
		{"entered in error", newUse, func(e *errand) { e.request.status = "entered_in_error" }, db.ServiceRequestInactive},
		{"used by the same legal entity", newUse, func(e *errand) { e.request = e.request.usedBy(e.entity) }, db.AlreadyUsed},
		{"used, in progress", newUse, func(e *errand) {
			e.request = e.request.usedBy(e.other)
			e.request.processing = new("in_progress")
		}, db.AlreadyUsed},
		{"used and completed", newUse, func(e *errand) {
			e.request = e.request.usedBy(e.other)
			e.request.processing = new("completed")
		}, db.AlreadyUsed},
		{"never processed", newUse, func(e *errand) { e.request.processing = nil }, allowed},
		{"no employee", newUse, func(e *errand) { e.use().UsedByEmployee = nil }, allowed},
		{"unknown employee", newUse, func(e *errand) { e.use().UsedByEmployee = new(uuid.New()) }, db.EmployeeNotOwn},
		{"employee dismissed", newUse, func(e *errand) { e.employee.status = "DISMISSED" }, db.EmployeeNotOwn},
		{"unknown division", newUse, func(e *errand) { e.use().UsedByDivision = new(uuid.New()) }, db.DivisionNotOwn},
		{"hospitalization without division", newUse, func(e *errand) { e.use().UsedByDivision = nil },
			db.DivisionMissingForHospitalization},
		{"transfer of care to another's division", newUse, func(e *errand) {
			e.request.category, e.division.legalEntity = "transfer_of_care", e.other.id
		}, allowed},
		{"counselling without division", newUse, func(e *errand) {
			e.request.category, e.use().UsedByDivision = "counselling",
				nil
		}, allowed},
		{"counselling in another's division", newUse, func(e *errand) {
			e.request.category, e.division.legalEntity = "counselling", e.other.id
		}, allowed},

		{"release: nothing is wrong", newRelease, func(*errand) {}, allowed},
		{"release: legal entity closed", newRelease, func(e *errand) { e.entity.status = "CLOSED" },
			db.LegalEntityNotAllowed},
		{"release: legal entity of a type not listed", newRelease, func(e *errand) { e.entity.kind = "PHARMACY" },
			db.LegalEntityNotAllowed},
		{"release: expired", newRelease, func(e *errand) { e.request.expires = noon.AddDate(-1, 0, 0) }, allowed},
		{"release: recalled", newRelease, func(e *errand) { e.request.status = "recalled" }, db.StatusInvalid},
		{"release: entered in error", newRelease, func(e *errand) { e.request.status = "entered_in_error" },
			db.StatusInvalid},
		{"release: new", newRelease, func(e *errand) { e.request = newServiceRequest() }, db.ProcessingStatusInvalid},
		{"release: never processed", newRelease, func(e *errand) { e.request.processing = nil }, db.ProcessingStatusInvalid},
		{"release: completed", newRelease, func(e *errand) { e.request.processing = new("completed") },
			db.ProcessingStatusInvalid},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e := test.make()
			test.change(e)
			e.save(t, h)
			_, err := h.Jobs.Accept(t.Context(), e.order())
			if got := refusal(t, err); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func TestActionsByParameter(t *testing.T) {
	t.Parallel()
	const types, holder = "me_allowed_transactions_le_types", "release_requires_holder"
	h := newHouse(t)
	heldByAnother := func() *errand {
		e := newRelease()
		e.request.legalEntity = &e.other.id
		return e
	}
	for _, test := range []struct {
		name      string
		parameter string
		value     string // empty: absent
		make      func() *errand
		want      db.Refusal
	}{
		{"use, no list of types", types, ``, newUse, db.LegalEntityNotAllowed},
		{"use, empty list of types", types, `[]`, newUse, db.LegalEntityNotAllowed},
		{"use, type instead of a list", types, `"OUTPATIENT"`, newUse, db.LegalEntityNotAllowed},
		{"use, true instead of a list", types, `true`, newUse, db.LegalEntityNotAllowed},
		{"release, no list of types", types, ``, newRelease, db.LegalEntityNotAllowed},
		{"release, type instead of a list", types, `"OUTPATIENT"`, newRelease, db.LegalEntityNotAllowed},
		{"release of another's, holder required", holder, `true`, heldByAnother, db.HeldByAnother},
		{"release of another's, holder not required", holder, `false`, heldByAnother, ""},
		{"release of another's, holder not mentioned", holder, ``, heldByAnother, db.HeldByAnother},
		{"release of another's, holder a list", holder, `["false"]`, heldByAnother, db.HeldByAnother},
		{"release by the holder, holder not required", holder, `false`, newRelease, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			// The parameters allow everything at first, and then only what the case says.
			h.save(t, parameter{types, `["OUTPATIENT"]`}, parameter{holder, `false`})
			e := test.make()
			job := e.accept(t, h)
			if h.exec(t, `DELETE FROM prm.parameters WHERE name = $1`, test.parameter); test.value != "" {
				h.save(t, parameter{test.parameter, test.value})
			}
			h.run(t, db.Claim{Size: 10})
			if got := h.job(t, e.entity.id, job.ID).Refusal; got != test.want {
				t.Errorf("in the job: %q, want %q", got, test.want)
			}

			e = test.make()
			e.save(t, h)
			_, err := h.Jobs.Accept(t.Context(), e.order())
			if got := refusal(t, err); got != test.want {
				t.Errorf("at the request: %q, want %q", got, test.want)
			}
		})
	}
}

func TestUseByCategoryAndEmployeeType(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	codes := func(dictionary string) []string {
		return column[string](t, h, `SELECT code FROM prm.dictionary_values WHERE dictionary = $1`, dictionary)
	}
	categories, kinds := codes("eHealth/SNOMED/service_request_categories"), codes("EMPLOYEE_TYPE")
	if len(categories) < 9 || len(kinds) < 12 {
		t.Fatalf("%d categories, %d employee types", len(categories), len(kinds))
	}
	e := newUse()
	for _, category := range categories {
		allowed := []string{"DOCTOR", "SPECIALIST"}
		if slices.Contains([]string{"laboratory_procedure", "diagnostic_procedure", "procedure"}, category) {
			allowed = append(allowed, "ASSISTANT", "LABORANT")
		}
		for _, kind := range kinds {
			e.request.category, e.employee.kind = category, kind
			e.save(t, h)
			var want db.Refusal
			if !slices.Contains(allowed, kind) {
				want = db.EmployeeTypeInvalid
			}
			_, err := h.Jobs.Accept(t.Context(), e.order())
			if got := refusal(t, err); got != want {
				t.Errorf("%s for %s: %q, want %q", category, kind, got, want)
			}
		}
	}
}

func TestUseAndReleaseStoreTheirChanges(t *testing.T) {
	t.Parallel()
	history := func(e *errand, element string, value any) map[string]any {
		return map[string]any{element: value, "inserted_by": e.user.String()}
	}
	event := func(e *errand, holder uuid.UUID, from, to any) []map[string]any {
		return []map[string]any{{
			"event_type": "StatusChangeEvent", "entity_type": "ServiceRequest", "entity_id": e.request.id.String(),
			"changed_by": e.user.String(), "legal_entity_ids": e.request.concerns(&holder),
			"properties": map[string]any{"program_processing_status": map[string]any{"old_value": from, "new_value": to}},
		}}
	}
	used := func(e *errand, from any) ([]map[string]any, []map[string]any) {
		return []map[string]any{
			history(e, "program_processing_status", "in_queue"),
			history(e, "used_by_legal_entity_id", e.entity.id.String()),
			history(e, "used_by_employee_id", e.employee.id.String()),
		}, event(e, e.entity.id, from, "in_queue")
	}
	for _, test := range []struct {
		name   string
		make   func() *errand
		change func(*errand)
		want   func(*errand) (request map[string]any, history, events []map[string]any)
	}{
		{"use", newUse, func(*errand) {}, func(e *errand) (map[string]any, []map[string]any, []map[string]any) {
			history, events := used(e, "new")
			return map[string]any{
				"program_processing_status": "in_queue", "used_by_legal_entity_id": e.entity.id.String(),
				"used_by_employee_id": e.employee.id.String(), "used_by_division_id": e.division.id.String(),
			}, history, events
		}},
		{"use of one never processed", newUse, func(e *errand) { e.request.processing = nil },
			func(e *errand) (map[string]any, []map[string]any, []map[string]any) {
				history, events := used(e, nil)
				return map[string]any{
					"program_processing_status": "in_queue", "used_by_legal_entity_id": e.entity.id.String(),
					"used_by_employee_id": e.employee.id.String(), "used_by_division_id": e.division.id.String(),
				}, history, events
			}},
		{"use without employee and division", newUse, func(e *errand) {
			e.request.category = "counselling"
			e.use().UsedByEmployee, e.use().UsedByDivision = nil, nil
		}, func(e *errand) (map[string]any, []map[string]any, []map[string]any) {
			history, events := used(e, "new")
			return map[string]any{
				"program_processing_status": "in_queue", "used_by_legal_entity_id": e.entity.id.String(),
			}, history[:2], events
		}},
		{"release", newRelease, func(*errand) {}, func(e *errand) (map[string]any, []map[string]any, []map[string]any) {
			return map[string]any{
				"program_processing_status": "new", "used_by_legal_entity_id": nil, "used_by_employee_id": nil,
				"used_by_division_id": nil,
			}, []map[string]any{history(e, "program_processing_status", "new")}, event(e, e.entity.id, "in_queue", "new")
		}},
		{"release by another than the holder", newRelease, func(e *errand) {
			e.request.legalEntity, e.request.employee, e.request.division = &e.other.id, nil, nil
		}, func(e *errand) (map[string]any, []map[string]any, []map[string]any) {
			return map[string]any{"program_processing_status": "new", "used_by_legal_entity_id": nil},
				[]map[string]any{history(e, "program_processing_status", "new")}, event(e, e.other.id, "in_queue", "new")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			h.save(t, parameter{"release_requires_holder", "false"})
			e, bystander := test.make(), test.make()
			test.change(e)
			bystander.save(t, h)
			job := e.accept(t, h)
			before, undisturbed := e.trace(t, h), bystander.trace(t, h)
			if job.Status != db.Pending || job.Action != e.action || job.ServiceRequestID != e.request.id ||
				job.PatientID != e.request.patient {
				t.Errorf("accepted %+v", job)
			}
			if taken := h.run(t, db.Claim{Size: 10}); !slices.Equal(taken, []uuid.UUID{job.ID}) {
				t.Fatalf("taken %v", taken)
			}
			ended := h.job(t, e.entity.id, job.ID)
			if ended.Status != db.Processed || ended.Refusal != "" {
				t.Errorf("%s %s", ended.Status, ended.Refusal)
			}

			after := e.trace(t, h)
			changed, history, events := test.want(e)
			want := trace{before.Request, history, events}
			for name, v := range changed {
				want.Request[name] = v
			}
			want.Request["updated_by"] = e.user.String()
			if after.Request["updated_at"] == before.Request["updated_at"] {
				t.Error("updated_at stayed")
			}
			want.Request["updated_at"] = after.Request["updated_at"]
			if !reflect.DeepEqual(after, want) {
				t.Errorf("left %v\nwant %v", after, want)
			}
			if still := bystander.trace(t, h); !reflect.DeepEqual(still, undisturbed) {
				t.Errorf("another service request was %v, is %v", undisturbed, still)
			}

			shown, err := h.ServiceRequests.Get(t.Context(), e.request.patient, e.request.id)
			if err != nil {
				t.Fatal(err)
			}
			if len(shown.History) != len(history) ||
				*shown.ProgramProcessingStatus != after.Request["program_processing_status"] {
				t.Errorf("shown %+v", shown)
			}
		})
	}
}

func TestGetServiceRequestOfThePatientOnly(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s := newServiceRequest()
	h.save(t, s)
	for _, test := range []struct {
		name        string
		patient, id uuid.UUID
		want        error
	}{
		{"the patient's", s.patient, s.id, nil},
		{"another patient's", uuid.New(), s.id, db.ErrNotFound},
		{"none", s.patient, uuid.New(), db.ErrNotFound},
	} {
		if _, err := h.ServiceRequests.Get(t.Context(), test.patient, test.id); err != test.want {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
}
