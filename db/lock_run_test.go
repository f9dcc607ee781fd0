package db_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/reiestr/reiestr/internal/dev/testdb"
)

// lockLane is a database in which the permutations of a spec run one after the other. It keeps the connections of their
// sessions.
type lockLane struct {
	t        *testing.T
	spec     *lockSpec
	queries  map[string]namedQuery
	url      string
	observer *pgx.Conn
	conns    map[string]*pgx.Conn
	clear    string // SQL that restores the database
}

// lockRun is one run of a permutation.
type lockRun struct {
	*lockLane
	sessions map[string]*lockBackend
	output   strings.Builder
}

func newLockLane(t *testing.T, s *lockSpec, queries map[string]namedQuery) *lockLane {
	l := &lockLane{t: t, spec: s, queries: queries, url: testdb.New(t).URL, conns: map[string]*pgx.Conn{}}
	l.observer = l.connect("observer")
	// The rows of the migrations are copied, and all others are removed.
	err := l.observer.QueryRow(t.Context(), `
		SELECT string_agg(format('DELETE FROM %1$s; INSERT INTO %1$s SELECT * FROM pg_temp.%2$I;', c.oid::regclass,
			c.relname), ' ')
				FILTER (WHERE c.relname IN ('dictionaries', 'dictionary_values', 'parameters'))
			|| string_agg(format('DELETE FROM %s;', c.oid::regclass), ' ')
				FILTER (WHERE c.relkind = 'r' AND c.relname NOT IN ('dictionaries', 'dictionary_values', 'parameters'))
			|| string_agg(format('SELECT setval(%L, 1, false);', c.oid::regclass), ' ') FILTER (WHERE c.relkind = 'S')
		FROM pg_class c
		WHERE c.relnamespace IN ('prm'::regnamespace, 'medical_events'::regnamespace, 'ops'::regnamespace)
			AND c.relkind IN ('r', 'S') AND NOT starts_with(c.relname, 'schema_versions')`).Scan(&l.clear)
	must(t, err)
	// Without foreign keys the order does not matter.
	l.clear = "SET session_replication_role = replica; " + l.clear + " RESET session_replication_role"
	for _, table := range []string{"dictionaries", "dictionary_values", "parameters"} {
		exec(t, l.observer, `CREATE TEMPORARY TABLE `+table+` AS TABLE prm.`+table)
	}
	return l
}

// lockBackend is a session with its connection.
type lockBackend struct {
	name    string
	conn    *pgx.Conn
	last    map[string]string // the columns of the last row
	running *runningStep      // nil: idle

	executed []executed
	waited   string // the statement at which it has waited, and the sessions that it waited for; "": none
}

// executed is a statement that has run.
type executed struct {
	step  string // of the spec; empty: of a set-up
	name  string // of the query, or begin, commit, rollback; "": plain SQL
	rows  int64
	row   map[string]string // the last row of the result
	fault string
}

type runningStep struct {
	step *lockStep
	at   atomic.Int64 // index of the running statement
	done chan []string
	told bool // the output says that it waits
}

// stepLimit is the longest time of a step that waits for no other session.
const stepLimit = 30 * time.Second

// run carries out a permutation and answers what happened, in the form of PostgreSQL's isolation tests.
func (l *lockLane) run(p lockPermutation) *lockRun {
	r := &lockRun{lockLane: l, sessions: map[string]*lockBackend{}}
	s, t := l.spec, l.t
	exec(t, l.observer, l.clear, pgx.QueryExecModeSimpleProtocol)
	names := make([]string, len(p.steps))
	for i, step := range p.steps {
		names[i] = step.name
	}
	if p.title != "" {
		fmt.Fprintf(&r.output, "# %s\n", p.title)
	}
	fmt.Fprintf(&r.output, "permutation: %s\n", strings.Join(names, " "))
	scenery := &lockBackend{name: "observer", conn: r.observer}
	r.must(scenery, s.setup)
	for _, step := range p.steps {
		b := r.sessions[step.session.name]
		if b == nil {
			b = &lockBackend{name: step.session.name, conn: l.session(step.session.name)}
			r.sessions[b.name] = b
			r.must(b, step.session.setup)
			b.executed = nil
		}
		if b.running != nil {
			t.Fatalf("%s still waits and cannot begin %s\n%s", b.name, step.name, r.output.String())
		}
		r.start(b, step)
		r.settle(b)
		// A step that ends may release another step.
		for ended := true; ended; {
			ended = false
			for _, name := range slices.Sorted(maps.Keys(r.sessions)) {
				if other := r.sessions[name]; other.running != nil && other != b {
					r.settle(other)
					ended = ended || other.running == nil
				}
			}
		}
	}
	for _, b := range r.sessions {
		if b.running != nil {
			t.Fatalf("at the end %s still waits in %s\n%s", b.name, b.running.step.name, r.output.String())
		}
		if b.conn.PgConn().TxStatus() != 'I' {
			t.Fatalf("at the end %s is in a transaction\n%s", b.name, r.output.String())
		}
	}
	scenery.executed = nil
	if lines := r.must(scenery, s.teardown); len(lines) > 0 {
		for i, line := range lines {
			lines[i] = "  " + line[strings.LastIndex(line, ": ")+2:]
		}
		fmt.Fprintf(&r.output, "at the end:\n%s\n", strings.Join(lines, "\n"))
	}
	return r
}

// session is the connection with that name, in the state of a new one.
func (l *lockLane) session(name string) *pgx.Conn {
	if l.conns[name] == nil {
		l.conns[name] = l.connect(name)
	}
	exec(l.t, l.conns[name], "DISCARD ALL", pgx.QueryExecModeSimpleProtocol)
	return l.conns[name]
}

// connect opens a session with the settings of the service. The spec sets its role.
func (l *lockLane) connect(name string) *pgx.Conn {
	config, err := pgx.ParseConfig(l.url)
	must(l.t, err)
	testdb.Pin(config)
	config.RuntimeParams["application_name"] = name
	config.RuntimeParams["search_path"] = ""
	config.RuntimeParams["timezone"] = "UTC"
	conn, err := pgx.ConnectConfig(l.t.Context(), config)
	must(l.t, err)
	l.t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func (r *lockRun) must(b *lockBackend, statements []string) (lines []string) {
	for _, statement := range statements {
		line, err := r.execute(b, statement)
		if err != nil {
			r.t.Fatalf("%s: %v", statement, err)
		}
		lines = append(lines, line...)
	}
	return lines
}

func (r *lockRun) start(b *lockBackend, step *lockStep) {
	running := &runningStep{step: step, done: make(chan []string, 1)}
	b.running = running
	go func() {
		var lines []string
		for i, statement := range step.statements {
			running.at.Store(int64(i))
			line, err := r.execute(b, statement)
			lines = append(lines, line...)
			if err != nil {
				break
			}
		}
		running.done <- lines
	}()
}

// settle returns when the running step of a session has ended or waits for another session, and writes this to the
// output.
func (r *lockRun) settle(b *lockBackend) {
	deadline := time.Now().Add(stepLimit)
	for pause := 2 * time.Millisecond; ; pause = time.Millisecond {
		select {
		case lines := <-b.running.done:
			completed := ""
			if b.running.told {
				completed = " <... completed>"
			}
			fmt.Fprintf(&r.output, "step %s:%s\n", b.running.step.name, completed)
			for _, line := range lines {
				r.output.WriteString(line + "\n")
			}
			b.running = nil
			return
		case <-time.After(pause):
		}
		if blockers := r.blockers(b); len(blockers) > 0 {
			if !b.running.told {
				_, name, _ := called(r.queries, b.running.step.statements[b.running.at.Load()])
				b.waited = name + " for " + strings.Join(blockers, ", ")
				fmt.Fprintf(&r.output, "step %s: <waiting for %s at %s ...>\n", b.running.step.name, strings.Join(blockers, ", "),
					name)
			}
			b.running.told = true
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: %s neither ends nor waits for a session of the permutation\n%s", b.name, b.running.step.name,
				r.output.String())
		}
	}
}

// blockers are the sessions of the permutation for which a session waits, according to PostgreSQL.
func (r *lockRun) blockers(b *lockBackend) []string {
	rows, err := r.observer.Query(r.t.Context(), `SELECT DISTINCT application_name FROM pg_stat_activity
		WHERE pid = ANY (pg_blocking_pids($1)) AND datname = current_database() AND backend_type = 'client backend'
			ORDER BY 1`, b.conn.PgConn().PID())
	if err != nil {
		r.t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		r.t.Fatal(err)
	}
	return names
}

var specVariable = regexp.MustCompile(`(^|[^:\w]):([a-z]\w*)`)

// execute runs a statement of a spec and answers its lines of the output.
func (r *lockRun) execute(b *lockBackend, line string) ([]string, error) {
	statement, name, err := called(r.queries, line)
	if err != nil {
		return nil, fmt.Errorf("in the spec: %w", err)
	}
	switch statement {
	case "begin":
		statement, name = beginning, "begin"
	case "commit", "rollback":
		name = statement
	}
	statement = specVariable.ReplaceAllStringFunc(statement, func(found string) string {
		m := specVariable.FindStringSubmatch(found)
		return m[1] + "'" + strings.ReplaceAll(r.variable(b, m[2]), "'", "''") + "'"
	})
	results, err := b.conn.PgConn().Exec(r.t.Context(), statement).ReadAll()
	e := executed{name: name}
	if b.running != nil {
		e.step = b.running.step.name
	}
	var lines []string
	label := name
	if label == "" {
		label = strings.Join(strings.Fields(line), " ")
	}
	for _, result := range results {
		e.rows = result.CommandTag.RowsAffected()
		switch tag := result.CommandTag.String(); {
		case tag == strings.TrimRight(tag, "0123456789"): // BEGIN, LOCK TABLE
			lines = append(lines, "  "+label)
		case len(result.FieldDescriptions) == 0 || e.rows == 0:
			lines = append(lines, fmt.Sprintf("  %s: rows=%d", label, e.rows))
			continue
		}
		for _, row := range result.Rows {
			e.row = map[string]string{}
			var shown []string
			for i, field := range result.FieldDescriptions {
				if row[i] == nil {
					continue
				}
				e.row[field.Name] = string(row[i])
				if value, ok := r.spec.shown(field.DataTypeOID, string(row[i])); ok {
					shown = append(shown, field.Name+"="+value)
				}
			}
			lines = append(lines, strings.TrimRight("  "+label+": "+strings.Join(shown, " "), ": "))
		}
		if !strings.Contains(statement, "ORDER BY") {
			slices.Sort(lines) // the database gives rows without ORDER BY in any order
		}
		if e.row != nil {
			if b.last == nil {
				b.last = map[string]string{}
			}
			maps.Copy(b.last, e.row)
		}
	}
	if err != nil {
		e.fault = faultName(err)
		lines = append(lines, "  "+label+": ERROR "+e.fault)
	}
	b.executed = append(b.executed, e)
	return lines, err
}

// variable is the value of :name. A name that is no column of the last row stands for a uuid.
func (r *lockRun) variable(b *lockBackend, name string) string {
	if value, ok := b.last[name]; ok {
		return value
	}
	return uuidOf(name)
}

func uuidOf(name string) string { return uuid.NewSHA1(uuid.NameSpaceURL, []byte(name)).String() }

// shown is a value as the output shows it: the same in each run.
func (s *lockSpec) shown(oid uint32, value string) (string, bool) {
	switch oid {
	case pgtype.TimestamptzOID, pgtype.ByteaOID, voidOID:
		return "", false
	}
	return uuidText.ReplaceAllStringFunc(momentText.ReplaceAllString(value, "…"), func(id string) string {
		if name, ok := s.names[id]; ok {
			return name
		}
		return "…"
	}), true
}

const voidOID = 2278

var momentText = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.+Z-]*`)

var uuidText = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// faultName is the part of an error that is the same in all versions and languages of the server.
func faultName(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return strings.TrimSpace(pg.Code + " " + pg.ConstraintName)
	}
	return err.Error()
}
