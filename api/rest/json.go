package rest

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/danielgtaylor/huma/v2"
	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// jsonFormat reads bodies strictly: names as they are written, no name twice, valid UTF-8 only. The bodies have been
// checked to be JSON before (see body), so what fails here is a schema that lets through what its Go type does not
// take.
var jsonFormat = huma.Format{
	Marshal: huma.DefaultJSONFormat.Marshal,
	Unmarshal: func(data []byte, v any) error {
		if err := jsonv2.Unmarshal(data, v); err != nil {
			return fmt.Errorf("read JSON: %w", err)
		}
		if tree, ok := v.(*any); ok {
			*tree = markNulls(*tree)
		}
		return nil
	},
}

// null stands for JSON's null in what the validator sees, which would take a nil for an absent property.
type null struct{}

func markNulls(value any) any {
	switch v := value.(type) {
	case nil:
		return null{}
	case map[string]any:
		for k := range v {
			if k != "display_value" { // the one property that may be null: answers have it so, and callers send them back
				v[k] = markNulls(v[k])
			}
		}
	case []any:
		for i := range v {
			v[i] = markNulls(v[i])
		}
	}
	return value
}

// validJSON tells in what way data is not one JSON value of unique names in valid UTF-8; nil: it is one.
func validJSON(data []byte) error {
	decoder := jsontext.NewDecoder(bytes.NewReader(data))
	if err := decoder.SkipValue(); err != nil {
		return syntaxFault(err, decoder)
	}
	if _, err := decoder.ReadToken(); err != io.EOF {
		return errors.New("there is more than one value")
	}
	return nil
}

// syntaxFault says what and where, and nothing of the content.
func syntaxFault(err error, decoder *jsontext.Decoder) error {
	what := "syntax error"
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		what = "a name stands twice in one object"
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		what = "it ends too early"
	}
	return fmt.Errorf("%s at byte %d", what, decoder.InputOffset())
}
