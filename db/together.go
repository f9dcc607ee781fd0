package db

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// mostTogether bounds the statements of a group, and how long its first waits for its last.
	mostTogether = 200
	// togetherTimeout bounds the work for a group, whatever the patience of those in it.
	togetherTimeout = 20 * time.Second
)

// together carries out what is asked for at the same time in groups, so that it shares round trips, statements and commits. As many groups
// are under way at a time as there are lanes; what comes in while all are taken is the next group. So nobody waits for company, and the
// more come the less each costs.
type together[O, R any] struct {
	lanes int // 0: one
	// many settles each of a group: result and err, or what is to become of it instead. An error is that of the group.
	many func(context.Context, []*member[O, R]) error
	// one carries out a single order by itself.
	one func(context.Context, O) (R, error)
	// harmless: nobody has to know the outcome, so that who asked may go at any time, and a group of which all have gone is cut short.
	harmless bool

	mu      sync.Mutex
	waiting []*member[O, R]
	taken   int // lanes
}

// member is one order on its way, of whoever waits for its result.
type member[O, R any] struct {
	ctx    context.Context // of who asks: whether they still wait, and their trace
	order  O
	result R
	err    error
	fate   fate
	done   chan struct{} // closed when the three above are settled
	group  *company      // nil: still waiting for one
}

// company is those of a group who wait for the outcome.
type company struct {
	present int
	cut     context.CancelFunc
}

// fate is what becomes of a member that a group could not settle.
type fate int

const (
	settled fate = iota
	again        // it goes into a later group
	alone        // it is carried out by itself, by who asked
)

// do carries out an order in the company of others, and answers what became of it. Who gives up while waiting for a group leaves nothing
// behind; who gives up while the group is carried out is told the outcome, unless it is harmless.
func (t *together[O, R]) do(ctx context.Context, order O) (R, error) {
	m := &member[O, R]{ctx: ctx, order: order, done: make(chan struct{})}
	t.join(m)
	select {
	case <-m.done:
	case <-ctx.Done():
		if t.leave(m) {
			var none R
			return none, ctx.Err()
		}
		<-m.done
	}
	if m.fate == alone {
		return t.one(ctx, m.order)
	}
	return m.result, m.err
}

// join adds to the next group, and sees to it that somebody carries groups out.
func (t *together[O, R]) join(m *member[O, R]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting = append(t.waiting, m)
	if t.taken < max(t.lanes, 1) {
		t.taken++
		go t.work()
	}
}

// leave lets somebody go who is tired of waiting; false: the outcome has to be awaited.
func (t *together[O, R]) leave(m *member[O, R]) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m.group == nil {
		t.waiting = slices.DeleteFunc(t.waiting, func(w *member[O, R]) bool { return w == m })
		return true
	}
	if t.harmless {
		if m.group.present--; m.group.present == 0 {
			m.group.cut()
		}
	}
	return t.harmless
}

// next takes the next group, after those who are to be carried out again have joined it at its end, and the context for it: its statements
// are told to the trace of the first, and not cut short when one of them goes. None: nobody waits, and the lane is free.
func (t *together[O, R]) next(unsettled []*member[O, R]) (group []*member[O, R], ctx context.Context, end context.CancelFunc) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range unsettled {
		m.group = nil
	}
	t.waiting = append(t.waiting, unsettled...)
	n := min(len(t.waiting), mostTogether)
	if n == 0 {
		t.taken--
		return nil, nil, nil
	}
	group = slices.Clone(t.waiting[:n])
	t.waiting = slices.Delete(t.waiting, 0, n)
	ctx, end = context.WithTimeout(context.WithoutCancel(group[0].ctx), togetherTimeout)
	together := &company{n, end}
	for _, m := range group {
		m.group = together
	}
	return group, ctx, end
}

// work is one lane: group after group, until nobody waits.
func (t *together[O, R]) work() {
	var unsettled []*member[O, R]
	for {
		group, ctx, end := t.next(unsettled)
		if group == nil {
			return
		}
		err := t.try(ctx, group)
		end()
		unsettled = nil
		for _, m := range group {
			switch {
			case m.fate == again:
				m.fate = settled
				unsettled = append(unsettled, m)
				continue
			case err != nil && len(group) > 1 && undone(err): // one of them has made it fail; the others are not to suffer for it
				m.fate = alone
			case err != nil:
				m.err, m.fate = err, settled
			}
			close(m.done)
		}
	}
}

func (t *together[O, R]) try(ctx context.Context, group []*member[O, R]) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("together: panic: %v", p)
		}
	}()
	return t.many(ctx, group)
}
