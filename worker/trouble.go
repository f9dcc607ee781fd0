package worker

import (
	"context"
	"sync"
	"time"
)

const (
	// The pause of all workers after an error of the database. It doubles with each error until a job is carried out.
	leastPause, mostPause = 250 * time.Millisecond, 8 * time.Second
	// The pause of a job that the state of the database prevents.
	leastPostponed, mostPostponed = time.Second, 30 * time.Second
	// jobsInTrouble is how many jobs in a row may fail, each for a reason outside of the job, before the workers pause:
	// the cause is then the database, and not the rows of a single job.
	jobsInTrouble = 3
	// troubleForgotten is the age at which an error no longer counts. It is longer than any pause, so an error that
	// persists is met again before.
	troubleForgotten = 2 * mostPostponed
)

// trouble is the last error that prevented the workers of a pool from carrying out jobs. All workers pause because of
// it.
type trouble struct {
	mu     sync.Mutex
	err    error // nil: none
	at     time.Time
	ofJobs int           // how many jobs in a row have failed; 0: the error is not that of a job
	pause  time.Duration // the last one
	until  time.Time     // when it ends
}

// note records an error, of a single job or of the database, and answers how long the workers pause.
func (t *trouble) note(err error, ofJob bool) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err, t.at = err, time.Now()
	if ofJob {
		if t.ofJobs++; t.ofJobs < jobsInTrouble {
			return 0
		}
	} else {
		t.ofJobs = 0
	}
	if t.at.After(t.until) { // else another worker has met the same error
		t.pause = min(max(2*t.pause, leastPause), mostPause)
		t.until = t.at.Add(t.pause)
	}
	return t.until.Sub(t.at)
}

// ended records a transaction that has ended that number of jobs. A transaction without jobs shows that the database
// answers, but not that it can carry out the jobs that were put aside.
func (t *trouble) ended(jobs int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if jobs > 0 || t.ofJobs == 0 {
		t.err, t.ofJobs, t.pause = nil, 0, 0
	}
}

// last is the last error; nil: there was none, or none for a long time.
func (t *trouble) last() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.at) > troubleForgotten {
		return nil
	}
	return t.err
}

func (t *trouble) pausing() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Now().Before(t.until)
}

// wait returns at the end of the pause, or when ctx ends.
func (t *trouble) wait(ctx context.Context) {
	for ctx.Err() == nil && t.pausing() {
		t.mu.Lock()
		left := time.Until(t.until)
		t.mu.Unlock()
		pause(ctx, left)
	}
}
