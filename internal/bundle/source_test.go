package bundle

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// FuzzParser compares the values of the parser with those of encoding/json.
func FuzzParser(f *testing.F) {
	for _, seed := range []string{
		`null`, ` true`, `false `, `-1.5e+10`, `""`, `"a\"b\\"`, `"\u0456\ud83d\ude00\n"`, `[]`, `[[ ],{}]`, `{}`,
		`{"a":1,"b":[true , null]}`,
		"\t{ \"a\" : { \"b\\u0020\" : [ ] } }\r\n", `"\\"`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !jsontext.Value(s).IsValid() {
			t.Skip()
		}
		var want any
		if err := json.Unmarshal([]byte(s), &want); err != nil {
			t.Skip() // a number that is too large
		}
		p := parser{text: s}
		if got := plain(p.value()); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %#v, want %#v", s, got, want)
		}
		if len(p.stack) != 0 {
			t.Errorf("%q: %d values have not ended", s, len(p.stack))
		}
	})
}

// plain converts a node to the value that encoding/json would make.
func plain(n node) any {
	var value any
	switch n.kind {
	case array:
		values := []any{}
		for _, m := range n.members {
			values = append(values, plain(m.value))
		}
		return values
	case object:
		values := map[string]any{}
		for _, m := range n.members {
			values[m.name] = plain(m.value)
		}
		return values
	case text:
		return n.text
	case number, boolean:
		json.Unmarshal([]byte(n.text), &value)
	}
	return value
}
