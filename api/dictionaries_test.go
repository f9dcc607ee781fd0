package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/reiestr/reiestr/api/rest"
	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/internal/bundle"
	"github.com/reiestr/reiestr/internal/dev/testdb"
)

// importDictionaries imports them as `reiestr import-dictionaries` does.
func (s *service) importDictionaries(list string) {
	s.t.Helper()
	owner, err := db.Open(s.t.Context(), db.Config{URL: s.owner.Config().ConnString(), Role: db.Owner})
	must(s.t, err)
	defer owner.Close()
	file := filepath.Join(s.t.TempDir(), "dictionaries.json")
	must(s.t, os.WriteFile(file, []byte(list), 0o600))
	_, err = bundle.ImportDictionaries(s.t.Context(), owner, file, false)
	must(s.t, err)
}

// shown asks until the answer has the data, but no longer than the contract allows a process to know of a change late.
func (s *service) shown(path, want string) answer {
	s.t.Helper()
	deadline := time.Now().Add(30 * time.Second) // a busy machine may stop the test for long
	for {
		a := s.do(call{method: "GET", path: path})
		if compact(a.body.Data) == want {
			return a
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s\n got %d %s\nwant %s", path, a.code, a.raw, want)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

const forest = `[
	{"name": "FOREST", "description": "Ліс", "labels": ["SYSTEM", "ADMIN"], "values": [
		{"code": "OAK", "description": "Дуб звичайний", "child_values": [
			{"code": "ACORN", "description": "Жолудь", "is_active": false, "child_values": [{"code": "WORM", "description": "Черв"}]},
			{"code": "LEAF", "description": "Лист"}]},
		{"code": "ASH", "description": "Ясен", "is_active": false}]},
	{"name": "FOREST_OLD", "is_active": false, "values": [{"code": "OAK", "description": "ДУБ"}]},
	{"name": "FOREST_BIG", "values": [{"code": "PINE", "description": "Сосна"}]},
	{"name": "FOREST_EMPTY", "values": []}]`

// TestDictionariesAreFiltered asks with each filter and with pairs of them.
func TestDictionariesAreFiltered(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.sql(`DELETE FROM prm.dictionaries`)
	s.importDictionaries(forest)
	s.sql(`UPDATE prm.parameters SET value = '["FOREST_BIG", "NONE"]' WHERE name = 'BIG_DICTIONARIES'`)

	value := func(code, description string, isActive bool, children ...string) string {
		return fmt.Sprintf(
			`{"child_values":[%s],"code":%q,"description":%q,"is_active":%t}`,
			strings.Join(children, ","),
			code,
			description,
			isActive,
		)
	}
	dictionary := func(name, description string, isActive bool, labels string, values ...string) string {
		return fmt.Sprintf(`{"description":%q,"is_active":%t,"labels":[%s],"name":%q,"values":[%s]}`, description, isActive,
			labels, name, strings.Join(values, ","))
	}
	of := func(values ...string) string {
		return dictionary("FOREST", "Ліс", true, `"SYSTEM","ADMIN"`, values...)
	}
	worm := value("WORM", "Черв", true)
	leaf := value("LEAF", "Лист", true)
	ash := value("ASH", "Ясен", false)
	acorn := func(children ...string) string { return value("ACORN", "Жолудь", false, children...) }
	oak := func(children ...string) string { return value("OAK", "Дуб звичайний", true, children...) }
	whole := of(ash, oak(acorn(worm), leaf))
	old := dictionary("FOREST_OLD", "", false, "", value("OAK", "ДУБ", true))
	big := dictionary("FOREST_BIG", "", true, "", value("PINE", "Сосна", true))
	bare := dictionary("FOREST_EMPTY", "", true, "")

	list := func(dictionaries ...string) string { return "[" + strings.Join(dictionaries, ",") + "]" }
	first := "/api/v2/dictionaries"
	s.shown(first, list(whole, bare, old))
	for _, path := range []string{first, "/api/v2/mis/dictionaries"} {
		for query, want := range map[string]string{
			"":                                    list(whole, bare, old),
			"name=FOREST":                         list(whole),
			"name=forest":                         list(),
			"name=NONE":                           list(),
			"name=FOREST_BIG":                     list(big),
			"name=FOREST_OLD,NONE,,FOREST_BIG":    list(big, old),
			"is_active=true":                      list(whole, bare),
			"is_active=false":                     list(old),
			"is_active=true&name=FOREST_OLD":      list(),
			"value_code=OAK":                      list(of(oak()), old),
			"value_code=WORM":                     list(of(oak(acorn(worm)))),
			"value_code=oak":                      list(),
			"value_code=PINE":                     list(),
			"value_code=PINE&name=FOREST_BIG":     list(big),
			"value_description=дуб":               list(of(oak()), old),
			"value_description=ЛИСТ":              list(of(oak(leaf))),
			"value_description=%25":               list(),
			"value_is_active=false":               list(of(ash, oak(acorn()))),
			"value_is_active=true":                list(of(oak(acorn(worm), leaf)), old),
			"value_is_active=true&value_code=ASH": list(),
			"value_is_active=true&value_description=дуб&is_active=false": list(old),
			"value_code=LEAF&value_description=лист&name=FOREST":         list(of(oak(leaf))),
		} {
			parsed, err := url.ParseQuery(query)
			must(t, err)
			a := s.do(call{method: "GET", path: path + "?" + parsed.Encode()})
			if a.code != 200 || compact(a.body.Data) != want {
				t.Errorf("%s?%s\n got %d %s\nwant %s", path, query, a.code, compact(a.body.Data), want)
			}
		}
	}

	flat := `{"is_active":true,"labels":["SYSTEM","ADMIN"],"name":"FOREST","values":` +
		`{"ACORN":"Жолудь","ASH":"Ясен","LEAF":"Лист","OAK":"Дуб звичайний","WORM":"Черв"}}`
	flatBare := `{"is_active":true,"labels":[],"name":"FOREST_EMPTY","values":{}}`
	flatOld := `{"is_active":false,"labels":[],"name":"FOREST_OLD","values":{"OAK":"ДУБ"}}`
	flatBig := `{"is_active":true,"labels":[],"name":"FOREST_BIG","values":{"PINE":"Сосна"}}`
	for query, want := range map[string]string{
		"":                               list(flat, flatBare, flatOld),
		"is_active=true":                 list(flat, flatBare),
		"is_active=false":                list(flatOld),
		"name=FOREST_BIG,FOREST":         list(flat, flatBig),
		"name=NONE":                      list(),
		"name=FOREST_OLD&is_active=true": list(),
	} {
		a := s.do(call{method: "GET", path: "/api/dictionaries?" + query})
		if a.code != 200 || compact(a.body.Data) != want {
			t.Errorf("/api/dictionaries?%s\n got %d %s\nwant %s", query, a.code, compact(a.body.Data), want)
		}
	}
}

// TestDictionariesRefuseBadQueries: a bad value is a cast, another key does not belong to the schema, and access comes
// before both.
func TestDictionariesRefuseBadQueries(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for _, path := range []string{"/api/v2/dictionaries", "/api/v2/mis/dictionaries", "/api/dictionaries"} {
		get := func(query string) call { return call{method: "GET", path: path + "?" + query} }
		const cast = " cast type mismatch. Expected boolean but got string"
		s.invalid(get("is_active=maybe"), "$.is_active"+cast)
		s.invalid(get("is_active=1"), "$.is_active"+cast)
		s.invalid(get("is_active="), "$.is_active"+cast)
		s.invalid(get("name="), "$.name cast type mismatch. Expected string but got string")
		s.invalid(get("page=1"), "$.page schema schema does not allow additional properties")
		s.invalid(get("name=%00"), `$.name format string does not match the pattern ^[^\x00]*$`)
		if path == "/api/dictionaries" {
			s.invalid(get("value_code=X"), "$.value_code schema schema does not allow additional properties")
		} else {
			s.invalid(get("value_is_active=no&is_active=yes"), "$.is_active"+cast, "$.value_is_active"+cast)
		}
	}
	noToken := call{method: "GET", path: "/api/v2/mis/dictionaries?is_active=maybe",
		header: map[string]string{"Authorization": ""}}
	s.refused(noToken, 401, "access_denied", "Unauthorized: access token is not set")
	noKey := call{method: "GET", path: "/api/dictionaries?is_active=maybe", header: map[string]string{"api-key": ""}}
	s.refused(noKey, 401, "access_denied", "Unauthorized: Api key is not set")
	html := call{
		method: "GET",
		path:   "/api/v2/dictionaries?is_active=maybe",
		header: map[string]string{"Accept": "text/html"},
	}
	s.refused(html, 406, "content_type_invalid", "Answers are application/json only")
}

// TestDictionariesAreNotSentTwice: a caller that has the data is answered 304, in every process and with every filter,
// until the data change.
func TestDictionariesAreNotSentTwice(t *testing.T) {
	t.Parallel()
	s := newService(t)
	other := s.serving(s.app)
	tags := map[string]bool{}
	for _, path := range []string{"/api/v2/dictionaries", "/api/v2/dictionaries?name=LICENSE_TYPE", "/api/dictionaries",
		"/api/dictionaries?name=LICENSE_TYPE", "/api/v2/dictionaries?name=NONE"} {
		get := func(s *service, header string) answer {
			c := call{method: "GET", path: path}
			if header != "" {
				c.header = map[string]string{"If-None-Match": header}
			}
			return s.do(c)
		}
		a := get(s, "")
		tag := a.header.Get("ETag")
		if a.code != 200 || !strings.HasPrefix(tag, `W/"`) || tags[tag] {
			t.Errorf("%s: %d, ETag %q", path, a.code, tag)
		}
		tags[tag] = true
		strong := strings.TrimPrefix(tag, "W/")
		for header, code := range map[string]int{
			tag: 304, strong: 304, "*": 304, `"a", ` + tag: 304, `"a,b" ,` + strong + `, W/"c"`: 304,
			`W/"other"`: 200, strings.Trim(strong, `"`): 200, `"` + tag + `"`: 200, ",": 200, `"` + strong[2:]: 200,
		} {
			for name, process := range map[string]*service{"this": s, "another": other} {
				a := get(process, header)
				if a.code != code || a.header.Get("ETag") != tag || (a.code == 304) != (a.raw == "") {
					t.Errorf("%s, %s process, If-None-Match %s: %d, ETag %q, want %d", path, name, header, a.code,
						a.header.Get("ETag"), code)
				}
			}
		}
	}
	// The data change, and so does the tag.
	before := s.do(call{method: "GET", path: "/api/v2/dictionaries?name=GENDER"})
	s.importDictionaries(`[{"name": "GENDER", "values": []}]`)
	s.shown("/api/v2/dictionaries?name=GENDER",
		`[{"description":"","is_active":true,"labels":[],"name":"GENDER","values":[]}]`)
	after := s.do(call{method: "GET", path: "/api/v2/dictionaries?name=GENDER",
		header: map[string]string{"If-None-Match": before.header.Get("ETag")}})
	if after.code != 200 || after.header.Get("ETag") == before.header.Get("ETag") {
		t.Errorf("after the change: %d, ETag %q", after.code, after.header.Get("ETag"))
	}
}

// TestImportedDictionariesAreEnforced: what is imported is what the rules read, in a process that has served before.
func TestImportedDictionariesAreEnforced(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.primaryLicense(s.clinic)
	s.sql(`UPDATE prm.parameters SET value = '["SPA", "PHARMACY_DRUGS"]'
		WHERE name = 'LEGAL_ENTITY_OUTPATIENT_ADDITIONAL_LICENSE_TYPES'`)
	const unknown = "value is not allowed in enum"
	s.refused(license("type", "SPA"), 422, "validation_failed", unknown)
	s.shown("/api/v2/dictionaries?name=LICENSE_TYPE&value_code=SPA", `[]`)

	s.importDictionaries(
		`{"data": [{"name": "LICENSE_TYPE", "values": [{"code": "MSP", "child_values": [{"code": "SPA"}]},
		{"code": "PHARMACY_DRUGS", "is_active": false}]}]}`,
	)
	a := s.refused(license("type", "PHARMACY_DRUGS"), 422, "validation_failed", unknown)
	rules, err := json.Marshal(a.body.Error.Invalid[0]["rules"])
	must(t, err)
	if !strings.Contains(string(rules), `"values":["MSP","SPA"]`) {
		t.Errorf("allowed: %s", rules)
	}
	if a := s.do(license("type", "SPA")); a.code != 201 {
		t.Errorf("an imported type: %d %s", a.code, a.raw)
	}
	s.shown("/api/v2/dictionaries?name=LICENSE_TYPE&value_is_active=false&value_code=PHARMACY_DRUGS",
		`[{"description":"","is_active":true,"labels":[],"name":"LICENSE_TYPE","values":[`+
			`{"child_values":[],"code":"PHARMACY_DRUGS","description":"","is_active":false}]}]`)
}

// readings counts the readings of all dictionaries.
type readings struct{ count atomic.Int64 }

func (r *readings) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if strings.Contains(data.SQL, "ListDictionaries") {
		r.count.Add(1)
	}
	return ctx
}

func (*readings) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TestOpenDictionariesAreReadSeldom: callers without credentials share the readings of the database.
func TestOpenDictionariesAreReadSeldom(t *testing.T) {
	t.Parallel()
	var r readings
	app, err := db.Open(t.Context(), db.Config{URL: testdb.New(t).URL, TimeZone: "Europe/Kyiv", Tracer: &r})
	must(t, err)
	t.Cleanup(app.Close)
	s := newService(t, func(c *rest.Config) { c.DB, c.Places = app, 128 })
	began := time.Now()
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for n := range 40 {
				path := fmt.Sprintf("/api/v2/dictionaries?value_description=%d", worker*1000+n)
				request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil)
				if err != nil {
					t.Error(err)
					return
				}
				response, err := http.DefaultClient.Do(request)
				if err != nil {
					t.Error(err)
					return
				}
				response.Body.Close()
				if response.StatusCode != 200 {
					t.Errorf("%s: %s", path, response.Status)
				}
			}
		})
	}
	group.Wait()
	if most := 1 + int64(time.Since(began)/(500*time.Millisecond)); r.count.Load() < 1 || r.count.Load() > most {
		t.Errorf("%d readings, want at most %d", r.count.Load(), most)
	}
}

// TestOpenRequestsTakeNoPlaceOfOthers: while callers without credentials wait for the database, further ones are
// refused, and a caller with a token is answered.
func TestOpenRequestsTakeNoPlaceOfOthers(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *rest.Config) { c.Places = 8 })
	holder, err := s.owner.Begin(t.Context())
	must(t, err)
	_, err = holder.Exec(t.Context(), `LOCK TABLE prm.dictionaries IN ACCESS EXCLUSIVE MODE`)
	must(t, err)
	const callers = 20
	answers := make(chan answer, callers)
	for range callers {
		go func() { answers <- s.do(call{method: "GET", path: "/api/v2/dictionaries"}) }()
	}
	a := receive(t, answers)
	if a.code != 503 || a.body.Error == nil || a.body.Error.Message != overloadMessage {
		t.Errorf("one of many: %d %s", a.code, a.raw)
	}
	if a := s.do(call{method: "GET", path: "/api/licenses"}); a.code != 200 {
		t.Errorf("with a token: %d %s", a.code, a.raw)
	}
	must(t, holder.Rollback(t.Context()))
	for range callers - 1 {
		receive(t, answers)
	}
}

// TestCallersByKeyAreLimited: the requests of an api key without a token are counted for this key. Open requests are
// not counted.
func TestCallersByKeyAreLimited(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *rest.Config) { c.RatePerSecond, c.RateBurst = 0.01, 2 })
	keyed := call{method: "GET", path: "/api/dictionaries", header: map[string]string{"Authorization": ""}}
	for range 2 {
		if a := s.do(keyed); a.code != 200 || a.header.Get("RateLimit") == "" {
			t.Errorf("%d, RateLimit %q", a.code, a.header.Get("RateLimit"))
		}
	}
	s.refused(keyed, 429, "too_many_requests", "Too many requests. Try again later.")
	key, err := s.access.IssueAPIKey(t.Context(), "another")
	must(t, err)
	if a := s.do(with(keyed, "", key)); a.code != 200 {
		t.Errorf("another key: %d %s", a.code, a.raw)
	}
	for range 5 {
		if a := s.do(call{method: "GET", path: "/api/v2/dictionaries"}); a.code != 200 || a.header.Get("RateLimit") != "" {
			t.Errorf("open: %d, RateLimit %q", a.code, a.header.Get("RateLimit"))
		}
	}
}

// TestDictionariesWithoutADatabase: without an answer of the database the methods answer 503.
func TestDictionariesWithoutADatabase(t *testing.T) {
	t.Parallel()
	nowhere, err := db.Open(t.Context(), db.Config{URL: "postgres://nobody@127.0.0.1:1/nothing"})
	must(t, err)
	t.Cleanup(nowhere.Close)
	s := newService(t, func(c *rest.Config) { c.DB = nowhere })
	for _, path := range []string{"/api/v2/dictionaries", "/api/v2/mis/dictionaries", "/api/dictionaries"} {
		a := s.do(call{method: "GET", path: path})
		if a.code != 503 || a.header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %s", path, a.code, a.raw)
		}
	}
}
