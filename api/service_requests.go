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

	"github.com/reiestr/reiestr/api/rest"
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

// ServiceRequestContent holds the elements that the requester wrote and that no rule reads.
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

type listServiceRequestsInput struct {
	Requisition string `query:"requisition" required:"true" maxLength:"255" example:"0000-12H4-EXC5-4X6P"`
	Status      string `query:"status" enum:"active,completed,recalled,entered_in_error" default:"active"`
	Page        int64  `query:"page" minimum:"1" default:"1" doc:"A page behind the last is empty"`
	PageSize    int64  `query:"page_size" minimum:"1" maximum:"100" default:"50"`
}

type listPatientServiceRequestsInput struct {
	PatientID            rest.UUID `path:"patient_id"`
	Status               string    `query:"status" enum:"active,completed,recalled,entered_in_error" doc:"Left out: all"`
	RequesterLegalEntity rest.UUID `query:"requester_legal_entity"`
	UsedByLegalEntity    rest.UUID `query:"used_by_legal_entity"`
	Code                 rest.UUID `query:"code" doc:"The service"`
	Page                 int64     `query:"page" minimum:"1" default:"1" doc:"A page behind the last is empty"`
	PageSize             int64     `query:"page_size" minimum:"1" maximum:"100" default:"50"`
}

type serviceRequestsOutput struct {
	Body rest.ListEnvelope[ServiceRequest]
}

type getServiceRequestInput struct {
	PatientID rest.UUID `path:"patient_id"`
	ID        rest.UUID `path:"id"`
}

type serviceRequestOutput struct {
	Body rest.Envelope[ServiceRequest]
}

// serviceRequests are the operations that read service requests. The actions, which change them, are in actions.go.
type serviceRequests struct{ *rest.Server }

func (s serviceRequests) register() {
	rest.Register(s.Server, rest.Endpoint[listServiceRequestsInput, serviceRequestsOutput]{
		Operation: huma.Operation{
			OperationID: "listServiceRequests",
			Method:      http.MethodGet,
			Path:        "/api/service_requests",
			Tags:        []string{"Service requests"},
			Summary:     "Find service requests by requisition",
			Description: "The service requests of a requisition, newest first. A caller of any legal entity may " +
				"find them by the requisition.",
		},
		Scope: "service_request:read",
		Examples: rest.Examples{
			Answer: []ServiceRequest{exampleServiceRequest()},
			Invalid: rest.Invalid{
				Entry: "$.page", EntryType: "query_parameter",
				Rules: []rest.Rule{rest.CastRule("integer", "string")},
			},
		},
		Do: func(ctx context.Context, _ db.Caller, in *listServiceRequestsInput) (*serviceRequestsOutput, error) {
			page := db.Page{Number: in.Page, Size: in.PageSize}
			list, err := s.DB.ServiceRequests.ByRequisition(ctx, in.Requisition, in.Status, page)
			return serviceRequestsAnswer(ctx, list, err)
		},
	})
	rest.Register(s.Server, rest.Endpoint[listPatientServiceRequestsInput, serviceRequestsOutput]{
		Operation: huma.Operation{
			OperationID: "listPatientServiceRequests",
			Method:      http.MethodGet,
			Path:        "/api/patients/{patient_id}/service_requests",
			Tags:        []string{"Service requests"},
			Summary:     "List the service requests of a patient",
			Description: "The service requests of a patient, newest first. All filters that are given have to " +
				"fit. For an unknown patient the list is empty.",
		},
		Scope: "service_request:read",
		Examples: rest.Examples{
			Answer: []ServiceRequest{exampleServiceRequest()},
			Invalid: rest.Invalid{
				Entry: "$.page", EntryType: "query_parameter",
				Rules: []rest.Rule{rest.CastRule("integer", "string")},
			},
		},
		Do: func(ctx context.Context, _ db.Caller, in *listPatientServiceRequestsInput) (*serviceRequestsOutput, error) {
			list, err := s.DB.ServiceRequests.OfPatient(ctx, in.PatientID.Value(), db.ServiceRequestFilter{
				Status:                 rest.OptionalText(in.Status),
				RequesterLegalEntityID: in.RequesterLegalEntity.Optional(),
				UsedByLegalEntityID:    in.UsedByLegalEntity.Optional(),
				CodeID:                 in.Code.Optional(),
			}, db.Page{Number: in.Page, Size: in.PageSize})
			return serviceRequestsAnswer(ctx, list, err)
		},
	})
	rest.Register(s.Server, rest.Endpoint[getServiceRequestInput, serviceRequestOutput]{
		Operation: huma.Operation{
			OperationID: "getServiceRequest",
			Method:      http.MethodGet,
			Path:        "/api/patients/{patient_id}/service_requests/{id}",
			Tags:        []string{"Service requests"},
			Summary:     "Read a service request of a patient",
		},
		Scope: "service_request:read",
		Examples: rest.Examples{
			Answer: exampleServiceRequest(),
			Refusals: map[int]string{
				http.StatusNotFound: "Service request not found",
			},
		},
		Do: s.get,
	})
}

func (s serviceRequests) get(
	ctx context.Context, _ db.Caller, in *getServiceRequestInput,
) (*serviceRequestOutput, error) {
	found, err := s.DB.ServiceRequests.Get(ctx, in.PatientID.Value(), in.ID.Value())
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
	return &serviceRequestOutput{rest.Object(ctx, http.StatusOK, answer)}, nil
}

func serviceRequestsAnswer(
	ctx context.Context, list db.List[db.ServiceRequest], err error,
) (*serviceRequestsOutput, error) {
	if err != nil {
		return nil, err
	}
	answer, err := rest.List(ctx, list, serviceRequestAnswer)
	return &serviceRequestsOutput{answer}, err
}

const categories = "eHealth/SNOMED/service_request_categories"

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
		Category:                       CodeableConcept{Coding: []Coding{{categories, r.Category}}},
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
			a.ProgramProcessingStatusHistory = append(a.ProgramProcessingStatusHistory,
				ProcessingStatusHistoryItem{*h.ProgramProcessingStatus, reason, stamp})
		case h.UsedByLegalEntity != nil:
			a.UsedByLegalEntityHistory = append(a.UsedByLegalEntityHistory,
				UsedByLegalEntityHistoryItem{*reference("legal_entity", *h.UsedByLegalEntity), stamp})
		case h.UsedByEmployee != nil:
			a.UsedByEmployeeHistory = append(a.UsedByEmployeeHistory,
				UsedByEmployeeHistoryItem{*reference("employee", *h.UsedByEmployee), stamp})
		}
	}
	return a, nil
}

// concept reads a stored CodeableConcept. It returns nil for null and for no bytes.
func concept(stored json.RawMessage) (*CodeableConcept, error) {
	if len(stored) == 0 {
		return nil, nil
	}
	var c *CodeableConcept
	err := jsonv2.Unmarshal(stored, &c)
	return c, err
}

func exampleServiceRequest() ServiceRequest {
	active, isNew, queued := "active", "new", "in_queue"
	answer, err := serviceRequestAnswer(db.ServiceRequest{
		ID: exampleRequest, Requisition: "0000-12H4-EXC5-4X6P", PatientID: examplePatient, Status: active,
		ProgramID:               uuid.NullUUID{UUID: uuid.MustParse("5d2b7c5e-4a86-4c7d-8a9a-6b3f1d0e2c48"), Valid: true},
		ProgramProcessingStatus: &queued, UsedByLegalEntityID: uuid.NullUUID{UUID: exampleClinic, Valid: true},
		UsedByEmployeeID: uuid.NullUUID{UUID: exampleDoctor, Valid: true}, Category: "counselling",
		RequesterLegalEntityID: uuid.NullUUID{UUID: uuid.MustParse("b1c2d3e4-f5a6-4b7c-8d9e-0f1a2b3c4d5e"), Valid: true},
		ExpirationDate:         exampleMoment.AddDate(1, 0, 0),
		Content:                []byte(`{"intent": "order", "priority": "routine"}`),
		History: []db.HistoryItem{
			{Status: &active, InsertedAt: exampleMoment, InsertedBy: exampleUser},
			{ProgramProcessingStatus: &isNew, InsertedAt: exampleMoment, InsertedBy: exampleUser},
			{ProgramProcessingStatus: &queued, InsertedAt: exampleMoment, InsertedBy: exampleUser},
			{UsedByLegalEntity: &exampleClinic, InsertedAt: exampleMoment, InsertedBy: exampleUser},
			{UsedByEmployee: &exampleDoctor, InsertedAt: exampleMoment, InsertedBy: exampleUser},
		},
		InsertedAt: exampleMoment, UpdatedAt: exampleMoment,
	})
	if err != nil {
		panic(err) // it is the same at every start
	}
	return answer
}
