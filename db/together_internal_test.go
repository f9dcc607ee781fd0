package db

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// crew is a together of numbers whose groups wait to be let go.
type crew struct {
	together[int, int]
	begun   chan []int    // the orders of a group that is under way
	goOn    chan struct{} // lets one group go on
	ones    atomic.Int64  // orders carried out alone
	fails   map[int]error // what the group of an order fails with
	later   map[int]int   // how often an order is put off
	ended   chan error    // how the context of a group ended, when it went on
	tooMany atomic.Int64  // groups that were under way at a time, where they were more than lanes
	now     atomic.Int64  // groups under way
}

func newCrew(lanes int) *crew {
	c := &crew{begun: make(chan []int, 100), goOn: make(chan struct{}, 100), ended: make(chan error, 100), fails: map[int]error{}, later: map[int]int{}}
	c.lanes = lanes
	c.one = func(_ context.Context, n int) (int, error) { c.ones.Add(1); return -n, nil }
	c.many = func(ctx context.Context, group []*member[int, int]) error {
		if now := c.now.Add(1); now > int64(lanes) {
			c.tooMany.Store(now)
		}
		defer c.now.Add(-1)
		var orders []int
		for _, m := range group {
			orders = append(orders, m.order)
		}
		c.begun <- orders
		select {
		case <-c.goOn:
		case <-ctx.Done():
		}
		c.ended <- ctx.Err()
		for _, m := range group {
			switch {
			case c.fails[m.order] == errPanicked:
				panic("on purpose")
			case c.fails[m.order] != nil:
				return c.fails[m.order]
			case c.later[m.order] > 0:
				c.later[m.order]--
				m.fate = again
			case m.order < 0:
				m.fate = alone
			default:
				m.result = 2 * m.order
			}
		}
		return nil
	}
	return c
}

// ask sends orders and returns when all wait: the first in a lane that it has taken, the others for the next group.
func (c *crew) ask(t *testing.T, ctx context.Context, orders ...int) (answers []chan int, errs []chan error) {
	t.Helper()
	for i, n := range orders {
		answer, fault := make(chan int, 1), make(chan error, 1)
		answers, errs = append(answers, answer), append(errs, fault)
		go func() {
			r, err := c.do(ctx, n)
			answer <- r
			fault <- err
		}()
		if i == 0 {
			<-c.begun
			continue
		}
		for deadline := time.Now().Add(20 * time.Second); c.joined() < i; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("nobody joins")
			}
		}
	}
	return answers, errs
}

func TestTogetherGroupsWhatComesMeanwhile(t *testing.T) {
	t.Parallel()
	c := newCrew(1)
	answers, errs := c.ask(t, t.Context(), 1, 2, -3, 4)
	c.later[4] = 1
	c.goOn <- struct{}{}
	if group := <-c.begun; len(group) != 3 {
		t.Errorf("the second group is %v", group)
	}
	c.goOn <- struct{}{}
	if group := <-c.begun; len(group) != 1 || group[0] != 4 {
		t.Errorf("the third group is %v", group)
	}
	c.goOn <- struct{}{}
	for i, want := range []int{2, 4, 3, 8} {
		if got, err := <-answers[i], <-errs[i]; got != want || err != nil {
			t.Errorf("order %d: %d, %v", i, got, err)
		}
	}
	if c.ones.Load() != 1 {
		t.Errorf("%d alone", c.ones.Load())
	}
}

// TestTogetherAfterAnError: an error that says that nothing has happened makes each try alone; after any other nobody does it again.
func TestTogetherAfterAnError(t *testing.T) {
	t.Parallel()
	refused := &pgconn.PgError{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: "22P05"}
	ended := &pgconn.PgError{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "57P01"}
	for name, test := range map[string]struct {
		err  error
		ones int64
	}{
		"refused by the database": {refused, 3},
		"ended by the database":   {ended, 0},
		"a connection lost":       {io.ErrUnexpectedEOF, 0},
		"a panic":                 {errPanicked, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCrew(1)
			c.fails[3] = test.err
			answers, errs := c.ask(t, t.Context(), 1, 2, 3, 4)
			c.goOn <- struct{}{}
			<-c.begun
			c.goOn <- struct{}{}
			for i := range 4 {
				got, err := <-answers[i], <-errs[i]
				switch {
				case i == 0 && (got != 2 || err != nil), i > 0 && test.ones > 0 && (got >= 0 || err != nil):
					t.Errorf("order %d: %d, %v", i, got, err)
				case i > 0 && test.ones == 0 && !errors.Is(err, test.err) && (err == nil || !strings.Contains(err.Error(), "panic")):
					t.Errorf("order %d: %v", i, err)
				}
			}
			if c.ones.Load() != test.ones {
				t.Errorf("%d alone", c.ones.Load())
			}
			go func() { <-c.begun; c.goOn <- struct{}{} }()
			if got, err := c.do(t.Context(), 5); got != 10 || err != nil {
				t.Errorf("afterwards: %d, %v", got, err)
			}
		})
	}
}

// TestTogetherOfOneFailsOnce: who is alone in a group has no neighbour to try again for.
func TestTogetherOfOneFailsOnce(t *testing.T) {
	t.Parallel()
	c := newCrew(1)
	c.fails[1] = &pgconn.PgError{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: "22P05"}
	_, errs := c.ask(t, t.Context(), 1)
	c.goOn <- struct{}{}
	if err := <-errs[0]; !errors.Is(err, c.fails[1]) || c.ones.Load() != 0 {
		t.Errorf("%v, %d alone", err, c.ones.Load())
	}
}

func TestTogetherLeaving(t *testing.T) {
	t.Parallel()
	for _, harmless := range []bool{false, true} {
		c := newCrew(1)
		c.harmless = harmless
		ctx, cancel := context.WithCancel(t.Context())
		_, errs := c.ask(t, ctx, 1, 2)
		cancel()
		if err := <-errs[1]; !errors.Is(err, context.Canceled) {
			t.Errorf("who waits: %v", err)
		}
		if harmless {
			if err := <-errs[0]; !errors.Is(err, context.Canceled) {
				t.Errorf("who is under way: %v", err)
			}
			if err := <-c.ended; !errors.Is(err, context.Canceled) {
				t.Errorf("the group goes on for nobody: %v", err)
			}
			continue
		}
		c.goOn <- struct{}{}
		if err := <-errs[0]; err != nil {
			t.Errorf("who is under way: %v", err)
		}
		if err := <-c.ended; err != nil {
			t.Errorf("the group was cut: %v", err)
		}
	}
}

func TestTogetherInLanes(t *testing.T) {
	t.Parallel()
	c := newCrew(3)
	close(c.goOn)
	var all sync.WaitGroup
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-c.begun:
			case <-c.ended:
			case <-stop:
				return
			}
		}
	}()
	for n := range 1000 {
		all.Go(func() {
			if got, err := c.do(t.Context(), n); got != 2*n || err != nil {
				t.Errorf("%d: %d, %v", n, got, err)
			}
		})
	}
	all.Wait()
	close(stop)
	if n := c.tooMany.Load(); n > 0 {
		t.Errorf("%d groups at a time", n)
	}
	free := func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.taken == 0 && len(c.waiting) == 0
	}
	for deadline := time.Now().Add(20 * time.Second); !free(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a lane stays taken")
		}
	}
}
