package db_test

import (
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/reiestr/reiestr/db"
)

// halfway is an application whose licence is being created. It waits for a transaction that has added a licence of its
// type without holding the legal entity, so its batch stays under way until this transaction ends.
func (h *house) halfway(t *testing.T) (tx pgx.Tx, answer <-chan error) {
	t.Helper()
	a := newApplication()
	a.save(t, h)
	tx = h.addedUnderneath(t, a)
	answer = started(func() error { return a.create(t, h.DB) })
	h.untilWaiting(t, 1)
	return tx, answer
}

// addedUnderneath is a transaction that has added the licence of an application without holding the legal entity.
func (h *house) addedUnderneath(t *testing.T, a *application) pgx.Tx {
	t.Helper()
	tx := h.begin(t)
	exec(t, tx, `INSERT INTO prm.licenses (legal_entity_id, type, is_primary, issued_by, issued_date, active_from_date,
		inserted_by, updated_by)
		VALUES ($1, $2, false, '', '2020-01-01', '2020-01-01', $1, $1)`, a.entity.id, a.kind.code)
	return tx
}

func (a *application) create(t *testing.T, d *db.DB) error {
	_, err := d.Licenses.Create(t.Context(), a.caller, a.fields)
	return err
}

// check compares the answer to a creation with the expected one and with the stored rows.
func (a *application) check(t *testing.T, h *house, name string, err error, want db.Refusal) {
	t.Helper()
	if got := refusal(t, err); got != want {
		t.Errorf("%s: %q, want %q", name, got, want)
	}
	added := 0
	if want == "" {
		added = 1
	}
	for _, table := range []string{"prm.licenses WHERE inserted_by = $1", "ops.events WHERE changed_by = $1"} {
		if n := value[int](t, h, "SELECT count(*) FROM "+table, a.caller.UserID); n != added {
			t.Errorf("%s: %d rows in %s", name, n, table)
		}
	}
}

// TestCreateTogether: creations that arrive while a batch is under way share one transaction. A creation for a held
// legal entity waits.
func TestCreateTogether(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	statements := &texts{}
	h.DB = h.openWith(t, db.Config{Tracer: statements, AsOf: func() time.Time { return noon }})

	refused, held, missing := newApplication(), newApplication(), newApplication()
	refused.listed, missing.isMissing = "", true
	good := make([]*application, 20)
	for i := range good {
		good[i] = newApplication()
	}
	for _, a := range append([]*application{refused, held, missing}, good...) {
		a.save(t, h)
	}
	// Another user of a legal entity that is in the batch already asks for the same licence.
	second := *good[0]
	second.caller = second.entity.caller()

	holder := h.begin(t)
	exec(t, holder, `SELECT FROM prm.legal_entities WHERE id = $1 FOR NO KEY UPDATE`, held.entity.id)
	first, firstAnswer := h.halfway(t)
	errs := make([]error, len(good))
	var all sync.WaitGroup
	for i, a := range good {
		all.Go(func() { errs[i] = a.create(t, h.DB) })
	}
	untilJoined(t, h.Licenses, len(good))
	others := []<-chan error{}
	for _, a := range []*application{&second, refused, missing, held} {
		others = append(others, started(func() error { return a.create(t, h.DB) }))
	}
	untilJoined(t, h.Licenses, len(good)+len(others))
	exec(t, first, "rollback")
	if err := receive(t, firstAnswer); err != nil {
		t.Error(err)
	}
	all.Wait()
	for i, a := range good {
		a.check(t, h, "a good one", errs[i], "")
	}
	second.check(t, h, "the second of a legal entity", receive(t, others[0]), db.LicenseTypePresent)
	refused.check(t, h, "the refused one", receive(t, others[1]), db.LicenseTypeMismatch)
	missing.check(t, h, "that of no legal entity", receive(t, others[2]), db.LegalEntityNotActive)
	untilHeld(t, h.DB, 1)
	select {
	case err := <-others[3]:
		t.Fatalf("the held creation did not wait: %v", err)
	default:
	}
	commit(t, holder)
	held.check(t, h, "the held one", receive(t, others[3]), "")
	// One statement for the first creation, one for the batch, one for the second creation of a legal entity, one for the
	// creation that was held.
	if n := statements.count("CreateLicenses"); n != 4 {
		t.Errorf("%d statements to create", n)
	}
}

// TestCreateBesideAFailure: a creation that makes its batch fail does not make the other creations fail.
func TestCreateBesideAFailure(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	fails := newApplication()
	fails.save(t, h)
	good := make([]*application, 20)
	for i := range good {
		good[i] = newApplication()
		good[i].save(t, h)
	}
	first, firstAnswer := h.halfway(t)
	// The ladder does not see rows that are not committed. The unique index does.
	underneath := h.addedUnderneath(t, fails)
	errs := make([]error, len(good))
	var all sync.WaitGroup
	for i, a := range good {
		all.Go(func() { errs[i] = a.create(t, h.DB) })
	}
	answer := started(func() error { return fails.create(t, h.DB) })
	untilJoined(t, h.Licenses, len(good)+1)
	exec(t, first, "rollback")
	if err := receive(t, firstAnswer); err != nil {
		t.Error(err)
	}
	h.untilWaiting(t, 1)
	commit(t, underneath)
	all.Wait()
	for i, a := range good {
		a.check(t, h, "a good one", errs[i], "")
	}
	fails.check(t, h, "the one that failed", receive(t, answer), db.LicenseTypePresent)
}
