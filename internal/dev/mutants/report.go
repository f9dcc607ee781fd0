package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
)

// page lists the mutants that no test can see, and shows the results of runs.
const page = "docs/reliability.md"

// unseenHeading is above the table of the mutants that no test can see.
const unseenHeading = "### Mutants that no test can see\n"

var unseenRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| *(.*?) *\\|$")

// unseenMutants reads the table of the page: reasons by id.
func unseenMutants(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	_, section, found := strings.Cut(string(text), unseenHeading)
	if !found {
		return nil, fmt.Errorf("%s has no heading %q", path, strings.TrimSpace(unseenHeading))
	}
	section, _, _ = strings.Cut(section, "\n#")
	reasons := map[string]string{}
	for _, row := range unseenRow.FindAllStringSubmatch(section, -1) {
		reasons[row[1]] = row[2]
	}
	return reasons, nil
}

// summarise is the text for people: numbers, and the ids of those that were not killed.
func summarise(found int, chosen []mutant, results map[string]result) string {
	numbers := map[outcome]int{}
	ids := map[outcome][]string{}
	ran := 0
	for _, m := range chosen {
		if r, ok := results[m.id]; ok {
			ran++
			numbers[r.Outcome]++
			ids[r.Outcome] = append(ids[r.Outcome], m.id)
		}
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%d mutants found, %d chosen, %d run: ", found, len(chosen), ran)
	fmt.Fprintf(&text, "%d killed, %d killed by time-out, %d survived, %d not a mutant\n",
		numbers[killed], numbers[timedOut], numbers[survived], numbers[notMutant])
	for _, o := range []outcome{timedOut, survived, notMutant} {
		for _, id := range ids[o] {
			fmt.Fprintf(&text, "%s: %s\n", o, id)
		}
	}
	return text.String()
}

// compare answers an error if the results and the page disagree.
func compare(chosen []mutant, results map[string]result, unseen map[string]string) error {
	var faults []error
	for _, m := range chosen {
		r, ran := results[m.id]
		_, listed := unseen[m.id]
		switch {
		case !ran:
		case r.Outcome == survived && !listed:
			faults = append(
				faults,
				fmt.Errorf("%s survived (%s): write a test, or list it in %s", m.id, m.promise, page),
			)
		case r.Outcome != survived && listed:
			faults = append(faults, fmt.Errorf("%s is %s, but %s says that no test can see it", m.id, r.Outcome, page))
		}
	}
	return errors.Join(faults...)
}
