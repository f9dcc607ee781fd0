package api_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"
)

// TestNumbersBeyondFloat64AreJSON: a number that no float64 holds is JSON. An unknown key may have it, and elsewhere it
// is a value of the wrong type; the walker of internal/dev/hostile found 400.
func TestNumbersBeyondFloat64AreJSON(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.primaryLicense(s.clinic)
	for _, number := range []string{"1e400", "-1e400", "1e-400", "-0", "18446744073709551616"} {
		_, id := s.serviceRequest("in_queue", held(s.clinic))
		if a := s.do(act(id, "release", `{"unknown": {"a": [`+number+`]}}`)); a.code != 202 {
			t.Errorf("unknown key %s: %d %s", number, a.code, a.raw)
		}
		s.invalid(
			call{
				method: "POST",
				path:   "/api/licenses",
				body: `{"type": "MSP", "is_primary": false, "issued_by": ` + number +
					`, "issued_date": "2026-01-15", "active_from_date": "2026-02-01"}`,
			},
			"$.issued_by cast type mismatch. Expected string but got "+"integer",
		)
		s.invalid(act(id, "release", number), "$ cast type mismatch. Expected object but got integer")
	}
}

// TestWrongTypeAccusesNoOtherValue: the fault of one value is not told of its neighbours, which are right. Decoding
// stops at the wrong type, and the check of the neighbour saw an empty text.
func TestWrongTypeAccusesNoOtherValue(t *testing.T) {
	t.Parallel()
	s := newService(t)
	reference := func(coding string) call {
		return act(
			uuid.New(),
			"use",
			`{"used_by_legal_entity": {"identifier": {"type": {"coding": [`+coding+`]}, "value": "`+
				s.clinic.String()+`"}}}`,
		)
	}
	const at = "$.used_by_legal_entity.identifier.type.coding[0]"
	s.invalid(
		reference(`{"code": 1, "system": "eHealth/resources"}`),
		at+".code cast type mismatch. Expected string but got integer",
	)
	s.invalid(reference(`true`), at+" cast type mismatch. Expected object but got boolean")
	s.invalid(reference(`{"code": "legal_entity", "system": "x"}`), at+".system inclusion value is not allowed in enum")
}

// TestWrongTypeHidesNoValueOutsideItsList: a body with a value of a wrong type in one place and a value that is not in
// its list in another lists both, whichever comes first.
func TestWrongTypeHidesNoValueOutsideItsList(t *testing.T) {
	t.Parallel()
	s := newService(t)
	reference := func(coding string) string {
		return `{"identifier": {"type": {"coding": [` + coding + `]}, "value": "` + s.clinic.String() + `"}}`
	}
	right, wrong := reference(`{"code": 1, "system": "eHealth/resources"}`), reference(`{"code": "x", "system": "y"}`)
	const at = ".identifier.type.coding[0]"
	for _, body := range []string{
		`{"used_by_legal_entity": ` + right + `, "used_by_employee": ` + wrong + `}`,
		`{"used_by_employee": ` + wrong + `, "used_by_legal_entity": ` + right + `}`,
	} {
		s.invalid(
			act(uuid.New(), "use", body),
			"$.used_by_employee"+at+".code inclusion value is not allowed in enum",
			"$.used_by_employee"+at+".system inclusion value is not allowed in enum",
			"$.used_by_legal_entity"+at+".code cast type mismatch. Expected string but got integer",
		)
	}
	const complete = `"status_reason": {"coding": [{"code": "x", "system": "y"}, {"code": "x", "system": "y"}]}`
	for _, body := range []string{`{"completed_with": 1, ` + complete + `}`, `{` + complete + `, "completed_with": 1}`} {
		s.invalid(
			act(uuid.New(), "complete", body),
			"$.completed_with cast type mismatch. Expected object but got integer",
			"$.status_reason.coding length expected a length of at most 1",
			"$.status_reason.coding[0].system inclusion value is not allowed in enum",
		)
	}
}

// TestMissingSystemIsOneFault: a coding without a system lacks it. It has no value that could be outside a list.
func TestMissingSystemIsOneFault(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.invalid(
		act(uuid.New(), "use", `{"used_by_legal_entity": {"identifier": {"type": {"coding": [{}]}, "value": "`+
			s.clinic.String()+`"}}}`),
		"$.used_by_legal_entity.identifier.type.coding[0].code required required property code was not present",
		"$.used_by_legal_entity.identifier.type.coding[0].system required required property system was not present",
	)
	s.invalid(
		act(uuid.New(), "complete", `{"status_reason": {"coding": [{"code": "x"}]}}`),
		"$.status_reason.coding[0].system required required property system was not present",
	)
}

// TestNoFaultHidesAnother: an answer lists the faults of path, query and body that are there at the same time.
func TestNoFaultHidesAnother(t *testing.T) {
	t.Parallel()
	s := newService(t)
	const (
		notText = "cast type mismatch. Expected string but got "
		uuids   = "format string does not match the pattern ^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-" +
			"[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
		unknown   = "schema schema does not allow additional properties"
		inclusion = "inclusion value is not allowed in enum"
	)
	long := strings.Repeat("a", 256)
	post := func(body string) call { return call{method: "POST", path: "/api/licenses", body: body} }
	get := func(path string) call { return call{method: "GET", path: path} }
	for _, c := range []struct {
		call
		want []string
	}{
		{post(`{"type": 1, "is_primary": false, "issued_date": "0000-01-01", "active_from_date": "2017-02-29", "order_no": "` +
			long + `"}`), []string{
			`$.active_from_date date expected "2017-02-29" to be an existing date`,
			`$.issued_by required required property issued_by was not present`,
			`$.issued_date date expected "0000-01-01" to be an existing date`,
			`$.order_no length expected a length of at most 255`,
			`$.type ` + notText + `integer`,
		}},
		{post(`{"type": "MSP", "is_primary": false, "issued_by": "x", "issued_date": "0000-13-01", "active_from_date": 1,
			"expiry_date": "0000-12-31", "license_number": "` + long + `\u0000"}`), []string{
			`$.active_from_date ` + notText + `integer`,
			`$.expiry_date date expected "0000-12-31" to be an existing date`,
			`$.issued_date date expected "0000-13-01" to be an existing date`,
			`$.license_number length expected a length of at most 255`,
			`$.license_number format string does not match the pattern ^[^\x00]*$`,
		}},
		{call{method: "PATCH", path: "/api/licenses/x?id=1", body: `{"is_primary": 1, "expiry_date": "0000-01-01"}`}, []string{
			`$.expiry_date date expected "0000-01-01" to be an existing date`,
			`$.id ` + uuids,
			`$.id ` + unknown,
			`$.is_primary cast type mismatch. Expected boolean but got integer`,
			`$.type required required property type was not present`,
		}},
		{get("/api/service_requests?unknown=1&status=new&page=0&page_size=ten"), []string{
			`$.page range expected a number of at least 1`,
			`$.page_size cast type mismatch. Expected integer but got string`,
			`$.requisition required required property requisition was not present`,
			`$.status ` + inclusion,
			`$.unknown ` + unknown,
		}},
		{get("/api/service_requests?requisition=R&status=%00&a=1&b=2"), []string{
			`$.a ` + unknown,
			`$.b ` + unknown,
			`$.status format string does not match the pattern ^[^\x00]*$`,
			`$.status ` + inclusion,
		}},
		{get("/api/licenses?license_number=%00" + long + "&a=%zz&page=x"), []string{
			`$ format string does not match the pattern ^([^%;]|%[0-9A-Fa-f]{2})*$`,
			`$.license_number format string does not match the pattern ^[^\x00]*$`,
			`$.license_number length expected a length of at most 255`,
			`$.page cast type mismatch. Expected integer but got string`,
		}},
		{get("/api/patients/x/service_requests/y?z=1"), []string{
			`$.id ` + uuids,
			`$.patient_id ` + uuids,
			`$.z ` + unknown,
		}},
	} {
		s.invalid(c.call, c.want...)
	}
}
