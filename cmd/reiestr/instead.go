package main

import (
	"fmt"
	"strings"
)

// instead returns the end of the error for an unknown word: the most similar known word, or all known words if none is
// similar.
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

// distance returns the number of letters to insert, delete or replace to get from a to b (Levenshtein). Case is
// ignored.
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
