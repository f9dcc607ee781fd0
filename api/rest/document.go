package rest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/yaml"

	"github.com/reiestr/reiestr/db"
)

// About is the part of the OpenAPI document that is not about one operation.
type About struct {
	Info *huma.Info
	Tags []*huma.Tag
}

func (a About) config() huma.Config {
	schemas := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	schemas.RegisterTypeAlias(reflect.TypeFor[db.Date](), reflect.TypeFor[Date]()) // in answers
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info:    a.Info,
			Servers: []*huma.Server{{URL: "/", Description: "This server"}},
			Tags:    a.Tags,
			Components: &huma.Components{
				Schemas: schemas,
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"token": {Type: "http", Scheme: "bearer", Description: "Access token of a user of a legal entity, with scopes: " +
						"an opaque one, or a JWT of the OIDC issuer that the operator has configured."},
					"apiKey": {Type: "apiKey", In: "header", Name: "api-key", Description: "Key of the calling information system."},
				},
			},
		},
		Formats:       map[string]huma.Format{"application/json": jsonFormat, "json": jsonFormat},
		DefaultFormat: "application/json",
	}
}

// Document is the OpenAPI document in the forms in which it is served.
type Document struct{ json, yaml []byte }

// Render writes the document.
func Render(o *huma.OpenAPI) (d Document, err error) {
	if d.json, err = json.MarshalIndent(o, "", "  "); err != nil {
		return d, err
	}
	d.yaml, err = o.YAML()
	return d, err
}

func (d Document) route(mux *http.ServeMux) {
	serve := func(contentType string, content []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.Header().Del("Cache-Control") // the document is the same for everyone
			w.Write(content)                //nolint:errcheck // the caller has gone
		}
	}
	mux.HandleFunc("GET /openapi.json", serve("application/json", d.json))
	mux.HandleFunc("GET /openapi.yaml", serve("application/yaml", d.yaml))
}

// RenderYAML writes the document as YAML, in version 3.1 or 3.0.
func RenderYAML(o *huma.OpenAPI, version string) ([]byte, error) {
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
