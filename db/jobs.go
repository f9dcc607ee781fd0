package db

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/reiestr/reiestr/db/pg"
	"github.com/reiestr/reiestr/db/sqlc"
)

// JobStatus is pending, or one of the two ends.
type JobStatus string

const (
	Pending   JobStatus = "pending"
	Processed JobStatus = "processed"
	Failed    JobStatus = "failed"
)

// mostAttempts is how often a job may make its transaction fail before it ends with InternalError.
const mostAttempts = 5

// Job is the public face of asynchronous work.
type Job struct {
	ID               uuid.UUID
	Action           Action
	ServiceRequestID uuid.UUID
	PatientID        uuid.UUID
	Status           JobStatus
	Refusal          Refusal  // of a failed job
	AllowedCodes     []string // where the refusal speaks of a dictionary
	InsertedAt       time.Time
	ETA              time.Time // the end of an ended job; the measured guess of it for a pending one
}

// Jobs are the job resource and the queue in one table.
type Jobs struct {
	db     *statements
	news   *news
	added  chan struct{}
	intake *pg.Group[acceptance, Job]

	mu         sync.Mutex
	measured   time.Duration // how long the latest jobs took
	measuredAt time.Time
}

func newJobs(s *statements, n *news) *Jobs {
	j := &Jobs{db: s, news: n, added: make(chan struct{}, 1)}
	j.intake = pg.NewGroup(s.pg, j.accept)
	return j
}

// Added receives after jobs have been accepted through this DB; several acceptances may share one signal.
func (j *Jobs) Added() <-chan struct{} { return j.added }

// Get finds a job of the client. ErrNotFound: there is none, or it is another client's.
func (j *Jobs) Get(ctx context.Context, clientID, id uuid.UUID) (Job, error) {
	row, err := j.db.shared().GetJob(ctx, sqlc.GetJobParams{ID: id, ClientID: clientID})
	if errors.Is(err, pgx.ErrNoRows) {
		return Job{}, ErrNotFound
	}
	if err != nil {
		return Job{}, err
	}
	job := Job{
		ID:               row.ID,
		Action:           Action(row.Action),
		ServiceRequestID: row.ServiceRequestID,
		PatientID:        row.PatientID,
		Status:           JobStatus(row.Status),
		InsertedAt:       row.InsertedAt,
	}
	if row.Refusal != nil {
		job.Refusal = Refusal(*row.Refusal)
		if job.AllowedCodes, err = j.db.allowedCodes(ctx, job.Refusal); err != nil {
			return Job{}, err
		}
	}
	if row.EndedAt != nil {
		job.ETA = *row.EndedAt
	} else {
		job.ETA = j.estimate(ctx, job.InsertedAt)
	}
	return job, nil
}

// Await is Get that waits for the end of the job, until it has ended or enough is closed; then it takes a last look.
func (j *Jobs) Await(ctx context.Context, clientID, id uuid.UUID, enough <-chan struct{}) (Job, error) {
	w := j.news.subscribe(id, 0)
	defer w.done()
	for {
		job, err := j.Get(ctx, clientID, id)
		if err != nil || job.Status != Pending {
			return job, err
		}
		select {
		case <-ctx.Done():
			return Job{}, ctx.Err()
		case <-enough:
			return j.Get(ctx, clientID, id)
		case <-w.woken:
		}
	}
}

// estimate adds the time that jobs take at the moment to that of acceptance; a job that is overdue is given that time once more from
// now. The measurement is at most a second old.
func (j *Jobs) estimate(ctx context.Context, acceptedAt time.Time) time.Time {
	j.mu.Lock()
	stale := time.Since(j.measuredAt) > time.Second
	if stale {
		j.measuredAt = time.Now() // one caller measures, the others take the last value
	}
	took := j.measured
	j.mu.Unlock()
	if stale {
		// Without a measurement there is still an answer: the last one.
		if seconds, err := j.db.read().MeasureJobs(ctx); err == nil {
			took = time.Duration(seconds * float64(time.Second))
			j.mu.Lock()
			j.measured = took
			j.mu.Unlock()
		}
	}
	eta, now := acceptedAt.Add(took), time.Now()
	if eta.Before(now) {
		eta = now.Add(took)
	}
	return eta
}

// Claim says which pending jobs Run may take.
type Claim struct {
	Size         int  // at most so many, one of a service request
	FailedBefore bool // those that made a transaction fail before, whose pause is over; else those that did not
}

// Run takes pending jobs, oldest first, and ends each, in one transaction: ladder and effect under the locks of the service requests,
// histories, events and the jobs' results. It returns the jobs it took. After an error, or when the process dies, all of them are pending
// as before; a panic is an error too, so that the jobs that brought it about are known.
func (j *Jobs) Run(ctx context.Context, c Claim) (taken []uuid.UUID, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("run jobs: %w", pg.Panicked(p))
		}
	}()
	err = j.db.transact(ctx, "run jobs", func(t *transaction) error {
		taken = taken[:0] // of a try before
		claimed, err := t.now().ClaimJobs(ctx, sqlc.ClaimJobsParams{FailedBefore: c.FailedBefore, BatchSize: int32(c.Size)})
		if err != nil || len(claimed) == 0 {
			return err
		}
		byAction := map[Action][]wanted{}
		serviceRequests := make([]uuid.UUID, len(claimed))
		runs := make([]JobRun, len(claimed))
		for i, row := range claimed {
			taken = append(taken, row.ID)
			serviceRequests[i] = row.ServiceRequestID
			action := Action(row.Action)
			byAction[action] = append(byAction[action], wanted{row.ID, row.ServiceRequestID, Caller{row.UserID, row.ClientID}, row.Body})
			runs[i] = JobRun{ID: row.ID, Action: action, Trace: orEmpty(row.TraceContext)}
		}
		t.Observe(j.db.observer.Jobs(t.Context(), runs))
		if err := t.soon().LockServiceRequests(ctx, serviceRequests); err != nil {
			return err
		}
		var ended sqlc.EndJobsParams
		for action, orders := range byAction {
			if ended, err = j.carryOut(ctx, t, action, orders, ended); err != nil {
				return fmt.Errorf("%s: %w", action, err)
			}
		}
		refusals := make(map[uuid.UUID]Refusal, len(claimed))
		for i, id := range ended.Ids {
			refusals[id] = Refusal(ended.Refusals[i])
		}
		for i := range runs {
			runs[i].Refusal = refusals[runs[i].ID]
		}
		rows, err := t.now().EndJobs(ctx, ended)
		if err == nil && rows != int64(len(claimed)) {
			err = fmt.Errorf("%d jobs claimed, %d still pending at their end", len(claimed), rows)
		}
		return err
	})
	if err == nil {
		j.news.tell(taken)
	}
	return taken, err
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// carryOut judges the orders of one action, applies those that nothing refuses, and adds the results to ended.
func (j *Jobs) carryOut(ctx context.Context, t *transaction, a Action, orders []wanted, ended sqlc.EndJobsParams) (sqlc.EndJobsParams, error) {
	rules, ok := rulesOf[a]
	if !ok {
		return ended, errors.New("no rules for this action")
	}
	verdicts, err := rules.judge(ctx, t.now(), j.db.moment(), columnsOf(orders))
	if err != nil {
		return ended, err
	}
	var allowed []wanted
	for _, o := range orders {
		refusal := verdicts[o.job].refusal
		if refusal == "" {
			allowed = append(allowed, o)
		}
		ended.Ids = append(ended.Ids, o.job)
		ended.Refusals = append(ended.Refusals, string(refusal))
	}
	if len(allowed) == 0 {
		return ended, nil
	}
	rows, err := rules.apply(ctx, t.now(), columnsOf(allowed))
	if err == nil && rows != int64(len(allowed)) {
		err = fmt.Errorf("%d allowed, %d carried out: a state is not the one that was decided on", len(allowed), rows)
	}
	return ended, err
}

// CountAttempt writes down that a job made its transaction fail. It runs again, alone, after the pause, which doubles each time; the fifth
// attempt ends it with InternalError. It tells whether the job has ended.
func (j *Jobs) CountAttempt(ctx context.Context, id uuid.UUID, pause time.Duration) (ended bool, err error) {
	row, err := j.db.read().CountJobAttempt(ctx, sqlc.CountJobAttemptParams{
		ID: id, PauseSeconds: pause.Seconds(), MostAttempts: mostAttempts,
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return true, nil
	}
	ended = err == nil && JobStatus(row.Status) != Pending
	if ended {
		j.news.tell([]uuid.UUID{id})
	}
	return ended, err
}

// Queue is the length of the queue and what waits longest in it.
type Queue struct {
	Pending int64 // counted to a hundred thousand
	Oldest  time.Duration
}

// Queue measures the jobs that are pending.
func (j *Jobs) Queue(ctx context.Context) (Queue, error) {
	row, err := j.db.read().MeasureQueue(ctx)
	return Queue{row.Pending, time.Duration(row.OldestSeconds * float64(time.Second))}, err
}
