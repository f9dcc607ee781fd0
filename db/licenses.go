package db

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/reiestr/reiestr/db/pg"
	"github.com/reiestr/reiestr/db/sqlc"
)

// License is a licence as it is stored.
type License = sqlc.PrmLicense

// Date is a calendar day of the business time zone.
type Date = pg.Date

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

// licenseCreation is a licence that is to be registered.
type licenseCreation struct {
	legalEntityID uuid.UUID
	wanted        json.RawMessage // as CreateLicenses reads it
}

// creatingLicense is a member of a batch of creations.
type creatingLicense = pg.Member[licenseCreation, License]

// Create registers an additional licence for the caller's legal entity (contract 3.1, rules 2 to 10). fields is
// marshalled to a JSON object that is not empty, the body of the contract. A Refusal: a rule refuses the licence.
func (l *Licenses) Create(ctx context.Context, c Caller, fields any) (License, error) {
	said, err := json.Marshal(fields)
	if err != nil {
		return License{}, err
	}
	// The ids and the fields are one object. Joining the texts costs half of what marshalling the fields again does.
	wanted := fmt.Appendf(nil, `{"legal_entity_id":"%s","user_id":"%s",%s`, c.ClientID, c.UserID,
		bytes.TrimPrefix(said, []byte("{")))
	return l.creation.Do(ctx, licenseCreation{c.ClientID, wanted})
}

// create creates licences for those legal entities that no other transaction holds, one licence for each. Further
// licences for the same legal entity wait for a later batch. Licences for a held legal entity wait, without a
// connection, until it is free.
func (l *Licenses) create(ctx context.Context, members []*creatingLicense) error {
	first := make(map[uuid.UUID]*creatingLicense, len(members))
	ids := make([]uuid.UUID, 0, len(members))
	for _, m := range members {
		id := m.Order.legalEntityID
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
		return err // the batch is run again by halves, which finds the member to refuse
	}
	for _, row := range rows {
		m := first[row.LegalEntityID]
		m.Settle(created(row))
	}
	for _, m := range members {
		id := m.Order.legalEntityID
		switch {
		case isHeld[id]:
			m.Held()
		case first[id] != m:
			m.Later()
		}
	}
	return nil
}

// created is the outcome of a creation: the licence, or the refusal of the ladder.
func created(row sqlc.CreateLicensesRow) (license License, err error) {
	if row.Refusal != "" {
		return license, Refusal(row.Refusal)
	}
	// Names of columns and fields differ in case and underscores only.
	return license, jsonv2.Unmarshal(row.License, &license, jsonv2.MatchCaseInsensitiveNames(true))
}

// Update changes an additional licence of the caller's legal entity, and answers it (contract 3.3, rules 2 to 11).
// changes is marshalled to a JSON object, the body of the contract. If no value differs nothing is written. A Refusal:
// a rule refuses the change.
func (l *Licenses) Update(ctx context.Context, c Caller, id uuid.UUID, changes any) (stored License, err error) {
	wanted, err := json.Marshal(changes)
	if err != nil {
		return stored, err
	}
	err = l.db.pg.Patiently(ctx, func() (held bool, err error) {
		stored, held, err = l.update(ctx, c, id, wanted)
		return held, err
	})
	return stored, err
}

// update is Update, except that it does nothing while another transaction holds the legal entity or the licence.
func (l *Licenses) update(
	ctx context.Context, c Caller, id uuid.UUID, changes json.RawMessage,
) (stored License, isHeld bool, err error) {
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
			ID:            id,
			LegalEntityID: c.ClientID,
			Changes:       changes,
			UserID:        c.UserID,
			AsOf:          l.db.moment(),
			TimeZone:      l.db.timeZone,
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

// LicenseFilter selects licences. Its zero value selects all.
type LicenseFilter struct {
	ID            uuid.NullUUID
	LicenseNumber *string
	Type          *string
	IsPrimary     *bool
}

// List answers the active licences of a legal entity that the filter selects, oldest first (contract 3.2).
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
		func(r sqlc.ListLicensesRow) (License, error) { return r.PrmLicense, nil })
}
