package db_test

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
)

// application is a request for a licence, with all rows of the registry that it meets. The types of its legal entity
// and of its licence are unique, so that any number of applications share a database.
type application struct {
	entity    legalEntity
	isMissing bool   // the legal entity does not exist
	listed    string // value of the chart parameter; empty: absent
	kind      licenseType
	licenses  []license
	caller    db.Caller
	fields    licenseFields
}

// newApplication is an application that no rule refuses.
func newApplication() *application {
	entity := legalEntity{uuid.New(), "CLINIC " + uuid.NewString(), "ACTIVE"}
	kind := licenseType{"LICENSE " + uuid.NewString(), true}
	return &application{
		entity:   entity,
		listed:   fmt.Sprintf(`["%s", "ANOTHER"]`, kind.code),
		kind:     kind,
		licenses: []license{entity.primary()},
		caller:   entity.caller(),
		fields: licenseFields{
			Type: kind.code, IssuedBy: "МОЗ", IssuedDate: days(-60), ActiveFromDate: days(-30), ExpiryDate: new(days(365)),
		},
	}
}

// own is a licence with the type of the application.
func (a *application) own() license {
	return license{id: uuid.New(), legalEntity: a.entity.id, kind: a.kind.code, isActive: true}
}

func (a *application) parameter() string {
	return "LEGAL_ENTITY_" + a.entity.kind + "_ADDITIONAL_LICENSE_TYPES"
}

func (a *application) save(t testing.TB, h *house) {
	t.Helper()
	h.save(t, a.kind)
	if a.listed != "" {
		h.save(t, parameter{a.parameter(), a.listed})
	}
	if a.isMissing {
		return
	}
	h.save(t, a.entity)
	for _, l := range a.licenses {
		h.save(t, l)
	}
}

// submit answers the refusal. It checks that a refusal stores nothing, and that a success stores one licence and one
// event.
func (a *application) submit(t testing.TB, h *house, d *db.DB) db.Refusal {
	t.Helper()
	var added int
	_, err := d.Licenses.Create(t.Context(), a.caller, a.fields)
	if err == nil {
		added = 1
	}
	licenses := value[int](t, h, `SELECT count(*) FROM prm.licenses WHERE inserted_by = $1`, a.caller.UserID)
	events := value[int](t, h, `SELECT count(*) FROM ops.events WHERE changed_by = $1`, a.caller.UserID)
	if licenses != added || events != added {
		t.Errorf("Create answered %v and left %d licences and %d events", err, licenses, events)
	}
	return refusal(t, err)
}

// licenseLadder is contract 3.1 from rule 2 on. Each step breaks its own rule and no other. Steps can be combined in
// this order.
var licenseLadder = []struct {
	refusal db.Refusal
	violate func(*application)
}{
	{db.LegalEntityNotActive, func(a *application) { a.entity.status = "CLOSED" }},
	{db.LicenseNotAdditional, func(a *application) { a.fields.IsPrimary = true }},
	{db.LicenseTypeUnknown, func(a *application) { a.kind.isActive = false }},
	{db.LicenseTypeMismatch, func(a *application) { a.listed = `["ANOTHER"]` }},
	{db.PrimaryLicenseMissing, func(a *application) { a.licenses = nil }},
	{db.LicenseTypePresent, func(a *application) { a.licenses = append(a.licenses, a.own()) }},
	{db.LicenseIssuedAfterActive, func(a *application) { a.fields.IssuedDate = days(20) }},
	{db.LicenseActiveAfterExpiry, func(a *application) {
		a.fields.ActiveFromDate, a.fields.ExpiryDate = days(10),
			new(days(5))
	}},
	{db.LicenseExpired, func(a *application) { a.fields.ExpiryDate = new(days(-1)) }},
}

func TestCreateLicenseAnswersTheFirstRefusal(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for i, first := range licenseLadder {
		t.Run(string(first.refusal), func(t *testing.T) {
			t.Parallel()
			a := newApplication()
			first.violate(a)
			a.save(t, h)
			if got := a.submit(t, h, h.DB); got != first.refusal {
				t.Errorf("alone: %q", got)
			}
			for _, second := range licenseLadder[i+1:] {
				a := newApplication()
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

func TestCreateLicenseByRule(t *testing.T) {
	t.Parallel()
	const allowed = db.Refusal("")
	h := newHouse(t)
	for _, test := range []struct {
		name   string
		change func(*application)
		want   db.Refusal
	}{
		{"nothing is wrong", func(*application) {}, allowed},

		{"legal entity suspended", func(a *application) { a.entity.status = "SUSPENDED" }, allowed},
		{"legal entity closed", func(a *application) { a.entity.status = "CLOSED" }, db.LegalEntityNotActive},
		{"legal entity reorganized", func(a *application) { a.entity.status = "REORGANIZED" }, db.LegalEntityNotActive},
		{"no such legal entity", func(a *application) { a.isMissing = true }, db.LegalEntityNotActive},

		{"type in no dictionary", func(a *application) { a.fields.Type, a.listed = "NONE", `["NONE"]` },
			db.LicenseTypeUnknown},
		{"type of another dictionary", func(a *application) { a.fields.Type, a.listed = "DOCTOR", `["DOCTOR"]` },
			db.LicenseTypeUnknown},
		{"type inactive", func(a *application) { a.kind.isActive = false }, db.LicenseTypeUnknown},
		{"type empty", func(a *application) { a.fields.Type, a.listed = "", `[""]` }, db.LicenseTypeUnknown},

		{"parameter absent", func(a *application) { a.listed = "" }, db.LicenseTypeMismatch},
		{"parameter empty", func(a *application) { a.listed = `[]` }, db.LicenseTypeMismatch},
		{"parameter a string", func(a *application) { a.listed = fmt.Sprintf("%q", a.kind.code) }, db.LicenseTypeMismatch},
		{"parameter a boolean", func(a *application) { a.listed = `true` }, db.LicenseTypeMismatch},

		{"primary licence expired yesterday", func(a *application) { a.licenses[0].expires = new(days(-1)) },
			db.PrimaryLicenseMissing},
		{"primary licence expires today", func(a *application) { a.licenses[0].expires = new(today) }, allowed},
		{"primary licence inactive", func(a *application) { a.licenses[0].isActive = false }, db.PrimaryLicenseMissing},
		{"primary licence of another legal entity", func(a *application) { a.licenses = nil }, db.PrimaryLicenseMissing},
		{"additional licence only", func(a *application) { a.licenses[0].isPrimary = false }, db.PrimaryLicenseMissing},
		{"one primary licence of two valid", func(a *application) {
			a.licenses = append(a.licenses, a.entity.primary())
			a.licenses[0].isActive = false
		}, allowed},

		{"inactive licence of the type", func(a *application) {
			present := a.own()
			present.isActive = false
			a.licenses = append(a.licenses, present)
		}, db.LicenseTypePresent},
		{"expired licence of the type", func(a *application) {
			present := a.own()
			present.expires = new(days(-1))
			a.licenses = append(a.licenses, present)
		}, db.LicenseTypePresent},
		{"primary licence of the type", func(a *application) { a.licenses[0].kind = a.kind.code }, db.LicenseTypePresent},
		{"additional licence of another type", func(a *application) {
			present := a.own()
			present.kind = "ANOTHER"
			a.licenses = append(a.licenses, present)
		}, allowed},

		{"issued on the day it becomes active", func(a *application) { a.fields.IssuedDate = a.fields.ActiveFromDate },
			allowed},
		{"issued a day later", func(a *application) { a.fields.IssuedDate = a.fields.ActiveFromDate.AddDate(0, 0, 1) },
			db.LicenseIssuedAfterActive},
		{"active on the day it expires", func(a *application) { a.fields.ActiveFromDate = *a.fields.ExpiryDate }, allowed},
		{"active a day later", func(a *application) { a.fields.ActiveFromDate = a.fields.ExpiryDate.AddDate(0, 0, 1) },
			db.LicenseActiveAfterExpiry},
		{"active in the future", func(a *application) { a.fields.IssuedDate, a.fields.ActiveFromDate = days(5), days(10) },
			allowed},
		{"expires today", func(a *application) { a.fields.ExpiryDate = new(today) }, allowed},
		{"expired yesterday", func(a *application) { a.fields.ExpiryDate = new(days(-1)) }, db.LicenseExpired},
		{"all dates today", func(a *application) {
			a.fields.IssuedDate, a.fields.ActiveFromDate, a.fields.ExpiryDate = today, today, new(today)
		}, allowed},
		{"never expires", func(a *application) { a.fields.ExpiryDate = nil }, allowed},
		{"never expires, active in the future", func(a *application) {
			a.fields.ActiveFromDate, a.fields.ExpiryDate = days(10000), nil
		}, allowed},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a := newApplication()
			test.change(a)
			a.save(t, h)
			if got := a.submit(t, h, h.DB); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func TestCreateLicenseNeedsAnActiveDictionary(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := newApplication()
	a.save(t, h)
	h.exec(t, `UPDATE prm.dictionaries SET is_active = false WHERE name = 'LICENSE_TYPE'`)
	if got := a.submit(t, h, h.DB); got != db.LicenseTypeUnknown {
		t.Errorf("%q", got)
	}
}

func TestCreateLicenseAnswersTheStoredRow(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	full := newApplication()
	full.fields.LicenseNumber = new("АВ 0001")
	full.fields.IssuedBy = "Міністерство охорони здоров'я"
	full.fields.WhatLicensed = new("роздрібна торгівля")
	full.fields.OrderNo = new("К-123")
	bare := newApplication()
	bare.fields.ExpiryDate = nil
	for name, a := range map[string]*application{"every field": full, "required fields only": bare} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a.save(t, h)
			created, err := h.Licenses.Create(t.Context(), a.caller, a.fields)
			if err != nil {
				t.Fatal(err)
			}
			moment := created.InsertedAt
			if age := time.Since(moment); age < -time.Minute || age > time.Minute {
				t.Errorf("inserted at %s", moment)
			}
			wantAnswer := a.fields.in(db.License{
				ID: created.ID, LegalEntityID: a.entity.id, IsActive: true,
				InsertedAt: moment, InsertedBy: a.caller.UserID, UpdatedAt: moment, UpdatedBy: a.caller.UserID,
			})
			if !reflect.DeepEqual(created, wantAnswer) {
				t.Errorf("answered %+v, want %+v", created, wantAnswer)
			}

			wantRow := map[string]any{
				"id": created.ID.String(), "legal_entity_id": a.entity.id.String(), "type": a.kind.code, "is_active": true,
				"is_primary":     false,
				"license_number": orNull(a.fields.LicenseNumber), "issued_by": a.fields.IssuedBy, "issued_date": "2026-04-16",
				"issuer_status": nil,
				"expiry_date":   nil, "active_from_date": "2026-05-16", "what_licensed": orNull(a.fields.WhatLicensed),
				"order_no":    orNull(a.fields.OrderNo),
				"inserted_by": a.caller.UserID.String(), "updated_by": a.caller.UserID.String(),
			}
			if a.fields.ExpiryDate != nil {
				wantRow["expiry_date"] = "2027-06-15"
			}
			row := value[map[string]any](t, h, `SELECT to_jsonb(l) - '{inserted_at,updated_at}'::text[] FROM prm.licenses l WHERE id = $1`, created.ID)
			if !reflect.DeepEqual(row, wantRow) {
				t.Errorf("stored %v, want %v", row, wantRow)
			}
			if n := value[int](t, h, `SELECT count(*) FROM prm.licenses WHERE id = $1 AND inserted_at = $2 AND updated_at = $2`,
				created.ID, moment); n != 1 {
				t.Error("the stored moments differ from the answered ones")
			}

			wantEvents := []map[string]any{{
				"event_type": "StatusChangeEvent", "entity_type": "License", "entity_id": created.ID.String(),
				"properties": map[string]any{"status": map[string]any{"old_value": nil, "new_value": "active"}},
				"changed_by": a.caller.UserID.String(), "legal_entity_ids": []any{a.entity.id.String()},
			}}
			if events := eventsOf(t, h, created.ID); !reflect.DeepEqual(events, wantEvents) {
				t.Errorf("events %v, want %v", events, wantEvents)
			}
		})
	}
}

// eventsOf are the events of an entity, oldest first, without values that differ between runs.
func eventsOf(t testing.TB, h *house, entity uuid.UUID) []map[string]any {
	t.Helper()
	return column[map[string]any](t, h, `
		SELECT to_jsonb(e) - '{id,sequence_number,event_time}'::text[] FROM ops.events e WHERE entity_id = $1
			ORDER BY sequence_number`, entity)
}

func orNull[T any](p *T) any {
	if p == nil {
		return nil
	}
	return *p
}

func TestCreateLicenseTodayIsTheDayInKyiv(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, test := range []struct {
		at    string
		today time.Time
	}{
		{"2026-01-15T21:59:59Z", date(2026, 1, 15)},
		{"2026-01-15T22:00:00Z", date(2026, 1, 16)},
		{"2026-07-15T20:59:59Z", date(2026, 7, 15)},
		{"2026-07-15T21:00:00Z", date(2026, 7, 16)},
		// The day that begins in winter time and ends in summer time.
		{"2026-03-28T21:59:59Z", date(2026, 3, 28)},
		{"2026-03-28T22:00:00Z", date(2026, 3, 29)},
		{"2026-03-29T00:59:59Z", date(2026, 3, 29)},
		{"2026-03-29T01:00:00Z", date(2026, 3, 29)},
		{"2026-03-29T20:59:59Z", date(2026, 3, 29)},
		{"2026-03-29T21:00:00Z", date(2026, 3, 30)},
		// The day that begins in summer time and ends in winter time.
		{"2026-10-24T20:59:59Z", date(2026, 10, 24)},
		{"2026-10-24T21:00:00Z", date(2026, 10, 25)},
		{"2026-10-25T00:59:59Z", date(2026, 10, 25)},
		{"2026-10-25T01:00:00Z", date(2026, 10, 25)},
		{"2026-10-25T21:59:59Z", date(2026, 10, 25)},
		{"2026-10-25T22:00:00Z", date(2026, 10, 26)},
		// Around the new year.
		{"2025-12-31T21:59:59Z", date(2025, 12, 31)},
		{"2025-12-31T22:00:00Z", date(2026, 1, 1)},
	} {
		t.Run(test.at, func(t *testing.T) {
			t.Parallel()
			at, err := time.Parse(time.RFC3339, test.at)
			if err != nil {
				t.Fatal(err)
			}
			d := h.open(t, db.App, at)
			yesterday := test.today.AddDate(0, 0, -1)
			for _, expiry := range []struct {
				name        string
				of, primary time.Time
				want        db.Refusal
			}{
				{"both expire today", test.today, test.today, ""},
				{"the new licence expired yesterday", yesterday, test.today, db.LicenseExpired},
				{"the primary licence expired yesterday", test.today, yesterday, db.PrimaryLicenseMissing},
			} {
				a := newApplication()
				a.licenses[0].expires = &expiry.primary
				a.fields.IssuedDate, a.fields.ActiveFromDate, a.fields.ExpiryDate = date(2025, 1, 1), date(2025, 1, 1), &expiry.of
				a.save(t, h)
				if got := a.submit(t, h, d); got != expiry.want {
					t.Errorf("%s: %q, want %q", expiry.name, got, expiry.want)
				}
			}
		})
	}
}

func TestCreateLicenseHundredAtOnceMakeOne(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := newApplication()
	a.save(t, h)
	const n = 100
	errs := make([]error, n)
	atOnce(n, func(i int) { _, errs[i] = h.Licenses.Create(t.Context(), a.caller, a.fields) })
	count := map[db.Refusal]int{}
	for _, err := range errs {
		count[refusal(t, err)]++
	}
	if want := (map[db.Refusal]int{"": 1, db.LicenseTypePresent: n - 1}); !reflect.DeepEqual(count, want) {
		t.Errorf("answers %v, want %v", count, want)
	}
	if licenses := value[int](t, h, `SELECT count(*) FROM prm.licenses WHERE NOT is_primary`); licenses != 1 {
		t.Errorf("%d licences", licenses)
	}
	if events := value[int](t, h, `SELECT count(*) FROM ops.events`); events != 1 {
		t.Errorf("%d events", events)
	}
}

func TestCreateLicenseWaitsForItsLegalEntityOnly(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a, b := newApplication(), newApplication()
	a.save(t, h)
	b.save(t, h)
	tx := h.begin(t)
	exec(t, tx, `SELECT FROM prm.legal_entities WHERE id = $1 FOR UPDATE`, a.entity.id)
	answer := started(func() error {
		_, err := h.Licenses.Create(t.Context(), a.caller, a.fields)
		return err
	})
	untilHeld(t, h.DB, 1)
	if got := b.submit(t, h, h.DB); got != "" {
		t.Errorf("another legal entity: %q", got)
	}
	select {
	case err := <-answer:
		t.Fatalf("did not wait: %v", err)
	default:
	}
	commit(t, tx)
	if err := receive(t, answer); err != nil {
		t.Error(err)
	}
}

func TestCreateLicenseSeesChangesItWaitedFor(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, test := range []struct {
		name   string
		change string // of the transaction that it waits for; $1 is the legal entity, $2 the licence type
		want   db.Refusal
		inside bool // the statement itself waits, and not the command before it
	}{
		{"the legal entity is closed", `UPDATE prm.legal_entities SET status = 'CLOSED' WHERE id = $1 AND $2 <> ''`,
			db.LegalEntityNotActive, false},
		{"the primary licence becomes inactive", `
			WITH held AS (SELECT id FROM prm.legal_entities WHERE id = $1 FOR UPDATE)
			UPDATE prm.licenses SET is_active = false WHERE legal_entity_id = (SELECT id FROM held) AND $2 <> ''`,
			db.PrimaryLicenseMissing, false},
		{"an inactive licence of the type is added", `
			WITH held AS (SELECT id FROM prm.legal_entities WHERE id = $1 FOR UPDATE)
			INSERT INTO prm.licenses (legal_entity_id, type, is_active, is_primary, issued_by, issued_date, active_from_date,
				inserted_by, updated_by)
			SELECT id, $2, false, false, '', '2020-01-01', '2020-01-01', id, id FROM held`, db.LicenseTypePresent, false},
		// A writer that does not hold the legal entity is stopped by the unique index only.
		{"an active licence of the type is added", `
			INSERT INTO prm.licenses (legal_entity_id, type, is_primary, issued_by, issued_date, active_from_date, inserted_by,
				updated_by)
			VALUES ($1, $2, false, '', '2020-01-01', '2020-01-01', $1, $1)`, db.LicenseTypePresent, true},
	} {
		for _, end := range []string{"commit", "rollback"} {
			t.Run(test.name+", "+end, func(t *testing.T) {
				a := newApplication()
				a.save(t, h)
				tx := h.begin(t)
				exec(t, tx, test.change, a.entity.id, a.kind.code)
				answer := started(func() error {
					_, err := h.Licenses.Create(t.Context(), a.caller, a.fields)
					return err
				})
				if test.inside {
					h.untilWaiting(t, 1)
				} else {
					untilHeld(t, h.DB, 1)
				}
				exec(t, tx, end)
				want, added := test.want, 0
				if end == "rollback" {
					want, added = "", 1
				}
				if got := refusal(t, receive(t, answer)); got != want {
					t.Errorf("%q, want %q", got, want)
				}
				if events := value[int](t, h, `SELECT count(*) FROM ops.events WHERE changed_by = $1`,
					a.caller.UserID); events != added {
					t.Errorf("%d events", events)
				}
			})
		}
	}
}

// The opposite order is a case of TestCreateLicenseSeesChangesItWaitedFor.
func TestClosingALegalEntityWaitsForTheLicenceThatIsCreated(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := newApplication()
	a.save(t, h)
	// An uncommitted licence of the type stops the creation after it has locked the legal entity.
	tx := h.begin(t)
	exec(t, tx, `INSERT INTO prm.licenses (legal_entity_id, type, is_primary, issued_by, issued_date, active_from_date,
		inserted_by, updated_by)
		VALUES ($1, $2, false, '', '2020-01-01', '2020-01-01', $1, $1)`, a.entity.id, a.kind.code)
	created := started(func() error {
		_, err := h.Licenses.Create(t.Context(), a.caller, a.fields)
		return err
	})
	h.untilWaiting(t, 1)
	closed := started(func() error {
		_, err := h.owner.Exec(t.Context(), `UPDATE prm.legal_entities SET status = 'CLOSED' WHERE id = $1`, a.entity.id)
		return err
	})
	h.untilWaiting(t, 2)
	exec(t, tx, "rollback")
	if err := receive(t, created); err != nil {
		t.Errorf("creation: %v", err)
	}
	if err := receive(t, closed); err != nil {
		t.Errorf("closing: %v", err)
	}
	if licenses := value[int](t, h, `
		SELECT count(*) FROM prm.licenses l JOIN prm.legal_entities e ON e.id = l.legal_entity_id
		WHERE e.id = $1 AND e.status = 'CLOSED' AND l.is_active AND NOT l.is_primary`, a.entity.id); licenses != 1 {
		t.Errorf("%d licences of the closed legal entity", licenses)
	}
	_, err := h.Licenses.Create(t.Context(), a.caller, a.fields)
	if got := refusal(t, err); got != db.LegalEntityNotActive {
		t.Errorf("another one: %q", got)
	}
}
