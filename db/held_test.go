package db_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/migrations"
)

// patience of commands in these tests is longer than in the service: the machine may be busy.
const patience = time.Minute

// waitingCommands are creations and updates of licences of one legal entity, whose row another session holds. They are
// more than the four connections of the pool.
func (h *house) waitingCommands(t *testing.T, n int) (entity legalEntity, answers <-chan error, free func()) {
	t.Helper()
	a := newAmendment()
	a.save(t, h)
	tx := h.begin(t)
	exec(t, tx, `SELECT FROM prm.legal_entities WHERE id = $1 FOR NO KEY UPDATE`, a.entity.id)
	all := make(chan error, n)
	for i := range n {
		go func() {
			if i%2 == 0 {
				_, err := h.Licenses.Update(t.Context(), a.caller, a.stored.id, a.changes)
				all <- err
				return
			}
			fields := licenseFields{Type: "PHARMACY_DRUGS", IssuedBy: "Issuer", IssuedDate: days(-9),
				ActiveFromDate: days(-1)}
			_, err := h.Licenses.Create(t.Context(), a.caller, fields)
			all <- err
		}()
	}
	return a.entity, all, func() { commit(t, tx) }
}

// TestHeldLegalEntityTakesNoConnection: while commands wait for a held legal entity, reads, readiness, jobs and
// commands on other legal entities go on.
func TestHeldLegalEntityTakesNoConnection(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.DB = h.openWith(t, db.Config{MaxConns: 4, Patience: patience, AsOf: func() time.Time { return noon }})
	other := newApplication()
	other.save(t, h)
	s, user := newServiceRequest(), newLegalEntity()
	h.save(t, s, user)
	const n = 12
	entity, answers, free := h.waitingCommands(t, n)
	untilHeld(t, h.DB, n)
	ctx, cancel := context.WithTimeout(t.Context(), patience/2)
	defer cancel()
	for name, do := range map[string]func() error{
		"list licences": func() error {
			_, err := h.Licenses.List(ctx, entity.id, db.LicenseFilter{}, db.Page{Number: 1, Size: 9})
			return err
		},
		"readiness":       func() error { return h.Ready(ctx, migrations.Latest()) },
		"another command": func() error { _, err := h.Licenses.Create(ctx, other.caller, other.fields); return err },
		"an acceptance": func() error {
			_, err := h.Jobs.Accept(ctx, db.Order{
				Action: db.Use, ServiceRequestID: s.id, Caller: user.caller(), Body: db.UseBody{UsedByLegalEntity: user.id},
			})
			return err
		},
		"events": func() error { _, _, err := h.Events.After(ctx, entity.id, db.Beginning, 9); return err },
	} {
		if err := do(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if now, _, _ := h.Waiters(); now != n {
		t.Errorf("%d of %d still wait", now, n)
	}
	free()
	for range n {
		if err := receive(t, answers); err != nil && refusal(t, err) == "" {
			t.Error(err)
		}
	}
	if now, _, _ := h.Waiters(); now != 0 {
		t.Errorf("%d places are still taken", now)
	}
}

// TestBundleThatHoldsManyLegalEntities: while a bundle takes long to load, commands on its legal entities wait without
// connections. Commands on other legal entities go on.
func TestBundleThatHoldsManyLegalEntities(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.DB = h.openWith(t, db.Config{MaxConns: 4, Patience: patience, AsOf: func() time.Time { return noon }})
	other := newApplication()
	other.save(t, h)
	const n = 30
	applications := make([]*application, n)
	var rows []db.LegalEntityRow
	for i := range applications {
		applications[i] = newApplication()
		applications[i].save(t, h)
		rows = append(rows, db.LegalEntityRow{
			ID: applications[i].entity.id, Edrpou: "12345678", Name: "Clinic", Type: "OUTPATIENT", Status: "CLOSED",
			InsertedAt: noon, UpdatedAt: noon,
		})
	}
	holds, end := make(chan struct{}), make(chan struct{})
	load := started(func() error {
		return h.open(t, db.Owner, noon).Bundles.Load(t.Context(), false, func(l *db.Loader) error {
			if err := l.LegalEntities(t.Context(), rows); err != nil {
				return err
			}
			close(holds)
			<-end
			return nil
		})
	})
	receive(t, holds)
	var answers []<-chan error
	for _, a := range applications {
		answers = append(answers, started(func() error { return a.create(t, h.DB) }))
	}
	untilHeld(t, h.DB, n)
	if got := other.submit(t, h, h.DB); got != "" {
		t.Errorf("another legal entity: %q", got)
	}
	close(end)
	if err := receive(t, load); err != nil {
		t.Fatal(err)
	}
	for _, answer := range answers {
		if got := refusal(t, receive(t, answer)); got != db.LegalEntityNotActive {
			t.Errorf("%q", got)
		}
	}
}

// TestWaitersAreBounded: when all places are taken a command is answered at once that the service is not available. It
// has changed nothing.
func TestWaitersAreBounded(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.DB = h.openWith(t, db.Config{Waiters: 3, Patience: patience, AsOf: func() time.Time { return noon }})
	entity, answers, free := h.waitingCommands(t, 12)
	crowded := 0
	for done := false; !done; {
		select {
		case err := <-answers:
			if !db.Unavailable(err) {
				t.Errorf("with all places taken: %v", err)
			}
			crowded++
			done = crowded == 9
		case <-time.After(patience / 2):
			t.Fatalf("%d of 9 were refused", crowded)
		}
	}
	if now, most, refused := h.Waiters(); now != 3 || most != 3 || refused != 9 {
		t.Errorf("%d of %d wait, %d were refused", now, most, refused)
	}
	free()
	for range 3 {
		if err := receive(t, answers); err != nil && refusal(t, err) == "" {
			t.Error(err)
		}
	}
	if n := value[int](
		t, h, `SELECT count(*) FROM prm.licenses WHERE legal_entity_id = $1 AND inserted_at > '2026-01-01'`,
		entity.id); n > 3 {
		t.Errorf("%d licences", n)
	}
}

// TestHeldRowIsGivenUp: after five seconds. Nothing has been changed.
func TestHeldRowIsGivenUp(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, answers, free := h.waitingCommands(t, 4)
	defer free()
	for range 4 {
		if err := receive(t, answers); !errors.Is(err, db.ErrHeld) || !db.Unavailable(err) {
			t.Errorf("%v", err)
		}
	}
}

// TestCallerMayLeaveAHeldRow: a caller that gives up while it waits for a held row takes no place any more, and has
// changed nothing.
func TestCallerMayLeaveAHeldRow(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := newApplication()
	a.save(t, h)
	tx := h.begin(t)
	exec(t, tx, `SELECT FROM prm.legal_entities WHERE id = $1 FOR NO KEY UPDATE`, a.entity.id)
	ctx, cancel := context.WithCancel(t.Context())
	answer := started(func() error { _, err := h.Licenses.Create(ctx, a.caller, a.fields); return err })
	untilHeld(t, h.DB, 1)
	cancel()
	if err := receive(t, answer); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	commit(t, tx)
	if n := value[int](t, h, `SELECT count(*) FROM prm.licenses WHERE inserted_by = $1`, a.caller.UserID); n != 0 {
		t.Errorf("%d licences", n)
	}
}

// TestHeldPublisherTakesOneConnection: while a publisher in another process is held, this process waits for it on one
// connection, however many readers wait.
func TestHeldPublisherTakesOneConnection(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.DB = h.openWith(t, db.Config{MaxConns: 4, Patience: patience, AsOf: func() time.Time { return noon }})
	a := newApplication()
	a.save(t, h)
	must(t, a.create(t, h.DB))
	tx := h.begin(t)
	exec(t, tx, `SELECT pg_advisory_xact_lock(7236108426)`)
	var answers []<-chan error
	for range 20 {
		answers = append(answers, started(func() error {
			found, _, err := h.Events.After(t.Context(), a.entity.id, db.Beginning, 9)
			if err == nil && len(found) != 1 {
				return errors.New("the event is missing")
			}
			return err
		}))
	}
	h.untilWaiting(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience/2)
	defer cancel()
	if _, err := h.Jobs.Get(ctx, uuid.New(), uuid.New()); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("a read: %v", err)
	}
	if n := h.Pool().AcquiredConns(); n > 1 {
		t.Errorf("%d connections wait", n)
	}
	commit(t, tx)
	for _, answer := range answers {
		if err := receive(t, answer); err != nil {
			t.Error(err)
		}
	}
}
