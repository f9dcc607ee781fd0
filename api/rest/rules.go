package rest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// invalidOf makes of the findings of the validator one entry for each place, sorted by place. Path, query and body may
// have places of the same name.
func invalidOf(errs []error) []Invalid {
	type place struct{ entry, entryType string }
	rules := map[place][]Rule{}
	for _, err := range errs {
		var detail *huma.ErrorDetail
		if !errors.As(err, &detail) {
			detail = &huma.ErrorDetail{Message: err.Error(), Location: "body"}
		}
		var at place
		at.entry, at.entryType = placeOf(detail.Location)
		rule := ruleOf(detail)
		if name, ok := strings.CutPrefix(detail.Message, "required|"); ok {
			at.entry += "." + name
		}
		// A format may be checked twice, by name and by pattern.
		same := func(r Rule) bool { return r.Rule == rule.Rule && r.Description == rule.Description }
		if !slices.ContainsFunc(rules[at], same) {
			rules[at] = append(rules[at], rule)
		}
	}
	invalid := make([]Invalid, 0, len(rules))
	for at, broken := range rules {
		invalid = append(invalid, Invalid{at.entry, at.entryType, broken})
	}
	slices.SortFunc(invalid, func(a, b Invalid) int {
		return cmp.Or(cmp.Compare(a.Entry, b.Entry), cmp.Compare(a.EntryType, b.EntryType))
	})
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

// NoParams are the params of a rule that has none.
var NoParams = []string{}

func ruleOf(d *huma.ErrorDetail) Rule {
	kind, params, coded := strings.Cut(d.Message, "|")
	if !coded {
		return uncodedRule(d)
	}
	switch kind {
	case "schema":
		return Rule{"schema", NoParams, "schema does not allow additional properties"}
	case "required":
		return Rule{"required", NoParams, fmt.Sprintf("required property %s was not present", params)}
	case "cast":
		return CastRule(params, jsonType(d.Value))
	case "date":
		return DateRule(d.Value)
	case "format":
		return FormatRule(params)
	case "length":
		side, limit, _ := strings.Cut(params, "|")
		n, _ := strconv.Atoi(limit)
		word := map[string]string{"min": "at least", "max": "at most"}[side]
		return Rule{"length", map[string]int{side: n}, fmt.Sprintf("expected a length of %s %d", word, n)}
	case "range":
		return rangeRule(params)
	case "inclusion":
		return InclusionRule(strings.Split(params, ", "))
	case "invalid":
		return Rule{"invalid", NoParams, params}
	}
	return Rule{"invalid", NoParams, "value is not allowed"}
}

// uncodedRule reads the texts of huma about parameters, which are no variables and therefore not coded.
func uncodedRule(d *huma.ErrorDetail) Rule {
	if strings.HasPrefix(d.Message, "required ") && strings.HasSuffix(d.Message, " parameter is missing") {
		_, name, _ := strings.Cut(d.Location, ".")
		return Rule{"required", NoParams, fmt.Sprintf("required property %s was not present", name)}
	}
	return Rule{"invalid", NoParams, "value is not allowed"}
}

// CastRule says that a value has another JSON type than expected.
func CastRule(expected, got string) Rule {
	return Rule{"cast", []string{expected}, fmt.Sprintf("type mismatch. Expected %s but got %s", expected, got)}
}

// FormatRule says that a text does not match a pattern.
func FormatRule(pattern string) Rule {
	return Rule{"format", []string{pattern}, "string does not match the pattern " + pattern}
}

// DateRule says that a value is no date of the calendar.
func DateRule(value any) Rule {
	return Rule{"date", []string{"YYYY-MM-DD"}, fmt.Sprintf("expected %q to be an existing date", value)}
}

// InclusionRule says that a value is not one of the allowed values.
func InclusionRule(values []string) Rule {
	return Rule{"inclusion", map[string][]string{"values": values}, "value is not allowed in enum"}
}

// Unfit is the fault of a place whose value does not fit another one. A Resolve method returns it to huma.
func Unfit(place, reason string) error {
	return &huma.ErrorDetail{Message: "invalid|" + reason, Location: place}
}

// Missing is the fault of a place without a property that another one needs. A Resolve method returns it to huma.
func Missing(place, name string) error {
	return &huma.ErrorDetail{Message: "required|" + name, Location: place}
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

// rangeRule reads the rest of a coded message of a range: sides and limits by turns.
func rangeRule(params string) Rule {
	limits := map[string]json.Number{}
	parts := strings.Split(params, "|")
	for i := 0; i+1 < len(parts); i += 2 {
		limits[parts[i]] = json.Number(parts[i+1])
	}
	var texts []string
	for _, side := range []struct{ name, words string }{{"min", "at least"}, {"max", "at most"}} {
		if limit, ok := limits[side.name]; ok {
			texts = append(texts, side.words+" "+limit.String())
		}
	}
	return Rule{"range", limits, "expected a number of " + strings.Join(texts, " and ")}
}
