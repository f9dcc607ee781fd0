package schemadoc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/reiestr/reiestr/db"
)

// states are the results of every action in every situation that the constraints allow.
type states struct {
	actions    []string
	situations []situation
	outcomes   map[situation]map[string]outcome
	refused    map[string][]situation // constraint → situations that it refuses
	// Results of an UPDATE of the status only, as the service: from → to → the constraint that refuses; "": none.
	serviceRequests, jobs map[string]map[string]string
	jobEnds               map[string][]string // status → ways in which a job gets it
}

// outcome is the result of an action: the new situation, or the rule that refuses.
type outcome struct {
	refusal db.Refusal
	to      situation
}

const expiry = "expiry"

// refusedBy is the constraint, or the trigger that acts as one, that has refused a row; "": none.
func refusedBy(err error) (string, error) {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "23514" {
		return pg.ConstraintName, nil
	}
	return "", err
}

// allowed are the values that a CHECK allows in a column, in its order.
func allowed(ctx context.Context, conn *pgx.Conn, table, column string) ([]string, error) {
	rows, _ := conn.Query(ctx, `
		SELECT m.value[1]
		FROM pg_catalog.pg_constraint k
		JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND k.conkey = ARRAY[a.attnum]
		CROSS JOIN LATERAL pg_catalog.regexp_matches(pg_catalog.pg_get_constraintdef(k.oid), '''([^'']*)''::text',
			'g') WITH ORDINALITY AS m (value, place)
		WHERE k.contype = 'c' AND k.conrelid = $1::text::pg_catalog.regclass AND a.attname = $2
			AND pg_catalog.strpos(pg_catalog.pg_get_constraintdef(k.oid), '= ANY (ARRAY[') > 0
		ORDER BY m.place`, table, column)
	values, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err == nil && len(values) == 0 {
		err = fmt.Errorf("no constraint lists the values of %s.%s", table, column)
	}
	return values, err
}

func (d *document) rehearseStates(ctx context.Context, url string, owner *pgx.Conn) error {
	s, err := newStage(ctx, d, url, owner)
	if err != nil {
		return err
	}
	app, err := db.Open(ctx, db.Config{URL: url, TimeZone: timeZone})
	if err != nil {
		return err
	}
	defer app.Close()
	d.states = states{
		outcomes: map[situation]map[string]outcome{}, refused: map[string][]situation{},
		serviceRequests: map[string]map[string]string{}, jobs: map[string]map[string]string{}, jobEnds: map[string][]string{},
	}
	for _, a := range actions {
		d.states.actions = append(d.states.actions, string(a.Action))
	}
	d.states.actions = append(d.states.actions, expiry)
	statuses, err := allowed(ctx, owner, "medical_events.service_requests", "status")
	if err != nil {
		return err
	}
	processing, err := allowed(ctx, owner, "medical_events.service_requests", "program_processing_status")
	if err != nil {
		return err
	}
	var tries []try
	for _, status := range statuses {
		for _, program := range []bool{false, true} {
			for _, p := range append([]string{""}, processing...) {
				for _, holder := range []string{"", byCaller, byOther} {
					accepted, err := d.states.attempt(ctx, s, app, situation{status, program, p, holder})
					if err != nil {
						return err
					}
					tries = append(tries, accepted...)
				}
			}
		}
	}
	if err := run(ctx, app); err != nil {
		return err
	}
	if _, err := app.ServiceRequests.Expire(ctx, nil, func(uuid.UUID, error) {}); err != nil {
		return err
	}
	for _, t := range tries {
		if err := d.states.conclude(ctx, s, app, t); err != nil {
			return err
		}
	}
	if err := d.states.rehearseStatus(ctx, s, statuses); err != nil {
		return err
	}
	return d.states.rehearseJobs(ctx, s, app)
}

// try is an action in a situation.
type try struct {
	action  string
	at      situation
	id      uuid.UUID // service request
	job     uuid.UUID // of an accepted action
	refusal db.Refusal
}

// attempt brings a service request for each action into the situation, if the constraints allow it, and orders the
// action.
func (st *states) attempt(ctx context.Context, s *stage, app *db.DB, at situation) ([]try, error) {
	var tries []try
	for _, action := range st.actions {
		expires := time.Now().Add(time.Hour)
		if action == expiry {
			expires = time.Now().Add(-time.Hour)
		}
		id, err := s.put(ctx, at, expires)
		constraint, err := refusedBy(err)
		if err != nil {
			return nil, err
		}
		if constraint != "" {
			st.refused[constraint] = append(st.refused[constraint], at)
			return nil, nil
		}
		t := try{action: action, at: at, id: id}
		if action != expiry {
			job, err := app.Jobs.Accept(ctx, s.order(db.Action(action), id))
			if err != nil && !errors.As(err, &t.refusal) {
				return nil, err
			}
			t.job = job.ID
		}
		tries = append(tries, t)
	}
	st.situations = append(st.situations, at)
	st.outcomes[at] = map[string]outcome{}
	return tries, nil
}

// conclude reads the result of a try.
func (st *states) conclude(ctx context.Context, s *stage, app *db.DB, t try) error {
	if t.job != uuid.Nil {
		job, err := app.Jobs.Get(ctx, s.caller.ClientID, t.job)
		if err != nil {
			return err
		}
		if job.Status != db.Processed {
			return fmt.Errorf("the job of %s in %s is %s: %q", t.action, t.at, job.Status, job.Refusal)
		}
	}
	to, err := s.find(ctx, t.id)
	st.outcomes[t.at][t.action] = outcome{t.refusal, to}
	return err
}

// rehearseStatus tries every change of the status only, as the service may write it without the rules.
func (st *states) rehearseStatus(ctx context.Context, s *stage, statuses []string) error {
	service, err := connect(ctx, s.url, db.App)
	if err != nil {
		return err
	}
	defer service.Close(context.WithoutCancel(ctx))
	for _, from := range statuses {
		st.serviceRequests[from] = map[string]string{}
		for _, to := range statuses {
			if from == to {
				continue
			}
			id, err := s.put(ctx, situation{status: from}, time.Now().Add(time.Hour))
			if err != nil {
				return err
			}
			_, err = service.Exec(ctx, `UPDATE medical_events.service_requests SET status = $2 WHERE id = $1`, id, to)
			if st.serviceRequests[from][to], err = refusedBy(err); err != nil {
				return err
			}
		}
	}
	return nil
}

// rehearseJobs ends jobs in every possible way, and tries every change of an ended job.
func (st *states) rehearseJobs(ctx context.Context, s *stage, app *db.DB) error {
	service, err := connect(ctx, s.url, db.App)
	if err != nil {
		return err
	}
	defer service.Close(context.WithoutCancel(ctx))
	statuses, err := allowed(ctx, s.owner, "ops.jobs", "status")
	if err != nil {
		return err
	}
	accept := func() (uuid.UUID, uuid.UUID, error) {
		id, err := s.put(ctx, actions[0].from, time.Now().Add(time.Hour))
		if err != nil {
			return id, id, err
		}
		job, err := app.Jobs.Accept(ctx, s.order(db.Use, id))
		return job.ID, id, err
	}
	for _, way := range []struct {
		label string
		end   func(job, serviceRequest uuid.UUID) error
	}{
		{"no rule refuses", func(uuid.UUID, uuid.UUID) error { return run(ctx, app) }},
		{"a rule refuses under the lock", func(_, id uuid.UUID) error {
			if _, err := s.owner.Exec(ctx, `UPDATE medical_events.service_requests SET status = 'recalled' WHERE id = $1`,
				id); err != nil {
				return err
			}
			return run(ctx, app)
		}},
		{"the last attempt fails", func(job, _ uuid.UUID) error {
			for {
				if ended, err := app.Jobs.CountAttempt(ctx, job, 0); err != nil || ended {
					return err
				}
			}
		}},
	} {
		job, id, err := accept()
		if err == nil {
			err = way.end(job, id)
		}
		if err != nil {
			return err
		}
		ended, err := app.Jobs.Get(ctx, s.caller.ClientID, job)
		if err != nil {
			return err
		}
		from := string(ended.Status)
		st.jobEnds[from] = append(st.jobEnds[from], way.label)
		st.jobs[from] = map[string]string{}
		for _, to := range statuses {
			if to == from {
				continue
			}
			_, err := service.Exec(ctx, `
				UPDATE ops.jobs SET status = $2::text, refusal = CASE WHEN $2 = 'failed' THEN '-' END, ended_at = CASE
					WHEN $2 <> 'pending' THEN inserted_at END
				WHERE id = $1`, job, to)
			if st.jobs[from][to], err = refusedBy(err); err != nil {
				return err
			}
		}
	}
	return nil
}

// edges are the changes that actions make, for the diagram: from → to → actions.
type edges map[string]map[string][]string

func (e edges) add(from, to, by string) {
	if e[from] == nil {
		e[from] = map[string][]string{}
	}
	if !slices.Contains(e[from][to], by) {
		e[from][to] = append(e[from][to], by)
	}
}

func (e edges) diagram() string {
	var b strings.Builder
	b.WriteString("stateDiagram-v2\n")
	nodes, entered := map[string]bool{}, map[string]bool{}
	for from, targets := range e {
		nodes[from] = true
		for to := range targets {
			nodes[to], entered[to] = true, true
		}
	}
	for _, n := range slices.Sorted(maps.Keys(nodes)) {
		if n == null {
			fmt.Fprintf(&b, "    state \"%s\" as %s\n", n, id(n))
		}
	}
	for _, n := range slices.Sorted(maps.Keys(nodes)) {
		if !entered[n] {
			fmt.Fprintf(&b, "    [*] --> %s\n", id(n))
		}
	}
	for _, from := range slices.Sorted(maps.Keys(e)) {
		for _, to := range slices.Sorted(maps.Keys(e[from])) {
			fmt.Fprintf(&b, "    %s --> %s: %s\n", id(from), id(to), strings.Join(e[from][to], ", "))
		}
	}
	for _, n := range slices.Sorted(maps.Keys(nodes)) {
		if len(e[n]) == 0 {
			fmt.Fprintf(&b, "    %s --> [*]\n", id(n))
		}
	}
	return b.String()
}

const null = "null"

// id is the name of a state in the diagram, whose language has the word null for another purpose.
func id(state string) string {
	if state == null {
		return "no_value"
	}
	return state
}

func orNull(value string) string {
	if value == "" {
		return null
	}
	return value
}

func (s situation) String() string {
	parts := []string{s.status}
	if !s.program {
		parts = append(parts, "no programme")
	}
	if s.program || s.processing != "" {
		parts = append(parts, orNull(s.processing))
	}
	if s.holder != "" {
		parts = append(parts, "held by "+s.holder)
	}
	return strings.Join(parts, ", ")
}

func (st *states) machines() (status, processing edges) {
	status, processing = edges{}, edges{}
	for _, at := range st.situations {
		for _, action := range st.actions {
			to := st.outcomes[at][action].to
			if to.status != at.status {
				status.add(at.status, to.status, action)
			}
			if to.processing != at.processing {
				processing.add(orNull(at.processing), orNull(to.processing), action)
			}
		}
	}
	for from, targets := range st.serviceRequests {
		for to, constraint := range targets {
			if constraint == "" && status[from][to] == nil {
				status.add(from, to, "no action")
			}
		}
	}
	return status, processing
}

func (d *document) statesPage() string {
	st := &d.states
	p := newPage("State machines")
	p.paragraph(`
These pages come from a database. For every combination of values that the constraints allow, a service request was
stored, each action was carried out as the service does it, as a request and a job, and the row was read afterwards.`)
	status, processing := st.machines()

	p.heading(2, "status of a service request")
	p.code("mermaid", status.diagram())
	p.paragraph("*no action*: the database allows this change to the service, but no action makes it. Bundles store " +
		"such rows.")
	var refusals [][]string
	byConstraint := map[string][]string{}
	for _, from := range slices.Sorted(maps.Keys(st.serviceRequests)) {
		for _, to := range slices.Sorted(maps.Keys(st.serviceRequests[from])) {
			if constraint := st.serviceRequests[from][to]; constraint != "" {
				byConstraint[constraint] = append(byConstraint[constraint], from+" → "+to)
			}
		}
	}
	for _, constraint := range slices.Sorted(maps.Keys(byConstraint)) {
		refusals = append(refusals, []string{code(constraint), strings.Join(byConstraint[constraint], "; ")})
	}
	p.paragraph("Changes that the database refuses to the service in every statement:")
	p.table([]string{"by", "change"}, refusals)

	p.heading(2, "program_processing_status of a service request")
	p.code("mermaid", processing.diagram())
	p.paragraph(`
A bundle may store a service request with any value; the diagram shows a start where no action leads. The checks in sql/
and the conditions of the updates enforce the order. The constraints enforce the combinations, see below.`)

	p.heading(2, "Every situation and every action")
	p.paragraph(`
A situation is status, program_processing_status and holder. A cell shows the new situation, or the code of the check
that refuses the action; [queries.md](queries.md#service_requestssql) has the order of the checks. *The caller* is a
legal entity that may act. It sends a valid body, and the service request has not expired. In the column *` + expiry +
		`* it
has expired; an empty cell means no change.`)
	p.table(append([]string{"situation"}, st.actions...), st.matrix())

	p.heading(2, "What cannot be")
	p.paragraph("Situations that a constraint refuses, whichever role writes:")
	var rows [][]string
	for _, constraint := range slices.Sorted(maps.Keys(st.refused)) {
		var all []string
		for _, s := range st.refused[constraint] {
			text := s.String()
			_, rest, _ := strings.Cut(text, ", ")
			if !slices.Contains(all, rest) {
				all = append(all, rest)
			}
		}
		rows = append(rows, []string{code(constraint), strings.Join(all, "; ")})
	}
	p.table([]string{"constraint", "situation, whatever the status"}, rows)

	p.heading(2, "status of a job")
	ends := edges{}
	for to, ways := range st.jobEnds {
		for _, way := range ways {
			ends.add("pending", to, way)
		}
	}
	p.code("mermaid", ends.diagram())
	p.paragraph("What the database refuses the service once a job has ended:")
	rows = nil
	for _, from := range slices.Sorted(maps.Keys(st.jobs)) {
		for _, to := range slices.Sorted(maps.Keys(st.jobs[from])) {
			rows = append(rows, []string{from + " → " + to, code(st.jobs[from][to])})
		}
	}
	p.table([]string{"change", "by"}, rows)
	return p.String()
}

// matrix joins situations that all actions treat in the same way.
func (st *states) matrix() [][]string {
	type frame struct {
		status  string
		program bool
	}
	kinds := map[frame]map[string]bool{} // the different rows of a status, with and without programme
	cells := map[situation][]string{}
	for _, at := range st.situations {
		f := frame{at.status, at.program}
		if kinds[f] == nil {
			kinds[f] = map[string]bool{}
		}
		for _, action := range st.actions {
			o, cell := st.outcomes[at][action], ""
			switch {
			case o.refusal != "":
				cell = code(string(o.refusal))
			case o.to != at:
				cell = "**" + o.to.String() + "**"
			}
			cells[at] = append(cells[at], cell)
		}
		kinds[f][strings.Join(cells[at], "|")] = true
	}
	var rows [][]string
	for _, at := range st.situations {
		name := at.String()
		if f := (frame{at.status, at.program}); len(kinds[f]) == 1 {
			name = at.status + map[bool]string{false: ", no programme", true: ", with a programme"}[at.program] +
				", any other value"
		}
		same := slices.IndexFunc(rows, func(other []string) bool { return slices.Equal(other[1:], cells[at]) })
		switch {
		case same < 0:
			rows = append(rows, append([]string{name}, cells[at]...))
		case !slices.Contains(strings.Split(rows[same][0], "<br>"), name):
			rows[same][0] += "<br>" + name
		}
	}
	return rows
}
