package bundle_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/internal/bundle"
	"github.com/reiestr/reiestr/internal/dev/testdb"
)

func TestMain(m *testing.M) { os.Exit(testdb.Main(m)) }

// registry is the database of a test.
type registry struct {
	*db.DB
	conn *pgx.Conn
}

func open(t *testing.T) registry {
	t.Helper()
	url := testdb.New(t).URL
	d, err := db.Open(t.Context(), db.Config{URL: url, Role: db.Owner, TimeZone: "Europe/Kyiv"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	conn, err := testdb.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return registry{d, conn}
}

func (r registry) load(t *testing.T, name, text string) error {
	t.Helper()
	_, err := bundle.Load(t.Context(), r.DB, name, strings.NewReader(text), bundle.Options{})
	return err
}

func (r registry) mustLoad(t *testing.T, text string) {
	t.Helper()
	if err := r.load(t, "test.json", text); err != nil {
		t.Fatal(err)
	}
}

// value returns the only value of a query, as text.
func (r registry) value(t *testing.T, sql string, args ...any) string {
	t.Helper()
	var value *string
	if err := r.conn.QueryRow(t.Context(), "SELECT ("+sql+")::text", args...).Scan(&value); err != nil {
		t.Fatal(err)
	}
	if value == nil {
		return "null"
	}
	return *value
}

// dump returns the rows of all tables that a bundle can load.
func (r registry) dump(t *testing.T) map[string]string {
	t.Helper()
	tables := map[string]string{}
	for table, columns := range map[string]string{
		"prm.dictionaries":                       "name",
		"prm.dictionary_values":                  "dictionary, code",
		"prm.parameters":                         "name",
		"prm.legal_entities":                     "id",
		"prm.divisions":                          "id",
		"prm.employees":                          "id",
		"prm.licenses":                           "id",
		"medical_events.service_requests":        "id",
		"medical_events.service_request_history": "service_request_id, sequence_number",
	} {
		tables[table] = r.value(t, "SELECT jsonb_agg(to_jsonb(t) - 'sequence_number' ORDER BY "+columns+") FROM "+table+" t")
	}
	return tables
}

// nested returns values of so many levels, each with one value, and what the value of the last level has below it.
func nested(level, levels int, below string) string {
	if level < levels {
		below = nested(level+1, levels, below)
	}
	return fmt.Sprintf(`[{"code": "%d", "child_values": %s}]`, level, below)
}

// id returns a UUID that ends with the number.
func id(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

func ref(n int) string { return `{"identifier": {"value": "` + id(n) + `"}}` }

const moment = `"inserted_at": "2026-01-02T03:04:05.678901Z", "inserted_by": "11111111-1111-4111-8111-111111111111",
	"updated_at": "2026-02-03T04:05:06Z", "updated_by": "22222222-2222-4222-8222-222222222222"`

var clinic = `{"id": "` + id(1) + `", "edrpou": "12345678", "name": "Клініка", "type": "OUTPATIENT", "status": "ACTIVE", "nhs_verified": true, ` + moment + `}`

// request returns a service request with the required fields, and more.
func request(n int, more string) string {
	return fmt.Sprintf(`{"id": %q, "requisition": "0000-%d", "subject": %s, "status": "active", "category": "counselling"%s}`, id(n), n, ref(100), more)
}

func license(n int, more string) string {
	return fmt.Sprintf(`{"id": %q, "legal_entity_id": %q, "issued_by": "МОЗ", "issued_date": "2020-01-01", "active_from_date": "2020-02-01"%s}`, id(n), id(1), more)
}

// resolve replaces the marks ‸ in want, in order, by line and column of the marks in text. The last mark in text
// replaces all remaining ones in want. It returns text without marks, and want.
func resolve(text, want string) (string, string) {
	for strings.Contains(text, "‸") {
		before, after, _ := strings.Cut(text, "‸")
		text = before + after
		lines := strings.Split(before, "\n")
		place := fmt.Sprintf("%d:%d", len(lines), utf8.RuneCountInString(lines[len(lines)-1])+1)
		times := 1
		if !strings.Contains(text, "‸") {
			times = -1
		}
		want = strings.Replace(want, "‸", place, times)
	}
	return text, want
}

func TestFaults(t *testing.T) {
	r := open(t)
	r.mustLoad(t, `{"legal_entities": [`+clinic+`], "licenses": [`+license(10,
		`, "type": "PHARMACY_DRUGS", "is_primary": false`)+`]}`)
	before := r.dump(t)
	requests := func(row string) string { return `{"service_requests": [` + row + `]}` }

	for _, test := range []struct{ name, text, want string }{
		// The file.
		{"empty.json", ` `, `empty.json:1:1: the file is empty`},
		{"list.json", `[]`, `list.json:1:1: a bundle is an object of sections`},
		{"broken.json", "{\"service_requests\": [\n  {\"id\": tru}]}",
			`broken.json:2:13: service_requests[0].id: not JSON: invalid character '}' in literal true (expecting 'e')`},
		{"short.json", `{"parameters": [`, `short.json:1:17: parameters: not JSON: unexpected EOF`},
		{"twice.json", `{"parameters": [{"name": "a", "name": "b", "value": true}]}`,
			`twice.json:1:31: parameters[0].name: not JSON: duplicate object member name`},
		{"more.json", `{} {}`, `more.json:1:4: something follows the end of the bundle`},
		{"latin.json", "{\"parameters\": [{\"name\": \"caf\xe9\", \"value\": true}]}",
			`latin.json:1:30: parameters[0].name: not JSON: invalid UTF-8`},
		{"section.json", `{"licences": []}`, `section.json:1:14: licences: unknown section`},
		{"kind.json", `{"licenses": {}}`, `kind.json:1:14: licenses: expected an array, got an object`},
		{"row.json", `{"licenses": [7]}`, `row.json:1:15: licenses[0]: expected an object, got a number`},
		{"empty.yaml", ``, `empty.yaml: the file is empty`},
		{"broken.yml", "parameters:\n\t- x", `broken.yml: not YAML: line 2: found character that cannot start any token`},
		{"list.yaml", `- a`, `list.yaml:1:1: a bundle is an object of sections`},
		{"more.yaml", "{}\n---\n{}", `more.yaml:2:1: a second document follows the bundle`},
		{"twice.yaml", "parameters: []\nparameters: []", `twice.yaml:2:1: duplicate name "parameters"`},
		{"self.yaml", "parameters: &a\n- *a", `self.yaml:2:3: the anchor "a" contains itself`},
		{"tag.yaml", "parameters: !!binary abcd", `tag.yaml:1:13: !!binary is nothing that JSON has`},
		{"infinite.yaml", "parameters: .inf", `infinite.yaml:1:13: .inf is no number that JSON has`},
		{"sniffed", "parameters: [{name: 7, value: true}]",
			`sniffed:1:21: parameters[0].name: expected a string, got a number`},

		{"marked.json", "\ufeff{\"licences\": []}", `marked.json:1:14: licences: unknown section`},
		{"marked.json", "\ufeff{\"parameters\": [{\"name\": tru}]}",
			`marked.json:1:29: parameters[0].name: not JSON: invalid character '}' in literal true (expecting 'e')`},
		{"marked.json", "\ufeff{} {}", `marked.json:1:4: something follows the end of the bundle`},
		{"marked.json", "\ufeff", `marked.json:1:1: the file is empty`},
		{"marked.json", "\ufeff[]", `marked.json:1:1: a bundle is an object of sections`},
		{"marked.json", "\ufeff" + `{"parameters": [{"name": 7, "value": true}]}`,
			`marked.json:1:26: parameters[0].name: expected a string, got a number`},
		{"cut.json", "\xef\xbb", `cut.json:1:1: not JSON: invalid character '\xef' at start of value`},
		{"marked", "\ufeffparameters: [{name: 7, value: true}]",
			`marked:1:21: parameters[0].name: expected a string, got a number`},

		// Faults that are possible in every row.
		{"field.json", `{"parameters": [‸{"name": "a", "valeu": ‸true}]}`,
			"field.json:‸: parameters[0].value: is required\nfield.json:‸: parameters[0].valeu: unknown field"},
		{"null.json", `{"parameters": [{"name": ‸null, "value": true}]}`,
			`null.json:‸: parameters[0].name: expected a string, got null`},
		{"nul.json", `{"parameters": [{"name": ‸"a\u0000", "value": true}]}`,
			`nul.json:‸: parameters[0].name: holds the character U+0000, which cannot be stored`},
		{"blank.json", `{"parameters": [{"name": ‸"", "value": true}]}`, `blank.json:‸: parameters[0].name: is empty`},
		{"long.json", `{"parameters": [{"name": ‸"` + strings.Repeat("ї", 256) + `", "value": true}]}`,
			`long.json:‸: parameters[0].name: is longer than 255 characters`},
		{"number.json", `{"parameters": [{"name": "a", "value": ‸1}]}`,
			`number.json:‸: parameters[0].value: expected a list of strings, a boolean or a string, got a number`},
		{"list.json", `{"parameters": [{"name": "a", "value": ["b", ‸1]}]}`,
			`list.json:‸: parameters[0].value[1]: expected a string, got a number`},
		{"same.json", `{"parameters": [{"name": "a", "value": true}, {"name": ‸"a", "value": false}]}`,
			`same.json:‸: parameters[1].name: is given twice`},
		{"code.json", `{"dictionaries": [{"name": "a", "values": [{"code": "b"}, {"code": ‸"b"}]}]}`,
			`code.json:‸: dictionaries[0].values[1].code: "b" is given twice in the dictionary`},
		{"child.json", `{"dictionaries": [{"name": "a", "values": [{"code": "b", "child_values": [{"code": ‸"b"}]}]}]}`,
			`child.json:‸: dictionaries[0].values[0].child_values[0].code: "b" is given twice in the dictionary`},
		{"label.json", `{"dictionaries": [{"name": "a", "labels": ["SYSTEM", ‸7], "values": []}]}`,
			`label.json:‸: dictionaries[0].labels[1]: expected a string, got a number`},
		{"deep.json", `{"dictionaries": [{"name": "a", "values": ` + nested(1, 100, `‸[{"code": "x"}]`) + `}]}`,
			`deep.json:‸: dictionaries[0].values[0]` + strings.Repeat(".child_values[0]", 99) +
				`.child_values: values have more than 100 levels`},
		{"uuid.json", `{"divisions": [{"id": ‸"` + strings.ReplaceAll(id(2), "-", "") + `", "legal_entity_id": "` + id(1) +
			`", "name": "", "status": "ACTIVE"}]}`, `uuid.json:‸: divisions[0].id: "00000000000040008000000000000002" is no UUID`},
		{"nobody.json", `{"divisions": [{"id": ‸"00000000-0000-0000-0000-000000000000", "legal_entity_id": "` + id(1) +
			`", "name": "", "status": "ACTIVE"}]}`, `nobody.json:‸: divisions[0].id: the UUID of zeros names nothing`},
		{"status.json", `{"legal_entities": [` + strings.Replace(clinic, `"ACTIVE"`, `‸"active"`, 1) + `]}`,
			`status.json:‸: legal_entities[0].status: "active" is none of ACTIVE, SUSPENDED, CLOSED, REORGANIZED`},

		// Faults that only the database can find.
		{"division.json", `{"divisions": [{"id": "` + id(2) + `", "legal_entity_id": "` + id(1) +
			`", "name": "", "status": "ACTIVE"},
‸{"id": "` + id(3) + `", "legal_entity_id": "` + id(9) + `", "name": "", "status": "ACTIVE"}]}`,
			`division.json:‸: divisions[1].legal_entity_id: there is no such legal entity, neither in the bundle nor in the database`},
		{"employee.json", `{"employees": [‸{"id": "` + id(2) + `", "legal_entity_id": "` + id(9) +
			`", "employee_type": "DOCTOR", "status": "APPROVED"}]}`,
			`employee.json:‸: employees[0].legal_entity_id: there is no such legal entity, neither in the bundle nor in the database`},
		{"license.json", `{"licenses": [‸` + strings.Replace(license(11, `, "type": "MSP", "is_primary": true`), id(1), id(9),
			1) + `]}`, `license.json:‸: licenses[0].legal_entity_id: there is no such legal entity, neither in the bundle nor in the database`},
		{"second.json", `{"licenses": [` + license(11, `, "type": "MSP", "is_primary": true`) + ",‸" +
			license(12, `, "type": "PHARMACY_DRUGS", "is_primary": false`) + `]}`,
			`second.json:‸: licenses[1].type: the legal entity has another active additional licence of this type`},
		{"category.json", `{"dictionaries": [{"name": "eHealth/SNOMED/service_request_categories", "values": []}], "service_requests": [` + strings.Replace(request(20, ""), `"counselling"`, `‸"counselling"`, 1) + `]}`, `category.json:‸: service_requests[0].category: "counselling" is not in the dictionary eHealth/SNOMED/service_request_categories`},

		// Licences.
		{"day.json", `{"licenses": [` + strings.Replace(license(11, `, "type": "MSP", "is_primary": true`), `"2020-01-01"`,
			`‸"2019-02-29"`, 1) + `]}`, `day.json:‸: licenses[0].issued_date: expected "2019-02-29" to be an existing date, YYYY-MM-DD`},
		{"issued.json", `{"licenses": [` + strings.Replace(license(11, `, "type": "MSP", "is_primary": false`),
			`"2020-01-01"`, `‸"2020-02-02"`, 1) + `]}`,
			`issued.json:‸: licenses[0].issued_date: an additional licence cannot be issued later than its active_from_date`},
		{"expiry.json", `{"licenses": [` + strings.Replace(license(11,
			`, "type": "MSP", "is_primary": false, "expiry_date": "2020-01-31"`), `"2020-02-01"`, `‸"2020-02-01"`, 1) + `]}`,
			`expiry.json:‸: licenses[0].active_from_date: an additional licence cannot be active from later than its expiry_date`},

		// Service requests.
		{"needed.json", requests(`‸{}`), "needed.json:‸: service_requests[0].id: is required\n" +
			"needed.json:‸: service_requests[0].requisition: is required\n" +
			"needed.json:‸: service_requests[0].subject: is required\n" +
			"needed.json:‸: service_requests[0].status: is required\n" +
			"needed.json:‸: service_requests[0].category: is required"},
		{"program.json", requests(request(20, `, "program_processing_status": ‸"new"`)),
			`program.json:‸: service_requests[0].program_processing_status: "new" needs program`},
		{"queue.json", requests(request(20, `, "program_processing_status": ‸"in_queue", "program": `+ref(5))),
			`queue.json:‸: service_requests[0].program_processing_status: "in_queue" needs used_by_legal_entity`},
		{"progress.json", requests(request(20, `, "program_processing_status": ‸"in_progress", "program": `+ref(5))),
			`progress.json:‸: service_requests[0].program_processing_status: "in_progress" needs used_by_legal_entity`},
		{"new.json", requests(request(20, `, "program_processing_status": ‸"new", "program": `+ref(5)+`, "used_by_legal_entity": `+ref(1))), `new.json:‸: service_requests[0].program_processing_status: "new" has no used_by_legal_entity`},
		{"used.json", requests(request(20, `, "used_by_employee": ‸`+ref(5)+`, "used_by_division": ‸`+ref(6))),
			"used.json:‸: service_requests[0].used_by_employee: needs used_by_legal_entity\n" +
				"used.json:‸: service_requests[0].used_by_division: needs used_by_legal_entity"},
		{"reference.json", requests(request(20, `, "program": {"identifier": {"value": ‸"x", "values": ‸1}}`)),
			"reference.json:‸: service_requests[0].program.identifier.value: \"x\" is no UUID\n" +
				"reference.json:‸: service_requests[0].program.identifier.values: unknown field"},
		{"occurrence.json", requests(request(20,
			`, "occurrence_date_time": ‸"2026-01-01", "occurrence_period": {"start": "2026-01-01T00:00:00Z"}`)),
			`occurrence.json:‸: service_requests[0].occurrence_date_time: stands beside occurrence_period, and only one of them may`},
		{"moment.json", requests(request(20, `, "expiration_date": ‸"2026-01-01"`)),
			`moment.json:‸: service_requests[0].expiration_date: expected "2026-01-01" to be a moment like 2026-01-31T09:00:00Z`},
		{"history.json", requests(request(20, `, "status_history": [{"status": "active"}, {"status": ‸"draft"}]`)),
			`history.json:‸: service_requests[0].status_history[1].status: "draft" is none of active, completed, recalled, entered_in_error`},
		{"completed.json", requests(request(20, `, "completed_with": ‸{"identifier": {"type": {"coding": [{"code": "patient"}]}, "value": "`+id(7)+`"}}`)), `completed.json:‸: service_requests[0].completed_with: "patient" is none of encounter, diagnostic_report, procedure`},
		{"large.json", requests(request(20, `, "quantity": {"value": ‸1e999, "system": "s", "code": "c"}`)),
			`large.json:‸: service_requests[0].quantity.value: the number is too large`},
	} {
		t.Run(test.name, func(t *testing.T) {
			text, want := resolve(test.text, test.want)
			err := r.load(t, test.name, text)
			if err == nil || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
			if f := (*bundle.Fault)(nil); !errors.As(err, &f) || f.File != test.name {
				t.Errorf("no Fault: %#v", err)
			}
			if after := r.dump(t); !reflect.DeepEqual(after, before) {
				t.Errorf("something was loaded: %v", after)
			}
		})
	}
}

// full returns a service request with all fields of the contract, as the API answers it.
func full(n int) string {
	reference := func(resource string, n int) string {
		return `{"identifier": {"type": {"coding": [{"system": "eHealth/resources", "code": "` + resource +
			`"}], "text": ""}, "value": "` + id(n) + `"}, "display_value": null}`
	}
	at := func(day int) string {
		return fmt.Sprintf(`"inserted_at": "2026-01-%02dT00:00:00Z", "inserted_by": %q`, day, id(90+day))
	}
	return `{"id": "` + id(n) + `", "requisition": "0000-ABCD", "status": "completed", "program": ` +
		reference("medical_program", 5) + `,
"program_processing_status": "completed",
"status_history": [{"status": "active", ` + at(1) + `}, {"status": "completed", ` + at(5) +
		`, "status_reason": {"coding": [{"system": "s", "code": "default"}], "text": "t"}}],
"program_processing_status_history": [{"program_processing_status": "in_queue", ` + at(2) +
		`}, {"program_processing_status": "completed", ` + at(5) + `}],
"used_by_legal_entity": ` + reference("legal_entity", 1) + `, "used_by_employee": ` + reference("employee", 3) +
		`, "used_by_division": ` + reference("division", 2) + `,
"used_by_legal_entity_history": [{"used_by_legal_entity": ` + reference("legal_entity", 1) + `, ` + at(2) + `}],
"used_by_employee_history": [{"used_by_employee": ` + reference("employee", 3) + `, ` + at(2) + `}],
"intent": "plan", "priority": "urgent",
"category": {"coding": [{"system": "eHealth/SNOMED/service_request_categories", "code": "counselling"}]},
"code": ` + reference("service_group", 6) + `, "subject": ` + reference("patient", 100) + `, "context": ` +
		reference("encounter", 7) + `,
"occurrence_period": {"start": "2026-01-01T00:00:00Z", "end": "2026-02-01"}, "occurrence_date_time": null,
"requester_employee": ` + reference("employee", 8) + `, "requester_legal_entity": ` + reference("legal_entity", 9) + `,
"reason_reference": [` + reference("observation", 10) + `], "supporting_info": [], "permitted_resources": [` +
		reference("episode_of_care", 11) + `, ` + reference("diagnostic_report", 12) + `],
"note": "a \"note\" \\ \u0456 <&>", "patient_instruction": "", "explanatory_letter": null,
"expiration_date": "2027-01-01T00:00:00+02:00", "completed_with": ` + reference("procedure", 13) +
		`, "program_service": ` + reference("program_service", 14) + `,
"status_reason": {"coding": [{"system": "eHealth/service_request_complete_reasons", "code": "default"}]},
"quantity": {"value": 2.50, "system": "SERVICE_UNIT", "code": "PIECE", "unit": "pcs"}, ` + moment + `}`
}

func TestServiceRequestAsAnswered(t *testing.T) {
	r := open(t)
	r.mustLoad(t, `{"service_requests": [`+full(20)+`]}`)
	const row = `FROM medical_events.service_requests`
	for sql, want := range map[string]string{
		`SELECT concat_ws(' ', id, requisition, patient_id, status, program_id, program_processing_status) ` +
			row: id(20) + " 0000-ABCD " + id(100) + " completed " + id(5) + " completed",
		`SELECT concat_ws(' ', used_by_legal_entity_id, used_by_employee_id, used_by_division_id, category, code_id) ` +
			row: id(1) + " " + id(3) + " " + id(2) + " counselling " + id(6),
		`SELECT concat_ws(' ', requester_legal_entity_id, program_service_id, expiration_date AT TIME ZONE 'UTC') ` +
			row: id(9) + " " + id(14) + " 2026-12-31 22:00:00",
		`SELECT concat_ws(' ', inserted_at AT TIME ZONE 'UTC', inserted_by, updated_at AT TIME ZONE 'UTC', updated_by) ` +
			row: "2026-01-02 03:04:05.678901 11111111-1111-4111-8111-111111111111 2026-02-03 04:05:06 " +
			"22222222-2222-4222-8222-222222222222",
		`SELECT completed_with ` + row: `{"id": "` + id(13) + `", "type": "procedure"}`,
		`SELECT status_reason ` + row: `{"coding": [{"code": "default", ` +
			`"system": "eHealth/service_request_complete_reasons"}]}`,
		// The content holds the given elements, except those with a column of their own and nulls.
		`SELECT content = $1::jsonb - ARRAY['id', 'requisition', 'subject', 'status', 'program', 'program_processing_status',
			'used_by_legal_entity',
			'used_by_employee', 'used_by_division', 'category', 'requester_legal_entity', 'expiration_date', 'completed_with', 'program_service',
			'status_reason', 'status_history', 'program_processing_status_history', 'used_by_legal_entity_history', 'used_by_employee_history',
			'inserted_at', 'inserted_by', 'updated_at', 'updated_by', 'occurrence_date_time', 'explanatory_letter'] ` +
			row: "true",
	} {
		var args []any
		if strings.Contains(sql, "$1") {
			args = append(args, full(20))
		}
		if got := r.value(t, sql, args...); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", sql, got, want)
		}
	}
	history := r.value(t, `SELECT string_agg(concat_ws(' ', status, program_processing_status, used_by_legal_entity_id,
		used_by_employee_id, status_reason->>'text',
		extract(day FROM inserted_at AT TIME ZONE 'UTC'), inserted_by), E'\n' ORDER BY sequence_number)
			FROM medical_events.service_request_history`)
	if want := "active 1 " + id(91) + "\nin_queue 2 " + id(92) + "\n" + id(1) + " 2 " + id(92) + "\n" + id(3) + " 2 " +
		id(92) + "\ncompleted t 5 " + id(95) + "\ncompleted 5 " + id(95); history != want {
		t.Errorf("history\ngot  %s\nwant %s", history, want)
	}
}

func TestDefaultsOfOptionalFields(t *testing.T) {
	r := open(t)
	r.mustLoad(t, `{
		"dictionaries": [{"name": "COLOURS", "values": [{"code": "RED"}]}],
		"legal_entities": [{"id": "`+id(1)+`", "edrpou": "12345678", "name": "", "type": "OUTPATIENT", "status": "ACTIVE"}],
		"licenses": [`+license(10, `, "type": "MSP", "is_primary": true`)+`],
		"service_requests": [`+request(20, `, "code": `+ref(6)+`, "completed_with": `+ref(7)+`, "used_by_legal_entity": `+ref(1)+`,
			"used_by_employee": `+ref(3)+`, "program": `+ref(5)+`, "program_processing_status": "in_queue"`)+`]}`)
	const system = "4261eacf-8008-4e62-899f-de1e2f7065f0"
	for sql, want := range map[string]string{
		`SELECT concat_ws(' ', d.is_active, v.is_active, v.description) FROM prm.dictionaries d JOIN prm.dictionary_values v
			ON v.dictionary = d.name WHERE d.name = 'COLOURS'`: "t t ",
		`SELECT concat_ws(' ', nhs_verified, inserted_by, updated_by, inserted_at = updated_at,
			now() - inserted_at < '1 minute') FROM prm.legal_entities`: "f " + system + " " + system + " t t",
		`SELECT concat_ws(' ', is_active, coalesce(license_number, issuer_status, expiry_date::text, what_licensed, order_no,
			'null')) FROM prm.licenses`: "t null",
		`SELECT concat_ws(' ', inserted_by, updated_by, expiration_date = inserted_at + interval '1 year',
			completed_with->>'type') FROM medical_events.service_requests`: system + " " + system + " t encounter",
		`SELECT content FROM medical_events.service_requests`: `{"code": {"identifier": {"type": {"text": "", ` +
			`"coding": [{"code": "service", "system": "eHealth/resources"}]}, "value": "` + id(6) +
			`"}, "display_value": null}, "intent": "order", "priority": "routine"}`,
		`SELECT string_agg(concat_ws(' ', h.status, h.program_processing_status, h.used_by_legal_entity_id,
			h.used_by_employee_id, h.inserted_at = s.inserted_at, h.inserted_by), E'\n' ORDER BY h.sequence_number)
			FROM medical_events.service_request_history h JOIN medical_events.service_requests s ON s.id = h.service_request_id`: "active t " + system + "\nin_queue t " + system + "\n" + id(1) + " t " + system + "\n" + id(3) + " t " + system,
	} {
		if got := r.value(t, sql); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", sql, got, want)
		}
	}
}

func TestKnownRowsAreReplacedWhole(t *testing.T) {
	r := open(t)
	first := `{
		"dictionaries": [{"name": "LICENSE_TYPE", "values": [{"code": "MSP", "description": "old"}, {"code": "ODD"}]}],
		"parameters": [{"name": "release_requires_holder", "value": false}],
		"legal_entities": [` + clinic + `],
		"divisions": [{"id": "` + id(2) + `", "legal_entity_id": "` + id(1) + `", "name": "old", "status": "ACTIVE"}],
		"employees": [{"id": "` + id(3) + `", "legal_entity_id": "` + id(1) +
		`", "employee_type": "DOCTOR", "status": "APPROVED"}],
		"licenses": [` + license(10, `, "type": "MSP", "is_primary": true, "license_number": "old", "expiry_date": "2030-01-01"`) + `],
		"service_requests": [` + full(20) + `]}`
	second := `{
		"dictionaries": [{"name": "LICENSE_TYPE", "is_active": false, "values": [{"code": "MSP", "is_active": false}]}],
		"parameters": [{"name": "release_requires_holder", "value": true}],
		"legal_entities": [{"id": "` + id(1) + `", "edrpou": "1", "name": "new", "type": "PHARMACY", "status": "CLOSED", ` +
		moment + `}],
		"divisions": [{"id": "` + id(2) + `", "legal_entity_id": "` + id(1) + `", "name": "new", "status": "INACTIVE", ` +
		moment + `}],
		"employees": [{"id": "` + id(3) + `", "legal_entity_id": "` + id(1) +
		`", "employee_type": "OWNER", "status": "DISMISSED", ` + moment + `}],
		"licenses": [` + license(10, `, "type": "PHARMACY", "is_primary": false, "is_active": false, `+moment) + `],
		"service_requests": [` + request(20, `, "expiration_date": "2030-01-01T00:00:00Z", `+moment) + `]}`
	r.mustLoad(t, first)
	r.mustLoad(t, second)
	got := r.dump(t)

	fresh := open(t)
	fresh.mustLoad(t, second)
	if want := fresh.dump(t); !reflect.DeepEqual(got, want) {
		t.Errorf("replaced\n%v\nloaded into an empty database\n%v", got, want)
	}
	if got := r.value(t, `SELECT string_agg(code, ' ') FROM prm.dictionary_values WHERE dictionary = 'LICENSE_TYPE'
		AND NOT is_active`); got != "MSP" {
		t.Errorf("values: %s", got)
	}
	if got := r.value(t, `SELECT status FROM medical_events.service_requests`); got != "active" {
		t.Errorf("a final status has stayed: %s", got)
	}
}

// TestLoadLeavesOtherRows: a bundle changes no row that it does not name, also not of a dictionary, of a legal entity
// or of the histories that it touches.
func TestLoadLeavesOtherRows(t *testing.T) {
	r := open(t)
	other := `"licenses": [` + license(11, `, "type": "PHARMACY", "is_primary": false, `+moment) + `],
		"dictionaries": [{"name": "OTHER", "values": [{"code": "A"}]}], "service_requests": [` + full(21) + `]}`
	r.mustLoad(t, `{"legal_entities": [`+clinic+`], `+other)
	others := func() string {
		return r.value(t, `SELECT jsonb_build_array(
			(SELECT to_jsonb(l) FROM prm.licenses l WHERE id = $1),
			(SELECT jsonb_agg(v) FROM prm.dictionary_values v WHERE dictionary = 'OTHER'),
			(SELECT jsonb_agg(h ORDER BY sequence_number) FROM medical_events.service_request_history h
				WHERE service_request_id = $2))`, id(11), id(21))
	}
	before := others()
	for range 2 {
		r.mustLoad(t, `{"licenses": [`+license(10, `, "type": "PHARMACY_DRUGS", "is_primary": false`)+`],
			"dictionaries": [{"name": "MINE", "values": [{"code": "B"}]}], "service_requests": [`+full(20)+`]}`)
		if after := others(); after != before || strings.Contains(after, "[null") {
			t.Fatalf("were %s, are %s", before, after)
		}
	}
}

func TestLicensesExchangeTheirTypes(t *testing.T) {
	r := open(t)
	bundle := func(a, b string) string {
		return `{"legal_entities": [` + clinic + `], "licenses": [` + license(10, `, "type": "`+a+`", "is_primary": false`) +
			"," + license(11, `, "type": "`+b+`", "is_primary": false`) + `]}`
	}
	r.mustLoad(t, bundle("PHARMACY", "PHARMACY_DRUGS"))
	r.mustLoad(t, bundle("PHARMACY_DRUGS", "PHARMACY"))
	if got := r.value(t, `SELECT string_agg(type, ' ' ORDER BY id) FROM prm.licenses WHERE is_active`); got != "PHARMACY_DRUGS PHARMACY" {
		t.Error(got)
	}
}

func TestDryRun(t *testing.T) {
	r := open(t)
	before := r.dump(t)
	text := `{"legal_entities": [` + clinic + `], "service_requests": [` + full(20) + `]}`
	summary, err := bundle.Load(t.Context(), r.DB, "test.json", strings.NewReader(text), bundle.Options{DryRun: true})
	if want := (bundle.Summary{{"legal_entities", 1}, {"service_requests", 1}}); err != nil ||
		!reflect.DeepEqual(summary, want) {
		t.Errorf("%v, %v", summary, err)
	}
	if after := r.dump(t); !reflect.DeepEqual(after, before) {
		t.Errorf("changed: %v", after)
	}
	// A dry run also finds the faults that only the database can find.
	text = `{"divisions": [{"id": "` + id(2) + `", "legal_entity_id": "` + id(1) + `", "name": "", "status": "ACTIVE"}]}`
	if _, err = bundle.Load(t.Context(), r.DB, "test.json", strings.NewReader(text),
		bundle.Options{DryRun: true}); err == nil {
		t.Error("no fault")
	}
}

func TestYAML(t *testing.T) {
	fromYAML, fromJSON := open(t), open(t)
	if err := fromYAML.load(t, "test.yml", `# The same in YAML.
parameters:
  - {name: a, value: ["b", "true"]}
  - {name: c, value: yes}   # a string: YAML 1.2
legal_entities:
  - &clinic
    id: `+id(1)+`
    edrpou: "12345678"
    name: Клініка
    type: OUTPATIENT
    status: ACTIVE
    nhs_verified: true
    inserted_at: 2026-01-02T03:04:05.678901Z
    inserted_by: 11111111-1111-4111-8111-111111111111
    updated_at: 2026-02-03T04:05:06Z
    updated_by: 22222222-2222-4222-8222-222222222222
licenses:
  - id: `+id(10)+`
    legal_entity_id: `+id(1)+`
    type: MSP
    is_primary: true
    issued_by: МОЗ
    issued_date: 2020-01-01
    active_from_date: 2020-02-01
    inserted_at: &then "2026-01-02T03:04:05Z"
    updated_at: *then
service_requests: [`+strings.ReplaceAll(full(20), "\\u0456", "і")+`]
`); err != nil {
		t.Fatal(err)
	}
	fromJSON.mustLoad(t, `{"parameters": [{"name": "a", "value": ["b", "true"]}, {"name": "c", "value": "yes"}], "legal_entities": [`+clinic+`],
		"licenses": [`+license(10, `, "type": "MSP", "is_primary": true, "inserted_at": "2026-01-02T03:04:05Z", "updated_at": "2026-01-02T03:04:05Z"`)+`],
		"service_requests": [`+full(20)+`]}`)
	if a, b := fromYAML.dump(t), fromJSON.dump(t); !reflect.DeepEqual(a, b) {
		t.Errorf("YAML\n%v\nJSON\n%v", a, b)
	}
}

// TestStream loads a bundle through a pipe. The bundle needs several statements, and its sections stand in the opposite
// order of their dependencies.
func TestStream(t *testing.T) {
	const requests, employees = 20_000, 2_500
	r := open(t)
	standardInput, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	was := os.Stdin
	os.Stdin = standardInput
	defer func() { os.Stdin = was; standardInput.Close() }()
	go func() {
		defer in.Close()
		w := bufio.NewWriter(in)
		defer w.Flush()
		separator := `{"service_requests": [`
		for n := range requests {
			fmt.Fprint(w, separator, request(1000+n, ""))
			separator = ",\n"
		}
		separator = `], "employees": [`
		for n := range employees {
			fmt.Fprintf(w, `%s{"id": %q, "legal_entity_id": %q, "employee_type": "DOCTOR", "status": "APPROVED"}`, separator,
				id(100_000+n), id(1))
			separator = ", "
		}
		fmt.Fprint(w, `], "legal_entities": [`, clinic, `]}`)
	}()
	var last, total int64
	summary, err := bundle.LoadFile(t.Context(), r.DB, "-", bundle.Options{Progress: func(done, of int64) {
		if done < last || of != 2*(1+employees+requests) {
			t.Errorf("progress %d of %d after %d", done, of, last)
		}
		last, total = done, of
	}})
	if err != nil {
		t.Fatal(err)
	}
	if want := (bundle.Summary{{"legal_entities", 1}, {"employees", employees},
		{"service_requests", requests}}); !reflect.DeepEqual(summary, want) {
		t.Errorf("summary %v", summary)
	}
	if last != total {
		t.Errorf("progress ends at %d of %d", last, total)
	}
	for table, want := range map[string]int{"prm.employees": employees, "medical_events.service_requests": requests,
		"medical_events.service_request_history": requests} {
		if got := r.value(t, "SELECT count(*) FROM "+table); got != fmt.Sprint(want) {
			t.Errorf("%s: %s rows", table, got)
		}
	}
}

func TestAFaultFarDown(t *testing.T) {
	r := open(t)
	rows := make([]string, 2_500)
	for n := range rows {
		rows[n] = "\n" + request(1000+n, "")
	}
	rows[2_200] = "\n" + request(7, `, "category": "x"`)
	rows[2_200] = strings.Replace(rows[2_200], `"category": "counselling", `, "", 1)
	path := filepath.Join(t.TempDir(), "far.json")
	if err := os.WriteFile(path, []byte(`{"service_requests": [`+strings.Join(rows, ",")+`]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := bundle.LoadFile(t.Context(), r.DB, path, bundle.Options{})
	f := (*bundle.Fault)(nil)
	if !errors.As(err, &f) || f.Line != 2_202 || f.Path != "service_requests[2200].category" {
		t.Errorf("%v", err)
	}
	if got := r.value(t, "SELECT count(*) FROM medical_events.service_requests"); got != "0" {
		t.Errorf("%s rows", got)
	}
	// Only the first twenty of many faults are reported.
	for n := range rows {
		rows[n] = "7"
	}
	err = r.load(t, "many.json", `{"service_requests": [`+strings.Join(rows, ",")+`]}`)
	if lines := strings.Split(fmt.Sprint(err), "\n"); len(lines) != 20 {
		t.Errorf("%d faults", len(lines))
	}
}

// TestSimultaneousLoadsDoNotDeadlock: loads of the same rows in opposite order lose nothing either.
func TestSimultaneousLoadsDoNotDeadlock(t *testing.T) {
	r := open(t)
	rows := make([]string, 1_500)
	for n := range rows {
		rows[n] = request(1000+n, "")
	}
	forth := `{"service_requests": [` + strings.Join(rows, ",") + `]}`
	slices.Reverse(rows)
	back := `{"service_requests": [` + strings.Join(rows, ",") + `]}`
	var all sync.WaitGroup
	for _, text := range []string{forth, back, forth, back} {
		all.Go(func() {
			if err := r.load(t, "test.json", text); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := r.value(t, "SELECT count(*) FROM medical_events.service_request_history"); got != fmt.Sprint(len(rows)) {
		t.Errorf("%s histories", got)
	}
}

func TestCancelled(t *testing.T) {
	r := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := bundle.Load(ctx, r.DB, "test.json", strings.NewReader(`{"service_requests": [`+request(1, "")+`]}`),
		bundle.Options{
			Progress: func(done, total int64) {
				if done == 1 { // the row is checked and not loaded yet
					cancel()
				}
			}})
	if f := (*bundle.Fault)(nil); !errors.Is(err, context.Canceled) || errors.As(err, &f) {
		t.Errorf("%v", err)
	}
}

func TestNoFile(t *testing.T) {
	if _, err := bundle.LoadFile(t.Context(), nil, filepath.Join(t.TempDir(), "none.json"),
		bundle.Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
