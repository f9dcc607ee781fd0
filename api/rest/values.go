package rest

import (
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
)

const uuidPattern = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"

// UUID is a uuid in its one canonical form, in either case.
type UUID string

// Schema describes it to huma, which checks it.
func (UUID) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "uuid", Pattern: uuidPattern, Examples: []any{"8be63914-a278-470b-b868-1af5b9087332"}}
}

// Value is the uuid of a string that has passed the schema.
func (u UUID) Value() uuid.UUID { return uuid.MustParse(string(u)) }

// Optional is null for a uuid that was left out.
func (u UUID) Optional() uuid.NullUUID {
	if u == "" {
		return uuid.NullUUID{}
	}
	return uuid.NullUUID{UUID: u.Value(), Valid: true}
}

// Date is a calendar day, YYYY-MM-DD.
type Date struct{ time.Time }

// Day is the calendar day of a date that the database holds.
func Day(t time.Time) Date { return Date{t} }

// OptionalDay is nil for a date that the database does not hold.
func OptionalDay(t *time.Time) *Date {
	if t == nil {
		return nil
	}
	return &Date{*t}
}

// Schema describes it to huma, which checks it.
func (Date) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "date", Examples: []any{"2026-02-28"}}
}

// Pointer is nil for a date that was left out.
func (d *Date) Pointer() *time.Time {
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
