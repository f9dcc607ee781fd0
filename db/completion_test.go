package db_test

import (
	"maps"
	"reflect"
	"testing"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
)

// newProcess is an order to process. No rule refuses it.
func newProcess() *errand {
	e := newRelease()
	e.action, e.body = db.Process, db.ProcessBody{}
	return e
}

type (
	coding  = map[string]any
	concept = map[string]any
)

func reason(code string) concept {
	return concept{"coding": []any{coding{"system": "eHealth/service_request_complete_reasons", "code": code}}}
}

// newComplete is an order to complete. No rule refuses it.
func newComplete() *errand {
	e := newRelease()
	e.action = db.Complete
	e.request.processing = new("in_progress")
	e.body = &db.CompleteBody{
		CompletedWith: &db.CompletedWith{Type: "procedure", ID: uuid.New()}, ProgramService: new(uuid.New()),
		StatusReason: reason("default"),
	}
	return e
}

func (e *errand) completion() *db.CompleteBody { return e.body.(*db.CompleteBody) }

// withoutProgram removes the medical programme from the service request.
func (e *errand) withoutProgram() {
	e.request.program, e.request.processing, e.request.legalEntity, e.request.employee, e.request.division = nil, nil, nil,
		nil, nil
}

// The ladders of contract 4.3 no. 3 and 4, and 4.6 or 4.7.
var (
	processLadder = []step{
		{db.LegalEntityNotAllowed, func(e *errand) { e.entity.status = "SUSPENDED" }, ""},
		{db.ServiceRequestNotFound, func(e *errand) { e.isMissing = true }, ""},
		{db.StatusInvalid, func(e *errand) { e.request.status = "completed" }, ""},
		{db.ProcessingStatusInvalid, func(e *errand) { e.request.processing = new("in_progress") }, ""},
		{db.HeldByAnother, func(e *errand) { e.request.legalEntity = &e.other.id }, ""},
	}
	completeLadder = []step{
		{db.LegalEntityNotAllowed, func(e *errand) { e.entity.status = "SUSPENDED" }, ""},
		{db.ServiceRequestNotFound, func(e *errand) { e.isMissing = true }, ""},
		{db.StatusInvalid, func(e *errand) { e.request.status = "recalled" }, ""},
		{db.HeldByAnother, func(e *errand) { e.request.legalEntity = &e.other.id }, ""},
		{db.ProcessingStatusInvalid, func(e *errand) { e.request.processing = new("in_queue") }, ""},
		{db.ProgramServiceMissing, func(e *errand) { e.completion().ProgramService = nil }, ""},
		{db.StatusReasonUnknown, func(e *errand) { e.completion().StatusReason = reason("boredom") }, ""},
	}
)

func TestAcceptProcessAndCompleteByRule(t *testing.T) {
	t.Parallel()
	const allowed = db.Refusal("")
	h := newHouse(t)
	h.exec(t, `INSERT INTO prm.dictionary_values (dictionary, code, is_active)
		VALUES ('eHealth/service_request_complete_reasons', 'former', false)`)
	for _, test := range []struct {
		name   string
		make   func() *errand
		change func(*errand)
		want   db.Refusal
	}{
		{"process: nothing is wrong", newProcess, func(*errand) {}, allowed},
		{"process: expired", newProcess, func(e *errand) { e.request.expires = noon.AddDate(-1, 0, 0) }, allowed},
		{"process: legal entity of a type not listed", newProcess, func(e *errand) { e.entity.kind = "PHARMACY" },
			db.LegalEntityNotAllowed},
		{"process: legal entity closed", newProcess, func(e *errand) { e.entity.status = "CLOSED" },
			db.LegalEntityNotAllowed},
		{"process: recalled", newProcess, func(e *errand) { e.request.status = "recalled" }, db.StatusInvalid},
		{"process: entered in error", newProcess, func(e *errand) { e.request.status = "entered_in_error" },
			db.StatusInvalid},
		{"process: new", newProcess, func(e *errand) { e.request = newServiceRequest() }, db.ProcessingStatusInvalid},
		{"process: never processed", newProcess, func(e *errand) { e.request.processing = nil }, db.ProcessingStatusInvalid},
		{"process: completed", newProcess, func(e *errand) { e.request.processing = new("completed") },
			db.ProcessingStatusInvalid},
		{"process: without a program", newProcess, (*errand).withoutProgram, db.ProcessingStatusInvalid},

		{"complete: nothing is wrong", newComplete, func(*errand) {}, allowed},
		{"complete: empty body", newComplete, func(e *errand) { e.body = &db.CompleteBody{} }, allowed},
		{"complete: expired", newComplete, func(e *errand) { e.request.expires = noon.AddDate(-1, 0, 0) }, allowed},
		{"complete: legal entity closed", newComplete, func(e *errand) { e.entity.status = "CLOSED" },
			db.LegalEntityNotAllowed},
		{"complete: completed", newComplete, func(e *errand) { e.request.status = "completed" }, db.StatusInvalid},
		{"complete: not reserved", newComplete, func(e *errand) { e.request = newServiceRequest() }, db.HeldByAnother},
		{"complete: never processed", newComplete, func(e *errand) { e.request.processing = nil },
			db.ProcessingStatusInvalid},
		{"complete: processed already", newComplete, func(e *errand) { e.request.processing = new("completed") },
			db.ProcessingStatusInvalid},
		{"complete: only a program service", newComplete, func(e *errand) { e.completion().CompletedWith = nil }, allowed},
		{"complete: reason no longer active", newComplete, func(e *errand) { e.completion().StatusReason = reason("former") },
			db.StatusReasonUnknown},
		{"complete: reason of another dictionary", newComplete,
			func(e *errand) { e.completion().StatusReason = reason("cured") }, db.StatusReasonUnknown},
		{"complete without a program", newComplete, (*errand).withoutProgram, allowed},
		{"complete without a program, held by another", newComplete, func(e *errand) {
			e.withoutProgram()
			e.request.legalEntity = &e.other.id
		}, allowed},
		{"complete without a program and program service", newComplete, func(e *errand) {
			e.withoutProgram()
			e.completion().ProgramService = nil
		}, db.ProgramServiceMissing},
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

func TestCompleteNeedsAnActiveDictionary(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	e := newComplete()
	job := e.accept(t, h)
	h.exec(t, `UPDATE prm.dictionaries SET is_active = false WHERE name = 'eHealth/service_request_complete_reasons'`)
	h.run(t, db.Claim{Size: 1})
	if got := h.job(t, e.entity.id, job.ID); got.Refusal != db.StatusReasonUnknown || got.AllowedCodes == nil ||
		len(got.AllowedCodes) > 0 {
		t.Errorf("%+v", got)
	}
}

func TestProcessAndCompleteStoreTheirChanges(t *testing.T) {
	t.Parallel()
	type object = map[string]any
	changed := func(from, to any) object { return object{"old_value": from, "new_value": to} }
	for _, test := range []struct {
		name       string
		make       func() *errand
		change     func(*errand)
		request    func(*errand) object
		history    []object // without inserted_by
		properties object
	}{
		{"process", newProcess, func(*errand) {},
			func(*errand) object { return object{"program_processing_status": "in_progress"} },
			[]object{{"program_processing_status": "in_progress"}},
			object{"program_processing_status": changed("in_queue", "in_progress")}},
		{"complete", newComplete, func(*errand) {}, func(e *errand) object {
			return object{
				"status": "completed", "program_processing_status": "completed",
				"program_service_id": e.completion().ProgramService.String(),
				"completed_with":     object{"type": "procedure", "id": e.completion().CompletedWith.ID.String()},
				"status_reason":      reason("default"),
			}
		}, []object{{"status": "completed", "status_reason": reason("default")}, {"program_processing_status": "completed"}},
			object{"status": changed("active", "completed"), "program_processing_status": changed("in_progress", "completed")}},
		{"complete with an empty body", newComplete, func(e *errand) { e.body = &db.CompleteBody{} },
			func(*errand) object { return object{"status": "completed", "program_processing_status": "completed"} },
			[]object{{"status": "completed"}, {"program_processing_status": "completed"}},
			object{"status": changed("active", "completed"), "program_processing_status": changed("in_progress", "completed")}},
		{"complete without a program", newComplete, func(e *errand) {
			e.withoutProgram()
			e.body = &db.CompleteBody{StatusReason: reason("default")}
		}, func(*errand) object { return object{"status": "completed", "status_reason": reason("default")} },
			[]object{{"status": "completed", "status_reason": reason("default")}},
			object{"status": changed("active", "completed")}},
		{"complete without a program, held by another", newComplete, func(e *errand) {
			e.withoutProgram()
			e.request.legalEntity = &e.other.id
			e.body = &db.CompleteBody{}
		}, func(*errand) object { return object{"status": "completed"} },
			[]object{{"status": "completed"}}, object{"status": changed("active", "completed")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			e, bystander := test.make(), test.make()
			test.change(e)
			bystander.save(t, h)
			job := e.accept(t, h)
			want, undisturbed := e.trace(t, h), bystander.trace(t, h)
			h.run(t, db.Claim{Size: 10})
			if ended := h.job(t, e.entity.id, job.ID); ended.Status != db.Processed {
				t.Fatalf("%s %s", ended.Status, ended.Refusal)
			}

			after := e.trace(t, h)
			maps.Copy(want.Request, test.request(e))
			want.Request["updated_by"] = e.user.String()
			if after.Request["updated_at"] == want.Request["updated_at"] {
				t.Error("updated_at stayed")
			}
			want.Request["updated_at"] = after.Request["updated_at"]
			for _, item := range test.history {
				item["inserted_by"] = e.user.String()
				want.History = append(want.History, item)
			}
			want.Events = []object{{
				"event_type": "StatusChangeEvent", "entity_type": "ServiceRequest", "entity_id": e.request.id.String(),
				"changed_by": e.user.String(), "legal_entity_ids": e.request.concerns(e.request.legalEntity),
				"properties": test.properties,
			}}
			if !reflect.DeepEqual(after, want) {
				t.Errorf("left %v\nwant %v", after, want)
			}
			if still := bystander.trace(t, h); !reflect.DeepEqual(still, undisturbed) {
				t.Errorf("another service request was %v, is %v", undisturbed, still)
			}
		})
	}
}

// A process that is sent while a release is pending is another job. The two run one after the other, and the ladder of
// the second sees the changes of the first.
func TestProcessBehindARelease(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	release := newRelease()
	process := *release
	process.action, process.body = db.Process, db.ProcessBody{}
	first, second := release.accept(t, h), process.accept(t, h)
	if first.ID == second.ID {
		t.Fatal("one job for two actions")
	}
	h.run(t, db.Claim{Size: 10})
	h.run(t, db.Claim{Size: 10})
	if job := h.job(t, release.entity.id, first.ID); job.Status != db.Processed {
		t.Errorf("release: %s %s", job.Status, job.Refusal)
	}
	if job := h.job(t, release.entity.id, second.ID); job.Refusal != db.ProcessingStatusInvalid {
		t.Errorf("process: %s %s", job.Status, job.Refusal)
	}
}

// If two users of the holder complete a service request at once, one of them succeeds.
func TestCompleteTwiceCompletesOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	one := newComplete()
	two := *one
	two.user = uuid.New()
	jobs := []uuid.UUID{one.accept(t, h).ID, two.accept(t, h).ID}
	for range 2 {
		atOnce(3, func(int) {
			if _, err := h.Jobs.Run(t.Context(), db.Claim{Size: 10}); err != nil {
				t.Error(err)
			}
		})
	}
	if job := h.job(t, one.entity.id, jobs[0]); job.Status != db.Processed {
		t.Errorf("the first: %s %s", job.Status, job.Refusal)
	}
	if job := h.job(t, one.entity.id, jobs[1]); job.Refusal != db.StatusInvalid {
		t.Errorf("the second: %s %s", job.Status, job.Refusal)
	}
	if left := one.trace(t, h); len(left.Events) != 1 || len(left.History) != 2 ||
		left.Request["updated_by"] != one.user.String() {
		t.Errorf("left %v", left)
	}
}
