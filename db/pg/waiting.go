package pg

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// DefaultWaiters is how many commands of a process may wait for held rows at a time, where Config sets no number.
const DefaultWaiters = 100

const (
	// lockPatience is how long a statement waits for a lock, and how long a command waits for a held row by default.
	lockPatience = 5 * time.Second
	// lockRetryPause is the time between two looks at whether a held row is free. It is the most time that a command loses
	// after the row has become free. One look is one statement for all commands that wait.
	lockRetryPause = 20 * time.Millisecond
)

var (
	// ErrCrowded: the highest number of commands wait already. Nothing has been done.
	ErrCrowded = errors.New("too many commands wait already")
	// ErrHeld: another transaction held a row for longer than a command waits. Nothing has been done.
	ErrHeld = errors.New("another transaction has held a row for too long")
	// ErrNoConnection: all connections of the pool were in use for longer than a command waits. Nothing has been done.
	ErrNoConnection = errors.New("no connection of the pool was free")
)

// waitingRoom limits how many commands of a process wait for held rows at a time. A command that waits there has no
// connection: after a pause it looks again whether the row is free. So waiting commands leave the connections of the
// pool to the other commands.
type waitingRoom struct {
	most     int64
	patience time.Duration // of each command
	now      atomic.Int64
	refused  atomic.Int64
}

func newWaitingRoom(most int, patience time.Duration) *waitingRoom {
	return &waitingRoom{most: int64(most), patience: patience}
}

// enter takes a place; false: all places are taken.
func (r *waitingRoom) enter() bool {
	if r.now.Add(1) > r.most {
		r.now.Add(-1)
		r.refuse()
		return false
	}
	return true
}

func (r *waitingRoom) leave() { r.now.Add(-1) }

// refuse counts a refused command.
func (r *waitingRoom) refuse() { r.refused.Add(1) }

func (r *waitingRoom) state() (now, most int, refused int64) {
	return int(r.now.Load()), int(r.most), r.refused.Load()
}

// patiently is DB.Patiently.
func (r *waitingRoom) patiently(ctx context.Context, try func() (held bool, err error)) error {
	held, err := try()
	if !held || err != nil {
		return err
	}
	if !r.enter() {
		return ErrCrowded
	}
	defer r.leave()
	for end := time.Now().Add(r.patience); ; {
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
