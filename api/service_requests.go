package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
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
	StatusHistory                  []StatusHistoryItem            `json:"status_history" nullable:"false" doc:"Oldest first"`
	ProgramProcessingStatusHistory []ProcessingStatusHistoryItem  `json:"program_processing_status_history" nullable:"false" doc:"Oldest first"`
	UsedByLegalEntity              *Reference                     `json:"used_by_legal_entity" doc:"Holder of the reservation"`
	UsedByEmployee                 *Reference                     `json:"used_by_employee"`
	UsedByDivision                 *Reference                     `json:"used_by_division"`
	UsedByLegalEntityHistory       []UsedByLegalEntityHistoryItem `json:"used_by_legal_entity_history" nullable:"false" doc:"Oldest first"`
	UsedByEmployeeHistory          []UsedByEmployeeHistoryItem    `json:"used_by_employee_history" nullable:"false" doc:"Oldest first"`
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
	ReasonReference    []Reference `json:"reason_reference" nullable:"false"`
	SupportingInfo     []Reference `json:"supporting_info" nullable:"false"`
	PermittedResources []Reference `json:"permitted_resources" nullable:"false"`
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

type useInput struct {
	ServiceRequestID UUID `path:"service_request_id"`
	Body             ServiceRequestUse
}

type releaseInput struct {
	ServiceRequestID UUID `path:"service_request_id"`
	Body             *ServiceRequestRelease
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
		return nil, refused(ctx, db.ServiceRequestNotFound)
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
	if err := json.Unmarshal(r.Content, &a.ServiceRequestContent); err != nil {
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
		if err := json.Unmarshal(r.CompletedWith, &with); err != nil {
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
	err := json.Unmarshal(stored, &c)
	return c, err
}
