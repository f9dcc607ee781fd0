package rest

import (
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
