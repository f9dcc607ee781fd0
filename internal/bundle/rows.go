package bundle

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
)

const categories = "eHealth/SNOMED/service_request_categories"

var readDictionary = objectOf(func(c *checker, o *node) db.DictionaryRow {
	values := dictionaryValues{codes: map[string]bool{}}
	row := db.DictionaryRow{
		Name:        required(c, o, "name", aName),
		Description: otherwise(optional(c, o, "description", aText), ""),
		Labels:      otherwise(optional(c, o, "labels", listOf(aName)), []string{}),
		IsActive:    otherwise(optional(c, o, "is_active", aBoolean), true),
	}
	required(c, o, "values", values.below(nil, 1))
	row.Values = values.rows
	return row
})

// dictionaryValues collects the values of one dictionary, of all levels.
type dictionaryValues struct {
	codes map[string]bool
	rows  []db.DictionaryValueRow
}

// mostLevels is far more than any dictionary has. A client could not read values that are nested much deeper.
const mostLevels = 100

// below reads the values below a code; nil: those at the top, which are level 1.
func (v *dictionaryValues) below(parent *string, level int) reader[[]struct{}] {
	return listOf(objectOf(func(c *checker, o *node) struct{} {
		row := db.DictionaryValueRow{
			Code:        required(c, o, "code", aName),
			Description: otherwise(optional(c, o, "description", aText), ""),
			IsActive:    otherwise(optional(c, o, "is_active", aBoolean), true),
			ParentCode:  parent,
		}
		if v.codes[row.Code] {
			c.faultAt(o, "code", "%q is given twice in the dictionary", row.Code)
		}
		v.codes[row.Code] = true
		v.rows = append(v.rows, row)
		if level == mostLevels {
			if children := o.take("child_values"); children != nil && len(children.members) > 0 {
				c.faultAt(o, "child_values", "values have more than %d levels", mostLevels)
			}
			return struct{}{}
		}
		optional(c, o, "child_values", v.below(&row.Code, level+1))
		return struct{}{}
	}))
}

var readParameter = objectOf(func(c *checker, o *node) db.ParameterRow {
	name := required(c, o, "name", aName)
	return db.ParameterRow{
		Name:  name,
		Value: required(c, o, "value", parameterOf(parameterKind(name))),
	}
})

// parameterKind returns the type that the rules expect of a parameter's value; empty if no rule reads the parameter, so
// that every type is accepted. With a value of another type a rule would refuse every command.
func parameterKind(name string) kind {
	middle, isPrefixed := strings.CutPrefix(name, "LEGAL_ENTITY_")
	_, isTypes := strings.CutSuffix(middle, "_ADDITIONAL_LICENSE_TYPES")
	switch {
	case name == "me_allowed_transactions_le_types", name == "BIG_DICTIONARIES", isPrefixed && isTypes:
		return array
	case name == "release_requires_holder":
		return boolean
	}
	return ""
}

// parameterOf reads the value of a parameter: a list of strings, a boolean or a string. Unless wanted is empty, the
// value must be of this type.
func parameterOf(wanted kind) reader[[]byte] {
	return func(c *checker, n *node) []byte {
		switch {
		case wanted == array && n.kind == text:
			c.fault(n, "expected a list of strings, got a string: write [%q]", n.text)
			return nil
		case wanted == array && n.kind != array:
			c.fault(n, "expected a list of strings, got %s", n.kind)
			return nil
		case wanted == boolean && n.kind == text:
			c.fault(n, "expected true or false without quotes, got a string")
			return nil
		case wanted == boolean && n.kind != boolean:
			c.fault(n, "expected true or false, got %s", n.kind)
			return nil
		}
		switch n.kind {
		case array:
			list := listOf(aText)(c, n)
			return asJSON(c, &list)
		case boolean:
			value := aBoolean(c, n)
			return asJSON(c, &value)
		case text:
			value := aText(c, n)
			return asJSON(c, &value)
		}
		c.fault(n, "expected a list of strings, a boolean or a string, got %s", n.kind)
		return nil
	}
}

var readLegalEntity = objectOf(func(c *checker, o *node) db.LegalEntityRow {
	row := db.LegalEntityRow{
		ID:          required(c, o, "id", aUUID),
		Edrpou:      required(c, o, "edrpou", aName),
		Name:        required(c, o, "name", aText),
		Type:        required(c, o, "type", aName),
		Status:      required(c, o, "status", oneOf("ACTIVE", "SUSPENDED", "CLOSED", "REORGANIZED")),
		NhsVerified: otherwise(optional(c, o, "nhs_verified", aBoolean), false),
	}
	readStamp(c, o, &row.InsertedAt, &row.InsertedBy, &row.UpdatedAt, &row.UpdatedBy)
	return row
})

var readDivision = objectOf(func(c *checker, o *node) db.DivisionRow {
	row := db.DivisionRow{
		ID:            required(c, o, "id", aUUID),
		LegalEntityID: required(c, o, "legal_entity_id", aUUID),
		Name:          required(c, o, "name", aText),
		Status:        required(c, o, "status", aName),
	}
	readStamp(c, o, &row.InsertedAt, &row.InsertedBy, &row.UpdatedAt, &row.UpdatedBy)
	return row
})

var readEmployee = objectOf(func(c *checker, o *node) db.EmployeeRow {
	row := db.EmployeeRow{
		ID:            required(c, o, "id", aUUID),
		LegalEntityID: required(c, o, "legal_entity_id", aUUID),
		EmployeeType:  required(c, o, "employee_type", aName),
		Status:        required(c, o, "status", aName),
	}
	readStamp(c, o, &row.InsertedAt, &row.InsertedBy, &row.UpdatedAt, &row.UpdatedBy)
	return row
})

var readLicense = objectOf(func(c *checker, o *node) db.LicenseRow {
	before := len(c.faults)
	row := db.LicenseRow{
		ID:             required(c, o, "id", aUUID),
		LegalEntityID:  required(c, o, "legal_entity_id", aUUID),
		Type:           required(c, o, "type", aName),
		IsActive:       otherwise(optional(c, o, "is_active", aBoolean), true),
		IsPrimary:      required(c, o, "is_primary", aBoolean),
		LicenseNumber:  optional(c, o, "license_number", aText),
		IssuedBy:       required(c, o, "issued_by", aText),
		IssuedDate:     required(c, o, "issued_date", aDate),
		IssuerStatus:   optional(c, o, "issuer_status", aText),
		ExpiryDate:     optional(c, o, "expiry_date", aDate),
		ActiveFromDate: required(c, o, "active_from_date", aDate),
		WhatLicensed:   optional(c, o, "what_licensed", aText),
		OrderNo:        optional(c, o, "order_no", aText),
	}
	readStamp(c, o, &row.InsertedAt, &row.InsertedBy, &row.UpdatedAt, &row.UpdatedBy)
	if row.IsPrimary || len(c.faults) > before {
		return row // primary licences come from another system and are accepted as they are
	}
	if row.IssuedDate.After(row.ActiveFromDate.Time) {
		c.faultAt(o, "issued_date", "an additional licence cannot be issued later than its active_from_date")
	}
	if row.ExpiryDate != nil && row.ActiveFromDate.After(row.ExpiryDate.Time) {
		c.faultAt(o, "active_from_date", "an additional licence cannot be active from later than its expiry_date")
	}
	return row
})

// readStamp reads the moments and users of the creation and the last change of a row. The defaults are now and the
// system user.
func readStamp(c *checker, o *node, insertedAt *time.Time, insertedBy *uuid.UUID, updatedAt *time.Time,
	updatedBy *uuid.UUID) {
	*insertedAt = otherwise(optional(c, o, "inserted_at", aMoment), c.now)
	*insertedBy = otherwise(optional(c, o, "inserted_by", aUUID), db.SystemUser)
	*updatedAt = otherwise(optional(c, o, "updated_at", aMoment), c.now)
	*updatedBy = otherwise(optional(c, o, "updated_by", aUUID), db.SystemUser)
}

// content holds the elements of a service request that no rule reads, in the shape of the contract.
type content struct {
	Intent             string       `json:"intent"`
	Priority           string       `json:"priority"`
	Code               *reference   `json:"code,omitempty"`
	Context            *reference   `json:"context,omitempty"`
	OccurrencePeriod   *period      `json:"occurrence_period,omitempty"`
	OccurrenceDateTime *string      `json:"occurrence_date_time,omitempty"`
	RequesterEmployee  *reference   `json:"requester_employee,omitempty"`
	ReasonReference    *[]reference `json:"reason_reference,omitempty"`
	SupportingInfo     *[]reference `json:"supporting_info,omitempty"`
	PermittedResources *[]reference `json:"permitted_resources,omitempty"`
	Note               *string      `json:"note,omitempty"`
	PatientInstruction *string      `json:"patient_instruction,omitempty"`
	ExplanatoryLetter  *string      `json:"explanatory_letter,omitempty"`
	Quantity           *quantity    `json:"quantity,omitempty"`
}

type period struct {
	Start string  `json:"start"`
	End   *string `json:"end,omitempty"`
}

type quantity struct {
	Value  float64 `json:"value"`
	System string  `json:"system"`
	Code   string  `json:"code"`
	Unit   *string `json:"unit,omitempty"`
}

// completedWith is the value of the column of this name: type and id of the Reference.
type completedWith struct {
	Type string    `json:"type"`
	ID   uuid.UUID `json:"id"`
}

var (
	aStatus           = oneOf("active", "completed", "recalled", "entered_in_error")
	aProcessingStatus = oneOf("new", "in_queue", "in_progress", "completed")

	aPatient        = idOf("patient")
	aProgram        = idOf("medical_program")
	aProgramService = idOf("program_service")
	aLegalEntity    = idOf("legal_entity")
	anEmployee      = idOf("employee")
	aDivision       = idOf("division")

	toService    = referenceTo("service")
	toEncounter  = referenceTo("encounter")
	toEmployee   = referenceTo("employee")
	toConditions = listOf(referenceTo("condition"))
	toEpisodes   = listOf(referenceTo("episode_of_care"))
)

var readServiceRequest = objectOf(func(c *checker, o *node) db.ServiceRequestRow {
	before := len(c.faults)
	more := content{
		Intent:             otherwise(optional(c, o, "intent", aName), "order"),
		Priority:           otherwise(optional(c, o, "priority", aName), "routine"),
		Code:               optional(c, o, "code", toService),
		Context:            optional(c, o, "context", toEncounter),
		OccurrencePeriod:   optional(c, o, "occurrence_period", readPeriod),
		OccurrenceDateTime: optional(c, o, "occurrence_date_time", aDay),
		RequesterEmployee:  optional(c, o, "requester_employee", toEmployee),
		ReasonReference:    optional(c, o, "reason_reference", toConditions),
		SupportingInfo:     optional(c, o, "supporting_info", toEpisodes),
		PermittedResources: optional(c, o, "permitted_resources", toEpisodes),
		Note:               optional(c, o, "note", aText),
		PatientInstruction: optional(c, o, "patient_instruction", aText),
		ExplanatoryLetter:  optional(c, o, "explanatory_letter", aText),
		Quantity:           optional(c, o, "quantity", readQuantity),
	}
	row := db.ServiceRequestRow{ServiceRequestColumns: db.ServiceRequestColumns{
		ID:                      required(c, o, "id", aUUID),
		Requisition:             required(c, o, "requisition", aName),
		PatientID:               required(c, o, "subject", aPatient),
		Status:                  required(c, o, "status", aStatus),
		ProgramID:               nullable(optional(c, o, "program", aProgram)),
		ProgramProcessingStatus: optional(c, o, "program_processing_status", aProcessingStatus),
		UsedByLegalEntityID:     nullable(optional(c, o, "used_by_legal_entity", aLegalEntity)),
		UsedByEmployeeID:        nullable(optional(c, o, "used_by_employee", anEmployee)),
		UsedByDivisionID:        nullable(optional(c, o, "used_by_division", aDivision)),
		Category:                required(c, o, "category", aCategory),
		RequesterLegalEntityID:  nullable(optional(c, o, "requester_legal_entity", aLegalEntity)),
		ExpirationDate:          otherwise(optional(c, o, "expiration_date", aMoment), c.now.AddDate(1, 0, 0)),
		CompletedWith:           asJSON(c, optional(c, o, "completed_with", readCompletedWith)),
		ProgramServiceID:        nullable(optional(c, o, "program_service", aProgramService)),
		StatusReason:            asJSON(c, optional(c, o, "status_reason", aConcept)),
		Content:                 asJSON(c, &more),
	}}
	if more.Code != nil {
		row.CodeID = nullable(&more.Code.Identifier.Value)
	}
	readStamp(c, o, &row.InsertedAt, &row.InsertedBy, &row.UpdatedAt, &row.UpdatedBy)
	row.History = readHistories(c, o, row.ServiceRequestColumns)
	if len(c.faults) > before {
		return row
	}
	if status := row.ProgramProcessingStatus; status != nil {
		switch {
		case !row.ProgramID.Valid:
			c.faultAt(o, "program_processing_status", "%q needs program", *status)
		case (*status == "in_queue" || *status == "in_progress") && !row.UsedByLegalEntityID.Valid:
			c.faultAt(o, "program_processing_status", "%q needs used_by_legal_entity", *status)
		case *status == "new" && row.UsedByLegalEntityID.Valid:
			c.faultAt(o, "program_processing_status", `"new" has no used_by_legal_entity`)
		}
	}
	if !row.UsedByLegalEntityID.Valid && row.UsedByEmployeeID.Valid {
		c.faultAt(o, "used_by_employee", "needs used_by_legal_entity")
	}
	if !row.UsedByLegalEntityID.Valid && row.UsedByDivisionID.Valid {
		c.faultAt(o, "used_by_division", "needs used_by_legal_entity")
	}
	if more.OccurrencePeriod != nil && more.OccurrenceDateTime != nil {
		c.faultAt(o, "occurrence_date_time", "stands beside occurrence_period, and only one of them may")
	}
	return row
})

func nullable(id *uuid.UUID) uuid.NullUUID {
	if id == nil {
		return uuid.NullUUID{}
	}
	return uuid.NullUUID{UUID: *id, Valid: true}
}

// asJSON encodes a value for its JSON column; nil stays nil. It does nothing while rows are only checked.
func asJSON[T any](c *checker, value *T) []byte {
	if value == nil || c.only {
		return nil
	}
	body, err := json.Marshal(value)
	if err != nil {
		panic(err) // cannot happen: the value consists of strings, ids and numbers
	}
	return body
}

// aCategory reads a CodeableConcept, or its code alone.
func aCategory(c *checker, n *node) (code string) {
	if n.kind == text {
		code = aName(c, n)
	} else if value := readCategory(c, n); len(value.Coding) == 1 {
		code = value.Coding[0].Code
	} else if len(value.Coding) > 1 {
		c.fault(n, "expected one coding, got %d", len(value.Coding))
	}
	if c.categories != nil && !c.categories[code] {
		c.fault(n, "%q is not in the dictionary %s", code, categories)
	}
	return code
}

var readCategory = conceptOf(categories)

func readCompletedWith(c *checker, n *node) completedWith {
	r := toEncounter(c, n)
	if len(r.Identifier.Type.Coding) == 0 {
		return completedWith{}
	}
	value := completedWith{r.Identifier.Type.Coding[0].Code, r.Identifier.Value}
	if !slices.Contains([]string{"encounter", "diagnostic_report", "procedure"}, value.Type) {
		c.fault(n, "%q is none of encounter, diagnostic_report, procedure", value.Type)
	}
	return value
}

// aDay is a date or a moment. The text is stored unchanged.
func aDay(c *checker, n *node) string {
	if len(n.text) == len(time.DateOnly) {
		aDate(c, n)
	} else {
		aMoment(c, n)
	}
	return n.text
}

var readPeriod = objectOf(func(c *checker, o *node) period {
	return period{
		Start: required(c, o, "start", aDay),
		End:   optional(c, o, "end", aDay),
	}
})

var readQuantity = objectOf(func(c *checker, o *node) quantity {
	return quantity{
		Value:  required(c, o, "value", aNumber),
		System: required(c, o, "system", aText),
		Code:   required(c, o, "code", aText),
		Unit:   optional(c, o, "unit", aText),
	}
})

// readHistories reads the four histories of a service request, and returns the items of all, oldest first. For a
// missing history it makes an item from the element's value, if there is one.
func readHistories(c *checker, o *node, row db.ServiceRequestColumns) []db.HistoryRow {
	var all []db.HistoryRow
	history := func(name string, read reader[[]db.HistoryRow], first db.HistoryRow, has bool) {
		if items := optional(c, o, name, read); items != nil {
			all = append(all, *items...)
		} else if has {
			first.InsertedAt, first.InsertedBy = row.InsertedAt, row.InsertedBy
			all = append(all, first)
		}
	}
	history("status_history", readStatusHistory,
		db.HistoryRow{Status: &row.Status}, true)
	history("program_processing_status_history", readProcessingStatusHistory,
		db.HistoryRow{ProgramProcessingStatus: row.ProgramProcessingStatus}, row.ProgramProcessingStatus != nil)
	history("used_by_legal_entity_history", readLegalEntityHistory,
		db.HistoryRow{UsedByLegalEntityID: row.UsedByLegalEntityID}, row.UsedByLegalEntityID.Valid)
	history("used_by_employee_history", readEmployeeHistory,
		db.HistoryRow{UsedByEmployeeID: row.UsedByEmployeeID}, row.UsedByEmployeeID.Valid)
	slices.SortStableFunc(all, func(a, b db.HistoryRow) int { return a.InsertedAt.Compare(b.InsertedAt) })
	return all
}

var (
	readStatusHistory = historyOf(func(c *checker, o *node, h *db.HistoryRow) {
		value := required(c, o, "status", aStatus)
		h.Status = &value
	})
	readProcessingStatusHistory = historyOf(func(c *checker, o *node, h *db.HistoryRow) {
		value := required(c, o, "program_processing_status", aProcessingStatus)
		h.ProgramProcessingStatus = &value
	})
	readLegalEntityHistory = historyOf(func(c *checker, o *node, h *db.HistoryRow) {
		value := required(c, o, "used_by_legal_entity", aLegalEntity)
		h.UsedByLegalEntityID = nullable(&value)
	})
	readEmployeeHistory = historyOf(func(c *checker, o *node, h *db.HistoryRow) {
		value := required(c, o, "used_by_employee", anEmployee)
		h.UsedByEmployeeID = nullable(&value)
	})
)

// historyOf reads the items of one history. read sets the element of an item.
func historyOf(read func(*checker, *node, *db.HistoryRow)) reader[[]db.HistoryRow] {
	return listOf(objectOf(func(c *checker, o *node) db.HistoryRow {
		item := db.HistoryRow{
			StatusReason: asJSON(c, optional(c, o, "status_reason", aConcept)),
			InsertedAt:   otherwise(optional(c, o, "inserted_at", aMoment), c.now),
			InsertedBy:   otherwise(optional(c, o, "inserted_by", aUUID), db.SystemUser),
		}
		read(c, o, &item)
		return item
	}))
}
