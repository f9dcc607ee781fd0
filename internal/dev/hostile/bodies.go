package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// node is a place in the right body of an operation.
type node struct {
	place  []any // names and indexes
	schema *openapi3.Schema
}

// entry is the place as an answer names it.
func (n node) entry() string {
	text := "$"
	for _, step := range n.place {
		if name, ok := step.(string); ok {
			text += "." + name
		} else {
			text += fmt.Sprintf("[%d]", step)
		}
	}
	return text
}

// inCoding reports whether the place is a coding: rules that the document cannot tell hold there (a reference is of one
// resource).
func (n node) inCoding() bool { return slices.Contains(n.place, any("coding")) }

// listed is a value of the list to which the contract (4.1) holds a text of a coding; empty: any text will do. The
// document does not tell these lists. Whether the code of a reason is in its dictionary is a later check.
func (n node) listed() string {
	switch {
	case !n.inCoding() || !n.schema.Type.Is("string"):
		return ""
	case n.place[len(n.place)-1] == any("system"):
		return "eHealth/resources"
	case slices.Contains(n.place, any("identifier")):
		return "legal_entity"
	}
	return ""
}

// nodesOf walks a right body beside its schema.
func nodesOf(place []any, schema *openapi3.Schema, value any) []node {
	found := []node{{slices.Clone(place), schema}}
	switch v := value.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if property := schema.Properties[name]; property != nil {
				found = append(found, nodesOf(append(place, name), property.Value, v[name])...)
			}
		}
	case []any:
		for i := range v {
			found = append(found, nodesOf(append(place, i), schema.Items.Value, v[i])...)
		}
	}
	return found
}

// body is the example of the document, with all optional properties that hold a plain value.
func (o operation) body() (map[string]any, *openapi3.Schema) {
	media := o.RequestBody.Value.Content["application/json"]
	value := copied(media.Example).(map[string]any)
	schema := media.Schema.Value
	for name, property := range schema.Properties {
		_, there := value[name]
		if s := property.Value; !there && s.Type.Is("string") && len(s.Examples) > 0 {
			value[name] = s.Examples[0]
		}
	}
	return value, schema
}

// copied is a deep copy of a JSON value.
func copied(value any) any {
	var other any
	decoder := json.NewDecoder(bytes.NewReader(encode(value)))
	decoder.UseNumber() // an odd number stays as it is written
	if err := decoder.Decode(&other); err != nil {
		panic(err) // the document holds only JSON
	}
	return other
}

func encode(value any) []byte {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		panic(err) // the walker puts only JSON together
	}
	return bytes.TrimSpace(text.Bytes())
}

// with is a copy of a body that has another value at a place; absent: none.
func with(body any, place []any, value any) any {
	root := []any{copied(body)}
	at, steps := any(root), append([]any{0}, place...)
	for i, step := range steps {
		last := i == len(steps)-1
		switch container := at.(type) {
		case map[string]any:
			name := step.(string)
			switch {
			case last && value == absent:
				delete(container, name)
			case last:
				container[name] = value
			}
			at = container[name]
		case []any:
			if last {
				container[step.(int)] = value
			}
			at = container[step.(int)]
		}
	}
	return root[0]
}

// nothing has a single value, which takes a property away.
type nothing struct{}

var absent any = nothing{}

// raw is JSON text as it stands.
func raw(text string) json.RawMessage { return json.RawMessage(text) }

// variant is another value at a place of a body, and what it has to bring.
type variant struct {
	place []any
	value any
	rule  string // empty: the value fits
	entry string
}

// oddNumbers are numbers of JSON that a float64 does not hold, or not as they are written.
var oddNumbers = []string{"1e400", "-1e400", "1e-400", "-0", "-0.0", "1.0", "9007199254740993", "18446744073709551616",
	"0.1e1", "1E+2"}

// oddTexts are strings that fit wherever a free text fits.
var oddTexts = []string{
	"", " ", "е\u0301", "\u202eevil", "\u200b", "\U0001F9EC", "\ufffd", "\ufffe", "\u0085\u2028",
	"<script>alert(1)</script>", "'; DROP TABLE prm.licenses; --", `\`, `"`, "%s%n", "\x7f", "\t\n\r\b", "{{", "\ufeff",
	"NaN",
}

var wrongDates = []string{
	"", "x", "2017-02-29", "0000-01-01", "0000-12-31", "2026-13-01", "2026-00-10", "2026-1-1", "10000-01-01",
	"-0001-01-01", " 2026-01-01", "2026-01-01 ", "2026-01-01T00:00:00Z", "２０２６-01-01", "2026-01-01\u0000", "2026/01/01",
}

var wrongUUIDs = []string{
	"", "x", "{8be63914-a278-470b-b868-1af5b9087332}", "urn:uuid:8be63914-a278-470b-b868-1af5b9087332",
	"8be63914a278470bb8681af5b9087332", "8be63914-a278-470b-b868-1af5b90873321", "8be63914-a278-470b-b868-1af5b908733",
	"8be63914-a278-470b-b868-1af5b908733\u0000", "８be63914-a278-470b-b868-1af5b9087332",
	"8be63914-a278-470b-b868-1af5b9087332\n",
}

// variants are the values that the schema of a place tells: at the limits, beyond them, and of other types.
func (n node) variants(present any) (all []variant) {
	s, entry := n.schema, n.entry()
	wrong := func(rule string, values ...any) {
		for _, v := range values {
			all = append(all, variant{n.place, v, rule, entry})
		}
	}
	if value := n.listed(); value != "" {
		wrong("inclusion", "", "x", value+" ", strings.ToUpper(value), "\x00")
	}
	fits := func(values ...any) {
		if !n.inCoding() {
			wrong("", values...)
		}
	}
	if !s.Type.IncludesNull() {
		wrong("cast", nil)
	}
	if !s.Type.Includes("object") {
		wrong("cast", map[string]any{}, map[string]any{"a": []any{nil}})
	}
	if !s.Type.Includes("array") {
		wrong("cast", []any{}, []any{[]any{}}, []any{"x", nil})
	}
	if !s.Type.Includes("boolean") {
		wrong("cast", true, false)
	}
	if !s.Type.Includes("string") {
		wrong("cast", "", "true", "\x00", strings.Repeat("x", 70000))
	}
	for _, number := range oddNumbers {
		wrong("cast", raw(number))
	}
	switch {
	case s.Format == "uuid":
		for _, text := range wrongUUIDs {
			wrong("format", text)
		}
	case s.Format == "date":
		for _, text := range wrongDates {
			wrong("date", text)
		}
		fits("0001-01-01", "9999-12-31", "2024-02-29")
	case s.Type.Includes("string") && s.Enum == nil && s.MaxLength != nil:
		most := int(*s.MaxLength)
		for _, letter := range []string{"a", "я", "\U0001F9EC", "\u0301", "\u202e"} {
			wrong("length", strings.Repeat(letter, most+1))
			fits(strings.Repeat(letter, most), strings.Repeat(letter, most-1))
		}
		wrong("format", "\x00", "a\x00b")
		for _, text := range oddTexts {
			fits(text)
		}
	case s.Type.Includes("array"):
		items := present.([]any)
		if s.MinItems > 0 {
			wrong("length", []any{})
		}
		if s.MaxItems != nil {
			wrong("length", slices.Repeat(items[:1], int(*s.MaxItems)+1))
		}
	case s.Type.Includes("object"):
		object := present.(map[string]any)
		for _, name := range s.Required {
			all = append(all, variant{append(slices.Clone(n.place), name), absent, "required", entry + "." + name})
		}
		for _, name := range slices.Sorted(maps.Keys(object)) {
			upper := strings.ToUpper(name)
			if s.AdditionalProperties.Has != nil && !*s.AdditionalProperties.Has {
				all = append(
					all,
					variant{append(slices.Clone(n.place), upper), object[name], "schema", entry + "." + upper},
				)
			}
		}
		unknown := variant{append(slices.Clone(n.place), "unknown"), "x", "schema", entry + ".unknown"}
		if s.AdditionalProperties.Has != nil && *s.AdditionalProperties.Has {
			for _, value := range []any{nil, "x", map[string]any{"a": nil}, []any{[]any{}}} {
				unknown.value, unknown.rule = value, ""
				all = append(all, unknown)
			}
			for _, number := range oddNumbers {
				unknown.value = raw(number)
				all = append(all, unknown)
			}
		} else {
			all = append(all, unknown)
		}
	}
	return all
}

// valueAt is the value of a body at a place.
func valueAt(body any, place []any) any {
	for _, step := range place {
		switch container := body.(type) {
		case map[string]any:
			body = container[step.(string)]
		case []any:
			body = container[step.(int)]
		}
	}
	return body
}
