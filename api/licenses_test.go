package api_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

// license is a body that no rule refuses, changed by the pairs: a nil value leaves the key out.
func license(pairs ...any) call {
	body := map[string]any{
		"type": "PHARMACY_DRUGS", "is_primary": false, "issued_by": "Держлікслужба",
		"issued_date": "2022-01-01", "active_from_date": "2022-02-02", "expiry_date": "2099-12-31",
		"license_number": "АЕ 1", "what_licensed": "обіг", "order_no": "К-1",
	}
	for i := 0; i < len(pairs); i += 2 {
		body[pairs[i].(string)] = pairs[i+1]
	}
	maps.DeleteFunc(body, func(_ string, v any) bool { return v == nil })
	raw, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	return call{method: "POST", path: "/api/licenses", body: string(raw)}
}

func TestCreateLicense(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.primaryLicense(s.clinic)
	a := s.do(license("unknown_top_level_key", "is ignored"))
	if a.code != 201 {
		t.Fatalf("%d %s", a.code, a.raw)
	}
	var got map[string]any
	must(t, json.Unmarshal(a.body.Data, &got))
	for _, field := range []string{"inserted_at", "updated_at"} {
		at, err := time.Parse(time.RFC3339Nano, got[field].(string))
		if err != nil || !strings.HasSuffix(got[field].(string), "Z") || time.Since(at) > time.Minute {
			t.Errorf("%s: %v", field, got[field])
		}
		delete(got, field)
	}
	if _, err := uuid.Parse(got["id"].(string)); err != nil {
		t.Error(err)
	}
	delete(got, "id")
	want := map[string]any{
		"legal_entity_id": s.clinic.String(), "type": "PHARMACY_DRUGS", "is_active": true, "is_primary": false,
		"license_number": "АЕ 1", "issued_by": "Держлікслужба", "issued_date": "2022-01-01", "issuer_status": nil,
		"expiry_date": "2099-12-31", "active_from_date": "2022-02-02",
		"what_licensed": "обіг", "order_no": "К-1", "inserted_by": s.user.String(), "updated_by": s.user.String(),
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("\n got %v\nwant %v", got, want)
	}
	if url := a.body.Meta.URL; url != s.url+"/api/licenses" {
		t.Errorf("meta.url %q", url)
	}

	s.refused(license(), 409, "request_conflict", "License with type PHARMACY_DRUGS is already present")
}

func TestCreateLicenseWithoutOptionalFields(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.primaryLicense(s.clinic)
	a := s.do(license("expiry_date", nil, "license_number", "", "what_licensed", nil, "order_no", nil))
	var got map[string]any
	must(t, json.Unmarshal(a.body.Data, &got))
	for _, field := range []string{"expiry_date", "license_number", "what_licensed", "order_no", "issuer_status"} {
		if v, ok := got[field]; !ok || v != nil {
			t.Errorf("%s: %v, %v", field, v, ok)
		}
	}
}

func TestCreateLicenseSchema(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.primaryLicense(s.clinic)
	long := func(n int) string { return strings.Repeat("ї", n) }
	null := json.RawMessage("null")
	post := func(query, body string) call { return call{method: "POST", path: "/api/licenses" + query, body: body} }
	for _, c := range []struct {
		body call
		want []string
	}{
		{license("type", nil, "is_primary", nil, "issued_by", nil, "issued_date", nil, "active_from_date", nil), []string{
			"$.active_from_date required required property active_from_date was not present",
			"$.is_primary required required property is_primary was not present",
			"$.issued_by required required property issued_by was not present",
			"$.issued_date required required property issued_date was not present",
			"$.type required required property type was not present",
		}},
		{license("issued_date", "2017-02-29"), []string{`$.issued_date date expected "2017-02-29" to be an existing date`}},
		{license("issued_date", "0000-02-28"), []string{`$.issued_date date expected "0000-02-28" to be an existing date`}},
		{license("issued_date", "2017-02-28T00:00:00Z"), []string{
			`$.issued_date date expected "2017-02-28T00:00:00Z" to be an existing date`,
		}},
		{license("issued_date", 20170228), []string{"$.issued_date cast type mismatch. Expected string but got integer"}},
		{license("issued_by", 1.5), []string{"$.issued_by cast type mismatch. Expected string but got number"}},
		{license("issued_by", true), []string{"$.issued_by cast type mismatch. Expected string but got boolean"}},
		{license("issued_by", []string{}), []string{"$.issued_by cast type mismatch. Expected string but got array"}},
		{license("issued_by", map[string]any{}), []string{"$.issued_by cast type mismatch. Expected string but got object"}},
		{license("is_primary", "false"), []string{"$.is_primary cast type mismatch. Expected boolean but got string"}},
		{license("is_primary", null), []string{"$.is_primary cast type mismatch. Expected boolean but got null"}},
		{license("expiry_date", null), []string{"$.expiry_date cast type mismatch. Expected string but got null"}},
		{license("issued_by", long(1001)), []string{"$.issued_by length expected a length of at most 1000"}},
		{license("order_no", long(256)), []string{"$.order_no length expected a length of at most 255"}},
		{license("order_no", "\x00"), []string{`$.order_no format string does not match the pattern ^[^\x00]*$`}},
		{license("IS_PRIMARY", true, "is_primary", nil), []string{
			"$.is_primary required required property is_primary was not present",
		}},
		{post("", `[]`), []string{"$ cast type mismatch. Expected object but got array"}},
		{post("", `null`), []string{"$ cast type mismatch. Expected object but got null"}},
		{post("?x=1", license().body), []string{"$.x schema schema does not allow additional properties"}},
	} {
		s.invalid(c.body, c.want...)
	}
	// Texts of exactly the greatest length fit the schema, and so does any type: the dictionary is a later check.
	s.sql(`UPDATE prm.legal_entities SET status = 'CLOSED'`)
	s.refused(license("issued_by", long(1000), "order_no", long(255), "type", "CASINO"),
		422, "validation_failed", "Legal entity must be in active or suspended status")
	// Keys are compared letter by letter: this is an unknown key beside the right one.
	s.sql(`UPDATE prm.legal_entities SET status = 'ACTIVE'`)
	if a := s.do(license("Is_Primary", true)); a.code != 201 {
		t.Errorf("%d %s", a.code, a.raw)
	}
}

func TestCreateLicenseManyAtOnce(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.primaryLicense(s.clinic)
	const clients = 100
	codes := make([]int, clients)
	start := make(chan struct{})
	var running sync.WaitGroup
	for i := range clients {
		running.Go(func() {
			<-start
			a := s.do(license())
			for end := time.Now().Add(time.Minute); a.code == 503 && time.Now().Before(end); { // the machine is busy
				a = s.do(license())
			}
			codes[i] = a.code
			if a.code == 409 && a.body.Error.Message != "License with type PHARMACY_DRUGS is already present" {
				t.Error(a.raw)
			}
		})
	}
	close(start)
	running.Wait()
	count := map[int]int{}
	for _, c := range codes {
		count[c]++
	}
	if count[201] != 1 || count[409] != clients-1 {
		t.Errorf("answers: %v", count)
	}
}
