package db_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// lockSpec is a file of testdata/locks, in the grammar of PostgreSQL's own isolation tests (src/test/isolation/README):
// setup, sessions with steps, permutations, teardown. The markers of permutations are left out, and three things are
// added:
//
//   - Name(parameter => expression, …) in a block is the query of that name in sql/, with the
//     expressions in the places of its parameters;
//     one that is not given is null, if the query takes null. So no spec holds a copy of a statement.
//   - :name is a column of the last row that the session was answered, as after \gset in psql; any other name stands
//     for a uuid of its own.
//   - begin is what the service sends to begin a transaction.
//
// The sessions first and second are the subject of a permutation, all other sessions prepare its state. A comment on
// the line above a permutation is its title.
type lockSpec struct {
	name            string
	setup, teardown []string
	sessions        []*lockSession
	steps           map[string]*lockStep
	permutations    []lockPermutation
	names           map[string]string // of the uuids
}

type lockSession struct {
	name  string
	setup []string
}

type lockStep struct {
	name       string
	session    *lockSession
	statements []string
}

type lockPermutation struct {
	title string
	steps []*lockStep
}

var specToken = regexp.MustCompile(`^(?:(\s+)|#[ \t]*([^\n]*)|"([^"\n]+)"|(\w+)|(\{))`)

// readLockSpec parses a file.
func readLockSpec(file string) (*lockSpec, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	s := &lockSpec{name: strings.TrimSuffix(filepath.Base(file), ".spec"), steps: map[string]*lockStep{},
		names: map[string]string{}}
	if err := s.parse(string(raw)); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for _, m := range specVariable.FindAllStringSubmatch(string(raw), -1) {
		s.names[uuidOf(m[2])] = m[2]
	}
	return s, nil
}

func (s *lockSpec) parse(text string) error {
	var words []string // since the last block, the last of them what the block belongs to
	var comment, title string
	var permutation *lockPermutation
	end := func() error {
		if permutation != nil && len(permutation.steps) == 0 {
			return errors.New("a permutation without steps")
		}
		permutation = nil
		return nil
	}
	for rest := text; rest != ""; {
		m := specToken.FindStringSubmatch(rest)
		if m == nil {
			return fmt.Errorf("unexpected %.20q", rest)
		}
		rest = rest[len(m[0]):]
		word := m[3] + m[4]
		switch {
		case m[1] != "":
			if strings.Count(m[1], "\n") > 1 {
				comment = ""
			}
			continue
		case strings.HasPrefix(m[0], "#"):
			comment = m[2]
			continue
		case m[5] != "":
			block, after, err := cutBlock(rest)
			if err != nil {
				return err
			}
			rest = after
			if err := s.add(words, splitStatements(block)); err != nil {
				return err
			}
			words = nil
		case permutation != nil && !slices.Contains([]string{"permutation", "session", "step", "teardown"}, word):
			step := s.steps[word]
			if step == nil {
				return fmt.Errorf("permutation of an unknown step %s", word)
			}
			permutation.steps = append(permutation.steps, step)
			s.permutations[len(s.permutations)-1] = *permutation
		case word == "permutation":
			if err := end(); err != nil {
				return err
			}
			title, comment = comment, ""
			permutation = &lockPermutation{title: title}
			s.permutations = append(s.permutations, *permutation)
		case len(words) == 1 && words[0] == "session":
			s.sessions = append(s.sessions, &lockSession{name: word})
			words = nil
		default:
			words = append(words, word)
		}
		if word != "" && word != "permutation" {
			comment = ""
		}
	}
	if len(words) > 0 {
		return fmt.Errorf("%v without a block", words)
	}
	return end()
}

// add adds a block. A setup before the first session is that of the spec, a later one that of its session.
func (s *lockSpec) add(words, statements []string) error {
	var session *lockSession
	if len(s.sessions) > 0 {
		session = s.sessions[len(s.sessions)-1]
	}
	switch {
	case len(words) == 1 && words[0] == "setup" && session == nil:
		s.setup = append(s.setup, statements...)
	case len(words) == 1 && words[0] == "setup":
		session.setup = append(session.setup, statements...)
	case len(words) == 1 && words[0] == "teardown":
		s.teardown = append(s.teardown, statements...)
	case len(words) == 2 && words[0] == "step" && session != nil && s.steps[words[1]] == nil:
		s.steps[words[1]] = &lockStep{words[1], session, statements}
	default:
		return fmt.Errorf("unexpected %v { … }", words)
	}
	return nil
}

// cutBlock cuts after the brace that ends a block. Braces in string literals do not count.
func cutBlock(text string) (block, after string, err error) {
	quoted := false
	for i, c := range text {
		switch {
		case c == '\'':
			quoted = !quoted
		case c == '}' && !quoted:
			return text[:i], text[i+1:], nil
		}
	}
	return "", "", errors.New("a block without end")
}

func splitStatements(block string) []string { return splitOutside(block, ';') }

// splitOutside splits at a separator that is neither in a string literal nor in parentheses or brackets.
func splitOutside(text string, separator rune) (parts []string) {
	quoted, depth, start := false, 0, 0
	for i, c := range text + string(separator) {
		switch {
		case c == '\'':
			quoted = !quoted
		case quoted:
		case c == '(' || c == '[':
			depth++
		case c == ')' || c == ']':
			depth--
		case c == separator && depth == 0:
			if part := strings.TrimSpace(text[start:min(i, len(text))]); part != "" {
				parts = append(parts, part)
			}
			start = i + 1
		}
	}
	return parts
}

var (
	queryCall      = regexp.MustCompile(`(?s)^([A-Z]\w*)\((.*)\)$`)
	queryParameter = regexp.MustCompile(`@(\w+)|sqlc\.(narg|arg)\('(\w+)'\)`)
	embeddedRow    = regexp.MustCompile(`sqlc\.embed\((\w+)\)`)
)

// namedQuery is a query of sql/.
type namedQuery struct {
	name, locks, text string
}

// namedQueries reads the queries of sql/, and the section on locks of their headers.
func namedQueries() (map[string]namedQuery, error) {
	files, err := filepath.Glob("../sql/*.sql")
	if err != nil {
		return nil, err
	}
	queries := map[string]namedQuery{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		text := string(raw)
		starts := queryHead.FindAllStringSubmatchIndex(text, -1)
		for i, at := range starts {
			end := len(text)
			if i+1 < len(starts) {
				end = starts[i+1][0]
			}
			header, body := splitHeader(text[at[1]+1 : end])
			_, locks, _ := strings.Cut(header, "\nLocks: ")
			locks, _, _ = strings.Cut(locks, "\nIndex: ")
			name := text[at[2]:at[3]]
			queries[name] = namedQuery{name, strings.Join(strings.Fields(locks), " "), body}
		}
	}
	return queries, nil
}

// called answers the statement of a line of a spec, and the name of its query; "": the line is plain SQL.
func called(queries map[string]namedQuery, line string) (statement, name string, err error) {
	m := queryCall.FindStringSubmatch(line)
	if m == nil {
		return line, "", nil
	}
	query, ok := queries[m[1]]
	if !ok {
		return "", "", fmt.Errorf("there is no query %s in sql/", m[1])
	}
	arguments := map[string]string{}
	for _, part := range splitOutside(m[2], ',') {
		parameter, expression, ok := strings.Cut(part, "=>")
		if !ok {
			return "", "", fmt.Errorf("%s: %q is not parameter => expression", query.name, part)
		}
		arguments[strings.TrimSpace(parameter)] = "(" + strings.TrimSpace(expression) + ")"
	}
	used := map[string]bool{}
	statement = queryParameter.ReplaceAllStringFunc(query.text, func(found string) string {
		p := queryParameter.FindStringSubmatch(found)
		parameter := p[1] + p[3]
		used[parameter] = true
		expression, given := arguments[parameter]
		if !given && p[2] == "narg" {
			return "NULL"
		}
		if !given {
			err = fmt.Errorf("%s: parameter %s is not given", query.name, parameter)
		}
		return expression
	})
	for parameter := range arguments {
		if !used[parameter] {
			err = fmt.Errorf("%s has no parameter %s", query.name, parameter)
		}
	}
	return embeddedRow.ReplaceAllString(statement, "$1.*"), query.name, err
}
