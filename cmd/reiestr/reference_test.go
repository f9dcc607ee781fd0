package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/internal/dev/testdb"
)

// TestReferenceDataPage compares docs/reference-data.md with a new database: both have the same dictionaries, codes,
// parameters and values, and each has its certainty.
func TestReferenceDataPage(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/reference-data.md")
	must(t, err)
	certain := regexp.MustCompile(`^(sure|good|fair|decided)\b`)
	tables := map[string]map[string]string{"dictionary": {}, "parameter": {}} // second column by first
	var table map[string]string
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case len(cells) < 4:
			table = nil
		case tables[cells[0]] != nil:
			table = tables[cells[0]]
		case table != nil && !strings.HasPrefix(cells[0], "---"):
			if !certain.MatchString(cells[2]) {
				t.Errorf("%s: certainty %q", cells[0], cells[2])
			}
			table[strings.Trim(cells[0], "`")] = strings.Trim(cells[1], "`")
		}
	}

	url := testdb.New(t).URL
	owner, err := db.Open(t.Context(), db.Config{URL: url, Role: db.Owner})
	must(t, err)
	defer owner.Close()
	stored, err := owner.Dictionaries.All(t.Context())
	must(t, err)
	for _, d := range stored {
		described := strings.Fields(tables["dictionary"][d.Name])
		slices.Sort(described)
		var codes []string
		for _, v := range d.Values {
			codes = append(codes, v.Code)
		}
		if !slices.Equal(described, codes) {
			t.Errorf("%s\n described %s\n stored    %s", d.Name, described, codes)
		}
		if d.Description == "" || !slices.Equal(d.Labels, []string{"SYSTEM", "EXTERNAL"}) {
			t.Errorf("%s: description %q, labels %s", d.Name, d.Description, d.Labels)
		}
	}
	if len(stored) != len(tables["dictionary"]) {
		t.Errorf("%d dictionaries are stored, %d described", len(stored), len(tables["dictionary"]))
	}

	conn, err := testdb.Connect(t.Context(), url)
	must(t, err)
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), `SELECT name, value::text FROM prm.parameters`)
	must(t, err)
	parameters := 0
	for rows.Next() {
		var name, value string
		must(t, rows.Scan(&name, &value))
		parameters++
		var got, want any
		must(t, json.Unmarshal([]byte(value), &got))
		if err := json.Unmarshal([]byte(tables["parameter"][name]), &want); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s\n described %s\n stored    %s", name, tables["parameter"][name], value)
		}
	}
	must(t, rows.Err())
	if parameters != len(tables["parameter"]) {
		t.Errorf("%d parameters are stored, %d described", parameters, len(tables["parameter"]))
	}
}

// TestImportDictionariesCommand: the command prints what changes, a dry run changes nothing, and a fault is one line
// with its place.
func TestImportDictionariesCommand(t *testing.T) {
	t.Parallel()
	url := testdb.New(t).URL
	file := filepath.Join(t.TempDir(), "dictionaries.json")
	run := func(input string, args ...string) (int, string, string) {
		must(t, os.WriteFile(file, []byte(input), 0o600))
		code, out, errors := command(
			t,
			"",
			append([]string{"import-dictionaries", file, "--database-url", url}, args...)...)
		return code, strings.ReplaceAll(out, file, "FILE"), strings.ReplaceAll(errors, file, "FILE")
	}
	many := make([]string, 12)
	for i := range many {
		many[i] = `{"code": "` + string(rune('A'+i)) + `"}`
	}
	answer := `{"meta": {}, "data": [
		{"name": "GENDER", "description": "x", "is_active": false, "values": [{"code": "MALE", "description": "чоловіча"}]},
		{"name": "LONG", "values": [` + strings.Join(many, ",") + `]}]}`
	const changes = "GENDER: is no longer active, description or labels changed, 1 removed (FEMALE)\n" +
		"LONG: new, 12 added (A, B, C, D, E, F, G, H, I, J and 2 more)\n"
	for _, c := range []struct {
		name, want string
		args       []string
	}{
		{"dry run", changes + "FILE: 2 dictionaries, 2 would change, nothing imported; 19 others stay as they are\n",
			[]string{"--dry-run"}},
		{"import", changes + "FILE: 2 dictionaries, 2 changed; 19 others stay as they are\n", nil},
		{"again", "FILE: 2 dictionaries, 0 changed; 19 others stay as they are\n", nil},
	} {
		if code, out, errors := run(answer, c.args...); code != exitDone || out != c.want || errors != "" {
			t.Errorf("%s: %d %s\n got %s\nwant %s", c.name, code, errors, out, c.want)
		}
	}
	code, out, errors := run("[\n  {\"name\": 7, \"values\": []}]")
	if want := "reiestr: FILE:2:12: [0].name: expected a string, got a number\n"; code != exitFailed || out != "" ||
		errors != want {
		t.Errorf("%d %s %s, want %s", code, out, errors, want)
	}
	if code, _, _ := command(t, "", "import-dictionaries"); code != exitUsage {
		t.Errorf("no file: exit code %d", code)
	}
}
