package db

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/reiestr/reiestr/db/sqlc"
)

// expiryBatch is how many service requests a transaction of the expiry recalls at most.
const expiryBatch = 500

// Expire recalls the active service requests that had expired at a moment and that nobody has reserved (contract 4.9); nil: now. It tells
// how many, also when it fails or is stopped half-way: each batch is a transaction of its own, and the next run takes up the rest. Any
// number may run at once; a service request that another transaction holds at the moment is left to the next run.
func (s *ServiceRequests) Expire(ctx context.Context, asOf *time.Time) (recalled int64, err error) {
	if asOf == nil {
		asOf = s.db.moment()
	}
	batch := sqlc.ExpireServiceRequestsParams{AsOf: asOf, BatchSize: expiryBatch, UserID: SystemUser}
	for {
		var row sqlc.ExpireServiceRequestsRow
		err := s.db.transact(ctx, "expire service requests", func(t *transaction) (err error) {
			row, err = t.last().ExpireServiceRequests(ctx, batch)
			return err
		})
		if errors.Is(err, pgx.ErrNoRows) {
			return recalled, nil
		}
		if err != nil {
			return recalled, err
		}
		recalled += row.Recalled
		batch.AfterExpirationDate, batch.AfterID = row.ExpirationDate, row.ID
	}
}
