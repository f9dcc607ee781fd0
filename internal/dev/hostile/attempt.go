package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// octets are bytes that need not be UTF-8. A seed file holds them as a string of Go.
type octets string

// MarshalText implements encoding.TextMarshaler.
func (o octets) MarshalText() ([]byte, error) { return []byte(strconv.QuoteToASCII(string(o))), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (o *octets) UnmarshalText(text []byte) error {
	plain, err := strconv.Unquote(string(text))
	*o = octets(plain)
	return err
}

// attempt is one request, or several in a pipeline, and what the document and the contract say of the answer. The ids
// and secrets of a run stand in the request as placeholders (see expand), so an attempt of one run can be sent in
// another.
type attempt struct {
	Kind      string `json:"kind"`
	Operation string `json:"operation,omitempty"` // operationId; empty: the request is for no operation
	Method    string `json:"method"`
	Request   octets `json:"request"`
	// HalfOpen: the client closes its side after the request. net/http takes it for a client that has left and ends the
	// request, which may then be answered 503.
	HalfOpen bool `json:"half_open,omitempty"`

	Want    []int   `json:"want,omitempty"`    // codes; none: those that the document lists for the operation
	Fits    bool    `json:"fits,omitempty"`    // neither the schema nor the form of the request may be refused
	Faults  []fault `json:"faults,omitempty"`  // that a 422 has to list; it may list no others
	Allow   string  `json:"allow,omitempty"`   // of a 405
	Answers int     `json:"answers,omitempty"` // of a pipeline; 0: one
	Closed  bool    `json:"closed,omitempty"`  // the connection may be closed without an answer
}

// fault is a place of a request with a rule that it breaks. It may break others too.
type fault struct {
	Entry     string `json:"entry"`
	EntryType string `json:"entry_type"`
	Rule      string `json:"rule"`
}

var placeholder = regexp.MustCompile(`\{\{([a-z]+)(?: (\d+))?\}\}`)

// expand replaces the placeholders of a request. {{length}} is the number of bytes after the first head.
func (r *registry) expand(request octets) []byte {
	text := placeholder.ReplaceAllFunc([]byte(request), func(found []byte) []byte {
		match := placeholder.FindSubmatch(found)
		n, _ := strconv.Atoi(string(match[2]))
		switch string(match[1]) {
		case "token":
			return []byte(r.token)
		case "key":
			return []byte(r.key)
		case "clinic":
			return []byte(r.clinic.String())
		case "licence":
			return []byte(r.licence)
		case "job":
			return []byte(r.job)
		case "request": // patient and service request have the same id
			return []byte(r.requests[n%len(r.requests)].String())
		case "unique":
			return []byte(uuid.NewString())
		case "spaces":
			return bytes.Repeat([]byte(" "), n)
		case "letters":
			return bytes.Repeat([]byte("a"), n)
		case "open":
			return bytes.Repeat([]byte("["), n)
		case "shut":
			return bytes.Repeat([]byte("]"), n)
		}
		return found
	})
	_, body, found := bytes.Cut(text, []byte("\r\n\r\n"))
	if !found {
		_, body, _ = bytes.Cut(text, []byte("\n\n"))
	}
	return bytes.ReplaceAll(text, []byte("{{length}}"), []byte(strconv.Itoa(len(body))))
}

// answer is what came back.
type answer struct {
	code   int
	header http.Header
	raw    []byte
}

// patience bounds one attempt. A request may wait for its job.
const patience = 40 * time.Second

// send opens a connection, writes the bytes and reads the answers. A connection that is closed has fewer answers.
func (r *registry) send(a attempt) ([]answer, error) {
	conn, err := net.Dial("tcp", r.service.Address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	text := r.expand(a.Request)
	written := make(chan struct{})
	go func() { // the service may answer before it has read everything
		defer close(written)
		conn.Write(text) //nolint:errcheck // the answer tells
		if a.HalfOpen {
			conn.(*net.TCPConn).CloseWrite() //nolint:errcheck // the answer tells
		}
	}()
	defer func() { conn.Close(); <-written }()
	reader := bufio.NewReader(conn)
	var answers []answer
	for range max(a.Answers, 1) {
		response, err := http.ReadResponse(reader, &http.Request{Method: a.Method})
		if response != nil && response.StatusCode == http.StatusContinue {
			response, err = http.ReadResponse(reader, &http.Request{Method: a.Method})
		}
		if err != nil {
			return answers, err
		}
		raw, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			return answers, err
		}
		answers = append(answers, answer{response.StatusCode, response.Header, raw})
	}
	return answers, nil
}

// envelope is what every answer has (contract, section 2).
type envelope struct {
	Meta *struct {
		Code      int    `json:"code"`
		URL       string `json:"url"`
		Type      string `json:"type"`
		RequestID string `json:"request_id"`
	} `json:"meta"`
	Data  json.RawMessage `json:"data"`
	Error *struct {
		Type    string `json:"type"`
		Message string `json:"message"`
		Invalid []struct {
			Entry     string `json:"entry"`
			EntryType string `json:"entry_type"`
			Rules     []struct {
				Rule string `json:"rule"`
			} `json:"rules"`
		} `json:"invalid"`
	} `json:"error"`
}

// schemaMessage is the message of a 422 that lists the faults of the schema (contract, section 2).
const schemaMessage = "Validation failed. See error.invalid for every fault."

// read reads the envelope of an answer, and says what is wrong with it.
func (a answer) read() (e envelope, faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if got := a.header.Get("Content-Type"); got != "application/json" {
		fault("Content-Type is %q", got)
	}
	kept := "no-store"
	if a.header.Get("ETag") != "" {
		kept = "no-cache"
	}
	if got := a.header.Get("Cache-Control"); got != kept {
		fault("Cache-Control is %q", got)
	}
	if err := json.Unmarshal(a.raw, &e); err != nil {
		fault("the answer is not JSON: %v", err)
		return e, faults
	}
	id := a.header.Get("X-Request-Id")
	switch {
	case e.Meta == nil:
		fault("the answer has no meta")
	case e.Meta.Code != a.code:
		fault("meta.code is %d", e.Meta.Code)
	case e.Meta.RequestID == "" || e.Meta.RequestID != id && a.header.Get("Idempotency-Replayed") == "":
		fault("meta.request_id is %q, X-Request-Id is %q", e.Meta.RequestID, id)
	case e.Meta.Type != "object" && e.Meta.Type != "list":
		fault("meta.type is %q", e.Meta.Type)
	}
	if (e.Data == nil) == (e.Error == nil) || (e.Error == nil) != (a.code < 400) {
		fault("data and error do not agree with the code")
	}
	if (a.code == http.StatusUnauthorized || a.code == http.StatusForbidden) && a.header.Get("WWW-Authenticate") == "" {
		fault("there is no WWW-Authenticate")
	}
	if a.code == http.StatusTooManyRequests && a.header.Get("Retry-After") == "" {
		fault("there is no Retry-After")
	}
	return e, faults
}

// refusedForm reports whether an answer refuses the form of the request: its framing, headers, JSON or schema.
func (a answer) refusedForm(e envelope) bool {
	switch a.code {
	case http.StatusBadRequest, http.StatusNotAcceptable, http.StatusRequestEntityTooLarge,
		http.StatusUnsupportedMediaType, http.StatusRequestHeaderFieldsTooLarge:
		return true
	case http.StatusUnprocessableEntity:
		return e.Error == nil || e.Error.Message == schemaMessage
	}
	return false
}

// differs says how the list of faults differs from the one that is wanted; empty: in nothing.
func (e envelope) differs(want []fault) string {
	if e.Error == nil || e.Error.Message != schemaMessage {
		return "it does not list faults of the schema"
	}
	left := slices.Clone(want)
	for _, found := range e.Error.Invalid {
		i := slices.IndexFunc(left, func(f fault) bool { return f.Entry == found.Entry && f.EntryType == found.EntryType })
		if i < 0 {
			return fmt.Sprintf("it lists %s of %s", found.Entry, found.EntryType)
		}
		var rules []string
		for _, r := range found.Rules {
			rules = append(rules, r.Rule)
		}
		if !slices.Contains(rules, left[i].Rule) {
			return fmt.Sprintf("the broken rules of %s are %s", found.Entry, strings.Join(rules, ", "))
		}
		left = slices.Delete(left, i, i+1)
	}
	if len(left) > 0 {
		return fmt.Sprintf("it does not list %s of %s", left[0].Entry, left[0].EntryType)
	}
	return ""
}
