package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// outcome of a mutant.
type outcome string

const (
	killed    outcome = "killed"
	timedOut  outcome = "killed by time-out" // a test waited without end
	survived  outcome = "survived"
	notMutant outcome = "not a mutant" // it does not compile, or its migration cannot be applied
)

// result is what the tests say about a mutant.
type result struct {
	ID      string   `json:"id"`
	Outcome outcome  `json:"outcome"`
	By      string   `json:"by,omitempty"`   // package and test that killed it; why it is not a mutant
	Says    string   `json:"says,omitempty"` // first lines of the test that killed it
	Ran     []string `json:"ran"`            // packages whose tests ran, the last one maybe in part
	Seconds float64  `json:"seconds"`

	test string // that killed it
}

// copied is a throw-away copy of a module, in which one mutant at a time is made.
type copied struct {
	dir      string
	generate []string // command that writes db/sqlc from sql/; none: nothing is generated
	skip     string   // pattern of tests that do not count
	only     string   // pattern of the tests that run; "": all
	likely   bool     // only the likely tests run
	env      []string
	built    map[string]bool   // packages whose tests are compiled from the files as they are
	compiled map[string]string // db/sqlc as it was compiled, by path
	fromDisk bool              // the programs read migrations and queries from the copy
}

// buildLimit is for the compiler.
const buildLimit = 5 * time.Minute

// copyModule copies the files of a module, without those that are built, downloaded or written by runs.
func copyModule(root, dir string) (*copied, error) {
	err := files(root, func(name string) error { return copyFile(root, dir, name) })
	return &copied{dir: dir, built: map[string]bool{}, compiled: map[string]string{}}, err
}

// readAtRunTime lets the programs of the copy read the migrations and the queries from the copy when they run, and not
// from what was compiled: a mutant of SQL needs no compiler.
func (c *copied) readAtRunTime() error {
	path := filepath.Join(c.dir, "migrations", "migrations.go")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before := string(text)
	const embedded = "\n//\n//go:embed *.sql\nvar FS embed.FS\n"
	if strings.Count(before, embedded) != 1 || strings.Count(before, "\t\"embed\"\n") != 1 {
		return errors.New("migrations/migrations.go does not embed the migrations as run.go expects")
	}
	disk := fmt.Sprintf("\nvar FS = os.DirFS(%q).(fs.ReadFileFS)\n", filepath.Dir(path))
	after := strings.NewReplacer(embedded, disk, "\t\"embed\"\n", "\t\"os\"\n").Replace(before)
	if err := os.WriteFile(path, []byte(after), 0o644); err != nil {
		return err
	}
	c.fromDisk = true
	return c.separateQueries()
}

var generatedQuery = regexp.MustCompile("const (\\w+) = `(-- name: [^`]*)`")

// separateQueries takes the texts of the queries out of db/sqlc, into files that the programs read when they start.
func (c *copied) separateQueries() error {
	dir := filepath.Join(c.dir, "db", "sqlc")
	texts := filepath.Join(dir, "texts")
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return err
	}
	files := map[string]string{filepath.Join(dir, "texts.go"): "package sqlc\n\nimport \"os\"\n\n" +
		"func read(name string) string {\n\ttext, err := os.ReadFile(" + fmt.Sprintf("%q", texts+"/") + " + name)\n" +
		"\tif err != nil {\n\t\tpanic(err)\n\t}\n\treturn string(text)\n}\n"}
	// A test of the grants looks for the queries in the program, so they stay there for its eyes.
	all := "//go:build ignore\n\npackage sqlc\n"
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if strings.HasPrefix(filepath.Base(path), "texts") {
			continue
		}
		for _, q := range generatedQuery.FindAllStringSubmatch(string(text), -1) {
			files[filepath.Join(texts, q[1])] = q[2]
			all += "\n" + q[0] + "\n"
		}
		files[path] = generatedQuery.ReplaceAllString(string(text), "var $1 = read(\"$1\")")
	}
	files[filepath.Join(dir, "texts_all.go")] = all
	if err := os.MkdirAll(texts, 0o755); err != nil {
		return err
	}
	for path, text := range files {
		isGo := strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "texts_all.go")
		if isGo && c.compiled[path] != text {
			c.compiled[path] = text
			clear(c.built)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// files calls do with each file of a module, in the order of the names.
func files(root string, do func(name string) error) error {
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil || name == "." {
			return err
		}
		base := entry.Name()
		if entry.IsDir() {
			if strings.HasPrefix(base, ".") || name == "bin" || base == "node_modules" {
				return filepath.SkipDir
			}
			return nil
		}
		if !entry.Type().IsRegular() || strings.HasPrefix(base, ".") {
			return nil
		}
		return do(filepath.ToSlash(name))
	})
}

func copyFile(from, to, name string) error {
	content, err := os.ReadFile(filepath.Join(from, name))
	if err != nil {
		return err
	}
	target := filepath.Join(to, name)
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	return os.WriteFile(target, content, 0o644)
}

// fingerprint is a digest of what the results depend on: the files of the module, except this command, the page that
// shows the results, and the files in the root that no test reads.
func fingerprint(root string) (string, error) {
	digest := sha256.New()
	err := files(root, func(name string) error {
		unread := !strings.Contains(name, "/") && name != "go.mod" && name != "go.sum"
		if unread || name == page || strings.HasPrefix(name, "internal/dev/mutants/") {
			return nil
		}
		content, err := os.ReadFile(filepath.Join(root, name))
		fmt.Fprintf(digest, "%s %d\n%s", name, len(content), content)
		return err
	})
	return hex.EncodeToString(digest.Sum(nil))[:16], err
}

// apply makes the mutant, and answers the text before. fault tells why it is none; the error is one of this command.
func (c *copied) apply(ctx context.Context, m mutant) (before []byte, fault string, err error) {
	before, err = os.ReadFile(filepath.Join(c.dir, m.file))
	if err != nil {
		return nil, "", err
	}
	changed := string(before[:m.start]) + m.replacement + string(before[m.end:])
	fault, err = c.write(ctx, m.file, []byte(changed))
	return before, fault, err
}

// restore takes the mutant back. It does not read the module again, which may have changed since it was copied.
func (c *copied) restore(m mutant, before []byte) error {
	if before == nil {
		return nil
	}
	// The run may have been interrupted: the context of the caller does not count.
	fault, err := c.write(context.Background(), m.file, before)
	if fault != "" {
		err = fmt.Errorf("restore %s: %s", m.file, fault)
	}
	return err
}

// write writes a file, and what is generated from it. fault tells why nothing could be generated.
func (c *copied) write(ctx context.Context, name string, text []byte) (fault string, err error) {
	if !c.fromDisk || !strings.HasSuffix(name, ".sql") {
		clear(c.built)
	}
	if err := os.WriteFile(filepath.Join(c.dir, name), text, 0o644); err != nil {
		return "", err
	}
	if !strings.HasPrefix(name, "sql/") || c.generate == nil {
		return "", nil
	}
	out, err := c.command(ctx, ".", buildLimit, c.generate...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "the query is not generated: " + firstLine(out), nil
	}
	if err == nil && c.fromDisk {
		err = c.separateQueries()
	}
	return "", err
}

// command runs a command in a folder of the copy, and answers what it has written. At the limit, it and all processes
// that it started are killed.
func (c *copied) command(ctx context.Context, in string, limit time.Duration, words ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Dir = filepath.Join(c.dir, in)
	cmd.Env = append(append(os.Environ(), "GOWORK=off"), c.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	return out, err
}

var (
	failedTest = regexp.MustCompile(`(?m)^--- FAIL: (\w+).*((?:\n\s.*){0,3})`)
	// unusable is said where no test could run: testdb cannot apply the migrations, or PostgreSQL finds an error of
	// syntax.
	unusable = regexp.MustCompile(`(?m)^.*(making reiestr_template_|SQLSTATE 42601).*$`)
)

// mostDoubts is how often the tests of a package run when a test that has failed passes alone.
const mostDoubts = 3

// confirmed is test, except that a test kills a mutant only if it fails a second time, alone. On a busy machine a test
// may fail by itself.
func (c *copied) confirmed(ctx context.Context, of, run, skip string, limit time.Duration) (r result, err error) {
	for range mostDoubts {
		r, err = c.test(ctx, of, run, skip, limit)
		if err != nil || r.Outcome != killed || r.test == "" {
			return r, err
		}
		again, err := c.test(ctx, of, "^"+r.test+"$", "^$", limit)
		if err != nil || again.Outcome != survived {
			return r, err
		}
		r.By += ", not each time"
	}
	return r, nil
}

// build compiles the tests of a package, unless they are compiled already. fault tells why they cannot be compiled.
func (c *copied) build(ctx context.Context, of string) (program, fault string, err error) {
	program = filepath.Join(c.dir, strings.ReplaceAll(of, "/", "_")+".test")
	if c.built[of] {
		return program, "", nil
	}
	// Without the tables for debuggers the linker is faster.
	out, err := c.command(ctx, ".", buildLimit, "go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-o", program, "./"+of)
	if ctx.Err() != nil {
		return "", "", ctx.Err()
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "", "the tests are not compiled: " + strings.TrimSpace(string(out)), nil
	}
	c.built[of] = err == nil
	return program, "", err
}

// test runs the tests of a package that match run and not skip, until one fails.
func (c *copied) test(ctx context.Context, of, run, skip string, limit time.Duration) (result, error) {
	program, fault, err := c.build(ctx, of)
	if err != nil {
		return result{}, err
	}
	if fault != "" {
		return result{Outcome: notMutant, By: fault}, nil
	}
	out, err := c.command(ctx, of, limit+exitLimit, program, "-test.failfast", "-test.parallel=4",
		"-test.timeout="+limit.String(), "-test.run="+run, "-test.skip="+skip)
	if ctx.Err() != nil {
		return result{}, ctx.Err()
	}
	if err == nil {
		return result{Outcome: survived}, nil
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return result{}, err
	}
	return judged(of, out, exit.ExitCode() < 0), nil
}

// exitLimit is for the end of a process behind the time-out of its tests.
const exitLimit = time.Minute

// judged reads the output of tests that have failed. stopped: they were killed at the limit.
func judged(of string, out []byte, stopped bool) result {
	if line := unusable.Find(out); line != nil {
		return result{Outcome: notMutant, By: strings.TrimSpace(string(line))}
	}
	if stopped || bytes.Contains(out, []byte("panic: test timed out after ")) {
		return result{Outcome: timedOut, By: of}
	}
	if test := failedTest.FindSubmatch(out); test != nil {
		says := strings.Join(strings.Fields(strings.ToValidUTF8(string(test[2][:min(len(test[2]), mostSaid)]), "")), " ")
		return result{Outcome: killed, By: of + " " + string(test[1]), Says: says, test: string(test[1])}
	}
	return result{Outcome: killed, By: of + " " + lastPanic(out)}
}

// mostSaid is how many bytes of a failed test are kept.
const mostSaid = 400

// lastPanic is the panic that ended the tests.
func lastPanic(out []byte) string {
	if at := bytes.LastIndex(out, []byte("panic: ")); at >= 0 {
		return firstLine(out[at:])
	}
	return firstLine(out)
}

func firstLine(out []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(out), []byte("\n"))
	return string(line)
}

// limits are the times for the tests of each package, and for the likely tests: those have the package and the pattern
// as their key.
type limits map[string]time.Duration

// baseline runs tests without a mutant, and answers how long they may take with one. An error: a test fails, so no
// mutant can be judged.
func (c *copied) baseline(ctx context.Context, of, tests string) (time.Duration, error) {
	began := time.Now()
	r, err := c.test(ctx, of, tests, c.skip, mostBaseline)
	if err != nil {
		return 0, err
	}
	if r.Outcome != survived {
		return 0, fmt.Errorf("without a mutant the tests of %s do not pass: %s, %s, %s", of, r.Outcome, r.By, r.Says)
	}
	return max(leastLimit, 4*time.Since(began)).Round(time.Second), nil
}

const (
	mostBaseline = 20 * time.Minute
	leastLimit   = 2 * time.Minute
)

// try judges one mutant. checker, if there is one, runs where no test has killed it.
func (c *copied) try(
	ctx context.Context,
	m mutant,
	of []string,
	within limits,
	checker []string,
) (r result, err error) {
	began := time.Now()
	before, fault, err := c.apply(ctx, m)
	defer func() {
		r.ID, r.Seconds = m.id, time.Since(began).Round(time.Second/10).Seconds()
		err = errors.Join(err, c.restore(m, before))
	}()
	if err != nil {
		return r, err
	}
	if fault != "" {
		return result{Outcome: notMutant, By: fault}, nil
	}
	likelyOf, first := likelyTests(m.id)
	if c.only != "" {
		likelyOf = ""
	}
	if likelyOf != "" && slices.Contains(of, likelyOf) {
		r, err = c.confirmed(ctx, likelyOf, first, c.skip, max(within[likelyOf], within[likelyOf+" "+first]))
		r.Ran = []string{likelyOf}
		if err != nil || r.Outcome != survived {
			return r, err
		}
	}
	if c.likely {
		r.Outcome = survived
		return r, nil
	}
	var ran []string
	for _, p := range inOrder(m, of) {
		skip := c.skip
		if p == likelyOf {
			skip += "|" + first
		}
		r, err = c.confirmed(ctx, p, c.only, skip, within[p])
		ran = append(ran, p)
		r.Ran = ran
		if err != nil || r.Outcome != survived {
			return r, err
		}
	}
	if checker == nil {
		return r, nil
	}
	out, err := c.command(ctx, ".", checkerLimit, checker...)
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		return result{Outcome: killed, By: "checker: " + lastLine(out), Ran: ran}, nil
	}
	return r, err
}

// checkerLimit is for a run of internal/dev/prove.
const checkerLimit = 10 * time.Minute

func lastLine(out []byte) string {
	out = bytes.TrimSpace(out)
	return string(out[bytes.LastIndexByte(out, '\n')+1:])
}
