package api_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
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
	Cursor string `json:"cursor"`
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
