package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	jsonv2 "github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
)

// ServiceRequest is an electronic referral (contract, section 4.1).
type ServiceRequest struct {
	ID                             uuid.UUID                      `json:"id" format:"uuid"`
	Requisition                    string                         `json:"requisition" example:"0000-12H4-EXC5-4X6P"`
	Status                         string                         `json:"status" enum:"active,completed,recalled,entered_in_error"`
	Program                        *Reference                     `json:"program"`
	ProgramProcessingStatus        *string                        `json:"program_processing_status" enum:"new,in_queue,in_progress,completed" doc:"Null without a program, and before the first use"`
	StatusHistory                  []StatusHistoryItem            `json:"status_history" doc:"Oldest first"`
	ProgramProcessingStatusHistory []ProcessingStatusHistoryItem  `json:"program_processing_status_history" doc:"Oldest first"`
	UsedByLegalEntity              *Reference                     `json:"used_by_legal_entity" doc:"Holder of the reservation"`
	UsedByEmployee                 *Reference                     `json:"used_by_employee"`
	UsedByDivision                 *Reference                     `json:"used_by_division"`
	UsedByLegalEntityHistory       []UsedByLegalEntityHistoryItem `json:"used_by_legal_entity_history" doc:"Oldest first"`
	UsedByEmployeeHistory          []UsedByEmployeeHistoryItem    `json:"used_by_employee_history" doc:"Oldest first"`
	Category                       CodeableConcept                `json:"category" doc:"Dictionary eHealth/SNOMED/service_request_categories"`
	Subject                        Reference                      `json:"subject" doc:"The patient"`
	RequesterLegalEntity           *Reference                     `json:"requester_legal_entity"`
	ExpirationDate                 time.Time                      `json:"expiration_date"`
	CompletedWith                  *Reference                     `json:"completed_with"`
	ProgramService                 *Reference                     `json:"program_service"`
	StatusReason                   *CodeableConcept               `json:"status_reason"`
	InsertedAt                     time.Time                      `json:"inserted_at"`
	UpdatedAt                      time.Time                      `json:"updated_at"`
	ServiceRequestContent
}

// ServiceRequestContent is what the requester wrote and no rule reads.
type ServiceRequestContent struct {
	Intent             *string     `json:"intent"`
	Priority           *string     `json:"priority"`
	Code               *Reference  `json:"code" doc:"The service"`
	Context            *Reference  `json:"context" doc:"The encounter"`
	OccurrencePeriod   *Period     `json:"occurrence_period,omitempty"`
	OccurrenceDateTime *string     `json:"occurrence_date_time,omitempty"`
	RequesterEmployee  *Reference  `json:"requester_employee"`
	ReasonReference    []Reference `json:"reason_reference"`
	SupportingInfo     []Reference `json:"supporting_info"`
	PermittedResources []Reference `json:"permitted_resources"`
	Note               *string     `json:"note"`
	PatientInstruction *string     `json:"patient_instruction"`
	ExplanatoryLetter  *string     `json:"explanatory_letter"`
	Quantity           *Quantity   `json:"quantity"`
}

// HistoryStamp is when an element took on a value, and on whose request.
type HistoryStamp struct {
	InsertedAt time.Time `json:"inserted_at"`
	InsertedBy uuid.UUID `json:"inserted_by" format:"uuid"`
}

// StatusHistoryItem is one value that status took on.
type StatusHistoryItem struct {
	Status       string           `json:"status"`
	StatusReason *CodeableConcept `json:"status_reason,omitempty"`
	HistoryStamp
}

// ProcessingStatusHistoryItem is one value that program_processing_status took on.
type ProcessingStatusHistoryItem struct {
	ProgramProcessingStatus string           `json:"program_processing_status"`
	StatusReason            *CodeableConcept `json:"status_reason,omitempty"`
	HistoryStamp
}

// UsedByLegalEntityHistoryItem is one holder.
type UsedByLegalEntityHistoryItem struct {
	UsedByLegalEntity Reference `json:"used_by_legal_entity"`
	HistoryStamp
}

// UsedByEmployeeHistoryItem is one employee it was reserved for.
type UsedByEmployeeHistoryItem struct {
	UsedByEmployee Reference `json:"used_by_employee"`
	HistoryStamp
}

// ServiceRequestUse is the body of an action to use. Unknown keys are ignored, but not inside the references.
type ServiceRequestUse struct {
	_                 struct{}   `json:"-" additionalProperties:"true"`
	UsedByLegalEntity Reference  `json:"used_by_legal_entity" doc:"The caller's legal entity"`
	UsedByEmployee    *Reference `json:"used_by_employee,omitempty" doc:"An approved employee of it, of a type that fits the category"`
	UsedByDivision    *Reference `json:"used_by_division,omitempty" doc:"Mandatory for hospitalization and transfer_of_care"`
	Program           *Reference `json:"program,omitempty"`
}

// Resolve refuses references whose type lies.
func (u *ServiceRequestUse) Resolve(_ huma.Context, prefix *huma.PathBuffer) []error {
	var faults []error
	faults = append(faults, checkResource(&u.UsedByLegalEntity, prefix.With("used_by_legal_entity"), "legal_entity")...)
	faults = append(faults, checkResource(u.UsedByEmployee, prefix.With("used_by_employee"), "employee")...)
	faults = append(faults, checkResource(u.UsedByDivision, prefix.With("used_by_division"), "division")...)
	faults = append(faults, checkResource(u.Program, prefix.With("program"), "medical_program")...)
	return faults
}

// ServiceRequestRelease is the body of an action to release: nothing needs to be said, and unknown keys are ignored.
type ServiceRequestRelease struct {
	_ struct{} `json:"-" additionalProperties:"true"`
}

// ServiceRequestProcess is the body of an action to process: nothing needs to be said, and unknown keys are ignored.
type ServiceRequestProcess struct {
	_ struct{} `json:"-" additionalProperties:"true"`
}

// ServiceRequestCompletion is the body of an action to complete. Unknown keys are ignored, but not inside the references.
type ServiceRequestCompletion struct {
	_              struct{}         `json:"-" additionalProperties:"true"`
	CompletedWith  *Reference       `json:"completed_with,omitempty" doc:"An encounter, where the type is left out, a diagnostic_report or a procedure; needs program_service"`
	ProgramService *Reference       `json:"program_service,omitempty" doc:"Service of the programme that was rendered"`
	StatusReason   *CodeableConcept `json:"status_reason,omitempty" doc:"One coding, of dictionary eHealth/service_request_complete_reasons"`
}

const completeReasons = "eHealth/service_request_complete_reasons"

// Resolve refuses references whose type lies, and a reason that is not one code of its dictionary's system; whether the dictionary has the
// code is a later check.
func (c *ServiceRequestCompletion) Resolve(_ huma.Context, prefix *huma.PathBuffer) []error {
	var faults []error
	faults = append(faults, checkResource(c.CompletedWith, prefix.With("completed_with"), "encounter", "diagnostic_report", "procedure")...)
	faults = append(faults, checkResource(c.ProgramService, prefix.With("program_service"), "program_service")...)
	if c.StatusReason != nil && len(c.StatusReason.Coding) > 0 {
		coding := prefix.With("status_reason.coding")
		if len(c.StatusReason.Coding) > 1 {
			faults = append(faults, &huma.ErrorDetail{Message: "length|max|1", Location: coding})
		}
		if c.StatusReason.Coding[0].System != completeReasons {
			faults = append(faults, notOneOf(coding+"[0].system", completeReasons))
		}
	}
	return faults
}

func (c *ServiceRequestCompletion) order() db.CompleteBody {
	var body db.CompleteBody
	if c == nil {
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

type useInput struct {
	ServiceRequestID UUID `path:"service_request_id"`
	Body             ServiceRequestUse
}

type releaseInput struct {
	ServiceRequestID UUID `path:"service_request_id"`
	Body             *ServiceRequestRelease
}

type processInput struct {
	ServiceRequestID UUID `path:"service_request_id"`
	Body             *ServiceRequestProcess
}

type completeInput struct {
	ServiceRequestID UUID `path:"service_request_id"`
	Body             *ServiceRequestCompletion
}

type listServiceRequestsInput struct {
	Requisition string `query:"requisition" required:"true" maxLength:"255" example:"0000-12H4-EXC5-4X6P"`
	Status      string `query:"status" enum:"active,completed,recalled,entered_in_error" default:"active"`
	Page        int64  `query:"page" minimum:"1" default:"1" doc:"A page behind the last is empty"`
	PageSize    int64  `query:"page_size" minimum:"1" maximum:"100" default:"50"`
}

type listPatientServiceRequestsInput struct {
	PatientID            UUID   `path:"patient_id"`
	Status               string `query:"status" enum:"active,completed,recalled,entered_in_error" doc:"Left out: all"`
	RequesterLegalEntity UUID   `query:"requester_legal_entity"`
	UsedByLegalEntity    UUID   `query:"used_by_legal_entity"`
	Code                 UUID   `query:"code" doc:"The service"`
	Page                 int64  `query:"page" minimum:"1" default:"1" doc:"A page behind the last is empty"`
	PageSize             int64  `query:"page_size" minimum:"1" maximum:"100" default:"50"`
}

type serviceRequestsOutput struct {
	Body ListEnvelope[ServiceRequest]
}

type getServiceRequestInput struct {
	PatientID UUID `path:"patient_id"`
	ID        UUID `path:"id"`
}

type serviceRequestOutput struct {
	Body Envelope[ServiceRequest]
}

func (s *server) registerServiceRequests() {
	register(s, endpoint[useInput, acceptedOutput]{
		Operation: huma.Operation{
			OperationID:   "useServiceRequest",
			Method:        http.MethodPatch,
			Path:          "/api/service_requests/{service_request_id}/actions/use",
			DefaultStatus: http.StatusAccepted,
			Tags:          []string{"Service requests"},
			Summary:       "Use: reserve a service request",
			Description: "Reserves a service request for the caller's legal entity. The rules are checked now and once more in the job. In this order: legal " +
				"entity allowed; found; has a program; not expired; active; not used; not completed; employee of the legal entity, and of a fitting type; legal " +
				"entity the caller's own; division given, and of the legal entity, where the category asks for it.",
			Errors: []int{http.StatusNotFound, http.StatusConflict},
		},
		scope:         "service_request:use",
		bodyExample:   exampleUse(),
		answerExample: examplePendingJob(),
		do: func(ctx context.Context, caller db.Caller, in *useInput) (*acceptedOutput, error) {
			return s.accept(ctx, db.Order{Action: db.Use, ServiceRequestID: in.ServiceRequestID.value(), Caller: caller, Body: db.UseBody{
				UsedByLegalEntity: *in.Body.UsedByLegalEntity.id(),
				UsedByEmployee:    in.Body.UsedByEmployee.id(),
				UsedByDivision:    in.Body.UsedByDivision.id(),
				Program:           in.Body.Program.id(),
			}})
		},
	})
	register(s, endpoint[releaseInput, acceptedOutput]{
		Operation: huma.Operation{
			OperationID:   "releaseServiceRequest",
			Method:        http.MethodPatch,
			Path:          "/api/service_requests/{service_request_id}/actions/release",
			DefaultStatus: http.StatusAccepted,
			Tags:          []string{"Service requests"},
			Summary:       "Release: give a reservation back",
			Description: "Gives a reserved service request back, so that it can be used again. The rules are checked now and once more in the job. In this order: " +
				"legal entity allowed; found; active; in_queue; held by the caller's legal entity, where the registry asks for it. No body is needed.",
			Errors: []int{http.StatusNotFound, http.StatusConflict},
		},
		scope:         "service_request:use",
		bodyExample:   ServiceRequestRelease{},
		answerExample: examplePendingJob(),
		do: func(ctx context.Context, caller db.Caller, in *releaseInput) (*acceptedOutput, error) {
			return s.accept(ctx, db.Order{Action: db.Release, ServiceRequestID: in.ServiceRequestID.value(), Caller: caller, Body: db.ReleaseBody{}})
		},
	})
	register(s, endpoint[processInput, acceptedOutput]{
		Operation: huma.Operation{
			OperationID:   "processServiceRequest",
			Method:        http.MethodPatch,
			Path:          "/api/service_requests/{service_request_id}/actions/process",
			DefaultStatus: http.StatusAccepted,
			Tags:          []string{"Service requests"},
			Summary:       "Process: begin to serve a reserved service request",
			Description: "Marks a service request that the caller's legal entity has reserved as in progress. The rules are checked now and once more in the job. In " +
				"this order: legal entity allowed; found; active; in_queue; held by the caller's legal entity. No body is needed.",
			Errors: []int{http.StatusNotFound, http.StatusConflict},
		},
		scope:         "service_request:makeinprogress",
		bodyExample:   ServiceRequestProcess{},
		answerExample: examplePendingJob(),
		do: func(ctx context.Context, caller db.Caller, in *processInput) (*acceptedOutput, error) {
			return s.accept(ctx, db.Order{Action: db.Process, ServiceRequestID: in.ServiceRequestID.value(), Caller: caller, Body: db.ProcessBody{}})
		},
	})
	register(s, endpoint[completeInput, acceptedOutput]{
		Operation: huma.Operation{
			OperationID:   "completeServiceRequest",
			Method:        http.MethodPatch,
			Path:          "/api/service_requests/{service_request_id}/actions/complete",
			DefaultStatus: http.StatusAccepted,
			Tags:          []string{"Service requests"},
			Summary:       "Complete a service request",
			Description: "Completes a service request for ever. The rules are checked now and once more in the job. In this order: legal entity allowed; found; active; " +
				"with a program: held by the caller's legal entity, in_progress; completed_with comes with program_service; status_reason in its dictionary.",
			Errors: []int{http.StatusNotFound, http.StatusConflict},
		},
		scope:         "service_request:complete",
		bodyExample:   exampleCompletion(),
		answerExample: examplePendingJob(),
		do: func(ctx context.Context, caller db.Caller, in *completeInput) (*acceptedOutput, error) {
			return s.accept(ctx, db.Order{Action: db.Complete, ServiceRequestID: in.ServiceRequestID.value(), Caller: caller, Body: in.Body.order()})
		},
	})
	register(s, endpoint[listServiceRequestsInput, serviceRequestsOutput]{
		Operation: huma.Operation{
			OperationID: "listServiceRequests",
			Method:      http.MethodGet,
			Path:        "/api/service_requests",
			Tags:        []string{"Service requests"},
			Summary:     "Find service requests by requisition",
			Description: "The service requests of a requisition, newest first. Whoever knows the requisition may find them, whatever the legal entity.",
		},
		scope:         "service_request:read",
		answerExample: []ServiceRequest{exampleServiceRequest()},
		do: func(ctx context.Context, _ db.Caller, in *listServiceRequestsInput) (*serviceRequestsOutput, error) {
			list, err := s.DB.ServiceRequests.ByRequisition(ctx, in.Requisition, in.Status, db.Page{Number: in.Page, Size: in.PageSize})
			return serviceRequestsAnswer(ctx, list, err)
		},
	})
	register(s, endpoint[listPatientServiceRequestsInput, serviceRequestsOutput]{
		Operation: huma.Operation{
			OperationID: "listPatientServiceRequests",
			Method:      http.MethodGet,
			Path:        "/api/patients/{patient_id}/service_requests",
			Tags:        []string{"Service requests"},
			Summary:     "List the service requests of a patient",
			Description: "The service requests of a patient, newest first. All filters that are given have to fit. A patient nobody knows has none.",
		},
		scope:         "service_request:read",
		answerExample: []ServiceRequest{exampleServiceRequest()},
		do: func(ctx context.Context, _ db.Caller, in *listPatientServiceRequestsInput) (*serviceRequestsOutput, error) {
			list, err := s.DB.ServiceRequests.OfPatient(ctx, in.PatientID.value(), db.ServiceRequestFilter{
				Status:                 optionalText(in.Status),
				RequesterLegalEntityID: in.RequesterLegalEntity.optional(),
				UsedByLegalEntityID:    in.UsedByLegalEntity.optional(),
				CodeID:                 in.Code.optional(),
			}, db.Page{Number: in.Page, Size: in.PageSize})
			return serviceRequestsAnswer(ctx, list, err)
		},
	})
	register(s, endpoint[getServiceRequestInput, serviceRequestOutput]{
		Operation: huma.Operation{
			OperationID: "getServiceRequest",
			Method:      http.MethodGet,
			Path:        "/api/patients/{patient_id}/service_requests/{id}",
			Tags:        []string{"Service requests"},
			Summary:     "Read a service request of a patient",
			Errors:      []int{http.StatusNotFound},
		},
		scope:         "service_request:read",
		answerExample: exampleServiceRequest(),
		do:            s.getServiceRequest,
	})
}

func (s *server) getServiceRequest(ctx context.Context, _ db.Caller, in *getServiceRequestInput) (*serviceRequestOutput, error) {
	found, err := s.DB.ServiceRequests.Get(ctx, in.PatientID.value(), in.ID.value())
	if errors.Is(err, db.ErrNotFound) {
		return nil, refused(ctx, db.ServiceRequestNotFound, nil)
	}
	if err != nil {
		return nil, err
	}
	answer, err := serviceRequestAnswer(found)
	if err != nil {
		return nil, fmt.Errorf("service request %s: %w", found.ID, err)
	}
	return &serviceRequestOutput{Envelope[ServiceRequest]{metaOf(ctx, http.StatusOK), answer}}, nil
}

func serviceRequestsAnswer(ctx context.Context, list db.List[db.ServiceRequest], err error) (*serviceRequestsOutput, error) {
	if err != nil {
		return nil, err
	}
	answer, err := listEnvelope(ctx, list, serviceRequestAnswer)
	return &serviceRequestsOutput{answer}, err
}

func serviceRequestAnswer(r db.ServiceRequest) (ServiceRequest, error) {
	a := ServiceRequest{
		ID:                             r.ID,
		Requisition:                    r.Requisition,
		Status:                         r.Status,
		Program:                        optionalReference("medical_program", r.ProgramID),
		ProgramProcessingStatus:        r.ProgramProcessingStatus,
		StatusHistory:                  []StatusHistoryItem{},
		ProgramProcessingStatusHistory: []ProcessingStatusHistoryItem{},
		UsedByLegalEntity:              optionalReference("legal_entity", r.UsedByLegalEntityID),
		UsedByEmployee:                 optionalReference("employee", r.UsedByEmployeeID),
		UsedByDivision:                 optionalReference("division", r.UsedByDivisionID),
		UsedByLegalEntityHistory:       []UsedByLegalEntityHistoryItem{},
		UsedByEmployeeHistory:          []UsedByEmployeeHistoryItem{},
		Category:                       CodeableConcept{Coding: []Coding{{"eHealth/SNOMED/service_request_categories", r.Category}}},
		Subject:                        *reference("patient", r.PatientID),
		RequesterLegalEntity:           optionalReference("legal_entity", r.RequesterLegalEntityID),
		ExpirationDate:                 r.ExpirationDate.UTC(),
		ProgramService:                 optionalReference("program_service", r.ProgramServiceID),
		InsertedAt:                     r.InsertedAt.UTC(),
		UpdatedAt:                      r.UpdatedAt.UTC(),
	}
	if err := jsonv2.Unmarshal(r.Content, &a.ServiceRequestContent); err != nil {
		return a, err
	}
	for _, list := range []*[]Reference{&a.ReasonReference, &a.SupportingInfo, &a.PermittedResources} {
		if *list == nil {
			*list = []Reference{}
		}
	}
	if r.CompletedWith != nil {
		var with struct {
			Type string    `json:"type"`
			ID   uuid.UUID `json:"id"`
		}
		if err := jsonv2.Unmarshal(r.CompletedWith, &with); err != nil {
			return a, err
		}
		a.CompletedWith = reference(with.Type, with.ID)
	}
	var err error
	if a.StatusReason, err = concept(r.StatusReason); err != nil {
		return a, err
	}
	for _, h := range r.History {
		stamp := HistoryStamp{h.InsertedAt.UTC(), h.InsertedBy}
		reason, err := concept(h.StatusReason)
		if err != nil {
			return a, err
		}
		switch {
		case h.Status != nil:
			a.StatusHistory = append(a.StatusHistory, StatusHistoryItem{*h.Status, reason, stamp})
		case h.ProgramProcessingStatus != nil:
			a.ProgramProcessingStatusHistory = append(a.ProgramProcessingStatusHistory, ProcessingStatusHistoryItem{*h.ProgramProcessingStatus, reason, stamp})
		case h.UsedByLegalEntity != nil:
			a.UsedByLegalEntityHistory = append(a.UsedByLegalEntityHistory, UsedByLegalEntityHistoryItem{*reference("legal_entity", *h.UsedByLegalEntity), stamp})
		case h.UsedByEmployee != nil:
			a.UsedByEmployeeHistory = append(a.UsedByEmployeeHistory, UsedByEmployeeHistoryItem{*reference("employee", *h.UsedByEmployee), stamp})
		}
	}
	return a, nil
}

// concept reads a stored CodeableConcept; null and nothing are none.
func concept(stored json.RawMessage) (*CodeableConcept, error) {
	if len(stored) == 0 {
		return nil, nil
	}
	var c *CodeableConcept
	err := jsonv2.Unmarshal(stored, &c)
	return c, err
}
