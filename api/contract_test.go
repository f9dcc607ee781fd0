package api_test

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/reiestr/reiestr/api"
)

// documents are the OpenAPI documents of both versions, each valid in itself, with its examples.
var documents = sync.OnceValues(func() ([]*openapi3.T, error) {
	var loaded []*openapi3.T
	for _, version := range []string{"3.1", "3.0"} {
		text, err := api.Document(version)
		if err != nil {
			return nil, err
		}
		loader := openapi3.NewLoader()
		document, err := loader.LoadFromData(text)
		if err != nil {
			return nil, err
		}
		if err := document.Validate(loader.Context, openapi3.EnableExamplesValidation(),
			openapi3.EnableSchemaFormatValidation()); err != nil {
			return nil, err
		}
		loaded = append(loaded, document)
	}
	return loaded, nil
})

// TestDocumentsAreValid holds both documents to the specification that they name, and their examples to their schemas.
func TestDocumentsAreValid(t *testing.T) {
	t.Parallel()
	loaded, err := documents()
	must(t, err)
	for i, version := range []string{"3.1.0", "3.0.3"} {
		if got := loaded[i].OpenAPI; got != version {
			t.Errorf("OpenAPI %s, want %s", got, version)
		}
	}
}

// notDescribed are the headers of HTTP itself.
var notDescribed = []string{"Cache-Control", "Connection", "Content-Length", "Content-Type", "Date"}

// checkContract holds an answer of a documented operation to both documents: its code, headers and body are described,
// and so is the request, if it succeeded. do calls it for every answer of every test.
func checkContract(t testing.TB, request *http.Request, a answer) {
	t.Helper()
	loaded, err := documents()
	must(t, err)
	for _, document := range loaded {
		route, parameters := routeOf(document, request)
		if route == nil {
			return
		}
		input := &openapi3filter.RequestValidationInput{Request: request, PathParams: parameters, Route: route,
			Options: &openapi3filter.Options{
				AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true, MultiError: true,
			}}
		name := route.Operation.OperationID + " in " + document.OpenAPI
		if a.code < 300 {
			if err := openapi3filter.ValidateRequest(t.Context(), input); err != nil {
				t.Errorf("%s: a request that was taken is not what the document describes: %v", name, err)
			}
		}
		answered := &openapi3filter.ResponseValidationInput{RequestValidationInput: input, Status: a.code, Header: a.header,
			Options: input.Options}
		if err := openapi3filter.ValidateResponse(t.Context(), answered.SetBodyBytes([]byte(a.raw))); err != nil {
			t.Errorf("%s: the answer is not what the document describes: %v\n%s", name, err, a.raw)
			continue
		}
		for header := range a.header {
			described := slices.ContainsFunc(slices.Collect(maps.Keys(route.Operation.Responses.Status(a.code).Value.Headers)),
				func(name string) bool { return strings.EqualFold(name, header) })
			if !described && !slices.Contains(notDescribed, header) {
				t.Errorf("%s: the header %s of %d is not described", name, header, a.code)
			}
		}
	}
}

// routeOf finds the operation that a request is for, and its path parameters; nil: none of the document.
func routeOf(document *openapi3.T, request *http.Request) (*routers.Route, map[string]string) {
	segments := strings.Split(request.URL.Path, "/")
	for path, item := range document.Paths.Map() {
		parameters := map[string]string{}
		templates := strings.Split(path, "/")
		matches := len(templates) == len(segments)
		for i := 0; matches && i < len(segments); i++ {
			if name, ok := strings.CutPrefix(templates[i], "{"); ok {
				parameters[strings.TrimSuffix(name, "}")] = segments[i]
			} else {
				matches = templates[i] == segments[i]
			}
		}
		if op := item.Operations()[request.Method]; matches && op != nil {
			return &routers.Route{Spec: document, Path: path, PathItem: item, Method: request.Method, Operation: op}, parameters
		}
	}
	return nil, nil
}
