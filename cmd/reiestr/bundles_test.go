package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/api"
	"github.com/reiestr/reiestr/api/rest"
	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/internal/dev/testdb"
)

// readExample reads the example bundle.
func readExample(t testing.TB) (example map[string][]map[string]any) {
	t.Helper()
	text, err := os.ReadFile("../../docs/examples/bundle.yaml")
	must(t, err)
	must(t, yaml.Unmarshal(text, &example))
	return example
}

// TestExampleBundles loads the files that docs/bundles.md shows: first as a dry run, then for real, and then once more
// over the loaded rows.
func TestExampleBundles(t *testing.T) {
	t.Parallel()
	const counts = "1 dictionaries, 2 parameters, 2 legal_entities, 1 divisions, 2 employees, 1 licenses, " +
		"3 service_requests "
	for _, file := range []string{"../../docs/examples/bundle.yaml", "../../docs/examples/bundle.json"} {
		url := testdb.New(t).URL
		if got := done(t, "load", "--dry-run", file, "--database-url",
			url); got != file+": "+counts+"checked, nothing loaded" {
			t.Error(got)
		}
		for range 2 {
			if got := done(t, "load", file, "--database-url", url); got != file+": "+counts+"loaded" {
				t.Error(got)
			}
		}
		readBack(t, url)
	}
	var asJSON map[string][]map[string]any
	text, err := os.ReadFile("../../docs/examples/bundle.json")
	must(t, err)
	must(t, json.Unmarshal(text, &asJSON))
	want, err := json.Marshal(readExample(t))
	must(t, err)
	if got, err := json.Marshal(asJSON); err != nil || string(got) != string(want) {
		t.Errorf("bundle.json is not bundle.yaml (%v)", err)
	}
}

// readBack reads the service requests through the API, and expects the loaded values in the same shape.
func readBack(t *testing.T, url string) {
	t.Helper()
	app, err := db.Open(t.Context(), db.Config{URL: url, Role: db.App, TimeZone: "Europe/Kyiv"})
	must(t, err)
	defer app.Close()
	server := httptest.NewServer(api.New(rest.Config{DB: app, Log: slog.New(slog.DiscardHandler)}))
	defer server.Close()
	token := done(t, "token", "issue", "--legal-entity", readExample(t)["legal_entities"][0]["id"].(string), "--user",
		uuid.NewString(), "--scope", "service_request:read", "--database-url", url)
	for _, loaded := range readExample(t)["service_requests"] {
		patient := loaded["subject"].(map[string]any)["identifier"].(map[string]any)["value"]
		request, err := http.NewRequestWithContext(t.Context(), "GET", fmt.Sprintf("%s/api/patients/%s/service_requests/%s",
			server.URL, patient, loaded["id"]), nil)
		must(t, err)
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := http.DefaultClient.Do(request)
		must(t, err)
		raw, err := io.ReadAll(response.Body)
		must(t, err)
		response.Body.Close()
		var answer struct{ Data map[string]any }
		if err := json.Unmarshal(raw, &answer); err != nil || response.StatusCode != 200 {
			t.Fatalf("%s: %s %s", loaded["id"], response.Status, raw)
		}
		delete(loaded, "inserted_by") // the API does not show the users
		delete(loaded, "updated_by")
		if code, short := loaded["category"].(string); short {
			loaded["category"] = map[string]any{"coding": []any{map[string]any{"code": code}}}
		}
		for name, want := range loaded {
			if got := answer.Data[name]; !holds(got, want) {
				t.Errorf("%s: %s is %v, loaded was %v", loaded["id"], name, got, want)
			}
		}
	}
}

// holds reports whether got has everything that want has.
func holds(got, want any) bool {
	switch want := want.(type) {
	case map[string]any:
		got, ok := got.(map[string]any)
		for name := range want {
			ok = ok && holds(got[name], want[name])
		}
		return ok
	case []any:
		got, ok := got.([]any)
		ok = ok && len(got) == len(want)
		for i := 0; ok && i < len(want); i++ {
			ok = holds(got[i], want[i])
		}
		return ok
	case int:
		return got == float64(want)
	}
	return reflect.DeepEqual(got, want)
}

var (
	section = regexp.MustCompile("(?m)^## `([a-z_]+)`$")
	field   = regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|")
)

// TestBundlesPage compares the tables of docs/bundles.md with the example bundle: both have the same sections and
// fields. TestExampleBundles shows that the example can be loaded.
func TestBundlesPage(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/bundles.md")
	must(t, err)
	page := string(text)
	described := map[string][]string{}
	places := section.FindAllStringSubmatchIndex(page, -1)
	for i, at := range places {
		end := len(page)
		if i+1 < len(places) {
			end = places[i+1][0]
		}
		name := page[at[2]:at[3]]
		described[name] = []string{}
		for _, f := range field.FindAllStringSubmatch(page[at[1]:end], -1) {
			described[name] = append(described[name], f[1])
		}
		slices.Sort(described[name])
	}
	shown := map[string][]string{}
	for name, rows := range readExample(t) {
		shown[name] = []string{}
		for _, row := range rows {
			for f := range row {
				if !slices.Contains(shown[name], f) {
					shown[name] = append(shown[name], f)
				}
			}
		}
		slices.Sort(shown[name])
	}
	for name := range described {
		if !slices.Equal(described[name], shown[name]) {
			t.Errorf("%s\n described %s\n shown     %s", name, strings.Join(described[name], " "),
				strings.Join(shown[name], " "))
		}
	}
	if len(described) != len(shown) {
		t.Errorf("%d sections are described, %d shown", len(described), len(shown))
	}
}
