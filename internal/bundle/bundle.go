// Package bundle reads fixture bundles and loads them into the database. A bundle is a JSON or YAML file of registry
// rows, in the shapes of the API's answers. All rows are checked before anything is written, and are loaded in one
// transaction.
//
// JSON is streamed: at most some thousand rows are in memory, whatever the size of the file. A YAML file is read whole,
// so large bundles should be JSON.
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
	mostFaults = 20   // that are reported for one file
	chunkSize  = 1000 // rows of one statement
)

// Options of a load.
type Options struct {
	// DryRun makes the load roll back at its end.
	DryRun bool
	// Progress, if set, is called now and then with the amount of work done. done falls if the transaction is repeated
	// because the database rolled it back.
	Progress func(done, total int64)
}

// Count is the number of rows in a section of a bundle.
type Count struct {
	Section string
	Rows    int64
}

// Summary counts the rows of each section that is not empty, in the order of loading.
type Summary []Count

// Fault is one mistake in a bundle, with its place. An error of Load joins all reported faults; errors.As finds the
// first one.
type Fault struct {
	File         string
	Line, Column int    // from 1; 0: the fault is about the whole file
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

// LoadFile loads the bundle at path; "-" is standard input. Input that can be read only once, like a pipe, is copied to
// a temporary file first.
func LoadFile(ctx context.Context, d *db.DB, path string, o Options) (loaded Summary, err error) {
	err = withFile(path, func(name string, file io.ReadSeeker) (err error) {
		loaded, err = Load(ctx, d, name, file, o)
		return err
	})
	return loaded, err
}

// withFile calls do with the file at path, and with the name that faults show.
func withFile(path string, do func(name string, file io.ReadSeeker) error) error {
	name, file := path, os.Stdin
	if path == "-" {
		name = "standard input"
	} else {
		var err error
		if file, err = os.Open(path); err != nil {
			return err
		}
		defer file.Close()
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		copied, err := os.CreateTemp("", "reiestr-bundle-")
		if err != nil {
			return err
		}
		defer os.Remove(copied.Name())
		defer copied.Close()
		if _, err := io.Copy(copied, file); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		file = copied
	}
	return do(name, file)
}

// Load loads a bundle. Faults show name as the file. The extension of name sets the format: .json, .yaml or .yml.
// Without one of these a bundle that begins with a brace is JSON, any other YAML. d must be open as the owner.
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
	rows     int64            // of all sections; each row is checked and then loaded
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

// check checks every row of all sections, without the database.
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

// advance adds to the rows done, and reports progress after every thousand rows and after the last row.
func (b *bundle) advance(rows int) {
	b.done += int64(rows)
	if b.progress != nil && (b.done%chunkSize < int64(rows) || b.done%b.rows == 0) {
		b.progress(b.done, 2*b.rows)
	}
}

// explain turns an error into Faults with lines and columns, or adds the name of the file to it.
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

// section is a kind of rows, with the functions that check and load them.
type section struct {
	name  string
	check func(ctx context.Context, b *bundle, c *checker, name string) error
	load  func(ctx context.Context, b *bundle, c *checker, l *db.Loader, name string) error
}

// sections are in the order of loading: rows come after the rows that they refer to, and locks are taken in the lock
// order.
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

// checks returns the function that checks a section, in which each key may stand only once. It keeps only a hash of
// each key, eight bytes for each row. If two hashes are equal, it reads the section again and compares the keys
// themselves.
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

// chunk holds the rows of one statement.
type chunk[R any] struct {
	first int // index of the first row in the section
	rows  []R
	at    []position
}

// loads returns the function that loads a section. Each statement gets all rows, in chunks, before the next statement
// begins. While the database handles one chunk, the next chunk is read.
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

// inChunks reads a section in chunks, and calls do for one chunk while it reads the next.
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

// rowFault makes the fault for a row that the database refused.
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

// loadServiceRequests loads service requests, and checks their categories against the dictionary, which the same bundle
// may have changed.
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

// each calls do for each row of a section.
func (b *bundle) each(ctx context.Context, c *checker, section string, do func(*node) error) error {
	c.path = c.path[:0]
	if section != "" {
		c.path = append(c.path, step{name: section})
	}
	row := len(c.path)
	c.path = append(c.path, step{})
	return b.source.rows(section, func(n *node) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := do(n)
		c.path[row].index++
		return err
	})
}
