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
func (s *ServiceRequests) ByRequisition(
	ctx context.Context, requisition, status string, p Page,
) (List[ServiceRequest], error) {
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
func (s *ServiceRequests) OfPatient(
	ctx context.Context, patientID uuid.UUID, f ServiceRequestFilter, p Page,
) (List[ServiceRequest], error) {
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
