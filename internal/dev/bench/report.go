package main

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/reiestr/reiestr/internal/dev/program"
)

// report is the output of a run: Markdown tables.
type report struct {
	about     []string // lines of text above the tables
	rows      []*series
	goals     []goal
	memory    map[string]int64 // highest resident memory in bytes, by role
	processed struct{ p50, p99, accepted50, accepted99 []float64 }
	contended struct{ losers, kept []float64 }
	held      map[string][]float64 // p99 beside commands that wait for a held row, in relation to the undisturbed
	tables    []string             // of growth and soak
}

// goal is a line of the table of goals.
type goal struct {
	what, wanted string
	measured     []float64 // one value for each round
	unit         string
	met          bool
}

func (r *report) header(c *cluster) {
	r.about = append(r.about, fmt.Sprintf("%s; %d service requests, %d legal entities, %d licences, %d tokens, %d jobs.",
		c.version(),
		c.size.ServiceRequests, c.size.LegalEntities, c.size.Licenses, c.size.Tokens, c.size.Jobs))
}

// remember keeps the highest memory of a process.
func (r *report) remember(role string, s *program.Service) {
	if _, most, ok := memoryOf(s.Pid()); ok {
		if r.memory == nil {
			r.memory = map[string]int64{}
		}
		r.memory[role] = max(r.memory[role], most)
	}
}

// judge compares the measurements with the goals.
func (r *report) judge(paths []path, rows map[string]*series) {
	speed := func(s sample) float64 { return s.perSecond }
	p99 := func(s sample) float64 { return milliseconds(s.p99) }
	for _, p := range paths {
		if steps, service := rows[p.name+"/"+asSteps], rows[p.name+"/"+asService]; steps != nil {
			r.atLeast(p.title+", throughput to steps", p.goal, ratios(service, steps, speed))
			r.atMost(p.title+", p99 to steps", 2, ratios(service, steps, p99), "")
		}
	}
	if steps := rows[drainName+"/"+asSteps]; steps != nil {
		r.atLeast(steps.path+", to steps", 6, ratios(rows[drainName+"/"+asService], steps, speed))
	}
	if len(r.processed.p50) > 0 {
		r.atMost("accept → processed at 200/s, p50", 4, r.processed.p50, " ms")
		r.atMost("accept → processed at 200/s, p99", 50, r.processed.p99, " ms")
	}
	if len(r.contended.kept) > 0 {
		r.atLeast("throughput on other rows while a crowd wants one, to undisturbed", 0.8, r.contended.kept)
	}
	for _, p := range heldPaths {
		if ratios := r.held[p.name]; len(ratios) > 0 {
			r.atMost(p.name+" beside commands that wait for a held row, p99 to undisturbed", 2, ratios, "")
		}
	}
}

func (r *report) atLeast(what string, wanted float64, measured []float64) {
	r.goals = append(r.goals, goal{what, fmt.Sprintf("≥ %g", wanted), measured, "", median(measured) >= wanted})
}

func (r *report) atMost(what string, wanted float64, measured []float64, unit string) {
	r.goals = append(r.goals, goal{what, fmt.Sprintf("≤ %g%s", wanted, unit), measured, unit, median(measured) <= wanted})
}

// ratios are the ratios of two series, round by round.
func ratios(a, b *series, value func(sample) float64) []float64 {
	var all []float64
	for i := range a.samples {
		all = append(all, value(a.samples[i])/value(b.samples[i]))
	}
	return all
}

func (r report) markdown(machine string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s. %s\n", time.Now().UTC().Format(time.DateOnly),
		strings.Join(append([]string{machine + "."}, r.about...), " "))
	if len(r.goals) > 0 {
		fmt.Fprint(&b, "\n| goal | wanted | measured | |\n|---|---|---|---|\n")
		for _, g := range r.goals {
			met := "**missed**"
			if g.met {
				met = "met"
			}
			fmt.Fprintf(&b, "| %s | %s | %s%s | %s |\n", g.what, g.wanted, spread(g.measured, 2), g.unit, met)
		}
	}
	if len(r.rows) > 0 {
		fmt.Fprint(&b, "\n| path | way | a second | to steps | p50 ms | p99 ms | p99 to steps | CPU service | CPU "+
			"PostgreSQL | CPU client |\n",
			"|---|---|---|---|---|---|---|---|---|---|\n")
		steps := map[string]*series{}
		for _, s := range r.rows {
			if s.way == asSteps {
				steps[s.path] = s
			}
		}
		for _, s := range r.rows {
			base := steps[s.path]
			column := func(decimals int, value func(sample) float64) string { return spread(s.values(value), decimals) }
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", s.path, s.way,
				column(0, func(s sample) float64 { return s.perSecond }),
				spread(ratios(s, base, func(s sample) float64 { return s.perSecond }), 2),
				column(2, func(s sample) float64 { return orUnknown(s.p50) }),
				column(2, func(s sample) float64 { return orUnknown(s.p99) }),
				spread(ratios(s, base, func(s sample) float64 { return orUnknown(s.p99) }), 2),
				column(0, func(s sample) float64 { return s.service }),
				column(0, func(s sample) float64 { return s.postgres }),
				column(0, func(s sample) float64 { return s.client }))
		}
		fmt.Fprint(&b, "\nCPU: milliseconds a thousand transactions or requests.\n")
	}
	if len(r.processed.p50) > 0 {
		fmt.Fprintf(&b, "\n200 jobs accepted a second: p50 %s ms, p99 %s ms from acceptance to end; p50 %s ms, p99 %s ms "+
			"for the 202.\n",
			spread(r.processed.p50, 2), spread(r.processed.p99, 2), spread(r.processed.accepted50, 2),
			spread(r.processed.accepted99, 2))
	}
	if len(r.contended.kept) > 0 {
		fmt.Fprintf(&b, "\nA crowd that wants one service request: one winner each time, every loser a 409; p99 of the "+
			"losers %s ms.\n",
			spread(r.contended.losers, 0))
	}
	if len(r.memory) > 0 {
		var all []string
		for role, most := range r.memory {
			all = append(all, fmt.Sprintf("%.0f MB (%s)", float64(most)/1e6, role))
		}
		slices.Sort(all)
		fmt.Fprintf(&b, "\nMost memory resident in the service: %s.\n", strings.Join(all, ", "))
	}
	for _, t := range r.tables {
		b.WriteString("\n" + t)
	}
	return b.String()
}

func (s *series) values(value func(sample) float64) []float64 {
	var all []float64
	for _, x := range s.samples {
		all = append(all, value(x))
	}
	return all
}

func orUnknown(d time.Duration) float64 {
	if d == 0 {
		return math.NaN()
	}
	return milliseconds(d)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n == 0 {
		return math.NaN()
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// spread is a median with the lowest and the highest value; empty: there are no values.
func spread(values []float64, decimals int) string {
	m := median(values)
	if math.IsNaN(m) {
		return ""
	}
	if len(values) == 1 {
		return fmt.Sprintf("%.*f", decimals, m)
	}
	return fmt.Sprintf("%.*f (%.*f–%.*f)", decimals, m, decimals, slices.Min(values), decimals, slices.Max(values))
}

// marks are the lines between which the tables of a kind of measurement stand.
func marks(kind string) (begin, end string) {
	return "<!-- " + kind + " -->\n", "<!-- /" + kind + " -->"
}

// replaceBlock puts the text between the marks of a file.
func replaceBlock(name, kind, text string) error {
	was, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	begin, end := marks(kind)
	head, rest, begun := strings.Cut(string(was), begin)
	_, tail, ended := strings.Cut(rest, end)
	if !begun || !ended {
		return fmt.Errorf("%s has no marks %q and %q for the tables", name, strings.TrimSpace(begin),
			end)
	}
	return os.WriteFile(name, []byte(head+begin+text+end+tail), 0o644)
}
