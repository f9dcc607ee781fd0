package db

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/reiestr/reiestr/db/sqlc"
)

// SystemUser is the user of changes that no person makes.
var SystemUser = uuid.MustParse("4261eacf-8008-4e62-899f-de1e2f7065f0")

// Rows of a fixture bundle. They have all columns of their tables, and none is left to a default. Dates are midnights
// in UTC; a []byte holds JSON.
type (
	ParameterRow          = sqlc.ReplaceParametersParams
	LegalEntityRow        = sqlc.ReplaceLegalEntitiesParams
	DivisionRow           = sqlc.ReplaceDivisionsParams
	EmployeeRow           = sqlc.ReplaceEmployeesParams
	LicenseRow            = sqlc.ReplaceLicensesParams
	ServiceRequestColumns = sqlc.AddServiceRequestsParams
	// exactly one of status, processing status, legal entity and employee is set
	HistoryRow = sqlc.AddHistoryParams

	ServiceRequestRow struct {
		ServiceRequestColumns
		History []HistoryRow // all four histories, oldest first; the loader sets their ServiceRequestID
	}
)

// Bundles loads fixture bundles into the registry.
type Bundles struct{ db *statements }

// errDryRun rolls back a transaction that has succeeded.
var errDryRun = errors.New("a dry run ends here")

// Load calls do in one transaction. If do fails or dryRun is set, nothing is stored. A database runs one Load at a
// time, and others wait. If the database undoes the transaction (deadlock), do is called again. Owner only.
func (b *Bundles) Load(ctx context.Context, dryRun bool, do func(*Loader) error) error {
	err := b.db.transact(ctx, "load", func(t *transaction) error {
		if err := t.soon().LockBundles(ctx); err != nil {
			return err
		}
		now, err := t.now().StartBundle(ctx, b.db.moment())
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

// Loader replaces rows by those of a fixture bundle. A row replaces the row with the same key as a whole, or is added.
// Call the methods in the order in which they stand here, which is the lock order. Call each as often as needed, with
// as many rows as shall be in memory at a time; no call may have a key twice. A row that the database refuses is a
// *RowFault.
type Loader struct {
	Now time.Time // the moment of the whole transaction

	t *transaction
}

// StoredDictionaries reads all dictionaries as they are now.
func (l *Loader) StoredDictionaries(ctx context.Context) ([]Dictionary, error) {
	return allDictionaries(ctx, l.t.now())
}

// Dictionaries replaces dictionaries with all their values, whose Dictionary it sets.
func (l *Loader) Dictionaries(ctx context.Context, rows []DictionaryRow) error {
	names := make([]string, len(rows))
	dictionaries := make([]sqlc.ReplaceDictionariesParams, len(rows))
	var values []DictionaryValueRow
	for i, r := range rows {
		names[i] = r.Name
		dictionaries[i] = sqlc.ReplaceDictionariesParams{
			Name: r.Name, IsActive: r.IsActive, Description: r.Description, Labels: append([]string{}, r.Labels...),
		}
		for _, v := range r.Values {
			v.Dictionary = r.Name
			values = append(values, v)
		}
	}
	q := l.t.now()
	if err := faultOf(first(q.ReplaceDictionaries(ctx, dictionaries))); err != nil {
		return err
	}
	if err := q.RemoveDictionaryValues(ctx, names); err != nil {
		return err
	}
	_, err := q.AddDictionaryValues(ctx, values)
	return faultOf(-1, err)
}

// Codes lists the codes of a dictionary, inactive ones included.
func (l *Loader) Codes(ctx context.Context, dictionary string) ([]string, error) {
	return l.t.now().ListDictionaryCodes(ctx, dictionary)
}

// Parameters replaces chart parameters.
func (l *Loader) Parameters(ctx context.Context, rows []ParameterRow) error {
	return faultOf(first(l.t.now().ReplaceParameters(ctx, rows)))
}

// LegalEntities replaces legal entities.
func (l *Loader) LegalEntities(ctx context.Context, rows []LegalEntityRow) error {
	q := l.t.now()
	if err := q.LockLegalEntitiesOfBundle(
		ctx,
		column(rows, func(r LegalEntityRow) uuid.UUID { return r.ID }),
	); err != nil {
		return err
	}
	return faultOf(first(q.ReplaceLegalEntities(ctx, rows)))
}

// Divisions replaces divisions.
func (l *Loader) Divisions(ctx context.Context, rows []DivisionRow) error {
	return faultOf(first(l.t.now().ReplaceDivisions(ctx, rows)))
}

// Employees replaces employees.
func (l *Loader) Employees(ctx context.Context, rows []EmployeeRow) error {
	return faultOf(first(l.t.now().ReplaceEmployees(ctx, rows)))
}

// SetLicensesAside must be called for all licences of the bundle before the first call of Licenses. It lets the
// licences of a legal entity exchange their types.
func (l *Loader) SetLicensesAside(ctx context.Context, rows []LicenseRow) error {
	q := l.t.now()
	if err := q.LockLegalEntitiesOfBundle(
		ctx,
		column(rows, func(r LicenseRow) uuid.UUID { return r.LegalEntityID }),
	); err != nil {
		return err
	}
	return q.SetLicensesAside(ctx, column(rows, func(r LicenseRow) uuid.UUID { return r.ID }))
}

// Licenses replaces licences.
func (l *Loader) Licenses(ctx context.Context, rows []LicenseRow) error {
	return faultOf(first(l.t.now().ReplaceLicenses(ctx, rows)))
}

// ServiceRequests replaces service requests with all their histories. New ones are added by COPY, the fastest way.
func (l *Loader) ServiceRequests(ctx context.Context, rows []ServiceRequestRow) error {
	q := l.t.now()
	found, err := q.LockServiceRequestsOfBundle(ctx, column(rows, func(r ServiceRequestRow) uuid.UUID { return r.ID }))
	if err != nil {
		return err
	}
	known := make(map[uuid.UUID]bool, len(found))
	for _, id := range found {
		known[id] = true
	}
	var added []ServiceRequestColumns
	var replaced []sqlc.ReplaceServiceRequestsParams
	var history []HistoryRow
	for _, r := range rows {
		if known[r.ID] {
			replaced = append(replaced, sqlc.ReplaceServiceRequestsParams(r.ServiceRequestColumns))
		} else {
			added = append(added, r.ServiceRequestColumns)
		}
		for _, h := range r.History {
			h.ServiceRequestID = r.ID
			history = append(history, h)
		}
	}
	_, err = first(q.ReplaceServiceRequests(ctx, replaced))
	if err == nil && len(found) > 0 {
		err = q.RemoveHistory(ctx, found)
	}
	if err == nil {
		_, err = q.AddServiceRequests(ctx, added)
	}
	if err == nil {
		_, err = q.AddHistory(ctx, history)
	}
	// A service request is checked completely by a look at the row alone, so the caller need not know which row it was.
	return faultOf(-1, err)
}

func column[R, C any](rows []R, of func(R) C) []C {
	values := make([]C, len(rows))
	for i, r := range rows {
		values[i] = of(r)
	}
	return values
}

// RowFault is a row that the database refuses.
type RowFault struct {
	Row   int    // index among the given rows; -1: not known
	Field string // the wrong field; empty: the row as a whole
	Text  string // the reason, for the author of the bundle
}

func (f *RowFault) Error() string {
	return strings.TrimLeft(fmt.Sprintf("row %d: %s: %s", f.Row, f.Field, f.Text), " :")
}

// first carries out a batch with one statement for each row, and answers the row that fails. All rows behind it fail
// too, because the transaction has failed.
func first(batch interface{ Exec(func(int, error)) }) (row int, err error) {
	batch.Exec(func(i int, e error) {
		if err == nil {
			row, err = i, e
		}
	})
	return row, err
}

const noLegalEntity = "there is no such legal entity, neither in the bundle nor in the database"

// constraintFaults are the texts for violated constraints that the checks of a single row cannot foresee.
var constraintFaults = map[string]RowFault{
	"divisions_legal_entity_id_fkey": {Field: "legal_entity_id", Text: noLegalEntity},
	"employees_legal_entity_id_fkey": {Field: "legal_entity_id", Text: noLegalEntity},
	"licenses_legal_entity_id_fkey":  {Field: "legal_entity_id", Text: noLegalEntity},
	"licenses_active_additional_type_key": {
		Field: "type",
		Text:  "the legal entity has another active additional licence of this type",
	},
}

// faultOf converts the violation of a constraint, and a value that does not fit its column, to the fault of the row.
// Any other error is returned unchanged.
func faultOf(row int, err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || !strings.HasPrefix(pg.Code, "22") && !strings.HasPrefix(pg.Code, "23") {
		return err
	}
	fault, known := constraintFaults[pg.ConstraintName]
	if !known {
		fault.Text = "the database does not take it: " + pg.Message
	}
	fault.Row = row
	return &fault
}
