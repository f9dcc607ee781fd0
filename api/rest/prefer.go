package rest

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// longestWait bounds how long a caller may have a request wait, in seconds.
const longestWait = 30

// preferredWait is how many seconds the caller would have the request wait (RFC 7240, section 4.3): 0 for not at all,
// also where it says something else than a number, at most longestWait. Of several waits the first counts.
func preferredWait(header []string) Patience {
	for preference := range splitQuoted(strings.Join(header, ","), ',') {
		for word := range splitQuoted(preference, ';') {
			name, value, _ := strings.Cut(word, "=")
			if strings.EqualFold(strings.Trim(name, " \t"), "wait") {
				return seconds(strings.Trim(value, " \t"))
			}
			break // what follows are parameters
		}
	}
	return 0
}

// seconds reads a number, bare or in quotes; what is none counts as 0.
func seconds(text string) Patience {
	if len(text) >= 2 && text[0] == '"' && text[len(text)-1] == '"' {
		text = text[1 : len(text)-1]
	}
	n := Patience(0)
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return 0
		}
		n = min(10*n+Patience(c-'0'), longestWait)
	}
	return n
}

// splitQuoted splits at a separator outside of quoted strings.
func splitQuoted(text string, separator byte) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		start, quoted := 0, false
		for i := 0; i < len(text); i++ {
			switch {
			case quoted && text[i] == '\\':
				i++
			case text[i] == '"':
				quoted = !quoted
			case text[i] == separator && !quoted:
				if !yield(text[start:i]) {
					return
				}
				start = i + 1
			}
		}
		yield(text[start:])
	}
}

type preferKey struct{}

// Patience is how many seconds a request may wait. The caller chose it by Prefer: wait.
type Patience int

// PatienceOf is how long the request under way may wait.
func PatienceOf(ctx context.Context) Patience {
	p, _ := ctx.Value(preferKey{}).(Patience)
	return p
}

// Applied is the value of Preference-Applied; empty if nothing was asked for.
func (p Patience) Applied() string {
	if p == 0 {
		return ""
	}
	return fmt.Sprintf("wait=%d", p)
}

// Over is closed when the patience is over, or when stopping ends; a nil stopping never ends. The caller calls release
// when it no longer waits. From now on the request takes no place: what is left is to answer.
func (p Patience) Over(ctx, stopping context.Context) (over <-chan struct{}, release func()) {
	leave(ctx)
	waiting, cancel := context.WithTimeout(ctx, time.Duration(p)*time.Second)
	if stopping == nil {
		return waiting.Done(), cancel
	}
	stop := context.AfterFunc(stopping, cancel)
	return waiting.Done(), func() { stop(); cancel() }
}

// preferParameter documents Prefer at the operations that heed it.
func preferParameter() *huma.Param {
	return &huma.Param{
		Name: "Prefer", In: "header",
		Description: fmt.Sprintf("wait=<seconds> (RFC 7240): answer when there is something to tell, after so many seconds "+
			"at the latest. "+
			"More than %d counts as %[1]d; anything else is ignored.", longestWait),
		Schema: &huma.Schema{Type: huma.TypeString}, Example: "wait=10",
	}
}
