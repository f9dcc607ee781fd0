package db

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/reiestr/reiestr/db/sqlc"
)

// ServiceRequest is an electronic referral with its histories.
type ServiceRequest struct {
	ID                      uuid.UUID
	Requisition             string
	PatientID               uuid.UUID
	Status                  string
	ProgramID               uuid.NullUUID
	ProgramProcessingStatus *string
	UsedByLegalEntityID     uuid.NullUUID
	UsedByEmployeeID        uuid.NullUUID
	UsedByDivisionID        uuid.NullUUID
	Category                string
	RequesterLegalEntityID  uuid.NullUUID
	ExpirationDate          time.Time
	CompletedWith           json.RawMessage // {type, id}; nil: none
	ProgramServiceID        uuid.NullUUID
	StatusReason            json.RawMessage // CodeableConcept; nil: none
	Content                 json.RawMessage // the elements no rule reads, in the shape of the contract
	History                 []HistoryItem   // all four histories, oldest first
	InsertedAt              time.Time
	UpdatedAt               time.Time
}

// HistoryItem is one new value of one element; exactly one of the first four is set.
type HistoryItem struct {
	Status                  *string         `json:"status"`
	ProgramProcessingStatus *string         `json:"program_processing_status"`
	UsedByLegalEntity       *uuid.UUID      `json:"used_by_legal_entity"`
	UsedByEmployee          *uuid.UUID      `json:"used_by_employee"`
	StatusReason            json.RawMessage `json:"status_reason"`
	InsertedAt              time.Time       `json:"inserted_at"`
	InsertedBy              uuid.UUID       `json:"inserted_by"`
}

// ServiceRequests are the electronic referrals and the actions on them.
type ServiceRequests struct{ db *statements }

// Get finds a service request of a patient. ErrNotFound: the patient has none of that id.
func (s *ServiceRequests) Get(ctx context.Context, patientID, id uuid.UUID) (ServiceRequest, error) {
	row, err := s.db.shared().GetServiceRequest(ctx, sqlc.GetServiceRequestParams{ID: id, PatientID: patientID})
	if errors.Is(err, pgx.ErrNoRows) {
		return ServiceRequest{}, ErrNotFound
	}
	if err != nil {
		return ServiceRequest{}, err
	}
	return serviceRequestOf(row.MedicalEventsServiceRequest, row.History)
}

// ByRequisition answers the service requests of a requisition that have the status, newest first (contract 4.8).
func (s *ServiceRequests) ByRequisition(ctx context.Context, requisition, status string, p Page) (List[ServiceRequest], error) {
	return listOf(p,
		func(size, offset int64) ([]sqlc.ListServiceRequestsByRequisitionRow, error) {
			return s.db.shared().ListServiceRequestsByRequisition(ctx, sqlc.ListServiceRequestsByRequisitionParams{
				Requisition: requisition, Status: status, PageSize: size, PageOffset: offset,
			})
		},
		func(r sqlc.ListServiceRequestsByRequisitionRow) int64 { return r.TotalEntries },
		func(r sqlc.ListServiceRequestsByRequisitionRow) (ServiceRequest, error) {
			return serviceRequestOf(r.MedicalEventsServiceRequest, r.History)
		})
}

// ServiceRequestFilter says which service requests of a patient are wanted; the zero value: all.
type ServiceRequestFilter struct {
	Status                 *string
	RequesterLegalEntityID uuid.NullUUID
	UsedByLegalEntityID    uuid.NullUUID
	CodeID                 uuid.NullUUID // the service
}

// OfPatient answers service requests of a patient, newest first (contract 4.8).
func (s *ServiceRequests) OfPatient(ctx context.Context, patientID uuid.UUID, f ServiceRequestFilter, p Page) (List[ServiceRequest], error) {
	return listOf(p,
		func(size, offset int64) ([]sqlc.ListServiceRequestsOfPatientRow, error) {
			return s.db.shared().ListServiceRequestsOfPatient(ctx, sqlc.ListServiceRequestsOfPatientParams{
				PatientID:              patientID,
				Status:                 f.Status,
				RequesterLegalEntityID: f.RequesterLegalEntityID,
				UsedByLegalEntityID:    f.UsedByLegalEntityID,
				CodeID:                 f.CodeID,
				PageSize:               size,
				PageOffset:             offset,
			})
		},
		func(r sqlc.ListServiceRequestsOfPatientRow) int64 { return r.TotalEntries },
		func(r sqlc.ListServiceRequestsOfPatientRow) (ServiceRequest, error) {
			return serviceRequestOf(r.MedicalEventsServiceRequest, r.History)
		})
}

func serviceRequestOf(row sqlc.MedicalEventsServiceRequest, history []byte) (ServiceRequest, error) {
	r := ServiceRequest{
		ID:                      row.ID,
		Requisition:             row.Requisition,
		PatientID:               row.PatientID,
		Status:                  row.Status,
		ProgramID:               row.ProgramID,
		ProgramProcessingStatus: row.ProgramProcessingStatus,
		UsedByLegalEntityID:     row.UsedByLegalEntityID,
		UsedByEmployeeID:        row.UsedByEmployeeID,
		UsedByDivisionID:        row.UsedByDivisionID,
		Category:                row.Category,
		RequesterLegalEntityID:  row.RequesterLegalEntityID,
		ExpirationDate:          row.ExpirationDate,
		CompletedWith:           row.CompletedWith,
		ProgramServiceID:        row.ProgramServiceID,
		StatusReason:            row.StatusReason,
		Content:                 row.Content,
		InsertedAt:              row.InsertedAt,
		UpdatedAt:               row.UpdatedAt,
	}
	return r, jsonv2.Unmarshal(history, &r.History)
}

// Action is what can be asked of a service request.
type Action string

const (
	Use      Action = "use"
	Release  Action = "release"
	Process  Action = "process"
	Complete Action = "complete"
)

// Order is an action that a caller wants carried out on a service request.
type Order struct {
	Action           Action
	ServiceRequestID uuid.UUID
	Caller           Caller
	Body             any // what else the caller said; marshals to a JSON object: ids by element name
}

// UseBody is the Body of an order to use.
type UseBody struct {
	UsedByLegalEntity uuid.UUID  `json:"used_by_legal_entity"`
	UsedByEmployee    *uuid.UUID `json:"used_by_employee,omitempty"`
	UsedByDivision    *uuid.UUID `json:"used_by_division,omitempty"`
	Program           *uuid.UUID `json:"program,omitempty"`
}

// ReleaseBody is the Body of an order to release: there is nothing to say.
type ReleaseBody struct{}

// ProcessBody is the Body of an order to process: there is nothing to say.
type ProcessBody struct{}

// CompleteBody is the Body of an order to complete.
type CompleteBody struct {
	CompletedWith  *CompletedWith `json:"completed_with,omitempty"`
	ProgramService *uuid.UUID     `json:"program_service,omitempty"`
	StatusReason   any            `json:"status_reason,omitempty"` // marshals to a CodeableConcept; nil: none
}

// CompletedWith is what completed a service request: an encounter, a diagnostic report or a procedure.
type CompletedWith struct {
	Type string    `json:"type"`
	ID   uuid.UUID `json:"id"`
}

// wanted is an order on its way through ladder and effect; all of a slice have the same action.
type wanted struct {
	job              uuid.UUID
	serviceRequestID uuid.UUID
	caller           Caller
	body             []byte
}

// verdict is what the ladder says of one order.
type verdict struct {
	patientID uuid.NullUUID
	refusal   Refusal // "": none
}

// rules are the SQL of one action: the ladder, which runs at the request and again in the job, and the effect.
type rules struct {
	judge func(context.Context, *sqlc.Queries, *time.Time, columns) (map[uuid.UUID]verdict, error)
	apply func(context.Context, *sqlc.Queries, columns) (int64, error)
}

var rulesOf = map[Action]rules{
	Use: {
		judge: func(ctx context.Context, q *sqlc.Queries, asOf *time.Time, c columns) (map[uuid.UUID]verdict, error) {
			rows, err := q.JudgeUse(ctx, sqlc.JudgeUseParams{
				Ids: c.jobs, ServiceRequestIds: c.serviceRequests, ClientIds: c.clients, Bodies: c.bodies, AsOf: asOf,
			})
			return verdicts(rows, func(r sqlc.JudgeUseRow) (uuid.UUID, verdict) {
				return r.ID, verdict{r.PatientID, Refusal(r.Refusal)}
			}), err
		},
		apply: func(ctx context.Context, q *sqlc.Queries, c columns) (int64, error) {
			return q.UseServiceRequests(ctx, sqlc.UseServiceRequestsParams{
				ServiceRequestIds: c.serviceRequests, UserIds: c.users, Bodies: c.bodies,
			})
		},
	},
	Release: {
		judge: func(ctx context.Context, q *sqlc.Queries, _ *time.Time, c columns) (map[uuid.UUID]verdict, error) {
			rows, err := q.JudgeRelease(ctx, sqlc.JudgeReleaseParams{
				Ids: c.jobs, ServiceRequestIds: c.serviceRequests, ClientIds: c.clients,
			})
			return verdicts(rows, func(r sqlc.JudgeReleaseRow) (uuid.UUID, verdict) {
				return r.ID, verdict{r.PatientID, Refusal(r.Refusal)}
			}), err
		},
		apply: func(ctx context.Context, q *sqlc.Queries, c columns) (int64, error) {
			return q.ReleaseServiceRequests(ctx, sqlc.ReleaseServiceRequestsParams{
				ServiceRequestIds: c.serviceRequests, UserIds: c.users,
			})
		},
	},
	Process: {
		judge: func(ctx context.Context, q *sqlc.Queries, _ *time.Time, c columns) (map[uuid.UUID]verdict, error) {
			rows, err := q.JudgeProcess(ctx, sqlc.JudgeProcessParams{
				Ids: c.jobs, ServiceRequestIds: c.serviceRequests, ClientIds: c.clients,
			})
			return verdicts(rows, func(r sqlc.JudgeProcessRow) (uuid.UUID, verdict) {
				return r.ID, verdict{r.PatientID, Refusal(r.Refusal)}
			}), err
		},
		apply: func(ctx context.Context, q *sqlc.Queries, c columns) (int64, error) {
			return q.ProcessServiceRequests(ctx, sqlc.ProcessServiceRequestsParams{
				ServiceRequestIds: c.serviceRequests, ClientIds: c.clients, UserIds: c.users,
			})
		},
	},
	Complete: {
		judge: func(ctx context.Context, q *sqlc.Queries, _ *time.Time, c columns) (map[uuid.UUID]verdict, error) {
			rows, err := q.JudgeComplete(ctx, sqlc.JudgeCompleteParams{
				Ids: c.jobs, ServiceRequestIds: c.serviceRequests, ClientIds: c.clients, Bodies: c.bodies,
			})
			return verdicts(rows, func(r sqlc.JudgeCompleteRow) (uuid.UUID, verdict) {
				return r.ID, verdict{r.PatientID, Refusal(r.Refusal)}
			}), err
		},
		apply: func(ctx context.Context, q *sqlc.Queries, c columns) (int64, error) {
			return q.CompleteServiceRequests(ctx, sqlc.CompleteServiceRequestsParams{
				ServiceRequestIds: c.serviceRequests, ClientIds: c.clients, UserIds: c.users, Bodies: c.bodies,
			})
		},
	},
}

func verdicts[R any](rows []R, of func(R) (uuid.UUID, verdict)) map[uuid.UUID]verdict {
	m := make(map[uuid.UUID]verdict, len(rows))
	for _, r := range rows {
		id, v := of(r)
		m[id] = v
	}
	return m
}

// columns are orders as the arrays that the set-based queries take.
type columns struct {
	jobs, serviceRequests, clients, users []uuid.UUID
	bodies                                [][]byte
}

func columnsOf(orders []wanted) columns {
	n := len(orders)
	c := columns{
		jobs: make([]uuid.UUID, n), serviceRequests: make([]uuid.UUID, n), clients: make([]uuid.UUID, n), users: make([]uuid.UUID, n),
		bodies: make([][]byte, n),
	}
	for i, o := range orders {
		c.jobs[i], c.serviceRequests[i], c.clients[i], c.users[i], c.bodies[i] = o.job, o.serviceRequestID, o.caller.ClientID, o.caller.UserID, o.body
	}
	return c
}
