package pg

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// crew is a group whose orders are numbers. Each batch waits until the test lets it go on.
type crew struct {
	*Group[int, int]
	begun chan []int    // the orders of a batch that is under way
	goOn  chan struct{} // lets one batch go on
	ended chan error    // how the context of a batch ended, when it went on

	mu       sync.Mutex
	fails    map[int]error // the error of a batch with that order
	settles  map[int]bool  // orders that are settled before the batch fails
	later    map[int]int   // how often an order is put off
	held     map[int]int   // how often the row of an order is held
	batches  atomic.Int64
	now, top atomic.Int64 // batches under way, and their highest number
}

// forever is the number of times that an order is put off until its caller leaves.
const forever = 1 << 40

func newCrew(lanes, waiters int) *crew {
	c := &crew{
		begun: make(chan []int, 1000), goOn: make(chan struct{}, 1000), ended: make(chan error, 1000),
		fails: map[int]error{}, settles: map[int]bool{}, later: map[int]int{}, held: map[int]int{},
	}
	c.Group = &Group[int, int]{room: newWaitingRoom(waiters, lockPatience), lanes: lanes, run: c.carry}
	return c
}

// free lets all batches go on.
func (c *crew) free() *crew {
	close(c.goOn)
	return c
}

func (c *crew) carry(ctx context.Context, members []*Member[int, int]) error {
	c.batches.Add(1)
	now := c.now.Add(1)
	defer c.now.Add(-1)
	c.top.Store(max(now, c.top.Load()))
	var orders []int
	for _, m := range members {
		orders = append(orders, m.Order)
	}
	// A batch does not wait for the test to read: an order that is put off for ever begins any number of batches.
	select {
	case c.begun <- orders:
	default:
	}
	select {
	case <-c.goOn:
	case <-ctx.Done():
	}
	select {
	case c.ended <- ctx.Err():
	default:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range members {
		if c.settles[m.Order] {
			m.Settle(2*m.Order, nil)
		}
	}
	for _, m := range members {
		if err := c.fails[m.Order]; err == errPanicked {
			panic("on purpose")
		} else if err != nil {
			return err
		}
	}
	for _, m := range members {
		switch {
		case c.later[m.Order] > 0:
			c.later[m.Order]--
			m.Later()
		case c.held[m.Order] > 0:
			c.held[m.Order]--
			m.Held()
		default:
			m.Settle(2*m.Order, nil)
		}
	}
	return nil
}

type outcome struct {
	result int
	err    error
}

// ask sends orders and returns when all wait: the first one in a batch that is under way, the others for the next
// batch.
func (c *crew) ask(t *testing.T, ctx context.Context, orders ...int) (outcomes []chan outcome) {
	t.Helper()
	for i, n := range orders {
		told := make(chan outcome, 1)
		outcomes = append(outcomes, told)
		go func() {
			r, err := c.Do(ctx, n)
			told <- outcome{r, err}
		}()
		if i == 0 {
			receive(t, c.begun)
			continue
		}
		until(t, "an order joins", func() bool { return c.Queued() >= i })
	}
	return outcomes
}

// receive is <-c with a bound: a test that waits in vain fails, and does not stop the tests of the package.
func receive[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(time.Minute):
		t.Fatal("nothing received within a minute")
		panic("unreachable")
	}
}

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// wantIdle checks that no lane is taken, no command waits and no member is left.
func (c *crew) wantIdle(t *testing.T) {
	t.Helper()
	until(t, "the group is idle", func() bool {
		c.Group.mu.Lock()
		defer c.Group.mu.Unlock()
		now, _, _ := c.room.state()
		return c.taken == 0 && len(c.queue) == 0 && len(c.Group.held) == 0 && !c.retrying && now == 0
	})
}

func TestGroupBatchesOrdersThatArriveMeanwhile(t *testing.T) {
	t.Parallel()
	c := newCrew(1, 10)
	c.later[4] = 1
	told := c.ask(t, t.Context(), 1, 2, 3, 4)
	c.goOn <- struct{}{}
	if batch := receive(t, c.begun); !slices.Equal(batch, []int{2, 3, 4}) {
		t.Errorf("the second batch is %v", batch)
	}
	c.goOn <- struct{}{}
	if batch := receive(t, c.begun); !slices.Equal(batch, []int{4}) {
		t.Errorf("the third batch is %v", batch)
	}
	c.goOn <- struct{}{}
	for i, want := range []int{2, 4, 6, 8} {
		if got := receive(t, told[i]); got != (outcome{want, nil}) {
			t.Errorf("order %d: %v", i, got)
		}
	}
	c.wantIdle(t)
}

var (
	ofData = &pgconn.PgError{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: "22P05"}
	ending = &pgconn.PgError{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "57P01"}
)

// TestGroupRunsAgainAfterErrorsOfDataOnly: an error of the data of one order fails only that order, in a bounded number
// of batches. After any other error no batch runs again, so that a sick database gets no additional work.
func TestGroupRunsAgainAfterErrorsOfDataOnly(t *testing.T) {
	t.Parallel()
	orders := make([]int, 101)
	for i := range orders {
		orders[i] = i
	}
	of := func(code string) error {
		return &pgconn.PgError{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: code}
	}
	for name, test := range map[string]struct {
		err   error
		alone bool
	}{
		"data exception":            {of("22P05"), true},
		"constraint":                {of("23505"), true},
		"statement time-out":        {of("57014"), false},
		"lock time-out":             {of("55P03"), false},
		"no space":                  {of("53100"), false},
		"a file is gone":            {of("58P01"), false},
		"internal error":            {of("XX000"), false},
		"no right":                  {of("42501"), false},
		"ended by the database":     {ending, false},
		"ended with a class 22":     {&pgconn.PgError{SeverityUnlocalized: "FATAL", Code: "22000"}, false},
		"a connection lost":         {io.ErrUnexpectedEOF, false},
		"the deadline of the batch": {context.DeadlineExceeded, false},
		"a panic":                   {errPanicked, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCrew(1, 10)
			c.fails[57] = test.err
			told := c.ask(t, t.Context(), orders...)
			close(c.goOn)
			for n, one := range told {
				got := receive(t, one)
				failed := n == 57 || !test.alone && n > 0
				switch {
				case !failed && got != (outcome{2 * n, nil}):
					t.Errorf("order %d: %v", n, got)
				case failed && !errors.Is(got.err, test.err) && !strings.Contains(got.err.Error(), "panic: on purpose"):
					t.Errorf("order %d: %v", n, got)
				}
			}
			// The first batch, the batch of the others, and two halves for each halving of a hundred orders.
			if n := c.batches.Load(); test.alone && n > 2+2*7 || !test.alone && n != 2 {
				t.Errorf("%d batches", n)
			}
			delete(c.fails, 57)
			if got, err := c.Do(t.Context(), 5); got != 10 || err != nil {
				t.Errorf("afterwards: %d, %v", got, err)
			}
			c.wantIdle(t)
		})
	}
}

// TestGroupBoundsTransactionsOfABadBatch: a batch in which every order has bad data costs fewer than two transactions
// for each order.
func TestGroupBoundsTransactionsOfABadBatch(t *testing.T) {
	t.Parallel()
	c := newCrew(1, 10)
	orders := make([]int, 101)
	for i := range orders {
		orders[i] = i
		c.fails[i] = ofData
	}
	told := c.ask(t, t.Context(), orders...)
	close(c.goOn)
	for _, one := range told {
		if got := receive(t, one); !errors.Is(got.err, ofData) {
			t.Error(got)
		}
	}
	if n := c.batches.Load(); n > 1+2*100 {
		t.Errorf("%d batches", n)
	}
}

// TestGroupKeepsSettledOutcomes: an outcome that is certain before its batch fails stays, and its order is not carried
// out again.
func TestGroupKeepsSettledOutcomes(t *testing.T) {
	t.Parallel()
	for _, err := range []error{ofData, ending, errPanicked} {
		c := newCrew(1, 10)
		c.fails[3], c.settles[2] = err, true
		told := c.ask(t, t.Context(), 1, 2, 3, 4)
		close(c.goOn)
		if got := receive(t, told[1]); got != (outcome{4, nil}) {
			t.Errorf("%v: a settled order: %v", err, got)
		}
		if got := receive(t, told[2]); got.err == nil {
			t.Errorf("%v: a failed order: %v", err, got)
		}
		receive(t, told[3])
		times := 0
		for len(c.begun) > 0 {
			if slices.Contains(receive(t, c.begun), 2) {
				times++
			}
		}
		if times != 1 {
			t.Errorf("%v: the settled order was carried out %d times", err, times)
		}
	}
}

// TestGroupKeepsTheStackOfAPanic: the error holds the stack, so that the log shows where the panic was.
func TestGroupKeepsTheStackOfAPanic(t *testing.T) {
	t.Parallel()
	c := newCrew(1, 10).free()
	c.fails[1] = errPanicked
	if _,
		err := c.Do(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "on purpose") ||
		!strings.Contains(err.Error(), "(*crew).carry") {
		t.Errorf("%v", err)
	}
}

func TestGroupReportsABatchWithoutOutcome(t *testing.T) {
	t.Parallel()
	g := &Group[int, int]{room: newWaitingRoom(1, lockPatience), lanes: 1,
		run: func(context.Context, []*Member[int, int]) error { return nil }}
	if _, err := g.Do(t.Context(), 1); !errors.Is(err, errUnsettled) {
		t.Errorf("%v", err)
	}
}

func TestGroupLeaving(t *testing.T) {
	t.Parallel()
	for _, abandonable := range []bool{false, true} {
		c := newCrew(1, 10)
		c.abandonable = abandonable
		ctx, cancel := context.WithCancel(t.Context())
		told := c.ask(t, ctx, 1, 2)
		cancel()
		if got := receive(t, told[1]); !errors.Is(got.err, context.Canceled) {
			t.Errorf("in the queue: %v", got)
		}
		if abandonable {
			if got := receive(t, told[0]); !errors.Is(got.err, context.Canceled) {
				t.Errorf("under way: %v", got)
			}
			if err := receive(t, c.ended); !errors.Is(err, context.Canceled) {
				t.Errorf("the batch goes on without a caller: %v", err)
			}
			continue
		}
		c.goOn <- struct{}{}
		if got := receive(t, told[0]); got.err != nil {
			t.Errorf("under way: %v", got)
		}
		if err := receive(t, c.ended); err != nil {
			t.Errorf("the batch was cancelled: %v", err)
		}
		c.wantIdle(t)
	}
}

// TestGroupLetsPostponedCallersLeave: a caller that gives up while its order is under way gets its answer when the
// order is put off. A caller whose order was put off may leave at any time.
func TestGroupLetsPostponedCallersLeave(t *testing.T) {
	t.Parallel()
	for name, putOff := range map[string]func(*crew){
		"to the next batch":     func(c *crew) { c.later[1] = forever },
		"until its row is free": func(c *crew) { c.held[1] = forever },
	} {
		t.Run("under way, then put off "+name, func(t *testing.T) {
			t.Parallel()
			c := newCrew(1, 10)
			putOff(c)
			ctx, cancel := context.WithCancel(t.Context())
			told := c.ask(t, ctx, 1)
			cancel()
			close(c.goOn)
			if got := receive(t, told[0]); !errors.Is(got.err, context.Canceled) {
				t.Error(got)
			}
			c.wantIdle(t)
		})
		t.Run("put off "+name, func(t *testing.T) {
			t.Parallel()
			c := newCrew(1, 10)
			putOff(c)
			ctx, cancel := context.WithCancel(t.Context())
			told := c.ask(t, ctx, 1)
			close(c.goOn)
			receive(t, c.begun) // the order has been put off once
			cancel()
			if got := receive(t, told[0]); !errors.Is(got.err, context.Canceled) {
				t.Error(got)
			}
			c.wantIdle(t)
		})
	}
}

// TestGroupWaitsForHeldRows: an order whose row is held is carried out when the row is free. The other orders do not
// wait for it.
func TestGroupWaitsForHeldRows(t *testing.T) {
	t.Parallel()
	c := newCrew(1, 10)
	c.held[1] = 5
	told := c.ask(t, t.Context(), 1, 2)
	close(c.goOn)
	if got := receive(t, told[1]); got != (outcome{4, nil}) {
		t.Errorf("beside a held row: %v", got)
	}
	if now, _, _ := c.room.state(); now != 1 {
		t.Errorf("%d orders wait", now)
	}
	if got := receive(t, told[0]); got != (outcome{2, nil}) {
		t.Errorf("when the row is free: %v", got)
	}
	c.wantIdle(t)
}

// TestGroupBoundsWaiters: when all places are taken an order whose row is held is refused at once. When a waiter
// leaves, the next such order gets its place.
func TestGroupBoundsWaiters(t *testing.T) {
	t.Parallel()
	c := newCrew(1, 2).free()
	const many = 1 << 30
	c.held[1], c.held[2], c.held[3] = many, many, many
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan outcome, 2)
	for n := 1; n <= 2; n++ {
		go func() { r, err := c.Do(ctx, n); told <- outcome{r, err} }()
	}
	until(t, "two orders wait", func() bool { now, _, _ := c.room.state(); return now == 2 })
	if _, err := c.Do(t.Context(), 3); !errors.Is(err, ErrCrowded) || !Unavailable(err) {
		t.Errorf("beyond the bound: %v", err)
	}
	if _, _, refused := c.room.state(); refused != 1 {
		t.Errorf("%d refused", refused)
	}
	cancel()
	receive(t, told)
	receive(t, told)
	c.mu.Lock()
	c.held[3] = 1
	c.mu.Unlock()
	if got, err := c.Do(t.Context(), 3); got != 6 || err != nil {
		t.Errorf("with a place: %d, %v", got, err)
	}
	c.wantIdle(t)
}

// TestGroupBoundsPatience: a command gives up a row that stays held for longer than lockPatience.
func TestGroupBoundsPatience(t *testing.T) {
	t.Parallel()
	c := newCrew(1, 2).free()
	c.held[1] = 1 << 30
	go func() {
		for range c.begun { //nolint:revive // the batches need no check
			<-c.ended
		}
	}()
	begin := time.Now()
	if _, err := c.Do(t.Context(), 1); !errors.Is(err, ErrHeld) || !Unavailable(err) {
		t.Errorf("%v", err)
	}
	if took := time.Since(begin); took < lockPatience {
		t.Errorf("given up after %s", took)
	}
	c.wantIdle(t)
}

// TestGroupBoundsItsBatches: a batch has 200 members at most, and 20 seconds at most, whatever its callers allow.
func TestGroupBoundsItsBatches(t *testing.T) {
	t.Parallel()
	type batch struct {
		members int
		left    time.Duration
		bounded bool
	}
	batches, goOn := make(chan batch, 9), make(chan struct{})
	g := &Group[int, int]{room: newWaitingRoom(9, lockPatience), lanes: 1}
	g.run = func(ctx context.Context, members []*Member[int, int]) error {
		end, bounded := ctx.Deadline()
		batches <- batch{len(members), time.Until(end), bounded}
		<-goOn
		for _, m := range members {
			m.Settle(m.Order, nil)
		}
		return nil
	}
	const n = 450
	told := make(chan error, n+1)
	do := func() { _, err := g.Do(t.Context(), 1); told <- err }
	go do()
	all := []batch{receive(t, batches)}
	for range n {
		go do()
	}
	until(t, "all wait", func() bool { return g.Queued() == n })
	close(goOn)
	for range n + 1 {
		if err := receive(t, told); err != nil {
			t.Fatal(err)
		}
	}
	close(batches)
	for b := range batches {
		all = append(all, b)
	}
	var sizes []int
	for _, b := range all {
		sizes = append(sizes, b.members)
		if !b.bounded || b.left > 20*time.Second {
			t.Errorf("a batch may take %v, bounded: %t", b.left, b.bounded)
		}
	}
	if !slices.Equal(sizes, []int{1, 200, 200, 50}) {
		t.Errorf("batches of %v", sizes)
	}
}

// TestGroupBoundsItsQueue: when the queue is full an order is refused at once.
func TestGroupBoundsItsQueue(t *testing.T) {
	t.Parallel()
	c := newCrew(1, 2)
	told := c.ask(t, t.Context(), 1)
	c.Group.mu.Lock()
	c.queue = make([]*Member[int, int], 4096)
	c.Group.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := c.Do(ctx, 2); !errors.Is(err, ErrCrowded) {
		t.Errorf("beyond the bound: %v", err)
	}
	c.Group.mu.Lock()
	c.queue = nil
	c.Group.mu.Unlock()
	close(c.goOn)
	receive(t, told[0])
	c.wantIdle(t)
}

func TestGroupInLanes(t *testing.T) {
	t.Parallel()
	c := newCrew(3, 10).free()
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
	var all sync.WaitGroup
	for n := range 1000 {
		all.Go(func() {
			if got, err := c.Do(t.Context(), n); got != 2*n || err != nil {
				t.Errorf("%d: %d, %v", n, got, err)
			}
		})
	}
	all.Wait()
	if n := c.top.Load(); n > 3 {
		t.Errorf("%d batches at a time", n)
	}
	c.wantIdle(t)
	close(stop)
}
