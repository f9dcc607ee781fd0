// Package schemadoc writes docs/schema: the reference of the database for a DBA, taken from the database itself. Tables
// come from the catalogue. Transactions and state machines come from running every action. Locks of migrations come
// from rolling each one back and planning it again. Locks of queries come from their headers in sql/.
package schemadoc

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/migrations"
)

// Render answers the pages by file name. The database at url must hold no rows. Render runs everything that the pages
// describe, and at the end the database has no schema any more. queries holds the files of sql/.
func Render(ctx context.Context, url string, queries fs.FS) (map[string]string, error) {
	if err := migrations.Up(ctx, url); err != nil {
		return nil, err
	}
	conn, err := connect(ctx, url, db.Owner)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	d := &document{schemas: map[string]*schema{}}
	if err := d.readCatalogue(ctx, conn); err != nil {
		return nil, fmt.Errorf("catalogue: %w", err)
	}
	if err := d.readQueries(queries); err != nil {
		return nil, fmt.Errorf("queries: %w", err)
	}
	if err := d.rehearseTransactions(ctx, url, conn); err != nil {
		return nil, fmt.Errorf("transactions: %w", err)
	}
	if err := d.rehearseStates(ctx, url, conn); err != nil {
		return nil, fmt.Errorf("states: %w", err)
	}
	if err := d.takeBack(ctx, url, conn); err != nil {
		return nil, fmt.Errorf("migrations: %w", err)
	}
	pages := map[string]string{
		"README.md":       d.overview(),
		"migrations.md":   d.migrationsPage(),
		"queries.md":      d.queriesPage(),
		"states.md":       d.statesPage(),
		"transactions.md": d.transactionsPage(),
	}
	for _, s := range d.sorted() {
		pages[s.Name+".md"] = d.schemaPage(s)
	}
	return pages, nil
}

// document holds the data of the pages.
type document struct {
	schemas     map[string]*schema
	memberships []membership
	settings    []setting
	files       []queryFile
	chapters    []chapter
	states      states
	migrations  []rehearsedMigration // oldest first
}

func (d *document) sorted() []*schema {
	var all []*schema
	for _, name := range slices.Sorted(maps.Keys(d.schemas)) {
		all = append(all, d.schemas[name])
	}
	return all
}

// connect opens a session with the settings of the service and the operator: names have to be qualified, and are shown
// so.
func connect(ctx context.Context, url string, role db.Role) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	for name, value := range map[string]string{"role": string(role), "search_path": "", "timezone": "UTC"} {
		config.RuntimeParams[name] = value
	}
	return pgx.ConnectConfig(ctx, config)
}

// page is a Markdown page that is being written.
type page struct{ strings.Builder }

func newPage(title string) *page {
	p := &page{}
	p.line("<!-- Generated from the database by make schema. Do not edit. -->")
	p.heading(1, title)
	return p
}

func (p *page) line(format string, args ...any) {
	if len(args) > 0 {
		format = fmt.Sprintf(format, args...)
	}
	p.WriteString(format + "\n")
}

func (p *page) paragraph(text string) {
	if text != "" {
		p.line("\n%s", strings.TrimSpace(text))
	}
}

func (p *page) heading(level int, title string) {
	p.paragraph(strings.Repeat("#", level) + " " + title)
}

func (p *page) code(language, text string) {
	p.paragraph("```" + language + "\n" + strings.Trim(text, "\n") + "\n```")
}

// table writes a table. It leaves out empty columns, and writes nothing without rows.
func (p *page) table(head []string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	used := func(column int) bool {
		return slices.ContainsFunc(rows, func(row []string) bool { return row[column] != "" })
	}
	line := func(cells []string) {
		for i, cell := range cells {
			if used(i) {
				p.WriteString("| " + strings.ReplaceAll(strings.Join(strings.Fields(cell), " "), "|", `\|`) + " ")
			}
		}
		p.WriteString("|\n")
	}
	p.WriteString("\n")
	line(head)
	for i := range head {
		if used(i) {
			p.WriteString("|---")
		}
	}
	p.WriteString("|\n")
	for _, row := range rows {
		line(row)
	}
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}

func codes(all []string) string {
	quoted := make([]string, len(all))
	for i, text := range all {
		quoted[i] = code(text)
	}
	return strings.Join(quoted, ", ")
}

var notInAnchor = regexp.MustCompile(`[^\pL\pN _-]`)

// link links to a heading of a page by the rules of GitHub.
func link(title, page, heading string) string {
	anchor := strings.ReplaceAll(notInAnchor.ReplaceAllString(strings.ToLower(heading), ""), " ", "-")
	return fmt.Sprintf("[%s](%s#%s)", title, page, anchor)
}
