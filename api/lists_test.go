package api_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/api/rest"
)

// list expects a page of a list, and answers the ids on it.
func (s *service) list(path string, want rest.Paging) []string {
	s.t.Helper()
	a := s.do(call{method: "GET", path: path})
	if a.code != 200 || a.body.Paging == nil || *a.body.Paging != want {
		s.t.Errorf("%s: %d %s, want %+v", path, a.code, a.raw, want)
		return nil
	}
	var entries []struct{ ID string }
	must(s.t, json.Unmarshal(a.body.Data, &entries))
	ids := []string{}
	for _, e := range entries {
		ids = append(ids, e.ID)
	}
	return ids
}

func paging(number, size, entries, pages int64) rest.Paging {
	return rest.Paging{PageNumber: number, PageSize: size, TotalEntries: entries, TotalPages: pages}
}

func TestListLicenses(t *testing.T) {
	t.Parallel()
	s := newService(t)
	if got := s.list("/api/licenses", paging(1, 50, 0, 1)); len(got) != 0 {
		t.Errorf("none yet: %v", got)
	}
	s.primaryLicense(s.clinic)
	var created, first struct{ ID string }
	must(t, json.Unmarshal(s.do(license()).body.Data, &created))
	neighbour := uuid.New()
	s.legalEntity(neighbour, "OUTPATIENT", "ACTIVE")
	s.primaryLicense(neighbour)

	all := s.list("/api/licenses", paging(1, 50, 2, 1))
	if len(all) != 2 || all[1] != created.ID {
		t.Fatalf("%v, the second is %s", all, created.ID)
	}
	first.ID = all[0]
	number := url.QueryEscape("АЕ 1")
	for query, want := range map[string][]string{
		"?is_primary=true":                        {first.ID},
		"?is_primary=false":                       {created.ID},
		"?type=MSP":                               {first.ID},
		"?license_number=" + number:               {created.ID},
		"?id=" + strings.ToUpper(created.ID):      {created.ID},
		"?id=" + created.ID + "&is_primary=false": {created.ID},
		"?page_size=300":                          all,
		"?page=1":                                 all,
	} {
		p := paging(1, 50, int64(len(want)), 1)
		if query == "?page_size=300" {
			p.PageSize = 300
		}
		if got := s.list("/api/licenses"+query, p); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	for query, p := range map[string]rest.Paging{
		"?type=msp":                               paging(1, 50, 0, 1),
		"?id=" + created.ID + "&is_primary=true":  paging(1, 50, 0, 1),
		"?page=2":                                 paging(2, 50, 2, 1),
		"?page=3&page_size=1":                     paging(3, 1, 2, 2),
		"?page=9223372036854775807&page_size=300": paging(9223372036854775807, 300, 2, 1),
	} {
		if got := s.list("/api/licenses"+query, p); len(got) != 0 {
			t.Errorf("%s: %v", query, got)
		}
	}
	if got := s.list("/api/licenses?page=2&page_size=1", paging(2, 1, 2, 2)); !reflect.DeepEqual(got,
		[]string{created.ID}) {
		t.Errorf("second page: %v", got)
	}

	// Another legal entity sees its own licences. An inactive licence is in no list.
	s.sql(`UPDATE prm.licenses SET is_active = false WHERE id = $1`, created.ID)
	s.list("/api/licenses", paging(1, 50, 1, 1))
	s.token = s.issue(neighbour, allScopes, time.Hour)
	if got := s.list("/api/licenses?id="+first.ID, paging(1, 50, 0, 1)); len(got) != 0 {
		t.Errorf("a neighbour's: %v", got)
	}
	s.list("/api/licenses", paging(1, 50, 1, 1))
	s.token = s.issue(s.clinic, "license:write", time.Hour)
	s.refused(call{method: "GET", path: "/api/licenses"}, 403, "forbidden",
		"Invalid scopes. Your scope does not allow to access this resource. Missing allowances: license:read")
}

func TestListQueries(t *testing.T) {
	t.Parallel()
	s := newService(t)
	const (
		castInteger = "cast type mismatch. Expected integer but got "
		castString  = "cast type mismatch. Expected string but got "
		castBoolean = "cast type mismatch. Expected boolean but got "
		uuidFormat  = "format string does not match the pattern ^[0-9a-fA-F]{8}-" +
			"[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
		requests = "/api/service_requests?requisition=R-1"
	)
	patient := "/api/patients/" + uuid.NewString() + "/service_requests"
	for _, c := range []struct {
		path string
		want []string
	}{
		{"/api/licenses?page=ten", []string{"$.page " + castInteger + "string"}},
		{"/api/licenses?page=", []string{"$.page " + castInteger + "string"}},
		{"/api/licenses?page", []string{"$.page " + castInteger + "string"}},
		{"/api/licenses?page=1.5", []string{"$.page " + castInteger + "string"}},
		{"/api/licenses?page=0", []string{"$.page range expected a number of at least 1"}},
		{"/api/licenses?page=-1", []string{"$.page range expected a number of at least 1"}},
		{"/api/licenses?page=1&page=2", []string{"$.page " + castInteger + "array"}},
		{"/api/licenses?page_size=0", []string{"$.page_size range expected a number of at least 1 and at most 300"}},
		{"/api/licenses?page_size=301", []string{"$.page_size range expected a number of at least 1 and at most 300"}},
		{"/api/licenses?page_size=99999999999999999999",
			[]string{"$.page_size range expected a number of at least 1 and at most 300"}},
		{"/api/licenses?is_primary=maybe", []string{"$.is_primary " + castBoolean + "string"}},
		{"/api/licenses?is_primary=1", []string{"$.is_primary " + castBoolean + "string"}},
		{"/api/licenses?is_primary=TRUE", []string{"$.is_primary " + castBoolean + "string"}},
		{"/api/licenses?is_primary=", []string{"$.is_primary " + castBoolean + "string"}},
		{"/api/licenses?id=", []string{"$.id " + castString + "string"}},
		{"/api/licenses?id=42", []string{"$.id " + uuidFormat}},
		{"/api/licenses?type=", []string{"$.type " + castString + "string"}},
		{"/api/licenses?type=A&type=A", []string{"$.type " + castString + "array"}},
		{"/api/licenses?type=%00", []string{`$.type format string does not match the pattern ^[^\x00]*$`}},
		{"/api/licenses?type=%FF", []string{`$.type format string does not match the pattern ^[^\x00]*$`}},
		{"/api/licenses?license_number=" + strings.Repeat("x", 256),
			[]string{"$.license_number length expected a length of at most 255"}},
		{"/api/licenses?type=%zz", []string{"$ format string does not match the pattern ^([^%;]|%[0-9A-Fa-f]{2})*$"}},
		{"/api/licenses?type=A;page=2", []string{"$ format string does not match the pattern ^([^%;]|%[0-9A-Fa-f]{2})*$"}},
		{"/api/licenses?Type=MSP", []string{"$.Type schema schema does not allow additional properties"}},
		{"/api/licenses?legal_entity_id=" + s.clinic.String(),
			[]string{"$.legal_entity_id schema schema does not allow additional properties"}},
		{"/api/licenses?page=ten&page_size=301&is_primary=maybe&id=1", []string{
			"$.id " + uuidFormat, "$.is_primary " + castBoolean + "string", "$.page " + castInteger + "string",
			"$.page_size range expected a number of at least 1 and at most 300",
		}},
		{"/api/service_requests", []string{"$.requisition required required property requisition was not present"}},
		{"/api/service_requests?requisition=", []string{"$.requisition " + castString + "string"}},
		{requests + "&status=", []string{"$.status " + castString + "string"}},
		{requests + "&status=new", []string{"$.status inclusion value is not allowed in enum"}},
		{requests + "&page_size=101", []string{"$.page_size range expected a number of at least 1 and at most 100"}},
		{requests + "&patient=1", []string{"$.patient schema schema does not allow additional properties"}},
		{patient + "?status=ACTIVE", []string{"$.status inclusion value is not allowed in enum"}},
		{patient + "?code=1&requester_legal_entity=&used_by_legal_entity=x", []string{
			"$.code " + uuidFormat, "$.requester_legal_entity " + castString + "string", "$.used_by_legal_entity " + uuidFormat,
		}},
		{"/api/patients/x/service_requests?page=0", []string{"$.page range expected a number of at least 1",
			"$.patient_id " + uuidFormat}},
	} {
		s.invalid(call{method: "GET", path: c.path}, c.want...)
	}
	a := s.do(call{method: "GET", path: "/api/licenses?page_size=301"})
	want := []map[string]any{{"entry": "$.page_size", "entry_type": "query_parameter", "rules": []any{map[string]any{
		"rule": "range", "params": map[string]any{"min": 1.0,
			"max": 300.0}, "description": "expected a number of at least 1 and at most 300",
	}}}}
	if !reflect.DeepEqual(a.body.Error.Invalid, want) {
		t.Errorf("%v", a.body.Error.Invalid)
	}
}

// TestNumberBeyondAnIntegerNamesTheBrokenLimit: no limit is documented for these, and that of an int64 holds.
func TestNumberBeyondAnIntegerNamesTheBrokenLimit(t *testing.T) {
	t.Parallel()
	s := newService(t)
	patient := "/api/patients/" + uuid.NewString() + "/service_requests?"
	for _, path := range []string{"/api/licenses?", "/api/service_requests?requisition=R-1&", patient} {
		s.invalid(call{method: "GET", path: path + "page=9223372036854775808"},
			"$.page range expected a number of at least 1 and at most 9223372036854775807")
		s.invalid(call{method: "GET", path: path + "page=-9223372036854775809"},
			"$.page range expected a number of at least 1")
		if a := s.do(call{method: "GET", path: path + "page=9223372036854775807"}); a.code != 200 {
			t.Errorf("%s: %d %s", path, a.code, a.raw)
		}
	}
	s.invalid(call{method: "GET", path: "/api/events?limit=99999999999999999999"},
		"$.limit range expected a number of at least 1 and at most 300")
	a := s.do(call{method: "GET", path: "/api/licenses?page=99999999999999999999"})
	if !strings.Contains(a.raw, `"params":{"max":9223372036854775807,"min":1}`) {
		t.Error(a.raw)
	}
}

func TestListServiceRequests(t *testing.T) {
	t.Parallel()
	s := newService(t)
	patient, first := s.serviceRequest("in_queue", held(s.clinic))
	_, second := s.serviceRequest("new", uuid.NullUUID{})
	_, done := s.serviceRequest("new", uuid.NullUUID{})
	service, requester := uuid.New(), uuid.New()
	s.sql(`UPDATE medical_events.service_requests SET patient_id = $1`, patient)
	s.sql(`UPDATE medical_events.service_requests SET inserted_at = '2026-01-01' WHERE id = $1`, first)
	s.sql(`UPDATE medical_events.service_requests SET inserted_at = '2026-01-02', code_id = $2 WHERE id = $1`, second,
		service)
	s.sql(`UPDATE medical_events.service_requests
		SET inserted_at = '2026-01-03', status = 'completed', requester_legal_entity_id = $2, requisition = 'R-2'
		WHERE id = $1`, done, requester)
	f, n, d := first.String(), second.String(), done.String()
	ofPatient := "/api/patients/" + patient.String() + "/service_requests"

	// A caller of any legal entity finds it by the requisition.
	stranger := uuid.New()
	s.legalEntity(stranger, "PHARMACY", "ACTIVE")
	for _, token := range []string{s.token, s.issue(stranger, "service_request:read", time.Hour)} {
		s.token = token
		for _, c := range []struct {
			path string
			page rest.Paging
			want []string
		}{
			{"/api/service_requests?requisition=R-1", paging(1, 50, 2, 1), []string{n, f}},
			{"/api/service_requests?requisition=R-1&page=2&page_size=1", paging(2, 1, 2, 2), []string{f}},
			{"/api/service_requests?requisition=R-1&page=3&page_size=1", paging(3, 1, 2, 2), []string{}},
			{"/api/service_requests?requisition=R-2", paging(1, 50, 0, 1), []string{}},
			{"/api/service_requests?requisition=R-2&status=completed", paging(1, 50, 1, 1), []string{d}},
			{"/api/service_requests?requisition=r-1&page_size=100", paging(1, 100, 0, 1), []string{}},
			{ofPatient, paging(1, 50, 3, 1), []string{d, n, f}},
			{ofPatient + "?status=active", paging(1, 50, 2, 1), []string{n, f}},
			{ofPatient + "?code=" + service.String(), paging(1, 50, 1, 1), []string{n}},
			{ofPatient + "?requester_legal_entity=" + requester.String(), paging(1, 50, 1, 1), []string{d}},
			{ofPatient + "?used_by_legal_entity=" + s.clinic.String(), paging(1, 50, 1, 1), []string{f}},
			{ofPatient + "?used_by_legal_entity=" + s.clinic.String() + "&status=completed", paging(1, 50, 0, 1), []string{}},
			{ofPatient + "?page=2&page_size=2", paging(2, 2, 3, 2), []string{f}},
			{"/api/patients/" + uuid.NewString() + "/service_requests", paging(1, 50, 0, 1), []string{}},
		} {
			if got := s.list(c.path, c.page); !reflect.DeepEqual(got, c.want) {
				t.Errorf("%s: %v, want %v", c.path, got, c.want)
			}
		}
	}

	// An entry is what reading it alone answers.
	var alone map[string]any
	must(t, json.Unmarshal(s.do(call{method: "GET", path: fmt.Sprintf("%s/%s", ofPatient, first)}).body.Data, &alone))
	for _, path := range []string{ofPatient + "?status=active", "/api/service_requests?requisition=R-1"} {
		var listed []map[string]any
		must(t, json.Unmarshal(s.do(call{method: "GET", path: path}).body.Data, &listed))
		if len(listed) != 2 || !reflect.DeepEqual(listed[1], alone) {
			t.Errorf("%s\n got %v\nwant %v", path, listed, alone)
		}
	}
	s.token = s.issue(s.clinic, "license:read", time.Hour)
	for _, path := range []string{ofPatient, "/api/service_requests?requisition=R-1"} {
		s.refused(call{method: "GET", path: path}, 403, "forbidden",
			"Invalid scopes. Your scope does not allow to access this resource. Missing allowances: service_request:read")
	}
}
