package bundle_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestParametersHaveTheTypeThatRulesExpect: a bundle is refused if the value of a parameter does not have the type that
// the rules expect.
func TestParametersHaveTheTypeThatRulesExpect(t *testing.T) {
	r := open(t)
	before := r.dump(t)
	const (
		list     = "expected a list of strings, got "
		aBoolean = "expected true or false"
	)
	for _, c := range []struct{ name, value, want string }{
		{"me_allowed_transactions_le_types", `"OUTPATIENT"`, list + `a string: write ["OUTPATIENT"]`},
		{"me_allowed_transactions_le_types", `true`, list + "a boolean"},
		{"me_allowed_transactions_le_types", `{}`, list + "an object"},
		{"me_allowed_transactions_le_types", `null`, list + "null"},
		{"LEGAL_ENTITY_OUTPATIENT_ADDITIONAL_LICENSE_TYPES", `"PHARMACY_DRUGS"`, list + `a string: write ["PHARMACY_DRUGS"]`},
		{"LEGAL_ENTITY_MSP_LIMITED_ADDITIONAL_LICENSE_TYPES", `false`, list + "a boolean"},
		{"BIG_DICTIONARIES", `"POSITION"`, list + `a string: write ["POSITION"]`},
		{"release_requires_holder", `"false"`, aBoolean + " without quotes, got a string"},
		{"release_requires_holder", `["true"]`, aBoolean + ", got an array"},
		{"release_requires_holder", `0`, aBoolean + ", got a number"},
	} {
		err := r.load(t, "test.json", fmt.Sprintf(`{"parameters": [{"name": %q, "value": %s}]}`, c.name, c.value))
		if err == nil || !strings.HasSuffix(err.Error(), ": parameters[0].value: "+c.want) {
			t.Errorf("%s: %s: got %v, want %s", c.name, c.value, err, c.want)
		}
	}
	if after := r.dump(t); after["prm.parameters"] != before["prm.parameters"] {
		t.Errorf("something was loaded: %s", after["prm.parameters"])
	}
	for name, value := range map[string]string{
		"me_allowed_transactions_le_types": `[]`, "release_requires_holder": `false`, "without_rule": `"text"`,
		"LEGAL_ENTITY_TYPES": `true`,
	} {
		r.mustLoad(t, fmt.Sprintf(`{"parameters": [{"name": %q, "value": %s}]}`, name, value))
	}
}

// TestParametersOfRulesAreKnown: parameterKind knows each parameter that a query reads. The test loads a number, which
// is wrong for every type, and expects the refusal to name the one type.
func TestParametersOfRulesAreKnown(t *testing.T) {
	r := open(t)
	files, err := filepath.Glob("../../sql/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	read := regexp.MustCompile(`p\.name = '([^']+)'(?: \|\| le\.type \|\| '([^']+)')?`)
	names := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := read.FindAllStringSubmatch(string(text), -1)
		if n := strings.Count(string(text), " prm.parameters p"); n != len(found) {
			t.Errorf("%s reads parameters at %d places, but only %d names were found", file, n, len(found))
		}
		for _, m := range found {
			name := m[1]
			if m[2] != "" {
				name += "OUTPATIENT" + m[2]
			}
			names[name] = true
		}
	}
	if len(names) < 3 {
		t.Errorf("parameters %v", names)
	}
	for name := range names {
		err := r.load(t, "test.json", fmt.Sprintf(`{"parameters": [{"name": %q, "value": 1}]}`, name))
		if err == nil || strings.Contains(err.Error(), "a list of strings, a boolean or a string") {
			t.Errorf("parameterKind does not know %s: %v", name, err)
		}
	}
}

// TestByteOrderMark: JSON and YAML may begin with a byte order mark, with and without an extension of the file.
func TestByteOrderMark(t *testing.T) {
	r := open(t)
	for i, c := range []struct{ file, text string }{
		{"test.json", `{"parameters": [{"name": "mark%d", "value": true}]}`},
		{"test", ` {"parameters": [{"name": "mark%d", "value": true}]}`},
		{"test.yaml", "parameters: [{name: mark%d, value: true}]"},
		{"test", "parameters: [{name: mark%d, value: true}]"},
	} {
		if err := r.load(t, c.file, "\ufeff"+fmt.Sprintf(c.text, i)); err != nil {
			t.Errorf("%s: %v", c.text, err)
		}
		if got := r.value(t, `SELECT value FROM prm.parameters WHERE name = $1`, fmt.Sprintf("mark%d", i)); got != "true" {
			t.Errorf("%s: %s", c.text, got)
		}
	}
}
