package db

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/reiestr/reiestr/db/pg"
	"github.com/reiestr/reiestr/db/sqlc"
)

// Refusal is the code of a rule that refuses a request. The ladders in sql/ answer with these codes and no others.
// Package api has the status, the type and the text for each.
type Refusal string

// Error is for the log.
func (r Refusal) Error() string { return "refused: " + string(r) }

// allowedCodes lists the codes of the dictionary that the refusal is about; nil: it is about none.
func (r Refusal) allowedCodes(ctx context.Context, q *sqlc.Queries) ([]string, error) {
	dictionary, ok := dictionaryOf[r]
	if !ok {
		return nil, nil
	}
	codes, err := q.ListActiveCodes(ctx, dictionary)
	return append([]string{}, codes...), err
}

// Refusals of licences, in the order of contract 3.1.
const (
	LegalEntityNotActive     Refusal = "legal_entity_not_active"
	LicenseNotAdditional     Refusal = "license_not_additional"
	LicenseTypeUnknown       Refusal = "license_type_unknown"
	LicenseTypeMismatch      Refusal = "license_type_mismatch"
	PrimaryLicenseMissing    Refusal = "primary_license_missing"
	LicenseTypePresent       Refusal = "license_type_present"
	LicenseIssuedAfterActive Refusal = "license_issued_after_active"
	LicenseActiveAfterExpiry Refusal = "license_active_after_expiry"
	LicenseExpired           Refusal = "license_expired"
)

// Refusals of the update of a licence alone, in the order of contract 3.3.
const (
	LicenseNotFound    Refusal = "license_not_found"
	LicenseIsPrimary   Refusal = "license_is_primary"
	LicenseMadePrimary Refusal = "license_made_primary"
	LicenseOfAnother   Refusal = "license_of_another"
	LicenseTypeChanged Refusal = "license_type_changed"
)

// Refusals of actions on service requests, in the order of contract 4.3 to 4.7.
const (
	LegalEntityNotAllowed             Refusal = "legal_entity_not_allowed"
	ServiceRequestNotFound            Refusal = "service_request_not_found"
	StatusInvalid                     Refusal = "status_invalid"
	ProcessingStatusInvalid           Refusal = "processing_status_invalid"
	HeldByAnother                     Refusal = "held_by_another"
	ProgramMissing                    Refusal = "program_missing"
	ServiceRequestExpired             Refusal = "service_request_expired"
	ServiceRequestInactive            Refusal = "service_request_inactive"
	AlreadyUsed                       Refusal = "already_used"
	AlreadyCompleted                  Refusal = "already_completed"
	EmployeeNotOwn                    Refusal = "employee_not_own"
	EmployeeTypeInvalid               Refusal = "employee_type_invalid"
	HolderNotOwn                      Refusal = "holder_not_own"
	DivisionMissingForHospitalization Refusal = "division_missing_for_hospitalization"
	DivisionMissingForTransferOfCare  Refusal = "division_missing_for_transfer_of_care"
	DivisionNotOwn                    Refusal = "division_not_own"
	ProgramServiceMissing             Refusal = "program_service_missing"
	StatusReasonUnknown               Refusal = "status_reason_unknown"
)

// InternalError ends a job that could not be carried out after five attempts.
const InternalError Refusal = "internal_error"

// ErrNotFound: there is no such row, or none that the caller may know of.
var ErrNotFound = errors.New("not found")

// dictionaryOf is the dictionary that does not have the code of the request, by refusal.
var dictionaryOf = map[Refusal]string{
	LicenseTypeUnknown:  "LICENSE_TYPE",
	StatusReasonUnknown: "eHealth/service_request_complete_reasons",
}

// constraintRefusals names the rule that a constraint enforces too. If two transactions ever pass the ladder at the
// same time, the constraint refuses the second one.
var constraintRefusals = map[string]Refusal{
	"licenses_active_additional_type_key": LicenseTypePresent,
}

// refusalOf converts the violation of a constraint to the refusal of its rule. Any other error is returned unchanged.
func refusalOf(err error) error {
	var violation *pgconn.PgError
	if errors.As(err, &violation) {
		if r, ok := constraintRefusals[violation.ConstraintName]; ok {
			return r
		}
	}
	return err
}

// ErrHeld: another transaction held a row for longer than a command waits. Nothing has been done.
var ErrHeld = pg.ErrHeld

// Unavailable tells whether the error has nothing to do with the request. The same request may succeed later.
func Unavailable(err error) bool { return pg.Unavailable(err) }

// errNotAsDecided: the effect of an action did not find the state on which the ladder had decided.
var errNotAsDecided = errors.New("a state is not the one that was decided on")

// OfRows tells whether single rows of a batch may be the cause of the error, so that the batch succeeds without them.
// After any other error the database cannot do the work for any row: it cannot be reached, is shutting down, or is
// full.
func OfRows(err error) bool {
	code := pg.SQLSTATE(err)
	if code == "" {
		return ownFault(err)
	}
	fromOutside := slices.Contains([]string{"08", "53", "57"}, code[:2]) // connection, resources, operator
	return pg.Undone(err) && (!fromOutside || code == timedOut)
}

// timedOut is the SQLSTATE of a statement that has run into its statement_timeout.
const timedOut = "57014"

// ownFault tells whether this program itself made the error when it carried out jobs.
func ownFault(err error) bool {
	var p *pg.Panic
	return errors.As(err, &p) || errors.Is(err, errNotAsDecided)
}

// raised tells whether the rows of a statement are the cause of the error: a value does not fit, a constraint is
// violated, or the body of a function or trigger raises an exception (P0001).
func raised(err error) bool { return pg.ErrorOfData(err) || pg.SQLSTATE(err) == "P0001" }
