package main

import (
	"fmt"
	"strings"
)

// instead says which of the known words was meant by an unknown one; if none is near, all of them.
func instead(unknown string, known []string) string {
	nearest, least := "", 1+len(unknown)/3
	for _, word := range known {
		if d := distance(unknown, word); d <= least {
			nearest, least = word, d-1
		}
	}
	if nearest != "" {
		return fmt.Sprintf("; did you mean %q?", nearest)
	}
	return "; known are " + strings.Join(known, ", ")
}

// distance is the number of letters to insert, delete or replace (Levenshtein), where upper case counts as lower case.
func distance(a, b string) int {
	from, to := []rune(strings.ToLower(a)), []rune(strings.ToLower(b))
	row := make([]int, len(to)+1) // the distances of the prefix of from, up to i, to each prefix of to
	for j := range row {
		row[j] = j
	}
	for i := range from {
		diagonal := row[0]
		row[0] = i + 1
		for j := range to {
			replaced := diagonal
			if from[i] != to[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, diagonal+1, row[j]+1)
		}
	}
	return row[len(to)]
}
