package bundle

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
)

// checker collects the faults of rows while they are read.
type checker struct {
	only       bool            // rows are only checked, their JSON columns are not made
	lenient    bool            // fields that no reader knows are passed over
	now        time.Time       // the moment for rows without inserted_at or updated_at
	categories map[string]bool // nil: not read yet, every code is accepted
	faults     faults
	path       []step // to the value that is being read
}

// faults is an error with all faults found; explain makes Faults of it.
type faults []fault

type fault struct {
	position
	path string
	text string
}

func (f faults) Error() string { return f[0].text }

// step is one step of a path: a name or, if that is empty, an index.
type step struct {
	name  string
	index int
}

// enter adds a step to the path, and leave removes the last one.
func (c *checker) enter(name string, index int) { c.path = append(c.path, step{name, index}) }
func (c *checker) leave()                       { c.path = c.path[:len(c.path)-1] }

// fault adds a fault of the value that is being read.
func (c *checker) fault(n *node, format string, args ...any) {
	var path strings.Builder
	for i, s := range c.path {
		switch {
		case s.name == "":
			fmt.Fprintf(&path, "[%d]", s.index)
		case i > 0:
			path.WriteString("." + s.name)
		default:
			path.WriteString(s.name)
		}
	}
	c.faults = append(c.faults, fault{n.position, path.String(), fmt.Sprintf(format, args...)})
}

// enough returns an error when there are as many faults as are reported.
func (c *checker) enough() error {
	if len(c.faults) >= mostFaults {
		return c.faults
	}
	return nil
}

// faultAt adds a fault of a member of the object that is being read.
func (c *checker) faultAt(o *node, name, format string, args ...any) {
	if n := o.take(name); n != nil {
		o = n
	}
	c.enter(name, 0)
	c.fault(o, format, args...)
	c.leave()
}

// take finds a member and marks it as known; nil: there is none.
func (n *node) take(name string) *node {
	for i := range n.members {
		if m := &n.members[i]; m.name == name {
			m.taken = true
			return &m.value
		}
	}
	return nil
}

// reader makes a T of a value, and adds a fault if it cannot.
type reader[T any] func(*checker, *node) T

// is reports whether the value has this kind, and adds a fault if not.
func (c *checker) is(n *node, k kind) bool {
	if n.kind != k {
		c.fault(n, "expected %s, got %s", k, n.kind)
	}
	return n.kind == k
}

// required reads a member that must be there.
func required[T any](c *checker, o *node, name string, read reader[T]) (value T) {
	n := o.take(name)
	if n == nil {
		c.faultAt(o, name, "is required")
		return value
	}
	c.enter(name, 0)
	defer c.leave()
	return read(c, n)
}

// optional reads a member that may be left out or null.
func optional[T any](c *checker, o *node, name string, read reader[T]) *T {
	n := o.take(name)
	if n == nil || n.kind == null {
		return nil
	}
	value := required(c, o, name, read)
	return &value
}

// otherwise returns the value, or instead if there is none.
func otherwise[T any](value *T, instead T) T {
	if value == nil {
		return instead
	}
	return *value
}

// objectOf reads an object, and adds a fault for each member that read has not taken, unless the checker is lenient.
func objectOf[T any](read func(c *checker, o *node) T) reader[T] {
	return func(c *checker, o *node) (value T) {
		if !c.is(o, object) {
			return value
		}
		for i := range o.members {
			o.members[i].taken = false // the value of a YAML anchor is read more than once
		}
		value = read(c, o)
		for _, m := range o.members {
			if !m.taken && !c.lenient {
				c.faultAt(o, m.name, "unknown field")
			}
		}
		return value
	}
}

func listOf[T any](read reader[T]) reader[[]T] {
	return func(c *checker, n *node) []T {
		if !c.is(n, array) {
			return nil
		}
		values := make([]T, 0, len(n.members))
		for i := range n.members {
			c.enter("", i)
			values = append(values, read(c, &n.members[i].value))
			c.leave()
		}
		return values
	}
}

// aText is a string of any length.
func aText(c *checker, n *node) string {
	if c.is(n, text) && strings.ContainsRune(n.text, 0) {
		c.fault(n, "holds the character U+0000, which cannot be stored")
	}
	return n.text
}

// mostCharacters is far below the limit of an index entry (some 2700 bytes).
const mostCharacters = 255

// aName is a string that identifies or classifies something: not empty, and not too long for an index.
func aName(c *checker, n *node) string {
	name := aText(c, n)
	if n.kind == text && name == "" {
		c.fault(n, "is empty")
	}
	if utf8.RuneCountInString(name) > mostCharacters {
		c.fault(n, "is longer than %d characters", mostCharacters)
	}
	return name
}

func oneOf(values ...string) reader[string] {
	return func(c *checker, n *node) string {
		if c.is(n, text) && !slices.Contains(values, n.text) {
			c.fault(n, "%q is none of %s", n.text, strings.Join(values, ", "))
		}
		return n.text
	}
}

func aBoolean(c *checker, n *node) bool {
	return c.is(n, boolean) && n.text == "true"
}

func aNumber(c *checker, n *node) float64 {
	if !c.is(n, number) {
		return 0
	}
	value, err := strconv.ParseFloat(n.text, 64)
	if err != nil {
		c.fault(n, "the number is too large")
		return 0
	}
	return value
}

// aUUID is a UUID as the contract writes it: 36 characters.
func aUUID(c *checker, n *node) uuid.UUID {
	if !c.is(n, text) {
		return uuid.Nil
	}
	id, err := uuid.Parse(n.text)
	if err != nil || len(n.text) != 36 {
		c.fault(n, "%q is no UUID", n.text)
	} else if id == uuid.Nil {
		c.fault(n, "the UUID of zeros names nothing")
	}
	return id
}

func aDate(c *checker, n *node) db.Date {
	if !c.is(n, text) {
		return db.Date{}
	}
	day, err := time.Parse(time.DateOnly, n.text)
	if err != nil || day.Year() < 1 {
		c.fault(n, "expected %q to be an existing date, YYYY-MM-DD", n.text)
	}
	return db.Date{Time: day}
}

func aMoment(c *checker, n *node) time.Time {
	if !c.is(n, text) {
		return time.Time{}
	}
	moment, err := time.Parse(time.RFC3339, n.text)
	moment = moment.UTC()
	if err != nil || moment.Year() < 1 || moment.Year() > 9999 {
		c.fault(n, "expected %q to be a moment like 2026-01-31T09:00:00Z", n.text)
		return time.Time{}
	}
	return moment
}

// coding and concept are the CodeableConcept of the contract.
type (
	coding struct {
		System string `json:"system"`
		Code   string `json:"code"`
	}
	concept struct {
		Coding []coding `json:"coding"`
		Text   *string  `json:"text,omitempty"`
	}
)

// conceptOf reads a CodeableConcept. system is the default of its codings' system; if empty, each coding must have one.
func conceptOf(system string) reader[concept] {
	readCoding := objectOf(func(c *checker, o *node) coding {
		code := coding{Code: required(c, o, "code", aName)}
		if system == "" {
			code.System = required(c, o, "system", aName)
		} else {
			code.System = otherwise(optional(c, o, "system", aName), system)
		}
		return code
	})
	return objectOf(func(c *checker, o *node) concept {
		value := concept{
			Coding: required(c, o, "coding", listOf(readCoding)),
			Text:   optional(c, o, "text", aText),
		}
		if value.Coding != nil && len(value.Coding) == 0 {
			c.faultAt(o, "coding", "is empty")
		}
		return value
	})
}

var aConcept = conceptOf("")

// reference is the Reference of the contract.
type (
	reference struct {
		Identifier   identifier `json:"identifier"`
		DisplayValue *string    `json:"display_value"`
	}
	identifier struct {
		Type  concept   `json:"type"`
		Value uuid.UUID `json:"value"`
	}
)

// referenceTo reads a Reference. resource is the default of its type.
func referenceTo(resource string) reader[reference] {
	const system = "eHealth/resources"
	readType := conceptOf(system)
	readIdentifier := objectOf(func(c *checker, o *node) identifier {
		var none string
		value := identifier{
			Type:  otherwise(optional(c, o, "type", readType), concept{Coding: []coding{{system, resource}}}),
			Value: required(c, o, "value", aUUID),
		}
		if value.Type.Text == nil {
			value.Type.Text = &none
		}
		return value
	})
	return objectOf(func(c *checker, o *node) reference {
		return reference{
			Identifier:   required(c, o, "identifier", readIdentifier),
			DisplayValue: optional(c, o, "display_value", aText),
		}
	})
}

// idOf reads a Reference and keeps only its id.
func idOf(resource string) reader[uuid.UUID] {
	read := referenceTo(resource)
	return func(c *checker, n *node) uuid.UUID { return read(c, n).Identifier.Value }
}
