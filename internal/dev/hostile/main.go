// Hostile walks the OpenAPI document of the service and sends what no friendly client sends: values of wrong types and
// beyond limits, broken encodings and framings, odd headers, methods and paths, many and slow connections:
//
//	go run ./internal/dev/hostile --requests 10000 --seed 7
//
// The document and the contract say which answers are right. An attempt that is answered in another way is kept as a
// file. Files in testdata are sent again by the tests.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/reiestr/reiestr/internal/dev/testdb"
)

// options of a run.
type options struct {
	requests int // for each operation
	held     int // connections
	seed     uint64
	keep     string // folder of attempts that are answered wrongly
	replay   string // folder of attempts to send first; empty: none
	root     string // of the repository
}

func main() {
	o := options{root: "."}
	flag.IntVar(&o.requests, "requests", 300, "attempts for each operation")
	flag.IntVar(&o.held, "connections", 0, "connections to hold open, and a tenth of it to have wait; 0: none")
	flag.Uint64Var(&o.seed, "seed", rand.Uint64(), "from which the attempts follow")
	flag.StringVar(&o.keep, "keep", ".hostile", "folder for attempts that are answered wrongly")
	flag.StringVar(&o.replay, "replay", "internal/dev/hostile/testdata", "folder of attempts to send first")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "hostile:", err)
		os.Exit(1)
	}
}

// mostMemory bounds the resident memory of the service, in MiB.
const mostMemory = 512

func run(ctx context.Context, o options, out io.Writer) (err error) {
	fmt.Fprintf(out, "seed %d, %d requests for each operation\n", o.seed, o.requests)
	server, err := testdb.Serve(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	folder, err := os.MkdirTemp("", "reiestr-hostile-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	r, err := open(ctx, server, o.root, folder)
	if r != nil {
		defer func() { err = errors.Join(err, r.close(server)) }()
	}
	if err != nil {
		return err
	}
	w := &walker{registry: r, counts: map[string]map[int]int{}}
	if err := w.load(); err != nil {
		return err
	}
	if err := w.repeat(o); err != nil {
		return err
	}
	w.walk(ctx, o)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	fmt.Fprint(out, w.table())
	if o.held > 0 {
		if err := w.hold(ctx, o.held, out); err != nil {
			return err
		}
	}
	now, most, err := r.memory()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "memory of the service: %d MiB at the end, %d MiB at most\n", now, most)
	if most > mostMemory {
		w.failures = append(
			w.failures,
			fmt.Sprintf("the service took %d MiB of memory, more than %d", most, mostMemory),
		)
	}
	if code, text, err := r.call(ctx, "GET", "/readyz", ""); err != nil || code != 200 {
		w.failures = append(w.failures, fmt.Sprintf("after it the service is not ready: %d %s %v", code, text, err))
	}
	for i, f := range w.failures {
		if i == 40 {
			fmt.Fprintf(out, "… and %d more\n", len(w.failures)-i)
			break
		}
		fmt.Fprintln(out, f)
	}
	if len(w.failures) > 0 {
		return fmt.Errorf("%d faults with seed %d", len(w.failures), o.seed)
	}
	fmt.Fprintln(out, "each answer is one that the document and the contract allow")
	return nil
}

// walker sends attempts and judges the answers.
type walker struct {
	*registry
	document   *openapi3.T
	older      *openapi3.T          // the same document in OpenAPI 3.0
	answers    map[string]operation // its operations, by id
	operations []operation
	byID       map[string]operation

	mu       sync.Mutex
	counts   map[string]map[int]int // of answers, by kind and code
	failures []string
}

func (w *walker) load() (err error) {
	if w.document, w.operations, err = document("3.1"); err != nil {
		return err
	}
	older, operations, err := document("3.0")
	w.older = older
	w.byID, w.answers = map[string]operation{}, map[string]operation{}
	for _, op := range w.operations {
		w.byID[op.id] = op
	}
	for _, op := range operations {
		w.answers[op.id] = op
	}
	return err
}

// clients send at the same time.
const clients = 8

func (w *walker) walk(ctx context.Context, o options) {
	attempts := make(chan attempt)
	var sending sync.WaitGroup
	for range clients {
		sending.Go(func() {
			for a := range attempts {
				w.try(a, o.keep)
			}
		})
	}
	for n := range o.requests {
		for _, op := range w.operations {
			if ctx.Err() == nil {
				attempts <- w.make(o.seed, op, n)
			}
		}
	}
	close(attempts)
	sending.Wait()
}

// try sends an attempt and keeps it if it is answered wrongly.
func (w *walker) try(a attempt, keep string) {
	answers, err := w.send(a)
	faults := w.judge(a, answers, err)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.counts[a.Kind] == nil {
		w.counts[a.Kind] = map[int]int{}
	}
	for _, got := range answers {
		w.counts[a.Kind][got.code]++
	}
	if len(faults) == 0 {
		return
	}
	text, path := encode(a), "(not kept)"
	if len(w.failures) < 1000 {
		path = filepath.Join(keep, fmt.Sprintf("%s-%s-%d.json", strings.ReplaceAll(a.Kind, " ", "_"), a.Operation,
			len(w.failures)))
		err := os.MkdirAll(keep, 0o755)
		if err == nil {
			err = os.WriteFile(path, append(indented(text), '\n'), 0o644)
		}
		if err != nil {
			faults = append(faults, err.Error())
		}
	}
	said := ""
	for _, got := range answers {
		said += fmt.Sprintf(" %d %.600s", got.code, got.raw)
	}
	w.failures = append(
		w.failures,
		fmt.Sprintf("%s of %s, %s:\n\t%.700q\n\tanswered:%s\n\t%s", a.Kind, a.Operation, path,
			string(a.Request), said, strings.Join(faults, "\n\t")),
	)
}

func indented(text []byte) []byte {
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		return text
	}
	pretty, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return text
	}
	return pretty
}

// repeat sends the attempts of a folder.
func (w *walker) repeat(o options) error {
	if o.replay == "" {
		return nil
	}
	files, err := filepath.Glob(filepath.Join(o.replay, "*.json"))
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var a attempt
		if err := json.Unmarshal(text, &a); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		w.try(a, o.keep)
	}
	return nil
}

// table lists the kinds, with the number of answers for each code.
func (w *walker) table() string {
	var text strings.Builder
	total := 0
	for _, kind := range slices.Sorted(maps.Keys(w.counts)) {
		fmt.Fprintf(&text, "%-36s", kind)
		for _, code := range slices.Sorted(maps.Keys(w.counts[kind])) {
			n := w.counts[kind][code]
			total += n
			fmt.Fprintf(&text, " %d×%d", n, code)
		}
		text.WriteString("\n")
	}
	fmt.Fprintf(&text, "%d answers\n", total)
	return text.String()
}
