package db

import (
	"context"
	"encoding/json"
	"errors"
	"time"

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
type ServiceRequests struct{ db *DB }

// Get finds a service request of a patient. ErrNotFound: the patient has none of that id.
func (s *ServiceRequests) Get(ctx context.Context, patientID, id uuid.UUID) (ServiceRequest, error) {
	row, err := s.db.read().GetServiceRequest(ctx, sqlc.GetServiceRequestParams{ID: id, PatientID: patientID})
	if errors.Is(err, pgx.ErrNoRows) {
		return ServiceRequest{}, ErrNotFound
	}
	if err != nil {
		return ServiceRequest{}, err
	}
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
	return r, json.Unmarshal(row.History, &r.History)
}

// Action is what can be asked of a service request.
type Action string

const (
	Use     Action = "use"
	Release Action = "release"
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
