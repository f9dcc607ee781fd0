package pg

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

const (
	// mostTogether is the largest number of members of a batch.
	mostTogether = 200
	// batchTimeout limits the time of a batch, however long its callers would wait.
	batchTimeout = 20 * time.Second
	// mostQueued is the largest number of members that wait for a batch.
	mostQueued = 4096
)

// Group carries out simultaneous commands in batches (group commit), so that the commands share round trips, statements
// and commits. A group runs as many batches at a time as it has lanes. Commands that arrive while all lanes are busy
// form the next batch. So no command waits for others to arrive, and the more commands arrive the less each costs.
//
// A command waits for its batch, and then, if its rows are held, without a connection until they are free. Both queues
// are bounded: when one is full a command is refused at once with ErrCrowded.
type Group[O, R any] struct {
	room  *waitingRoom
	lanes int
	// run carries out a batch. It settles or puts off each member. If it returns an error, this is the outcome of all
	// members that it has not settled.
	run func(context.Context, []*Member[O, R]) error
	// abandonable: a caller need not know the outcome of its command. It may leave at any time, and a batch whose callers
	// have all left is cancelled.
	abandonable bool

	mu       sync.Mutex
	queue    []*Member[O, R] // in the order in which they are to be carried out
	held     []*Member[O, R] // put off until their rows may be free
	retrying bool            // a timer runs that brings held members back into the queue
	taken    int             // busy lanes
}

// Member is one command in a group. Only run calls its methods, and only while it carries out the batch of the member.
type Member[O, R any] struct {
	Order O

	ctx    context.Context // of the caller
	state  memberState
	result R
	err    error
	done   chan struct{} // closed when result and err are final

	// Guarded by the group.
	batch    *batch    // nil: in the queue, or held
	waits    bool      // has a place in the waiting room
	waitsTil time.Time // when the command gives up a held row
}

type memberState int

const (
	open    memberState = iota // no outcome yet
	settled                    // has result and err
	later                      // belongs into the next batch
	blocked                    // another transaction holds a row that it needs
)

// batch is the batch of a member.
type batch struct {
	callers int // callers that still wait for the outcome
	cancel  context.CancelFunc
}

// Context is the context of the caller.
func (m *Member[O, R]) Context() context.Context { return m.ctx }

// Settle sets the outcome of a command. Call it as soon as the outcome is certain: a later error of the batch does not
// change it.
func (m *Member[O, R]) Settle(result R, err error) { m.result, m.err, m.state = result, err, settled }

// Later puts a command off to the next batch.
func (m *Member[O, R]) Later() { m.state = later }

// Held puts a command off until the row that it needs may be free. The command waits without a connection, for
// Config.Patience at most.
func (m *Member[O, R]) Held() { m.state = blocked }

// Do carries out a command in a batch, and answers its outcome. If a caller gives up before its batch begins, nothing
// is done. If it gives up while its batch is under way, it still gets the outcome, unless the group is abandonable.
// Errors: ErrCrowded, ErrHeld, those of run.
func (g *Group[O, R]) Do(ctx context.Context, order O) (R, error) {
	var none R
	m := &Member[O, R]{Order: order, ctx: ctx, done: make(chan struct{})}
	if !g.join(m) {
		return none, ErrCrowded
	}
	select {
	case <-m.done:
	case <-ctx.Done():
		if g.leave(m) {
			return none, ctx.Err()
		}
		<-m.done
	}
	return m.result, m.err
}

// Queued answers the number of commands that wait for a batch.
func (g *Group[O, R]) Queued() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.queue)
}

// join puts a member at the end of the queue; false: the queue is full.
func (g *Group[O, R]) join(m *Member[O, R]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.queue) >= mostQueued {
		g.room.refuse()
		return false
	}
	g.queue = append(g.queue, m)
	g.start()
	return true
}

// start makes sure that a lane works on the queue. The group must be locked.
func (g *Group[O, R]) start() {
	if g.taken < g.lanes {
		g.taken++
		go g.work()
	}
}

// leave removes the command of a caller that gives up; false: the caller has to wait for the outcome.
func (g *Group[O, R]) leave(m *Member[O, R]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m.batch == nil {
		same := func(other *Member[O, R]) bool { return other == m }
		g.queue, g.held = slices.DeleteFunc(g.queue, same), slices.DeleteFunc(g.held, same)
		g.leaveRoom(m)
		return true
	}
	if g.abandonable {
		if m.batch.callers--; m.batch.callers == 0 {
			m.batch.cancel()
		}
	}
	return g.abandonable
}

// work is one lane: it carries out batch after batch, until the queue is empty.
func (g *Group[O, R]) work() {
	for {
		members, ctx, end := g.next()
		if members == nil {
			return
		}
		g.carryOut(ctx, members)
		end()
		g.finish(members)
	}
}

// next takes the next batch, and makes its context: the statements belong to the trace of the first member, and a
// caller that gives up does not cancel them. If the queue is empty the lane ends, and there are no members.
func (g *Group[O, R]) next() (members []*Member[O, R], ctx context.Context, end context.CancelFunc) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := min(len(g.queue), mostTogether)
	if n == 0 {
		g.taken--
		return nil, nil, nil
	}
	members = slices.Clone(g.queue[:n])
	g.queue = slices.Delete(g.queue, 0, n)
	ctx, end = context.WithTimeout(context.WithoutCancel(members[0].ctx), batchTimeout)
	b := &batch{n, end}
	for _, m := range members {
		m.batch, m.state = b, open
	}
	return members, ctx, end
}

// errUnsettled is a fault of run.
var errUnsettled = errors.New("a batch left a command without an outcome")

// carryOut runs a batch. If the database refuses it because of the data of a member (see ErrorOfData), the batch has
// changed nothing, and its two halves run in its place. So only the command with the bad data fails, after fewer than
// two transactions for each member. After any other error nothing runs again: a sick database gets no additional work,
// and a commit with an unknown outcome is not repeated.
func (g *Group[O, R]) carryOut(ctx context.Context, members []*Member[O, R]) {
	err := g.try(ctx, members)
	var left []*Member[O, R]
	for _, m := range members {
		if m.state == open {
			left = append(left, m)
		}
	}
	if len(left) > 1 && ErrorOfData(err) {
		half := len(left) / 2
		g.carryOut(ctx, left[:half])
		g.carryOut(ctx, left[half:])
		return
	}
	if err == nil {
		err = errUnsettled
	}
	var none R
	for _, m := range left {
		m.Settle(none, err)
	}
}

func (g *Group[O, R]) try(ctx context.Context, members []*Member[O, R]) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("a batch of %d commands: %w", len(members), Panicked(p))
		}
	}()
	return g.run(ctx, members)
}

// Panic is a panic as an error.
type Panic struct {
	Value any    // the result of recover
	Stack []byte // of the goroutine at the panic
}

// Error holds the stack, for the log.
func (p *Panic) Error() string { return fmt.Sprintf("panic: %v\n%s", p.Value, p.Stack) }

// Panicked is the error for the result of recover.
func Panicked(value any) error { return &Panic{value, debug.Stack()} }

// finish gives the callers their outcomes, and puts off the members without an outcome.
func (g *Group[O, R]) finish(members []*Member[O, R]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var none R
	for _, m := range members {
		if m.state != settled && m.ctx.Err() != nil { // the caller has gone
			m.Settle(none, m.ctx.Err())
		}
		if m.state == blocked {
			if err := g.enterRoom(m); err != nil {
				m.Settle(none, err)
			}
		}
		switch m.state {
		case later:
			m.batch = nil
			g.queue = append(g.queue, m)
		case blocked:
			m.batch = nil
			g.held = append(g.held, m)
			if !g.retrying {
				g.retrying = true
				time.AfterFunc(lockRetryPause, g.retry)
			}
		default:
			g.leaveRoom(m)
			close(m.done)
		}
	}
}

// retry puts the held members at the head of the queue, because they have waited longest.
func (g *Group[O, R]) retry() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.retrying = false
	if len(g.held) > 0 {
		g.queue = append(g.held, g.queue...)
		g.held = nil
		g.start()
	}
}

func (g *Group[O, R]) enterRoom(m *Member[O, R]) error {
	if !m.waits {
		if !g.room.enter() {
			return ErrCrowded
		}
		m.waits, m.waitsTil = true, time.Now().Add(g.room.patience)
	}
	if time.Now().After(m.waitsTil) {
		return ErrHeld
	}
	return nil
}

func (g *Group[O, R]) leaveRoom(m *Member[O, R]) {
	if m.waits {
		m.waits = false
		g.room.leave()
	}
}
