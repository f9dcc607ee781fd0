package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// request is one request before it becomes bytes.
type request struct {
	method, target, version string
	header                  []string // lines without their ends
	body                    string
}

// octets puts the request together. A body gets a Content-Length.
func (q request) octets() octets {
	version := q.version
	if version == "" {
		version = "HTTP/1.1"
	}
	text := q.method + " " + q.target + " " + version + "\r\n" + strings.Join(q.header, "\r\n") + "\r\n"
	if q.body != "" {
		text += "Content-Length: {{length}}\r\n"
	}
	return octets(text + "\r\n" + q.body)
}

// without is the request without the lines of a header.
func (q request) without(name string) request {
	q.header = slices.DeleteFunc(slices.Clone(q.header), func(line string) bool {
		return strings.HasPrefix(line, name+":")
	})
	return q
}

// and is the request with further lines of its head.
func (q request) and(lines ...string) request {
	q.header = append(slices.Clone(q.header), lines...)
	return q
}

func (q request) to(target string) request { q.target = target; return q }

func (q request) saying(body string) request { q.body = body; return q }

// maker makes attempts for one operation out of random numbers.
type maker struct {
	operation
	*rand.Rand
	document *openapi3.T
}

// pick takes one of several at random.
func pick[T any](m maker, from ...T) T { return from[m.IntN(len(from))] }

func (m maker) hasBody() bool { return m.RequestBody != nil }

// right is a request that is in order: its answer is one that the document lists, and not about its form.
func (m maker) right() request {
	q := request{method: m.method, target: m.target("", ""), header: []string{"Host: hostile.test",
		"Authorization: Bearer {{token}}", "api-key: {{key}}"}}
	if m.hasBody() {
		body, _ := m.body()
		q = q.and("Content-Type: application/json").saying(string(encode(body)))
	}
	return q
}

// target is the path of the operation with its required query; name and value replace one parameter of the path.
func (m maker) target(name, value string) string {
	path, n := m.path, m.IntN(1000)
	var query []string
	for _, p := range m.Parameters {
		given := "{{request " + strconv.Itoa(n) + "}}"
		switch {
		case p.Value.In == "path" && p.Value.Name == name:
			given = value
		case p.Value.In == "path" && m.id == "updateLicense":
			given = "{{licence}}"
		case p.Value.In == "path" && m.id == "getJob":
			given = "{{job}}"
		case p.Value.In == "query" && p.Value.Required:
			query = append(query, p.Value.Name+"=R")
			continue
		}
		path = strings.Replace(path, "{"+p.Value.Name+"}", given, 1)
	}
	if len(query) > 0 {
		path += "?" + strings.Join(query, "&")
	}
	return path
}

// attempt is a request to the operation.
func (m maker) attempt(kind string, q request, want ...int) attempt {
	return attempt{Kind: kind, Operation: m.id, Method: q.method, Request: q.octets(), Want: want}
}

// kinds are the ways in which the walker is hostile. Each makes one attempt; ok is false where the kind does not apply
// to the operation.
var kinds = []func(maker) (a attempt, ok bool){
	maker.inOrder, maker.credentials, maker.accept, maker.contentType, maker.notJSON, maker.notJSON, maker.largeBody,
	maker.deepBody, maker.oneVariant, maker.oneVariant, maker.oneVariant, maker.oneVariant, maker.manyVariants,
	maker.severalFaults, maker.severalFaults, maker.oddRoot, maker.query, maker.query, maker.manyQueries,
	maker.pathParameter, maker.wrongPath, maker.wrongMethod, maker.head, maker.idempotencyKey, maker.prefer,
	maker.oddHeader, maker.largeHeader, maker.framing, maker.framing, maker.pipeline, maker.halfOpen, maker.noise,
}

// make is the n-th attempt for an operation with a seed.
func (w *walker) make(seed uint64, op operation, n int) attempt {
	text := seed
	for _, c := range []byte(op.id) {
		text = text*31 + uint64(c)
	}
	m := maker{op, rand.New(rand.NewPCG(text, uint64(n))), w.document}
	for {
		if a, ok := pick(m, kinds...)(m); ok {
			return a
		}
	}
}

func (m maker) inOrder() (attempt, bool) {
	a := m.attempt("in order", m.right())
	a.Fits = true
	return a, true
}

func (m maker) credentials() (attempt, bool) {
	q := m.right()
	bare := q.without("Authorization")
	// An operation that does not need a credential does not look at it.
	refused := func(credential string) []int {
		if m.needs(credential) {
			return []int{401}
		}
		return nil
	}
	byToken, byKey := refused("token"), refused("apiKey")
	switch m.IntN(6) {
	case 0:
		return m.attempt("no token", bare, byToken...), true
	case 1:
		value := pick(
			m, "Bearer", "Bearer ", "Bearer x", "Bearer {{token}}x", "Bearer \xff\xfe", "Basic {{token}}", "Bearer a.b.c",
			"Bearer {{token}} {{token}}", "{{token}}", "Bearer {{letters 5000}}", "bearer", "Bearer ../../etc/passwd",
		)
		return m.attempt("wrong token", bare.and("Authorization: "+value), byToken...), true
	case 2:
		return m.attempt("two tokens", q.and("Authorization: Bearer {{token}}"), byToken...), true
	case 3:
		return m.attempt("no api key", q.without("api-key"), byKey...), true
	case 4:
		value := pick(m, "", "x", "{{key}}x", "\xff", "{{letters 5000}}", "{{token}}")
		return m.attempt("wrong api key", q.without("api-key").and("api-key: "+value), byKey...), true
	}
	if byToken == nil {
		return attempt{}, false
	}
	// Access comes before everything that is wrong with the request itself.
	return m.attempt("no token, and no JSON", bare.and("Accept: text/html", "Idempotency-Key: ").saying("{"), 401), true
}

func (m maker) accept() (attempt, bool) {
	if m.IntN(2) == 0 {
		value := pick(
			m, "*/*", "application/*;q=0.001", "text/html, application/json", "application/json; charset=utf-8",
			"APPLICATION/JSON", "", ",", "application/json;q=1.000, text/html;q=0",
		)
		a := m.attempt("Accept allows JSON", m.right().and("Accept: "+value))
		a.Fits = true
		return a, true
	}
	value := pick(
		m, "text/html", "application/json;q=0", "*/*;q=0.000", "application/xml, text/*", "image/png", "application", "x",
		"\xff\xfe",
	)
	return m.attempt("Accept forbids JSON", m.right().and("Accept: "+value), 406), true
}

func (m maker) contentType() (attempt, bool) {
	if !m.hasBody() {
		return attempt{}, false
	}
	q := m.right()
	switch m.IntN(3) {
	case 0:
		value := pick(
			m, "text/plain", "application/xml", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", ";;;",
			"application/json; charset=\"", "application/jsonp", "application/merge-patch+json", "\xff",
			"application/json, text/plain",
		)
		return m.attempt("wrong Content-Type", q.without("Content-Type").and("Content-Type: "+value), 415), true
	case 1:
		value := pick(m, "gzip", "br", "identity, gzip", "x", "\xff", "deflate")
		return m.attempt("Content-Encoding", q.and("Content-Encoding: "+value), 415), true
	}
	value := pick(m, "application/json;charset=utf-8", "Application/JSON", "application/json; a=b")
	a := m.attempt(
		"right Content-Type",
		q.without("Content-Type").and("Content-Type: "+value, "Content-Encoding: identity"),
	)
	a.Fits = true
	return a, true
}

// notJSON spoils the right body on its way from text to bytes.
func (m maker) notJSON() (attempt, bool) {
	if !m.hasBody() {
		return attempt{}, false
	}
	q := m.right()
	body := q.body
	inside := body[1 : len(body)-1]
	comma := ","
	if inside == "" {
		comma = ""
	}
	wide := func(order string) string { // UTF-16 of a text in ASCII
		text := ""
		for _, c := range []byte(`{"a": 1}`) {
			if order == "little" {
				text += string(c) + "\x00"
			} else {
				text += "\x00" + string(c)
			}
		}
		return text
	}
	text := pick(
		m,
		body[:max(1, m.IntN(len(body)))],
		"{", "}", "{]", `{"a"}`, `{"a":}`, `{"a":1,}`, `{'a':1}`, `{a:1}`, "nul", "True", "NaN", "Infinity", "-", "+1",
		"01", "1.", ".5", "1e", "0x10", "// x\n{}", "/**/{}", `"\x"`, `"\u12"`, "\"\n\"", "\"a\x00b\"", body+"{}",
		body+" x", body+body, "{}\x00", "\x00", "\xff", "\xc0\x80", "\xed\xa0\x80", "\xf5\x80\x80\x80",
		"{"+inside+comma+"\"unknown\": \"\xff\"}", "{"+inside+comma+"\"\xc3\": 1}",
		"{"+inside+comma+`"unknown": "\ud800"}`,
		"{"+inside+comma+`"unknown": "\udc00\ud800"}`,
		"{"+inside+comma+`"a": 1, "a": 1}`,
		"{"+inside+comma+`"a": 1, "\u0061": 2}`,
		"{"+inside+comma+`"a": {"b": 1, "c": {}, "b": null}}`,
		"{"+inside+comma+`"a": [{"": 1, "": 1}]}`,
		"\ufeff"+body,
		"\xff\xfe"+wide("little"),
		"\xfe\xff"+wide("big"),
		wide("little"),
		wide("big"),
		"{\v}", "\u00a0{}", "{\u2028}",
	)
	return m.attempt("not JSON", q.saying(text), 400), true
}

func (m maker) largeBody() (attempt, bool) {
	if !m.hasBody() {
		return attempt{}, false
	}
	q := m.right()
	const limit = 1 << 20
	room := limit - len(q.body)
	switch m.IntN(4) {
	case 0:
		a := m.attempt("1 MiB", q.saying(q.body+fmt.Sprintf("{{spaces %d}}", room-m.IntN(2))))
		a.Fits = true
		return a, true
	case 1:
		return m.attempt("1 MiB and a byte", q.saying(q.body+fmt.Sprintf("{{spaces %d}}", room+1)), 413), true
	case 2: // the length is enough; no byte of the body is sent
		q = q.saying("").and("Content-Length: " + pick(m, "1048577", "9223372036854775807", "4294967296"))
		return m.attempt("a large length", q, 413), true
	}
	chunk := fmt.Sprintf("100001\r\n{{spaces %d}}\r\n0\r\n\r\n", limit+1)
	a := m.attempt("1 MiB and a byte in a chunk", q.saying("").and("Transfer-Encoding: chunked"), 413)
	a.Request += octets(chunk)
	return a, true
}

// deepest is the number of levels that the contract allows.
const deepest = 10000

func (m maker) deepBody() (attempt, bool) {
	if !m.hasBody() {
		return attempt{}, false
	}
	levels := pick(m, deepest+1, deepest, 100000, 500000)
	text := fmt.Sprintf("{{open %d}}{{shut %[1]d}}", levels)
	if levels > deepest {
		return m.attempt("too deep", m.right().saying(text), 400), true
	}
	a := m.attempt("deep", m.right().saying(text), 422)
	a.Faults = []fault{{"$", "json_data_property", "cast"}}
	return a, true
}

// oneVariant breaks one rule of the body's schema at one place, or goes to its limit.
func (m maker) oneVariant() (attempt, bool) {
	if !m.hasBody() {
		return attempt{}, false
	}
	body, schema := m.body()
	at := pick(m, nodesOf(nil, schema, body)...)
	all := at.variants(valueAt(body, at.place))
	v := pick(m, all...)
	q := m.right().saying(string(encode(with(body, v.place, v.value))))
	if v.rule == "" {
		a := m.attempt("body fits", q)
		a.Fits = true
		return a, true
	}
	a := m.attempt("body breaks "+v.rule, q, 422)
	a.Faults = []fault{{v.entry, "json_data_property", v.rule}}
	return a, true
}

func (m maker) manyVariants() (attempt, bool) {
	if !m.hasBody() {
		return attempt{}, false
	}
	body, schema := m.body()
	nodes := nodesOf(nil, schema, body)[1:]
	if len(nodes) == 0 {
		return attempt{}, false
	}
	changed := any(body)
	for range 1 + m.IntN(6) {
		at := pick(m, nodes...)
		if !holds(changed, at.place) {
			continue // an earlier change took the place away
		}
		v := pick(m, at.variants(valueAt(body, at.place))...)
		if len(v.place) == len(at.place) {
			changed = with(changed, v.place, v.value)
		}
	}
	return m.attempt("body breaks many rules", m.right().saying(string(encode(changed)))), true
}

// severalFaults breaks rules at several places of path, query and body. None may hide another.
func (m maker) severalFaults() (attempt, bool) {
	var faults []fault
	target := m.target("", "")
	for _, p := range m.Parameters {
		if p.Value.In == "path" && m.IntN(2) == 0 {
			target = m.target(p.Value.Name, pick(m, "x", "%00", "8be63914-a278-470b-b868-1af5b90873321"))
			faults = []fault{{"$." + p.Value.Name, "path_parameter", "format"}}
		}
	}
	path, query, _ := strings.Cut(target, "?")
	parts := strings.Split(query, "&")
	for _, p := range m.queryParameters() {
		v := pick(m, parameterVariants(p.Schema.Value)...)
		if v.rule == "" || m.IntN(2) == 0 {
			continue
		}
		parts = slices.DeleteFunc(parts, func(part string) bool { return strings.HasPrefix(part, p.Name+"=") })
		switch {
		case p.Required && m.IntN(4) == 0:
			v.rule = "required"
		case v.rule == "twice":
			v.rule = "cast"
			parts = append(parts, p.Name+"=1", p.Name+"="+v.value.(string))
		default:
			parts = append(parts, p.Name+"="+v.value.(string))
		}
		faults = append(faults, fault{"$." + p.Name, "query_parameter", v.rule})
	}
	if name := pick(m, "", "unknown", "id_", "Page"); name != "" {
		parts = append(parts, name+"=1")
		faults = append(faults, fault{"$." + name, "query_parameter", "schema"})
	}
	if m.IntN(6) == 0 {
		parts = append(parts, "a=%zz")
		faults = append(faults, fault{"$", "query_parameter", "format"})
	}
	m.Shuffle(len(parts), func(i, k int) { parts[i], parts[k] = parts[k], parts[i] })
	q := m.right().to(path)
	if all := strings.Trim(strings.Join(parts, "&"), "&"); all != "" {
		q = q.to(path + "?" + all)
	}
	if m.hasBody() {
		body, broken := m.brokenBody(1 + m.IntN(4))
		q, faults = q.saying(string(encode(body))), append(faults, broken...)
	}
	if len(faults) < 2 {
		return attempt{}, false
	}
	a := m.attempt("several faults", q, 422)
	a.Faults = faults
	return m.related(a, q), true
}

// brokenBody is the right body with rules broken at some places, none of which is inside another.
func (m maker) brokenBody(places int) (body any, faults []fault) {
	right, schema := m.body()
	body = right
	nodes := nodesOf(nil, schema, right)[1:]
	var changed [][]any
	for range places {
		if len(nodes) == 0 {
			break
		}
		at := pick(m, nodes...)
		v := pick(m, at.variants(valueAt(right, at.place))...)
		near := func(other []any) bool {
			n := min(len(other), len(v.place))
			return slices.Equal(other[:n], v.place[:n])
		}
		if v.rule == "" || slices.ContainsFunc(changed, near) {
			continue
		}
		body, changed = with(body, v.place, v.value), append(changed, v.place)
		faults = append(faults, fault{v.entry, "json_data_property", v.rule})
	}
	return body, faults
}

// holds reports whether a value of JSON has such a place.
func holds(body any, place []any) bool {
	for _, step := range place {
		switch container := body.(type) {
		case map[string]any:
			name, ok := step.(string)
			value, there := container[name]
			if !ok || !there {
				return false
			}
			body = value
		case []any:
			i, ok := step.(int)
			if !ok || i >= len(container) {
				return false
			}
			body = container[i]
		default:
			return false
		}
	}
	return true
}

func (m maker) oddRoot() (attempt, bool) {
	if !m.hasBody() {
		return attempt{}, false
	}
	if m.IntN(4) == 0 {
		want := []int{400}
		if !m.RequestBody.Value.Required {
			want = nil
		}
		a := m.attempt("no body", m.right().saying(pick(m, "", " ", "\r\n\t")), want...)
		a.Fits = want == nil
		return a, true
	}
	text := pick(m, append([]string{"[]", "null", "true", `"x"`, "0", "[{}]", `""`}, oddNumbers...)...)
	a := m.attempt("body is no object", m.right().saying(text), 422)
	a.Faults = []fault{{"$", "json_data_property", "cast"}}
	return a, true
}

// queryParameters are those of the query.
func (m maker) queryParameters() (all []*openapi3.Parameter) {
	for _, p := range m.Parameters {
		if p.Value.In == "query" {
			all = append(all, p.Value)
		}
	}
	return all
}

// setQuery is the right request with one parameter as written. The other required ones stay.
func (m maker) setQuery(name, written string) request {
	path, query, _ := strings.Cut(m.target("", ""), "?")
	parts := slices.DeleteFunc(strings.Split(query, "&"), func(part string) bool {
		return part == "" || strings.HasPrefix(part, name+"=")
	})
	return m.right().to(path + "?" + strings.Join(append(parts, written), "&"))
}

func (m maker) query() (attempt, bool) {
	parameters := m.queryParameters()
	if len(parameters) == 0 || m.IntN(8) == 0 {
		name := pick(m, "unknown", "ID", "Page", "limit[]", "a.b", "%00", "%D1%8F", "__proto__", "")
		plain, _ := url.QueryUnescape(name)
		a := m.attempt("unknown parameter", m.setQuery(name, name+"=1"), 422)
		if plain != "" {
			a.Faults = []fault{{"$." + plain, "query_parameter", "schema"}}
		}
		return a, true
	}
	if m.IntN(8) == 0 {
		a := m.attempt("query is not encoded", m.setQuery("", pick(m, "page=%zz", "a=%", "a;b", "%=1", "a=%f")), 422)
		a.Faults = []fault{{"$", "query_parameter", "format"}}
		return a, true
	}
	p := pick(m, parameters...)
	all := parameterVariants(p.Schema.Value)
	v := pick(m, all...)
	written := p.Name + "=" + v.value.(string)
	if v.rule == "twice" {
		written, v.rule = p.Name+"=1&"+written, "cast"
	}
	q := m.setQuery(p.Name, written)
	a := m.attempt("parameter fits", q)
	if v.rule != "" {
		a = m.attempt("parameter breaks "+v.rule, q, 422)
		a.Faults = []fault{{"$." + p.Name, "query_parameter", v.rule}}
	} else {
		a.Fits = true
	}
	a = m.related(a, q)
	if p.Required && m.IntN(10) == 0 {
		path, _, _ := strings.Cut(m.target("", ""), "?")
		a = m.attempt("required parameter is missing", m.right().to(path), 422)
		a.Faults = []fault{{"$." + p.Name, "query_parameter", "required"}}
	}
	return a, true
}

// related adds the faults of parameters that do not fit together. The document tells them in words only; they are in
// the contract, section 6.
func (m maker) related(a attempt, q request) attempt {
	if m.id != "listEvents" {
		return a
	}
	_, query, _ := strings.Cut(q.target, "?")
	values, _ := url.ParseQuery(query) //nolint:errcheck // what cannot be read is not given
	given := func(name string) bool { return values.Get(name) != "" }
	var found []fault
	for _, name := range []string{"after", "limit"} {
		if given(name) && slices.ContainsFunc(m.queryParameters(), func(p *openapi3.Parameter) bool {
			return p.Name != "after" && p.Name != "limit" && given(p.Name)
		}) {
			found = append(found, fault{"$." + name, "query_parameter", "invalid"})
		}
	}
	if given("new_value") && !given("attribute_name") {
		found = append(found, fault{"$.attribute_name", "query_parameter", "required"})
	}
	for _, f := range found {
		a.Fits, a.Want = false, []int{422}
		// Of a parameter that is wrong by itself only that is told.
		if !slices.ContainsFunc(a.Faults, func(other fault) bool { return other.Entry == f.Entry }) {
			a.Faults = append(a.Faults, f)
		}
	}
	return a
}

// parameterVariants are values of a parameter of the query, as they are written in a URL.
func parameterVariants(s *openapi3.Schema) (all []variant) {
	add := func(rule string, values ...string) {
		for _, v := range values {
			all = append(all, variant{rule: rule, value: v})
		}
	}
	add("cast", "")
	switch {
	case s.Type.Is("integer"):
		add("twice", "1")
		add(
			"cast", "ten", "1.0", "1e2", "1e400", "0x1", "1,2", "%20", "%00", "%FF", "NaN", "1_0", "%D9%A1", "1%202", "--1",
		)
		least := int(*s.Min)
		add(
			"range",
			strconv.Itoa(least-1),
			"-0", "-9223372036854775808", "9223372036854775808", "-99999999999999999999", "99999999999999999999",
		)
		add("", strconv.Itoa(least))
		if s.Max == nil {
			add("", "9007199254740993", "9223372036854775807", "1000000")
			break
		}
		most := int(*s.Max)
		add("range", strconv.Itoa(most+1), "9007199254740993", "9223372036854775807")
		add("", strconv.Itoa(most), strconv.Itoa(most-1), "00"+strconv.Itoa(most))
	case s.Type.Is("boolean"):
		add("twice", "true")
		add("cast", "maybe", "1", "0", "TRUE", "t", "yes", "%00", "null", "true%20")
		add("", "true", "false")
	case s.Enum != nil:
		add("inclusion", "x", strings.ToUpper(s.Enum[0].(string)), s.Enum[0].(string)+"%20", "null")
		add("format", "%00")
		for _, value := range s.Enum {
			add("", value.(string))
		}
	case s.Pattern != "":
		add("format", "x", "%00", "%FF", "8be63914-a278-470b-b868-1af5b9087332%0A", "..%2F..", "null")
		add("", s.Examples[0].(string))
	default:
		add("twice", "x")
		add("format", "%00", "%FF", "a%C0%80", "%ED%A0%80")
		for _, text := range oddTexts[1:] {
			add("", url.QueryEscape(text))
		}
		if s.MaxLength != nil {
			most := int(*s.MaxLength)
			for _, letter := range []string{"a", "я", "\U0001F9EC"} {
				add("length", url.QueryEscape(strings.Repeat(letter, most+1)))
				add("", url.QueryEscape(strings.Repeat(letter, most)))
			}
		}
	}
	return all
}

func (m maker) manyQueries() (attempt, bool) {
	var parts []string
	for range 1 + m.IntN(8) {
		for _, p := range m.queryParameters() {
			if m.IntN(2) == 0 {
				parts = append(parts, p.Name+"="+pick(m, parameterVariants(p.Schema.Value)...).value.(string))
			}
		}
		parts = append(parts, pick(m, "", "a", "=", "=&=", "%", "page=1", "x="+strings.Repeat("y", m.IntN(3000))))
	}
	path, _, _ := strings.Cut(m.target("", ""), "?")
	return m.attempt("many parameters", m.right().to(path+"?"+strings.Join(parts, "&"))), true
}

func (m maker) pathParameter() (attempt, bool) {
	for _, p := range m.Parameters {
		if p.Value.In != "path" {
			continue
		}
		value := pick(
			m, "x", "0", "%00", "%FF", "null", "%D1%8F", "8be63914-a278-470b-b868-1af5b90873321", "...",
			"urn:uuid:8be63914-a278-470b-b868-1af5b9087332", "%7B8be63914-a278-470b-b868-1af5b9087332%7D", "*", "{x}", "%25",
			"{{letters 4000}}", "'", "8be63914-a278-470b-b868-1af5b9087332%0A",
		)
		q := m.right().to(m.target(p.Value.Name, value))
		a := m.attempt("path parameter breaks format", q, 422)
		a.Faults = []fault{{"$." + p.Value.Name, "path_parameter", "format"}}
		return a, true
	}
	return attempt{}, false
}

func (m maker) wrongPath() (attempt, bool) {
	path, query, _ := strings.Cut(m.target("", ""), "?")
	target := pick(
		m, path+"/", "/"+path,
		strings.Replace(path, "/api/", "/api//", 1),
		path+"/.", path+"/..", "/x/.."+path,
		strings.Replace(
			path, "/api/", "/api/./", 1,
		),
		strings.ToUpper(path[:5])+path[5:],
		path+"/x/y/z", "/api", "/", "/api/",
		strings.Replace(
			path, "/api/", "/api%2F", 1,
		),
		path+"%2F", "/%2e%2e"+path, path+";a=b/x", "/api/{{letters 30000}}",
		"/"+strings.Repeat(
			"a/", 3000,
		)+"a",
		path+"%00/x/y", "/\\api", "/.well-known/x", "/%FF%FE", "/favicon.ico", path+"%20/x",
	)
	if query != "" {
		target += "?" + query
	}
	a := m.attempt("unknown route", m.right().to(target), 404)
	a.Operation = ""
	return a, true
}

// methods of the operation's path, as Allow lists them.
func (m maker) methods() []string {
	var all []string
	for method := range m.item.Operations() {
		all = append(all, method)
		if method == http.MethodGet {
			all = append(all, http.MethodHead)
		}
	}
	slices.Sort(all)
	return all
}

func (m maker) wrongMethod() (attempt, bool) {
	allowed := m.methods()
	method := pick(
		m, "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get", "X", "SEARCH",
		strings.Repeat("A", 500),
		"!", "PRI",
	)
	if slices.Contains(allowed, method) {
		return attempt{}, false
	}
	q := m.right()
	q.method = method
	a := m.attempt("wrong method", q, 405)
	a.Operation, a.Allow = "", strings.Join(allowed, ", ")
	return a, true
}

func (m maker) head() (attempt, bool) {
	if m.method != http.MethodGet {
		return attempt{}, false
	}
	q := m.right()
	q.method = http.MethodHead
	return m.attempt("HEAD", q), true
}

func (m maker) idempotencyKey() (attempt, bool) {
	if !m.hasBody() {
		a := m.attempt("Idempotency-Key of a GET", m.right().and("Idempotency-Key: "+pick(m, "", "x", "\xff")))
		a.Fits = true
		return a, true
	}
	if m.IntN(2) == 0 {
		value := pick(
			m, "{{unique}}", `"{{unique}}"`, `"{{unique}}\""`, "x{{letters 254}}", "same", "a b", "{{unique}}, x", ",",
		)
		a := m.attempt("Idempotency-Key", m.right().and("Idempotency-Key: "+value))
		if value != "same" && value != "," && value != "a b" && !strings.HasPrefix(value, "x{{") {
			a.Fits = true
		}
		return a, true
	}
	q := m.right().
		and("Idempotency-Key: " + pick(m, "", "x{{letters 255}}", "\xff", "Подпис", `"`, `"x`, `"\x"`, `"x" y`, "a\tb", `""`,
			"é"))
	if m.IntN(6) == 0 {
		q = m.right().and("Idempotency-Key: {{unique}}", "Idempotency-Key: {{unique}}")
	}
	return m.attempt("wrong Idempotency-Key", q, 400), true
}

func (m maker) prefer() (attempt, bool) {
	value := pick(
		m, "wait=0", "wait=1", "wait=-1", "wait=", "wait", "wait=1.5", "wait=x", `wait="`, "respond-async", ",,,;;;",
		"\xff", `x="a, wait=30`, "{{letters 5000}}", `"wait=30"`, "x; wait=30",
	)
	a := m.attempt("Prefer", m.right().and("Prefer: "+value))
	a.Fits = true
	return a, true
}

// oddHeader sends headers that the service has no use for, or reads itself.
func (m maker) oddHeader() (attempt, bool) {
	name := pick(
		m, "X-Request-Id", "X-Custom-PSK", "If-Match", "If-None-Match", "Range", "X-HTTP-Method-Override", "Forwarded",
		"X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-For", "traceparent", "tracestate", "baggage", "Cookie",
		"Referer", "Origin", "Access-Control-Request-Method", "Upgrade", "TE", "Trailer", "Accept-Encoding",
		"Accept-Language", "Accept-Charset", "User-Agent", "Via", "Max-Forwards", "Date", "Cache-Control", "Sec-Fetch-Mode",
		"X", "Proxy-Authorization",
	)
	value := pick(
		m, "", " ", "x", "\xff\xfe", "{{letters 8000}}", "a,b,c", "*", "-1", "0", "bytes=0-", "00-0-0-0", "\t", `"`,
		"<script>", "http://[::1", "😀", "chunked", "100-continue", "h2c", "websocket",
	)
	lines := []string{name + ": " + value}
	if m.IntN(3) == 0 {
		lines = append(lines, lines[0], name+": other")
	}
	a := m.attempt("odd header", m.right().and(lines...))
	a.Fits = true
	return a, true
}

func (m maker) largeHeader() (attempt, bool) {
	if m.IntN(3) == 0 { // 60 KiB in many lines
		a := m.attempt("many headers", m.right().and(slices.Repeat([]string{"X-Many: {{letters 20}}"}, 1900)...))
		a.Fits = true
		return a, true
	}
	q := m.right().and("X-Large: {{letters 100000}}")
	if m.IntN(2) == 0 {
		q = m.right().and(slices.Repeat([]string{"X-Many: {{letters 20}}"}, 4000)...)
	}
	a := m.attempt("headers are too large", q, 431)
	a.Operation = ""
	return a, true
}

// framing sends what a proxy and the service might read differently.
func (m maker) framing() (attempt, bool) {
	q := m.right()
	head := func(lines ...string) octets {
		other := q.saying("").and(lines...)
		return other.octets()
	}
	body := octets(q.body)
	if body == "" {
		body = "{}"
	}
	size := octets(strconv.FormatInt(int64(len(body)), 16))
	length := fmt.Sprintf("Content-Length: %d", len(body))
	chunked := "Transfer-Encoding: chunked"
	refused := func(text octets) attempt { // before the service knows the operation
		return attempt{Kind: "wrong framing", Method: q.method, Request: text, Want: []int{400}}
	}
	broken := func(text octets) attempt { // where the body is read
		a := attempt{
			Kind:      "broken chunks",
			Operation: m.id,
			Method:    q.method,
			Request:   head(chunked) + text,
			Want:      []int{400},
		}
		if !m.hasBody() {
			a.Want = nil // the body is not read
		}
		return a
	}
	fits := func(kind string, text octets) attempt {
		return attempt{Kind: kind, Operation: m.id, Method: q.method, Request: text, Fits: true}
	}
	bare := q.without("Host")
	return pick(
		m,
		refused(head(length, chunked)+size+"\r\n"+body+"\r\n0\r\n\r\n"),
		refused(head(chunked, length)+"0\r\n\r\n"),
		refused(head(chunked, "Content-Length: 0")+"0\r\n\r\n"),
		refused(head(length, "Content-Length: 1")+body),
		refused(head("Content-Length: -1")+body),
		refused(head("Content-Length: +2")+"{}"),
		refused(head("Content-Length: 0x2")+"{}"),
		refused(head("Content-Length: 1e1")+body),
		refused(head("Content-Length: 2 2")+"{}"),
		refused(head("Content-Length: 2, 2")+"{}"),
		refused(head("Content-Length: 99999999999999999999")+body),
		refused(head("Content-Length: ")+body),
		refused(head("Content-Length : 2")+"{}"),
		refused(head("Transfer-Encoding : chunked")+"0\r\n\r\n"),
		refused(head("X\x00: y")),
		refused(head("X: a\x00b")),
		refused(head("X: a\rb")),
		refused(head(": x")),
		refused(head("no colon")),
		refused(head("Host: other.test")),
		refused(bare.octets()),
		refused(bare.and("Host: a b").octets()),
		refused(bare.and("Host: a/b?c").octets()),
		refused(octets(q.method+" "+q.target+"\r\n\r\n")),
		refused(octets(q.method+"  "+q.target+" HTTP/1.1\r\nHost: x\r\n\r\n")),
		refused(octets(q.method+" "+q.target+" HTTP/1.1 x\r\nHost: x\r\n\r\n")),
		refused(octets(q.method+" "+q.target+" HTTP/1,1\r\nHost: x\r\n\r\n")),
		refused(octets(q.method+" "+q.target+" HTTP/9.9\r\nHost: x\r\n\r\n")),
		refused(octets("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")),
		refused(octets("\x00\r\n\r\n")),
		attempt{
			Kind:    "wrong coding",
			Method:  q.method,
			Request: head("Transfer-Encoding: gzip") + body,
			Want:    []int{400},
		},
		attempt{Kind: "wrong coding", Method: q.method, Request: head("Transfer-Encoding: gzip, chunked") + "0\r\n\r\n",
			Want: []int{400}},
		attempt{
			Kind:    "wrong coding",
			Method:  q.method,
			Request: head(chunked, chunked) + "0\r\n\r\n",
			Want:    []int{400},
		},
		broken("zz\r\n"+body+"\r\n0\r\n\r\n"),
		broken("-1\r\n"+body+"\r\n0\r\n\r\n"),
		broken("fffffffffffffffff\r\n"+body),
		broken("2"+"\r\n"+"{}x\r\n0\r\n\r\n"),
		broken("\r\n0\r\n\r\n"),
		broken("0x2\r\n{}\r\n0\r\n\r\n"),
		broken(octets(strings.Repeat("1;", 5000))+"\r\n{\r\n0\r\n\r\n"),
		fits("chunks", head(chunked)+size+"\r\n"+body+"\r\n0\r\n\r\n"),
		fits("chunks with extensions", head(chunked)+size+";a=b;c=\"d\"\r\n"+body+"\r\n0\r\nX-Trailer: y\r\n\r\n"),
		fits("line feeds only", octets(strings.ReplaceAll(string(q.octets()), "\r\n", "\n"))),
		fits("absolute target", q.to("http://elsewhere.test"+q.target).octets()),
		fits("HTTP/1.0", request{q.method, q.target, "HTTP/1.0", q.header, q.body}.octets()),
	), true
}

func (m maker) pipeline() (attempt, bool) {
	q := m.right()
	a := m.attempt("pipeline", q)
	a.Answers = 2 + m.IntN(9)
	if q.body != "" { // {{length}} counts to the end of the text: here each request needs a length of its own
		head := q.and(fmt.Sprintf("Content-Length: %d", len(q.body))).saying("")
		a.Request = head.octets() + octets(q.body)
	}
	a.Request = octets(strings.Repeat(string(a.Request), a.Answers))
	a.Fits = true
	return a, true
}

func (m maker) halfOpen() (attempt, bool) {
	q := m.right()
	if m.IntN(2) == 0 || !m.hasBody() { // all is said
		a := m.attempt("half open after the request", q)
		a.HalfOpen, a.Closed, a.Fits = true, true, true
		return a, true
	}
	whole := q.octets()
	a := m.attempt("half open within the body", q, 400)
	a.Request, a.HalfOpen = octets(strings.Replace(string(whole), "{{length}}", strconv.Itoa(len(q.body)+10), 1)), true
	return a, true
}

// noise changes some bytes of a right request at random.
func (m maker) noise() (attempt, bool) {
	q := m.right()
	text := []byte(q.octets())
	if q.body != "" {
		text = []byte(strings.Replace(string(text), "{{length}}", strconv.Itoa(len(q.body)), 1))
	}
	for range 1 + m.IntN(4) {
		at := m.IntN(len(text))
		switch m.IntN(3) {
		case 0:
			text[at] = byte(m.IntN(256))
		case 1:
			text = slices.Delete(text, at, min(at+1+m.IntN(3), len(text)))
		default:
			text = slices.Insert(text, at, byte(m.IntN(256)))
		}
		if len(text) == 0 {
			return attempt{}, false
		}
	}
	a := attempt{Kind: "noise", Method: http.MethodGet, Request: octets(text), HalfOpen: true, Closed: true,
		Want: []int{200, 201, 202, 400, 401, 404, 405, 406, 409, 413, 415, 417, 422, 429, 431}}
	return a, true
}
