package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
)

const (
	textPattern  = `^[^\x00]*$`
	queryPattern = `^([^%;]|%[0-9A-Fa-f]{2})*$`
)

// queryFaults returns the faults of the query that huma does not find: huma drops parts that it cannot decode, skips an
// empty value, takes the first of repeated values, takes other booleans than true and false, and passes on text that
// PostgreSQL does not store. huma would find an unknown parameter, but then look no further. It finds missing ones, and
// values of the right type that break another rule.
func queryFaults(rawQuery string, documented []*huma.Param) []*huma.ErrorDetail {
	var faults []*huma.ErrorDetail
	values, err := url.ParseQuery(rawQuery) // with an error too, values has the parts that could be decoded
	if err != nil {
		faults = append(faults, &huma.ErrorDetail{Message: "format|" + queryPattern, Location: "query"})
	}
	for name, given := range values {
		message, value := "schema|", any(nil)
		if i := slices.IndexFunc(documented, func(p *huma.Param) bool { return p.In == "query" && p.Name == name }); i >= 0 {
			message, value = parameterFault(given, documented[i].Schema)
		}
		if message != "" {
			faults = append(faults, &huma.ErrorDetail{Message: message, Location: "query." + name, Value: value})
		}
	}
	return faults
}

// parameterFault checks the values of one parameter. It returns the coded message (see ruleOf) and the value that is
// wrong; an empty message: no fault.
func parameterFault(values []string, s *huma.Schema) (message string, of any) {
	if len(values) > 1 {
		return "cast|" + s.Type, []any{}
	}
	value := values[0]
	if value == "" {
		return "cast|" + s.Type, value
	}
	switch s.Type {
	case huma.TypeBoolean:
		if value != "true" && value != "false" {
			return "cast|" + s.Type, value
		}
	case huma.TypeInteger:
		n, err := strconv.ParseInt(value, 10, 64)
		switch {
		case errors.Is(err, strconv.ErrSyntax):
			return "cast|" + s.Type, value
		case err != nil || s.Minimum != nil && float64(n) < *s.Minimum || s.Maximum != nil && float64(n) > *s.Maximum:
			return rangeMessage(s, n, err != nil), value
		}
	default:
		if !utf8.ValidString(value) || strings.Contains(value, "\x00") {
			return "format|" + textPattern, value
		}
	}
	return "", nil
}

// rangeMessage is the coded message with the limits of an integer. nearest is the value itself, or, where overflow says
// that an int64 cannot hold it, the int64 that is nearest to it: a limit too, if the schema has none on that side.
func rangeMessage(s *huma.Schema, nearest int64, overflow bool) string {
	message := "range"
	switch {
	case s.Minimum != nil:
		message += fmt.Sprintf("|min|%.0f", *s.Minimum)
	case overflow && nearest < 0:
		message += fmt.Sprintf("|min|%d", nearest)
	}
	switch {
	case s.Maximum != nil:
		message += fmt.Sprintf("|max|%.0f", *s.Maximum)
	case overflow && nearest > 0:
		message += fmt.Sprintf("|max|%d", nearest)
	}
	return message
}

type faultsKey struct{}

// faultsOf are the faults that Register has found, in the query and in the body.
func faultsOf(ctx context.Context) []*huma.ErrorDetail {
	faults, _ := ctx.Value(faultsKey{}).([]*huma.ErrorDetail)
	return faults
}

// schemaFailure is the answer with all faults of the schema: those that huma has found, and those that Register has
// found. huma's words about a parameter are left out if queryFaults has found that its value cannot be read as one of
// its type.
func schemaFailure(ctx context.Context, errs []error) *Failure {
	found := faultsOf(ctx)
	unread := map[string]bool{}
	all := make([]error, 0, len(errs)+len(found))
	for _, f := range found {
		unread[f.Location] = strings.HasPrefix(f.Location, "query.") && !strings.HasPrefix(f.Message, "format|")
		all = append(all, f)
	}
	for _, err := range errs {
		var detail *huma.ErrorDetail
		if !errors.As(err, &detail) || !unread[detail.Location] {
			all = append(all, err)
		}
	}
	return Fail(ctx, http.StatusUnprocessableEntity, Fault{"validation_failed", schemaMessage, invalidOf(all)})
}

// OptionalBool is a boolean parameter that may be left out.
type OptionalBool struct {
	Value bool
	isSet bool
}

// Schema describes it to huma.
func (OptionalBool) Schema(huma.Registry) *huma.Schema { return &huma.Schema{Type: huma.TypeBoolean} }

// Receiver is the field into which huma writes the value.
func (o *OptionalBool) Receiver() reflect.Value { return reflect.ValueOf(o).Elem().Field(0) }

// OnParamSet is called by huma, also for a parameter that was left out.
func (o *OptionalBool) OnParamSet(isSet bool, _ any) { o.isSet = isSet }

// Pointer is nil for a parameter that was left out.
func (o OptionalBool) Pointer() *bool {
	if !o.isSet {
		return nil
	}
	return &o.Value
}

// OptionalText is nil for a text parameter that was left out. An empty one is refused before.
func OptionalText(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
