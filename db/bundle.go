package db

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/reiestr/reiestr/db/sqlc"
)

// SystemUser acts where no person does.
var SystemUser = uuid.MustParse("4261eacf-8008-4e62-899f-de1e2f7065f0")

// Rows of a fixture bundle. They marshal to objects named as the columns of their tables; nothing is left to a column's default.
type (
	// Stamp says when and by whom a row was made and last changed.
	Stamp struct {
		InsertedAt time.Time `json:"inserted_at"`
		InsertedBy uuid.UUID `json:"inserted_by"`
		UpdatedAt  time.Time `json:"updated_at"`
		UpdatedBy  uuid.UUID `json:"updated_by"`
	}

	DictionaryRow struct {
		Name     string               `json:"name"`
		IsActive bool                 `json:"is_active"`
		Values   []DictionaryValueRow `json:"-"`
	}

	DictionaryValueRow struct {
		Dictionary  string `json:"dictionary"` // set by the loader
		Code        string `json:"code"`
		Description string `json:"description"`
		IsActive    bool   `json:"is_active"`
	}

	ParameterRow struct {
		Name  string `json:"name"`
		Value any    `json:"value"` // []string, bool or string
	}

	LegalEntityRow struct {
		ID          uuid.UUID `json:"id"`
		EDRPOU      string    `json:"edrpou"`
		Name        string    `json:"name"`
		Type        string    `json:"type"`
		Status      string    `json:"status"`
		NHSVerified bool      `json:"nhs_verified"`
		Stamp
	}

	DivisionRow struct {
		ID            uuid.UUID `json:"id"`
		LegalEntityID uuid.UUID `json:"legal_entity_id"`
		Name          string    `json:"name"`
		Status        string    `json:"status"`
		Stamp
	}

	EmployeeRow struct {
		ID            uuid.UUID `json:"id"`
		LegalEntityID uuid.UUID `json:"legal_entity_id"`
		EmployeeType  string    `json:"employee_type"`
		Status        string    `json:"status"`
		Stamp
	}

	LicenseRow struct {
		ID             uuid.UUID  `json:"id"`
		LegalEntityID  uuid.UUID  `json:"legal_entity_id"`
		Type           string     `json:"type"`
		IsActive       bool       `json:"is_active"`
		IsPrimary      bool       `json:"is_primary"`
		LicenseNumber  *string    `json:"license_number"`
		IssuedBy       string     `json:"issued_by"`
		IssuedDate     time.Time  `json:"issued_date"` // dates are midnights in UTC
		IssuerStatus   *string    `json:"issuer_status"`
		ExpiryDate     *time.Time `json:"expiry_date"`
		ActiveFromDate time.Time  `json:"active_from_date"`
		WhatLicensed   *string    `json:"what_licensed"`
		OrderNo        *string    `json:"order_no"`
		Stamp
	}

	ServiceRequestRow struct {
		ID                      uuid.UUID    `json:"id"`
		Requisition             string       `json:"requisition"`
		PatientID               uuid.UUID    `json:"patient_id"`
		Status                  string       `json:"status"`
		ProgramID               *uuid.UUID   `json:"program_id"`
		ProgramProcessingStatus *string      `json:"program_processing_status"`
		UsedByLegalEntityID     *uuid.UUID   `json:"used_by_legal_entity_id"`
		UsedByEmployeeID        *uuid.UUID   `json:"used_by_employee_id"`
		UsedByDivisionID        *uuid.UUID   `json:"used_by_division_id"`
		Category                string       `json:"category"`
		CodeID                  *uuid.UUID   `json:"code_id"`
		RequesterLegalEntityID  *uuid.UUID   `json:"requester_legal_entity_id"`
		ExpirationDate          time.Time    `json:"expiration_date"`
		CompletedWith           any          `json:"completed_with"` // marshals to {type, id} or null
		ProgramServiceID        *uuid.UUID   `json:"program_service_id"`
		StatusReason            any          `json:"status_reason"` // marshals to a CodeableConcept or null
		Content                 any          `json:"content"`       // marshals to an object
		History                 []HistoryRow `json:"-"`             // all four histories, oldest first
		Stamp
	}

	// HistoryRow is one new value of one element; exactly one of the first four is set.
	HistoryRow struct {
		Status                  *string    `json:"status,omitempty"`
		ProgramProcessingStatus *string    `json:"program_processing_status,omitempty"`
		UsedByLegalEntityID     *uuid.UUID `json:"used_by_legal_entity_id,omitempty"`
		UsedByEmployeeID        *uuid.UUID `json:"used_by_employee_id,omitempty"`
		StatusReason            any        `json:"status_reason,omitempty"`
		ServiceRequestID        uuid.UUID  `json:"service_request_id"` // set by the loader
		InsertedAt              time.Time  `json:"inserted_at"`
		InsertedBy              uuid.UUID  `json:"inserted_by"`
	}
)

// Loader replaces rows by those of a fixture bundle: a row of the same key as a whole, or it is new. Its methods are called in the order
// in which they stand here, which is the lock order, each as often as needed with so many rows as make a good statement, no key twice in
// one call. A row that the database does not take is a *RowFault.
type Loader struct {
	Now time.Time // the one moment of the transaction

	t *transaction
}

// errDryRun undoes a transaction that has gone well.
var errDryRun = errors.New("a dry run ends here")

// Load runs do in one transaction, of which nothing stays if do fails or dryRun is set. One Load at a time is under way in a database,
// others wait. Should the database undo the transaction (deadlock), do runs again. Owner only.
func (d *DB) Load(ctx context.Context, dryRun bool, do func(*Loader) error) error {
	err := d.transact(ctx, "load", func(t *transaction) error {
		if err := t.soon().LockBundles(ctx); err != nil {
			return err
		}
		now, err := t.now().StartBundle(ctx, d.moment())
		if err != nil {
			return err
		}
		if err := do(&Loader{Now: now, t: t}); err != nil {
			return err
		}
		if dryRun {
			return errDryRun
		}
		return nil
	})
	if errors.Is(err, errDryRun) {
		return nil
	}
	return err
}

// Dictionaries replaces dictionaries with all their values.
func (l *Loader) Dictionaries(ctx context.Context, rows []DictionaryRow) error {
	var names []string
	var values []DictionaryValueRow
	for _, r := range rows {
		names = append(names, r.Name)
		for _, v := range r.Values {
			v.Dictionary = r.Name
			values = append(values, v)
		}
	}
	if err := load(ctx, l.t.soon(), (*sqlc.Queries).ReplaceDictionaries, rows); err != nil {
		return err
	}
	if err := l.t.soon().RemoveDictionaryValues(ctx, names); err != nil {
		return err
	}
	return faultOf(rows, load(ctx, l.t.now(), (*sqlc.Queries).AddDictionaryValues, values))
}

// Codes lists the codes of a dictionary, also those no longer active.
func (l *Loader) Codes(ctx context.Context, dictionary string) ([]string, error) {
	return l.t.now().ListDictionaryCodes(ctx, dictionary)
}

// Parameters replaces chart parameters.
func (l *Loader) Parameters(ctx context.Context, rows []ParameterRow) error {
	return faultOf(rows, load(ctx, l.t.now(), (*sqlc.Queries).ReplaceParameters, rows))
}

// LegalEntities replaces legal entities.
func (l *Loader) LegalEntities(ctx context.Context, rows []LegalEntityRow) error {
	return faultOf(rows, load(ctx, l.t.now(), (*sqlc.Queries).ReplaceLegalEntities, rows))
}

// Divisions replaces divisions.
func (l *Loader) Divisions(ctx context.Context, rows []DivisionRow) error {
	return faultOf(rows, load(ctx, l.t.now(), (*sqlc.Queries).ReplaceDivisions, rows))
}

// Employees replaces employees.
func (l *Loader) Employees(ctx context.Context, rows []EmployeeRow) error {
	return faultOf(rows, load(ctx, l.t.now(), (*sqlc.Queries).ReplaceEmployees, rows))
}

// SetLicensesAside comes, for all licences of the bundle, before the first call of Licenses: so the licences of a legal entity may
// exchange their types.
func (l *Loader) SetLicensesAside(ctx context.Context, rows []LicenseRow) error {
	var ids, legalEntities []uuid.UUID
	for _, r := range rows {
		ids = append(ids, r.ID)
		legalEntities = append(legalEntities, r.LegalEntityID)
	}
	if err := l.t.soon().LockLegalEntities(ctx, legalEntities); err != nil {
		return err
	}
	return l.t.now().SetLicensesAside(ctx, ids)
}

// Licenses replaces licences.
func (l *Loader) Licenses(ctx context.Context, rows []LicenseRow) error {
	return faultOf(rows, load(ctx, l.t.now(), (*sqlc.Queries).ReplaceLicenses, rows))
}

// ServiceRequests replaces service requests with all their histories.
func (l *Loader) ServiceRequests(ctx context.Context, rows []ServiceRequestRow) error {
	var ids []uuid.UUID
	var history []HistoryRow
	for _, r := range rows {
		ids = append(ids, r.ID)
		for _, h := range r.History {
			h.ServiceRequestID = r.ID
			history = append(history, h)
		}
	}
	if err := load(ctx, l.t.soon(), (*sqlc.Queries).ReplaceServiceRequests, rows); err != nil {
		return err
	}
	if err := l.t.soon().RemoveHistory(ctx, ids); err != nil {
		return err
	}
	return faultOf(rows, load(ctx, l.t.now(), (*sqlc.Queries).AddHistory, history))
}

// load hands rows to a statement that takes them as a JSON array.
func load[R any](ctx context.Context, q *sqlc.Queries, statement func(*sqlc.Queries, context.Context, []byte) error, rows []R) error {
	if len(rows) == 0 {
		rows = []R{} // null is no array
	}
	body, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	return statement(q, ctx, body)
}

// RowFault is a row that the database does not take.
type RowFault struct {
	Row   int    // its index among the rows given; -1: which one is not known
	Field string // what is wrong with it; empty: the row as a whole
	Text  string // why, for the author of the bundle
}

func (f *RowFault) Error() string {
	return fmt.Sprintf("row %d: %s: %s", f.Row, f.Field, f.Text)
}

// constraintFaults says what a violated constraint means to the author of a bundle: those that no look at the row alone can tell.
var constraintFaults = map[string]RowFault{
	"divisions_legal_entity_id_fkey":      {Field: "legal_entity_id", Text: "there is no such legal entity, neither in the bundle nor in the database"},
	"employees_legal_entity_id_fkey":      {Field: "legal_entity_id", Text: "there is no such legal entity, neither in the bundle nor in the database"},
	"licenses_legal_entity_id_fkey":       {Field: "legal_entity_id", Text: "there is no such legal entity, neither in the bundle nor in the database"},
	"licenses_active_additional_type_key": {Field: "type", Text: "the legal entity has another active additional licence of this type"},
}

// faultOf turns the violation of a constraint into the fault of a row; any other error stays what it is. Which row it is, the detail of
// the violation tells by the values in it, whatever language its words are in.
func faultOf[R interface{ traces() []string }](rows []R, err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || !strings.HasPrefix(pg.Code, "23") && !strings.HasPrefix(pg.Code, "22") {
		return err
	}
	fault, known := constraintFaults[pg.ConstraintName]
	switch {
	case known:
	case pg.ConstraintName != "":
		fault.Text = "it breaks the rule " + pg.ConstraintName
	default:
		fault.Text = "the database does not take it: " + pg.Message
	}
	fault.Row = slices.IndexFunc(rows, func(r R) bool {
		return slices.ContainsFunc(r.traces(), func(t string) bool { return strings.Contains(pg.Detail, t) })
	})
	return &fault
}

// Traces that a row leaves in the detail of a violation: of a check the beginning of the row, of a key its value.

func (r DictionaryRow) traces() []string  { return []string{"(" + r.Name + ", "} }
func (r ParameterRow) traces() []string   { return []string{"(" + r.Name + ", "} }
func (r LegalEntityRow) traces() []string { return []string{"(" + r.ID.String() + ", "} }

func (r DivisionRow) traces() []string {
	return []string{"(" + r.ID.String() + ", ", "=(" + r.LegalEntityID.String() + ")"}
}

func (r EmployeeRow) traces() []string {
	return []string{"(" + r.ID.String() + ", ", "=(" + r.LegalEntityID.String() + ")"}
}

func (r LicenseRow) traces() []string {
	traces := []string{"(" + r.ID.String() + ", ", "=(" + r.LegalEntityID.String() + ")"}
	if r.IsActive && !r.IsPrimary {
		traces = append(traces, "=("+r.LegalEntityID.String()+", "+r.Type+")")
	}
	return traces
}

func (r ServiceRequestRow) traces() []string { return []string{"(" + r.ID.String() + ", "} }
