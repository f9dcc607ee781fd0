package rest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// Sent is a JSON value of a body as it was sent, with its place. Rules that no schema tells look at it and not at the
// Go value: decoding stops at a value of a wrong type, so the Go value lacks what stands behind it.
type Sent struct {
	place string
	value any // nil: there is no such value
}

// sent is the value of a body that readBody has taken.
func sent(body []byte) Sent {
	s := Sent{place: "body"}
	if err := jsonFormat.Unmarshal(body, &s.value); err != nil {
		return Sent{place: "body"} // huma reads it in the same way, and answers the error
	}
	return s
}

// Property is a property of an object. Anything else has none.
func (s Sent) Property(name string) Sent {
	object, _ := s.value.(map[string]any)
	return Sent{s.place + "." + name, object[name]}
}

// First is the first item of a list. Anything else has none.
func (s Sent) First() Sent {
	first := Sent{place: s.place + "[0]"}
	if list, _ := s.value.([]any); len(list) > 0 {
		first.value = list[0]
	}
	return first
}

// OneOf returns the fault of a text that is not one of the allowed values. The schema tells the faults of anything
// else.
func (s Sent) OneOf(allowed ...string) []*huma.ErrorDetail {
	if text, ok := s.value.(string); !ok || slices.Contains(allowed, text) {
		return nil
	}
	return []*huma.ErrorDetail{{Message: "inclusion|" + strings.Join(allowed, ", "), Location: s.place}}
}

// AtMost returns the fault of a list that has more items.
func (s Sent) AtMost(items int) []*huma.ErrorDetail {
	if list, _ := s.value.([]any); len(list) <= items {
		return nil
	}
	return []*huma.ErrorDetail{{Message: fmt.Sprintf("length|max|%d", items), Location: s.place}}
}
