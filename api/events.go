package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
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
	eventUnknown  = "Event not found"
	cursorUnknown = "This cursor is not in the feed of the legal entity: it is of another one, or the database was " +
		"restored to an earlier state"
)

// Events is a stretch of the feed, or a page of the events in a window of time.
type Events struct {
	Meta   rest.Meta    `json:"meta"`
	Paging *rest.Paging `json:"paging,omitempty" doc:"Of a page of a window of time"`
	Data   []Event      `json:"data" nullable:"false" doc:"Oldest first; the events of one entity in the order of the changes"`
	Cursor Cursor       `json:"cursor,omitempty" doc:"Of the feed. Give it as after to read the next events. Without events it is the given one"`
}

// longestWindow is the longest time between date and date_to.
const longestWindow = 3 * time.Hour

type listEventsInput struct {
	After         Cursor      `query:"after" doc:"The cursor of the last answer; left out: from the oldest event that is kept"`
	Limit         int         `query:"limit" minimum:"1" maximum:"300" default:"50" doc:"At most so many events of the feed"`
	Date          rest.Moment `query:"date" doc:"Beginning of the window, itself in it. Left out: three hours before date_to, or before now"`
	DateTo        rest.Moment `query:"date_to" doc:"End of the window, itself in it: at most three hours after date. Left out: three hours after date"`
	EventType     string      `query:"event_type" enum:"StatusChangeEvent,StateChangeEvent"`
	EntityType    string      `query:"entity_type" maxLength:"255" doc:"ServiceRequest or License; there are no events of other types" example:"ServiceRequest"`
	AttributeName string      `query:"attribute_name" maxLength:"255" doc:"Events that tell of a change of this property" example:"program_processing_status"`
	NewValue      string      `query:"new_value" maxLength:"255" doc:"The value after the change; needs attribute_name" example:"in_queue"`
	Page          int64       `query:"page" minimum:"1" default:"1" doc:"A page behind the last is empty"`
	PageSize      int64       `query:"page_size" minimum:"1" maximum:"300" default:"50"`

	byTime   bool
	from, to *time.Time
}

// Parameters of the two ways to read events.
var (
	feedParameters = []string{"after", "limit"}
	timeParameters = []string{
		"date", "date_to", "event_type", "entity_type", "attribute_name", "new_value", "page", "page_size",
	}
)

// Resolve decides between the feed and the window of time, and completes the window.
func (in *listEventsInput) Resolve(c huma.Context) (faults []error) {
	given := func(name string) bool { return c.Query(name) != "" }
	in.byTime = slices.ContainsFunc(timeParameters, given)
	for _, name := range feedParameters {
		if in.byTime && given(name) {
			faults = append(faults, rest.Unfit("query."+name,
				"after and limit read the feed and stand beside no other parameter"))
		}
	}
	if in.NewValue != "" && in.AttributeName == "" {
		faults = append(faults, rest.Missing("query", "attribute_name"))
	}
	in.from, in.to = in.Date.Optional(), in.DateTo.Optional()
	switch {
	case in.from != nil && in.to != nil && in.to.Before(*in.from):
		faults = append(faults, rest.Unfit("query.date_to", "date_to must not be before date"))
	case in.from != nil && in.to != nil && in.to.Sub(*in.from) > longestWindow:
		faults = append(faults, rest.Unfit("query.date_to", "date_to must be at most three hours after date"))
	case in.from != nil && in.to == nil:
		in.to = new(in.from.Add(longestWindow))
	case in.from == nil && in.to != nil:
		in.from = new(in.to.Add(-longestWindow))
	}
	return faults
}

type eventsOutput struct {
	PreferenceApplied string `header:"Preference-Applied" doc:"The wait that was heeded"`
	Body              Events
}

type getEventInput struct {
	ID rest.UUID `path:"id"`
}

type eventOutput struct {
	Body rest.Envelope[Event]
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
				"changes that were missed.\n\n" +
				"With any of the parameters date, date_to, event_type, entity_type, attribute_name, new_value, page " +
				"and page_size the answer is a page of the events in a window of at most three hours instead, with " +
				"paging and without a cursor. All filters that are given have to fit. Such a reader has to know by " +
				"itself which windows it has read. after and limit cannot stand beside these parameters.",
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
	rest.Register(e.Server, rest.Endpoint[getEventInput, eventOutput]{
		Operation: huma.Operation{
			OperationID: "getEvent",
			Method:      http.MethodGet,
			Path:        "/api/events/{id}",
			Tags:        []string{"Events"},
			Summary:     "Read an event",
			Description: "An event that concerns the caller's legal entity, as long as it is kept.",
		},
		Scope: "event:read",
		Examples: rest.Examples{
			Answer: exampleEvents()[0],
			Refusals: map[int]string{
				http.StatusNotFound: eventUnknown,
			},
		},
		Do: e.get,
	})
}

func (e events) get(ctx context.Context, caller db.Caller, in *getEventInput) (*eventOutput, error) {
	found, err := e.DB.Events.Get(ctx, caller.ClientID, in.ID.Value())
	if errors.Is(err, db.ErrNotFound) {
		return nil, rest.NotFound(ctx, eventUnknown)
	}
	if err != nil {
		return nil, err
	}
	answer, err := eventAnswer(found)
	return &eventOutput{rest.Object(ctx, http.StatusOK, answer)}, err
}

func (e events) list(ctx context.Context, caller db.Caller, in *listEventsInput) (*eventsOutput, error) {
	if in.byTime {
		return e.byTime(ctx, caller, in)
	}
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
	feed := Events{Meta: rest.ListMeta(ctx), Data: make([]Event, len(found)), Cursor: cursorAt(last)}
	for i, event := range found {
		if feed.Data[i], err = eventAnswer(event); err != nil {
			return nil, err
		}
	}
	return &eventsOutput{p.Applied(), feed}, nil
}

// byTime answers a page of a window of time. It does not wait.
func (e events) byTime(ctx context.Context, caller db.Caller, in *listEventsInput) (*eventsOutput, error) {
	list, err := e.DB.Events.ByTime(ctx, caller.ClientID, db.EventFilter{
		Date: in.from, DateTo: in.to,
		EventType: rest.OptionalText(in.EventType), EntityType: rest.OptionalText(in.EntityType),
		AttributeName: rest.OptionalText(in.AttributeName), NewValue: rest.OptionalText(in.NewValue),
	}, db.Page{Number: in.Page, Size: in.PageSize})
	if err != nil {
		return nil, err
	}
	page, err := rest.List(ctx, list, eventAnswer)
	return &eventsOutput{Body: Events{Meta: page.Meta, Paging: &page.Paging, Data: page.Data}}, err
}

func eventAnswer(e db.Event) (Event, error) {
	a := Event{
		ID: e.ID, EventType: e.Type, EntityType: e.EntityType, EntityID: e.EntityID,
		ChangedBy: e.ChangedBy, EventTime: e.Time.UTC(),
	}
	if err := json.Unmarshal(e.Properties, &a.Properties); err != nil {
		return a, fmt.Errorf("event %s: %w", e.ID, err)
	}
	return a, nil
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
