// Package recent shares one answer among all callers that ask the same question within a short time.
package recent

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// Answer asks a question once at a time, and gives the answer, also an error, to all callers until it is too old. It
// bounds what callers without a token can make the database do.
type Answer[T any] struct {
	ask     func(context.Context) (T, error)
	keep    time.Duration
	timeout time.Duration

	mu     sync.Mutex
	latest *asked[T] // nil: never asked
}

// asked is the question while it runs and then its answer.
type asked[T any] struct {
	done  chan struct{} // closed when the fields below are set
	value T
	err   error
	at    time.Time // when the answer came
}

// New makes an Answer of the question ask. Each answer is kept for a time. A question runs for timeout at most.
func New[T any](keep, timeout time.Duration, ask func(context.Context) (T, error)) *Answer[T] {
	return &Answer[T]{ask: ask, keep: keep, timeout: timeout}
}

// Get is the answer that is kept, or that of the running question, or that of a new one. It waits until ctx ends at
// most. The question itself does not end with ctx, because other callers wait for it too.
func (a *Answer[T]) Get(ctx context.Context) (T, error) {
	one := a.current()
	select {
	case <-one.done:
		return one.value, one.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

func (a *Answer[T]) current() *asked[T] {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.latest != nil {
		select {
		case <-a.latest.done:
			if time.Since(a.latest.at) < a.keep {
				return a.latest
			}
		default:
			return a.latest
		}
	}
	one := &asked[T]{done: make(chan struct{})}
	a.latest = one
	go a.run(one)
	return one
}

func (a *Answer[T]) run(one *asked[T]) {
	ctx, cancel := context.WithTimeout(context.Background(), a.timeout)
	defer cancel()
	defer close(one.done)
	defer func() {
		one.at = time.Now()
		if p := recover(); p != nil { // in this goroutine it would end the process
			one.err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	one.value, one.err = a.ask(ctx)
}
