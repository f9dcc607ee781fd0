// Mutants shows whether the tests notice when a promise is broken. It finds the places that hold a promise, breaks one
// at a time in a copy of the module, and runs the tests there:
//
//	go run ./internal/dev/mutants --only 'sql/jobs.sql'
//
// Places are the locks and conditions of sql/, the constraints, triggers and grants of migrations/ (sql.go), and a list
// of texts (places.go). A mutant is killed if a test of behaviour fails; the tests that do not count are in suite.go. A
// survivor has to be listed on the page docs/reliability.md, with the reason why no test can see it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/reiestr/reiestr/internal/dev/testdb"
)

// options of a run.
type options struct {
	root     string // of the module
	only     *regexp.Regexp
	list     bool
	shard    string
	packages []string
	tests    string // pattern of the tests that run; "": all
	likely   bool
	prove    bool
	results  string // file
}

func main() {
	o := options{root: "."}
	only := flag.String("only", "", "pattern of the ids of the mutants that are run")
	flag.BoolVar(&o.list, "list", false, "list the mutants, and run nothing")
	flag.StringVar(&o.shard, "shard", "1/1", "i/n: run every n-th mutant, from the i-th on")
	of := flag.String("packages", strings.Join(packages, ","),
		"packages whose tests run; those of "+slowPackage+" take minutes")
	flag.StringVar(&o.tests, "tests", "",
		"pattern of the tests that run; a mutant that they do not kill gets no result, as the other tests may kill it")
	flag.BoolVar(&o.likely, "likely", false,
		"run only the tests that are likely to kill a mutant; one that they do not kill gets no result")
	flag.BoolVar(&o.prove, "prove", false,
		"have the checker judge twenty seconds of each mutant that the tests do not kill")
	flag.StringVar(&o.results, "results", ".mutants/results.json", "file of the results, from which a run goes on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if o.only, err = regexp.Compile(*only); err == nil {
		o.packages = strings.Split(*of, ",")
		err = run(ctx, o, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// find answers all mutants of a module.
func find(root string) ([]mutant, error) {
	var all []mutant
	for pattern, in := range map[string]func(file, text string) []mutant{
		"sql/*.sql": queryMutants, "migrations/0*.sql": migrationMutants,
	} {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			name, err := filepath.Rel(root, path)
			if err != nil {
				return nil, err
			}
			all = append(all, in(filepath.ToSlash(name), string(text))...)
		}
	}
	listed, err := placeMutants(root, places)
	all = append(all, listed...)
	slices.SortStableFunc(all, func(a, b mutant) int { return strings.Compare(a.id, b.id) })
	return all, err
}

// selected are the mutants of a shard whose ids match the pattern.
func selected(all []mutant, o options) (chosen []mutant, err error) {
	var i, n int
	if _, err := fmt.Sscanf(o.shard, "%d/%d", &i, &n); err != nil || i < 1 || i > n {
		return nil, fmt.Errorf("--shard %s: give i/n, for example 2/4", o.shard)
	}
	number := 0
	for _, m := range all {
		if o.only.MatchString(m.id) {
			if number++; number%n == i%n {
				chosen = append(chosen, m)
			}
		}
	}
	if len(chosen) == 0 {
		err = fmt.Errorf("none of %d mutants is chosen", len(all))
	}
	return chosen, err
}

// record is the file of the results.
type record struct {
	Tree    string            `json:"tree"` // fingerprint of the module that was run
	Limits  limits            `json:"limits"`
	Results map[string]result `json:"results"`
}

// load reads the results of an interrupted run of the same tree.
func load(path, tree string) record {
	var r record
	if text, err := os.ReadFile(path); err == nil && json.Unmarshal(text, &r) == nil && r.Tree == tree {
		return r
	}
	return record{Tree: tree, Limits: limits{}, Results: map[string]result{}}
}

func (r record) save(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return errors.Join(os.WriteFile(path+".new", text, 0o644), os.Rename(path+".new", path))
}

// has tells whether the result of a mutant is known: it was killed, or it survived the tests of all these packages.
func (r record) has(id string, of []string) bool {
	known, ok := r.Results[id]
	return ok && (known.Outcome != survived ||
		!slices.ContainsFunc(of, func(p string) bool { return !slices.Contains(known.Ran, p) }))
}

// mostOfAServer is how many mutants share a PostgreSQL server. Each changed migration leaves a template there.
const mostOfAServer = 25

func run(ctx context.Context, o options, out io.Writer) (err error) {
	all, err := find(o.root)
	if err != nil {
		return err
	}
	chosen, err := selected(all, o)
	if err != nil {
		return err
	}
	if o.list {
		for _, m := range chosen {
			fmt.Fprintf(out, "%s\t%s\n", m.id, m.promise)
		}
		return nil
	}
	root, err := filepath.Abs(o.root)
	if err != nil {
		return err
	}
	unseen, err := unseenMutants(filepath.Join(root, page))
	if err != nil {
		return err
	}
	tree, err := fingerprint(root)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "reiestr-mutants-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	c, err := copyModule(root, dir)
	if err != nil {
		return err
	}
	if err := c.readAtRunTime(); err != nil {
		return err
	}
	c.generate, c.skip = []string{filepath.Join(root, "bin", "sqlc"), "generate"}, skipped()
	c.only, c.likely = o.tests, o.likely
	var checker []string
	if o.prove {
		checker = []string{"go", "run", "./internal/dev/prove"}
	}
	known := load(o.results, tree)
	err = c.tryAll(ctx, chosen, o, known, checker, out)
	summary := summarise(len(all), chosen, known.Results)
	fmt.Fprint(out, "\n", summary)
	return errors.Join(err, compare(chosen, known.Results, unseen))
}

// inPart tells whether only some tests run.
func (o options) inPart() bool { return o.tests != "" || o.likely }

// baselines are the tests that must pass without a mutant before this one is tried, by their key in limits: the pattern
// of those tests.
func (o options) baselines(m mutant) map[string]string {
	if o.likely {
		of, tests := likelyTests(m.id)
		return map[string]string{of + " " + tests: tests}
	}
	tests := map[string]string{}
	for _, p := range o.packages {
		tests[p] = o.tests
	}
	return tests
}

// tryAll tries the mutants without a result, and saves each result.
func (c *copied) tryAll(
	ctx context.Context, chosen []mutant, o options, known record, checker []string, out io.Writer,
) (err error) {
	var server *testdb.Server
	defer func() {
		if server != nil {
			err = errors.Join(err, server.Close())
		}
	}()
	tried, within := 0, limits{}
	if o.tests == "" {
		maps.Copy(within, known.Limits)
	}
	for n, m := range chosen {
		if known.has(m.id, o.packages) {
			continue
		}
		if tried%mostOfAServer == 0 {
			if server != nil {
				if err := server.Close(); err != nil {
					return err
				}
			}
			if server, err = testdb.Serve(ctx); err != nil {
				return err
			}
			c.env = server.Environment()
		}
		for key, tests := range o.baselines(m) {
			if within[key] > 0 {
				continue
			}
			of, _, _ := strings.Cut(key, " ")
			limit, err := c.baseline(ctx, of, tests)
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "%s passes, limit with a mutant %s\n", key, limit)
			if within[key] = limit; o.tests == "" {
				known.Limits[key] = limit
			}
		}
		tried++
		before := known.Results[m.id].Ran // it has survived these
		left := slices.DeleteFunc(slices.Clone(o.packages), func(p string) bool { return slices.Contains(before, p) })
		r, err := c.try(ctx, m, left, within, checker)
		if err != nil {
			return err
		}
		r.Ran = append(slices.Clone(before), r.Ran...)
		if r.Outcome == survived && o.inPart() {
			fmt.Fprintf(out, "%d/%d %s: not killed by these tests (%.0f s)\n", n+1, len(chosen), m.id, r.Seconds)
			continue
		}
		fmt.Fprintf(out, "%d/%d %s: %s %s (%.0f s)\n", n+1, len(chosen), m.id, r.Outcome, r.By, r.Seconds)
		known.Results[m.id] = r
		if err := known.save(o.results); err != nil {
			return err
		}
	}
	return nil
}
