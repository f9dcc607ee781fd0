package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// mutant is one change of one file that breaks a promise.
type mutant struct {
	id          string // stays when other lines move: file, object, kind, number among those of the same kind
	file        string // below the root of the module
	start, end  int    // bytes of the file
	replacement string
	promise     string // what is broken, for people
}

// token of SQL. Comments and the quotes of function bodies are none, so a body is read like the text around it.
type token struct {
	text       string // a word in upper case
	start, end int
	depth      int // number of parentheses around it
}

var lexeme = regexp.MustCompile(
	`(?s)\A(?:(\s+|--[^\n]*|/\*.*?\*/|\$\w*\$)|'(?:[^']|'')*'|"[^"]*"|[\pL_@][\pL\d_.@]*|\d+|.)`,
)

func lex(text string) (tokens []token) {
	depth := 0
	for at := 0; at < len(text); {
		found := lexeme.FindStringSubmatch(text[at:])
		if found[1] == "" {
			if found[0] == ")" {
				depth--
			}
			tokens = append(tokens, token{strings.ToUpper(found[0]), at, at + len(found[0]), depth})
			if found[0] == "(" {
				depth++
			}
		}
		at += len(found[0])
	}
	return tokens
}

// finder collects the mutants of one file.
type finder struct {
	file, text string
	tokens     []token
	object     string // query, function, constraint, trigger or table that the next mutants are of
	numbers    map[string]int
	found      []mutant
}

// at is the text of the token with that number; "": there is none.
func (f *finder) at(i int) string {
	if i < 0 || i >= len(f.tokens) {
		return ""
	}
	return f.tokens[i].text
}

// is tells whether the tokens from i on have these texts.
func (f *finder) is(i int, texts ...string) bool {
	for n, text := range texts {
		if f.at(i+n) != text {
			return false
		}
	}
	return true
}

// name is the text of a token as it is written.
func (f *finder) name(i int) string { return f.text[f.tokens[i].start:f.tokens[i].end] }

func (f *finder) add(object, kind string, start, end int, replacement string) {
	id := fmt.Sprintf("%s:%s:%s", f.file, object, kind)
	f.numbers[id]++
	f.found = append(f.found, mutant{
		id: fmt.Sprintf("%s:%d", id, f.numbers[id]), file: f.file, start: start, end: end, replacement: replacement,
		promise: strings.Join(strings.Fields(f.text[start:end]), " "),
	})
}

// until answers the number of the first token from i on that is outside of the parentheses of depth, or that has this
// depth and one of the texts.
func (f *finder) until(i, depth int, texts ...string) int {
	for ; i < len(f.tokens); i++ {
		t := f.tokens[i]
		if t.depth < depth || t.depth == depth && (t.text == ";" || slices.Contains(texts, t.text)) {
			break
		}
	}
	return i
}

// queryMutants finds the promises in a file of sql/.
func queryMutants(file, text string) []mutant {
	f := &finder{file: file, text: text, tokens: lex(text), numbers: map[string]int{}}
	names := regexp.MustCompile(`(?m)^-- name: (\w+)`).FindAllStringSubmatchIndex(text, -1)
	for i := range f.tokens {
		for len(names) > 0 && names[0][0] < f.tokens[i].start {
			f.object, names = text[names[0][2]:names[0][3]], names[1:]
		}
		f.statement(i)
	}
	return f.found
}

// statement finds the promises of a statement that begin with the token i: locks, their order, and the conditions of
// UPDATE and DELETE.
func (f *finder) statement(i int) {
	t := f.tokens[i]
	switch {
	case t.text == "FOR":
		f.lockClause(i)
	case t.text == "PG_ADVISORY_XACT_LOCK":
		f.add(f.object, "advisory-lock-shared", t.start, t.end, "pg_advisory_xact_lock_shared")
		f.add(f.object, "advisory-lock-none", t.start, t.end, "abs")
	case f.is(i, "LOCK", "TABLE"):
		if in := f.until(i, t.depth, "IN"); in < len(f.tokens) {
			end := f.tokens[f.until(in, t.depth)-1].end
			f.add(f.object, "table-lock-weak", f.tokens[in].start, end, "IN ROW SHARE MODE")
		}
	case t.text == "UPDATE" && f.at(i-1) != "KEY" && f.at(i-1) != "FOR" && (f.at(i+2) == "SET" || f.at(i+3) == "SET"),
		f.is(i, "DELETE", "FROM"):
		f.where(i)
	}
}

// lockClause finds FOR [NO KEY] UPDATE, FOR [KEY] SHARE, with what follows, and the ORDER BY in front of it.
func (f *finder) lockClause(i int) {
	end := i + 1 // behind the strength of the lock
	for slices.Contains([]string{"NO", "KEY"}, f.at(end)) {
		end++
	}
	if f.at(end) != "UPDATE" && f.at(end) != "SHARE" {
		return
	}
	start, strength := f.tokens[i].start, f.tokens[end].end
	last := end
	if f.at(last+1) == "OF" {
		last += 2
	}
	f.orderOfLocks(i)
	if f.at(end) == "UPDATE" {
		f.add(f.object, "lock-share", start, strength, "FOR SHARE")
	}
	waits := f.tokens[last].end
	switch {
	case f.is(last+1, "SKIP", "LOCKED"):
		f.add(f.object, "skip-locked", f.tokens[last+1].start, f.tokens[last+2].end, "")
		waits = f.tokens[last+2].end
	case f.is(last+1, "NOWAIT"):
		f.add(f.object, "nowait", f.tokens[last+1].start, f.tokens[last+1].end, "")
		waits = f.tokens[last+1].end
	}
	f.add(f.object, "lock-none", start, waits, "")
}

// orderOfLocks finds the ORDER BY of the query that the lock clause i ends.
func (f *finder) orderOfLocks(i int) {
	depth := f.tokens[i].depth
	for j := i - 1; j >= 0 && f.tokens[j].depth >= depth && f.tokens[j].text != ";"; j-- {
		if f.tokens[j].depth == depth && f.is(j, "ORDER", "BY") {
			end := f.until(j, depth, "LIMIT", "OFFSET", "FOR")
			f.add(f.object, "order", f.tokens[j].start, f.tokens[end-1].end, "")
			return
		}
	}
}

// where finds the conjuncts of the condition of an UPDATE or DELETE. A mutant makes a conjunct true and keeps its text,
// so that the statement keeps its parameters.
func (f *finder) where(i int) {
	depth := f.tokens[i].depth
	from := f.until(i, depth, "WHERE")
	if f.at(from) != "WHERE" || f.tokens[from].depth != depth {
		return
	}
	end := f.until(from, depth, "RETURNING")
	var conjuncts [][2]int // first and last token
	first, cases, between, isOr := from+1, 0, false, false
	for j := from + 1; j < end; j++ {
		if f.tokens[j].depth != depth {
			continue
		}
		switch f.tokens[j].text {
		case "CASE":
			cases++
		case "END":
			cases--
		case "BETWEEN":
			between = true
		case "OR":
			isOr = isOr || cases == 0
		case "AND":
			switch {
			case between:
				between = false
			case cases == 0:
				conjuncts = append(conjuncts, [2]int{first, j - 1})
				first = j + 1
			}
		}
	}
	conjuncts = append(conjuncts, [2]int{first, end - 1})
	if isOr { // binds less than AND: the condition is one
		conjuncts = [][2]int{{from + 1, end - 1}}
	}
	for _, c := range conjuncts {
		start, end := f.tokens[c[0]].start, f.tokens[c[1]].end
		f.add(f.object, "where", start, end, "("+f.text[start:end]+" OR true)")
	}
}

// migrationMutants finds the promises in the way up of a migration. No object is removed, because later statements may
// name it: a constraint holds for every row, and a trigger never fires.
func migrationMutants(file, text string) []mutant {
	up, _, _ := strings.Cut(text, "-- +goose Down")
	f := &finder{file: file, text: up, tokens: lex(up), numbers: map[string]int{}}
	for i, t := range f.tokens {
		begins := i == 0 || f.at(i-1) == ";"
		switch {
		case t.text == "FUNCTION" && (f.at(i-1) == "CREATE" || f.at(i-1) == "REPLACE"):
			f.object = f.name(i + 1)
		case t.text == "CONSTRAINT" && i+2 < len(f.tokens):
			f.constraint(i)
		case f.is(i, "CREATE", "UNIQUE", "INDEX"):
			name := i + 3
			for slices.Contains([]string{"CONCURRENTLY", "IF", "NOT", "EXISTS"}, f.at(name)) {
				name++
			}
			f.add(f.name(name), "unique", f.tokens[i+1].start, f.tokens[i+1].end, "")
		case f.is(i, "CREATE", "TRIGGER"):
			f.trigger(i)
		case begins && (t.text == "GRANT" || t.text == "REVOKE" || f.is(i, "ALTER", "DEFAULT", "PRIVILEGES")):
			f.grant(i)
		default:
			f.statement(i)
		}
	}
	return f.found
}

func (f *finder) constraint(i int) {
	name, kind, depth := i+1, i+2, f.tokens[i].depth
	end := f.until(kind, depth, ",")
	switch f.at(kind) {
	case "CHECK":
		closing := f.until(kind+2, depth, ")")
		start, end := f.tokens[kind+1].end, f.tokens[closing].start
		f.add(f.name(name), "check", start, end, "("+f.text[start:end]+") OR true")
	case "FOREIGN", "REFERENCES":
		f.add(f.name(name), "foreign-key", f.tokens[kind].start, f.tokens[end-1].end, "CHECK (true)")
	case "UNIQUE", "EXCLUDE":
		f.add(f.name(name), strings.ToLower(f.at(kind)), f.tokens[kind].start, f.tokens[end-1].end, "CHECK (true)")
	}
}

func (f *finder) trigger(i int) {
	depth := f.tokens[i].depth
	on, runs := f.until(i, depth, "ON"), f.until(i, depth, "EXECUTE")
	object := f.name(on+1) + "." + f.name(i+2)
	if when := f.until(i, depth, "WHEN"); when < runs {
		start, end := f.tokens[when+1].end, f.tokens[f.until(when+2, depth, ")")].start
		f.add(object, "trigger", start, end, "("+f.text[start:end]+") AND false")
	} else {
		start := f.tokens[runs].start
		f.add(object, "trigger", start, start, "WHEN (false) ")
	}
	// The events stand between BEFORE or AFTER and ON, with OR between them.
	first := i + 4
	events := [][2]int{{first, on - 1}}
	for j := first; j < on; j++ {
		if f.at(j) == "OR" {
			events[len(events)-1][1] = j - 1
			events = append(events, [2]int{j + 1, on - 1})
		}
	}
	if len(events) == 1 {
		return
	}
	for n, e := range events {
		start, end := f.tokens[e[0]].start, f.tokens[e[1]].end
		if n > 0 {
			start = f.tokens[e[0]-1].start // with the OR in front
		} else {
			end = f.tokens[e[1]+1].end // with the OR behind
		}
		f.add(object, "trigger-"+strings.ToLower(f.at(e[0])), start, end, "")
	}
}

func (f *finder) grant(i int) {
	end := f.until(i, 0)
	object, kind := "default", "grant"
	for j := i; j < end; j++ {
		switch f.at(j) {
		case "REVOKE":
			kind = "revoke"
		case "ON":
			for j++; slices.Contains([]string{"ALL", "FUNCTION", "FUNCTIONS", "IN", "SCHEMA", "TABLE"}, f.at(j)); {
				j++
			}
			if f.at(i) != "ALTER" {
				object = f.name(j)
			}
			end := f.until(j, 0)
			f.add(object, kind, f.tokens[i].start, min(f.tokens[end-1].end+1, len(f.text)), "")
			return
		}
	}
}
