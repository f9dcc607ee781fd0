package main

import (
	"fmt"
	"strings"
)

// The model is the contract (docs/contract.md) as a machine with one step a call. It knows nothing of the
// implementation. A sentence of the contract stands beside each branch.

// kind is what a call asks for.
type kind string

const (
	begin   kind = "begin" // the state in which the history of an object begins
	use     kind = "use"
	release kind = "release"
	process kind = "process"
	finish  kind = "complete"
	expire  kind = "expire"
	read    kind = "read"
	create  kind = "create"
	update  kind = "update"
	revoke  kind = "revoke"
	enter   kind = "enter" // any call with a token
)

// input is a call on one object: a service request, the licences of a legal entity, or a token.
type input struct {
	Object string
	Kind   kind
	Client int    // the caller's legal entity, from 1 on
	Type   int    // of a licence
	Value  int    // that a licence gets
	State  string `json:",omitempty"` // of begin
}

// output is the answer. An unknown one (503, time-out, cut connection) may stand for a call that was carried out, or
// not: contract 2, "After a 503, or without an answer".
type output struct {
	Unknown bool   `json:",omitempty"`
	Text    string // "" for success, the message of a refusal, or what a read shows
}

// state is an object's: that of a service request, of licences, or of a token.
type state string

// request is the state of a service request in words: contract 4.2.
type request struct {
	Status, Processing string
	Holder             int // the legal entity that holds the reservation; 0: none
	Expired            bool
}

func (r request) state() state {
	return state(fmt.Sprintf("%s %s %d %t", r.Status, r.Processing, r.Holder, r.Expired))
}

// step answers the states that may follow if the call is carried out now, with this answer; none: it cannot be.
func step(s state, in input, out output) []state {
	next, says := s, ""
	switch {
	case in.Kind == begin:
		next = state(in.State)
	case in.Kind == revoke || in.Kind == enter:
		next, says = token(s, in)
	case in.Kind == create || in.Kind == update || strings.HasPrefix(in.Object, "licences"):
		next, says = licences(s, in)
	default:
		var r request
		if _, err := fmt.Sscan(string(s), &r.Status, &r.Processing, &r.Holder, &r.Expired); err != nil {
			panic(err)
		}
		r, says = r.step(in)
		next = r.state()
	}
	switch {
	case out.Unknown && next != s:
		return []state{s, next}
	case out.Unknown:
		return []state{s}
	case says != out.Text:
		return nil
	}
	return []state{next}
}

func (r request) step(in input) (request, string) {
	held := r.Holder != 0
	switch in.Kind {
	case use:
		switch {
		case r.Expired: // 4.5, 2: expiration_date is not before now
			return r, "Service request is expired"
		case r.Status != "active": // 4.5, 3: status is active
			return r, "Can't use inactive service request"
		case held: // 4.5, 4: used_by_legal_entity is empty
			return r, "Service request is already used"
		}
		r.Holder, r.Processing = in.Client, "in_queue" // 4.5, effect: used_by_… are set, becomes in_queue
	case release, process:
		switch {
		case r.Status != "active": // 4.4, 1 and 4.6, 1: status is active
			return r, "Invalid service request status"
		case r.Processing != "in_queue": // 4.4, 2 and 4.6, 2: the processing status is in_queue
			return r, "Invalid program processing status"
		case r.Holder != in.Client: // 4.4, 3 and 4.6, 3: the client holds the reservation
			return r, "Service request is used by another legal entity"
		case in.Kind == process:
			r.Processing = "in_progress" // 4.6, effect
		default:
			r.Holder, r.Processing = 0, "new" // 4.4, effect: used_by_… become null, becomes new
		}
	case finish:
		switch {
		case r.Status != "active": // 4.7, 1: status is active
			return r, "Invalid service request status"
		case r.Holder != in.Client: // 4.7, 2: with a program the client holds the reservation
			return r, "Service request is used by another legal entity"
		case r.Processing != "in_progress": // 4.7, 3: with a program the processing status is in_progress
			return r, "Invalid program processing status"
		}
		r.Status, r.Processing = "completed", "completed" // 4.7, effect
	case expire:
		// 4.9: active, expiration_date before now, processing status null or new. Others stay as they are.
		if r.Status == "active" && r.Expired && r.Processing == "new" {
			r.Status = "recalled"
		}
	case read:
		return r, fmt.Sprintf("%s %s %d", r.Status, r.Processing, r.Holder) // 4.1
	}
	return r, ""
}

// licences is the step of the licences of a legal entity. The state lists the types that it has, each with its value.
func licences(s state, in input) (state, string) {
	name := fmt.Sprintf(" %d=", in.Type)
	_, rest, present := strings.Cut(string(s), name)
	value, _, _ := strings.Cut(rest, " ")
	switch in.Kind {
	case create:
		if present { // 3.1, 7: the legal entity has no licence of the type
			return s, fmt.Sprintf("License with type %s is already present", licenceType(in.Type))
		}
		return insert(s, in.Type, in.Value), "" // 3.1: of simultaneous equal requests exactly one is answered 201
	case update:
		if !present { // 3.3, 3: the licence exists
			return s, "License was not found"
		}
		return state(strings.Replace(string(s), name+value+" ", fmt.Sprintf("%s%d ", name, in.Value), 1)), ""
	}
	return s, string(s) // 3.2: the list has the licences of the client
}

// insert keeps the types in order, so that equal sets are equal texts.
func insert(s state, kind, value int) state {
	text := " "
	done := false
	for _, item := range strings.Fields(string(s)) {
		var have int
		fmt.Sscanf(item, "%d=", &have) //nolint:errcheck // insert wrote it
		if !done && kind < have {
			text += fmt.Sprintf("%d=%d ", kind, value)
			done = true
		}
		text += item + " "
	}
	if !done {
		text += fmt.Sprintf("%d=%d ", kind, value)
	}
	return state(text)
}

const invalidToken = "Unauthorized: invalid access token"

// token is the step of a token: "valid" or "revoked".
func token(s state, in input) (state, string) {
	switch {
	case in.Kind == revoke:
		return "revoked", ""
	case s == "revoked": // 1, 2: the token is known, well formed, not revoked
		return s, invalidToken
	}
	return s, ""
}
