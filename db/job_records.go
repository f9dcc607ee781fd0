package db

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/reiestr/reiestr/db/sqlc"
)

// JobRecord is a job for the operator. It has ids and states, but no content of the request.
type JobRecord struct {
	ID               uuid.UUID  `json:"id"`
	Status           JobStatus  `json:"status"`
	Action           Action     `json:"action"`
	ServiceRequestID uuid.UUID  `json:"service_request_id"`
	ClientID         uuid.UUID  `json:"client_id"`
	UserID           uuid.UUID  `json:"user_id"`
	Refusal          Refusal    `json:"refusal,omitempty"`
	Attempts         int        `json:"attempts"`
	InsertedAt       time.Time  `json:"inserted_at"`
	EndedAt          *time.Time `json:"ended_at,omitempty"`
}

// JobRecords are the jobs of all clients, for the operator.
type JobRecords struct{ db *statements }

// List answers at most limit jobs with the status ("": with any). Pending jobs come first, then ended ones, the latest
// first. Owner only.
func (j *JobRecords) List(ctx context.Context, status JobStatus, limit int) ([]JobRecord, error) {
	rows, err := j.db.read().ListJobs(ctx, sqlc.ListJobsParams{Status: string(status), SizeLimit: int32(limit)})
	found := make([]JobRecord, len(rows))
	for i, r := range rows {
		found[i] = jobRecord(sqlc.ShowJobRow(r))
	}
	return found, err
}

// Show finds a job. ErrNotFound: there is none. Owner only.
func (j *JobRecords) Show(ctx context.Context, id uuid.UUID) (JobRecord, error) {
	row, err := j.db.read().ShowJob(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	return jobRecord(row), err
}

// Retry makes a new job with the order of a job that failed with InternalError, and answers its id. ErrNotFound: there
// is no such job. Any other job cannot be retried; the error says why. Owner only.
func (j *JobRecords) Retry(ctx context.Context, id uuid.UUID) (uuid.UUID, error) {
	row, err := j.db.read().RetryJob(ctx, id)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return uuid.UUID{}, ErrNotFound
	case err != nil:
		return uuid.UUID{}, err
	case row.RetryID.Valid:
		return row.RetryID.UUID, nil
	case row.Status != string(Failed):
		return uuid.UUID{}, fmt.Errorf("job %s is %s: only one that failed with %s can be retried", id, row.Status,
			string(InternalError))
	case *row.Refusal != string(InternalError):
		return uuid.UUID{}, fmt.Errorf("job %s failed with %s: only one that failed with %s can be retried", id, *row.Refusal,
			string(InternalError))
	}
	return uuid.UUID{}, fmt.Errorf("an equal job of job %s is pending already", id)
}

func jobRecord(r sqlc.ShowJobRow) JobRecord {
	record := JobRecord{
		ID: r.ID, Status: JobStatus(r.Status), Action: Action(r.Action), ServiceRequestID: r.ServiceRequestID,
		ClientID: r.ClientID, UserID: r.UserID,
		Attempts: int(r.Attempts), InsertedAt: r.InsertedAt.UTC(),
	}
	if r.Refusal != nil {
		record.Refusal = Refusal(*r.Refusal)
	}
	if r.EndedAt != nil {
		ended := r.EndedAt.UTC()
		record.EndedAt = &ended
	}
	return record
}
