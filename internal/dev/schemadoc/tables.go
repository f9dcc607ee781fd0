package schemadoc

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

func (d *document) schemaPage(s *schema) string {
	p := newPage("Schema " + s.Name)
	p.paragraph(s.Comment)
	var contents [][]string
	for _, r := range s.relations {
		contents = append(contents, []string{link(r.Name, "", r.Name), r.Comment})
	}
	p.table([]string{"table", "what it holds"}, contents)
	for _, r := range s.relations {
		d.describe(p, r)
	}
	if len(s.functions) > 0 {
		p.heading(2, "Functions")
	}
	for _, f := range s.functions {
		p.heading(3, code(f.Signature))
		p.paragraph(f.Comment)
		p.code("sql", f.Def)
		p.paragraph("Owner " + code(f.Owner) + "." + executors(s, f))
	}
	return p.String()
}

func executors(s *schema, f function) string {
	var roles []string
	for _, g := range s.grants {
		if g.Function == f.Signature {
			roles = append(roles, g.Role)
		}
	}
	if len(roles) == 0 {
		return " No other role may call it."
	}
	return " May be called by " + codes(roles) + "."
}

func (d *document) describe(p *page, r *relation) {
	p.heading(2, r.Name)
	p.paragraph(r.Comment)
	if len(r.Reads) > 0 {
		p.paragraph("A view of " + codes(r.Reads) + "; its definition stands in [migrations/](../../migrations/).")
	}

	var rows [][]string
	for _, c := range r.columns {
		null := "null"
		if c.NotNull {
			null = ""
		}
		rows = append(rows, []string{code(c.Name), c.Type, null, code(c.Default), c.Comment})
	}
	p.table([]string{"column", "type", "null", "default", "meaning"}, rows)

	rows = nil
	for _, c := range r.constraints {
		rows = append(rows, []string{code(c.Name), code(c.Def), c.Comment})
	}
	if len(rows) > 0 {
		p.heading(3, "Constraints of "+r.Name)
		p.table([]string{"constraint", "definition", "why"}, rows)
	}

	rows = nil
	for _, x := range d.references() {
		if x.from == r && !x.guarded {
			rows = append(rows, []string{code(x.columns), x.to.link(), comment(r, x.columns)})
		}
	}
	if len(rows) > 0 {
		p.heading(3, "References of "+r.Name+" without a foreign key")
		p.table([]string{"column", "holds an id of", "meaning"}, rows)
	}

	rows = nil
	for _, i := range r.indexes {
		def := strings.TrimPrefix(i.Def, "CREATE ")
		if !i.Valid {
			def += " (INVALID)"
		}
		rows = append(rows, []string{code(i.Name), code(def), i.Comment, d.servedBy(i.Name)})
	}
	if len(rows) > 0 {
		p.heading(3, "Indexes of "+r.Name)
		p.table([]string{"index", "definition", "why", "queries that rest on it"}, rows)
	}

	rows = nil
	for _, t := range r.triggers {
		rows = append(rows, []string{code(t.Name), code(t.Def), t.Comment})
	}
	if len(rows) > 0 {
		p.heading(3, "Triggers of "+r.Name)
		p.table([]string{"trigger", "definition", "why"}, rows)
	}

	if len(r.Options)+len(r.ToastOptions) > 0 {
		options := slices.Clone(r.Options)
		for _, o := range r.ToastOptions {
			options = append(options, "toast."+o)
		}
		p.paragraph("Storage: " + codes(slices.Sorted(slices.Values(options))) + ".")
	}

	p.heading(3, "Rights on "+r.Name)
	p.paragraph("Owner " + code(r.Owner) + ", which has all rights.")
	p.table([]string{"role", "SELECT", "INSERT", "UPDATE", "DELETE", "other"}, rights(r.grants))
}

// rights has a row for each role: a tick, or the columns to which the right is limited.
func rights(grants []grant) [][]string {
	byRole := map[string]map[string][]string{} // role → right → columns; "" among them: the whole table
	for _, g := range grants {
		if byRole[g.Role] == nil {
			byRole[g.Role] = map[string][]string{}
		}
		byRole[g.Role][g.Right] = append(byRole[g.Role][g.Right], g.Column)
	}
	common := []string{"SELECT", "INSERT", "UPDATE", "DELETE"}
	var rows [][]string
	for _, role := range slices.Sorted(maps.Keys(byRole)) {
		row := []string{code(role)}
		for _, right := range common {
			columns, granted := byRole[role][right]
			switch {
			case !granted:
				row = append(row, "")
			case slices.Contains(columns, ""):
				row = append(row, "✓")
			default:
				row = append(row, codes(columns))
			}
			delete(byRole[role], right)
		}
		rows = append(rows, append(row, strings.Join(slices.Sorted(maps.Keys(byRole[role])), ", ")))
	}
	return rows
}

func comment(r *relation, name string) string {
	for _, c := range r.columns {
		if c.Name == name {
			return c.Comment
		}
	}
	return ""
}

// diagram draws all tables with the columns of their keys.
func (d *document) diagram() string {
	var b strings.Builder
	b.WriteString("erDiagram\n")
	references := d.references()
	for _, r := range d.relations() {
		if r.Kind != "r" && r.Kind != "p" {
			continue
		}
		fmt.Fprintf(&b, "    %s[\"%s\"] {\n", node(r), r)
		for _, c := range r.columns {
			var keys []string
			for _, k := range r.constraints {
				if slices.Contains(k.Columns, c.Name) && (k.Kind == "p" || k.Kind == "f") {
					keys = append(keys, map[string]string{"p": "PK", "f": "FK"}[k.Kind])
				}
			}
			named := slices.ContainsFunc(references, func(x reference) bool { return x.from == r && x.columns == c.Name })
			if len(keys) > 0 || named {
				line := strings.ReplaceAll(c.Type, " ", "_") + " " + c.Name + " " + strings.Join(slices.Compact(keys), ", ")
				b.WriteString("        " + strings.TrimSpace(line) + "\n")
			}
		}
		b.WriteString("    }\n")
	}
	for _, x := range references {
		parent, line := "||", ".."
		if x.optional {
			parent = "|o"
		}
		if x.guarded {
			line = "--"
		}
		fmt.Fprintf(&b, "    %s %s%so{ %s : \"%s\"\n", node(x.to), parent, line, node(x.from), x.columns)
	}
	return b.String()
}

func node(r *relation) string { return r.Schema + "_" + r.Name }
