package rest

import (
	"cmp"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/reiestr/reiestr/db"
)

// Examples are shown in the OpenAPI document of an operation.
type Examples struct {
	Body   any // of the request; nil: the operation has no body
	Answer any // the data of a success; a slice: a list
	// AnswerCursor stands beside the data of a list that has a cursor; nil: the list has pages, or is whole.
	AnswerCursor any
	IsWhole      bool // the list has neither cursor nor pages
	Awaited      any  // the data of 200 where a success is 202
	// Refusals are the messages of the operation's own rules, by status code.
	Refusals map[int]string
	// Invalid is the fault of 422; zero: the last parameter of the path is no uuid.
	Invalid Invalid
}

// errorTexts are the texts of error answers in the OpenAPI document, by status code. An empty message differs for each
// operation.
var errorTexts = map[int]struct{ kind, description, message string }{
	http.StatusBadRequest: {"request_malformed", "The body is not JSON", "The body is not valid JSON: unexpected EOF"},
	http.StatusUnauthorized: {"access_denied", "No token, or an invalid or expired one; no api key, or an unknown one",
		"Unauthorized: access token is not set"},
	http.StatusForbidden:     {"forbidden", "The token lacks the scope", scopeMessage},
	http.StatusNotFound:      {"not_found", "There is no such thing, or none that the caller may know of", ""},
	http.StatusNotAcceptable: {"content_type_invalid", "The caller takes no JSON", "Answers are application/json only"},
	http.StatusConflict:      {"request_conflict", "A rule about state says no", ""},
	http.StatusRequestEntityTooLarge: {"request_too_large", "The body is larger than 1 MiB",
		"The body is larger than 1048576 bytes"},
	http.StatusUnsupportedMediaType: {"content_type_invalid", "The body is not sent as JSON", mediaTypeMessage},
	http.StatusUnprocessableEntity: {"validation_failed",
		"Path, query or body does not fit, or a rule about a value says no", schemaMessage},
	http.StatusTooManyRequests: {"too_many_requests",
		"The client asks more than the limit allows, where the operator has set one, " +
			"or it has too many pending jobs on a service request", tooManyMessage},
	http.StatusInternalServerError: {"internal_error", "Internal error; details are in the log only", internalMessage},
	http.StatusServiceUnavailable: {"service_unavailable", "The database cannot be reached, or a lock took too long",
		unavailableMessage},
}

// errorHeaders are the headers of error answers, by status code.
var errorHeaders = map[int]map[string]string{
	http.StatusUnauthorized: {"WWW-Authenticate": "How to authenticate (RFC 6750)"},
	http.StatusForbidden:    {"WWW-Authenticate": "The scope that is missing (RFC 6750)"},
	http.StatusConflict: {"Retry-After": "While an equal request with the same Idempotency-Key is being carried out: " +
		"seconds to wait before trying again"},
	http.StatusTooManyRequests:    {"Retry-After": "Seconds to wait before trying again"},
	http.StatusServiceUnavailable: {"Retry-After": "Seconds to wait before trying again"},
}

// Access is what a caller has to show.
type Access int

const (
	ByToken Access = iota // an access token with the scope of the operation, and an api key
	ByKey                 // an api key
	Open                  // nothing
)

// describe documents the access to an operation.
func (a Access) describe(op *huma.Operation, scope string) {
	switch a {
	case ByToken:
		op.Security = []map[string][]string{{"token": {scope}, "apiKey": {}}}
		op.Extensions = map[string]any{scopeExtension: scope}
	case ByKey:
		op.Security = []map[string][]string{{"apiKey": {}}}
	case Open:
		op.Security = []map[string][]string{} // the document says that nothing is needed
	}
}

// codes are the answers that the access adds to an operation.
func (a Access) codes() []int {
	switch a {
	case ByToken:
		return []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests}
	case ByKey:
		return []int{http.StatusUnauthorized, http.StatusTooManyRequests}
	}
	return nil
}

// scopeExtension is where the OpenAPI document has the scope of an operation.
const scopeExtension = "x-required-scope"

// ScopeOf is the scope that an operation asks for.
func ScopeOf(op *huma.Operation) string {
	scope, _ := op.Extensions[scopeExtension].(string)
	return scope
}

// describeErrors documents every error answer of an operation, each with an example.
func describeErrors(document *huma.OpenAPI, op *huma.Operation, a Access, e Examples) {
	codes := append([]int{http.StatusNotAcceptable, http.StatusUnprocessableEntity, http.StatusInternalServerError,
		http.StatusServiceUnavailable}, slices.Collect(maps.Keys(e.Refusals))...)
	codes = append(codes, a.codes()...)
	if op.Method != http.MethodGet {
		codes = append(codes, http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	op.Responses = map[string]*huma.Response{}
	schema := document.Components.Schemas.Schema(reflect.TypeFor[Failure](), true, "Failure")
	scope := ScopeOf(op)
	for _, code := range codes {
		text := errorTexts[code]
		if code == http.StatusUnauthorized && a == ByKey {
			text.description, text.message = "No api key, or an unknown one", keyNotSet
		}
		fault := Fault{Type: text.kind, Message: text.message}
		switch code {
		case http.StatusForbidden:
			fault.Message += scope
		case http.StatusUnprocessableEntity:
			fault.Invalid = []Invalid{exampleInvalid(op, e)}
		default:
			fault.Message = cmp.Or(e.Refusals[code], fault.Message)
		}
		response := &huma.Response{
			Description: text.description,
			Content: map[string]*huma.MediaType{"application/json": {Schema: schema, Example: Failure{
				Meta:  exampleMeta(op, code),
				Fault: fault,
			}}},
		}
		for header, description := range errorHeaders[code] {
			if code == http.StatusConflict && op.Method == http.MethodGet {
				continue // it takes no Idempotency-Key
			}
			param := &huma.Param{Description: description, Schema: &huma.Schema{Type: huma.TypeString}}
			response.Headers = map[string]*huma.Param{header: param}
		}
		op.Responses[strconv.Itoa(code)] = response
	}
}

// describeExamples adds the examples of a request and of a success.
func describeExamples(document *huma.OpenAPI, op *huma.Operation, e Examples) {
	for _, added := range operations(document.Paths[op.Path]) {
		if added.OperationID != op.OperationID {
			continue
		}
		if added.RequestBody != nil {
			added.RequestBody.Content["application/json"].Example = e.Body
		}
		code := cmp.Or(op.DefaultStatus, http.StatusOK)
		success := added.Responses[strconv.Itoa(code)]
		success.Content["application/json"].Example = exampleAnswer(op, code, e.Answer, e.AnswerCursor, e.IsWhole)
		if code == http.StatusAccepted {
			ended := *success
			ended.Description = "The job has ended while the caller waited for it (Prefer: wait)"
			ended.Content = map[string]*huma.MediaType{"application/json": {
				Schema:  success.Content["application/json"].Schema,
				Example: exampleAnswer(op, http.StatusOK, e.Awaited, nil, false),
			}}
			added.Responses["200"] = &ended
		}
	}
}

// describeAnswer adds the schema of a success that is written as bytes.
func describeAnswer(document *huma.OpenAPI, op *huma.Operation, t reflect.Type) {
	op.Responses["200"] = &huma.Response{
		Description: http.StatusText(http.StatusOK),
		Content: map[string]*huma.MediaType{
			"application/json": {Schema: document.Components.Schemas.Schema(t, true, op.OperationID)},
		},
	}
}

// exampleAnswer is an answer that succeeds. A list stands beside its paging or its cursor, unless it is whole.
func exampleAnswer(op *huma.Operation, code int, data, cursor any, isWhole bool) map[string]any {
	meta := exampleMeta(op, code)
	if reflect.TypeOf(data).Kind() != reflect.Slice {
		return map[string]any{"meta": meta, "data": data}
	}
	meta.Type = "list"
	switch {
	case cursor != nil:
		return map[string]any{"meta": meta, "data": data, "cursor": cursor}
	case isWhole:
		return map[string]any{"meta": meta, "data": data}
	}
	paging := pagingOf(db.Page{Number: 1, Size: 50}, int64(reflect.ValueOf(data).Len()))
	return map[string]any{"meta": meta, "paging": paging, "data": data}
}

func exampleMeta(op *huma.Operation, code int) Meta {
	return Meta{
		Code: code, URL: "http://127.0.0.1:8080" + op.Path, Type: "object", RequestID: "d3b07384-d9a0-4c9b-8f6d-2f1f6b1a7f11",
	}
}

var pathParameter = regexp.MustCompile(`\{(\w+)\}`)

func exampleInvalid(op *huma.Operation, e Examples) Invalid {
	if e.Invalid.Entry != "" {
		return e.Invalid
	}
	parameters := pathParameter.FindAllStringSubmatch(op.Path, -1)
	return Invalid{"$." + parameters[len(parameters)-1][1], "path_parameter", []Rule{FormatRule(uuidPattern)}}
}
