package api

import (
	"slices"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/reiestr/reiestr/api/rest"
)

// Coding is a code and the dictionary it is of.
type Coding struct {
	System string `json:"system" maxLength:"255" pattern:"^[^\\x00]*$" example:"eHealth/resources"`
	Code   string `json:"code" maxLength:"255" pattern:"^[^\\x00]*$" example:"legal_entity"`
}

// CodeableConcept is a code with a text for people.
type CodeableConcept struct {
	Coding []Coding `json:"coding" minItems:"1" maxItems:"10"`
	Text   string   `json:"text,omitempty" maxLength:"1000" pattern:"^[^\\x00]*$"`
}

// Period is a span of time.
type Period struct {
	Start string  `json:"start"`
	End   *string `json:"end,omitempty"`
}

// Quantity is an amount of something.
type Quantity struct {
	Value  float64 `json:"value"`
	System string  `json:"system"`
	Code   string  `json:"code"`
	Unit   string  `json:"unit,omitempty"`
}

// ResourceType is the kind of thing a reference points at.
type ResourceType struct {
	Coding []Coding `json:"coding" minItems:"1" maxItems:"1"`
	Text   string   `json:"text" required:"false" maxLength:"1000" pattern:"^[^\\x00]*$"`
}

// Identifier names a resource.
type Identifier struct {
	Type  *ResourceType `json:"type,omitempty" doc:"May be left out in requests"`
	Value rest.UUID     `json:"value"`
}

// Reference points at a resource by its id.
type Reference struct {
	Identifier   Identifier `json:"identifier"`
	DisplayValue *string    `json:"display_value" required:"false" nullable:"true" doc:"Always null in answers"`
}

const resources = "eHealth/resources"

// reference makes a Reference for an answer.
func reference(resource string, id uuid.UUID) *Reference {
	return &Reference{Identifier: Identifier{
		Type:  &ResourceType{Coding: []Coding{{System: resources, Code: resource}}},
		Value: rest.UUID(id.String()),
	}}
}

// optionalReference is nil for a null id.
func optionalReference(resource string, id uuid.NullUUID) *Reference {
	if !id.Valid {
		return nil
	}
	return reference(resource, id.UUID)
}

// checkResource returns the faults in the type of a reference of a request. The type may be left out; if it is given,
// it must be one of those allowed.
func checkResource(reference rest.Sent, allowed ...string) []*huma.ErrorDetail {
	coding := reference.Property("identifier").Property("type").Property("coding").First()
	return slices.Concat(coding.Property("system").OneOf(resources), coding.Property("code").OneOf(allowed...))
}

// id is the id of an optional reference.
func (r *Reference) id() *uuid.UUID {
	if r == nil {
		return nil
	}
	id := r.Identifier.Value.Value()
	return &id
}
