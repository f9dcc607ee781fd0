package api

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/http"
	"reflect"
	"strconv"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/danielgtaylor/huma/v2/yaml"

	"github.com/reiestr/reiestr/db"
)

// contractVersion is that of the API, not of the program: it changes when a client has to know.
const contractVersion = "1.0.0"

// describe is the part of the OpenAPI document that is no operation.
func describe() huma.Config {
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title:   "Reiestr",
				Version: contractVersion,
				Description: "Additional licences of legal entities and the reservation cycle of service requests, decided in SQL under row locks. " +
					"An open implementation of a part of the central database of Ukraine's eHealth system (ЕСОЗ).",
				License: &huma.License{Name: "Apache-2.0", URL: "https://www.apache.org/licenses/LICENSE-2.0"},
			},
			Servers: []*huma.Server{{URL: "/", Description: "This server"}},
			Tags: []*huma.Tag{
				{Name: "Licences", Description: "Licences of the caller's legal entity; synchronous."},
				{Name: "Service requests", Description: "Electronic referrals; actions are asynchronous: 202 and a job."},
				{Name: "Jobs", Description: "How asynchronous actions end."},
				{Name: "Events", Description: "What has happened, to be followed without missing anything."},
			},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"token":  {Type: "http", Scheme: "bearer", Description: "Access token of a user of a legal entity, with scopes: an opaque one, or a JWT of the OIDC issuer that the operator has configured."},
					"apiKey": {Type: "apiKey", In: "header", Name: "api-key", Description: "Key of the calling information system."},
				},
			},
		},
		Formats:                      map[string]huma.Format{"application/json": jsonFormat, "json": jsonFormat},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
	}
}

// errorTexts are the answers that every operation can give, and those of its rules.
var errorTexts = map[int]struct{ kind, description, message string }{
	http.StatusBadRequest:            {"request_malformed", "The body is not JSON", "The body is not valid JSON: unexpected EOF"},
	http.StatusUnauthorized:          {"access_denied", "No token, or an invalid or expired one; no api key, or an unknown one", "Unauthorized: access token is not set"},
	http.StatusForbidden:             {"forbidden", "The token lacks the scope", "Invalid scopes. Your scope does not allow to access this resource. Missing allowances: "},
	http.StatusNotFound:              {"not_found", "There is no such thing, or none that the caller may know of", ""},
	http.StatusNotAcceptable:         {"content_type_invalid", "The caller takes no JSON", "Answers are application/json only"},
	http.StatusConflict:              {"request_conflict", "A rule about state says no", ""},
	http.StatusRequestEntityTooLarge: {"request_too_large", "The body is larger than 1 MiB", "The body is larger than 1048576 bytes"},
	http.StatusUnsupportedMediaType:  {"content_type_invalid", "The body is not sent as JSON", "Content-Type must be application/json"},
	http.StatusUnprocessableEntity:   {"validation_failed", "Path, query or body does not fit, or a rule about a value says no", schemaMessage},
	http.StatusTooManyRequests:       {"too_many_requests", "The client asks more than the limit allows, where the operator has set one", tooManyMessage},
	http.StatusInternalServerError:   {"internal_error", "Internal error; details are in the log only", "Internal error. Quote the request id when you report it."},
	http.StatusServiceUnavailable:    {"service_unavailable", "The database cannot be reached, or a lock took too long", "The service is not available at the moment. Try again later."},
}

// ruleExamples are the texts of the examples of 404 and 409, by operation.
var ruleExamples = map[string]map[int]string{
	"createLicense": {
		http.StatusNotFound: "No active primary license found for legal entity",
		http.StatusConflict: "License with type PHARMACY_DRUGS is already present",
	},
	"updateLicense": {
		http.StatusNotFound: "License was not found",
		http.StatusConflict: "Only additional license can be updated",
	},
	"useServiceRequest": {
		http.StatusNotFound: "Service request not found",
		http.StatusConflict: "Service request is already used",
	},
	"releaseServiceRequest": {
		http.StatusNotFound: "Service request not found",
		http.StatusConflict: "Invalid program processing status",
	},
	"processServiceRequest": {
		http.StatusNotFound: "Service request not found",
		http.StatusConflict: "Invalid program processing status",
	},
	"completeServiceRequest": {
		http.StatusNotFound: "Service request not found",
		http.StatusConflict: "Service request is used by another legal entity",
	},
	"getServiceRequest": {http.StatusNotFound: "Service request not found"},
	"getJob":            {http.StatusNotFound: "Job not found"},
	"listEvents":        {http.StatusConflict: "Events after this cursor are no longer kept"},
}

// describeErrors documents every error answer of an operation, each with an example. op.Errors names those of its own rules; the rest is
// the same everywhere.
func describeErrors(document *huma.OpenAPI, op *huma.Operation) {
	codes := append([]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotAcceptable, http.StatusUnprocessableEntity,
		http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable}, op.Errors...)
	if op.Method != http.MethodGet {
		codes = append(codes, http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	op.Errors = nil
	op.Responses = map[string]*huma.Response{}
	schema := document.Components.Schemas.Schema(reflect.TypeFor[Failure](), true, "Failure")
	scope, _ := op.Extensions["x-required-scope"].(string)
	for _, code := range codes {
		text := errorTexts[code]
		fault := Fault{Type: text.kind, Message: text.message}
		switch code {
		case http.StatusForbidden:
			fault.Message += scope
		case http.StatusNotFound, http.StatusConflict:
			fault.Message = ruleExamples[op.OperationID][code]
		case http.StatusUnprocessableEntity:
			fault.Invalid = exampleInvalid(op)
		}
		response := &huma.Response{
			Description: text.description,
			Content: map[string]*huma.MediaType{"application/json": {Schema: schema, Example: Failure{
				Meta:  exampleMeta(op, code),
				Fault: fault,
			}}},
		}
		for header, description := range map[int]map[string]string{
			http.StatusUnauthorized:       {"WWW-Authenticate": "How to authenticate (RFC 6750)"},
			http.StatusForbidden:          {"WWW-Authenticate": "The scope that is missing (RFC 6750)"},
			http.StatusConflict:           {"Retry-After": "While an equal request with the same Idempotency-Key is being carried out: seconds to wait before trying again"},
			http.StatusTooManyRequests:    {"Retry-After": "Seconds to wait before trying again"},
			http.StatusServiceUnavailable: {"Retry-After": "Seconds to wait before trying again"},
		}[code] {
			if code == http.StatusConflict && op.Method == http.MethodGet {
				continue // it takes no Idempotency-Key
			}
			response.Headers = map[string]*huma.Param{header: {Description: description, Schema: &huma.Schema{Type: huma.TypeString}}}
		}
		op.Responses[strconv.Itoa(code)] = response
	}
}

// describeExamples adds what a call that succeeds looks like.
func describeExamples(document *huma.OpenAPI, op *huma.Operation, body, answer any) {
	path := document.Paths[op.Path]
	for _, added := range []*huma.Operation{path.Get, path.Post, path.Patch} {
		if added == nil || added.OperationID != op.OperationID {
			continue
		}
		if added.RequestBody != nil {
			added.RequestBody.Content["application/json"].Example = body
		}
		code := cmp.Or(op.DefaultStatus, http.StatusOK)
		success := added.Responses[strconv.Itoa(code)]
		success.Content["application/json"].Example = exampleOf(op, code, answer)
		if code == http.StatusAccepted {
			ended := *success
			ended.Description = "The job has ended while the caller waited for it (Prefer: wait)"
			ended.Content = map[string]*huma.MediaType{"application/json": {
				Schema:  success.Content["application/json"].Schema,
				Example: exampleOf(op, http.StatusOK, exampleProcessedJob()),
			}}
			added.Responses["200"] = &ended
		}
	}
}

// exampleOf is an answer that succeeds; a list stands beside its paging, or, of events, beside the cursor they lead to.
func exampleOf(op *huma.Operation, code int, answer any) map[string]any {
	meta := exampleMeta(op, code)
	if reflect.TypeOf(answer).Kind() != reflect.Slice {
		return map[string]any{"meta": meta, "data": answer}
	}
	meta.Type = "list"
	if _, ok := answer.([]Event); ok {
		return map[string]any{"meta": meta, "data": answer, "cursor": cursorAt(42)}
	}
	return map[string]any{"meta": meta, "paging": pagingOf(db.Page{Number: 1, Size: 50}, int64(reflect.ValueOf(answer).Len())), "data": answer}
}

func exampleMeta(op *huma.Operation, code int) Meta {
	return Meta{Code: code, URL: "http://127.0.0.1:8080" + op.Path, Type: "object", RequestID: "d3b07384-d9a0-4c9b-8f6d-2f1f6b1a7f11"}
}

func exampleInvalid(op *huma.Operation) []Invalid {
	switch op.OperationID {
	case "listLicenses", "listServiceRequests", "listPatientServiceRequests":
		return []Invalid{{"$.page", "query_parameter", []Rule{castRule("integer", "string")}}}
	case "createLicense", "updateLicense":
		return []Invalid{{"$.issued_date", "json_data_property", []Rule{dateRule("2017-02-29")}}}
	case "listEvents":
		return []Invalid{{"$.after", "query_parameter", []Rule{{"format", []string{cursorPattern}, "string does not match the pattern " + cursorPattern}}}}
	}
	place := "$.id"
	if op.Method != http.MethodGet {
		place = "$.service_request_id"
	}
	return []Invalid{{place, "path_parameter", []Rule{{"format", []string{uuidPattern}, "string does not match the pattern " + uuidPattern}}}}
}

// document is the OpenAPI document in the forms it is served in.
type document struct{ json, yaml []byte }

// rendered is made once: it is the same for every server, and writing it takes longer than all the rest of a start.
var rendered = sync.OnceValue(func() document {
	o := undeployed()
	var d document
	var err error
	if d.json, err = json.MarshalIndent(o, "", "  "); err == nil {
		d.yaml, err = o.YAML()
	}
	if err != nil {
		panic("the OpenAPI document cannot be written: " + err.Error()) // it is the same at every start
	}
	return d
})

// undeployed is the description of a server that serves nothing.
func undeployed() *huma.OpenAPI {
	s := &server{api: humago.New(http.NewServeMux(), describe())}
	s.register()
	complete(s.api.OpenAPI())
	return s.api.OpenAPI()
}

func (document) serve(contentType string, content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.Write(content) //nolint:errcheck // the caller has gone
	}
}

// Document is the OpenAPI document as YAML, version 3.1 or 3.0. It needs no database.
func Document(version string) ([]byte, error) {
	o := undeployed()
	if version != "3.0" {
		return o.YAML()
	}
	text, err := downgrade(o)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = yaml.Convert(&out, bytes.NewReader(text))
	return out.Bytes(), err
}
