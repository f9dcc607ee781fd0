package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/reiestr/reiestr/api"
)

// operation is one of the document, with what the walker needs of it.
type operation struct {
	id, method, path string
	*openapi3.Operation
	item *openapi3.PathItem
}

// document loads the document that the service itself gives out, in a version of OpenAPI.
func document(version string) (*openapi3.T, []operation, error) {
	text, err := api.Document(version)
	if err != nil {
		return nil, nil, err
	}
	loaded, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		return nil, nil, err
	}
	var all []operation
	for path, item := range loaded.Paths.Map() {
		for method, op := range item.Operations() {
			all = append(all, operation{op.OperationID, method, path, op, item})
		}
	}
	slices.SortFunc(all, func(a, b operation) int { return bytes.Compare([]byte(a.id), []byte(b.id)) })
	return loaded, all, nil
}

// needs reports whether a caller of the operation has to show a credential, by its name in the document.
func (o operation) needs(credential string) bool {
	if o.Security == nil {
		return false
	}
	return slices.ContainsFunc(*o.Security, func(all openapi3.SecurityRequirement) bool {
		_, ok := all[credential]
		return ok
	})
}

// codes are those of the operation that are no fault of the service.
func (o operation) codes() (codes []int) {
	for text := range o.Responses.Map() {
		if code, err := strconv.Atoi(text); err == nil && code < 500 {
			codes = append(codes, code)
		}
	}
	return codes
}

// judge says what is wrong with the answers to an attempt; empty: nothing.
func (w *walker) judge(a attempt, answers []answer, err error) (faults []string) {
	if err != nil && !(a.Closed && len(answers) < max(a.Answers, 1)) {
		return []string{fmt.Sprintf("after %d answers: %v", len(answers), err)}
	}
	for _, got := range answers {
		faults = append(faults, w.judgeOne(a, got)...)
	}
	return faults
}

func (w *walker) judgeOne(a attempt, got answer) []string {
	left := a.HalfOpen && got.code == http.StatusServiceUnavailable
	if got.code >= 500 && !left {
		return []string{"a fault of the service"}
	}
	op, known := w.byID[a.Operation]
	want := a.Want
	if want == nil && known {
		want = op.codes()
	}
	var faults []string
	if !slices.Contains(want, got.code) && !left {
		faults = append(faults, fmt.Sprintf("want one of %v", want))
	}
	if allow := got.header.Get("Allow"); a.Allow != "" && allow != a.Allow {
		faults = append(faults, fmt.Sprintf("Allow is %q, want %q", allow, a.Allow))
	}
	if a.Method == http.MethodHead {
		return faults
	}
	if got.code == http.StatusNotModified {
		if len(got.raw) > 0 || got.header.Get("ETag") == "" {
			faults = append(faults, "304 with a body, or without an ETag")
		}
		return faults
	}
	e, wrong := got.read()
	faults = append(faults, wrong...)
	if a.Fits && got.refusedForm(e) {
		faults = append(faults, "the form is refused, though it is right")
	}
	if a.Faults != nil && got.code == http.StatusUnprocessableEntity {
		if wrong := e.differs(a.Faults); wrong != "" {
			faults = append(faults, fmt.Sprintf("want the faults %v: %s", a.Faults, wrong))
		}
	}
	if known && op.Responses.Status(got.code) != nil {
		if err := w.fitsDocument(op, got); err != nil {
			faults = append(faults, "the answer is not what the document describes: "+err.Error())
		}
	}
	return faults
}

// fitsDocument compares headers and body of an answer with the document. It takes the version 3.0, which says the same:
// for 3.1 the validator compiles a schema for each answer, which takes most of the walker's time.
func (w *walker) fitsDocument(op operation, got answer) error {
	op = w.answers[op.id]
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{
			Request: &http.Request{Method: op.method, URL: &url.URL{Path: op.path}, Header: http.Header{}},
			Route: &routers.Route{Spec: w.older, Path: op.path, PathItem: op.item, Method: op.method,
				Operation: op.Operation},
		},
		Status: got.code, Header: got.header, Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	return openapi3filter.ValidateResponse(context.Background(), input.SetBodyBytes(got.raw))
}
