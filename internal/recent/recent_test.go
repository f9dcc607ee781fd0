package recent_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reiestr/reiestr/internal/recent"
)

func TestConcurrentCallersShareOneQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		answer := recent.New(time.Second, time.Minute, func(context.Context) (int64, error) {
			time.Sleep(10 * time.Second)
			return asked.Add(1), nil
		})
		var running sync.WaitGroup
		for range 500 {
			running.Go(func() {
				if got, err := answer.Get(t.Context()); got != 1 || err != nil {
					t.Errorf("%d, %v", got, err)
				}
			})
		}
		running.Wait()
		time.Sleep(999 * time.Millisecond)
		if got, _ := answer.Get(t.Context()); got != 1 {
			t.Errorf("within a second: question %d", got)
		}
		time.Sleep(time.Millisecond)
		if got, _ := answer.Get(t.Context()); got != 2 {
			t.Errorf("after a second: question %d", got)
		}
	})
}

func TestErrorsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		asked := 0
		answer := recent.New(time.Second, time.Minute, func(context.Context) (int, error) { asked++; return 0, broken })
		for range 100 {
			if _, err := answer.Get(t.Context()); !errors.Is(err, broken) {
				t.Errorf("%v", err)
			}
		}
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
	})
}

// TestCallersWaitBoundedly: a caller leaves when its context ends, the question ends at its time-out, and both leave
// nothing behind (synctest fails where a goroutine is left).
func TestCallersWaitBoundedly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := recent.New(time.Second, 5*time.Second, func(ctx context.Context) (int, error) {
			<-ctx.Done()
			return 0,
				ctx.Err()
		})
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if _, err := answer.Get(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 2*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if _, err := answer.Get(t.Context()); !errors.Is(err, context.DeadlineExceeded) ||
			time.Since(start) != 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestPanicBecomesAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := recent.New(time.Second, time.Minute, func(context.Context) (int, error) { panic("dropped") })
		if _, err := answer.Get(t.Context()); err == nil || !strings.Contains(err.Error(), "dropped") ||
			!strings.Contains(err.Error(), "recent_test.go") {
			t.Errorf("%v", err)
		}
	})
}
