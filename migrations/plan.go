package migrations

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// PlannedMigration is one migration that Up or Down would run.
type PlannedMigration struct {
	Version       int64              `json:"version"`
	Name          string             `json:"name"`
	InTransaction bool               `json:"in_transaction"` // true: every lock is held to the end of the file
	Statements    []PlannedStatement `json:"statements"`
}

// PlannedStatement is one statement, with the strongest lock that it takes on each existing table.
type PlannedStatement struct {
	SQL   string        `json:"sql"`
	Locks []PlannedLock `json:"locks"`          // by table; empty: none
	None  string        `json:"none,omitempty"` // why there is no lock
}

// PlannedLock is a lock on a table.
type PlannedLock struct {
	Table   string `json:"table"` // empty: the statement names none, it may be any
	Mode    Mode   `json:"mode"`
	Blocks  string `json:"blocks"`
	Assumed bool   `json:"assumed"` // true: the kind of statement is not known, and the strongest lock is assumed
}

// Plan answers, for each pending migration, the statements that Up would run and the locks that they would take. It
// reads the catalogue and changes nothing. The locks come from rules about kinds of statements: a trial run would take
// these locks.
//
// A table that does not exist yet is left out: no session can wait for it. The locks of triggers and called functions
// are not known, and neither are those of partitions, which this schema does not have. Before the migrations Up runs
// roles.sql, which locks no table.
func Plan(ctx context.Context, url string) ([]PlannedMigration, error) {
	steps, err := Status(ctx, url)
	if err != nil {
		return nil, err
	}
	known, err := readCatalogue(ctx, url)
	if err != nil {
		return nil, err
	}
	plan := []PlannedMigration{}
	for _, step := range steps {
		if !step.AppliedAt.IsZero() {
			continue
		}
		migration, err := known.plan(step, "up")
		if err != nil {
			return nil, err
		}
		plan = append(plan, migration)
	}
	return plan, nil
}

// PlanDown answers the statements and locks of Down, as Plan does for Up. It is an error if no migration is applied.
func PlanDown(ctx context.Context, url string) (PlannedMigration, error) {
	steps, err := Status(ctx, url)
	if err != nil {
		return PlannedMigration{}, err
	}
	known, err := readCatalogue(ctx, url)
	if err != nil {
		return PlannedMigration{}, err
	}
	for _, step := range slices.Backward(steps) {
		switch {
		case step.AppliedAt.IsZero():
			continue
		case step.Name == "":
			return PlannedMigration{}, errNewer
		}
		return known.plan(step, "down")
	}
	return PlannedMigration{}, errNothingApplied
}

// plan reads one way of a migration.
func (known *catalogue) plan(step Step, way string) (PlannedMigration, error) {
	migration := PlannedMigration{Version: step.Version, Name: step.Name}
	content, err := FS.ReadFile(step.Name)
	if err != nil {
		return migration, err
	}
	statements, inTransaction, err := split(content, way)
	if err != nil {
		return migration, fmt.Errorf("%s: %w", step.Name, err)
	}
	migration.InTransaction = inTransaction
	for _, sql := range statements {
		migration.Statements = append(migration.Statements, known.read(sql))
	}
	return migration, nil
}

// split answers the statements of one way of a migration, up or down, by the rules of goose, whose own parser is not
// exported: a statement ends with a line that ends with a semicolon, or is between StatementBegin and StatementEnd.
func split(content []byte, way string) (statements []string, inTransaction bool, err error) {
	inTransaction = true
	var wanted, whole bool
	var statement strings.Builder
	finish := func() {
		statements = append(statements, strings.TrimSpace(statement.String()))
		statement.Reset()
	}
	lines := bufio.NewScanner(bytes.NewReader(content))
	for lines.Scan() {
		line := lines.Text()
		comment := strings.HasPrefix(strings.TrimSpace(line), "--")
		if comment && strings.Contains(line, "+goose") {
			switch annotation := strings.TrimSpace(strings.Replace(strings.ReplaceAll(line, "--", ""), "+goose", "",
				1)); strings.ToLower(annotation) {
			case "up", "down":
				wanted = strings.EqualFold(annotation, way)
			case "no transaction":
				inTransaction = false
			case "statementbegin":
				whole = true
			case "statementend":
				if whole = false; wanted {
					finish()
				}
			default:
				return nil, false, fmt.Errorf("annotation %q is not known", annotation)
			}
			continue
		}
		if !wanted || statement.Len() == 0 && (comment || line == "") {
			continue
		}
		statement.WriteString(line + "\n")
		if !whole && endsStatement(line) {
			finish()
		}
	}
	if err := lines.Err(); err != nil {
		return nil, false, err
	}
	if rest := strings.TrimSpace(statement.String()); rest != "" {
		return nil, false, fmt.Errorf("no semicolon ends %q", rest)
	}
	return statements, inTransaction, nil
}

// endsStatement tells whether the last word of a line, before a comment, ends with a semicolon.
func endsStatement(line string) bool {
	last := ""
	for _, word := range strings.Fields(line) {
		if strings.HasPrefix(word, "--") {
			break
		}
		last = word
	}
	return strings.HasSuffix(last, ";")
}

// catalogue is the knowledge of the rules about a database: its tables and indexes, and those that the statements read
// so far add.
type catalogue struct {
	serverVersion int               // as in server_version_num
	tables        map[string]bool   // tables before the plan
	made          map[string]bool   // tables that the plan makes
	indexes       map[string]string // index → its table
	keys          []foreignKey
}

type foreignKey struct {
	Name, Table, Referenced    string
	Columns, ReferencedColumns []string
	DeleteWrites, UpdateWrites bool // the referencing rows are changed, and not only read
}

func readCatalogue(ctx context.Context, url string) (*catalogue, error) {
	conn, err := connect(ctx, url)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	known := &catalogue{tables: map[string]bool{}, made: map[string]bool{versionTable: true}, indexes: map[string]string{}}
	if err := conn.QueryRow(ctx, `SELECT pg_catalog.current_setting('server_version_num')::int`).
		Scan(&known.serverVersion); err != nil {
		return nil, err
	}
	const name = `(SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n
		ON n.oid = c.relnamespace WHERE c.oid = `
	var table, index string
	rows, _ := conn.Query(ctx, `SELECT `+name+`r.oid) FROM pg_catalog.pg_class r
		WHERE r.relkind IN ('r', 'p') AND r.relnamespace NOT IN ('pg_catalog'::regnamespace,
			'information_schema'::regnamespace)`)
	if _, err := pgx.ForEachRow(rows, []any{&table}, func() error { known.tables[table] = true; return nil }); err != nil {
		return nil, err
	}
	rows, _ = conn.Query(ctx, `SELECT `+name+`i.indexrelid), `+name+`i.indrelid) FROM pg_catalog.pg_index i`)
	if _, err := pgx.ForEachRow(rows, []any{&index, &table},
		func() error { known.indexes[index] = table; return nil }); err != nil {
		return nil, err
	}
	const columns = `ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = `
	rows, _ = conn.Query(ctx, `SELECT k.conname::text, `+name+`k.conrelid), `+name+`k.confrelid),
			`+columns+`k.conrelid AND a.attnum = ANY (k.conkey)), `+columns+`k.confrelid AND a.attnum = ANY (k.confkey)),
			k.confdeltype NOT IN ('a', 'r'), k.confupdtype NOT IN ('a', 'r')
		FROM pg_catalog.pg_constraint k WHERE k.contype = 'f'`)
	known.keys, err = pgx.CollectRows(rows, pgx.RowToStructByPos[foreignKey])
	return known, err
}
