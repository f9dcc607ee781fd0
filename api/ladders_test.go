package api_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// attempt is a request that no rule refuses, until the rows of a ladder are violated.
type attempt struct {
	*service
	call
	id   uuid.UUID // of the licence or the service request
	body map[string]any
}

// send is the request with the body as it is now.
func (a *attempt) send() call {
	c := a.call
	if a.body != nil {
		raw, err := json.Marshal(a.body)
		must(a.t, err)
		c.body = string(raw)
	}
	return c
}

// violation breaks the check of one row, and of no row above it.
type violation struct {
	sql   string // changes the state; $1 is the id of the attempt
	body  func(map[string]any)
	call  func(*call)
	group string // rows of one group exclude each other
}

// ladder is a table of checks of the contract, and how each of its rows is provoked.
type ladder struct {
	name     string
	sections []string // whose tables, one after the other, are the ladder
	query    string   // of sql/, whose header lists the refusals
	prepare  func(*service) *attempt
	rows     map[string]violation // by key
	isJob    bool                 // the checks run a second time in the job
}

const (
	requests  = `UPDATE medical_events.service_requests SET `
	licenses  = `UPDATE prm.licenses SET `
	employees = `UPDATE prm.employees SET `
	someone   = `'8be63914-a278-470b-b868-1af5b9087332'` // another legal entity
	doctor    = "c5a1d9f0-7b2e-4c63-8d4f-1e0a9b8c7d65"
	ward      = "d5a1d9f0-7b2e-4c63-8d4f-1e0a9b8c7d65"
)

func state(sql string) violation { return violation{sql: sql} }

func body(key string, value any) violation {
	return violation{body: func(b map[string]any) {
		if b[key] = value; value == nil {
			delete(b, key)
		}
	}}
}

func without(v violation, key string) violation {
	v.body = body(key, nil).body
	return v
}

func of(group string, v violation) violation {
	v.group = group
	return v
}

func category(code string) violation {
	return state(requests + `category = '` + code + `' WHERE id = $1`)
}

func identified(id string) map[string]any {
	return map[string]any{"identifier": map[string]any{"value": id}}
}

// shared are the rows of every action.
var shared = map[string]violation{
	"1":                         {call: func(c *call) { c.header = map[string]string{"Authorization": ""} }},
	"2":                         {call: func(c *call) { c.path = strings.Replace(c.path, "/actions/", "x/actions/", 1) }},
	"legal_entity_not_allowed":  state(`UPDATE prm.legal_entities SET status = 'SUSPENDED' WHERE $1::uuid IS NOT NULL`),
	"service_request_not_found": state(`DELETE FROM medical_events.service_requests WHERE id = $1`),
}

func and(more map[string]violation) map[string]violation {
	all := map[string]violation{}
	for _, rows := range []map[string]violation{shared, more} {
		for refusal, v := range rows {
			all[refusal] = v
		}
	}
	return all
}

// laidOut prepares an action on a service request.
func laidOut(action, status string, isHeld bool, body func(s *service) map[string]any) func(*service) *attempt {
	return func(s *service) *attempt {
		_, id := s.serviceRequest(status, uuid.NullUUID{UUID: s.clinic, Valid: isHeld})
		a := &attempt{service: s, call: act(id, action, ""), id: id}
		if body != nil {
			a.body = body(s)
		}
		return a
	}
}

func ofJSON(text string) (value map[string]any) {
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		panic(err)
	}
	return value
}

var ladders = []ladder{
	{
		name: "create license", sections: []string{"3.1"}, query: "CreateLicenses",
		prepare: func(s *service) *attempt {
			s.primaryLicense(s.clinic)
			return &attempt{service: s, call: license(), id: s.clinic, body: ofJSON(license().body)}
		},
		rows: map[string]violation{
			"1":                       body("issued_by", 1),
			"legal_entity_not_active": state(`UPDATE prm.legal_entities SET status = 'CLOSED' WHERE id = $1`),
			"license_not_additional":  body("is_primary", true),
			"license_type_unknown": state(`UPDATE prm.dictionary_values SET is_active = false
				WHERE $1::uuid IS NOT NULL AND code = 'PHARMACY_DRUGS'`),
			"license_type_mismatch":   state(`UPDATE prm.parameters SET value = '[]' WHERE $1::uuid IS NOT NULL`),
			"primary_license_missing": state(`DELETE FROM prm.licenses WHERE legal_entity_id = $1 AND is_primary`),
			"license_type_present": state(`INSERT INTO prm.licenses
				(legal_entity_id, type, is_active, is_primary, issued_by, issued_date, active_from_date, inserted_by, updated_by)
				VALUES ($1, 'PHARMACY_DRUGS', false, false, 'x', '2020-01-01', '2020-01-01', $1, $1)`),
			"license_issued_after_active": body("issued_date", "2022-02-03"),
			"license_active_after_expiry": body("expiry_date", "2022-02-01"),
			"license_expired":             body("expiry_date", "2022-02-02"),
		},
	},
	{
		name: "update license", sections: []string{"3.3"}, query: "UpdateLicense",
		prepare: func(s *service) *attempt {
			s.primaryLicense(s.clinic)
			var created struct{ ID uuid.UUID }
			must(s.t, json.Unmarshal(s.do(license()).body.Data, &created))
			return &attempt{service: s, call: change(created.ID, ""), id: created.ID, body: map[string]any{
				"type": "PHARMACY_DRUGS", "is_primary": false, "order_no": "К-2",
			}}
		},
		rows: map[string]violation{
			"1":                       body("issued_by", 1),
			"legal_entity_not_active": state(`UPDATE prm.legal_entities SET status = 'CLOSED' WHERE $1::uuid IS NOT NULL`),
			"license_not_found":       state(`DELETE FROM prm.licenses WHERE id = $1`),
			"license_is_primary":      state(licenses + `is_primary = true WHERE id = $1`),
			"license_made_primary":    body("is_primary", true),
			"license_of_another": state(`WITH other AS (
				INSERT INTO prm.legal_entities (id, edrpou, name, type, status, inserted_by, updated_by)
				VALUES (gen_random_uuid(), '', '', 'OUTPATIENT', 'ACTIVE', $1, $1) RETURNING id)
				UPDATE prm.licenses SET legal_entity_id = (SELECT id FROM other) WHERE id = $1`),
			"license_type_changed":        body("type", "CASINO"),
			"primary_license_missing":     state(`DELETE FROM prm.licenses WHERE id <> $1`),
			"license_issued_after_active": body("issued_date", "2022-02-03"),
			"license_active_after_expiry": body("expiry_date", "2022-02-01"),
			"license_expired":             body("expiry_date", "2022-02-02"),
		},
	},
	{
		name: "release", sections: []string{"4.3", "4.4"}, query: "JudgeRelease", isJob: true,
		prepare: laidOut("release", "in_queue", true, nil),
		rows: and(map[string]violation{
			"status_invalid":            state(requests + `status = 'recalled' WHERE id = $1`),
			"processing_status_invalid": state(requests + `program_processing_status = 'in_progress' WHERE id = $1`),
			"held_by_another":           state(requests + `used_by_legal_entity_id = gen_random_uuid() WHERE id = $1`),
		}),
	},
	{
		name: "use", sections: []string{"4.3", "4.5"}, query: "JudgeUse", isJob: true,
		prepare: laidOut("use", "new", false, func(s *service) map[string]any {
			s.sql(`INSERT INTO prm.employees (id, legal_entity_id, employee_type, status, inserted_by, updated_by)
				VALUES ($1, $2, 'DOCTOR', 'APPROVED', $3, $3)`, doctor, s.clinic, s.user)
			s.sql(`INSERT INTO prm.divisions (id, legal_entity_id, name, status, inserted_by, updated_by)
				VALUES ($1, $2, 'Ward', 'ACTIVE', $3, $3)`, ward, s.clinic, s.user)
			s.sql(`INSERT INTO prm.legal_entities (id, edrpou, name, type, status, inserted_by, updated_by)
				VALUES (`+someone+`, '', '', 'OUTPATIENT', 'ACTIVE', $1, $1)`, s.user)
			return map[string]any{
				"used_by_legal_entity": identified(s.clinic.String()),
				"used_by_employee":     identified(doctor),
				"used_by_division":     identified(ward),
			}
		}),
		rows: and(map[string]violation{
			"program_missing":          state(requests + `program_id = NULL, program_processing_status = NULL WHERE id = $1`),
			"service_request_expired":  state(requests + `expiration_date = now() - interval '1 second' WHERE id = $1`),
			"service_request_inactive": state(requests + `status = 'entered_in_error' WHERE id = $1`),
			"already_used": state(requests + `used_by_legal_entity_id = gen_random_uuid(),
				program_processing_status = CASE WHEN program_id IS NOT NULL THEN 'in_queue' END WHERE id = $1`),
			"already_completed": state(requests + `program_processing_status =
				CASE WHEN program_id IS NOT NULL THEN 'completed' END WHERE id = $1`),
			"employee_not_own":                      state(employees + `status = 'DISMISSED' WHERE $1::uuid IS NOT NULL`),
			"employee_type_invalid":                 state(employees + `employee_type = 'HR' WHERE $1::uuid IS NOT NULL`),
			"holder_not_own":                        body("used_by_legal_entity", identified(doctor)),
			"division_missing_for_hospitalization":  of("division", without(category("hospitalization"), "used_by_division")),
			"division_missing_for_transfer_of_care": of("division", without(category("transfer_of_care"), "used_by_division")),
			"division_not_own": of("division", state(`WITH moved AS (UPDATE prm.divisions SET legal_entity_id = `+someone+`)
				UPDATE medical_events.service_requests SET category = 'hospitalization' WHERE id = $1`)),
		}),
	},
	{
		name: "process", sections: []string{"4.3", "4.6"}, query: "JudgeProcess", isJob: true,
		prepare: laidOut("process", "in_queue", true, nil),
		rows: and(map[string]violation{
			"status_invalid":            state(requests + `status = 'recalled' WHERE id = $1`),
			"processing_status_invalid": state(requests + `program_processing_status = 'in_progress' WHERE id = $1`),
			"held_by_another":           state(requests + `used_by_legal_entity_id = gen_random_uuid() WHERE id = $1`),
		}),
	},
	{
		name: "complete", sections: []string{"4.3", "4.7"}, query: "JudgeComplete", isJob: true,
		prepare: laidOut("complete", "in_progress", true, func(*service) map[string]any { return ofJSON(completion) }),
		rows: and(map[string]violation{
			"status_invalid":            state(requests + `status = 'recalled' WHERE id = $1`),
			"held_by_another":           state(requests + `used_by_legal_entity_id = gen_random_uuid() WHERE id = $1`),
			"processing_status_invalid": state(requests + `program_processing_status = 'in_queue' WHERE id = $1`),
			"program_service_missing":   body("program_service", nil),
			"status_reason_unknown": state(`UPDATE prm.dictionary_values SET is_active = false
				WHERE $1::uuid IS NOT NULL AND dictionary = 'eHealth/service_request_complete_reasons' AND code = 'default'`),
		}),
	},
}

// violate breaks the checks of rows, the last one first: what a row above changes stands.
func (a *attempt) violate(rows ...violation) {
	a.t.Helper()
	for _, v := range slices.Backward(rows) {
		if v.sql != "" {
			a.sql(v.sql, a.id)
		}
		if v.body != nil {
			v.body(a.body)
		}
		if v.call != nil {
			v.call(&a.call)
		}
	}
}

// key names a row: by its refusal, or by its number.
func key(row contractRow) string { return cmp.Or(row.text("refusal"), row["#"]) }

// plainTexts are the texts of the checks that are no rule of SQL: access and schema.
var plainTexts = map[int]string{
	401: "Unauthorized: access token is not set",
	422: "Validation failed. See error.invalid for every fault.",
}

// TestContractLadders takes the tables of checks of the contract as its cases. The refusals of a table have the same
// order as in the query's header. Each row is provoked over HTTP, alone and together with all rows below it, and the
// answer has its code, type, text and entry. If the state changes after the acceptance of an action, its job fails with
// the same code and text.
func TestContractLadders(t *testing.T) {
	t.Parallel()
	types := errorTypes(t)
	headers := queryRefusals(t)
	for _, l := range ladders {
		var rows []contractRow
		var refusals []string
		for _, section := range l.sections {
			for _, row := range contractTable(t, section, "#", "answer", "entry", "refusal") {
				if refusal := row.text("refusal"); refusal != "" {
					refusals = append(refusals, refusal)
				}
				rows = append(rows, row)
			}
		}
		if fmt.Sprint(refusals) != fmt.Sprint(headers[l.query]) {
			t.Errorf("%s\ncontract %v: %v\nheader of %s: %v", l.name, l.sections, refusals, l.query, headers[l.query])
		}
		everyRow(t, rows, key, l.rows)
		for i, row := range rows {
			t.Run(l.name+"/"+key(row), func(t *testing.T) {
				t.Parallel()
				own := l.rows[key(row)]
				var below []violation
				groups := []string{own.group}
				for _, next := range rows[i+1:] {
					v := l.rows[key(next)]
					if v.group == "" || !slices.Contains(groups, v.group) {
						groups = append(groups, v.group)
						below = append(below, v)
					}
				}
				tried := l.prepare(newService(t))
				var accepted answer
				inJob := l.isJob && own.sql != "" && own.body == nil
				if inJob {
					if accepted = tried.do(tried.send()); accepted.code != 202 {
						t.Fatalf("before the state changed: %d %s", accepted.code, accepted.raw)
					}
				}
				tried.violate(own)
				refused := tried.refusedBy(row, types)
				if inJob {
					tried.failsAlike(accepted, refused)
				}
				tried.violate(append([]violation{own}, below...)...)
				tried.refusedBy(row, types)
			})
		}
	}
}

// refusedBy expects the answer that a row of the contract gives.
func (a *attempt) refusedBy(row contractRow, types map[int]string) answer {
	a.t.Helper()
	code := row.code(a.t, "answer")
	text := strings.ReplaceAll(row.text("answer"), "<type>", "PHARMACY_DRUGS")
	if row.text("refusal") == "" {
		return a.refused(a.send(), code, types[code], plainTexts[code])
	}
	got := a.refused(a.send(), code, types[code], text)
	if got.body.Error == nil {
		return got
	}
	if row["entry"] == "" {
		if got.body.Error.Invalid != nil {
			a.t.Errorf("invalid: %v", got.body.Error.Invalid)
		}
		return got
	}
	var rule any = map[string]any{"rule": "invalid", "params": []any{}, "description": text}
	if text == "value is not allowed in enum" {
		rule = map[string]any{
			"rule": "inclusion", "params": map[string]any{"values": a.activeCodes(row.text("refusal"))}, "description": text,
		}
	}
	want := []map[string]any{{"entry": row.text("entry"), "entry_type": "json_data_property", "rules": []any{rule}}}
	if fmt.Sprint(got.body.Error.Invalid) != fmt.Sprint(want) {
		a.t.Errorf("invalid\n got %v\nwant %v", got.body.Error.Invalid, want)
	}
	return got
}

// activeCodes are the codes of the dictionary that a refusal is about.
func (a *attempt) activeCodes(refusal string) []any {
	a.t.Helper()
	dictionary := map[string]string{
		"license_type_unknown": "LICENSE_TYPE", "status_reason_unknown": "eHealth/service_request_complete_reasons",
	}[refusal]
	codes := []any{}
	rows, err := a.owner.Query(a.t.Context(),
		`SELECT code FROM prm.dictionary_values WHERE dictionary = $1 AND is_active ORDER BY code`, dictionary)
	must(a.t, err)
	defer rows.Close()
	for rows.Next() {
		var code string
		must(a.t, rows.Scan(&code))
		codes = append(codes, code)
	}
	must(a.t, rows.Err())
	return codes
}

// failsAlike expects the accepted job to fail with the code and the error of the answer at once.
func (a *attempt) failsAlike(accepted, refused answer) {
	a.t.Helper()
	job := a.work().ended(accepted.header.Get("Location"))
	var same map[string]any
	must(a.t, json.Unmarshal([]byte(refused.raw), &same))
	if job["status"] != "failed" || job["status_code"] != float64(refused.code) || job["links"] != nil ||
		fmt.Sprint(job["error"]) != fmt.Sprint(same["error"]) {
		a.t.Errorf("job %v, at once %s", job, refused.raw)
	}
}

// queryRefusals are the refusals that the headers of the queries in sql/ list, in their order.
func queryRefusals(t *testing.T) map[string][]string {
	t.Helper()
	files, err := filepath.Glob("../sql/*.sql")
	must(t, err)
	head := regexp.MustCompile(`(?m)^-- name: (\w+) :\w+$`)
	list := regexp.MustCompile(`(?s)\n-- Refusals, in this order: (.*?)\.\n`)
	refusals := map[string][]string{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		must(t, err)
		text := string(raw)
		starts := head.FindAllStringSubmatchIndex(text, -1)
		for i, at := range starts {
			end := len(text)
			if i+1 < len(starts) {
				end = starts[i+1][0]
			}
			if found := list.FindStringSubmatch(text[at[0]:end]); found != nil {
				refusals[text[at[2]:at[3]]] = regexp.MustCompile(`[a-z_]+`).FindAllString(found[1], -1)
			}
		}
	}
	return refusals
}

// TestContractHasEveryLadder: each query whose header lists refusals has its table of the contract among the ladders.
func TestContractHasEveryLadder(t *testing.T) {
	t.Parallel()
	for query := range queryRefusals(t) {
		if !slices.ContainsFunc(ladders, func(l ladder) bool { return l.query == query }) {
			t.Errorf("%s refuses, and is among no ladder of the contract", query)
		}
	}
}
