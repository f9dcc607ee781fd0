package api_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/reiestr/reiestr/api"
	"github.com/reiestr/reiestr/api/rest"
)

var update = flag.Bool("update", false, "write the OpenAPI documents instead of comparing them")

// TestDocument compares the committed documents with what the program makes.
func TestDocument(t *testing.T) {
	t.Parallel()
	for version, file := range map[string]string{"3.1": "../docs/openapi.yaml", "3.0": "../docs/openapi-3.0.yaml"} {
		want, err := api.Document(version)
		must(t, err)
		if *update {
			must(t, os.WriteFile(file, want, 0o644))
		}
		got, err := os.ReadFile(file)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what the program makes (%v): run `make generate`", file, err)
		}
	}
}

// TestOperations walks the document: every operation has its access, an answer of each kind of error, and examples.
func TestOperations(t *testing.T) {
	t.Parallel()
	raw, err := api.Document("3.1")
	must(t, err)
	var document struct {
		OpenAPI string `yaml:"openapi"`
		Paths   map[string]map[string]struct {
			OperationID string                      `yaml:"operationId"`
			Summary     string                      `yaml:"summary"`
			Scope       string                      `yaml:"x-required-scope"`
			Security    []map[string][]string       `yaml:"security"`
			Parameters  []struct{ In, Name string } `yaml:"parameters"`
			RequestBody *content                    `yaml:"requestBody"`
			Responses   map[string]content          `yaml:"responses"`
		} `yaml:"paths"`
	}
	must(t, yaml.Unmarshal(raw, &document))
	if !strings.HasPrefix(document.OpenAPI, "3.1") || len(document.Paths) == 0 {
		t.Fatalf("OpenAPI %q, %d paths", document.OpenAPI, len(document.Paths))
	}
	for path, methods := range document.Paths {
		for method, op := range methods {
			name := strings.ToUpper(method) + " " + path
			if op.OperationID == "" || op.Summary == "" {
				t.Errorf("%s: id %q, summary %q", name, op.OperationID, op.Summary)
			}
			codes := []string{"406", "422", "500", "503"}
			switch needs := neededBy[op.OperationID]; {
			case needs == "nothing" && op.Security != nil && len(op.Security) == 0 && op.Scope == "":
				for _, code := range []string{"401", "403", "429"} {
					if _, ok := op.Responses[code]; ok {
						t.Errorf("%s needs nothing, and may answer %s", name, code)
					}
				}
			case needs == "an api key" && op.Scope == "" && len(op.Security) == 1 && len(op.Security[0]) == 1 &&
				op.Security[0]["apiKey"] != nil:
				codes = append(codes, "401", "429")
			case needs == "" && op.Scope != "" && len(op.Security) == 1 && op.Security[0]["apiKey"] != nil &&
				slices.Equal(op.Security[0]["token"], []string{op.Scope}):
				codes = append(codes, "401", "403", "429")
			default:
				t.Errorf("%s: scope %q, security %v", name, op.Scope, op.Security)
			}
			if strings.HasSuffix(path, "}") || strings.Contains(path,
				"/actions/") { // it speaks of one thing, which may be missing
				codes = append(codes, "404")
			}
			parameters := map[string]bool{}
			for _, p := range op.Parameters {
				parameters[p.In+" "+p.Name] = true
			}
			list, _ := op.Responses["200"].Content["application/json"].Example.(map[string]any)
			isWhole := parameters["header If-None-Match"]
			if strings.HasPrefix(op.OperationID, "list") && isWhole == (list["paging"] != nil || list["cursor"] != nil) {
				t.Errorf("%s: the example has neither paging nor cursor, or is a whole list that has one", name)
			}
			if _, ok := op.Responses["304"]; ok != isWhole {
				t.Errorf("%s: 304 and If-None-Match do not belong together", name)
			}
			if parameters["header Idempotency-Key"] != (method != "get") {
				t.Errorf("%s: parameters %v", name, parameters)
			}
			if method != "get" {
				codes = append(codes, "400", "409", "413", "415")
				if op.RequestBody == nil || op.RequestBody.Content["application/json"].Example == nil {
					t.Errorf("%s: no example of a body", name)
				}
			}
			success := 0
			for code, response := range op.Responses {
				if code == "304" {
					continue // has no body
				}
				media := response.Content["application/json"]
				if media.Example == nil || media.Schema == nil {
					t.Errorf("%s: %s has no example or no schema", name, code)
					continue
				}
				if code[0] == '2' {
					success++
					continue
				}
				example, err := json.Marshal(media.Example)
				must(t, err)
				var f rest.Failure
				must(t, json.Unmarshal(example, &f))
				if f.Fault.Type == "" || f.Fault.Message == "" || http.StatusText(f.Meta.Code) == "" ||
					(code == "422") != (f.Fault.Invalid != nil) {
					t.Errorf("%s: example of %s: %s", name, code, example)
				}
			}
			// What becomes a job is answered 200 instead of 202 when the caller has waited for its end.
			successes := 1
			if _, asynchronous := op.Responses["202"]; asynchronous {
				successes = 2
				if _, ok := op.Responses["200"]; !ok || !parameters["header Prefer"] {
					t.Errorf("%s: the wait for its job is not described", name)
				}
			}
			if success != successes {
				t.Errorf("%s: %d kinds of success", name, success)
			}
			for _, code := range codes {
				if _, ok := op.Responses[code]; !ok {
					t.Errorf("%s: %s is not described", name, code)
				}
			}
		}
	}
}

// neededBy has the operations that need no token, by operationId, and what they need instead.
var neededBy = map[string]string{"listDictionaries": "nothing", "listFlatDictionaries": "an api key"}

type content struct {
	Content map[string]struct {
		Schema  any `yaml:"schema"`
		Example any `yaml:"example"`
	} `yaml:"content"`
}
