package pg

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// DefaultWaiters is how many commands of a process may wait for held rows at a time, where Config does not say it.
const DefaultWaiters = 100

const (
	// lockPatience is how long a command waits for a held row: as long as a statement may wait for a lock.
	lockPatience = 5 * time.Second
	// lockRetryPause is the time between two looks at whether a held row is free. It bounds what a command loses after the
	// holder has gone, and what all waiting commands cost the database: a look is one statement for all of them.
	lockRetryPause = 20 * time.Millisecond
)

var (
	// ErrCrowded: as many commands wait already as may wait. Nothing has been done.
	ErrCrowded = errors.New("too many commands wait already")
	// ErrHeld: another transaction held a row for longer than a command waits. Nothing has been done.
	ErrHeld = errors.New("another transaction has held a row for too long")
	// ErrNoConnection: all connections of the pool were in use for longer than a command waits. Nothing has been done.
	ErrNoConnection = errors.New("no connection of the pool was free")
)

// waitingRoom bounds how many commands of a process wait for held rows at a time. A command that waits there has no
// connection: it looks again, after a pause, whether the row is free. So commands that wait do not take the pool from
// those that need not.
type waitingRoom struct {
	most    int64
	now     atomic.Int64
	refused atomic.Int64
}

func newWaitingRoom(most int) *waitingRoom { return &waitingRoom{most: int64(most)} }

// enter takes a place; false: there is none.
func (r *waitingRoom) enter() bool {
	if r.now.Add(1) > r.most {
		r.now.Add(-1)
		r.refuse()
		return false
	}
	return true
}

func (r *waitingRoom) leave() { r.now.Add(-1) }

// refuse counts a command that was refused.
func (r *waitingRoom) refuse() { r.refused.Add(1) }

func (r *waitingRoom) state() (now, most int, refused int64) {
	return int(r.now.Load()), int(r.most), r.refused.Load()
}

// patiently runs try, and runs it again as long as it finds its rows held: after a pause each, for lockPatience in all.
// The command has no connection in between. Errors: ErrCrowded, ErrHeld, what try says.
func (r *waitingRoom) patiently(ctx context.Context, try func() (held bool, err error)) error {
	held, err := try()
	if !held || err != nil {
		return err
	}
	if !r.enter() {
		return ErrCrowded
	}
	defer r.leave()
	for end := time.Now().Add(lockPatience); ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockRetryPause):
		}
		if held, err = try(); !held || err != nil {
			return err
		}
		if time.Now().After(end) {
			return ErrHeld
		}
	}
}
