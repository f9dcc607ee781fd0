package rest

import (
	"regexp"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
)

const uuidPattern = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"

// UUID is a uuid in its one canonical form, in either case.
type UUID string

// Schema describes it to huma, which checks it.
func (UUID) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeString, Format: "uuid", Pattern: uuidPattern,
		Examples: []any{"8be63914-a278-470b-b868-1af5b9087332"},
	}
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

const momentPattern = `^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})?$`

var moments = regexp.MustCompile(momentPattern)

// Moment is a moment in a request: ISO 8601, in UTC unless it has an offset.
type Moment string

// Schema describes it to huma, which checks it.
func (Moment) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Pattern: momentPattern, Examples: []any{"2026-02-28T09:00:00Z"}}
}

// Optional is nil for a moment that was left out, and for one that is not in the calendar.
func (m Moment) Optional() *time.Time {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999"} {
		if t, err := time.Parse(layout, string(m)); err == nil && t.Year() > 0 {
			return &t
		}
	}
	return nil
}

// Resolve refuses days and times that do not exist. The pattern refuses other forms.
func (m Moment) Resolve(_ huma.Context, prefix *huma.PathBuffer) []error {
	if m.Optional() != nil || !moments.MatchString(string(m)) {
		return nil
	}
	return []error{&huma.ErrorDetail{Message: "date|", Location: prefix.String(), Value: string(m)}}
}

// Date is a calendar day in a request: that of the database, with its checks.
type Date struct{ db.Date }

// Day is a calendar day.
func Day(year int, month time.Month, day int) Date {
	return Date{db.Date{Time: time.Date(year, month, day, 0, 0, 0, 0, time.UTC)}}
}

// Schema describes it to huma, which checks it. Go knows a year 0, and the calendar does not.
func (Date) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeString, Format: "date", Examples: []any{"2026-02-28"},
		Not: &huma.Schema{Type: huma.TypeString, Pattern: "^0000-"},
	}
}
