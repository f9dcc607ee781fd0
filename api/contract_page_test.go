package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/api/rest"
	"github.com/reiestr/reiestr/db"
)

const contractPage = "../docs/contract.md"

// contractRow is a row of a table of the contract: the texts of its cells by the heads of their columns.
type contractRow map[string]string

// contractTable reads the table of a section ("3.1") of the contract that has these columns.
func contractTable(t testing.TB, section string, columns ...string) []contractRow {
	t.Helper()
	raw, err := os.ReadFile(contractPage)
	must(t, err)
	var heads []string
	var rows []contractRow
	inSection := false
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") {
			_, title, _ := strings.Cut(line, " ")
			number, _, _ := strings.Cut(title, " ")
			if number != "" && number[0] >= '0' && number[0] <= '9' { // a heading without a number is within the section
				inSection = strings.TrimSuffix(number, ".") == section
			}
		}
		if !inSection {
			continue
		}
		inner, isRow := strings.CutPrefix(line, "|")
		if !isRow {
			heads = nil
			continue
		}
		cells := strings.Split(strings.TrimSuffix(inner, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case heads == nil:
			heads = cells
		case strings.HasPrefix(cells[0], "---"):
		case containsAll(heads, columns):
			if len(cells) != len(heads) {
				t.Fatalf("contract %s: %d cells under %d heads: %s", section, len(cells), len(heads), line)
			}
			row := contractRow{}
			for i, head := range heads {
				row[strings.Trim(head, "`")] = cells[i]
			}
			rows = append(rows, row)
		}
	}
	if rows == nil {
		t.Fatalf("contract %s has no table with the columns %v", section, columns)
	}
	return rows
}

func containsAll(heads, columns []string) bool {
	for _, column := range columns {
		if !slices.ContainsFunc(heads, func(head string) bool { return strings.Trim(head, "`") == column }) {
			return false
		}
	}
	return true
}

// code is the HTTP code that a cell begins with.
func (r contractRow) code(t testing.TB, column string) int {
	t.Helper()
	var code int
	if _, err := fmt.Sscan(r[column], &code); err != nil {
		t.Fatalf("no code in %q", r[column])
	}
	return code
}

// text is what stands between the first back-tick of a cell and the last; "": the cell has none.
func (r contractRow) text(column string) string {
	_, text, _ := strings.Cut(r[column], "`")
	return text[:max(0, strings.LastIndex(text, "`"))]
}

// matches compares a text with one of the contract, in which <…> stands for any text.
func matches(pattern, text string) bool {
	var quoted strings.Builder
	for i, part := range regexp.MustCompile(`<[^>]*>`).Split(pattern, -1) {
		if i > 0 {
			quoted.WriteString(".+")
		}
		quoted.WriteString(regexp.QuoteMeta(part))
	}
	return regexp.MustCompile("^" + quoted.String() + "$").MatchString(text)
}

// errorTypes are the types of errors by their code, as section 2 gives them.
func errorTypes(t testing.TB) map[int]string {
	t.Helper()
	types := map[int]string{}
	for _, row := range contractTable(t, "2", "code", "error.type", "Retry-After") {
		types[row.code(t, "code")] = row.text("error.type")
	}
	return types
}

// everyRow fails for a row without a case, and for a case without a row. Rows and cases meet by key.
func everyRow[C any](t *testing.T, rows []contractRow, key func(contractRow) string, cases map[string]C) {
	t.Helper()
	known := map[string]bool{}
	for _, row := range rows {
		known[key(row)] = true
		if _, ok := cases[key(row)]; !ok {
			t.Errorf("contract: no case provokes the row %q", key(row))
		}
	}
	for name := range cases {
		if !known[name] {
			t.Errorf("contract: no row for the case %q", name)
		}
	}
}

// TestContractAccess provokes each row of the table of section 1, alone and together with all rows below it.
func TestContractAccess(t *testing.T) {
	t.Parallel()
	s := newService(t)
	expired := s.issue(s.clinic, allScopes, time.Nanosecond)
	poor := s.issue(s.clinic, "license:read", time.Hour)
	revoked := s.issue(s.clinic, allScopes, time.Hour)
	must(t, s.access.RevokeToken(t.Context(), revoked))
	revokedKey, err := s.access.IssueAPIKey(t.Context(), "revoked")
	must(t, err)
	must(t, s.access.RevokeAPIKey(t.Context(), revokedKey))

	header := func(name string, values ...string) (changes []map[string]string) {
		for _, value := range values {
			changes = append(changes, map[string]string{name: value})
		}
		return changes
	}
	// Each row has one or more headers that break its check.
	cases := map[string][]map[string]string{
		"Unauthorized: access token is not set": header("Authorization", "", "Basic YTpi"),
		"Unauthorized: invalid access token": header("Authorization", "Bearer "+uuid.NewString(), "Bearer ", "Bearer",
			"Bearer \xff\xfe'; --", "Bearer "+revoked),
		"Unauthorized: access token is expired": header("Authorization", "Bearer "+expired),
		"Unauthorized: Api key is not set":      header("api-key", ""),
		"Unauthorized: Invalid api key":         header("api-key", "guess", revokedKey),
		scopeText:                               header("Authorization", "bearer "+poor),
	}
	rows := contractTable(t, "1", "check", "code", "error.type", "error.message", "WWW-Authenticate")
	message := func(row contractRow) string { return row.text("error.message") }
	everyRow(t, rows, message, cases)

	for i, row := range rows {
		for _, broken := range cases[message(row)] {
			alone := call{method: "POST", path: "/api/licenses", body: license().body, header: broken}
			all := call{method: "POST", path: "/api/licenses?unknown=1", body: "{", header: map[string]string{}}
			for _, below := range slices.Backward(rows[i+1:]) {
				for name, value := range cases[message(below)][0] {
					all.header[name] = value
				}
			}
			for name, value := range broken {
				all.header[name] = value
			}
			fill := func(text string) string { return strings.ReplaceAll(text, "<scope>", "license:write") }
			for _, c := range []call{alone, all} {
				a := s.refused(c, row.code(t, "code"), row.text("error.type"), fill(message(row)))
				challenges := a.header.Values("WWW-Authenticate")
				if len(challenges) != 1 || challenges[0] != fill(row.text("WWW-Authenticate")) {
					t.Errorf("%v: WWW-Authenticate %q", c.header, challenges)
				}
			}
		}
	}
}

const scopeText = missingScope + "<scope>"

// missingScope is the text for a token without the scope that follows.
const missingScope = "Invalid scopes. Your scope does not allow to access this resource. Missing allowances: "

// notUUID is the fault of an id that is no uuid.
const notUUID = "format string does not match the pattern " +
	"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"

// TestContractCodes provokes each code of the table of section 2.
func TestContractCodes(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.primaryLicense(s.clinic)
	limited := newService(t, func(c *rest.Config) { c.RatePerSecond, c.RateBurst = 0.01, 1 })
	nowhere, err := db.Open(t.Context(), db.Config{URL: "postgres://nobody@127.0.0.1:1/nothing"})
	must(t, err)
	t.Cleanup(nowhere.Close)
	dark := newService(t, func(c *rest.Config) { c.DB = nowhere })
	broken := newService(t)
	broken.primaryLicense(broken.clinic)
	broken.sql(`ALTER TABLE prm.licenses ADD CONSTRAINT no_rule_knows CHECK (order_no <> 'К-1')`)

	with := func(c call, name, value string) call {
		c.header = map[string]string{name: value}
		return c
	}
	job := call{method: "GET", path: "/api/jobs/" + uuid.NewString()}
	cases := map[string]struct {
		*service
		call
	}{
		"400": {s, call{method: "POST", path: "/api/licenses", body: "{"}},
		"401": {s, with(license(), "Authorization", "")},
		"403": {s, with(license(), "Authorization", "Bearer "+s.issue(s.clinic, "job:read", time.Hour))},
		"404": {s, job},
		"405": {s, call{method: "DELETE", path: "/api/licenses"}},
		"406": {s, with(license(), "Accept", "text/html")},
		"409": {s, license("type", "PHARMACY")},
		"413": {s, call{method: "POST", path: "/api/licenses", body: `"` + strings.Repeat("a", 1<<20) + `"`}},
		"415": {s, with(license(), "Content-Type", "text/plain")},
		"422": {s, license("is_primary", true)},
		"429": {limited, job},
		"431": {s, with(job, "X-Large", strings.Repeat("a", 2<<20))},
		"500": {broken, license()},
		"503": {dark, license()},
	}
	rows := contractTable(t, "2", "code", "error.type", "Retry-After")
	everyRow(t, rows, func(row contractRow) string { return row["code"] }, cases)
	limited.do(job) // takes the one request that the limit allows
	for _, row := range rows {
		c := cases[row["code"]]
		if c.service == nil {
			continue
		}
		if row["code"] == "431" {
			c.speaksFailure(c.call, row)
			continue
		}
		a := c.do(c.call)
		if a.code != row.code(t, "code") || a.body.Error == nil || a.body.Error.Type != row.text("error.type") {
			t.Errorf("contract says %v, got %d %s", row, a.code, a.raw)
		}
		if got, want := a.header.Get("Retry-After") != "", row["Retry-After"] == "yes"; got != want {
			t.Errorf("%s: Retry-After %q", row["code"], a.header.Get("Retry-After"))
		}
	}
}

// speaksFailure sends a request whose connection is closed by the answer, which a client of Go may not hear in time.
func (s *service) speaksFailure(c call, row contractRow) {
	s.t.Helper()
	var request strings.Builder
	fmt.Fprintf(&request, "%s %s HTTP/1.1\r\nHost: x\r\n", c.method, c.path)
	for name, value := range c.header {
		fmt.Fprintf(&request, "%s: %s\r\n", name, value)
	}
	_, reader := s.speak(request.String() + "\r\n")
	response, err := http.ReadResponse(reader, nil)
	must(s.t, err)
	var f rest.Failure
	must(s.t, json.NewDecoder(response.Body).Decode(&f))
	if response.StatusCode != row.code(s.t, "code") || f.Fault.Type != row.text("error.type") {
		s.t.Errorf("contract says %v, got %s %+v", row, response.Status, f)
	}
}

// TestContractFaults provokes each fault of the table of section 2.
func TestContractFaults(t *testing.T) {
	t.Parallel()
	s := newService(t)
	_, id := s.serviceRequest("new", uuid.NullUUID{})
	use := func(reference string) call {
		return act(id, "use", `{"used_by_legal_entity": {"identifier": {"value": "`+s.clinic.String()+`"`+reference+`}}}`)
	}
	list := func(query string) call { return call{method: "GET", path: "/api/licenses?" + query} }
	type fault struct {
		call
		entry, entryType string
	}
	const property, query = "json_data_property", "query_parameter"
	cases := map[string]fault{
		"a required property is missing": {license("issued_by", nil), "$.issued_by", property},
		"unknown query key":              {list("unknown=1"), "$.unknown", query},
		"unknown key inside a reference": {use(`, "extra": 1`), "$.used_by_legal_entity.identifier.extra", property},
		"value outside its enum or dictionary": {
			use(`, "type": {"coding": [{"system": "eHealth/resources", "code": "employee"}]}`),
			"$.used_by_legal_entity.identifier.type.coding[0].code", property,
		},
		"wrong type, or null":                  {license("issued_by", 1), "$.issued_by", property},
		"not a date":                           {license("issued_date", "2017-02-29"), "$.issued_date", property},
		"too long or too short":                {license("order_no", strings.Repeat("ї", 256)), "$.order_no", property},
		"does not match a pattern; U+0000":     {license("order_no", "\x00"), "$.order_no", property},
		"number out of range":                  {list("page_size=301"), "$.page_size", query},
		"a rule about state answered with 422": {license("is_primary", true), "$.is_primary", property},
	}
	rows := contractTable(t, "2", "fault", "rule", "params", "description")
	everyRow(t, rows, func(row contractRow) string { return row["fault"] }, cases)
	for _, row := range rows {
		c := cases[row["fault"]]
		a := s.do(c.call)
		if a.code != 422 || a.body.Error == nil || len(a.body.Error.Invalid) != 1 {
			t.Errorf("%s: %d %s", row["fault"], a.code, a.raw)
			continue
		}
		found := a.body.Error.Invalid[0]
		rule, _ := found["rules"].([]any)[0].(map[string]any)
		params, err := json.Marshal(rule["params"])
		must(t, err)
		if found["entry"] != c.entry || found["entry_type"] != c.entryType || rule["rule"] != row.text("rule") ||
			!matches(strings.ReplaceAll(row.text("params"), " ", ""), string(params)) ||
			!matches(row.text("description"), rule["description"].(string)) {
			t.Errorf("contract says %v, got %s", row, a.raw)
		}
	}
}

// TestContractOperations: the contract names each operation of the OpenAPI document, and no other that is built. Its
// table of codes has the code of each error.
func TestContractOperations(t *testing.T) {
	t.Parallel()
	types := errorTypes(t)
	raw, err := os.ReadFile(contractPage)
	must(t, err)
	named := map[string]bool{}
	for item := range strings.SplitSeq(string(raw), "\n- ") {
		if strings.HasPrefix(item, "**Not built yet:**") {
			continue
		}
		for _, m := range regexp.MustCompile("`([A-Z]+ /api/[^`?]+)").FindAllStringSubmatch(item, -1) {
			named[m[1]] = true
		}
	}
	loaded, err := documents()
	must(t, err)
	for path, item := range loaded[0].Paths.Map() {
		for method, op := range item.Operations() {
			if !named[method+" "+path] {
				t.Errorf("contract: %s %s is not named", method, path)
			}
			delete(named, method+" "+path)
			for code := range op.Responses.Map() {
				if n, err := strconv.Atoi(code); err == nil && n >= 400 && types[n] == "" {
					t.Errorf("contract 2 has no row for the code %s of %s %s", code, method, path)
				}
			}
		}
	}
	for operation := range named {
		t.Errorf("contract: %s is named, and there is no such operation", operation)
	}
}

// TestContractFaultsOfEvents provokes each fault of the table of section 6.
func TestContractFaultsOfEvents(t *testing.T) {
	t.Parallel()
	s := newService(t)
	rows := contractTable(t, "6", "fault", "entry", "rule", "text")
	queries := map[string]string{
		"after or limit beside one of these parameters": "page=1&after=0000000000000000&limit=5",
		"date_to before date":                           "date=2026-03-01T09:00:00Z&date_to=2026-03-01T08:00:00Z",
		"more than three hours between them":            "date=2026-03-01T09:00:00Z&date_to=2026-03-01T13:00:00Z",
		"new_value without attribute_name":              "new_value=active",
	}
	fault := func(row contractRow) string { return strings.ReplaceAll(row["fault"], "`", "") }
	everyRow(t, rows, fault, queries)
	for _, row := range rows {
		var want []string
		for entry := range strings.SplitSeq(strings.ReplaceAll(row["entry"], "`", ""), ", ") {
			want = append(want, entry+" "+row.text("rule")+" "+row.text("text"))
		}
		s.invalid(call{method: "GET", path: "/api/events?" + queries[fault(row)]}, want...)
	}
}
