package api

import (
	"context"
	"net/http"

	"github.com/reiestr/reiestr/api/rest"
	"github.com/reiestr/reiestr/db"
)

// refusal is the answer of HTTP to a refusal of the database. Code and text are those of the contract.
type refusal struct {
	code    int
	message string
	entry   string // of a 422: the property it speaks of
}

const (
	conflict      = http.StatusConflict
	unprocessable = http.StatusUnprocessableEntity
	missing       = http.StatusNotFound
)

// refusals holds every refusal of db. <type> stands for the type of the licence asked for.
var refusals = map[db.Refusal]refusal{
	// 3.1
	db.LegalEntityNotActive:     {unprocessable, "Legal entity must be in active or suspended status", "$"},
	db.LicenseNotAdditional:     {unprocessable, "Only additional license can be created", "$.is_primary"},
	db.LicenseTypeUnknown:       {unprocessable, "value is not allowed in enum", "$.type"},
	db.LicenseTypeMismatch:      {conflict, "Legal entity type and license type mismatch", ""},
	db.PrimaryLicenseMissing:    {missing, "No active primary license found for legal entity", ""},
	db.LicenseTypePresent:       {conflict, "License with type <type> is already present", ""},
	db.LicenseIssuedAfterActive: {unprocessable, "License can not be issued later than active from date", "$.issued_date"},
	db.LicenseActiveAfterExpiry: {unprocessable,
		"License can not have active from date later than expiration date",
		"$.active_from_date"},
	db.LicenseExpired: {conflict, "License is expired", ""},

	// 3.3
	db.LicenseNotFound:    {missing, "License was not found", ""},
	db.LicenseIsPrimary:   {conflict, "Only additional license can be updated", ""},
	db.LicenseMadePrimary: {unprocessable, "Additional license can not be changed to primary", "$.is_primary"},
	db.LicenseOfAnother:   {conflict, "License doesn't correspond to your legal entity", ""},
	db.LicenseTypeChanged: {conflict, "License type can not be updated", ""},

	// 4.3
	db.LegalEntityNotAllowed:  {conflict, "Action is not allowed for the legal entity", ""},
	db.ServiceRequestNotFound: {missing, "Service request not found", ""},

	// 4.4
	db.StatusInvalid:           {conflict, "Invalid service request status", ""},
	db.ProcessingStatusInvalid: {conflict, "Invalid program processing status", ""},
	db.HeldByAnother:           {conflict, "Service request is used by another legal entity", ""},

	// 4.5
	db.ProgramMissing:         {conflict, "Service request without a program can not be used", ""},
	db.ServiceRequestExpired:  {conflict, "Service request is expired", ""},
	db.ServiceRequestInactive: {conflict, "Can't use inactive service request", ""},
	db.AlreadyUsed:            {conflict, "Service request is already used", ""},
	db.AlreadyCompleted:       {conflict, "Service request is already completed", ""},
	db.EmployeeNotOwn: {unprocessable,
		"You can assign service request only to employee within your legal entity",
		"$.used_by_employee.identifier.value"},
	db.EmployeeTypeInvalid: {unprocessable, "Invalid employee type", "$.used_by_employee.identifier.value"},
	db.HolderNotOwn:        {conflict, "You can assign service request only to your legal entity", ""},
	db.DivisionMissingForHospitalization: {unprocessable,
		"Division is mandatory for hospitalization category",
		"$.used_by_division"},
	db.DivisionMissingForTransferOfCare: {unprocessable,
		"Division is mandatory for transfer_of_care category",
		"$.used_by_division"},
	db.DivisionNotOwn: {unprocessable,
		"Patient is transferred to another legal entity",
		"$.used_by_division"},

	// 4.7
	db.ProgramServiceMissing: {unprocessable, "Required property $.program_service was not present", "$.program_service"},
	db.StatusReasonUnknown:   {unprocessable, "value is not allowed in enum", "$.status_reason.coding[0].code"},

	db.InternalError: {http.StatusInternalServerError, "Internal error. Quote the request id when you report it.", ""},
}

var typeOf = map[int]string{
	conflict:                       "request_conflict",
	unprocessable:                  "validation_failed",
	missing:                        "not_found",
	http.StatusInternalServerError: "internal_error",
}

// refusalFault is the status code and the fault of a refusal, for an answer or for a failed job. allowed holds the
// codes of the dictionary that the refusal is about; nil: it is about no dictionary.
func refusalFault(r db.Refusal, allowed []string) (code int, f rest.Fault) {
	known, ok := refusals[r]
	if !ok {
		known = refusals[db.InternalError]
	}
	f = rest.Fault{Type: typeOf[known.code], Message: known.message}
	if known.code == unprocessable {
		rule := rest.Rule{Rule: "invalid", Params: rest.NoParams, Description: known.message}
		if allowed != nil {
			rule = rest.InclusionRule(allowed)
		}
		f.Invalid = []rest.Invalid{{Entry: known.entry, EntryType: "json_data_property", Rules: []rest.Rule{rule}}}
	}
	return known.code, f
}

// refused is the answer to a request that a rule refuses.
func refused(ctx context.Context, r db.Refusal, allowed []string) *rest.Failure {
	rest.Note(ctx).Refusal = r
	code, fault := refusalFault(r, allowed)
	return rest.Fail(ctx, code, fault)
}
