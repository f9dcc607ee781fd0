package rest

import (
	"encoding/json"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// complete adds to the document the facts that huma does not derive from the Go types: properties that can be null, and
// the headers of all answers.
func complete(o *huma.OpenAPI) {
	tellNulls(o.Components.Schemas)
	tellHeaders(o)
}

// tellNulls makes a property nullable if its Go field is a pointer without omitempty. huma itself does so for plain
// scalars only.
func tellNulls(schemas huma.Registry) {
	for name, schema := range schemas.Map() {
		t := schemas.TypeFromRef("#/components/schemas/" + name)
		if t.Kind() != reflect.Struct {
			continue
		}
		for _, f := range reflect.VisibleFields(t) {
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			property := schema.Properties[name]
			if property == nil || f.Type.Kind() != reflect.Pointer || strings.Contains(options, "omit") {
				continue
			}
			if property.Ref == "" && property.Enum == nil {
				property.Nullable = true
				continue
			}
			// Neither a reference nor an enum has room for null beside it.
			schema.Properties[name] = &huma.Schema{
				Description: property.Description,
				OneOf:       []*huma.Schema{{Ref: property.Ref, Type: property.Type, Enum: property.Enum}, {Type: "null"}},
			}
		}
	}
}

// requiredHeaders are always sent where they are described.
var requiredHeaders = []string{"Location", "WWW-Authenticate", "X-Request-Id"}

// commonHeaders are the headers of several operations. The document defines them once.
var commonHeaders = map[string]*huma.Header{
	"X-Request-Id": {
		Description: "That of the request, or one made for it; also in meta.request_id",
		Required:    true,
		Schema:      &huma.Schema{Type: huma.TypeString, Pattern: requestID.String()},
	},
	"RateLimit": {
		Description: "Where clients are limited: what is left, and the seconds until it is whole again",
		Schema:      &huma.Schema{Type: huma.TypeString},
	},
	"RateLimit-Policy": {
		Description: "Where clients are limited: requests (q) in seconds (w)",
		Schema:      &huma.Schema{Type: huma.TypeString},
	},
	replayedHeader: {
		Description: "true: the answer that this request was given before",
		Schema:      &huma.Schema{Type: huma.TypeString},
	},
}

// tellHeaders adds the common headers to the answers that can have them, and marks the headers that are always sent.
func tellHeaders(o *huma.OpenAPI) {
	o.Components.Headers = commonHeaders
	for _, path := range o.Paths {
		for _, op := range operations(path) {
			for code, response := range op.Responses {
				headers := maps.Clone(response.Headers)
				if headers == nil {
					headers = map[string]*huma.Header{}
				}
				for name, header := range headers {
					header.Required = header.Required || slices.Contains(requiredHeaders, name) ||
						name == "Retry-After" && (code == "429" || code == "503")
				}
				common := []string{"X-Request-Id"}
				if code != "401" && code != "403" && len(op.Security) > 0 { // the limit comes after authentication
					common = append(common, "RateLimit", "RateLimit-Policy")
				}
				decided := code[0] == '2' || code == "404" || code == "409" || code == "422"
				if decided && op.Method != http.MethodGet { // an idempotency key keeps these answers
					common = append(common, replayedHeader)
				}
				for _, name := range common {
					headers[name] = &huma.Header{Ref: "#/components/headers/" + name}
				}
				response.Headers = headers
			}
		}
	}
}

// operations are the operations of a path, of all methods.
func operations(p *huma.PathItem) []*huma.Operation {
	all := []*huma.Operation{p.Get, p.Put, p.Post, p.Delete, p.Options, p.Head, p.Patch, p.Trace}
	return slices.DeleteFunc(all, func(op *huma.Operation) bool { return op == nil })
}

// downgrade makes an OpenAPI 3.0 document of one of version 3.1. huma does most of it; 3.0 also ignores the siblings of
// a $ref and has no type null.
func downgrade(o *huma.OpenAPI) ([]byte, error) {
	text, err := o.Downgrade()
	if err != nil {
		return nil, err
	}
	var tree any
	if err := json.Unmarshal(text, &tree); err != nil {
		return nil, err
	}
	return json.Marshal(downgraded(tree))
}

func downgraded(value any) any {
	switch v := value.(type) {
	case []any:
		for i := range v {
			v[i] = downgraded(v[i])
		}
	case map[string]any:
		if v["type"] == "null" {
			return map[string]any{"type": "object", "nullable": true, "enum": []any{nil}}
		}
		if _, reference := v["$ref"].(string); reference && len(v) > 1 {
			v["allOf"] = []any{map[string]any{"$ref": v["$ref"]}}
			delete(v, "$ref")
		}
		for name := range v {
			if name != "example" { // an example is no schema
				v[name] = downgraded(v[name])
			}
		}
	}
	return value
}
