package schemadoc

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/reiestr/reiestr/migrations"
)

// rehearsedMigration is a migration with its effects on the version before it, and its way back.
type rehearsedMigration struct {
	up, down way
	intro    string
}

// way is one direction of a migration.
type way struct {
	migrations.PlannedMigration
	back      bool     // the way down
	alone     bool     // it is the first, so no session can wait for it
	rewritten []string // tables that have new files
}

// takeBack rolls all migrations back, newest first. Before each it plans the migration on the version before, and
// applies it once more. So each is planned on the version that it meets in a roll-out, and has run up from that version
// and down from its own.
func (d *document) takeBack(ctx context.Context, url string, conn *pgx.Conn) error {
	steps, err := migrations.Status(ctx, url)
	if err != nil {
		return err
	}
	for i, step := range slices.Backward(steps) {
		m := rehearsedMigration{up: way{alone: i == 0}, down: way{back: true}}
		content, err := migrations.FS.ReadFile(step.Name)
		if err != nil {
			return err
		}
		m.intro = paragraphs(introduction(string(content)))
		if m.down.PlannedMigration, err = migrations.PlanDown(ctx, url); err != nil {
			return err
		}
		if m.down.rewritten, err = rewritten(ctx, conn, func() error { return migrations.Down(ctx, url) }); err != nil {
			return err
		}
		pending, err := migrations.Plan(ctx, url)
		if err != nil {
			return err
		}
		m.up.PlannedMigration = pending[0]
		if m.up.rewritten, err = rewritten(ctx, conn, func() error { return m.up.apply(ctx, conn) }); err != nil {
			return fmt.Errorf("%s: %w", step.Name, err)
		}
		if err := migrations.Down(ctx, url); err != nil {
			return err
		}
		d.migrations = append([]rehearsedMigration{m}, d.migrations...)
	}
	return nil
}

// apply runs the statements of a way up and records its version, as migrations.Up does for all pending ones.
func (w way) apply(ctx context.Context, conn *pgx.Conn) error {
	statements := []string{}
	for _, s := range w.Statements {
		statements = append(statements, s.SQL)
	}
	statements = append(statements, fmt.Sprintf("INSERT INTO ops.schema_versions (version_id, is_applied) VALUES (%d, "+
		"true)", w.Version))
	if w.InTransaction {
		statements = append(append([]string{"BEGIN"}, statements...), "COMMIT")
	}
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// introduction is the comment in front of the statements.
func introduction(content string) string {
	before, _, _ := strings.Cut(content, "-- +goose Up")
	return remark(regexp.MustCompile(`(?m)^-- \+goose.*\n`).ReplaceAllString(before, ""))
}

// rewritten are the tables that existed before and after, and whose rows were rewritten in between.
func rewritten(ctx context.Context, conn *pgx.Conn, do func() error) ([]string, error) {
	files := func() (map[string]uint32, error) {
		found := map[string]uint32{}
		rows, _ := conn.Query(ctx, `
			SELECT n.nspname || '.' || c.relname, pg_catalog.pg_relation_filenode(c.oid)
			FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
			WHERE c.relkind = 'r' AND n.nspname !~ '^pg_'`)
		var name string
		var file uint32
		_, err := pgx.ForEachRow(rows, []any{&name, &file}, func() error { found[name] = file; return nil })
		return found, err
	}
	before, err := files()
	if err != nil {
		return nil, err
	}
	if err := do(); err != nil {
		return nil, err
	}
	after, err := files()
	var changed []string
	for name, file := range before {
		if now, stands := after[name]; stands && now != file {
			changed = append(changed, name)
		}
	}
	slices.Sort(changed)
	return changed, err
}

// brief matches statements that end quickly once they have their locks, whatever the size of the tables. It matches no
// ALTER TABLE with several actions. A new column whose default is computed for each row rewrites the table: the planned
// migration lists such tables.
var brief = regexp.MustCompile(`(?i)^(?:` + strings.Join([]string{
	`create (or replace )?(trigger|function|view|schema|type|table)\b.*`,
	`drop (table|trigger|function|view|index|schema|type)\b.*`,
	`comment on\b.*`,
	`alter table (if exists )?(only )?[\w.]+ (rename|drop|(enable|disable) trigger)\b[^,]*`,
	`alter table (if exists )?(only )?[\w.]+ (drop|alter) (column )?\w+ (drop not null|set default|drop default)\b[^,]*`,
	`alter table (if exists )?(only )?[\w.]+ add column\b[^,]*`,
	`alter table (if exists )?(only )?[\w.]+ add constraint\b.* not valid`,
}, "|") + `)$`)

// checked matches a new column with a constraint that PostgreSQL has to check in every row.
var checked = regexp.MustCompile(`(?i)\badd column\b.*\b(check|references|unique|primary key|generated)\b`)

var (
	concurrent = regexp.MustCompile(`(?i)^(create index|create unique index|drop index) concurrently ` +
		`(?:if (?:not )?exists )?([\w.]+)`)
	// removes matches statements that remove what a running program may use.
	removes = regexp.MustCompile(`(?i)^(drop (table|view|function|schema|type)|alter table .* drop column|` +
		`revoke|delete from)\b`)
	changesRow = regexp.MustCompile(`(?i)^(insert into|update|delete from) ([\w.]+)`)
	takesAway  = regexp.MustCompile(`(?i)^drop table (if exists )?([\w.]+)|^alter table (?:if exists )?(?:only )?` +
		`([\w.]+) drop column (?:if exists )?(\w+)|^delete from ([\w.]+)`)
	validates = regexp.MustCompile(`(?i)^alter table (if exists )?(only )?[\w.]+ validate constraint\b`)
	// From PostgreSQL 18 on these lock their tables ACCESS SHARE, which blocks no reads and no writes. The page leaves
	// this lock out, so that it is the same for all versions.
	rightsOnly = regexp.MustCompile(`(?i)^(grant|revoke)\b`)
	bounded    = regexp.MustCompile(`(?i)^set (local )?lock_timeout`)
)

// flat is a statement on one line.
func flat(sql string) string { return strings.TrimSuffix(strings.Join(strings.Fields(sql), " "), ";") }

// locks are the locks of a statement as the page shows them.
func locks(s migrations.PlannedStatement) []migrations.PlannedLock {
	if rightsOnly.MatchString(s.SQL) {
		return nil
	}
	return s.Locks
}

// verdict says whether a migration may run, up or down, while the service works, and gives the reasons.
func (w way) verdict() string {
	limit := ""
	stops := map[string]string{} // table → operations that are stopped for a moment
	var changed, patient, slow, needed []string
	for _, s := range w.Statements {
		sql := flat(s.SQL)
		if bounded.MatchString(sql) {
			_, limit, _ = strings.Cut(sql, "= ")
		}
		if removes.MatchString(sql) {
			needed = append(needed, code(shortened(sql)))
		}
		if row := changesRow.FindStringSubmatch(sql); row != nil && len(s.Locks) > 0 &&
			!slices.Contains(changed, code(row[2])) {
			changed = append(changed, code(row[2]))
		}
		if text := w.patience(sql); text != "" {
			patient = append(patient, text)
			continue
		}
		for _, l := range locks(s) {
			switch {
			case l.Assumed && w.alone:
			case l.Assumed:
				slow = append(slow, "the locks of "+code(shortened(sql))+" are not known, and the strongest is assumed")
			case l.Blocks == "schema changes only":
			case !brief.MatchString(sql) || checked.MatchString(sql):
				slow = append(slow, fmt.Sprintf("%s blocks %s of %s for a time that grows with the table", code(shortened(sql)),
					l.Blocks, code(l.Table)))
			case stops[l.Table] != "reads and writes":
				stops[l.Table] = l.Blocks
			}
		}
	}
	for _, table := range w.rewritten {
		slow = append(slow, code(table)+" is rewritten")
	}
	var momentary []string
	for _, table := range slices.Sorted(maps.Keys(stops)) {
		momentary = append(momentary, stops[table]+" of "+code(table))
	}
	switch {
	case len(slow) > 0:
		return "**No:** " + strings.Join(slices.Compact(slow), "; ") + "."
	case len(needed) > 0 && w.back:
		return "**Only with the processes stopped:** those of the newer program need what is removed by " +
			strings.Join(needed, ", ") + "."
	case len(momentary) > 0 && limit == "":
		return "**No:** it blocks " + strings.Join(momentary, ", ") +
			", and no lock_timeout bounds its wait for the lock, in which all later statements on the table wait too."
	case len(momentary) > 0 && len(patient) > 0:
		return "**No:** it blocks " + strings.Join(momentary, ", ") +
			", and holds these locks during a statement that takes long."
	}
	text := "**Yes.** It blocks nothing."
	if len(momentary) > 0 {
		text = "**Yes.** It blocks " + strings.Join(momentary, ", ") +
			" for a moment, whatever the size of the table. It waits at most " +
			strings.Trim(limit, "'") + " for each lock. If that is not enough it fails and has changed nothing: run it again."
	}
	if len(changed) > 0 {
		text += " It changes rows of " + strings.Join(changed, ", ") + "."
	}
	if len(needed) > 0 {
		text += " The processes of the release before still serve, and must not need what is removed by " +
			strings.Join(needed, ", ") + "."
	}
	return strings.Join(append([]string{text}, patient...), " ")
}

// patience describes a statement that takes long but blocks no reads and no writes; "" for any other.
func (w way) patience(sql string) string {
	if validates.MatchString(sql) {
		return code(shortened(sql)) + " reads the whole table while others write."
	}
	index := concurrent.FindStringSubmatch(sql)
	switch {
	case index == nil:
		return ""
	case strings.EqualFold(index[1], "drop index"):
		return code(index[2]) + " is dropped CONCURRENTLY, which waits for the transactions that use its table."
	}
	remedy := "which has to be dropped before it is run again"
	for _, s := range w.Statements {
		if first := flat(s.SQL); strings.HasPrefix(strings.ToLower(first), "drop index concurrently if exists") &&
			strings.Contains(first, index[2]) {
			remedy = "which the next run drops first"
		}
	}
	return code(index[2]) + " is built CONCURRENTLY, which reads the table twice and waits for all transactions under " +
		"way: look for old ones first (`pg_stat_activity`). Interrupted, it leaves an invalid index, " + remedy + "."
}

// lost names the data that are lost for good.
func (w way) lost() string {
	var all []string
	for _, s := range w.Statements {
		gone := takesAway.FindStringSubmatch(flat(s.SQL))
		switch {
		case gone == nil:
		case gone[2] != "":
			all = append(all, "table "+code(gone[2]))
		case gone[3] != "":
			all = append(all, "column "+code(gone[3]+"."+gone[4]))
		case gone[5] != "":
			all = append(all, "rows of "+code(gone[5]))
		}
	}
	return strings.Join(all, ", ")
}

func shortened(sql string) string {
	const width = 90
	line := []rune(flat(sql))
	if len(line) > width {
		return string(line[:width-1]) + "…"
	}
	return string(line)
}

func (w way) describe(p *page) {
	if w.InTransaction {
		p.paragraph("In one transaction: every lock is held to its end.")
	} else {
		p.paragraph("Not in a transaction: each statement by itself, and what was done stays done if a later one fails.")
	}
	var rows [][]string
	comments, commentLocks := 0, map[string]bool{}
	for _, s := range w.Statements {
		var held []string
		for _, l := range locks(s) {
			table, assumed := l.Table, ""
			if table == "" {
				table = "any table"
			}
			if l.Assumed {
				assumed = " (not known, assumed)"
			}
			held = append(held, fmt.Sprintf("%s on %s%s", l.Mode, table, assumed))
		}
		if strings.HasPrefix(strings.ToUpper(s.SQL), "COMMENT ON") {
			comments++
			for _, l := range held {
				commentLocks[l] = true
			}
			continue
		}
		blocks := ""
		for _, l := range locks(s) {
			if l.Blocks != "schema changes only" {
				blocks = l.Blocks
			}
		}
		lock := strings.Join(held, "<br>")
		if lock == "" {
			lock = "none"
		}
		rows = append(rows, []string{code(shortened(s.SQL)), lock, blocks})
	}
	if comments > 0 {
		lock := strings.Join(slices.Sorted(maps.Keys(commentLocks)), "<br>")
		if lock == "" {
			lock = "none"
		}
		rows = append(rows, []string{fmt.Sprintf("`COMMENT ON` (%d)", comments), lock, ""})
	}
	p.table([]string{"statement", "locks on existing tables", "blocks"}, rows)
}

func (d *document) migrationsPage() string {
	newest := d.migrations[len(d.migrations)-1]
	p := newPage("Migrations")
	p.paragraph(`
To make this page, each migration ran on a database of the version before it, up and down. The locks are those that
` + "`bin/reiestr migrate plan`" + ` shows; run it to see the locks on your own database. *None*: the migration locks no
table that existed before. From PostgreSQL 18 on, ` + "`GRANT` and `REVOKE`" + ` lock their tables ACCESS SHARE, which
blocks no read and no write.`)
	var rows [][]string
	for _, m := range slices.Backward(d.migrations) {
		rows = append(rows, []string{link(m.up.Name, "", m.up.Name), answer(m.up.verdict()), answer(m.down.verdict()),
			m.down.lost()})
	}
	p.table([]string{"migration", "up at noon?", "down at noon?", "down removes"}, rows)

	p.heading(2, "Roll out the newest")
	p.paragraph(fmt.Sprintf(`
The newest migration is %s. Roll it out with the program that contains it:

1. `+"`bin/reiestr migrate status`"+` shows version %d applied and %d pending. `+"`bin/reiestr migrate plan`"+` shows
   the locks listed below, and no others. On an older version more migrations are pending: `+"`up`"+` applies all of
   them, one after the other. Each has its section below.
2. `+"`bin/reiestr migrate up`"+`. At noon? %s
3. Replace the processes, one after the other. Processes of the release before work on the newer schema and stay ready
   ([decision 16](../decisions/0016-expand-and-contract.md)). A process of the newer release starts only after step 2.
   The [playbook](../playbooks/roll-out-and-roll-back.md) has the commands.`,
		link(newest.up.Name, "", newest.up.Name), newest.up.Version-1, newest.up.Version, newest.up.verdict()))

	p.heading(2, "Roll back the newest")
	p.paragraph("Start the processes of the release before, one after the other, and stop those of the newer one. The " +
		"schema stays: the release before works on it ([decision 16](../decisions/0016-expand-and-contract.md)).")
	lost := "It loses no data."
	if names := newest.down.lost(); names != "" {
		lost = "It loses these data for good: " + names + "."
	}
	p.paragraph("`bin/reiestr migrate down` is for development, and for a release that has never served. It takes the " +
		"newest migration back, and only the newer program can run it: end all its other processes first, " +
		"because they refuse the older schema. " + lost + " While processes of the release before serve: " +
		newest.down.verdict())

	for _, m := range slices.Backward(d.migrations) {
		p.heading(2, m.up.Name)
		p.paragraph(m.intro)
		p.paragraph("[The file](../../migrations/" + m.up.Name + ")")
		p.heading(3, "Up to "+fmt.Sprint(m.up.Version))
		p.paragraph(m.up.verdict())
		m.up.describe(p)
		p.heading(3, "Down from "+fmt.Sprint(m.up.Version))
		p.paragraph(m.down.verdict())
		m.down.describe(p)
		if lost := m.down.lost(); lost != "" {
			p.paragraph("Lost for good: " + lost + ".")
		}
	}
	return p.String()
}

// answer is a short form of the verdict.
func answer(verdict string) string {
	switch {
	case strings.HasPrefix(verdict, "**Yes"):
		return "yes"
	case strings.HasPrefix(verdict, "**Only"):
		return "only with the processes stopped"
	}
	return "**no**"
}
