package bundle_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/reiestr/reiestr/internal/bundle"
)

// importText imports a file with this text.
func (r registry) importText(t *testing.T, text string, dryRun bool) (bundle.Import, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "dictionaries.json")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	done, err := bundle.ImportDictionaries(t.Context(), r.DB, file, dryRun)
	if err != nil {
		err = errors.New(strings.ReplaceAll(err.Error(), file, "dictionaries.json"))
	}
	return done, err
}

// answered is an answer of the method as the central system gives it, with fields that are unknown here.
const answered = `{"meta": {"code": 200, "type": "list", "request_id": "x"}, "paging": null, "data": [
	{"id": "1", "name": "LICENSE_TYPE", "description": "Types", "is_active": true, "is_editable": false, "labels": ["SYSTEM", "ADMIN"],
		"inserted_at": "2020-01-01", "values": [
		{"id": 1, "code": "MSP", "description": "anew", "is_active": true, "child_values": [], "parent_id": null},
		{"code": "PHARMACY", "description": "Аптека", "is_active": false, "child_values": null},
		{"code": "SPA", "description": null, "is_active": null}]},
	{"name": "TREE", "description": null, "is_active": false, "labels": null, "values": [
		{"code": "ROOT", "description": "Root", "is_active": true, "child_values": [
			{"code": "BRANCH", "description": "", "is_active": true, "child_values": [
				{"code": "LEAF", "description": "Leaf", "is_active": false}]}]}]}]}`

// TestImportTakesTheRawAnswer: the answer of the central system is imported as it is. Each of its dictionaries replaces
// the stored one with all values, the others stay, and the changes are told.
func TestImportTakesTheRawAnswer(t *testing.T) {
	r := open(t)
	others := r.value(t, `SELECT count(*) - 1 FROM prm.dictionaries`)
	before := r.dump(t)
	want := bundle.Import{Dictionaries: []bundle.DictionaryChange{
		{Name: "LICENSE_TYPE", IsActive: true, Described: true, Added: []string{"SPA"}, Removed: []string{"PHARMACY_DRUGS"},
			Deactivated: []string{"PHARMACY"}, Redescribed: []string{"MSP"}},
		{Name: "TREE", IsNew: true, Added: []string{"ROOT", "BRANCH", "LEAF"}},
	}}
	for _, dryRun := range []bool{true, false} {
		done, err := r.importText(t, answered, dryRun)
		if err != nil {
			t.Fatal(err)
		}
		if r.value(t, `SELECT $1::int = $2::text::int`, done.Others, others) != "true" {
			t.Errorf("%d other dictionaries, want %s", done.Others, others)
		}
		done.Others = 0
		if !reflect.DeepEqual(done, want) {
			t.Errorf("dry run %t\n got %+v\nwant %+v", dryRun, done, want)
		}
		if dryRun && !reflect.DeepEqual(r.dump(t), before) {
			t.Error("a dry run has changed something")
		}
	}
	for sql, want := range map[string]string{
		`SELECT concat_ws('|', description, labels, is_active) FROM prm.dictionaries WHERE name = 'LICENSE_TYPE'`: "Types|{SYSTEM,ADMIN}|t",
		`SELECT concat_ws('|', description, labels, is_active) FROM prm.dictionaries WHERE name = 'TREE'`:         "|{}|f",
		`SELECT string_agg(concat_ws('|', code, description, is_active), ' ' ORDER BY code)
			FROM prm.dictionary_values WHERE dictionary = 'LICENSE_TYPE'`: "MSP|anew|t PHARMACY|Аптека|f SPA||t",
		`SELECT string_agg(concat_ws('|', code, is_active, parent_code), ' ' ORDER BY code)
			FROM prm.dictionary_values WHERE dictionary = 'TREE'`: "BRANCH|t|ROOT LEAF|f|BRANCH ROOT|t",
	} {
		if got := r.value(t, sql); got != want {
			t.Errorf("%s\n got %s\nwant %s", sql, got, want)
		}
	}
	// The list alone is taken too. It is what is stored, so nothing changes.
	after := r.dump(t)
	_, list, _ := strings.Cut(strings.TrimSuffix(answered, "}"), `"data": `)
	done, err := r.importText(t, list, false)
	if err != nil || len(done.Dictionaries) != 2 || !done.Dictionaries[0].Nothing() || !done.Dictionaries[1].Nothing() {
		t.Errorf("the same again: %+v, %v", done, err)
	}
	if !reflect.DeepEqual(r.dump(t), after) {
		t.Error("the same again has changed something")
	}
	// Values are moved, activated and described.
	done, err = r.importText(t, `{"data": [{"name": "TREE", "values": [{"code": "LEAF", "child_values": [
		{"code": "BRANCH"}, {"code": "ROOT", "description": "Root"}]}]}]}`, false)
	want = bundle.Import{Others: done.Others, Dictionaries: []bundle.DictionaryChange{{
		Name: "TREE", IsActive: true, Switched: true, Activated: []string{"LEAF"}, Redescribed: []string{"LEAF"},
		Moved: []string{"LEAF", "BRANCH", "ROOT"},
	}}}
	if err != nil || !reflect.DeepEqual(done, want) {
		t.Errorf("moved\n got %+v, %v\nwant %+v", done, err, want)
	}
}

// TestImportNamesThePlaceOfAFault: every fault has its line and column, and then nothing of the file is imported.
func TestImportNamesThePlaceOfAFault(t *testing.T) {
	r := open(t)
	before := r.dump(t)
	const fine = `{"name": "FINE", "values": []}`
	for _, c := range []struct{ text, want string }{
		{``, `dictionaries.json:1:1: the file is empty`},
		{`7`, `dictionaries.json:1:1: expected the answer of the method, an object with the list data, or the list alone`},
		{`{"error": {}}`,
			`dictionaries.json:1:1: expected the answer of the method, an object with the list data, or the list alone`},
		{`{"data": ‸{}}`, `dictionaries.json:‸: data: expected an array, got an object`},
		{"{\"data\": [\n  " + fine + ",\n  {\"name\": \"A\" ‸\"values\": []}]}",
			"dictionaries.json:‸: data[1]: not JSON: invalid character '\"' after object value (expecting ',' or '}')"},
		{`[` + fine + `] ‸[]`, `dictionaries.json:‸: something follows the end of the bundle`},
		{"[" + fine + ",\n ‸7]", `dictionaries.json:‸: [1]: expected an object, got a number`},
		{`{"data": [` + fine + ",\n\n" + `{"name": "A", "values": [{"code": "X", "child_values": [{"code": ‸7}]}]}]}`,
			`dictionaries.json:‸: data[1].values[0].child_values[0].code: expected a string, got a number`},
		{`[` + fine + `, {"name": ‸"FINE", "values": []}]`, `dictionaries.json:‸: [1].name: is given twice`},
		{`[` + fine + `, ‸{"name": "A"}]`, `dictionaries.json:‸: [1].values: is required`},
		{`[{"name": "A", "values": [{"code": "X"}, {"code": "Y", "child_values": [{"code": ‸"X"}]}]}]`,
			`dictionaries.json:‸: [0].values[1].child_values[0].code: "X" is given twice in the dictionary`},
		{`[{"name": "A", "values": [{"code": "X", "description": ‸1, "is_active": ‸"yes"}]}]`,
			"dictionaries.json:‸: [0].values[0].description: expected a string, got a number\n" +
				"dictionaries.json:‸: [0].values[0].is_active: expected a boolean, got a string"},
	} {
		text, want := resolve(c.text, c.want)
		_, err := r.importText(t, text, false)
		if err == nil || err.Error() != want {
			t.Errorf("%s\n got %v\nwant %s", text, err, want)
		}
	}
	if !reflect.DeepEqual(r.dump(t), before) {
		t.Error("something was imported")
	}
}
