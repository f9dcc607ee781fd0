package db

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/reiestr/reiestr/db/pg"
	"github.com/reiestr/reiestr/db/sqlc"
)

// LicenseFields are the fields of a licence that a caller sets. Dates are midnights in UTC that stand for calendar days
// of the business time zone.
type LicenseFields struct {
	Type           string     `json:"type"` // the tags are the names that CreateLicenses reads
	IsPrimary      bool       `json:"is_primary"`
	LicenseNumber  *string    `json:"license_number"`
	IssuedBy       string     `json:"issued_by"`
	IssuedDate     time.Time  `json:"issued_date"`
	ExpiryDate     *time.Time `json:"expiry_date"` // nil: never expires
	ActiveFromDate time.Time  `json:"active_from_date"`
	WhatLicensed   *string    `json:"what_licensed"`
	OrderNo        *string    `json:"order_no"`
}

// License is a licence as it is stored.
type License struct {
	LicenseFields
	ID            uuid.UUID
	LegalEntityID uuid.UUID
	IsActive      bool
	IssuerStatus  *string
	InsertedAt    time.Time
	InsertedBy    uuid.UUID
	UpdatedAt     time.Time
	UpdatedBy     uuid.UUID
}

// Licenses are the licences of legal entities.
type Licenses struct {
	db       *statements
	creation *pg.Group[licenseCreation, License]
}

func newLicenses(s *statements) *Licenses {
	l := &Licenses{db: s}
	l.creation = pg.NewGroup(s.pg, l.create)
	return l
}

// licenseCreation is a licence on its way to being registered.
type licenseCreation struct {
	caller Caller
	fields LicenseFields
	wanted json.RawMessage // both, as CreateLicenses reads them
}

// creatingLicense is a member of a batch of creations.
type creatingLicense = pg.Member[licenseCreation, License]

// Create registers an additional licence for the caller's legal entity (contract 3.1, rules 2 to 10). A rule that says
// no is a Refusal.
func (l *Licenses) Create(ctx context.Context, c Caller, f LicenseFields) (License, error) {
	wanted, err := json.Marshal(struct {
		LegalEntityID uuid.UUID `json:"legal_entity_id"`
		LicenseFields
		UserID uuid.UUID `json:"user_id"`
	}{c.ClientID, f, c.UserID})
	if err != nil {
		return License{}, err
	}
	return l.creation.Do(ctx, licenseCreation{c, f, wanted})
}

// create creates licences of legal entities that no other transaction holds, one of each. Further licences of one legal
// entity wait for a later batch; licences of a held legal entity wait, without a connection, until it is free.
func (l *Licenses) create(ctx context.Context, members []*creatingLicense) error {
	first := make(map[uuid.UUID]*creatingLicense, len(members))
	ids := make([]uuid.UUID, 0, len(members))
	for _, m := range members {
		id := m.Order.caller.ClientID
		if first[id] == nil {
			first[id] = m
			ids = append(ids, id)
		}
	}
	isHeld := make(map[uuid.UUID]bool)
	var rows []sqlc.CreateLicensesRow
	err := l.db.transact(ctx, "create licenses", func(t *transaction) error {
		clear(isHeld)
		rows = nil
		held, err := t.now().LockLegalEntities(ctx, ids)
		for _, id := range held {
			isHeld[id] = true
		}
		if err != nil || len(held) == len(ids) {
			return err
		}
		var wanted []json.RawMessage
		for _, id := range ids {
			if !isHeld[id] {
				wanted = append(wanted, first[id].Order.wanted)
			}
		}
		licenses, err := json.Marshal(wanted)
		if err != nil {
			return err
		}
		rows, err = t.last().
			CreateLicenses(ctx, sqlc.CreateLicensesParams{Licenses: licenses, AsOf: l.db.moment(), TimeZone: l.db.timeZone})
		return err
	})
	switch {
	case err != nil && len(members) == 1:
		return refusalOf(err)
	case err != nil:
		return err // the halves of the batch find out whose refusal it is
	}
	for _, row := range rows {
		m := first[row.LegalEntityID]
		m.Settle(m.Order.created(row))
	}
	for _, m := range members {
		id := m.Order.caller.ClientID
		switch {
		case isHeld[id]:
			m.Held()
		case first[id] != m:
			m.Later()
		}
	}
	return nil
}

// created is the outcome of a creation: the licence, or the ladder's refusal.
func (c licenseCreation) created(row sqlc.CreateLicensesRow) (License, error) {
	if row.Refusal != "" {
		return License{}, Refusal(row.Refusal)
	}
	return License{
		LicenseFields: c.fields,
		ID:            row.ID.UUID,
		LegalEntityID: c.caller.ClientID,
		IsActive:      true,
		InsertedAt:    *row.InsertedAt,
		InsertedBy:    c.caller.UserID,
		UpdatedAt:     *row.InsertedAt,
		UpdatedBy:     c.caller.UserID,
	}, nil
}

// LicenseChanges are the new values of a licence's fields; nil keeps the stored value.
type LicenseChanges struct {
	Type           string  // that of the licence: it cannot be changed
	IsPrimary      bool    // false: it cannot be changed
	LicenseNumber  *string // "": none
	IssuedBy       *string
	IssuedDate     *time.Time
	ExpiryDate     *time.Time
	ActiveFromDate *time.Time
	WhatLicensed   *string
	OrderNo        *string
}

// Update changes an additional licence of the caller's legal entity and answers it (contract 3.3, rules 2 to 11). Where
// nothing differs nothing is written. A rule that says no is a Refusal.
func (l *Licenses) Update(ctx context.Context, c Caller, id uuid.UUID, changes LicenseChanges) (License, error) {
	var stored sqlc.PrmLicense
	err := l.db.pg.Patiently(ctx, func() (held bool, err error) {
		stored, held, err = l.update(ctx, c, id, changes)
		return held, err
	})
	return licenseOf(stored), err
}

// update is Update that does nothing where another transaction holds the legal entity or the licence.
func (l *Licenses) update(
	ctx context.Context, c Caller, id uuid.UUID, changes LicenseChanges,
) (stored sqlc.PrmLicense, isHeld bool, err error) {
	err = l.db.transact(ctx, "update license", func(t *transaction) error {
		held, err := t.now().LockLegalEntities(ctx, []uuid.UUID{c.ClientID})
		isHeld = len(held) > 0
		if err != nil || isHeld {
			return err
		}
		if err := t.soon().LockLicense(ctx, sqlc.LockLicenseParams{ID: id, LegalEntityID: c.ClientID}); err != nil {
			return err
		}
		row, err := t.now().UpdateLicense(ctx, sqlc.UpdateLicenseParams{
			ID:             id,
			LegalEntityID:  c.ClientID,
			Type:           changes.Type,
			IsPrimary:      changes.IsPrimary,
			LicenseNumber:  changes.LicenseNumber,
			IssuedBy:       changes.IssuedBy,
			IssuedDate:     changes.IssuedDate,
			ExpiryDate:     changes.ExpiryDate,
			ActiveFromDate: changes.ActiveFromDate,
			WhatLicensed:   changes.WhatLicensed,
			OrderNo:        changes.OrderNo,
			UserID:         c.UserID,
			AsOf:           l.db.moment(),
			TimeZone:       l.db.timeZone,
		})
		switch {
		case err != nil:
			return err
		case row.Refusal != "":
			return Refusal(row.Refusal)
		case row.Updated != row.Differing:
			return fmt.Errorf("license %s is not the one that was decided on", id)
		}
		stored, err = t.last().GetLicense(ctx, sqlc.GetLicenseParams{ID: id, LegalEntityID: c.ClientID})
		return err
	})
	if pg.LockNotAvailable(err) {
		return stored, true, nil
	}
	return stored, isHeld, err
}

// LicenseFilter says which licences are wanted; the zero value: all.
type LicenseFilter struct {
	ID            uuid.NullUUID
	LicenseNumber *string
	Type          *string
	IsPrimary     *bool
}

// List answers active licences of a legal entity, oldest first (contract 3.2).
func (l *Licenses) List(ctx context.Context, legalEntityID uuid.UUID, f LicenseFilter, p Page) (List[License], error) {
	var isPrimary pgtype.Bool
	if f.IsPrimary != nil {
		isPrimary = pgtype.Bool{Bool: *f.IsPrimary, Valid: true}
	}
	return listOf(p,
		func(size, offset int64) ([]sqlc.ListLicensesRow, error) {
			return l.db.shared().ListLicenses(ctx, sqlc.ListLicensesParams{
				LegalEntityID: legalEntityID,
				ID:            f.ID,
				LicenseNumber: f.LicenseNumber,
				Type:          f.Type,
				IsPrimary:     isPrimary,
				PageSize:      size,
				PageOffset:    offset,
			})
		},
		func(r sqlc.ListLicensesRow) int64 { return r.TotalEntries },
		func(r sqlc.ListLicensesRow) (License, error) { return licenseOf(r.PrmLicense), nil })
}

func licenseOf(row sqlc.PrmLicense) License {
	return License{
		LicenseFields: LicenseFields{
			Type:           row.Type,
			IsPrimary:      row.IsPrimary,
			LicenseNumber:  row.LicenseNumber,
			IssuedBy:       row.IssuedBy,
			IssuedDate:     row.IssuedDate,
			ExpiryDate:     row.ExpiryDate,
			ActiveFromDate: row.ActiveFromDate,
			WhatLicensed:   row.WhatLicensed,
			OrderNo:        row.OrderNo,
		},
		ID:            row.ID,
		LegalEntityID: row.LegalEntityID,
		IsActive:      row.IsActive,
		IssuerStatus:  row.IssuerStatus,
		InsertedAt:    row.InsertedAt,
		InsertedBy:    row.InsertedBy,
		UpdatedAt:     row.UpdatedAt,
		UpdatedBy:     row.UpdatedBy,
	}
}
