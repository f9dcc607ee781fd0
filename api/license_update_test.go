package api_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
)

// change is a PATCH of a licence.
func change(id any, body string) call {
	return call{method: "PATCH", path: fmt.Sprintf("/api/licenses/%v", id), body: body}
}

func TestUpdateLicense(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.primaryLicense(s.clinic)
	var before, after map[string]any
	must(t, json.Unmarshal(s.do(license()).body.Data, &before))
	a := s.do(change(before["id"], `{"type": "PHARMACY_DRUGS", "is_primary": false, "order_no": "К-2", "license_number": "", "unknown": 1}`))
	if a.code != 200 {
		t.Fatalf("%d %s", a.code, a.raw)
	}
	must(t, json.Unmarshal(a.body.Data, &after))
	if after["updated_at"] == before["updated_at"] {
		t.Error("updated_at stayed")
	}
	before["order_no"], before["license_number"], before["updated_at"] = "К-2", nil, after["updated_at"]
	if fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("\n got %v\nwant %v", after, before)
	}
	again := s.do(change(before["id"], `{"type": "PHARMACY_DRUGS", "is_primary": false, "order_no": "К-2"}`))
	if again.code != 200 || string(again.body.Data) != string(a.body.Data) {
		t.Errorf("again: %s", again.raw)
	}
}

func TestUpdateLicenseRefusals(t *testing.T) {
	t.Parallel()
	const fine = `{"type": "PHARMACY_DRUGS", "is_primary": false, "order_no": "К-2"}`
	for _, c := range []struct {
		name    string
		prepare string // $1: the licence
		body    string
		code    int
		kind    string
		message string
		entry   string
	}{
		{"status", `UPDATE prm.legal_entities SET status = 'CLOSED' WHERE $1::uuid IS NOT NULL`, fine,
			422, "validation_failed", "Legal entity must be in active or suspended status", "$"},
		{"not found", `DELETE FROM prm.licenses WHERE id = $1`, fine, 404, "not_found", "License was not found", ""},
		{"primary", `UPDATE prm.licenses SET is_primary = true WHERE id = $1`, fine, 409, "request_conflict", "Only additional license can be updated", ""},
		{"made primary", ``, `{"type": "PHARMACY_DRUGS", "is_primary": true}`,
			422, "validation_failed", "Additional license can not be changed to primary", "$.is_primary"},
		{"another's", `WITH other AS (INSERT INTO prm.legal_entities (id, edrpou, name, type, status, inserted_by, updated_by)
			VALUES ('8be63914-a278-470b-b868-1af5b9087332', '', '', 'OUTPATIENT', 'ACTIVE', $1, $1) RETURNING id)
			UPDATE prm.licenses SET legal_entity_id = (SELECT id FROM other) WHERE id = $1`, fine,
			409, "request_conflict", "License doesn't correspond to your legal entity", ""},
		{"type", ``, `{"type": "CASINO", "is_primary": false}`, 409, "request_conflict", "License type can not be updated", ""},
		{"no primary", `DELETE FROM prm.licenses WHERE id <> $1`, fine, 404, "not_found", "No active primary license found for legal entity", ""},
		{"issued late", ``, `{"type": "PHARMACY_DRUGS", "is_primary": false, "issued_date": "2022-02-03"}`,
			422, "validation_failed", "License can not be issued later than active from date", "$.issued_date"},
		{"active late", ``, `{"type": "PHARMACY_DRUGS", "is_primary": false, "expiry_date": "2022-02-01"}`,
			422, "validation_failed", "License can not have active from date later than expiration date", "$.active_from_date"},
		{"expired", ``, `{"type": "PHARMACY_DRUGS", "is_primary": false, "expiry_date": "2022-02-02"}`, 409, "request_conflict", "License is expired", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newService(t)
			s.primaryLicense(s.clinic)
			var created struct{ ID uuid.UUID }
			must(t, json.Unmarshal(s.do(license()).body.Data, &created))
			if c.prepare != "" {
				s.sql(c.prepare, created.ID)
			}
			a := s.refused(change(created.ID, c.body), c.code, c.kind, c.message)
			if c.entry == "" {
				if a.body.Error.Invalid != nil {
					t.Errorf("invalid: %v", a.body.Error.Invalid)
				}
				return
			}
			want := []map[string]any{{"entry": c.entry, "entry_type": "json_data_property",
				"rules": []any{map[string]any{"rule": "invalid", "params": []any{}, "description": c.message}}}}
			if fmt.Sprint(a.body.Error.Invalid) != fmt.Sprint(want) {
				t.Errorf("invalid %v", a.body.Error.Invalid)
			}
		})
	}
}

func TestUpdateLicenseSchema(t *testing.T) {
	t.Parallel()
	s := newService(t)
	id := uuid.New()
	for _, c := range []struct {
		id   any
		body string
		want []string
	}{
		{id, `{}`, []string{
			"$.is_primary required required property is_primary was not present",
			"$.type required required property type was not present",
		}},
		{id, `{"type": "A", "is_primary": false, "license_number": null, "expiry_date": null}`, []string{
			"$.expiry_date cast type mismatch. Expected string but got null",
			"$.license_number cast type mismatch. Expected string but got null",
		}},
		{id, `{"type": "A", "is_primary": "false", "issued_date": "2017-02-29"}`, []string{
			"$.is_primary cast type mismatch. Expected boolean but got string",
			`$.issued_date date expected "2017-02-29" to be an existing date`,
		}},
		{"x", `{"type": "A", "is_primary": false}`,
			[]string{"$.id format string does not match the pattern ^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"}},
	} {
		s.invalid(change(c.id, c.body), c.want...)
	}
	s.token = s.issue(s.clinic, "license:read", time.Hour)
	s.refused(change(id, `{}`), 403, "forbidden", "Invalid scopes. Your scope does not allow to access this resource. Missing allowances: license:write")
}
