package db_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/db/sqlc"
)

// TestLockedRowsHaveOneHolder: while a transaction holds rows that a query has locked for a decision, no other
// transaction can lock them, not even with FOR SHARE. A foreign key to them (FOR KEY SHARE) does not wait.
func TestLockedRowsHaveOneHolder(t *testing.T) {
	t.Parallel()
	const jobs, requests, entities, licenses = "ops.jobs", "medical_events.service_requests", "prm.legal_entities",
		"prm.licenses"
	claim := sqlc.ClaimJobsParams{Actions: []string{"use"}, WalkSize: 9, BatchSize: 9}
	// Each query answers what it must have locked: ids by table.
	for name, query := range map[string]func(*testing.T, *house, *sqlc.Queries) (map[string]uuid.UUID, error){
		"ClaimJobs": func(t *testing.T, h *house, q *sqlc.Queries) (map[string]uuid.UUID, error) {
			e := newUse()
			held := map[string]uuid.UUID{jobs: e.accept(t, h).ID, requests: e.request.id}
			_, err := q.ClaimJobs(t.Context(), claim)
			return held, err
		},
		"ClaimRepeatedJobs": func(t *testing.T, h *house, q *sqlc.Queries) (map[string]uuid.UUID, error) {
			e := newUse()
			held := map[string]uuid.UUID{jobs: e.accept(t, h).ID, requests: e.request.id}
			_, err := h.Jobs.CountAttempt(t.Context(), held[jobs], 0)
			must(t, err)
			_, err = q.ClaimRepeatedJobs(t.Context(), sqlc.ClaimRepeatedJobsParams(claim))
			return held, err
		},
		"FindExpiredServiceRequest": func(t *testing.T, h *house, q *sqlc.Queries) (map[string]uuid.UUID, error) {
			s := newServiceRequest()
			s.expires = noon.Add(-time.Hour)
			h.save(t, s)
			_, err := q.FindExpiredServiceRequest(t.Context(), sqlc.FindExpiredServiceRequestParams{AsOf: &noon})
			return map[string]uuid.UUID{requests: s.id}, err
		},
		"LockLegalEntities": func(t *testing.T, h *house, q *sqlc.Queries) (map[string]uuid.UUID, error) {
			l := newLegalEntity()
			h.save(t, l)
			_, err := q.LockLegalEntities(t.Context(), []uuid.UUID{l.id})
			return map[string]uuid.UUID{entities: l.id}, err
		},
		"LockLegalEntitiesOfBundle": func(t *testing.T, h *house, q *sqlc.Queries) (map[string]uuid.UUID, error) {
			l := newLegalEntity()
			h.save(t, l)
			return map[string]uuid.UUID{entities: l.id}, q.LockLegalEntitiesOfBundle(t.Context(), []uuid.UUID{l.id})
		},
		"LockLicense": func(t *testing.T, h *house, q *sqlc.Queries) (map[string]uuid.UUID, error) {
			a := newAmendment()
			a.save(t, h)
			return map[string]uuid.UUID{licenses: a.stored.id}, q.LockLicense(t.Context(), sqlc.LockLicenseParams{
				ID: a.stored.id, LegalEntityID: a.entity.id,
			})
		},
		"LockServiceRequestsOfBundle": func(t *testing.T, h *house, q *sqlc.Queries) (map[string]uuid.UUID, error) {
			s := newServiceRequest()
			h.save(t, s)
			_, err := q.LockServiceRequestsOfBundle(t.Context(), []uuid.UUID{s.id})
			return map[string]uuid.UUID{requests: s.id}, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			tx := h.begin(t)
			held, err := query(t, h, sqlc.New(tx))
			must(t, err)
			for table, id := range held {
				lock := `SELECT count(*) FROM (SELECT FROM ` + table + ` WHERE id = $1 FOR %s SKIP LOCKED) AS locked`
				for strength, want := range map[string]int{"SHARE": 0, "KEY SHARE": 1} {
					if n := value[int](t, h, rest(lock, strength), id); n != want {
						t.Errorf("%s: another transaction can lock %d rows FOR %s, want %d", table, n, strength, want)
					}
				}
			}
			must(t, tx.Rollback(context.WithoutCancel(t.Context())))
		})
	}
}

// TestExpireTakesTheEarliestFreeOnes: a batch of the expiry has the service requests that expired first, wherever
// their rows lie. It passes over those that another transaction holds, even with FOR SHARE, and waits
// for none of them.
func TestExpireTakesTheEarliestFreeOnes(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var all []serviceRequest
	for _, hours := range []int{1, 4, 2, 3} {
		s := newServiceRequest()
		s.expires = noon.Add(-time.Duration(hours) * time.Hour)
		h.save(t, s)
		all = append(all, s)
	}
	h.exec(t, `ANALYZE medical_events.service_requests`)
	holder := h.begin(t)
	exec(t, holder, `SELECT FROM medical_events.service_requests WHERE id = $1 FOR SHARE`, all[1].id)
	tx := h.begin(t)
	exec(t, tx, `SET LOCAL lock_timeout = '5s'`)
	q := sqlc.New(tx)
	found, err := q.FindExpiredServiceRequest(t.Context(), sqlc.FindExpiredServiceRequestParams{AsOf: &noon})
	if found.ID != all[3].id || err != nil {
		t.Errorf("found the wrong service request: %v, %v", found, err)
	}
	recalled, err := q.ExpireServiceRequests(t.Context(), sqlc.ExpireServiceRequestsParams{
		AsOf: &noon, BatchSize: 2, UserID: operator,
	})
	if recalled.Recalled != 2 || recalled.ID != all[2].id || err != nil {
		t.Errorf("recalled %+v, %v", recalled, err)
	}
	must(t, tx.Commit(t.Context()))
	left := column[uuid.UUID](t, h, `SELECT id FROM medical_events.service_requests WHERE status = 'active'
		ORDER BY expiration_date`)
	if !slices.Equal(left, []uuid.UUID{all[1].id, all[0].id}) {
		t.Errorf("left %v of %v", left, all)
	}
}

// TestRunTakesTheOldestJobsWhereverTheyLie: the order of the jobs is that of their acceptance, and that of repeated
// jobs is the order in which they are due. Where their rows lie in the table does not matter.
func TestRunTakesTheOldestJobsWhereverTheyLie(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var ids []uuid.UUID
	for range 4 {
		ids = append(ids, newUse().accept(t, h).ID)
	}
	// An update puts a new version of the row behind all others.
	for _, id := range []uuid.UUID{ids[2], ids[0], ids[3], ids[1]} {
		h.exec(t, `UPDATE ops.jobs SET trace_context = NULL WHERE id = $1`, id)
	}
	h.exec(t, `ANALYZE ops.jobs`)
	claim := sqlc.ClaimJobsParams{Actions: []string{"use"}, WalkSize: 9, BatchSize: 3}
	claimed := func(claim func(q *sqlc.Queries) ([]uuid.UUID, error)) []uuid.UUID {
		var taken []uuid.UUID
		must(t, pgx.BeginFunc(t.Context(), h.pool(t, db.App), func(tx pgx.Tx) (err error) {
			taken, err = claim(sqlc.New(tx))
			return err
		}))
		return taken
	}
	taken := claimed(func(q *sqlc.Queries) (ids []uuid.UUID, err error) {
		rows, err := q.ClaimJobs(t.Context(), claim)
		for _, r := range rows {
			ids = append(ids, r.ID)
		}
		return ids, err
	})
	if !slices.Equal(taken, ids[:3]) {
		t.Errorf("taken %v, want the first three of %v", taken, ids)
	}
	due := []uuid.UUID{ids[1], ids[3], ids[0], ids[2]}
	for _, n := range []int{2, 0, 3, 1} {
		h.exec(t, `UPDATE ops.jobs SET not_before = statement_timestamp() - make_interval(hours => $2) WHERE id = $1`,
			due[n], 9-n)
	}
	h.exec(t, `ANALYZE ops.jobs`)
	taken = claimed(func(q *sqlc.Queries) (ids []uuid.UUID, err error) {
		rows, err := q.ClaimRepeatedJobs(t.Context(), sqlc.ClaimRepeatedJobsParams(claim))
		for _, r := range rows {
			ids = append(ids, r.ID)
		}
		return ids, err
	})
	if !slices.Equal(taken, due[:3]) {
		t.Errorf("repeated: taken %v, want the first three of %v", taken, due)
	}
}
