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

const (
	// expiryBatch is how many service requests a transaction of the expiry recalls at most.
	expiryBatch = 500
	// mostUnclear bounds the service requests that fail one after the other with errors that need not follow from their
	// data. With more of them the database is the cause, and the run ends.
	mostUnclear = 10
)

// Expired is what a run of the expiry has done.
type Expired struct {
	Recalled int64
	Failed   int64 // passed over, as they could not be recalled; the next run tries them again
}

// Expire recalls the active service requests that had expired at a moment and that are not reserved (contract 4.9); nil:
// now. A service request that cannot be recalled is passed over, and failed is called with its id and the error.
// Expire tells what it has done also when it fails or is stopped: each batch is a transaction of its own, and the next
// run takes up the rest. Any number may run at once. A service request that another transaction holds at the moment is
// left to the next run.
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
			return done, fmt.Errorf("find the service request that could not be recalled: %w", errors.Join(findErr, err))
		}
		done.Failed++
		failed(next.ID, err)
		batch.AfterExpirationDate, batch.AfterID = next.ExpirationDate, next.ID
	}
}

// expireBatch recalls a batch, and tells how many it has recalled and the last of them. pgx.ErrNoRows: there is none.
func (s *ServiceRequests) expireBatch(
	ctx context.Context, batch sqlc.ExpireServiceRequestsParams,
) (last sqlc.ExpireServiceRequestsRow, err error) {
	err = s.db.transact(ctx, "expire service requests", func(t *transaction) (err error) {
		last, err = t.last().ExpireServiceRequests(ctx, batch)
		return err
	})
	return last, err
}
