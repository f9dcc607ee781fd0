package rest

import (
	"bytes"
	"regexp"
	"slices"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json/jsontext"
)

// mostIgnoredKeys is how many ignored keys the description of a request names.
const mostIgnoredKeys = 20

// propertyName is the form of a key that logs and metrics name. Any other could hold anything, a value included.
var propertyName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)

// OtherKey stands for an ignored key that logs and metrics do not name.
const OtherKey = "(other)"

// ignoredKeys are the keys of a body that its schema does not know and does not forbid, in the order in which they were
// sent. The contract has the service ignore them (section 2), so that a misspelt name of an optional key goes unnoticed
// by its sender. The body is JSON.
func ignoredKeys(registry huma.Registry, op *huma.Operation, body []byte) (keys []string) {
	if len(body) == 0 {
		return nil
	}
	schema := op.RequestBody.Content["application/json"].Schema
	if schema.Ref != "" {
		schema = registry.SchemaFromRef(schema.Ref)
	}
	if schema.AdditionalProperties != true {
		return nil
	}
	decoder := jsontext.NewDecoder(bytes.NewReader(body))
	if token, err := decoder.ReadToken(); err != nil || token.Kind() != '{' {
		return nil // a body that is no object is refused
	}
	for {
		token, err := decoder.ReadToken()
		if err != nil || token.Kind() != '"' {
			return keys
		}
		if name := token.String(); schema.Properties[name] == nil {
			keys = append(keys, name)
		}
		if decoder.SkipValue() != nil {
			return keys
		}
	}
}

// told are the keys as logs and metrics name them.
func told(keys []string) []string {
	named := slices.Clone(keys[:min(len(keys), mostIgnoredKeys)])
	for i, key := range named {
		if !propertyName.MatchString(key) {
			named[i] = OtherKey
		}
	}
	return named
}

// unknownKeys are the faults of ignored keys where Config.StrictClients forbids them.
func unknownKeys(keys []string) []*huma.ErrorDetail {
	faults := make([]*huma.ErrorDetail, len(keys))
	for i, key := range keys {
		faults[i] = &huma.ErrorDetail{Message: "schema|", Location: "body." + key}
	}
	return faults
}
