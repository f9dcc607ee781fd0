// Package bundle reads fixture bundles, JSON or YAML files of registry rows in the shapes that the API answers, and
// loads them into the database. A bundle is checked whole before the database is touched, and loaded in one transaction
// or not at all.
//
// JSON is streamed: however large the file, no more than some thousand rows of it are in memory. YAML is read whole;
// what is large is JSON.
package bundle

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
)

const (
	mostFaults = 20   // are told of a file
	chunkSize  = 1000 // rows go into one statement
)

// Options of a load.
type Options struct {
	// DryRun does all that a load does, and undoes it.
	DryRun bool
	// Progress, if set, is told now and then how much of all work is done. Should the database undo the transaction and it
	// is run once more, done falls back.
	Progress func(done, total int64)
}

// Count says how many rows of a section a bundle holds.
type Count struct {
	Section string
	Rows    int64
}

// Summary counts the rows by section, of sections that have any, in the order of loading.
type Summary []Count

// Fault is one thing that is wrong with a bundle, and where. An error of Load joins all that it tells of; errors.As
// finds the first.
type Fault struct {
	File         string
	Line, Column int    // from 1; 0: the file as a whole
	Path         string // like service_requests[17].program_processing_status; may be empty
	Text         string
}

func (f *Fault) Error() string {
	var where strings.Builder
	where.WriteString(f.File)
	if f.Line > 0 {
		fmt.Fprintf(&where, ":%d:%d", f.Line, f.Column)
	}
	if f.Path != "" {
		where.WriteString(": " + f.Path)
	}
	return where.String() + ": " + f.Text
}

// LoadFile loads the bundle at path; "-" is standard input. What cannot be read more than once, as a pipe, is copied to
// a temporary file first.
func LoadFile(ctx context.Context, d *db.DB, path string, o Options) (Summary, error) {
	name, file := path, os.Stdin
	if path == "-" {
		name = "standard input"
	} else {
		var err error
		if file, err = os.Open(path); err != nil {
			return nil, err
		}
		defer file.Close()
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		copied, err := os.CreateTemp("", "reiestr-bundle-")
		if err != nil {
			return nil, err
		}
		defer os.Remove(copied.Name())
		defer copied.Close()
		if _, err := io.Copy(copied, file); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		file = copied
	}
	return Load(ctx, d, name, file, o)
}

// Load loads a bundle. name is what its faults call it; its extension tells the format, .json, .yaml or .yml, and
// without one of them a bundle that begins with a brace is JSON. d is open as the owner.
func Load(ctx context.Context, d *db.DB, name string, r io.ReadSeeker, o Options) (Summary, error) {
	b := &bundle{progress: o.Progress}
	err := b.open(name, r)
	if err == nil {
		err = b.check(ctx)
	}
	if err == nil {
		err = d.Bundles.Load(ctx, o.DryRun, func(l *db.Loader) error { return b.load(ctx, l) })
	}
	if err != nil {
		return nil, b.explain(name, err)
	}
	return b.summary, nil
}

// bundle is one file on its way into the database.
type bundle struct {
	source   source
	summary  Summary
	counts   map[string]int64 // rows by section
	rows     int64            // of all sections; each is to be checked and to be loaded
	done     int64
	progress func(done, total int64)
}

func (b *bundle) open(name string, r io.ReadSeeker) (err error) {
	if b.source, err = open(name, r); err != nil {
		return err
	}
	var unfit faults
	b.counts = map[string]int64{}
	for _, p := range b.source.parts() {
		known := slices.ContainsFunc(sections, func(s section) bool { return s.name == p.name })
		switch {
		case !known:
			unfit = append(unfit, fault{p.position, p.name, "unknown section"})
		case p.kind != array:
			unfit = append(unfit, fault{p.position, p.name, fmt.Sprintf("expected %s, got %s", array, p.kind)})
		}
		b.counts[p.name] = p.rows
		b.rows += p.rows
	}
	if unfit != nil {
		return unfit
	}
	for _, s := range sections {
		if rows := b.counts[s.name]; rows > 0 {
			b.summary = append(b.summary, Count{s.name, rows})
		}
	}
	return nil
}

// check looks at every row, for itself.
func (b *bundle) check(ctx context.Context) error {
	c := &checker{only: true, now: time.Now()}
	for _, s := range sections {
		if err := s.check(ctx, b, c, s.name); err != nil {
			return err
		}
	}
	if c.faults != nil {
		return c.faults
	}
	return nil
}

func (b *bundle) load(ctx context.Context, l *db.Loader) error {
	b.done = b.rows
	c := &checker{now: l.Now}
	for _, s := range sections {
		if err := s.load(ctx, b, c, l, s.name); err != nil {
			return err
		}
	}
	return nil
}

// advance counts so many rows more, and tells of every thousand, and of the last.
func (b *bundle) advance(rows int) {
	b.done += int64(rows)
	if b.progress != nil && (b.done%chunkSize < int64(rows) || b.done%b.rows == 0) {
		b.progress(b.done, 2*b.rows)
	}
}

// explain makes of an error what the author of the bundle can use.
func (b *bundle) explain(name string, err error) error {
	var found faults
	if !errors.As(err, &found) {
		return fmt.Errorf("%s: %w", name, err)
	}
	found = found[:min(len(found), mostFaults)]
	var positions []*position
	for i := range found {
		positions = append(positions, &found[i].position)
	}
	if err := b.source.place(positions); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	var explained []error
	for _, f := range found {
		explained = append(explained, &Fault{File: name, Line: int(f.line), Column: int(f.column), Path: f.path,
			Text: f.text})
	}
	return errors.Join(explained...)
}

// section is one kind of rows: how they are checked, and how they are loaded.
type section struct {
	name  string
	check func(ctx context.Context, b *bundle, c *checker, name string) error
	load  func(ctx context.Context, b *bundle, c *checker, l *db.Loader, name string) error
}

// sections stand in the order in which they are loaded: what is referred to comes first, and rows are locked in the
// lock order.
var sections = []section{
	{"dictionaries", checks("name", readDictionary, func(r db.DictionaryRow) string { return r.Name }),
		loads(readDictionary, (*db.Loader).Dictionaries)},
	{"parameters", checks("name", readParameter, func(r db.ParameterRow) string { return r.Name }),
		loads(readParameter, (*db.Loader).Parameters)},
	{"legal_entities", checks("id", readLegalEntity, func(r db.LegalEntityRow) uuid.UUID { return r.ID }),
		loads(readLegalEntity, (*db.Loader).LegalEntities)},
	{"divisions", checks("id", readDivision, func(r db.DivisionRow) uuid.UUID { return r.ID }),
		loads(readDivision, (*db.Loader).Divisions)},
	{"employees", checks("id", readEmployee, func(r db.EmployeeRow) uuid.UUID { return r.ID }),
		loads(readEmployee, (*db.Loader).Employees)},
	{"licenses", checks("id", readLicense, func(r db.LicenseRow) uuid.UUID { return r.ID }),
		loads(readLicense, (*db.Loader).SetLicensesAside, (*db.Loader).Licenses)},
	{"service_requests", checks("id", readServiceRequest, func(r db.ServiceRequestRow) uuid.UUID { return r.ID }),
		loadServiceRequests},
}

// checks makes the check of a section of which no two rows may have the same key. Of the keys only hashes are kept,
// eight bytes a row; should two of them be equal, the section is read again to see whether their keys are.
func checks[R any, K comparable](key string, read reader[R], keyOf func(R) K) func(context.Context, *bundle, *checker,
	string) error {
	return func(ctx context.Context, b *bundle, c *checker, name string) error {
		seed := maphash.MakeSeed()
		hashes := make([]uint64, 0, b.counts[name])
		err := b.each(ctx, c, name, func(n *node) error {
			hashes = append(hashes, maphash.Comparable(seed, keyOf(read(c, n))))
			b.advance(1)
			return c.enough()
		})
		if err != nil || c.faults != nil {
			return err
		}
		slices.Sort(hashes)
		equal := map[uint64]bool{}
		for i := range hashes[min(1, len(hashes)):] {
			if hashes[i] == hashes[i+1] {
				equal[hashes[i]] = true
			}
		}
		if len(equal) == 0 {
			return nil
		}
		seen := map[K]bool{}
		return b.each(ctx, c, name, func(n *node) error {
			if k := keyOf(read(c, n)); seen[k] {
				c.faultAt(n, key, "is given twice")
			} else if equal[maphash.Comparable(seed, k)] {
				seen[k] = true
			}
			return c.enough()
		})
	}
}

// chunk is so many rows as go to the database at once.
type chunk[R any] struct {
	first int // index of the first row in the section
	rows  []R
	at    []position
}

// loads makes the load of a section: each statement in its turn is given all the rows, a chunk at a time. While the
// database works at one chunk, the next is read.
func loads[R any](read reader[R], statements ...func(*db.Loader, context.Context, []R) error) func(context.Context,
	*bundle, *checker, *db.Loader, string) error {
	return func(ctx context.Context, b *bundle, c *checker, l *db.Loader, name string) error {
		for i, statement := range statements {
			done := func(ch chunk[R]) error {
				err := statement(l, ctx, ch.rows)
				if f := (*db.RowFault)(nil); errors.As(err, &f) {
					return rowFault(f, name, ch.first, ch.at)
				}
				if i == len(statements)-1 {
					b.advance(len(ch.rows))
				}
				return err
			}
			if err := inChunks(ctx, b, c, name, read, done); err != nil {
				return err
			}
		}
		return nil
	}
}

// inChunks reads a section, and calls do for one chunk while it reads the next.
func inChunks[R any](ctx context.Context, b *bundle, c *checker, name string, read reader[R],
	do func(chunk[R]) error) (err error) {
	chunks := make(chan chunk[R])
	var readErr error
	reading, stop := context.WithCancel(ctx)
	go func() {
		defer close(chunks)
		var next chunk[R]
		send := func() error {
			if c.faults != nil {
				return c.faults
			}
			select {
			case chunks <- next:
				next = chunk[R]{first: next.first + len(next.rows)}
				return nil
			case <-reading.Done():
				return reading.Err()
			}
		}
		readErr = b.each(reading, c, name, func(n *node) error {
			next.rows, next.at = append(next.rows, read(c, n)), append(next.at, n.position)
			if len(next.rows) < chunkSize {
				return nil
			}
			return send()
		})
		if readErr == nil && len(next.rows) > 0 {
			readErr = send()
		}
	}()
	for ch := range chunks {
		if err = do(ch); err != nil {
			break
		}
	}
	stop()
	for range chunks { // until the reader has ended
	}
	if err != nil {
		return err
	}
	return readErr
}

// rowFault says where a row stands that the database does not take.
func rowFault(f *db.RowFault, section string, before int, at []position) error {
	found := fault{path: section, text: f.Text}
	if f.Row >= 0 {
		found.position = at[f.Row]
		found.path = fmt.Sprintf("%s[%d]", section, before+f.Row)
	}
	if f.Field != "" {
		found.path += "." + f.Field
	}
	return faults{found}
}

// loadServiceRequests holds their categories to the dictionary as the bundle leaves it.
func loadServiceRequests(ctx context.Context, b *bundle, c *checker, l *db.Loader, name string) error {
	codes, err := l.Codes(ctx, categories)
	if err != nil {
		return err
	}
	c.categories = map[string]bool{}
	for _, code := range codes {
		c.categories[code] = true
	}
	return loads(readServiceRequest, (*db.Loader).ServiceRequests)(ctx, b, c, l, name)
}

// each shows do the rows of a section.
func (b *bundle) each(ctx context.Context, c *checker, section string, do func(*node) error) error {
	c.path = append(c.path[:0], step{name: section}, step{})
	return b.source.rows(section, func(n *node) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := do(n)
		c.path[1].index++
		return err
	})
}
