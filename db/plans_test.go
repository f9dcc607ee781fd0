package db_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/db/sqlc"
	"github.com/reiestr/reiestr/internal/dev/population"
	"github.com/reiestr/reiestr/internal/dev/testdb"
)

var updatePlans = flag.Bool("update-plans", false, "store the plans of the queries in sql/plans")

const (
	// plansVersion is the major version of the stored plans. On other versions only the rules are checked.
	plansVersion = 17
	// largeTable is the number of rows from which on no table may be read completely.
	largeTable = 5_000
	// longestPage of the contract: no sort holds more rows.
	longestPage = 300
)

// smallTables do not grow with the registry: reading such a table completely is as good as finding a row.
var smallTables = []string{"prm.dictionaries", "prm.dictionary_values", "prm.parameters", "ops.api_keys",
	"ops.schema_versions"}

// TestPlans compares the plan of every query, as its role has it on a large population, with the one stored in
// sql/plans. It also checks rules that no stored plan may break. The service runs generic plans (see Open). Custom
// plans are those that a person sees who tries a query by hand.
func TestPlans(t *testing.T) {
	t.Parallel()
	p := populated(t, "1.1")
	type shape struct{ text, cases string }
	shapes := map[string][]shape{}
	used := map[string]map[string]bool{}
	for _, condition := range []struct{ name, change string }{
		{"quiet", ""},
		// Many jobs and events are pending, and the statistics do not know them.
		{"stale", backlog},
		{"backlog", "ANALYZE ops.jobs, ops.unpublished_events, medical_events.service_requests"},
	} {
		p.exec("SET LOCAL ROLE reiestr_owner; " + condition.change)
		p.relations()
		for _, c := range calls() {
			q := capture(t, c)
			for _, mode := range []string{"custom", "generic"} {
				plan := p.explain(q, mode, "")
				where := fmt.Sprintf("%s, %s plan, %s", q.label, mode, condition.name)
				if used[q.name] == nil {
					used[q.name] = map[string]bool{}
				}
				for n := range plan.all() {
					for _, index := range append(n.ConflictArbiterIndexes, n.IndexName) {
						used[q.name][index] = true
					}
					if n.Operation == "Insert" {
						for _, index := range p.maintained[n.relation()] {
							used[q.name][index] = true
						}
					}
					if n.NodeType == "Seq Scan" && p.rows[n.relation()] >= largeTable {
						t.Errorf("%s: Seq Scan on %s\n%s", where, n.relation(), plan.shape())
					}
					if n.NodeType == "Sort" && mode == "custom" && n.PlanRows > max(longestPage, c.batch) {
						t.Errorf("%s: sorts %.0f rows\n%s", where, n.PlanRows, plan.shape())
					}
				}
				add := shape{plan.shape(), condition.name + " " + mode}
				if i := slices.IndexFunc(shapes[q.label], func(s shape) bool { return s.text == add.text }); i >= 0 {
					shapes[q.label][i].cases += ", " + add.cases
				} else {
					shapes[q.label] = append(shapes[q.label], add)
				}
			}
		}
	}

	for _, file := range queryFiles(t) {
		var text strings.Builder
		for _, query := range file.queries {
			if reason, without := unplanned[query.name]; without {
				fmt.Fprintf(&text, "## %s\n\n    %s\n\n", query.name, reason)
				continue
			}
			for _, index := range query.indexes {
				table, known := p.tables[index]
				if !known {
					t.Errorf("%s names the index %s, which does not exist", query.name, index)
				} else if !used[query.name][index] && p.rows[table] >= largeTable {
					t.Errorf("%s names the index %s, which none of its plans uses", query.name, index)
				}
			}
			if used[query.name] == nil {
				t.Errorf("%s has no call in plans_test.go", query.name)
			}
			for _, c := range calls() {
				q := capture(t, c)
				if q.name != query.name {
					continue
				}
				fmt.Fprintf(&text, "## %s\n\n", q.label)
				for _, s := range shapes[q.label] {
					if len(shapes[q.label]) > 1 {
						fmt.Fprintf(&text, "%s:\n\n", s.cases)
					}
					text.WriteString(s.text + "\n")
				}
			}
		}
		path := filepath.Join("../sql/plans", strings.TrimSuffix(filepath.Base(file.path), ".sql")+".md")
		stored, err := os.ReadFile(path)
		switch want := string(stored); {
		case p.version != plansVersion:
			t.Logf("PostgreSQL %d: plans are stored for %d, so only the rules are checked", p.version, plansVersion)
		case *updatePlans:
			if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		case err != nil || want != text.String():
			t.Errorf("%s differs (`make plans` stores the plans anew): %v\n%s", path, err, difference(want, text.String()))
		}
	}
}

// difference shows the sections in which two files of plans differ.
func difference(want, got string) string {
	sections := func(text string) []string { return strings.Split(text, "\n## ") }
	var text strings.Builder
	for _, s := range sections(want) {
		if !slices.Contains(sections(got), s) {
			text.WriteString("stored: " + s + "\n")
		}
	}
	for _, s := range sections(got) {
		if !slices.Contains(sections(want), s) {
			text.WriteString("found: " + s + "\n")
		}
	}
	return text.String()
}

// TestReads runs every query on a large population. Whatever the size of the tables, no query reads more rows than it
// answers, apart from a constant.
func TestReads(t *testing.T) {
	t.Parallel()
	p := populated(t, "4")
	for _, condition := range []struct{ name, change string }{
		{"stale", backlog},
		{"fresh", "ANALYZE ops.jobs, ops.unpublished_events, medical_events.service_requests"},
	} {
		p.exec("SET LOCAL ROLE reiestr_owner; " + condition.change)
		for _, c := range calls() {
			q := capture(t, c)
			for _, mode := range []string{"custom", "generic"} {
				plan := p.explain(q, mode, "ANALYZE, BUFFERS, TIMING off, ")
				where := fmt.Sprintf("%s, %s plan, %s statistics", q.label, mode, condition.name)
				var read float64
				for n := range plan.all() {
					if n.RelationName != "" && n.NodeType != "ModifyTable" && !slices.Contains(smallTables, n.relation()) {
						read += (n.ActualRows + n.RemovedByFilter + n.RemovedByRecheck) * n.ActualLoops
					}
					if n.NodeType == "Sort" && n.ActualRows > max(longestPage, c.batch) {
						t.Errorf("%s: %.0f rows sorted\n%s", where, n.ActualRows, plan.shape())
					}
				}
				if most := plan.ActualRows + c.reads; read > most {
					t.Errorf("%s: %.0f rows read, more than %.0f\n%s", where, read, most, plan.shape())
				}
				// An index look-up reads at most five levels. A new row is added to as many indexes, and its constraints look up
				// the rows that it refers to.
				buffers := plan.SharedHitBlocks + plan.SharedReadBlocks
				if most := 50 + 6*(plan.ActualRows+c.reads) + 40*c.writes; buffers > most {
					t.Errorf("%s: %.0f buffers, more than %.0f\n%s", where, buffers, most, plan.shape())
				}
			}
		}
	}
}

// planner asks for plans in one transaction, which is rolled back, in a database whose statistics do not change
// meanwhile.
type planner struct {
	t          *testing.T
	conn       *pgx.Conn
	version    int
	rows       map[string]float64  // of tables, by the statistics
	tables     map[string]string   // of indexes
	maintained map[string][]string // indexes that a change of a table uses without a node of a plan
	logged     []string            // what auto_explain has logged at the end of each statement
}

// random_page_cost: a page read at random costs that many times a page read in sequence. The default is 4. 1.1 is for
// solid storage or a database in memory, and leaves no doubt between plans that cost nearly the same.
func populated(t *testing.T, randomPageCost string) *planner {
	t.Helper()
	shared := testdb.Shared(t, population.Standard.Digest(), func(ctx context.Context, url string) error {
		conn, err := testdb.Connect(ctx, url)
		if err != nil {
			return err
		}
		defer conn.Close(context.WithoutCancel(ctx))
		if err := population.Fill(ctx, conn, population.Standard); err != nil {
			return err
		}
		_, err = conn.Exec(ctx, `
			SET ROLE reiestr_owner;
			DO $$
			DECLARE
				name regclass;
			BEGIN
				FOR name IN SELECT oid FROM pg_class WHERE relkind = 'r' AND relowner = 'reiestr_owner'::regrole LOOP
					EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = off)', name);
				END LOOP;
			END
			$$`)
		return err
	})
	config, err := pgx.ParseConfig(shared.URL)
	if err != nil {
		t.Fatal(err)
	}
	// The planner's costs are the defaults, whatever settings the server of the tests has.
	config.RuntimeParams = map[string]string{
		"search_path": "", "timezone": "UTC", "jit": "off", "work_mem": "4MB", "effective_cache_size": "4GB",
		"random_page_cost": randomPageCost, "max_parallel_workers_per_gather": "2",
		// Whether the planner puts a Memoize node on a look-up depends on how many values the sample of the statistics has.
		// The look-up itself does not.
		"enable_memoize": "off",
	}
	testdb.Pin(config)
	p := &planner{t: t}
	config.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) {
		if _, plan, found := strings.Cut(notice.Message, "plan:\n"); found {
			p.logged = append(p.logged, plan)
		}
	}
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	p.conn = conn
	if _, err := fmt.Sscan(conn.PgConn().ParameterStatus("server_version"), &p.version); err != nil && p.version == 0 {
		t.Fatal(err)
	}
	// EXPLAIN of a call does not show the plans inside of the function.
	var refused *pgconn.PgError
	if _, err := conn.Exec(t.Context(), "LOAD 'auto_explain'"); errors.As(err, &refused) && refused.Code == "58P01" {
		t.Skip("this server has no auto_explain, a module of postgresql-contrib")
	} else if err != nil {
		t.Fatal(err)
	}
	// One query at a time, and without the dead rows and index pages of the tests before, which would change plans.
	for _, statement := range []string{
		"SET auto_explain.log_nested_statements = on; SET auto_explain.log_level = notice; SET auto_explain.log_format = " +
			"json",
		"SET auto_explain.log_verbose = on; SET auto_explain.log_analyze = on; SET auto_explain.log_timing = off",
		"SELECT pg_advisory_lock(5127736021)",
		"SET ROLE reiestr_owner",
		"VACUUM (PARALLEL 0) medical_events.service_requests, ops.jobs, ops.events, ops.event_feed, ops.event_horizons, " +
			"ops.unpublished_events, ops.idempotency_records",
		"REINDEX TABLE ops.unpublished_events",
		"REINDEX INDEX ops.jobs_pending_request_key",
		"REINDEX INDEX ops.jobs_not_ended_sequence_number_idx",
		"RESET ROLE",
	} {
		p.exec(statement)
	}
	p.exec("BEGIN")
	p.relations()
	return p
}

// relations reads the tables and indexes from the catalogue.
func (p *planner) relations() {
	p.t.Helper()
	p.rows, p.tables, p.maintained = map[string]float64{}, map[string]string{}, map[string][]string{}
	rows, err := p.conn.Query(p.t.Context(), `
		SELECT i.indrelid::regclass::text, x.relname::text, t.reltuples::float8, i.indrelid::regclass::text
		FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
		UNION ALL
		SELECT c.conrelid::regclass::text, x.relname::text, t.reltuples::float8, c.confrelid::regclass::text
		FROM pg_constraint c JOIN pg_class x ON x.oid = c.conindid JOIN pg_class t ON t.oid = c.confrelid
		WHERE c.contype = 'f'`)
	if err != nil {
		p.t.Fatal(err)
	}
	var changed, index, table string
	var tuples float64
	if _, err := pgx.ForEachRow(rows, []any{&changed, &index, &tuples, &table}, func() error {
		p.rows[table], p.tables[index] = tuples, table
		p.maintained[changed] = append(p.maintained[changed], index)
		return nil
	}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *planner) exec(sql string) {
	p.t.Helper()
	if _, err := p.conn.PgConn().Exec(p.t.Context(), sql).ReadAll(); err != nil {
		p.t.Fatalf("%s: %v", sql, err)
	}
}

// explain answers the plan of a query for its parameters (custom) or for any parameters (generic). Below it are the
// plans inside the function that the query calls. Changes are undone.
func (p *planner) explain(q query, mode, options string) *node {
	p.t.Helper()
	ctx := p.t.Context()
	p.exec("SAVEPOINT before")
	if q.inside > 0 {
		// auto_explain logs only statements that run.
		p.exec("RESET ROLE; SET LOCAL auto_explain.log_min_duration = 0")
		options = "ANALYZE, BUFFERS, TIMING off, "
	}
	p.exec("SET LOCAL plan_cache_mode = force_" + mode + "_plan; SET LOCAL ROLE " + string(q.role))
	described, err := p.conn.PgConn().Prepare(ctx, "asked", q.sql, nil)
	if err != nil {
		p.t.Fatalf("%s: %v", q.label, err)
	}
	arguments := make([]string, len(q.args))
	for i, argument := range q.args {
		text, err := p.conn.TypeMap().Encode(described.ParamOIDs[i], pgx.TextFormatCode, argument, []byte{})
		if err != nil {
			p.t.Fatalf("%s: $%d: %v", q.label, i+1, err)
		}
		arguments[i] = "NULL"
		if text != nil {
			arguments[i] = "'" + strings.ReplaceAll(string(text), "'", "''") + "'"
		}
	}
	execute := "EXECUTE asked"
	if len(arguments) > 0 {
		execute += " (" + strings.Join(arguments, ", ") + ")"
	}
	p.logged = nil
	results, err := p.conn.PgConn().Exec(ctx, "EXPLAIN ("+options+"VERBOSE, FORMAT JSON) "+execute).ReadAll()
	if err != nil {
		p.t.Fatalf("%s: %v", q.label, err)
	}
	var explained []struct{ Plan *node }
	if err := json.Unmarshal(results[0].Rows[0][0], &explained); err != nil {
		p.t.Fatal(err)
	}
	plan := explained[0].Plan
	if q.inside > 0 {
		// The plan of the call itself is logged last.
		if len(p.logged) != q.inside+1 {
			p.t.Fatalf("%s: %d statements carried out in the function instead of %d\n%s", q.label, len(p.logged)-1, q.inside,
				strings.Join(p.logged, "\n"))
		}
		for i, logged := range p.logged[:q.inside] {
			var inside struct{ Plan *node }
			if err := json.Unmarshal([]byte(logged), &inside); err != nil {
				p.t.Fatal(err)
			}
			inside.Plan.SubplanName = fmt.Sprint("Statement ", i+1)
			plan.Plans = append(plan.Plans, inside.Plan)
		}
	}
	p.exec("ROLLBACK TO before; DEALLOCATE asked")
	return plan
}

// node of a plan.
type node struct {
	NodeType               string   `json:"Node Type"`
	Operation              string   `json:"Operation"`
	JoinType               string   `json:"Join Type"`
	Strategy               string   `json:"Strategy"`
	ScanDirection          string   `json:"Scan Direction"`
	SubplanName            string   `json:"Subplan Name"`
	Schema                 string   `json:"Schema"`
	RelationName           string   `json:"Relation Name"`
	Alias                  string   `json:"Alias"`
	CTEName                string   `json:"CTE Name"`
	IndexName              string   `json:"Index Name"`
	IndexCondition         string   `json:"Index Cond"`
	Filter                 string   `json:"Filter"`
	SortKey                []string `json:"Sort Key"`
	ConflictArbiterIndexes []string `json:"Conflict Arbiter Indexes"`
	PlanRows               float64  `json:"Plan Rows"`
	ActualRows             float64  `json:"Actual Rows"`
	ActualLoops            float64  `json:"Actual Loops"`
	RemovedByFilter        float64  `json:"Rows Removed by Filter"`
	RemovedByRecheck       float64  `json:"Rows Removed by Index Recheck"`
	SharedHitBlocks        float64  `json:"Shared Hit Blocks"`
	SharedReadBlocks       float64  `json:"Shared Read Blocks"`
	Plans                  []*node  `json:"Plans"`
}

func (n *node) relation() string { return n.Schema + "." + n.RelationName }

func (n *node) all() func(func(*node) bool) {
	return func(yield func(*node) bool) { n.walk(yield) }
}

func (n *node) walk(yield func(*node) bool) bool {
	if !yield(n) {
		return false
	}
	for _, child := range n.Plans {
		if !child.walk(yield) {
			return false
		}
	}
	return true
}

// shape is the plan without its costs and the values of its conditions.
func (n *node) shape() string {
	var text strings.Builder
	n.write(&text, "    ")
	return text.String()
}

func (n *node) write(text *strings.Builder, indent string) {
	if n.SubplanName != "" {
		fmt.Fprintf(text, "%s%s:\n", indent, n.SubplanName)
		indent += "  "
	}
	text.WriteString(indent)
	if n.NodeType == "ModifyTable" {
		text.WriteString(n.Operation)
	} else {
		text.WriteString(n.NodeType)
	}
	if n.JoinType != "" && n.JoinType != "Inner" {
		text.WriteString(" " + n.JoinType)
	}
	if n.Strategy != "" && n.Strategy != "Plain" {
		text.WriteString(" " + n.Strategy)
	}
	if n.ScanDirection == "Backward" {
		text.WriteString(" backward")
	}
	if n.IndexName != "" {
		text.WriteString(" using " + n.IndexName)
	}
	if n.RelationName != "" {
		text.WriteString(" on " + n.relation())
	}
	if n.CTEName != "" {
		text.WriteString(" on " + n.CTEName)
	}
	if n.Alias != "" && n.Alias != n.RelationName && n.Alias != n.CTEName {
		text.WriteString(" " + n.Alias)
	}
	if n.IndexName != "" && n.IndexCondition == "" {
		text.WriteString(", whole")
	}
	if n.Filter != "" {
		text.WriteString(", filtered")
	}
	if n.SortKey != nil {
		text.WriteString(" by " + strings.Join(n.SortKey, ", "))
	}
	if n.ConflictArbiterIndexes != nil {
		text.WriteString(", conflicts in " + strings.Join(n.ConflictArbiterIndexes, ", "))
	}
	text.WriteString("\n")
	for _, child := range n.Plans {
		child.write(text, indent+"  ")
	}
}

// query is a query as the package sends it.
type query struct {
	name, label, sql string
	role             db.Role
	args             []any
	inside           int
}

// capture records what a call of the generated accessors sends.
func capture(t *testing.T, c call) query {
	t.Helper()
	sent := &taken{}
	c.do(t.Context(), sqlc.New(sent))
	head := queryHead.FindStringSubmatch(sent.sql)
	if head == nil {
		t.Fatalf("not a query of sql/: %s", sent.sql)
	}
	q := query{name: head[1], label: head[1], sql: sent.sql, args: sent.args, role: db.App, inside: c.inside}
	if c.variant != "" {
		q.label += ", " + c.variant
	}
	if c.owner {
		q.role = db.Owner
	}
	return q
}

// taken is a DBTX that records statements and answers none.
type taken struct {
	sql  string
	args []any
}

var errTaken = errors.New("recorded, not sent")

func (d *taken) Exec(_ context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	d.sql, d.args = sql, args
	return pgconn.CommandTag{}, errTaken
}

func (d *taken) Query(_ context.Context, sql string, args ...any) (pgx.Rows, error) {
	d.sql, d.args = sql, args
	return nil, errTaken
}

func (d *taken) QueryRow(_ context.Context, sql string, args ...any) pgx.Row {
	d.sql, d.args = sql, args
	return d
}

func (d *taken) Scan(...any) error { return errTaken }

func (d *taken) CopyFrom(context.Context, pgx.Identifier, []string, pgx.CopyFromSource) (int64, error) {
	return 0, errTaken
}

func (d *taken) SendBatch(_ context.Context, batch *pgx.Batch) pgx.BatchResults {
	d.sql, d.args = batch.QueuedQueries[0].SQL, batch.QueuedQueries[0].Arguments
	return nil
}

// queryFile is a file of sql/ with its queries in their order.
type queryFile struct {
	path    string
	queries []struct {
		name    string
		indexes []string // named in the header
	}
}

var (
	indexPart = regexp.MustCompile(`(?s)\nIndex: (.*?)\nRefusals`)
	indexName = regexp.MustCompile(`\b[a-z_]+_(?:pkey|idx|key)\b`)
)

func queryFiles(t *testing.T) (files []queryFile) {
	t.Helper()
	paths, err := filepath.Glob("../sql/*.sql")
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		file := queryFile{path: path}
		text := string(raw)
		starts := queryHead.FindAllStringSubmatchIndex(text, -1)
		for i, at := range starts {
			end := len(text)
			if i+1 < len(starts) {
				end = starts[i+1][0]
			}
			header, _ := splitHeader(text[at[1]+1 : end])
			var indexes []string
			if part := indexPart.FindStringSubmatch(header); part != nil {
				indexes = indexName.FindAllString(part[1], -1)
			}
			file.queries = append(file.queries, struct {
				name    string
				indexes []string
			}{text[at[2]:at[3]], indexes})
		}
		files = append(files, file)
	}
	return files
}
