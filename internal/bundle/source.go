package bundle

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v3"
)

// source is a bundle file of either format. Its sections can be read in any order and more than once.
type source interface {
	// parts returns the members of the file, in their order in the file.
	parts() []part
	// rows calls do for each row of a section, in order, until do fails.
	rows(section string, do func(*node) error) error
	// place sets line and column of the positions.
	place([]*position) error
}

// open reads the whole file once, so that an error of syntax is found first. The extension of the file sets the format.
// With another or no extension, a file that begins with a brace is JSON.
func open(name string, r io.ReadSeeker) (source, error) {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".json":
		return openJSON(r)
	case ".yaml", ".yml":
		return openYAML(r)
	}
	if _, err := beginning(r); err != nil {
		return nil, err
	}
	for b := bufio.NewReader(r); ; {
		c, err := b.ReadByte()
		switch {
		case err == nil && strings.IndexByte(" \t\r\n", c) >= 0:
		case err == nil && c == '{':
			return openJSON(r)
		case err == nil || err == io.EOF:
			return openYAML(r)
		default:
			return nil, err
		}
	}
}

// byteOrderMark may stand at the beginning of a text in UTF-8. Some editors write it. It is not part of the bundle.
const byteOrderMark = "\ufeff"

// beginning seeks to the first byte of the text, after a byte order mark if there is one, and returns its offset.
func beginning(r io.ReadSeeker) (offset int64, err error) {
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	first := make([]byte, len(byteOrderMark))
	n, err := io.ReadFull(r, first)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return 0, err
	}
	if string(first[:n]) == byteOrderMark {
		return int64(n), nil
	}
	return r.Seek(0, io.SeekStart)
}

const (
	emptyFile = "the file is empty"
	endOfJSON = "something follows the end of the bundle"
	noObject  = "a bundle is an object of sections"
	noList    = "expected the answer of the method, an object with the list data, or the list alone"
)

// kind is the type of a value, named as in the texts of faults.
type kind string

const (
	null    kind = "null"
	boolean kind = "a boolean"
	number  kind = "a number"
	text    kind = "a string"
	array   kind = "an array"
	object  kind = "an object"
)

// node is a value of a file.
type node struct {
	position
	kind    kind
	text    string   // of a string, a number (as JSON writes it) or a boolean
	members []member // of an object or, without names, an array
}

type member struct {
	name  string
	taken bool // the reader of the object knows this member
	value node
}

// position is a place in a file. The YAML parser sets line and column. The JSON parser sets the offset in bytes, from
// which place computes line and column.
type position struct {
	offset       int64
	line, column int32 // from 1; columns are characters
}

// part is a member of a file.
type part struct {
	position
	name string
	kind kind
	rows int64 // of an array
}

// jsonFile is streamed: only one row and the positions of the sections are in memory.
type jsonFile struct {
	r     io.ReadSeeker
	begin int64 // of the JSON text in the file
	index []part
}

func openJSON(r io.ReadSeeker) (*jsonFile, error) {
	begin, err := beginning(r)
	f := &jsonFile{r: r, begin: begin}
	if err != nil {
		return f, err
	}
	d, err := f.decode(begin)
	if err != nil {
		return f, err
	}
	if kind := d.PeekKind(); kind != jsontext.KindBeginObject && kind != jsontext.KindInvalid {
		return f, faults{{position: position{offset: begin}, text: noObject}}
	}
	return f, f.syntaxFault(f.readIndex(d))
}

// openJSONList opens a file that is a list, or an object with a list. The list alone is a part without a name.
func openJSONList(r io.ReadSeeker) (*jsonFile, error) {
	begin, err := beginning(r)
	f := &jsonFile{r: r, begin: begin}
	if err != nil {
		return f, err
	}
	d, err := f.decode(begin)
	if err != nil {
		return f, err
	}
	switch d.PeekKind() {
	case jsontext.KindBeginArray:
		if err = f.readPart(d, ""); err == nil {
			err = f.readEnd(d)
		}
		return f, f.syntaxFault(err)
	case jsontext.KindBeginObject, jsontext.KindInvalid:
		return f, f.syntaxFault(f.readIndex(d))
	}
	return f, faults{{position: position{offset: begin}, text: noList}}
}

func (f *jsonFile) readIndex(d *jsontext.Decoder) error {
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() != jsontext.KindEndObject {
		name, err := d.ReadToken()
		if err == nil {
			err = f.readPart(d, name.String())
		}
		if err != nil {
			return err
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	return f.readEnd(d)
}

// readPart adds the next value to the index.
func (f *jsonFile) readPart(d *jsontext.Decoder, name string) (err error) {
	p := part{name: name, position: position{offset: f.begin + d.InputOffset()}, kind: kindOf(d.PeekKind())}
	if p.kind != array {
		var raw jsontext.Value
		raw, err = d.ReadValue()
		p.offset = f.begin + d.InputOffset() - int64(len(raw))
	} else if _, err = d.ReadToken(); err == nil {
		p.offset = f.begin + d.InputOffset() - 1
		for ; err == nil && d.PeekKind() != jsontext.KindEndArray; p.rows++ {
			err = d.SkipValue()
		}
		if err == nil {
			_, err = d.ReadToken()
		}
	}
	f.index = append(f.index, p)
	return err
}

// readEnd returns an error if something follows.
func (f *jsonFile) readEnd(d *jsontext.Decoder) error {
	switch _, err := d.ReadToken(); err {
	case nil:
		return faults{{position: position{offset: f.begin + d.InputOffset() - 1},
			text: endOfJSON}}
	case io.EOF:
		return nil
	default:
		return err
	}
}

func (f *jsonFile) decode(offset int64) (*jsontext.Decoder, error) {
	_, err := f.r.Seek(offset, io.SeekStart)
	return jsontext.NewDecoder(bufio.NewReaderSize(f.r, 1<<16)), err
}

func (f *jsonFile) parts() []part { return f.index }

func (f *jsonFile) rows(section string, do func(*node) error) error {
	for _, p := range f.index {
		if p.name != section {
			continue
		}
		d, err := f.decode(p.offset)
		if err != nil {
			return err
		}
		if _, err := d.ReadToken(); err != nil {
			return f.syntaxFault(err)
		}
		var stack []member
		for d.PeekKind() != jsontext.KindEndArray {
			raw, err := d.ReadValue()
			if err != nil {
				return f.syntaxFault(err)
			}
			parse := parser{text: string(raw), offset: p.offset + d.InputOffset() - int64(len(raw)), stack: stack}
			row := parse.value()
			if err := do(&row); err != nil {
				return err
			}
			stack = parse.stack
		}
	}
	return nil
}

func (f *jsonFile) place(positions []*position) error {
	positions = slices.Clone(positions)
	slices.SortFunc(positions, func(a, b *position) int { return cmp.Compare(a.offset, b.offset) })
	if _, err := f.r.Seek(f.begin, io.SeekStart); err != nil {
		return err
	}
	var c characters
	at := f.begin
	for _, p := range positions {
		n, err := io.CopyN(&c, f.r, p.offset-at)
		if err != nil && err != io.EOF {
			return err
		}
		at += n
		p.line, p.column = int32(c.line+1), int32(c.column+1)
	}
	return nil
}

// characters counts the lines that are written to it, and the characters of the last line.
type characters struct{ line, column int }

func (c *characters) Write(b []byte) (int, error) {
	if i := bytes.LastIndexByte(b, '\n'); i >= 0 {
		c.line += bytes.Count(b, []byte("\n"))
		c.column = 0
		b = b[i+1:]
		return i + 1 + c.count(b), nil
	}
	return c.count(b), nil
}

func (c *characters) count(b []byte) int {
	for _, x := range b {
		if x&0xC0 != 0x80 { // not the continuation of a character
			c.column++
		}
	}
	return len(b)
}

// syntaxFault turns an error of the JSON decoder into faults with a position.
func (f *jsonFile) syntaxFault(err error) error {
	var s *jsontext.SyntacticError
	switch {
	case errors.As(err, &s):
	case errors.Is(err, io.EOF):
		return faults{{position: position{offset: f.begin}, text: emptyFile}}
	default:
		return err
	}
	var path strings.Builder
	for token := range s.JSONPointer.Tokens() {
		if _, err := strconv.Atoi(token); err == nil {
			path.WriteString("[" + token + "]")
			continue
		}
		if path.Len() > 0 {
			path.WriteByte('.')
		}
		path.WriteString(token)
	}
	return faults{{position: position{offset: f.begin + s.ByteOffset}, path: path.String(), text: "not JSON: " +
		s.Err.Error()}}
}

func kindOf(k jsontext.Kind) kind {
	switch k {
	case jsontext.KindTrue, jsontext.KindFalse:
		return boolean
	case jsontext.KindNumber:
		return number
	case jsontext.KindString:
		return text
	case jsontext.KindBeginArray:
		return array
	case jsontext.KindBeginObject:
		return object
	}
	return null
}

// parser makes nodes of a text that is valid JSON. The nodes share the memory of the text, because half of the time of
// a load is spent here.
type parser struct {
	text   string
	at     int
	offset int64    // of the text in the file
	stack  []member // of values that have not ended
}

func (p *parser) value() node {
	p.skip(" \t\r\n")
	n := node{position: position{offset: p.offset + int64(p.at)}}
	switch p.text[p.at] {
	case '{':
		n.kind = object
		n.members = p.list('}', func() member {
			m := member{name: p.string()}
			p.skip(" \t\r\n:")
			m.value = p.value()
			return m
		})
	case '[':
		n.kind = array
		n.members = p.list(']', func() member { return member{value: p.value()} })
	case '"':
		n.kind = text
		n.text = p.string()
	case 'n':
		n.kind = null
		p.at += len("null")
	case 't':
		n.kind, n.text = boolean, "true"
		p.at += len("true")
	case 'f':
		n.kind, n.text = boolean, "false"
		p.at += len("false")
	default:
		n.kind = number
		begin := p.at
		for p.at < len(p.text) && strings.IndexByte("+-.eE0123456789", p.text[p.at]) >= 0 {
			p.at++
		}
		n.text = p.text[begin:p.at]
	}
	return n
}

// list reads from the opening bracket to the closing one.
func (p *parser) list(closing byte, next func() member) []member {
	bottom := len(p.stack)
	for p.at++; ; {
		p.skip(" \t\r\n,")
		if p.text[p.at] == closing {
			break
		}
		m := next()
		p.stack = append(p.stack, m)
	}
	p.at++
	members := slices.Clone(p.stack[bottom:])
	p.stack = p.stack[:bottom]
	return members
}

func (p *parser) string() string {
	begin := p.at
	for p.at++; p.text[p.at] != '"'; p.at++ {
		if p.text[p.at] == '\\' {
			p.at++
		}
	}
	p.at++
	quoted := p.text[begin:p.at]
	if strings.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1]
	}
	plain, _ := jsontext.AppendUnquote(nil, quoted)
	return string(plain)
}

func (p *parser) skip(what string) {
	for p.at < len(p.text) && strings.IndexByte(what, p.text[p.at]) >= 0 {
		p.at++
	}
}

// yamlFile is read whole, because an alias may refer to an anchor anywhere before it.
type yamlFile struct{ root node }

func openYAML(r io.ReadSeeker) (*yamlFile, error) {
	f := &yamlFile{}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return f, err
	}
	var document, second yaml.Node
	d := yaml.NewDecoder(r)
	err := d.Decode(&document)
	if err == io.EOF {
		return f, faults{{text: emptyFile}}
	}
	if err == nil {
		if err = d.Decode(&second); err == nil {
			return f, faults{{position: at(&second), text: "a second document follows the bundle"}}
		}
	}
	if err != io.EOF {
		return f, faults{{text: "not YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")}}
	}
	f.root, err = (&yamlParser{anchors: map[*yaml.Node]*node{}}).value(&document)
	if err == nil && f.root.kind != object {
		err = faults{{position: f.root.position, text: noObject}}
	}
	return f, err
}

func (f *yamlFile) parts() []part {
	var parts []part
	for _, m := range f.root.members {
		parts = append(parts, part{position: m.value.position, name: m.name, kind: m.value.kind,
			rows: int64(len(m.value.members))})
	}
	return parts
}

func (f *yamlFile) rows(section string, do func(*node) error) error {
	if n := f.root.take(section); n != nil {
		for i := range n.members {
			if err := do(&n.members[i].value); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *yamlFile) place([]*position) error { return nil }

func at(y *yaml.Node) position { return position{line: int32(y.Line), column: int32(y.Column)} }

// yamlParser makes the value of each anchor only once, so that many aliases of one anchor do not use much memory.
type yamlParser struct{ anchors map[*yaml.Node]*node }

func (p *yamlParser) value(y *yaml.Node) (node, error) {
	n := node{position: at(y)}
	fault := func(format string, args ...any) (node, error) {
		return n, faults{{position: n.position, text: fmt.Sprintf(format, args...)}}
	}
	switch y.Kind {
	case yaml.DocumentNode:
		return p.value(y.Content[0])
	case yaml.AliasNode:
		known, seen := p.anchors[y.Alias]
		if !seen {
			p.anchors[y.Alias] = nil
			made, err := p.value(y.Alias)
			if err != nil {
				return n, err
			}
			known = &made
			p.anchors[y.Alias] = known
		}
		if known == nil {
			return fault("the anchor %q contains itself", y.Value)
		}
		at := n.position
		n = *known
		n.position = at
	case yaml.SequenceNode:
		n.kind = array
		for _, item := range y.Content {
			value, err := p.value(item)
			if err != nil {
				return n, err
			}
			n.members = append(n.members, member{value: value})
		}
	case yaml.MappingNode:
		n.kind = object
		names := map[string]bool{}
		for i := 0; i < len(y.Content); i += 2 {
			name := y.Content[i]
			if name.Kind != yaml.ScalarNode {
				return fault("a name is a string")
			}
			if names[name.Value] {
				n.position = at(name)
				return fault("duplicate name %q", name.Value)
			}
			names[name.Value] = true
			value, err := p.value(y.Content[i+1])
			if err != nil {
				return n, err
			}
			n.members = append(n.members, member{name: name.Value, value: value})
		}
	case yaml.ScalarNode:
		n.text = y.Value
		switch tag := y.ShortTag(); tag {
		case "!!null":
			n.kind = null
		case "!!bool":
			n.kind = boolean
			n.text = strings.ToLower(y.Value)
		case "!!int", "!!float":
			n.kind = number
			var f float64
			if err := y.Decode(&f); err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
				return fault("%s is no number that JSON has", y.Value)
			}
			n.text = strconv.FormatFloat(f, 'g', -1, 64)
		case "!!str", "!!timestamp": // a date without quotes
			n.kind = text
		default:
			return fault("%s is nothing that JSON has", tag)
		}
	}
	return n, nil
}
