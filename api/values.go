package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/danielgtaylor/huma/v2"
	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
)

const uuidPattern = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"

// UUID is a uuid in its one canonical form, in either case.
type UUID string

// Schema describes it to huma, which checks it.
func (UUID) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "uuid", Pattern: uuidPattern, Examples: []any{"8be63914-a278-470b-b868-1af5b9087332"}}
}

// value is the uuid of a string that has passed the schema.
func (u UUID) value() uuid.UUID { return uuid.MustParse(string(u)) }

// optional is null for a uuid that was left out.
func (u UUID) optional() uuid.NullUUID {
	if u == "" {
		return uuid.NullUUID{}
	}
	return uuid.NullUUID{UUID: u.value(), Valid: true}
}

// Date is a calendar day, YYYY-MM-DD.
type Date struct{ time.Time }

// Schema describes it to huma, which checks it.
func (Date) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "date", Examples: []any{"2026-02-28"}}
}

// pointer is nil for a date that was left out.
func (d *Date) pointer() *time.Time {
	if d == nil {
		return nil
	}
	return &d.Time
}

// UnmarshalText reads a string that has passed the schema.
func (d *Date) UnmarshalText(text []byte) (err error) {
	d.Time, err = time.Parse(time.DateOnly, string(text))
	return err
}

// MarshalText writes the day alone.
func (d Date) MarshalText() ([]byte, error) { return d.AppendFormat(nil, time.DateOnly), nil }

// MarshalJSON shadows that of time.Time.
func (d Date) MarshalJSON() ([]byte, error) { return d.AppendFormat(nil, `"`+time.DateOnly+`"`), nil }

// UnmarshalJSON shadows that of time.Time.
func (d *Date) UnmarshalJSON(text []byte) (err error) {
	d.Time, err = time.Parse(`"`+time.DateOnly+`"`, string(text))
	return err
}

// Resolve refuses the one date that Go knows and the calendar does not: there is no year 0.
func (d Date) Resolve(_ huma.Context, prefix *huma.PathBuffer) []error {
	if d.IsZero() || d.Year() > 0 {
		return nil
	}
	return []error{&huma.ErrorDetail{Message: "date|", Location: prefix.String(), Value: d.Format(time.DateOnly)}}
}

// jsonFormat reads bodies strictly: names as they are written, no name twice, valid UTF-8 only. The bodies have been checked to be JSON
// before (see body), so what fails here is a schema that lets through what its Go type does not take.
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
