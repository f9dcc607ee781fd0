package api_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/api/rest"
)

type feed struct {
	Data []struct {
		ID         uuid.UUID      `json:"id"`
		EventType  string         `json:"event_type"`
		EntityType string         `json:"entity_type"`
		EntityID   uuid.UUID      `json:"entity_id"`
		Properties map[string]any `json:"properties"`
		ChangedBy  uuid.UUID      `json:"changed_by"`
		EventTime  string         `json:"event_time"`
	} `json:"data"`
	Cursor string       `json:"cursor"`
	Paging *rest.Paging `json:"paging"`
}

func (s *service) events(query, prefer string) (f feed, a answer) {
	s.t.Helper()
	a = s.do(call{method: "GET", path: "/api/events" + query, header: map[string]string{"Prefer": prefer}})
	if a.code != 200 {
		s.t.Fatalf("%s: %d %s", query, a.code, a.raw)
	}
	must(s.t, json.Unmarshal([]byte(a.raw), &f))
	return f, a
}

func TestEvents(t *testing.T) {
	t.Parallel()
	s := newService(t).work()
	nothing, _ := s.events("", "")
	if len(nothing.Data) != 0 || nothing.Cursor != "0000000000000000" {
		t.Errorf("%+v", nothing)
	}
	_, id := s.serviceRequest("in_queue", held(s.clinic))
	if a := s.do(s.release(id, "wait=30")); a.code != 200 {
		t.Fatalf("%d %s", a.code, a.raw)
	}
	s.primaryLicense(s.clinic)
	if a := s.do(license()); a.code != 201 {
		t.Fatalf("%d %s", a.code, a.raw)
	}
	first, _ := s.events("?limit=1&after="+nothing.Cursor, "")
	second, _ := s.events("?after="+first.Cursor, "")
	if len(first.Data) != 1 || len(second.Data) != 1 {
		t.Fatalf("%+v, %+v", first, second)
	}
	e := first.Data[0]
	if e.EventType != "StatusChangeEvent" || e.EntityType != "ServiceRequest" || e.EntityID != id ||
		e.ChangedBy != s.user || e.EventTime == "" ||
		fmt.Sprint(e.Properties) != "map[program_processing_status:map[new_value:new old_value:in_queue]]" {
		t.Errorf("%+v", e)
	}
	if e := second.Data[0]; e.EntityType != "License" ||
		fmt.Sprint(e.Properties) != "map[status:map[new_value:active old_value:<nil>]]" {
		t.Errorf("%+v", e)
	}
	last, a := s.events("?after="+second.Cursor, "wait=1")
	if len(last.Data) != 0 || last.Cursor != second.Cursor || a.header.Get("Preference-Applied") != "wait=1" {
		t.Errorf("%+v %v", last, a.header)
	}

	// A waiting caller is answered as soon as there is an event.
	woken := make(chan feed, 1)
	go func() {
		f, _ := s.events("?after="+second.Cursor, "wait=30")
		woken <- f
	}()
	_, next := s.serviceRequest("in_queue", held(s.clinic))
	if a := s.do(s.release(next, "wait=30")); a.code != 200 {
		t.Fatalf("%d %s", a.code, a.raw)
	}
	if f := receive(t, woken); len(f.Data) != 1 || f.Data[0].EntityID != next {
		t.Errorf("%+v", f)
	}

	for _, cursor := range []string{"x", "8000000000000000", "0000000000000000000", "000000000000000G"} {
		s.invalid(call{method: "GET", path: "/api/events?after=" + cursor},
			"$.after format string does not match the pattern ^[0-7][0-9a-f]{15}$")
	}
	s.invalid(call{method: "GET", path: "/api/events?limit=0"},
		"$.limit range expected a number of at least 1 and at most 300")
	s.invalid(call{method: "GET", path: "/api/events?limit=301"},
		"$.limit range expected a number of at least 1 and at most 300")
	s.invalid(call{method: "GET", path: "/api/events?before=1"},
		"$.before schema schema does not allow additional properties")
}

// TestEventsNoLongerKept: a cursor before removed events is answered 409, with and without waiting. Without a cursor
// the list begins with the oldest event that is kept.
func TestEventsNoLongerKept(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for _, days := range []int{91, 91, 1} {
		s.sql(`INSERT INTO ops.events (entity_type, entity_id, properties, changed_by, event_time, legal_entity_ids)
			VALUES ('License', gen_random_uuid(), '{"status": {"old_value": null, "new_value": "active"}}', gen_random_uuid(),
				now() - make_interval(days => $1), ARRAY[$2::uuid])`, days, s.clinic)
	}
	first, _ := s.events("?limit=1", "")
	second, _ := s.events("?limit=1&after="+first.Cursor, "")
	if n, err := s.app.Events.Prune(t.Context(), 90*24*time.Hour); n != 2 || err != nil {
		t.Fatalf("%d pruned, %v", n, err)
	}
	for _, prefer := range []string{"", "wait=30"} {
		for _, cursor := range []string{"0000000000000000", first.Cursor} {
			a := s.do(call{method: "GET", path: "/api/events?after=" + cursor, header: map[string]string{"Prefer": prefer}})
			if a.code != 409 || a.body.Error.Type != "request_conflict" ||
				a.body.Error.Message != "Events after this cursor are no longer kept" {
				t.Errorf("after %s: %d %s", cursor, a.code, a.raw)
			}
		}
	}
	for _, query := range []string{"", "?after=" + second.Cursor} {
		if f, _ := s.events(query, ""); len(f.Data) != 1 || f.Cursor <= second.Cursor {
			t.Errorf("%q: %+v", query, f)
		}
	}
}

// TestEventsOfEveryEffect: the holder and the requester of a service request get the events of each of its changes, and
// no other legal entity does.
func TestEventsOfEveryEffect(t *testing.T) {
	t.Parallel()
	s := newService(t).work()
	requester, stranger := uuid.New(), uuid.New()
	s.legalEntity(requester, "PRIMARY_CARE", "ACTIVE")
	s.legalEntity(stranger, "OUTPATIENT", "ACTIVE")
	_, id := s.serviceRequest("new", uuid.NullUUID{})
	_, expired := s.serviceRequest("new", uuid.NullUUID{})
	s.sql(`UPDATE medical_events.service_requests SET requester_legal_entity_id = $1`, requester)
	s.sql(`UPDATE medical_events.service_requests SET expiration_date = now() - interval '1 day' WHERE id = $1`, expired)
	for _, c := range []call{act(id, "use", useBody(s.clinic)), act(id, "release", ""),
		act(id, "use", useBody(s.clinic)), act(id, "process", ""), act(id, "complete", completion)} {
		c.header = map[string]string{"Prefer": "wait=30"}
		if a := s.do(c); a.code != 200 {
			t.Fatalf("%s: %d %s", c.path, a.code, a.raw)
		}
	}
	done, err := s.app.ServiceRequests.Expire(t.Context(), nil, func(uuid.UUID, error) {})
	if err != nil || done.Recalled != 1 {
		t.Fatalf("%+v, %v", done, err)
	}

	const program = "program_processing_status:map[new_value:%s old_value:%s]"
	held := []string{
		fmt.Sprintf("map["+program+"]", "in_queue", "new"),
		fmt.Sprintf("map["+program+"]", "new", "in_queue"),
		fmt.Sprintf("map["+program+"]", "in_queue", "new"),
		fmt.Sprintf("map["+program+"]", "in_progress", "in_queue"),
		fmt.Sprintf("map["+program+" status:map[new_value:completed old_value:active]]", "completed", "in_progress"),
	}
	for _, c := range []struct {
		name        string
		legalEntity uuid.UUID
		want        []string
	}{
		{"holder", s.clinic, held},
		{"requester", requester, append(slices.Clone(held), "map[status:map[new_value:recalled old_value:active]]")},
		{"stranger", stranger, nil},
	} {
		s.token = s.issue(c.legalEntity, allScopes, time.Hour)
		f, _ := s.events("", "")
		var got []string
		for _, e := range f.Data {
			got = append(got, fmt.Sprint(e.Properties))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s\n got %v\nwant %v", c.name, got, c.want)
		}
	}
}

// TestCursorAfterARestore: a cursor of a state that a restore has lost is answered 409, whether the request waits or
// not.
func TestCursorAfterARestore(t *testing.T) {
	t.Parallel()
	s := newService(t)
	write := func() {
		s.sql(`INSERT INTO ops.events (entity_type, entity_id, properties, changed_by, legal_entity_ids)
			VALUES ('License', gen_random_uuid(), '{"status": {"old_value": null, "new_value": "active"}}', gen_random_uuid(),
				ARRAY[$1::uuid])`, s.clinic)
	}
	write()
	before, _ := s.events("", "")
	write()
	lost, _ := s.events("?after="+before.Cursor, "")
	s.sql(`DELETE FROM ops.event_feed WHERE event_id = $1`, lost.Data[0].ID) // as a restore of the earlier state does
	for range 2 {
		for _, prefer := range []string{"", "wait=30"} {
			a := s.do(call{method: "GET", path: "/api/events?after=" + lost.Cursor, header: map[string]string{"Prefer": prefer}})
			if a.code != 409 || a.body.Error.Type != "request_conflict" || !strings.Contains(a.body.Error.Message, "restored") {
				t.Errorf("%d %s", a.code, a.raw)
			}
		}
		write()
	}
	if f, _ := s.events("?after="+before.Cursor, ""); len(f.Data) != 2 {
		t.Errorf("the reader from before: %+v", f)
	}
}

// TestEventsByTime: with parameters of its own the method answers a page of a window of time.
func TestEventsByTime(t *testing.T) {
	t.Parallel()
	s := newService(t)
	other := uuid.New()
	s.legalEntity(other, "OUTPATIENT", "ACTIVE")
	// Each event has a user of its own, by which the test knows it.
	users := map[uuid.UUID]string{}
	event := func(name, moment, entity, properties string, concerned ...uuid.UUID) {
		t.Helper()
		user := uuid.New()
		users[user] = name
		s.sql(`INSERT INTO ops.events (entity_type, entity_id, properties, changed_by, event_time, legal_entity_ids)
			VALUES ($1, gen_random_uuid(), $2, $3, $4::text::timestamptz, $5)`, entity, properties, user, moment, concerned)
	}
	const (
		active = `{"status": {"old_value": null, "new_value": "active"}}`
		queued = `{"program_processing_status": {"old_value": "new", "new_value": "in_queue"}}`
		freed  = `{"program_processing_status": {"old_value": "in_queue", "new_value": "new"}}`
	)
	event("three", "2026-03-01 12:00:00Z", "ServiceRequest", freed, s.clinic, other)
	event("one", "2026-03-01 09:00:00Z", "License", active, s.clinic)
	event("two", "2026-03-01 10:30:00.5Z", "ServiceRequest", queued, s.clinic, s.clinic)
	event("four", "2026-03-01 12:00:00.000001Z", "License", active, s.clinic)
	event("foreign", "2026-03-01 11:00:00Z", "License", active, other)
	s.sql(`INSERT INTO ops.events (entity_type, entity_id, properties, changed_by, legal_entity_ids)
		VALUES ('License', gen_random_uuid(), $1, $2, ARRAY[$3::uuid])`, active, s.user, s.clinic)
	users[s.user] = "now"

	for _, dated := range []bool{true, false} {
		for query, want := range map[string]string{
			"date=2026-03-01T09:00:00Z":                                                             "one two three",
			"date=2026-03-01T09:00:00":                                                              "one two three",
			"date=2026-03-01T11:00:00%2B02:00":                                                      "one two three",
			"date=2026-03-01T09:00:00.000001Z":                                                      "two three four",
			"date_to=2026-03-01T11:59:59.999999Z":                                                   "one two",
			"date=2026-03-01T10:00:00Z&date_to=2026-03-01T12:00:00Z":                                "two three",
			"date=2026-03-01T12:00:00Z&date_to=2026-03-01T12:00:00Z":                                "three",
			"date=2026-03-01T09:00:00Z&entity_type=License":                                         "one",
			"date=2026-03-01T09:00:00Z&entity_type=LegalEntity":                                     "",
			"date=2026-03-01T09:00:00Z&event_type=StatusChangeEvent":                                "one two three",
			"date=2026-03-01T09:00:00Z&event_type=StateChangeEvent":                                 "",
			"date=2026-03-01T09:00:00Z&attribute_name=status":                                       "one",
			"date=2026-03-01T09:00:00Z&attribute_name=old_value":                                    "",
			"date=2026-03-01T09:00:00Z&attribute_name=status&new_value=x":                           "",
			"attribute_name=status&new_value=active":                                                "now",
			"page=1":                                                                                "now",
			"page_size=300":                                                                         "now",
			"entity_type=ServiceRequest":                                                            "",
			"date=2026-03-01T09:00:00Z&page_size=2":                                                 "one two",
			"date=2026-03-01T09:00:00Z&page_size=2&page=2":                                          "three",
			"date=2026-03-01T09:00:00Z&page_size=2&page=3":                                          "",
			"date=2026-03-01T09:00:00Z&page=9223372036854775807":                                    "",
			"date=2026-03-01T09:00:00Z&attribute_name=program_processing_status&new_value=in_queue": "two",
		} {
			f, a := s.events("?"+query, "")
			var got []string
			for _, e := range f.Data {
				got = append(got, users[e.ChangedBy])
			}
			if strings.Join(got, " ") != want || f.Cursor != "" || f.Paging == nil {
				t.Errorf("%s (places with moments: %t): got %q, want %q; %s", query, dated, got, want, a.raw)
			}
		}
		f, _ := s.events("?date=2026-03-01T09:00:00Z&page_size=2&page=3", "")
		if *f.Paging != (rest.Paging{PageNumber: 3, PageSize: 2, TotalEntries: 3, TotalPages: 2}) {
			t.Errorf("%+v", *f.Paging)
		}
		// The same once more for places that were published by the release before.
		s.sql(`UPDATE ops.event_feed SET event_time = NULL WHERE event_id IN (
			SELECT id FROM ops.events WHERE date_part('hour', event_time AT TIME ZONE 'UTC') <> 12)`)
	}
}

// TestEventsByTimeRefused: parameters that do not fit together.
func TestEventsByTimeRefused(t *testing.T) {
	t.Parallel()
	s := newService(t)
	const apart = "after and limit read the feed and stand beside no other parameter"
	for query, want := range map[string]string{
		"date=2026-03-01": "$.date format string does not match the pattern " +
			"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})?$",
		"date=2026-02-30T00:00:00Z":    `$.date date expected "2026-02-30T00:00:00Z" to be an existing date`,
		"date_to=2026-01-01T25:00:00Z": `$.date_to date expected "2026-01-01T25:00:00Z" to be an existing date`,
		"date=0000-01-01T00:00:00Z":    `$.date date expected "0000-01-01T00:00:00Z" to be an existing date`,
		"date=2026-03-01T09:00:00Z&date_to=2026-03-01T12:00:00.000001Z": "$.date_to invalid " +
			"date_to must be at most three hours after date",
		"date=2026-03-01T09:00:00Z&date_to=2026-03-01T08:00:00Z": "$.date_to invalid date_to must not be before date",
		"new_value=active":           "$.attribute_name required required property attribute_name was not present",
		"event_type=Other":           "$.event_type inclusion value is not allowed in enum",
		"page=1&limit=1":             "$.limit invalid " + apart,
		"page_size=301":              "$.page_size range expected a number of at least 1 and at most 300",
		"date=":                      "$.date cast type mismatch. Expected string but got string",
		"before=2026-03-01T09:00:00": "$.before schema schema does not allow additional properties",
	} {
		s.invalid(call{method: "GET", path: "/api/events?" + query}, want)
	}
	s.invalid(call{method: "GET", path: "/api/events?date=2026-03-01T09:00:00Z&after=0000000000000000&limit=5"},
		"$.after invalid "+apart, "$.limit invalid "+apart)
}

// TestEventByItsID: an event is read by the legal entities that it concerns, published or not.
func TestEventByItsID(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.primaryLicense(s.clinic)
	if a := s.do(license()); a.code != 201 {
		t.Fatalf("%d %s", a.code, a.raw)
	}
	f, _ := s.events("", "")
	path := "/api/events/" + f.Data[0].ID.String()
	a := s.do(call{method: "GET", path: path})
	listed, err := json.Marshal(f.Data[0])
	must(t, err)
	var one any
	must(t, json.Unmarshal(a.body.Data, &one))
	got, err := json.Marshal(one)
	must(t, err)
	var many any
	must(t, json.Unmarshal(listed, &many))
	listed, err = json.Marshal(many)
	must(t, err)
	if a.code != 200 || string(got) != string(listed) {
		t.Errorf("%d %s, want %s", a.code, got, listed)
	}
	s.refused(call{method: "GET", path: "/api/events/" + uuid.NewString()}, 404, "not_found", "Event not found")
	s.invalid(call{method: "GET", path: "/api/events/1"}, "$.id format string does not match the pattern "+
		"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$")
	s.token = s.issue(uuid.New(), allScopes, time.Hour)
	s.refused(call{method: "GET", path: path}, 404, "not_found", "Event not found")
}
