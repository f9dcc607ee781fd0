package db_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
)

func TestRetry(t *testing.T) {
	t.Parallel()
	for name, allowed := range map[string]bool{"processed": false, "refused": false, "given up": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			operator := h.open(t, db.Owner, noon)
			e := newUse()
			job := ends[name](t, h, e)
			id, err := operator.JobRecords.Retry(t.Context(), job.ID)
			if !allowed {
				if err == nil || !strings.Contains(err.Error(), "can be retried") {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil || id == job.ID {
				t.Fatalf("%s, %v", id, err)
			}
			if _, err := operator.JobRecords.Retry(t.Context(), job.ID); err == nil ||
				!strings.Contains(err.Error(), "pending already") {
				t.Errorf("twice: %v", err)
			}
			h.run(t, db.Claim{Size: 1})
			if got := h.job(t, e.entity.id, id); got.Status != db.Processed {
				t.Errorf("the new job: %+v", got)
			}
			if got := h.job(t, e.entity.id, job.ID); got.Refusal != db.InternalError {
				t.Errorf("the old job: %+v", got)
			}
		})
	}
	h := newHouse(t)
	operator := h.open(t, db.Owner, noon)
	if _, err := operator.JobRecords.Retry(t.Context(), uuid.New()); err != db.ErrNotFound {
		t.Errorf("none: %v", err)
	}
	pending := newUse()
	job := pending.accept(t, h)
	_, err := operator.JobRecords.Retry(t.Context(), job.ID)
	if err == nil || !strings.Contains(err.Error(), "is pending") {
		t.Errorf("pending: %v", err)
	}
}
