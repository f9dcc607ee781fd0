package rest

import (
	"context"
	"errors"

	"github.com/reiestr/reiestr/db"
)

// Refused makes the answer of a refusal of the database. allowed holds the codes of the dictionary that the refusal
// speaks of; nil: it speaks of none.
type Refused func(ctx context.Context, r db.Refusal, allowed []string) *Failure

// translator makes the answer of an error.
type translator struct {
	*Config
	refused Refused
}

// answer is the answer of an error of an operation. An error that the caller did not cause is written to the log only.
func (t translator) answer(ctx context.Context, operation string, err error) *Failure {
	var f *Failure
	if errors.As(err, &f) {
		return f
	}
	var r db.Refusal
	if errors.As(err, &r) {
		codes, codesErr := t.DB.AllowedCodes(ctx, r)
		if codesErr == nil {
			return t.refused(ctx, r, codes)
		}
		err = codesErr
	}
	var full db.TooManyPending
	if errors.As(err, &full) {
		return tooManyPending(ctx, full.Until)
	}
	log := t.Log.With("request_id", RequestID(ctx), "operation", operation, "error", err)
	switch {
	case errors.Is(err, context.Canceled):
		log.DebugContext(ctx, "the caller has gone")
		return unavailable(ctx)
	case db.Unavailable(err):
		log.WarnContext(ctx, "the database is not available")
		return unavailable(ctx)
	}
	log.ErrorContext(ctx, "request failed")
	return internalError(ctx)
}
