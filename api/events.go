package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/reiestr/reiestr/api/rest"
	"github.com/reiestr/reiestr/db"
)

// Event tells of a change of a service request or a licence (contract, section 6).
type Event struct {
	ID         uuid.UUID         `json:"id" format:"uuid" doc:"Known already: the event was delivered before"`
	EventType  string            `json:"event_type" enum:"StatusChangeEvent"`
	EntityType string            `json:"entity_type" enum:"ServiceRequest,License"`
	EntityID   uuid.UUID         `json:"entity_id" format:"uuid"`
	Properties map[string]Change `json:"properties" doc:"status or program_processing_status, with its old and new value"`
	ChangedBy  uuid.UUID         `json:"changed_by" format:"uuid" doc:"User id"`
	EventTime  time.Time         `json:"event_time"`
}

// Change is an element's old and new value.
type Change struct {
	OldValue *string `json:"old_value"`
	NewValue *string `json:"new_value"`
}

// Cursor is a place in the feed of a legal entity.
type Cursor string

const cursorPattern = "^[0-7][0-9a-f]{15}$"

// Schema describes it to huma, which checks it.
func (Cursor) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeString, Pattern: cursorPattern, Examples: []any{cursorAt(42)},
		Description: "Opaque place in the feed of the legal entity",
	}
}

func cursorAt(position int64) Cursor { return Cursor(fmt.Sprintf("%016x", position)) }

// position is the place that a cursor that has passed the schema stands for; none is the beginning.
func (c Cursor) position() int64 {
	if c == "" {
		return db.Beginning
	}
	n, _ := strconv.ParseInt(string(c), 16, 64)
	return n
}

const (
	eventsRemoved = "Events after this cursor are no longer kept"
	cursorUnknown = "This cursor is not in the feed of the legal entity: it is of another one, or the database was " +
		"restored to an earlier state"
)

// EventFeed is a stretch of the feed.
type EventFeed struct {
	Meta   rest.Meta `json:"meta"`
	Data   []Event   `json:"data" nullable:"false" doc:"Oldest first; the events of one entity in the order of the changes"`
	Cursor Cursor    `json:"cursor" doc:"Give it as after to read the next events. Without events it is the given one"`
}

type listEventsInput struct {
	After Cursor `query:"after" doc:"The cursor of the last answer; left out: from the oldest event that is kept"`
	Limit int    `query:"limit" minimum:"1" maximum:"300" default:"50" doc:"At most so many events"`
}

type eventsOutput struct {
	PreferenceApplied string `header:"Preference-Applied" doc:"The wait that was heeded"`
	Body              EventFeed
}

// events are the operations on events.
type events struct{ *rest.Server }

func (e events) register() {
	rest.Register(e.Server, rest.Endpoint[listEventsInput, eventsOutput]{
		Operation: huma.Operation{
			OperationID: "listEvents",
			Method:      http.MethodGet,
			Path:        "/api/events",
			Tags:        []string{"Events"},
			Summary:     "Read events",
			Description: "Changes of the service requests that the caller's legal entity holds, held or has requested, " +
				"and of its licences. A caller that always continues from the last cursor misses no event. An event " +
				"may come twice; its id is the same. Events are kept for 90 days, unless the operator has set " +
				"another time. The answer is 409 if events after the cursor have been removed since, and if the feed " +
				"has no such place, because the database was restored to an earlier state or the cursor is of another " +
				"legal entity: read without after, and read the service requests and licences themselves for the " +
				"changes that were missed.",
		},
		Scope: "event:read",
		Waits: true,
		Examples: rest.Examples{
			Answer:       exampleEvents(),
			AnswerCursor: cursorAt(42),
			Refusals: map[int]string{
				http.StatusConflict: eventsRemoved,
			},
			Invalid: rest.Invalid{
				Entry: "$.after", EntryType: "query_parameter",
				Rules: []rest.Rule{rest.FormatRule(cursorPattern)},
			},
		},
		Do: e.list,
	})
}

func (e events) list(ctx context.Context, caller db.Caller, in *listEventsInput) (*eventsOutput, error) {
	p := rest.PatienceOf(ctx)
	var found []db.Event
	var last int64
	var err error
	if p > 0 {
		over, release := p.Over(ctx, e.Stopping)
		defer release()
		found, last, err = e.DB.Events.Await(ctx, caller.ClientID, in.After.position(), in.Limit, over)
	} else {
		found, last, err = e.DB.Events.After(ctx, caller.ClientID, in.After.position(), in.Limit)
	}
	switch {
	case errors.Is(err, db.ErrEventsRemoved):
		return nil, rest.Fail(ctx, http.StatusConflict, rest.Fault{Type: typeOf[http.StatusConflict], Message: eventsRemoved})
	case errors.Is(err, db.ErrUnknownPosition):
		return nil, rest.Fail(ctx, http.StatusConflict, rest.Fault{Type: typeOf[http.StatusConflict], Message: cursorUnknown})
	}
	if err != nil {
		return nil, err
	}
	feed := EventFeed{Meta: rest.ListMeta(ctx), Data: make([]Event, len(found)), Cursor: cursorAt(last)}
	for i, event := range found {
		if feed.Data[i], err = eventAnswer(event); err != nil {
			return nil, fmt.Errorf("event %s: %w", event.ID, err)
		}
	}
	return &eventsOutput{p.Applied(), feed}, nil
}

func eventAnswer(e db.Event) (Event, error) {
	a := Event{
		ID: e.ID, EventType: e.Type, EntityType: e.EntityType, EntityID: e.EntityID,
		ChangedBy: e.ChangedBy, EventTime: e.Time.UTC(),
	}
	return a, json.Unmarshal(e.Properties, &a.Properties)
}

func exampleEvents() []Event {
	isNew, queued := "new", "in_queue"
	return []Event{{
		ID:         uuid.MustParse("e2a4c6d8-1b3f-4a5c-9d7e-0f1a2b3c4d5e"),
		EventType:  "StatusChangeEvent",
		EntityType: "ServiceRequest",
		EntityID:   exampleRequest,
		Properties: map[string]Change{"program_processing_status": {&isNew, &queued}},
		ChangedBy:  exampleUser,
		EventTime:  exampleMoment,
	}}
}
