package migrations

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Mode is a lock mode of tables, with its name in the manual of PostgreSQL.
type Mode string

// The modes.
const (
	AccessShare          Mode = "ACCESS SHARE"
	RowShare             Mode = "ROW SHARE"
	RowExclusive         Mode = "ROW EXCLUSIVE"
	ShareUpdateExclusive Mode = "SHARE UPDATE EXCLUSIVE"
	Share                Mode = "SHARE"
	ShareRowExclusive    Mode = "SHARE ROW EXCLUSIVE"
	Exclusive            Mode = "EXCLUSIVE"
	AccessExclusive      Mode = "ACCESS EXCLUSIVE"
)

// strength has the modes in the order of what they block, the weakest first.
var strength = []Mode{AccessShare, RowShare, RowExclusive, ShareUpdateExclusive, Share, ShareRowExclusive, Exclusive,
	AccessExclusive}

// Blocks names the operations that a lock blocks.
func (m Mode) Blocks() string {
	switch m {
	case AccessExclusive:
		return "reads and writes"
	case Share, ShareRowExclusive, Exclusive:
		return "writes"
	default:
		return "schema changes only"
	}
}

// compare orders modes by strength.
func (m Mode) compare(other Mode) int {
	return cmp.Compare(slices.Index(strength, m), slices.Index(strength, other))
}

// rules are the locks of the kinds of statements. The first rule that fits counts. A statement that fits no rule is not
// known.
var rules = []struct {
	begins string // the first words
	locks  func(*reading)
}{
	{"set", lockNothing},
	{"reset", lockNothing},
	{"grant", lockForGrant},
	{"revoke", lockForGrant},
	{"alter default privileges", lockNothing},
	{"create schema", lockNothing},
	{"create type", lockNothing},
	{"create domain", lockNothing},
	{"create role", lockNothing},
	{"create function", lockForFunction},
	{"create or replace function", lockForFunction},
	{"create procedure", lockForFunction},
	{"create or replace procedure", lockForFunction},
	{"create table", lockForNewTable},
	{"create index", lockForIndex},
	{"create unique index", lockForIndex},
	{"create trigger", lockAfterOn(ShareRowExclusive)},
	{"create or replace trigger", lockAfterOn(ShareRowExclusive)},
	{"create view", lockForData},
	{"create or replace view", lockForData},
	{"alter table", lockForAlteredTable},
	{"drop table", lockForDroppedTables},
	{"drop index", lockForDroppedIndexes},
	{"drop trigger", lockAfterOn(AccessExclusive)},
	{"drop function", lockUnlessCascade},
	{"drop procedure", lockUnlessCascade},
	{"drop schema", lockUnlessCascade},
	{"comment on table", func(r *reading) { r.lock(r.words[3], ShareUpdateExclusive) }},
	{"comment on column", func(r *reading) {
		r.lock(r.words[3][:strings.LastIndex(r.words[3], ".")],
			ShareUpdateExclusive)
	}},
	{"comment on constraint", lockAfterOn(AccessShare)},
	{"comment on trigger", lockAfterOn(AccessShare)},
	{"comment on index", lockNothing}, // locks only the index
	{"comment on schema", lockNothing},
	{"comment on function", lockNothing},
	{"comment on procedure", lockNothing},
	{"comment on type", lockNothing},
	{"comment on domain", lockNothing},
	{"insert into", lockForData},
	{"update", lockForData},
	{"delete from", lockForData},
}

// reading is a statement that the rules read.
type reading struct {
	*catalogue
	words   []string // lower case; qualified names are one, strings begin with a quote
	locks   map[string]Mode
	onNew   bool // it locks a table that the plan makes
	unknown bool
}

// read applies the rules to a statement, and records the tables and indexes that it makes.
func (known *catalogue) read(sql string) PlannedStatement {
	r := &reading{catalogue: known, words: words(sql), locks: map[string]Mode{}, unknown: true}
	for _, rule := range rules {
		if begins(r.words, rule.begins) {
			r.unknown = false
			rule.locks(r)
			break
		}
	}
	planned := PlannedStatement{SQL: sql, Locks: []PlannedLock{}}
	if r.unknown {
		clear(r.locks)
		for _, word := range deepWords(r.words) {
			if known.tables[word] {
				r.locks[word] = AccessExclusive
			}
		}
		if len(r.locks) == 0 && len(known.tables) > 0 {
			r.locks[""] = AccessExclusive
		}
	}
	for _, table := range slices.Sorted(maps.Keys(r.locks)) {
		planned.Locks = append(planned.Locks, PlannedLock{Table: table, Mode: r.locks[table], Blocks: r.locks[table].Blocks(),
			Assumed: r.unknown})
	}
	switch {
	case len(planned.Locks) > 0:
	case r.onNew || r.unknown || begins(r.words, "create"):
		planned.None = "new object"
	default:
		planned.None = "no table"
	}
	return planned
}

// lock records a lock on a table that existed before the plan, unless a stronger one is recorded. Names are qualified,
// because migrations run with an empty search_path.
func (r *reading) lock(table string, mode Mode) {
	switch {
	case r.tables[table]:
	case r.made[table]:
		r.onNew = true
		return
	case r.has("exists"):
		return
	default: // it may have been renamed
		r.unknown = true
		return
	}
	if held, locked := r.locks[table]; !locked || held.compare(mode) < 0 {
		r.locks[table] = mode
	}
}

func (r *reading) has(word string) bool { return slices.Contains(r.words, word) }

func lockNothing(*reading) {}

// lockForGrant: version 18 locks the tables so that they cannot be dropped. The versions before do not lock them.
func lockForGrant(r *reading) {
	for _, word := range r.words {
		if r.tables[word] && r.serverVersion >= 180000 {
			r.lock(word, AccessShare)
		}
	}
}

func lockUnlessCascade(r *reading) { r.unknown = r.has("cascade") }

// lockAfterOn is for statements that name their table after ON.
func lockAfterOn(mode Mode) func(*reading) {
	return func(r *reading) {
		// The second ON, which belongs to the object: that of COMMENT ON comes first.
		if on := slices.Index(r.words[2:], "on") + 2; on >= 2 && on+1 < len(r.words) && strings.Contains(r.words[on+1], ".") {
			r.lock(r.words[on+1], mode)
		} else {
			r.unknown = true
		}
	}
}

// lockForFunction: the body of a function in SQL is analysed when the function is made, that of any other language is
// only stored.
func lockForFunction(r *reading) {
	if language := slices.Index(r.words, "language"); language < 0 || r.words[language+1] == "sql" {
		r.lockRead(deepWords(r.words))
	}
}

func lockForNewTable(r *reading) {
	at := 2
	if begins(r.words[at:], "if not exists") {
		at += 3
	}
	table := r.words[at]
	r.made[table] = true
	if r.has("inherits") || r.has("partition") || r.has("like") || r.has("as") && !r.has("generated") {
		r.unknown = true
		return
	}
	if at+1 < len(r.words) && r.words[at+1] == "(" {
		for _, element := range elements(r.words[at+2:]) {
			r.lockReferenced(table, element)
		}
	}
}

func lockForIndex(r *reading) {
	on := slices.Index(r.words, "on")
	table := r.words[on+1]
	if table == "only" {
		table = r.words[on+2]
	}
	if name := r.words[on-1]; name != "index" && name != "concurrently" {
		schema, _, _ := strings.Cut(table, ".")
		r.indexes[schema+"."+name] = table
	}
	if r.has("concurrently") {
		r.lock(table, ShareUpdateExclusive)
	} else {
		r.lock(table, Share)
	}
}

func lockForAlteredTable(r *reading) {
	rest := r.words[2:]
	if begins(rest, "if exists") {
		rest = rest[2:]
	}
	if begins(rest, "only") {
		rest = rest[1:]
	}
	for _, action := range elements(rest[1:]) {
		r.alter(rest[0], action)
	}
}

// alter is the lock of one action of ALTER TABLE; the manual: "an ACCESS EXCLUSIVE lock is acquired unless explicitly
// noted".
func (r *reading) alter(table string, action []string) {
	cascade := slices.Contains(action, "cascade")
	target := action
	for _, noise := range []string{"alter", "drop", "validate", "column", "constraint", "if", "exists"} {
		if len(target) > 1 && target[0] == noise {
			target = target[1:]
		}
	}
	mode := AccessExclusive
	switch {
	case begins(action, "add") && slices.Contains(action, "foreign"):
		mode = ShareRowExclusive
		r.lockReferenced(table, action[1:])
	case begins(action, "add") && !begins(action, "add constraint"):
		element := action[1:]
		for _, noise := range []string{"column", "if", "not", "exists"} {
			if element[0] == noise {
				element = element[1:]
			}
		}
		r.lockReferenced(table, element)
	case begins(action, "validate constraint"):
		mode = ShareUpdateExclusive
		for _, key := range r.keys {
			if key.Table == table && key.Name == target[0] {
				r.lock(key.Referenced, RowShare)
			}
		}
	case (begins(action, "set (") || begins(action, "reset (")) && !slices.Contains(action, "user_catalog_table"),
		begins(action, "alter") && (begins(target[1:], "set statistics") || begins(target[1:], "set (") ||
			begins(target[1:], "reset (")),
		begins(action, "cluster on"), begins(action, "set without cluster"):
		mode = ShareUpdateExclusive
	case (begins(action, "enable") || begins(action, "disable")) && slices.Contains(action, "trigger"):
		mode = ShareRowExclusive
	case begins(action, "drop constraint"):
		for _, key := range r.keys {
			r.lockPartner(table, key, key.Name == target[0], cascade)
		}
	case begins(action, "drop"), begins(action, "alter") && slices.Contains(action, "type"):
		for _, key := range r.keys {
			r.lockPartner(table, key, slices.Contains(key.Columns, target[0]), cascade ||
				slices.Contains(key.ReferencedColumns, target[0]))
		}
	case begins(action, "attach"), begins(action, "detach"), begins(action, "inherit"), begins(action, "no inherit"):
		r.unknown = true
	}
	r.lock(table, mode)
}

// lockPartner is for the change or removal of a foreign key, which changes the triggers on both of its tables.
func (r *reading) lockPartner(table string, key foreignKey, referencing, referenced bool) {
	if key.Table == table && referencing {
		r.lock(key.Referenced, AccessExclusive)
	}
	if key.Referenced == table && referenced {
		r.lock(key.Table, AccessExclusive)
	}
}

// lockReferenced is for an element of a table that may make a foreign key.
func (r *reading) lockReferenced(table string, element []string) {
	at := slices.Index(element, "references")
	if at < 0 {
		return
	}
	key := foreignKey{Table: table, Referenced: element[at+1], Columns: element[:1]}
	if foreign := slices.Index(element, "foreign"); foreign >= 0 {
		key.Columns = listed(element[foreign+2:])
	}
	if slices.Contains(element[:at], "constraint") {
		key.Name = element[slices.Index(element, "constraint")+1]
	} else {
		_, name, _ := strings.Cut(table, ".")
		key.Name = name + "_" + strings.Join(key.Columns, "_") + "_fkey"
	}
	key.ReferencedColumns = listed(element[at+2:])
	clauses := strings.Join(element[at:], " ")
	writes := func(event string) bool {
		return strings.Contains(clauses, event+" cascade") || strings.Contains(clauses, event+" set")
	}
	key.DeleteWrites, key.UpdateWrites = writes("on delete"), writes("on update")
	r.keys = append(r.keys, key)
	r.lock(key.Referenced, ShareRowExclusive)
}

func lockForDroppedTables(r *reading) {
	for _, table := range r.words[2:] {
		if !strings.Contains(table, ".") {
			continue
		}
		r.lock(table, AccessExclusive)
		for _, key := range r.keys {
			r.lockPartner(table, key, true, r.has("cascade"))
		}
	}
}

func lockForDroppedIndexes(r *reading) {
	mode := AccessExclusive
	if r.has("concurrently") {
		mode = ShareUpdateExclusive
	}
	for _, index := range r.words[2:] {
		if !strings.Contains(index, ".") {
			continue
		}
		if table, exists := r.indexes[index]; exists {
			r.lock(table, mode)
		} else if !r.has("exists") {
			r.unknown = true
		}
	}
}

func lockForData(r *reading) { r.lockRead(r.words) }

// lockRead is for a statement that reads and changes rows: it locks the tables that it names, and those that its
// foreign keys then read or change.
func (r *reading) lockRead(words []string) {
	reads := AccessShare
	for i, word := range words {
		if word == "for" && i+1 < len(words) && slices.Contains([]string{"update", "no", "share", "key"}, words[i+1]) {
			reads = RowShare
		}
	}
	defined := begins(words, "create") // no rows change, so no foreign key is checked
	for i, word := range words {
		if !strings.Contains(word, ".") || word[0] == '\'' {
			continue
		}
		before := words[:i]
		if ends(before, "only") {
			before = before[:i-1]
		}
		switch {
		case ends(before, "into"):
			r.lock(word, RowExclusive)
			if !defined {
				r.lockKeys(word, "insert", words)
			}
		case ends(before, "update"):
			r.lock(word, RowExclusive)
			if !defined {
				r.lockKeys(word, "update", words[i:])
			}
		case ends(before, "delete", "from"):
			r.lock(word, RowExclusive)
			if !defined {
				r.lockKeys(word, "delete", nil)
			}
		case r.tables[word]:
			r.lock(word, reads)
		}
	}
}

// lockKeys is for the foreign keys of a table whose rows change.
func (r *reading) lockKeys(table, event string, words []string) {
	var set []string
	if at := slices.Index(words, "set"); at >= 0 {
		set = words[at:endOfSet(words, at)]
	}
	changes := func(columns []string) bool {
		return slices.ContainsFunc(columns, func(column string) bool { return slices.Contains(set, column) })
	}
	for _, key := range r.keys {
		if key.Table == table && (event == "insert" || changes(key.Columns)) {
			r.lock(key.Referenced, RowShare)
		}
		if key.Referenced != table || event != "delete" && !changes(key.ReferencedColumns) {
			continue
		}
		mode := RowShare
		if event == "delete" && key.DeleteWrites || event != "delete" && key.UpdateWrites {
			mode = RowExclusive
		}
		again := r.locks[key.Table] == mode
		r.lock(key.Table, mode)
		if event == "delete" && mode == RowExclusive && !again {
			r.lockKeys(key.Table, event, nil)
		}
	}
}

// endOfSet is where the list of new values ends that begins at a word: at the FROM or WHERE of the statement itself.
func endOfSet(words []string, begin int) int {
	depth := 0 // of parentheses, in which a query may have a FROM of its own
	for i, word := range words[begin:] {
		switch word {
		case "(":
			depth++
		case ")":
			depth--
		case "from", "where", "returning":
			if depth == 0 {
				return begin + i
			}
		}
	}
	return len(words)
}

var word = regexp.MustCompile(`(?s)` +
	`--[^\n]*|/\*.*?\*/` + // comments
	`|(\$\w*\$)` + // the beginning of a dollar-quoted string
	`|[eE]?'(?:[^']|'')*'` +
	`|(?:"[^"]+"|[\pL_][\pL\pN_$]*)(?:\.(?:"[^"]+"|[\pL_][\pL\pN_$]*))*` +
	`|\S`)

// words splits a statement into words.
func words(sql string) []string {
	var all []string
	for {
		at := word.FindStringSubmatchIndex(sql)
		if at == nil {
			return all
		}
		found, rest := sql[at[0]:at[1]], sql[at[1]:]
		switch {
		case strings.HasPrefix(found, "--"), strings.HasPrefix(found, "/*"), found == ";":
		case at[2] >= 0:
			body, after, _ := strings.Cut(rest, found)
			all, rest = append(all, "'"+body), after
		case strings.HasSuffix(found, "'") && len(found) > 1:
			_, text, _ := strings.Cut(found, "'")
			all = append(all, "'"+strings.ReplaceAll(strings.TrimSuffix(text, "'"), "''", "'"))
		default:
			all = append(all, strings.ReplaceAll(strings.ToLower(found), `"`, ""))
		}
		sql = rest
	}
}

// deepWords also has the words within strings.
func deepWords(shallow []string) []string {
	var all []string
	for _, word := range shallow {
		if text, quoted := strings.CutPrefix(word, "'"); quoted {
			all = append(all, deepWords(words(text))...)
		} else {
			all = append(all, word)
		}
	}
	return all
}

func begins(words []string, with string) bool {
	first := strings.Fields(with)
	return len(words) >= len(first) && slices.Equal(words[:len(first)], first)
}

func ends(words []string, with ...string) bool {
	return len(words) >= len(with) && slices.Equal(words[len(words)-len(with):], with)
}

// elements splits a list at its commas. The list ends with the parenthesis that encloses it.
func elements(words []string) [][]string {
	var all [][]string
	depth, start := 0, 0
	for i, word := range words {
		switch {
		case word == "(":
			depth++
		case word == ")" && depth == 0:
			return append(all, words[start:i])
		case word == ")":
			depth--
		case word == "," && depth == 0:
			all, start = append(all, words[start:i]), i+1
		}
	}
	return append(all, words[start:])
}

// listed answers the names in a list in parentheses, if one begins here.
func listed(words []string) []string {
	if !begins(words, "(") {
		return nil
	}
	var names []string
	for _, element := range elements(words[1:]) {
		names = append(names, element...)
	}
	return names
}
