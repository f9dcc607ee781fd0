package db

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/reiestr/reiestr/db/sqlc"
)

const (
	// expiryBatch is the largest number of service requests that one transaction of the expiry recalls.
	expiryBatch = 500
	// mostUnclear limits how many service requests in a row may fail with errors that need not follow from their data.
	// After more of them the cause is the database, and the run ends.
	mostUnclear = 10
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
	Content                 json.RawMessage // the elements that no rule reads, in the form of the contract
	History                 []HistoryItem   // all four histories, oldest first
	InsertedAt              time.Time
	UpdatedAt               time.Time
}

// HistoryItem is one new value of one element. Exactly one of the first four is set.
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

// Get finds a service request of a patient. ErrNotFound: the patient has none with that id.
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

// ByRequisition answers the service requests of a requisition with the status, newest first (contract 4.8).
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

// ServiceRequestFilter selects service requests of a patient. Its zero value selects all.
type ServiceRequestFilter struct {
	Status                 *string
	RequesterLegalEntityID uuid.NullUUID
	UsedByLegalEntityID    uuid.NullUUID
	CodeID                 uuid.NullUUID // the service
}

// OfPatient answers the service requests of a patient that the filter selects, newest first (contract 4.8).
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

// Expired is the result of a run of the expiry.
type Expired struct {
	Recalled int64
	Failed   int64 // passed over, because they could not be recalled; the next run tries them again
}

// Expire recalls the active service requests that had expired at the moment asOf and that are not reserved (contract
// 4.9); nil: now. A service request that cannot be recalled is passed over, and failed is called with its id and the
// error. Expire counts the recalled service requests also when it fails or is stopped: each batch is a transaction of
// its own, and the next run goes on with the rest. Any number of runs may work at once. A service request that another
// transaction holds at the moment is left to the next run.
func (s *ServiceRequests) Expire(
	ctx context.Context, asOf *time.Time, failed func(uuid.UUID, error),
) (done Expired, err error) {
	if asOf == nil {
		asOf = s.db.moment()
	}
	batch := sqlc.ExpireServiceRequestsParams{AsOf: asOf, BatchSize: expiryBatch, UserID: SystemUser}
	unclear := 0
	for {
		last, err := s.expireBatch(ctx, batch)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return done, nil
		case err == nil:
			done.Recalled += last.Recalled
			batch.AfterExpirationDate, batch.AfterID = last.ExpirationDate, last.ID
			batch.BatchSize, unclear = min(2*batch.BatchSize, expiryBatch), 0
			continue
		case ctx.Err() != nil || !OfRows(err):
			return done, err
		case batch.BatchSize > 1: // one of the batch may be the cause: it is found by halves
			batch.BatchSize /= 2
			continue
		}
		if !raised(err) {
			if unclear++; unclear > mostUnclear {
				return done, err
			}
		}
		next, findErr := s.db.read().FindExpiredServiceRequest(ctx, sqlc.FindExpiredServiceRequestParams{
			AsOf: asOf, AfterExpirationDate: batch.AfterExpirationDate, AfterID: batch.AfterID,
		})
		if errors.Is(findErr, pgx.ErrNoRows) {
			return done, nil
		}
		if findErr != nil {
			return done, fmt.Errorf("find the service request that could not be recalled: %w",
				errors.Join(findErr, err))
		}
		done.Failed++
		failed(next.ID, err)
		batch.AfterExpirationDate, batch.AfterID = next.ExpirationDate, next.ID
	}
}

// expireBatch recalls a batch. It answers the number of recalled service requests and the last of them. pgx.ErrNoRows:
// there was none to recall.
func (s *ServiceRequests) expireBatch(
	ctx context.Context, batch sqlc.ExpireServiceRequestsParams,
) (last sqlc.ExpireServiceRequestsRow, err error) {
	err = s.db.transact(ctx, "expire service requests", func(t *transaction) (err error) {
		last, err = t.last().ExpireServiceRequests(ctx, batch)
		return err
	})
	return last, err
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
