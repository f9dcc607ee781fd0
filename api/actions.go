package api

import (
	"context"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/reiestr/reiestr/api/rest"
	"github.com/reiestr/reiestr/db"
)

// ServiceRequestUse is the body of an action to use. Unknown keys are ignored, but not inside the references.
type ServiceRequestUse struct {
	_                 struct{}   `json:"-" additionalProperties:"true"`
	UsedByLegalEntity Reference  `json:"used_by_legal_entity" doc:"The caller's legal entity"`
	UsedByEmployee    *Reference `json:"used_by_employee,omitempty" doc:"An approved employee of it, of a type that fits the category"`
	UsedByDivision    *Reference `json:"used_by_division,omitempty" doc:"Mandatory for hospitalization and transfer_of_care"`
	Program           *Reference `json:"program,omitempty"`
}

// checkUse refuses references whose type lies.
func checkUse(body rest.Sent) []*huma.ErrorDetail {
	return slices.Concat(
		checkResource(body.Property("used_by_legal_entity"), "legal_entity"),
		checkResource(body.Property("used_by_employee"), "employee"),
		checkResource(body.Property("used_by_division"), "division"),
		checkResource(body.Property("program"), "medical_program"),
	)
}

// ServiceRequestRelease is the body of an action to release: nothing needs to be said, and unknown keys are ignored.
type ServiceRequestRelease struct {
	_ struct{} `json:"-" additionalProperties:"true"`
}

// ServiceRequestProcess is the body of an action to process: nothing needs to be said, and unknown keys are ignored.
type ServiceRequestProcess struct {
	_ struct{} `json:"-" additionalProperties:"true"`
}

// ServiceRequestCompletion is the body of an action to complete. Unknown keys are ignored, but not inside the
// references.
type ServiceRequestCompletion struct {
	_              struct{}         `json:"-" additionalProperties:"true"`
	CompletedWith  *Reference       `json:"completed_with,omitempty" doc:"An encounter, where the type is left out, a diagnostic_report or a procedure; needs program_service"`
	ProgramService *Reference       `json:"program_service,omitempty" doc:"Service of the programme that was rendered"`
	StatusReason   *CodeableConcept `json:"status_reason,omitempty" doc:"One coding, of dictionary eHealth/service_request_complete_reasons"`
}

const completeReasons = "eHealth/service_request_complete_reasons"

// checkCompletion refuses references whose type lies, and a reason that is not one code of its dictionary's system;
// whether the dictionary has the code is a later check.
func checkCompletion(body rest.Sent) []*huma.ErrorDetail {
	reason := body.Property("status_reason").Property("coding")
	return slices.Concat(
		checkResource(body.Property("completed_with"), "encounter", "diagnostic_report", "procedure"),
		checkResource(body.Property("program_service"), "program_service"),
		reason.AtMost(1),
		reason.First().Property("system").OneOf(completeReasons),
	)
}

// order is the part of the body that the rules and effects in the database read.
func (u ServiceRequestUse) order() any {
	return db.UseBody{
		UsedByLegalEntity: *u.UsedByLegalEntity.id(),
		UsedByEmployee:    u.UsedByEmployee.id(),
		UsedByDivision:    u.UsedByDivision.id(),
	}
}

func (*ServiceRequestRelease) order() any { return db.ReleaseBody{} }

func (*ServiceRequestProcess) order() any { return db.ProcessBody{} }

func (c *ServiceRequestCompletion) order() any {
	var body db.CompleteBody
	if c == nil { // the request has no body
		return body
	}
	body.ProgramService = c.ProgramService.id()
	if c.CompletedWith != nil {
		body.CompletedWith = &db.CompletedWith{Type: "encounter", ID: *c.CompletedWith.id()}
		if kind := c.CompletedWith.Identifier.Type; kind != nil {
			body.CompletedWith.Type = kind.Coding[0].Code
		}
	}
	if c.StatusReason != nil {
		body.StatusReason = c.StatusReason
	}
	return body
}

// acceptedOutput is the answer to an action that has become a job: 202, or 200 if the job has ended while the caller
// waited.
type acceptedOutput struct {
	Status            int
	Location          string `header:"Location" doc:"Where the job can be read"`
	RetryAfter        string `header:"Retry-After" doc:"Of a pending job: seconds to wait before asking for it"`
	PreferenceApplied string `header:"Preference-Applied" doc:"The wait that was heeded"`
	Body              rest.Envelope[Job]
}

// actions are the operations that change service requests. Each is accepted as a job, which carries it out.
type actions struct{ jobs }

// register is the table of the actions. A pointer to a body: the request may have none.
func (a actions) register() {
	action[ServiceRequestUse]{
		name:    db.Use,
		scope:   "service_request:use",
		summary: "Use: reserve a service request",
		description: "Reserves a service request for the caller's legal entity. The rules are checked now and " +
			"once more in the job. In this order: legal entity allowed; found; has a program; not expired; " +
			"active; not used; not completed; employee of the legal entity, and of a fitting type; legal entity " +
			"the caller's own; division given, and of the legal entity, where the category asks for it.",
		check:    checkUse,
		example:  exampleUse(),
		conflict: "Service request is already used",
	}.register(a)
	action[*ServiceRequestRelease]{
		name:    db.Release,
		scope:   "service_request:use",
		summary: "Release: give a reservation back",
		description: "Gives a reserved service request back, so that it can be used again. The rules are checked " +
			"now and once more in the job. In this order: legal entity allowed; found; active; in_queue; held by " +
			"the caller's legal entity, where the registry asks for it. No body is needed.",
		example:  &ServiceRequestRelease{},
		conflict: "Invalid program processing status",
	}.register(a)
	action[*ServiceRequestProcess]{
		name:    db.Process,
		scope:   "service_request:makeinprogress",
		summary: "Process: begin to serve a reserved service request",
		description: "Marks a service request that the caller's legal entity has reserved as in progress. The " +
			"rules are checked now and once more in the job. In this order: legal entity allowed; found; active; " +
			"in_queue; held by the caller's legal entity. No body is needed.",
		example:  &ServiceRequestProcess{},
		conflict: "Invalid program processing status",
	}.register(a)
	action[*ServiceRequestCompletion]{
		name:    db.Complete,
		scope:   "service_request:complete",
		summary: "Complete a service request",
		description: "Completes a service request for ever. The rules are checked now and once more in the job. " +
			"In this order: legal entity allowed; found; active; with a program: held by the caller's legal " +
			"entity, in_progress; completed_with comes with program_service; status_reason in its dictionary.",
		check:    checkCompletion,
		example:  exampleCompletion(),
		conflict: "Service request is used by another legal entity",
	}.register(a)
}

// action is a row of the table: an action whose requests have the body B.
type action[B interface{ order() any }] struct {
	name        db.Action
	scope       string
	summary     string
	description string
	check       func(rest.Sent) []*huma.ErrorDetail // see rest.Endpoint
	example     B
	conflict    string // example of the message of a 409
}

type actionInput[B any] struct {
	ServiceRequestID rest.UUID `path:"service_request_id"`
	Body             B
}

func (row action[B]) register(a actions) {
	rest.Register(a.Server, rest.Endpoint[actionInput[B], acceptedOutput]{
		Operation: huma.Operation{
			OperationID:   string(row.name) + "ServiceRequest",
			Method:        http.MethodPatch,
			Path:          "/api/service_requests/{service_request_id}/actions/" + string(row.name),
			DefaultStatus: http.StatusAccepted,
			Tags:          []string{"Service requests"},
			Summary:       row.summary,
			Description:   row.description,
		},
		Scope: row.scope,
		Waits: true,
		Check: row.check,
		Examples: rest.Examples{
			Body:    row.example,
			Answer:  examplePendingJob(),
			Awaited: exampleProcessedJob(),
			Refusals: map[int]string{
				http.StatusNotFound: "Service request not found",
				http.StatusConflict: row.conflict,
			},
		},
		Do: func(ctx context.Context, caller db.Caller, in *actionInput[B]) (*acceptedOutput, error) {
			return a.accept(ctx, db.Order{
				Action: row.name, ServiceRequestID: in.ServiceRequestID.Value(), Caller: caller, Body: in.Body.order(),
			})
		},
	})
}

// accept makes an action a job and answers the job. With Prefer: wait it answers when the job has ended, or when the
// wait is over. The answer of before the wait is kept for repetitions: the process may die while the request waits.
func (a actions) accept(ctx context.Context, o db.Order) (*acceptedOutput, error) {
	job, err := a.DB.Jobs.Accept(ctx, o)
	if err != nil {
		return nil, err
	}
	rest.Note(ctx).Job = job.ID
	answer := accepted(ctx, job)
	p := rest.PatienceOf(ctx)
	if p == 0 {
		return answer, nil
	}
	if job.Status == db.Pending {
		err := rest.Keep(ctx, answer.Status, answer.Body, "Location", answer.Location, "Retry-After", answer.RetryAfter)
		if err != nil { // the answer after the wait is kept instead
			a.Log.WarnContext(ctx, "the acceptance of an idempotent request was not kept", "request_id", rest.RequestID(ctx),
				"error", err)
		}
	}
	if awaited, err := a.await(ctx, o.Caller, job.ID, p); err == nil {
		answer = accepted(ctx, awaited)
	} else {
		// The action is accepted all the same, and the caller gets its job.
		a.Log.WarnContext(ctx, "the end of a job could not be awaited", "request_id", rest.RequestID(ctx), "error", err)
	}
	answer.PreferenceApplied = p.Applied()
	return answer, nil
}

// accepted is the answer with the job as it is now.
func accepted(ctx context.Context, job db.Job) *acceptedOutput {
	code := http.StatusAccepted
	if job.Status != db.Pending {
		code = http.StatusOK
	}
	return &acceptedOutput{
		Status:     code,
		Location:   jobHref(job),
		RetryAfter: retryAfter(job),
		Body:       rest.Object(ctx, code, jobAnswer(job)),
	}
}

func exampleUse() ServiceRequestUse {
	return ServiceRequestUse{
		UsedByLegalEntity: *reference("legal_entity", exampleClinic),
		UsedByEmployee:    reference("employee", exampleDoctor),
	}
}

func exampleCompletion() *ServiceRequestCompletion {
	return &ServiceRequestCompletion{
		CompletedWith:  reference("encounter", uuid.MustParse("e2c1a0b9-8d7f-4e6a-9b5c-4d3e2f1a0b9c")),
		ProgramService: reference("program_service", uuid.MustParse("f3d2b1ca-9e80-4f7b-8c6d-5e4f3a2b1c0d")),
		StatusReason:   &CodeableConcept{Coding: []Coding{{completeReasons, "default"}}},
	}
}
