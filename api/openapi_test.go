package api_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/reiestr/reiestr/api"
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

// TestOperations walks the document: every operation has a scope, an answer of each kind of error, and examples.
func TestOperations(t *testing.T) {
	t.Parallel()
	raw, err := api.Document("3.1")
	must(t, err)
	var document struct {
		OpenAPI string `yaml:"openapi"`
		Paths   map[string]map[string]struct {
			OperationID string                `yaml:"operationId"`
			Summary     string                `yaml:"summary"`
			Scope       string                `yaml:"x-required-scope"`
			Security    []map[string][]string `yaml:"security"`
			RequestBody *content              `yaml:"requestBody"`
			Responses   map[string]content    `yaml:"responses"`
		} `yaml:"paths"`
	}
	must(t, yaml.Unmarshal(raw, &document))
	if !strings.HasPrefix(document.OpenAPI, "3.1") || len(document.Paths) == 0 {
		t.Fatalf("OpenAPI %q, %d paths", document.OpenAPI, len(document.Paths))
	}
	for path, methods := range document.Paths {
		for method, op := range methods {
			name := strings.ToUpper(method) + " " + path
			if op.OperationID == "" || op.Summary == "" || op.Scope == "" {
				t.Errorf("%s: id %q, summary %q, scope %q", name, op.OperationID, op.Summary, op.Scope)
			}
			if len(op.Security) != 1 || len(op.Security[0]["token"]) != 1 || op.Security[0]["token"][0] != op.Scope {
				t.Errorf("%s: security %v", name, op.Security)
			}
			codes := []string{"401", "403", "404", "406", "422", "429", "500", "503"}
			if method != "get" {
				codes = append(codes, "400", "409", "413", "415")
				if op.RequestBody == nil || op.RequestBody.Content["application/json"].Example == nil {
					t.Errorf("%s: no example of a body", name)
				}
			}
			success := 0
			for code, response := range op.Responses {
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
				var f api.Failure
				must(t, json.Unmarshal(example, &f))
				if f.Fault.Type == "" || f.Fault.Message == "" || http.StatusText(f.Meta.Code) == "" || (code == "422") != (f.Fault.Invalid != nil) {
					t.Errorf("%s: example of %s: %s", name, code, example)
				}
			}
			if success != 1 {
				t.Errorf("%s: %d kinds of success", name, success)
			}
			for _, code := range codes {
				if _, ok := op.Responses[code]; !ok {
					t.Errorf("%s: %s is not described", name, code)
				}
			}
			if extra := len(op.Responses) - 1 - len(codes); extra != 0 {
				t.Errorf("%s: %d answers more than the guard knows", name, extra)
			}
		}
	}
}

type content struct {
	Content map[string]struct {
		Schema  any `yaml:"schema"`
		Example any `yaml:"example"`
	} `yaml:"content"`
}
