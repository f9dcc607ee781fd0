package db

import (
	"context"
	"time"

	"github.com/google/uuid"

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

// Types lists the types that the dictionary of licences allows.
func (l *Licenses) Types(ctx context.Context) ([]string, error) {
	return l.db.read().ListLicenseTypes(ctx)
}
