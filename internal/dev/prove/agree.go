package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"time"
)

// settled waits until no job is pending.
func (d *driver) settled(ctx context.Context) error {
	for limit := time.Now().Add(jobLimit); ; time.Sleep(100 * time.Millisecond) {
		var pending int
		err := d.conn.QueryRow(ctx, `SELECT count(*) FROM ops.jobs WHERE status = 'pending'`).Scan(&pending)
		switch {
		case err != nil:
			return err
		case pending == 0:
			return nil
		case time.Now().After(limit):
			return fmt.Errorf("%d jobs are pending after %s", pending, jobLimit)
		}
	}
}

// disagreements are queries that find what no history of legal steps leaves in the tables. Each answers an id.
var disagreements = map[string]string{
	// 4.2: the states of a service request, and the way from each to the next. The first is that of the beginning.
	"a history has an illegal step": `
		SELECT service_request_id FROM (
			SELECT h.service_request_id, h.program_processing_status AS became,
				coalesce(lag(h.program_processing_status) OVER steps,
					CASE WHEN r.expiration_date < now() THEN 'in_queue' ELSE 'new' END) AS was
			FROM medical_events.service_request_history h
			JOIN medical_events.service_requests r ON r.id = h.service_request_id
			WHERE h.program_processing_status IS NOT NULL
			WINDOW steps AS (PARTITION BY h.service_request_id ORDER BY h.sequence_number)
		) AS s
		WHERE (was, became) NOT IN (('new', 'in_queue'), ('in_queue', 'in_progress'), ('in_progress', 'completed'),
			('in_queue', 'new'))`,
	"the last item of the history is not the state": `
		SELECT r.id FROM medical_events.service_requests r
		CROSS JOIN LATERAL (
			SELECT h.program_processing_status FROM medical_events.service_request_history h
			WHERE h.service_request_id = r.id AND h.program_processing_status IS NOT NULL
			ORDER BY h.sequence_number DESC LIMIT 1
		) AS last
		WHERE last.program_processing_status <> r.program_processing_status`,
	// 4.3: the job writes effect, history and event in one transaction.
	"effects, history and events differ in number": `
		SELECT r.id FROM medical_events.service_requests r
		WHERE (SELECT count(*) FROM ops.jobs j WHERE j.service_request_id = r.id AND j.status = 'processed')
				<> (SELECT count(*) FROM medical_events.service_request_history h
					WHERE h.service_request_id = r.id AND h.program_processing_status IS NOT NULL)
			OR (SELECT count(*) FROM ops.jobs j WHERE j.service_request_id = r.id AND j.status = 'processed')
				+ (r.status = 'recalled')::int <> (SELECT count(*) FROM ops.events e WHERE e.entity_id = r.id)`,
	"the events do not tell the history in its order": `
		SELECT r.id FROM medical_events.service_requests r
		WHERE ARRAY(SELECT h.program_processing_status FROM medical_events.service_request_history h
				WHERE h.service_request_id = r.id AND h.program_processing_status IS NOT NULL ORDER BY h.sequence_number)
			<> ARRAY(SELECT e.properties -> 'program_processing_status' ->> 'new_value' FROM ops.events e
				WHERE e.entity_id = r.id AND e.properties ? 'program_processing_status' ORDER BY e.sequence_number)`,
	"an old value of an event is not the new one of the event before": `
		SELECT entity_id FROM (
			SELECT entity_id, properties -> 'program_processing_status' ->> 'old_value' AS was,
				lag(properties -> 'program_processing_status' ->> 'new_value') OVER steps AS became
			FROM ops.events WHERE properties ? 'program_processing_status'
			WINDOW steps AS (PARTITION BY entity_id ORDER BY sequence_number)
		) AS e WHERE was <> became`,
	// 3.1, 7: the legal entity has no licence of the type.
	"a legal entity has a type of licence twice": `
		SELECT legal_entity_id FROM prm.licenses WHERE NOT is_primary GROUP BY legal_entity_id, type HAVING count(*) > 1`,
	"a job ended before it was accepted": `SELECT id FROM ops.jobs WHERE ended_at < inserted_at`,
}

// agree compares the tables with what a legal history leaves there, and the feeds with the events.
func (d *driver) agree(ctx context.Context) {
	for name, query := range disagreements {
		rows, err := d.conn.Query(ctx, query)
		if err != nil {
			d.fail("%s: %w", name, err)
			continue
		}
		count, first := 0, ""
		for rows.Next() {
			if count++; count == 1 {
				var id [16]byte
				if err := rows.Scan(&id); err == nil {
					first = fmt.Sprintf("%x", id)
				}
			}
		}
		if rows.Err() != nil || count > 0 {
			d.fail("%s: %d times, first %s, %v", name, count, first, rows.Err())
		}
	}
	for _, c := range d.clinics {
		d.readFeed(ctx, c)
	}
}

// readFeed reads the feed of a legal entity from its beginning. Contract 6: each event that concerns the client, in
// order for each entity.
func (d *driver) readFeed(ctx context.Context, who caller) {
	reader := client{driver: d, dice: fair()}
	seen := map[string]bool{}
	told := map[string]string{}
	for cursor := ""; ; {
		query := url.Values{"limit": {"100"}}
		if cursor != "" {
			query.Set("after", cursor)
		}
		a := reader.send(ctx, asked{"GET", "/api/events?" + query.Encode(), who.tokens[0], nil, nil})
		var feed struct {
			Data []struct {
				ID         string
				EntityID   string `json:"entity_id"`
				Properties struct {
					Processing *struct {
						Old *string `json:"old_value"`
						New *string `json:"new_value"`
					} `json:"program_processing_status"`
				}
			}
			Cursor string
		}
		if err := json.Unmarshal([]byte(a.raw), &feed); err != nil || a.code != 200 {
			d.fail("events: %d %s", a.code, a.raw)
			return
		}
		for _, e := range feed.Data {
			if seen[e.ID] {
				d.fail("the feed has the event %s twice", e.ID)
			}
			seen[e.ID] = true
			if p := e.Properties.Processing; p != nil && p.New != nil {
				told[e.EntityID] += *p.New + " "
			}
		}
		if len(feed.Data) == 0 {
			break
		}
		cursor = feed.Cursor
	}
	rows, err := d.conn.Query(
		ctx,
		`SELECT e.id::text, e.entity_id::text, e.properties -> 'program_processing_status' ->> 'new_value'
		FROM ops.events e WHERE $1 = ANY (e.legal_entity_ids) ORDER BY e.sequence_number`,
		who.id,
	)
	if err != nil {
		d.fail("events: %w", err)
		return
	}
	written := map[string]string{}
	for rows.Next() {
		var id, entity string
		var became *string
		if err := rows.Scan(&id, &entity, &became); err != nil {
			d.fail("events: %w", err)
			return
		}
		if !seen[id] {
			d.fail("the feed of %s lacks the event %s", who.id, id)
		}
		if became != nil {
			written[entity] += *became + " "
		}
	}
	for entity, order := range written {
		if told[entity] != order {
			d.fail("the feed tells %q of %s, which was %q", told[entity], entity, order)
		}
	}
}

// readAll adds a last read of each object to the history, so that the states that it leaves are judged too.
func (d *driver) readAll(ctx context.Context) {
	c := client{driver: d, number: -3, dice: fair()}
	touched := map[string]bool{}
	d.history.mu.Lock()
	for _, r := range d.history.records {
		touched[r.Input.Object] = touched[r.Input.Object] || r.Input.Kind != begin
	}
	d.history.mu.Unlock()
	for n, id := range d.requests {
		if !touched[requestObject(n)] {
			continue
		}
		call := d.history.now()
		a := c.send(ctx, asked{
			"GET",
			"/api/patients/" + id.String() + "/service_requests/" + id.String(),
			d.clinics[0].tokens[0],
			nil,
			nil,
		})
		c.record(input{Object: requestObject(n), Kind: read, Client: 1}, a, call, "", c.shown(a))
	}
	for n := range d.licensed {
		call := d.history.now()
		a := c.send(ctx, asked{"GET", "/api/licenses?page_size=300", d.licensed[n].tokens[0], nil, nil})
		c.record(input{Object: licencesObject(n), Kind: read, Client: n + 1}, a, call, "", c.listed(a))
	}
}
