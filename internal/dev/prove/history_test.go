package main

import (
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

const object = "request 1"

func called(kind kind, client int, call, end int64, text string) record {
	return record{
		Input:  input{Object: object, Kind: kind, Client: client},
		Output: output{Text: text},
		Call:   call,
		Return: end,
	}
}

func begun(r request) record {
	return record{Input: input{Object: object, Kind: begin, State: string(r.state())}}
}

func unknown(r record) record {
	r.Output, r.Return = output{Unknown: true}, never
	return r
}

var free = request{Status: "active", Processing: "new"}

// TestCheckerAcceptsAndRejects: small histories whose verdict is known.
func TestCheckerAcceptsAndRejects(t *testing.T) {
	t.Parallel()
	const used = "Service request is already used"
	for name, c := range map[string]struct {
		calls []record
		want  porcupine.CheckResult
	}{
		"one of two gets it":  {[]record{called(use, 1, 1, 5, ""), called(use, 2, 2, 6, used)}, porcupine.Ok},
		"two holders":         {[]record{called(use, 1, 1, 5, ""), called(use, 2, 2, 6, "")}, porcupine.Illegal},
		"refused for nothing": {[]record{called(use, 1, 1, 5, used)}, porcupine.Illegal},
		"read of an old state": {[]record{called(use, 1, 1, 2, ""), called(read, 2, 3, 4, "active new 0")},
			porcupine.Illegal},
		"unknown, carried out": {[]record{unknown(called(use, 1, 1, 0, "")), called(use, 2, 3, 4, used)}, porcupine.Ok},
		"unknown, and not":     {[]record{unknown(called(use, 1, 1, 0, "")), called(use, 2, 3, 4, "")}, porcupine.Ok},
		"unknown, carried out twice": {[]record{
			unknown(called(use, 1, 1, 0, "")), called(use, 2, 3, 4, used), called(read, 3, 5, 6, "active in_queue 1"),
			called(release, 1, 7, 8, ""), called(use, 2, 9, 10, used),
		}, porcupine.Illegal},
		"a release by another": {[]record{called(use, 1, 1, 2, ""), called(release, 2, 3, 4, "")}, porcupine.Illegal},
		"lost after the answer": {[]record{
			called(use, 1, 1, 2, ""), called(process, 1, 3, 4, ""), called(finish, 1, 5, 6, ""),
			called(read, 2, 7, 8, "active in_progress 1"),
		}, porcupine.Illegal},
	} {
		result, _ := accept(append([]record{begun(free)}, c.calls...), time.Minute)
		if result != c.want {
			t.Errorf("%s: %s, want %s", name, result, c.want)
		}
	}
}

// TestShrink: what has no part in the fault goes, what explains it stays.
func TestShrink(t *testing.T) {
	t.Parallel()
	records := []record{begun(free)}
	for i := range int64(20) {
		records = append(records, called(read, 3, 10*i+1, 10*i+2, "active new 0"))
	}
	records = append(
		records,
		called(use, 1, 300, 301, ""),
		called(use, 2, 302, 303, ""),
		called(release, 1, 304, 305, ""),
		called(read, 3, 400, 401, "active new 0"),
	)
	part := shrink(records, time.Minute)
	if result, _ := accept(part, time.Minute); result != porcupine.Illegal || len(part) != 3 {
		t.Errorf("%s: %+v", result, part)
	}
}

// TestOneJobIsOneOperation: two calls with the same job have one effect, and one end.
func TestOneJobIsOneOperation(t *testing.T) {
	t.Parallel()
	h := &history{}
	h.add(begun(free))
	for _, r := range []record{called(use, 1, 1, 9, ""), called(use, 1, 4, 8, "")} {
		r.Job = "job"
		h.add(r)
	}
	objects, err := h.operations()
	if err != nil || len(objects[object]) != 2 || len(judge(objects, time.Minute)) != 0 {
		t.Errorf("%+v, %v", objects, err)
	}
	r := called(use, 1, 5, 9, "Service request is expired")
	r.Job = "job"
	h.add(r)
	if _, err := h.operations(); err == nil {
		t.Error("a job may end twice")
	}
}
