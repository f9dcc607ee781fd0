package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/validation"
)

// A fault of the schema is found by huma's validator, whose texts are variables. They are set to a coded form once, kind and parameters
// parted by a bar, so that the contract's rules are made of what is wrong and not of prose. huma has them per process, hence init.
func init() {
	huma.ValidateStrictCasing = true
	huma.DefaultArrayNullable = false // an answer's list may be empty, but is never null
	validation.MsgUnexpectedProperty = "schema|"
	validation.MsgExpectedRequiredProperty = "required|%s"
	validation.MsgExpectedBoolean = "cast|boolean"
	validation.MsgExpectedNumber = "cast|number"
	validation.MsgExpectedInteger = "cast|integer"
	validation.MsgExpectedString = "cast|string"
	validation.MsgExpectedArray = "cast|array"
	validation.MsgExpectedObject = "cast|object"
	validation.MsgExpectedRFC3339Date = "date|"
	validation.MsgExpectedRFC4122UUID = "format|" + uuidPattern + "%.0v"
	validation.MsgExpectedMatchPattern = "format|%s"
	validation.MsgExpectedBePattern = "format|%s"
	validation.MsgExpectedMinLength = "length|min|%d"
	validation.MsgExpectedMaxLength = "length|max|%d"
	validation.MsgExpectedMinItems = "length|min|%d"
	validation.MsgExpectedMaxItems = "length|max|%d"
	validation.MsgExpectedOneOf = "inclusion|%s"
	validation.MsgExpectedMinimumNumber = "range|min|%v"
	validation.MsgExpectedMaximumNumber = "range|max|%v"

	huma.NewErrorWithContext = func(ctx huma.Context, status int, _ string, errs ...error) huma.StatusError {
		return humaFailure(ctx.Context(), status, errs)
	}
	// Without a context it is only asked for the type, to describe it.
	huma.NewError = func(status int, _ string, errs ...error) huma.StatusError {
		return humaFailure(context.Background(), status, errs)
	}
}

const schemaMessage = "Validation failed. See error.invalid for every fault."

// humaFailure is the answer to what huma itself found wrong.
func humaFailure(ctx context.Context, status int, errs []error) *Failure {
	switch status {
	case http.StatusUnprocessableEntity:
		return schemaFailure(ctx, errs)
	case http.StatusUnsupportedMediaType:
		return unsupportedMediaType(ctx)
	case http.StatusBadRequest:
		return malformed(ctx, "The body is not valid JSON")
	case http.StatusRequestEntityTooLarge:
		return tooLarge(ctx)
	}
	return internalError(ctx)
}

func malformed(ctx context.Context, message string) *Failure {
	return failure(ctx, http.StatusBadRequest, Fault{Type: "request_malformed", Message: message})
}

func unsupportedMediaType(ctx context.Context) *Failure {
	return failure(ctx, http.StatusUnsupportedMediaType, Fault{Type: "content_type_invalid", Message: "Content-Type must be application/json"})
}

func tooLarge(ctx context.Context) *Failure {
	return failure(ctx, http.StatusRequestEntityTooLarge,
		Fault{Type: "request_too_large", Message: fmt.Sprintf("The body is larger than %d bytes", maxBodyBytes)})
}

func notFound(ctx context.Context, message string) *Failure {
	return failure(ctx, http.StatusNotFound, Fault{Type: "not_found", Message: message})
}

func unavailable(ctx context.Context) *Failure {
	return failure(ctx, http.StatusServiceUnavailable,
		Fault{Type: "service_unavailable", Message: "The service is not available at the moment. Try again later."}, "Retry-After", "1")
}

func internalError(ctx context.Context) *Failure {
	return failure(ctx, http.StatusInternalServerError,
		Fault{Type: "internal_error", Message: "Internal error. Quote the request id when you report it."})
}

// invalidOf translates the validator's findings, one entry a place, sorted by place.
func invalidOf(errs []error) []Invalid {
	byEntry := map[string]*Invalid{}
	for _, err := range errs {
		var detail *huma.ErrorDetail
		if !errors.As(err, &detail) {
			detail = &huma.ErrorDetail{Message: err.Error(), Location: "body"}
		}
		entry, entryType := placeOf(detail.Location)
		rule := ruleOf(detail)
		if name, ok := strings.CutPrefix(detail.Message, "required|"); ok {
			entry += "." + name
		}
		at := byEntry[entry]
		if at == nil {
			at = &Invalid{Entry: entry, EntryType: entryType}
			byEntry[entry] = at
		}
		// A format may be checked twice, by name and by pattern.
		if !slices.ContainsFunc(at.Rules, func(r Rule) bool { return r.Rule == rule.Rule && r.Description == rule.Description }) {
			at.Rules = append(at.Rules, rule)
		}
	}
	invalid := make([]Invalid, 0, len(byEntry))
	for _, i := range byEntry {
		invalid = append(invalid, *i)
	}
	slices.SortFunc(invalid, func(a, b Invalid) int { return cmp.Compare(a.Entry, b.Entry) })
	return invalid
}

// placeOf turns body.a.b[0] into $.a.b[0].
func placeOf(location string) (entry, entryType string) {
	source, place, _ := strings.Cut(location, ".")
	switch source {
	case "path":
		return "$." + place, "path_parameter"
	case "query":
		return strings.TrimSuffix("$."+place, "."), "query_parameter"
	}
	return "$" + strings.TrimPrefix(location, "body"), "json_data_property"
}

var none = []string{}

func ruleOf(d *huma.ErrorDetail) Rule {
	kind, params, coded := strings.Cut(d.Message, "|")
	if !coded {
		return uncodedRule(d)
	}
	switch kind {
	case "schema":
		return Rule{"schema", none, "schema does not allow additional properties"}
	case "required":
		return Rule{"required", none, fmt.Sprintf("required property %s was not present", params)}
	case "cast":
		return castRule(params, jsonType(d.Value))
	case "date":
		return dateRule(d.Value)
	case "format":
		return Rule{"format", []string{params}, "string does not match the pattern " + params}
	case "length":
		side, limit, _ := strings.Cut(params, "|")
		n, _ := strconv.Atoi(limit)
		word := map[string]string{"min": "at least", "max": "at most"}[side]
		return Rule{"length", map[string]int{side: n}, fmt.Sprintf("expected a length of %s %d", word, n)}
	case "range":
		return rangeRule(params)
	case "inclusion":
		return inclusionRule(strings.Split(params, ", "))
	}
	return Rule{"invalid", none, "value is not allowed"}
}

// uncodedRule is for the texts of huma that are no variables: those about parameters.
func uncodedRule(d *huma.ErrorDetail) Rule {
	if d.Message == "unknown query parameter" {
		return Rule{"schema", none, "schema does not allow additional properties"}
	}
	if name, missing := strings.CutPrefix(d.Message, "required "); missing && strings.HasSuffix(name, " parameter is missing") {
		_, name, _ = strings.Cut(d.Location, ".")
		return Rule{"required", none, fmt.Sprintf("required property %s was not present", name)}
	}
	return Rule{"invalid", none, "value is not allowed"}
}

func castRule(expected, got string) Rule {
	return Rule{"cast", []string{expected}, fmt.Sprintf("type mismatch. Expected %s but got %s", expected, got)}
}

func dateRule(value any) Rule {
	return Rule{"date", []string{"YYYY-MM-DD"}, fmt.Sprintf("expected %q to be an existing date", value)}
}

func inclusionRule(values []string) Rule {
	return Rule{"inclusion", map[string][]string{"values": values}, "value is not allowed in enum"}
}

// jsonType names the JSON type of a value that the validator met.
func jsonType(value any) string {
	switch v := value.(type) {
	case nil, null:
		return "null"
	case bool:
		return "boolean"
	case float64:
		if v == math.Trunc(v) {
			return "integer"
		}
		return "number"
	case string:
		return "string"
	case []any:
		return "array"
	}
	return "object"
}
