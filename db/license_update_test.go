package db_test

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
)

// amendment is a request to change a licence, with its legal entity and the licences of that legal entity.
type amendment struct {
	entity, other legalEntity
	primary       license
	stored        license // the licence to be changed: issued and active since 2020-01-01
	isMissing     bool    // the licence does not exist
	holder        uuid.UUID
	caller        db.Caller
	changes       licenseChanges
}

// newAmendment is an amendment that no rule refuses.
func newAmendment() *amendment {
	a := &amendment{entity: newLegalEntity(), other: newLegalEntity()}
	a.primary, a.caller, a.holder = a.entity.primary(), a.entity.caller(), a.entity.id
	a.stored = license{id: uuid.New(), kind: "PHARMACY_DRUGS", isActive: true, expires: new(days(100))}
	a.changes = licenseChanges{Type: "PHARMACY_DRUGS", OrderNo: new("К-2")}
	return a
}

func (a *amendment) save(t testing.TB, h *house) {
	t.Helper()
	a.stored.legalEntity = a.holder
	h.save(t, a.entity, a.other, a.primary)
	if !a.isMissing {
		h.save(t, a.stored)
	}
}

func (a *amendment) row(t testing.TB, h *house) string {
	t.Helper()
	return fmt.Sprint(column[string](t, h, `SELECT l::text FROM prm.licenses l WHERE id = $1`, a.stored.id))
}

// submit answers the refusal. It checks that a refusal leaves the licence unchanged, and that an update writes no
// event.
func (a *amendment) submit(t testing.TB, h *house, d *db.DB) db.Refusal {
	t.Helper()
	before := a.row(t, h)
	_, err := d.Licenses.Update(t.Context(), a.caller, a.stored.id, a.changes)
	if got := a.row(t, h); (got == before) != (err != nil) {
		t.Errorf("Update answered %v; was %s, is %s", err, before, got)
	}
	if events := eventsOf(t, h, a.stored.id); len(events) > 0 {
		t.Errorf("events %v", events)
	}
	return refusal(t, err)
}

// licenseUpdateLadder is contract 3.3 from rule 2 on. Each step breaks its own rule and no other. Steps can be combined
// in this order.
var licenseUpdateLadder = []struct {
	refusal db.Refusal
	violate func(*amendment)
}{
	{db.LegalEntityNotActive, func(a *amendment) { a.entity.status = "CLOSED" }},
	{db.LicenseNotFound, func(a *amendment) { a.isMissing = true }},
	{db.LicenseIsPrimary, func(a *amendment) { a.stored.isPrimary = true }},
	{db.LicenseMadePrimary, func(a *amendment) { a.changes.IsPrimary = true }},
	{db.LicenseOfAnother, func(a *amendment) { a.holder = a.other.id }},
	{db.LicenseTypeChanged, func(a *amendment) { a.changes.Type = "PHARMACY" }},
	{db.PrimaryLicenseMissing, func(a *amendment) { a.primary.expires = new(days(-1)) }},
	{db.LicenseIssuedAfterActive, func(a *amendment) { a.changes.IssuedDate = new(days(50)) }},
	{db.LicenseActiveAfterExpiry, func(a *amendment) {
		a.changes.ActiveFromDate, a.changes.ExpiryDate = new(days(10)),
			new(days(5))
	}},
	{db.LicenseExpired, func(a *amendment) { a.changes.ExpiryDate = new(days(-1)) }},
}

func TestUpdateLicenseAnswersTheFirstRefusal(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for i, first := range licenseUpdateLadder {
		t.Run(string(first.refusal), func(t *testing.T) {
			t.Parallel()
			a := newAmendment()
			first.violate(a)
			if first.refusal == db.LicenseIsPrimary {
				// The licence is itself an active primary one, so the rule about the primary licence is not broken at the same
				// time.
				a.stored.isActive = false
			}
			a.save(t, h)
			if got := a.submit(t, h, h.DB); got != first.refusal {
				t.Errorf("alone: %q", got)
			}
			for _, second := range licenseUpdateLadder[i+1:] {
				a := newAmendment()
				first.violate(a)
				second.violate(a)
				a.save(t, h)
				if got := a.submit(t, h, h.DB); got != first.refusal {
					t.Errorf("with %s: %q", second.refusal, got)
				}
			}
		})
	}
}

func TestUpdateLicenseByRule(t *testing.T) {
	t.Parallel()
	const allowed = db.Refusal("")
	h := newHouse(t)
	for _, test := range []struct {
		name   string
		change func(*amendment)
		want   db.Refusal
	}{
		{"nothing is wrong", func(*amendment) {}, allowed},
		{"legal entity suspended", func(a *amendment) { a.entity.status = "SUSPENDED" }, allowed},
		{"legal entity reorganized", func(a *amendment) { a.entity.status = "REORGANIZED" }, db.LegalEntityNotActive},
		{"no such legal entity", func(a *amendment) { a.caller.ClientID = uuid.New() }, db.LegalEntityNotActive},
		{"inactive licence", func(a *amendment) { a.stored.isActive = false }, allowed},
		{"another's primary licence", func(a *amendment) { a.holder, a.stored.isPrimary = a.other.id, true },
			db.LicenseIsPrimary},
		{"primary licence of the caller expires today", func(a *amendment) { a.primary.expires = &today }, allowed},
		{"primary licence inactive", func(a *amendment) { a.primary.isActive = false }, db.PrimaryLicenseMissing},
		{"type in no dictionary", func(a *amendment) { a.changes.Type = "NONE" }, db.LicenseTypeChanged},
		{"type no longer active", func(a *amendment) { a.stored.kind, a.changes.Type = "FORMER", "FORMER" }, allowed},

		// The rules about dates check the values after the change.
		{"issued on the stored day of becoming active",
			func(a *amendment) { a.changes.IssuedDate = new(date(2020, 1, 1)); a.changes.OrderNo = new("К-3") }, allowed},
		{"issued after the stored day of becoming active",
			func(a *amendment) { a.changes.IssuedDate = new(date(2020, 1, 2)) }, db.LicenseIssuedAfterActive},
		{"active before the stored day of issue", func(a *amendment) { a.changes.ActiveFromDate = new(date(2019, 12, 31)) },
			db.LicenseIssuedAfterActive},
		{"active on the stored last day", func(a *amendment) { a.changes.ActiveFromDate = new(days(100)) }, allowed},
		{"active after the stored last day", func(a *amendment) { a.changes.ActiveFromDate = new(days(101)) },
			db.LicenseActiveAfterExpiry},
		{"expires before the stored day of becoming active",
			func(a *amendment) { a.changes.ExpiryDate = new(date(2019, 12, 31)) }, db.LicenseActiveAfterExpiry},
		{"expires today", func(a *amendment) { a.changes.ExpiryDate = &today }, allowed},
		{"expired yesterday", func(a *amendment) { a.changes.ExpiryDate = new(days(-1)) }, db.LicenseExpired},
		{"stored licence expired yesterday", func(a *amendment) { a.stored.expires = new(days(-1)) }, db.LicenseExpired},
		{"stored licence expired yesterday, expires later now", func(a *amendment) {
			a.stored.expires = new(days(-1))
			a.changes.ExpiryDate = new(days(1))
		}, allowed},
		{"stored licence never expires", func(a *amendment) { a.stored.expires = nil }, allowed},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a := newAmendment()
			test.change(a)
			a.save(t, h)
			if got := a.submit(t, h, h.DB); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func TestUpdateLicenseKeepsOmittedFields(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	full := licenseChanges{
		Type: "PHARMACY_DRUGS", LicenseNumber: new("АВ 2"), IssuedBy: new("Держлікслужба"), IssuedDate: new(days(-20)),
		ActiveFromDate: new(days(-10)),
		ExpiryDate:     new(days(200)), WhatLicensed: new("обіг"), OrderNo: new("К-9"),
	}
	a := newAmendment()
	a.save(t, h)
	update := func(c licenseChanges) db.License {
		t.Helper()
		updated, err := h.Licenses.Update(t.Context(), a.caller, a.stored.id, c)
		if err != nil {
			t.Fatal(err)
		}
		list, err := h.Licenses.List(t.Context(), a.entity.id,
			db.LicenseFilter{ID: uuid.NullUUID{UUID: a.stored.id, Valid: true}}, db.Page{Number: 1, Size: 1})
		if err != nil || len(list.Entries) != 1 || !reflect.DeepEqual(list.Entries[0], updated) {
			t.Errorf("answered %+v, listed %+v, %v", updated, list.Entries, err)
		}
		return updated
	}
	all := update(full)
	want := licenseFields{
		Type: "PHARMACY_DRUGS", LicenseNumber: new("АВ 2"), IssuedBy: "Держлікслужба", IssuedDate: days(-20),
		ActiveFromDate: days(-10),
		ExpiryDate:     new(days(200)), WhatLicensed: new("обіг"), OrderNo: new("К-9"),
	}
	if !reflect.DeepEqual(all, want.in(all)) || all.UpdatedBy != a.caller.UserID || all.InsertedBy != operator ||
		!all.UpdatedAt.After(all.InsertedAt) {
		t.Errorf("every field: %+v", all)
	}
	first := a.caller
	a.caller = a.entity.caller()
	for name, c := range map[string]licenseChanges{"the same again": full, "nothing": {Type: "PHARMACY_DRUGS"}} {
		if again := update(c); !reflect.DeepEqual(again, all) || again.UpdatedBy != first.UserID {
			t.Errorf("%s: was %+v, is %+v", name, all, again)
		}
	}
	cleared := update(licenseChanges{Type: "PHARMACY_DRUGS", LicenseNumber: new("")})
	want.LicenseNumber = nil
	if !reflect.DeepEqual(cleared, want.in(cleared)) || cleared.UpdatedBy != a.caller.UserID ||
		!cleared.UpdatedAt.After(all.UpdatedAt) {
		t.Errorf("number cleared: %+v", cleared)
	}
	if again := update(licenseChanges{Type: "PHARMACY_DRUGS", LicenseNumber: new("")}); !reflect.DeepEqual(again,
		cleared) {
		t.Errorf("cleared twice: %+v", again)
	}
	if number := update(licenseChanges{Type: "PHARMACY_DRUGS", LicenseNumber: new("АВ 3")}).LicenseNumber; number == nil ||
		*number != "АВ 3" {
		t.Errorf("the number after the same request again: %v", number)
	}
}

// TestUpdateLicenseChangesOneLicence: an inactive licence of the same legal entity and type stays as it is.
func TestUpdateLicenseChangesOneLicence(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := newAmendment()
	a.save(t, h)
	former := a.stored
	former.id, former.isActive = uuid.New(), false
	h.save(t, former)
	row := func() string {
		return value[string](t, h, `SELECT l::text FROM prm.licenses l WHERE id = $1`, former.id)
	}
	before := row()
	if got := a.submit(t, h, h.DB); got != "" {
		t.Errorf("refused: %s", got)
	}
	if after := row(); after != before {
		t.Errorf("the other licence was %s, is %s", before, after)
	}
}

func TestUpdateLicenseTodayIsTheDayInKyiv(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for at, want := range map[string]db.Refusal{
		"2026-07-15T20:59:59Z": "",
		"2026-07-15T21:00:00Z": db.LicenseExpired,
	} {
		moment, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		a := newAmendment()
		a.changes.ExpiryDate = new(date(2026, 7, 15))
		a.save(t, h)
		if got := a.submit(t, h, h.open(t, db.App, moment)); got != want {
			t.Errorf("%s: %q, want %q", at, got, want)
		}
	}
}

// Simultaneous changes of different fields are both kept. Of changes of the same field the later one is kept.
func TestUpdateLicenseTwoAtOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := newAmendment()
	a.save(t, h)
	tx := h.begin(t)
	exec(t, tx, `SELECT FROM prm.licenses WHERE id = $1 FOR NO KEY UPDATE`, a.stored.id)
	var errs [2]error
	answers := started(func() error {
		atOnce(2, func(i int) {
			changes := []licenseChanges{{Type: "PHARMACY_DRUGS", OrderNo: new("К-5")},
				{Type: "PHARMACY_DRUGS", WhatLicensed: new("обіг")}}[i]
			_, errs[i] = h.Licenses.Update(t.Context(), a.caller, a.stored.id, changes)
		})
		return errors.Join(errs[:]...)
	})
	untilHeld(t, h.DB, 2)
	commit(t, tx)
	if err := receive(t, answers); err != nil {
		t.Fatal(err)
	}
	if n := value[int](t, h, `SELECT count(*) FROM prm.licenses WHERE id = $1 AND order_no = 'К-5' AND what_licensed = 'обіг'`, a.stored.id); n != 1 {
		t.Errorf("one change is lost: %s", a.row(t, h))
	}
	// Each of the two dates fits the stored ones, but they do not fit each other: one of the two is refused.
	changes := []licenseChanges{
		{Type: "PHARMACY_DRUGS", ActiveFromDate: new(days(80))},
		{Type: "PHARMACY_DRUGS", ExpiryDate: new(days(70))},
	}
	atOnce(2, func(i int) { _, errs[i] = h.Licenses.Update(t.Context(), a.caller, a.stored.id, changes[i]) })
	refusals := map[db.Refusal]int{}
	for _, err := range errs {
		refusals[refusal(t, err)]++
	}
	if want := (map[db.Refusal]int{"": 1, db.LicenseActiveAfterExpiry: 1}); !reflect.DeepEqual(refusals, want) {
		t.Errorf("answers %v, want %v", refusals, want)
	}
}

func TestUpdateLicenseSeesChangesItWaitedFor(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, test := range []struct {
		name, change string // $1 is the legal entity, $2 the licence
		want         db.Refusal
	}{
		{"the legal entity is closed", `UPDATE prm.legal_entities SET status = 'CLOSED' WHERE id = $1
			AND $2::uuid IS NOT NULL`, db.LegalEntityNotActive},
		{"the primary licence becomes inactive", `
			WITH held AS (SELECT id FROM prm.legal_entities WHERE id = $1 FOR UPDATE)
			UPDATE prm.licenses SET is_active = false WHERE legal_entity_id = (SELECT id FROM held) AND id <> $2`,
			db.PrimaryLicenseMissing},
		{"the licence becomes primary", `UPDATE prm.licenses SET is_primary = true WHERE legal_entity_id = $1 AND id = $2`,
			db.LicenseIsPrimary},
		{"the licence expires earlier", `UPDATE prm.licenses SET expiry_date = '2026-06-14' WHERE legal_entity_id = $1
			AND id = $2`, db.LicenseExpired},
	} {
		for _, end := range []string{"commit", "rollback"} {
			t.Run(test.name+", "+end, func(t *testing.T) {
				a := newAmendment()
				a.save(t, h)
				tx := h.begin(t)
				exec(t, tx, test.change, a.entity.id, a.stored.id)
				answer := started(func() error {
					_, err := h.Licenses.Update(t.Context(), a.caller, a.stored.id, a.changes)
					return err
				})
				untilHeld(t, h.DB, 1)
				exec(t, tx, end)
				want := test.want
				if end == "rollback" {
					want = ""
				}
				if got := refusal(t, receive(t, answer)); got != want {
					t.Errorf("%q, want %q", got, want)
				}
			})
		}
	}
}

// A caller that tries to update the licence of another legal entity does not lock it.
func TestUpdateLicenseOfAnotherDoesNotWait(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := newAmendment()
	a.holder = a.other.id
	a.save(t, h)
	tx := h.begin(t)
	exec(t, tx, `SELECT FROM prm.licenses WHERE id = $1 FOR UPDATE`, a.stored.id)
	if got := a.submit(t, h, h.DB); got != db.LicenseOfAnother {
		t.Errorf("%q", got)
	}
}

func TestListLicenses(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	entity, other := newLegalEntity(), newLegalEntity()
	h.save(t, entity, other, other.primary())
	primary, former := entity.primary(), entity.primary()
	former.isActive = false
	first := license{id: uuid.New(), legalEntity: entity.id, kind: "PHARMACY", isActive: true}
	second := license{id: uuid.New(), legalEntity: entity.id, kind: "PHARMACY_DRUGS", isActive: true}
	h.save(t, primary, former, first, second)
	// The order of registration. Two of the same moment are ordered by their ids.
	h.exec(t, `UPDATE prm.licenses SET inserted_at = '2026-01-02', license_number = '7' WHERE id = ANY ($1)`,
		[]uuid.UUID{first.id, second.id})
	h.exec(t, `UPDATE prm.licenses SET inserted_at = '2026-01-01' WHERE id = $1`, primary.id)
	if first.id.String() > second.id.String() {
		first, second = second, first
	}
	id := func(id uuid.UUID) db.LicenseFilter { return db.LicenseFilter{ID: uuid.NullUUID{UUID: id, Valid: true}} }
	for _, test := range []struct {
		name   string
		filter db.LicenseFilter
		page   db.Page
		want   []uuid.UUID
		total  int64
	}{
		{"all", db.LicenseFilter{}, db.Page{Number: 1, Size: 50}, []uuid.UUID{primary.id, first.id, second.id}, 3},
		{"first page", db.LicenseFilter{}, db.Page{Number: 1, Size: 2}, []uuid.UUID{primary.id, first.id}, 3},
		{"second page", db.LicenseFilter{}, db.Page{Number: 2, Size: 2}, []uuid.UUID{second.id}, 3},
		{"behind the last page", db.LicenseFilter{}, db.Page{Number: 3, Size: 2}, nil, 3},
		{"behind all pages", db.LicenseFilter{}, db.Page{Number: 1<<63 - 1, Size: 300}, nil, 3},
		{"by id", id(second.id), db.Page{Number: 1, Size: 50}, []uuid.UUID{second.id}, 1},
		{"by the id of an inactive one", id(former.id), db.Page{Number: 1, Size: 50}, nil, 0},
		{"by type", db.LicenseFilter{Type: &first.kind}, db.Page{Number: 1, Size: 50}, []uuid.UUID{first.id}, 1},
		{"by number", db.LicenseFilter{LicenseNumber: new("7")}, db.Page{Number: 1, Size: 50},
			[]uuid.UUID{first.id, second.id}, 2},
		{"primary", db.LicenseFilter{IsPrimary: new(true)}, db.Page{Number: 1, Size: 50}, []uuid.UUID{primary.id}, 1},
		{"additional", db.LicenseFilter{IsPrimary: new(false)}, db.Page{Number: 1, Size: 50},
			[]uuid.UUID{first.id, second.id}, 2},
		{"filters that exclude each other", db.LicenseFilter{IsPrimary: new(true), Type: &first.kind},
			db.Page{Number: 2, Size: 50}, nil, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			list, err := h.Licenses.List(t.Context(), entity.id, test.filter, test.page)
			if err != nil {
				t.Fatal(err)
			}
			var got []uuid.UUID
			for _, l := range list.Entries {
				got = append(got, l.ID)
			}
			if !reflect.DeepEqual(got, test.want) || list.TotalEntries != test.total {
				t.Errorf("%v of %d, want %v of %d", got, list.TotalEntries, test.want, test.total)
			}
		})
	}
}
