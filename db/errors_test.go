package db_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/reiestr/reiestr/db"
)

// ladder is a query that answers with refusals, as its file in sql/ shows it.
type ladder struct {
	announced []string // in its header
	answered  []string // by its CASE
}

var (
	queryName = regexp.MustCompile(`(?m)^-- name: (\w+) `)
	announced = regexp.MustCompile(`(?m)^-- Refusals, in this order: ((?:.|\n-- )+?)\.$`)
	answered  = regexp.MustCompile(`THEN '(\w+)'`)
	separator = regexp.MustCompile(`,\s(?:-- )?`)
)

// ladders reads the queries of sql/ whose header lists refusals in an order.
func ladders(t *testing.T) map[string]ladder {
	t.Helper()
	files, err := filepath.Glob("../sql/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatalf("no query files: %v", err)
	}
	found := map[string]ladder{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text := string(content)
		starts := queryName.FindAllStringSubmatchIndex(text, -1)
		for i, start := range starts {
			query := text[start[0]:]
			if i+1 < len(starts) {
				query = text[start[0]:starts[i+1][0]]
			}
			header := announced.FindStringSubmatch(query)
			if header == nil {
				if !strings.Contains(query, "\n-- Refusals: ") {
					t.Errorf("%s: query %s does not list its refusals", file, text[start[2]:start[3]])
				}
				continue
			}
			l := ladder{announced: separator.Split(header[1], -1)}
			for _, code := range answered.FindAllStringSubmatch(query, -1) {
				l.answered = append(l.answered, code[1])
			}
			found[text[start[2]:start[3]]] = l
		}
	}
	return found
}

// constants are the refusals of errors.go, in its order.
func constants(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Refusal" {
			for _, v := range spec.Values {
				code, err := strconv.Unquote(v.(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				found = append(found, code)
			}
		}
		return true
	})
	return found
}

func TestLaddersAnswerInTheOrderTheyAnnounce(t *testing.T) {
	t.Parallel()
	all := ladders(t)
	for _, name := range []string{"CreateLicenses", "UpdateLicense", "JudgeUse", "JudgeRelease", "JudgeProcess",
		"JudgeComplete"} {
		if len(all[name].answered) == 0 {
			t.Errorf("%s is no ladder", name)
		}
	}
	for name, l := range all {
		if !slices.Equal(l.announced, l.answered) {
			t.Errorf("%s announces\n%v, answers\n%v", name, l.announced, l.answered)
		}
	}
}

func TestRefusalsAreAClosedSet(t *testing.T) {
	t.Parallel()
	inSQL := map[string]bool{}
	for _, l := range ladders(t) {
		for _, code := range l.answered {
			inSQL[code] = true
		}
	}
	inGo := slices.Sorted(slices.Values(constants(t)))
	if unique := slices.Compact(slices.Clone(inGo)); len(unique) != len(inGo) {
		t.Errorf("twice in errors.go: %v", inGo)
	}
	inGo = slices.DeleteFunc(inGo, func(code string) bool { return code == string(db.InternalError) })
	if codes := slices.Sorted(maps.Keys(inSQL)); !slices.Equal(codes, inGo) {
		t.Errorf("in sql/\n%v, in errors.go\n%v", codes, inGo)
	}
}

// The constants have the order of the contract, so those of a ladder follow each other in its order.
func TestRefusalsOfLicensesAreInTheOrderOfTheLadder(t *testing.T) {
	t.Parallel()
	codes := ladders(t)["CreateLicenses"].answered
	if all := constants(t); len(all) < len(codes) || !slices.Equal(all[:len(codes)], codes) {
		t.Errorf("in errors.go\n%v, in the ladder\n%v", all, codes)
	}
}

// The tests have the same steps, in the same order, as the ladders of the queries.
func TestEveryStepOfALadderIsTested(t *testing.T) {
	t.Parallel()
	tested := map[string][]string{}
	for _, s := range licenseLadder {
		tested["CreateLicenses"] = append(tested["CreateLicenses"], string(s.refusal))
	}
	for _, s := range licenseUpdateLadder {
		tested["UpdateLicense"] = append(tested["UpdateLicense"], string(s.refusal))
	}
	for name, steps := range map[string][]step{
		"JudgeUse": useLadder, "JudgeRelease": releaseLadder, "JudgeProcess": processLadder, "JudgeComplete": completeLadder,
	} {
		for _, s := range steps {
			tested[name] = append(tested[name], string(s.refusal))
		}
	}
	for name, l := range ladders(t) {
		if !slices.Equal(tested[name], l.answered) {
			t.Errorf("%s: tests have the steps\n%v, the query has\n%v", name, tested[name], l.answered)
		}
	}
}

func TestUnavailable(t *testing.T) {
	t.Parallel()
	code := func(c string) error { return fmt.Errorf("create license: %w", &pgconn.PgError{Code: c}) }
	for _, test := range []struct {
		err  error
		want bool
	}{
		{code("08006"), true}, // connection failure
		{code("53300"), true}, // too many connections
		{code("53100"), true}, // disk full
		{code("57P01"), true}, // shutdown
		{code("57014"), true}, // statement time-out
		{code("55P03"), true}, // lock time-out
		{code("25P03"), true}, // idle-in-transaction time-out
		{code("40P01"), true}, // deadlock, at each try
		{code("23505"), false},
		{code("42501"), false},
		{code("55000"), false},
		{code("22P02"), false},
		{code("XX000"), false},
		{&net.OpError{Op: "dial", Err: errors.New("refused")}, true},
		{context.DeadlineExceeded, true},
		{io.ErrUnexpectedEOF, true},
		{errors.Join(errors.New("rollback"), io.EOF), true},
		{context.Canceled, false},
		{db.LicenseExpired, false},
		{db.ErrNotFound, false},
		{nil, false},
	} {
		if got := db.Unavailable(test.err); got != test.want {
			t.Errorf("%v: %t", test.err, got)
		}
	}
}

func TestUnavailableOfAServerThatIsNotThere(t *testing.T) {
	t.Parallel()
	d, err := db.Open(t.Context(), db.Config{URL: "postgres://127.0.0.1:1/none?connect_timeout=5",
		TimeZone: "Europe/Kyiv"})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Ready(t.Context(), 1); !db.Unavailable(err) {
		t.Errorf("%v", err)
	}
}
