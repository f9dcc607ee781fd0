package db

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/reiestr/reiestr/db/sqlc"
)

// LicenseFields are what a caller says of a licence. Dates are midnights in UTC that stand for calendar days of the business time zone.
type LicenseFields struct {
	Type           string
	IsPrimary      bool
	LicenseNumber  *string
	IssuedBy       string
	IssuedDate     time.Time
	ExpiryDate     *time.Time // nil: never expires
	ActiveFromDate time.Time
	WhatLicensed   *string
	OrderNo        *string
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
type Licenses struct{ db *DB }

// Create registers an additional licence for the caller's legal entity (contract 3.1, rules 2 to 10). A rule that says no is a Refusal.
func (l *Licenses) Create(ctx context.Context, c Caller, f LicenseFields) (License, error) {
	var row sqlc.CreateLicenseRow
	err := l.db.transact(ctx, "create license", func(t *transaction) (err error) {
		if err := t.soon().LockLegalEntity(ctx, c.ClientID); err != nil {
			return err
		}
		row, err = t.last().CreateLicense(ctx, sqlc.CreateLicenseParams{
			LegalEntityID:  c.ClientID,
			Type:           f.Type,
			IsPrimary:      f.IsPrimary,
			LicenseNumber:  f.LicenseNumber,
			IssuedBy:       f.IssuedBy,
			IssuedDate:     f.IssuedDate,
			ExpiryDate:     f.ExpiryDate,
			ActiveFromDate: f.ActiveFromDate,
			WhatLicensed:   f.WhatLicensed,
			OrderNo:        f.OrderNo,
			UserID:         c.UserID,
			AsOf:           l.db.moment(),
			TimeZone:       l.db.timeZone,
		})
		return refusalOf(err)
	})
	if err != nil {
		return License{}, err
	}
	if row.Refusal != "" {
		return License{}, Refusal(row.Refusal)
	}
	return License{
		LicenseFields: f,
		ID:            row.ID.UUID,
		LegalEntityID: c.ClientID,
		IsActive:      true,
		InsertedAt:    *row.InsertedAt,
		InsertedBy:    c.UserID,
		UpdatedAt:     *row.InsertedAt,
		UpdatedBy:     c.UserID,
	}, nil
}

// LicenseChanges are what a caller wants to be different about a licence; nil keeps what is stored.
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

// Update changes an additional licence of the caller's legal entity and answers it (contract 3.3, rules 2 to 11). Where nothing differs
// nothing is written. A rule that says no is a Refusal.
func (l *Licenses) Update(ctx context.Context, c Caller, id uuid.UUID, changes LicenseChanges) (License, error) {
	var stored sqlc.PrmLicense
	err := l.db.transact(ctx, "update license", func(t *transaction) error {
		if err := t.soon().LockLegalEntity(ctx, c.ClientID); err != nil {
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
	return licenseOf(stored), err
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
			return l.db.read().ListLicenses(ctx, sqlc.ListLicensesParams{
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
