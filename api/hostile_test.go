package api_test

import (
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
