package rest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// jsonFormat reads bodies strictly: exact names, no name twice, valid UTF-8 only. readBody has found the body to be
// JSON before. An error here means that the schema allows a value that the Go type does not take.
var jsonFormat = huma.Format{
	Marshal: huma.DefaultJSONFormat.Marshal,
	Unmarshal: func(data []byte, v any) error {
		tree, ok := v.(*any)
		err := jsonv2.Unmarshal(data, v)
		if ok && err != nil {
			err = jsonv2.Unmarshal(data, v, jsonv2.WithUnmarshalers(jsonv2.UnmarshalFromFunc(nearest)))
		}
		if err != nil {
			return fmt.Errorf("read JSON: %w", err)
		}
		if ok {
			*tree = markNulls(*tree)
		}
		return nil
	},
}

// nearest reads a number of JSON that is too large for a float64 as the largest one. Such a number is valid JSON, and
// the validator needs to know only that it is a number.
func nearest(decoder *jsontext.Decoder, v *any) error {
	if decoder.PeekKind() != '0' { // the kind of all numbers
		return errors.ErrUnsupported
	}
	text, err := decoder.ReadValue()
	if err != nil {
		return err
	}
	number, _ := strconv.ParseFloat(string(text), 64) // the only error is that it is too large
	*v = max(-math.MaxFloat64, min(number, math.MaxFloat64))
	return nil
}

// null replaces the null of JSON in the values that the validator gets: it takes a nil for an absent property.
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

// byteOrderMarks begin texts of some programs. JSON has none (RFC 8259, section 8.1).
var byteOrderMarks = []struct{ mark, encoding string }{
	{"\xef\xbb\xbf", "UTF-8"},
	{"\xff\xfe\x00\x00", "UTF-32"}, // before UTF-16, whose mark is the first half
	{"\x00\x00\xfe\xff", "UTF-32"},
	{"\xff\xfe", "UTF-16"},
	{"\xfe\xff", "UTF-16"},
}

// validJSON returns an error that says why data is not one JSON value with unique names in valid UTF-8; nil: it is one.
func validJSON(data []byte) error {
	for _, m := range byteOrderMarks {
		if bytes.HasPrefix(data, []byte(m.mark)) {
			return fmt.Errorf("it begins with the byte order mark of %s; send UTF-8 without one", m.encoding)
		}
	}
	decoder := jsontext.NewDecoder(bytes.NewReader(data))
	if err := decoder.SkipValue(); err != nil {
		return syntaxFault(err, decoder)
	}
	if _, err := decoder.ReadToken(); err != io.EOF {
		return errors.New("there is more than one value")
	}
	return nil
}

// syntaxFault says what is wrong and where. It repeats nothing of the content, which may be personal data.
func syntaxFault(err error, decoder *jsontext.Decoder) error {
	what := "syntax error"
	var syntactic *jsontext.SyntacticError
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		what = "a name stands twice in one object"
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		what = "it ends too early"
	case errors.As(err, &syntactic) && syntactic.Err.Error() == "exceeded max depth": // jsontext does not export these two
		what = fmt.Sprintf("it is nested more than %d levels deep", decoder.StackDepth())
	case errors.As(err, &syntactic) && syntactic.Err.Error() == "invalid UTF-8":
		what = "it is not valid UTF-8"
	}
	return fmt.Errorf("%s at byte %d", what, decoder.InputOffset())
}
