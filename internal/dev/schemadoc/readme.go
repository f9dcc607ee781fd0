package schemadoc

import (
	"fmt"
	"strings"
)

func (d *document) overview() string {
	newest := d.migrations[len(d.migrations)-1]
	p := newPage("The database")
	p.paragraph(fmt.Sprintf(`
Schema version %d. `+"`make schema`"+` generates these pages from a migrated database and from the headers of
[sql/](../../sql/). A test fails when they are out of date.`, newest.up.Version))
	p.table([]string{"page", "answers"}, d.contents())

	p.heading(2, "Questions of a DBA")
	var answers [][]string
	for _, a := range [][2]string{
		{
			"Which rows does an action lock, and in which order?",
			"[transactions.md](transactions.md): every statement of a method in its order, with its locks. Release, for one: " +
				d.chapterLink("Release a service request"),
		},
		{
			"What happens to a licence that is created while the legal entity is being closed?",
			"Both lock the row of the legal entity, so one comes after the other: " +
				link("legal_entities.sql", "queries.md", "legal_entities.sql") + " tells both orders, " +
				d.chapterLink("Create a licence") + " and " + d.chapterLink("Load a bundle") + " show the statements",
		},
		{
			"Which index serves a query, a search for instance?",
			"The header of the query: " + d.queryLink("ListServiceRequestsByRequisition") + " (search), " +
				d.queryLink("ListServiceRequestsOfPatient") + ", " + d.queryLink("ListLicenses") +
				". The other way round, what an index is there for: the tables of indexes on the pages of the schemas",
		},
		{
			"Which commands roll the newest migration out and back, and in which order?",
			"[Roll out](migrations.md#roll-out-the-newest), [roll back](migrations.md#roll-back-the-newest)",
		},
		{"Is a migration safe at noon?", "The first table of [migrations.md](migrations.md), with the reason at each"},
		{"Which states are there, and what leads from one to another?", "[states.md](states.md)"},
		{"Who may read or change a table?", "The rights of each table on the pages of the schemas; the roles below"},
		{"Why is it so?", "[Decisions](../decisions/README.md)"},
	} {
		answers = append(answers, a[:])
	}
	p.table([]string{"question", "answer"}, answers)

	p.heading(2, "Tables")
	p.paragraph(`
Solid lines are foreign keys. Dotted lines are columns that hold an id of another table without a foreign key. By design
no foreign key crosses between schemas, because each schema may move to a server of its own, and no foreign key leads
from an event to its subject. The diagram shows only the columns that connect tables.`)
	p.code("mermaid", d.diagram())
	var tables [][]string
	for _, r := range d.relations() {
		tables = append(tables, []string{r.link(), r.Comment})
	}
	p.table([]string{"table", "what it holds"}, tables)

	p.heading(2, "Roles")
	p.paragraph(`
No role can log in: grant the roles to logins ([why](../decisions/0005-roles.md)).
[roles.sql](../../migrations/roles.sql) creates them. On the page of a schema, a tick is a right on the whole table, and
names are the columns that a right is limited to.`)
	var rows [][]string
	for _, s := range d.sorted() {
		for _, row := range rightsOnSchema(s) {
			rows = append(rows, append([]string{link(s.Name, s.Name+".md", "Schema "+s.Name)}, row...))
		}
	}
	p.table([]string{"schema", "role", "rights on the schema itself"}, rows)
	rows = nil
	for _, m := range d.memberships {
		rows = append(rows, []string{code(m.Member), code(m.Of)})
	}
	p.table([]string{"role", "is a member of"}, rows)
	rows = nil
	for _, s := range d.settings {
		rows = append(rows, []string{code(s.Role), code(s.Value)})
	}
	p.table([]string{"role", "setting"}, rows)
	return p.String()
}

func (d *document) contents() [][]string {
	var rows [][]string
	for _, s := range d.sorted() {
		rows = append(rows, []string{fmt.Sprintf("[%s.md](%s.md)", s.Name, s.Name), s.Comment +
			" Columns, constraints, indexes, triggers, storage, rights."})
	}
	return append(rows, [][]string{
		{"[queries.md](queries.md)", "Every statement: purpose, locks, index, refusals."},
		{"[transactions.md](transactions.md)", "Every method: its statements and locks in their order."},
		{"[states.md](states.md)", "The state machines, as every action in every situation has shown them."},
		{"[migrations.md](migrations.md)", "Every migration: locks up and down, " +
			"whether it is safe at noon; how to roll out and back."},
	}...)
}

func (d *document) chapterLink(title string) string { return link(title, "transactions.md", title) }

func (d *document) queryLink(name string) string { return link(name, "queries.md", name) }

func rightsOnSchema(s *schema) [][]string {
	byRole := map[string][]string{}
	var roles []string
	for _, g := range s.grants {
		if g.Function != "" {
			continue
		}
		if byRole[g.Role] == nil {
			roles = append(roles, g.Role)
		}
		byRole[g.Role] = append(byRole[g.Role], g.Right)
	}
	var rows [][]string
	for _, role := range roles {
		rows = append(rows, []string{code(role), strings.Join(byRole[role], ", ")})
	}
	return rows
}
