package schemadoc

import (
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
)

// queryFile is a file of sql/.
type queryFile struct {
	name, intro string
	queries     []query
}

// query is the header of a query.
type query struct {
	name, file, purpose    string
	locks, index, refusals string
	ordered                bool // the header lists the refusals in the order of the ladder
	table                  string
	copies                 bool // the rows are sent by COPY
}

var (
	head     = regexp.MustCompile(`(?m)^-- name: (\w+) (:\w+)$`)
	labels   = regexp.MustCompile(`(?m)^(Locks|Index|Refusals|Refusals, in this order): `)
	inserted = regexp.MustCompile(`INSERT INTO ([\w.]+)`)
	// indexName is a word in an Index line that can only be an index.
	indexName = regexp.MustCompile(`\b[a-z_]+(?:_pkey|_key|_idx)\b`)
)

func (d *document) readQueries(files fs.FS) error {
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return err
	}
	for _, name := range names {
		raw, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		text := string(raw)
		starts := head.FindAllStringSubmatchIndex(text, -1)
		if len(starts) == 0 {
			return fmt.Errorf("%s: no query", name)
		}
		file := queryFile{name: name, intro: remark(text[:starts[0][0]])}
		for i, at := range starts {
			end := len(text)
			if i+1 < len(starts) {
				end = starts[i+1][0]
			}
			body := text[at[1]+1 : end]
			q := query{name: text[at[2]:at[3]], file: name, copies: text[at[4]:at[5]] == ":copyfrom"}
			if into := inserted.FindStringSubmatch(body); into != nil {
				q.table = into[1]
			}
			if err := q.read(remark(body)); err != nil {
				return fmt.Errorf("%s: %s: %w", name, q.name, err)
			}
			for _, index := range indexName.FindAllString(q.index, -1) {
				if d.index(index) == nil {
					return fmt.Errorf("%s: %s rests on %s, which is not in the database", name, q.name, index)
				}
			}
			file.queries = append(file.queries, q)
		}
		d.files = append(d.files, file)
	}
	return nil
}

// remark is the comment at the beginning of a text, without comment marks.
func remark(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		comment, found := strings.CutPrefix(strings.TrimSpace(line), "--")
		if !found {
			break
		}
		lines = append(lines, strings.TrimSpace(comment))
	}
	return strings.Join(lines, "\n")
}

func (q *query) read(header string) error {
	parts := labels.FindAllStringSubmatchIndex(header, -1)
	if len(parts) != 3 {
		return fmt.Errorf("the header says %d of locks, index, refusals", len(parts))
	}
	q.purpose = joined(header[:parts[0][0]])
	for i, at := range parts {
		end := len(header)
		if i+1 < len(parts) {
			end = parts[i+1][0]
		}
		said := joined(header[at[1]:end])
		switch label := header[at[2]:at[3]]; label {
		case "Locks":
			q.locks = said
		case "Index":
			q.index = said
		default:
			q.refusals, q.ordered = said, label != "Refusals"
		}
	}
	return nil
}

func joined(lines string) string { return strings.Join(strings.Fields(lines), " ") }

func (d *document) query(name string) *query {
	for _, f := range d.files {
		for i := range f.queries {
			if f.queries[i].name == name {
				return &f.queries[i]
			}
		}
	}
	return nil
}

// copied finds the query by which rows are copied into a table.
func (d *document) copied(table string) string {
	for _, f := range d.files {
		for _, q := range f.queries {
			if q.copies && q.table == table {
				return q.name
			}
		}
	}
	return "COPY " + table
}

func (q *query) link() string { return link(q.name, "queries.md", q.name) }

// servedBy lists the queries that name an index in their headers.
func (d *document) servedBy(index string) string {
	var all []string
	for _, f := range d.files {
		for _, q := range f.queries {
			if slices.Contains(indexName.FindAllString(q.index, -1), index) {
				all = append(all, q.link())
			}
		}
	}
	return strings.Join(all, ", ")
}

func (d *document) queriesPage() string {
	p := newPage("Queries")
	p.paragraph(`
Every statement that the program sends, with its header in [sql/](../../sql/), except ` + "`begin`, `commit`," + `
` + "`rollback`, `LISTEN` and `pg_notify`" + `. The text of each has its name in a
comment, ` + "`SELECT /* GetJob */ …`" + ` ([decision 15](../decisions/0015-statements-say-what-they-are.md)).
[transactions.md](transactions.md) shows which statements form one
transaction, and the order of their locks.`)
	var rows [][]string
	for _, f := range d.files {
		for _, q := range f.queries {
			rows = append(rows, []string{link(q.name, "", q.name), q.locks, d.withLinks(q.index)})
		}
	}
	p.table([]string{"query", "locks", "index"}, rows)
	for _, f := range d.files {
		p.heading(2, f.name)
		p.paragraph(paragraphs(f.intro))
		for _, q := range f.queries {
			p.heading(3, q.name)
			p.paragraph(q.purpose)
			p.line("\n- Locks: %s", q.locks)
			p.line("- Index: %s", d.withLinks(q.index))
			if q.ordered {
				p.line("- Refusals, in this order: %s", q.refusals)
			} else {
				p.line("- Refusals: %s", q.refusals)
			}
			p.line("- Text: [sql/%s](../../sql/%s)", f.name, f.name)
			if chapters := d.chaptersOf(q.name); chapters != "" {
				p.line("- Part of: %s", chapters)
			}
		}
	}
	return p.String()
}

// withLinks links the names of indexes to their tables.
func (d *document) withLinks(text string) string {
	return indexName.ReplaceAllStringFunc(text, func(name string) string {
		r := d.index(name)
		return link(name, r.Schema+".md", "Indexes of "+r.Name)
	})
}

// paragraphs joins the lines of a comment, up to an empty one.
func paragraphs(text string) string {
	var all []string
	for part := range strings.SplitSeq(text, "\n\n") {
		all = append(all, joined(part))
	}
	return strings.Join(all, "\n\n")
}
