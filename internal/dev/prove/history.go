package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// record is one call of the history. Times are nanoseconds since the start of the run.
type record struct {
	Input  input
	Output output
	Caller int    // the client of the driver, for the picture
	Job    string `json:",omitempty"` // the calls of one job are one operation
	Call   int64
	Return int64 // of an unknown answer: the end of time
}

// never is later than each return.
const never = math.MaxInt64

// history collects the calls of all clients.
type history struct {
	start time.Time

	mu      sync.Mutex
	records []record
}

func (h *history) now() int64 { return time.Since(h.start).Nanoseconds() }

func (h *history) add(r record) {
	if r.Output.Unknown {
		r.Return = never
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.records = append(h.records, r)
}

// operations merges the calls that share a job, and divides the history by object.
//
// Contract 4.3, 6: an equal action that is still pending is not taken twice, the answer is 202 with the same job. So
// the effect came after the last of these calls had been made, and before the first answer.
func (h *history) operations() (objects map[string][]record, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	jobs := map[string]int{}
	var merged []record
	for _, r := range h.records {
		i, known := jobs[r.Job]
		if r.Job == "" || !known {
			if r.Job != "" {
				jobs[r.Job] = len(merged)
			}
			merged = append(merged, r)
			continue
		}
		m := &merged[i]
		m.Call = max(m.Call, r.Call)
		switch {
		case r.Output.Unknown:
		case m.Output.Unknown:
			m.Output, m.Return = r.Output, r.Return
		case m.Output != r.Output: // contract 4.3: the job ends once, and never changes afterwards
			return nil, fmt.Errorf("job %s has two ends: %q and %q", r.Job, m.Output.Text, r.Output.Text)
		default:
			m.Return = min(m.Return, r.Return)
		}
	}
	objects = map[string][]record{}
	for _, r := range merged {
		objects[r.Input.Object] = append(objects[r.Input.Object], r)
	}
	return objects, nil
}

// table counts the answers, by what was asked. It shows that each rule of the model was met.
func (h *history) table() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	counts := map[string]int{}
	for _, r := range h.records {
		answer := r.Output.Text
		switch {
		case r.Input.Kind == begin:
			continue
		case r.Output.Unknown:
			answer = "unknown"
		case answer == "":
			answer = "done"
		case r.Input.Kind == read:
			answer = "shown"
		case r.Input.Kind == create:
			answer = "refused"
		}
		counts[fmt.Sprintf("| %s | %s |", r.Input.Kind, answer)]++
	}
	var lines []string
	for name, count := range counts {
		lines = append(lines, fmt.Sprintf("%s %d |", name, count))
	}
	slices.Sort(lines)
	return "| call | answer | times |\n|---|---|---|\n" + strings.Join(lines, "\n")
}

// machine is the model as the checker takes it: the history of one object at a time.
var machine = porcupine.NondeterministicModel{
	Init: func() []any { return []any{state("")} },
	Step: func(s, in, out any) (next []any) {
		for _, n := range step(s.(state), in.(input), out.(output)) {
			next = append(next, n)
		}
		return next
	},
	DescribeOperation: func(in, out any) string {
		i, o := in.(input), out.(output)
		answer := o.Text
		switch {
		case o.Unknown:
			answer = "?"
		case answer == "":
			answer = "done"
		}
		return fmt.Sprintf("%s by %d (%d %d) → %s", i.Kind, i.Client, i.Type, i.Value, answer)
	},
	DescribeState: func(s any) string { return string(s.(state)) },
}

func model() porcupine.Model { return machine.ToModel() }

// verdict of the checker on the history of an object.
type verdict struct {
	object string
	result porcupine.CheckResult
	shrunk []record // of an illegal history: the shortest one that is illegal
}

// judge has the checker look at each object, limit for each.
func judge(objects map[string][]record, limit time.Duration) (bad []verdict) {
	names := make([]string, 0, len(objects))
	for name := range objects {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		result, _ := accept(objects[name], limit)
		switch result {
		case porcupine.Ok:
		case porcupine.Illegal:
			bad = append(bad, verdict{name, result, shrink(objects[name], limit)})
		default:
			bad = append(bad, verdict{name, result, nil})
		}
	}
	return bad
}

func accept(records []record, limit time.Duration) (porcupine.CheckResult, porcupine.LinearizationInfo) {
	operations := make([]porcupine.Operation, len(records))
	for i, r := range records {
		operations[i] = porcupine.Operation{
			ClientId: r.Caller, Input: r.Input, Call: r.Call, Output: r.Output, Return: r.Return,
		}
	}
	return porcupine.CheckOperationsVerbose(model(), operations, limit)
}

// shrink looks for the shortest illegal part of an illegal history. Each part of a legal history that it tries is
// legal: a beginning of it, in which a call that has no answer yet is unknown; and what is left without a call that has
// no effect (a read, or a refusal).
func shrink(records []record, limit time.Duration) []record {
	records = slices.Clone(records)
	slices.SortFunc(records, func(a, b record) int { return cmp.Compare(a.Return, b.Return) })
	illegal := func(part []record) bool {
		result, _ := accept(part, limit)
		return result == porcupine.Illegal
	}
	until := func(n int) (part []record) {
		end := records[n-1].Return
		for _, r := range records {
			switch {
			case r.Call > end:
			case r.Return > end:
				r.Return, r.Output = never, output{Unknown: true}
				fallthrough
			default:
				part = append(part, r)
			}
		}
		return part
	}
	low, high := 0, len(records) // the beginning until low is legal, that until high is not
	for high-low > 1 {
		if middle := (low + high) / 2; illegal(until(middle)) {
			high = middle
		} else {
			low = middle
		}
	}
	part := until(high)
	for i := len(part) - 1; i >= 0; i-- {
		if r := part[i]; r.Output.Unknown || r.Output.Text != "" {
			if rest := slices.Delete(slices.Clone(part), i, i+1); illegal(rest) {
				part = rest
			}
		}
	}
	return part
}

// keep writes an illegal history and its picture into the folder.
func (v verdict) keep(folder string, limit time.Duration) (path string, err error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	text, err := json.MarshalIndent(v.shrunk, "", " ")
	if err != nil {
		return "", err
	}
	path = filepath.Join(folder, fmt.Sprintf("%x.json", v.object))
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return "", err
	}
	_, info := accept(v.shrunk, limit)
	return path, porcupine.VisualizePath(model(), info, path[:len(path)-len("json")]+"html")
}
