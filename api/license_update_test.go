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
	a := s.do(change(before["id"],
		`{"type": "PHARMACY_DRUGS", "is_primary": false, "order_no": "К-2", "license_number": "", "unknown": 1}`))
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
			[]string{"$.id " + notUUID}},
	} {
		s.invalid(change(c.id, c.body), c.want...)
	}
	s.token = s.issue(s.clinic, "license:read", time.Hour)
	s.refused(change(id, `{}`), 403, "forbidden", missingScope+"license:write")
}
