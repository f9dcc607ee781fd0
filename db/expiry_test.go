package db_test

import (
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
)

func autoexpired() concept {
	return concept{"coding": []any{coding{"system": "eHealth/service_request_cancel_reasons", "code": "autoexpired"}}}
}

func (h *house) expire(t testing.TB, want int64) {
	t.Helper()
	done, err := h.ServiceRequests.Expire(t.Context(), nil, mustExpire(t))
	if err != nil || done != (db.Expired{Recalled: want}) {
		t.Errorf("%+v, %v, want %d recalled", done, err, want)
	}
}

// mustExpire fails the test if the expiry passes over a service request.
func mustExpire(t testing.TB) func(uuid.UUID, error) {
	return func(id uuid.UUID, err error) { t.Errorf("service request %s is not recalled: %v", id, err) }
}

func TestExpireByState(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		change  func(*errand)
		expires bool
	}{
		{"new", func(*errand) {}, true},
		{"never processed", func(e *errand) { e.request.processing = nil }, true},
		{"without a program", (*errand).withoutProgram, true},
		{"without a program, held", func(e *errand) {
			e.withoutProgram()
			e.request.legalEntity = &e.entity.id
		}, true},
		{"never processed, held", func(e *errand) {
			e.request.processing, e.request.legalEntity = nil, &e.entity.id
		}, true},
		{"expires now", func(e *errand) { e.request.expires = noon }, false},
		{"expires later", func(e *errand) { e.request.expires = noon.Add(time.Microsecond) }, false},
		{"in queue", func(e *errand) { e.request = e.request.usedBy(e.entity) }, false},
		{"in progress", func(e *errand) {
			e.request = e.request.usedBy(e.entity)
			e.request.processing = new("in_progress")
		}, false},
		{"processed", func(e *errand) { e.request.processing = new("completed") }, false},
		{"completed", func(e *errand) { e.request.status = "completed" }, false},
		{"recalled", func(e *errand) { e.request.status = "recalled" }, false},
		{"entered in error", func(e *errand) { e.request.status = "entered_in_error" }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			e := newUse()
			e.request.expires = noon.Add(-time.Microsecond)
			test.change(e)
			e.save(t, h)
			want := e.trace(t, h)
			if !test.expires {
				h.expire(t, 0)
			} else {
				h.expire(t, 1)
				maps.Copy(want.Request, map[string]any{"status": "recalled", "status_reason": autoexpired(),
					"updated_by": db.SystemUser.String()})
				want.History = []map[string]any{{"status": "recalled", "status_reason": autoexpired(),
					"inserted_by": db.SystemUser.String()}}
				want.Events = []map[string]any{{
					"event_type": "StatusChangeEvent", "entity_type": "ServiceRequest", "entity_id": e.request.id.String(),
					"changed_by": db.SystemUser.String(), "legal_entity_ids": e.request.concerns(e.request.legalEntity),
					"properties": map[string]any{"status": map[string]any{"old_value": "active", "new_value": "recalled"}},
				}}
			}
			after := e.trace(t, h)
			if moved := after.Request["updated_at"] != want.Request["updated_at"]; moved != test.expires {
				t.Errorf("updated at %v, was %v", after.Request["updated_at"], want.Request["updated_at"])
			}
			want.Request["updated_at"] = after.Request["updated_at"]
			if !reflect.DeepEqual(after, want) {
				t.Errorf("left %v\nwant %v", after, want)
			}
			h.expire(t, 0)
		})
	}
}

func TestExpireAsOf(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.save(t, newServiceRequest()) // expires an hour after noon
	for _, test := range []struct {
		at   time.Time
		want int64
	}{
		{noon.Add(time.Hour), 0},
		{noon.Add(time.Hour + time.Microsecond), 1},
	} {
		done, err := h.ServiceRequests.Expire(t.Context(), &test.at, mustExpire(t))
		if err != nil || done.Recalled != test.want {
			t.Errorf("%s: %+v, %v", test.at, done, err)
		}
	}
}

// expired adds many expired service requests. A tenth of them expire at the same moment, and one in the middle is
// reserved.
func (h *house) expired(t testing.TB, n int) {
	t.Helper()
	e := newRelease()
	e.request.expires = noon.Add(-time.Duration(n/2) * time.Second)
	e.save(t, h)
	h.exec(t, `INSERT INTO medical_events.service_requests
			(id, requisition, patient_id, status, category, expiration_date, inserted_by, updated_by)
		SELECT gen_random_uuid(), n::text, gen_random_uuid(), 'active', 'counselling', $2::timestamptz - greatest(n,
			$1 / 10) * interval '1 second', $3, $3
		FROM generate_series(1, $1::int) AS n`, n, noon, operator)
}

// recalledOnce checks that each of n service requests has one history and one event.
func (h *house) recalledOnce(t testing.TB, n int) {
	t.Helper()
	for what, sql := range map[string]string{
		"service requests": `SELECT count(*) FROM medical_events.service_requests WHERE status = 'recalled'`,
		"histories":        `SELECT count(*) FROM medical_events.service_request_history`,
		"with a history": `SELECT count(DISTINCT service_request_id) FROM medical_events.service_request_history
			WHERE status = 'recalled'`,
		"events":        `SELECT count(*) FROM ops.events`,
		"with an event": `SELECT count(DISTINCT entity_id) FROM ops.events`,
	} {
		if got := value[int](t, h, sql); got != n {
			t.Errorf("%s: %d, want %d", what, got, n)
		}
	}
}

// poison makes the recall of a service request with one of these requisitions fail with the SQLSTATE.
func (h *house) poison(t testing.TB, code string, requisitions ...string) (cure func()) {
	t.Helper()
	h.exec(t, `
		CREATE FUNCTION medical_events.poison() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN RAISE EXCEPTION 'poison' USING ERRCODE = '`+code+`'; END $$;
		CREATE TRIGGER poison BEFORE UPDATE ON medical_events.service_requests
		FOR EACH ROW WHEN (OLD.requisition IN ('`+strings.Join(requisitions,
		"', '")+`')) EXECUTE FUNCTION medical_events.poison()`)
	return func() {
		t.Helper()
		h.exec(t, `DROP FUNCTION medical_events.poison() CASCADE`)
	}
}

// TestExpirePassesOverRowsThatFail: all other rows are recalled, and the next run tries the failed rows again.
func TestExpirePassesOverRowsThatFail(t *testing.T) {
	t.Parallel()
	const n = 1234
	for _, code := range []string{"22000", "23514", "P0001", "XX000"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			h.expired(t, n)
			poisoned := []string{"1", "400", "401", "1234"} // two neighbours, the first and the last one
			cure := h.poison(t, code, poisoned...)
			var failed []string
			done, err := h.ServiceRequests.Expire(t.Context(), nil, func(id uuid.UUID, err error) {
				if got := sqlState(err); got != code {
					t.Errorf("%s: %v", id, err)
				}
				failed = append(failed, value[string](t, h, `SELECT requisition FROM medical_events.service_requests WHERE id = $1`,
					id))
			})
			if want := (db.Expired{Recalled: n - 4, Failed: 4}); err != nil || done != want {
				t.Errorf("%+v, %v, want %+v", done, err, want)
			}
			if slices.Sort(failed); !slices.Equal(failed, []string{"1", "1234", "400", "401"}) {
				t.Errorf("not recalled: %v", failed)
			}
			h.recalledOnce(t, n-4)
			cure()
			h.expire(t, 4)
			h.recalledOnce(t, n)
		})
	}
}

// TestExpireEndsWhenTheDatabaseFails: if every row fails with an error that no data causes, the run ends soon. Rows
// that it has recalled stay recalled, and a later run continues.
func TestExpireEndsWhenTheDatabaseFails(t *testing.T) {
	t.Parallel()
	const n = 1234
	h := newHouse(t)
	h.expired(t, n)
	all := make([]string, 600)
	for i := range all {
		all[i] = strconv.Itoa(i + 1)
	}
	cure := h.poison(t, "58P01", all...) // the oldest have the highest numbers
	named := 0
	done, err := h.ServiceRequests.Expire(t.Context(), nil, func(uuid.UUID, error) { named++ })
	if sqlState(err) != "58P01" || done.Recalled != n-600 || done.Failed != int64(named) || named > 20 {
		t.Errorf("%+v, %v", done, err)
	}
	h.recalledOnce(t, n-600)
	cure()
	h.expire(t, 600)
	h.recalledOnce(t, n)
	h.expire(t, 0)
}

func TestExpireByManyRecallsEachOnce(t *testing.T) {
	t.Parallel()
	const n = 2345
	h := newHouse(t)
	h.expired(t, n)
	var counts [4]int64
	atOnce(len(counts), func(i int) {
		done, err := h.ServiceRequests.Expire(t.Context(), nil, mustExpire(t))
		if err != nil {
			t.Error(err)
		}
		counts[i] = done.Recalled
	})
	if sum := counts[0] + counts[1] + counts[2] + counts[3]; sum != n {
		t.Errorf("recalled %v, together %d of %d", counts, sum, n)
	}
	h.recalledOnce(t, n)
}

// A service request that another transaction holds is passed over: that transaction may reserve it.
func TestExpireDoesNotWaitForHeldRows(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	held, used, free := newServiceRequest(), newServiceRequest(), newServiceRequest()
	for _, s := range []*serviceRequest{&held, &used, &free} {
		s.expires = noon.Add(-time.Hour)
		h.save(t, *s)
	}
	tx := h.begin(t)
	exec(t, tx, `SELECT FROM medical_events.service_requests WHERE id = $1 FOR NO KEY UPDATE`, held.id)
	exec(t, tx, `UPDATE medical_events.service_requests
		SET program_processing_status = 'in_queue', used_by_legal_entity_id = $2 WHERE id = $1`, used.id, operator)
	h.expire(t, 1)
	commit(t, tx)
	h.expire(t, 1)
	if left := column[string](t, h, `SELECT id::text FROM medical_events.service_requests WHERE status = 'active'`); !reflect.DeepEqual(left, []string{used.id.String()}) {
		t.Errorf("active: %v", left)
	}
}

func TestExpiryIndexIsValid(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	if valid := value[bool](t, h, `SELECT indisvalid FROM pg_index
		WHERE indexrelid = 'medical_events.service_requests_active_expiration_date_id_idx'::regclass`); !valid {
		t.Error("the index is not valid")
	}
}

// The index of the expiry has no column that a reservation changes.
func TestReservationsStayHOT(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	e := newUse()
	e.save(t, h)
	tx := h.begin(t)
	for i, change := range []string{
		`used_by_legal_entity_id = gen_random_uuid(), used_by_employee_id = gen_random_uuid(), program_processing_status = 'in_queue', updated_at = now()`,
		`program_processing_status = 'in_progress', updated_by = gen_random_uuid()`,
		`program_processing_status = 'new', used_by_legal_entity_id = NULL, used_by_employee_id = NULL, used_by_division_id = NULL`,
	} {
		exec(t, tx, `UPDATE medical_events.service_requests SET `+change+` WHERE id = $1`, e.request.id)
		var hot int
		if err := tx.QueryRow(t.Context(), `SELECT pg_stat_get_xact_tuples_hot_updated('medical_events.service_requests'::regclass)`).Scan(&hot); err != nil || hot != i+1 {
			t.Errorf("%s: %d HOT updates after %d, %v", change, hot, i+1, err)
		}
	}
}
