package db

import (
	"context"
	"errors"
	"fmt"
	"maps"
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

// mostPassedOver limits the jobs that one claim passes over because their service requests are held. A load may hold
// many.
const mostPassedOver = 10_000

// mostAttempts is how many times the transaction of a job may fail because of the job before the job ends with
// InternalError.
const mostAttempts = 5

// Job is the public view of asynchronous work.
type Job struct {
	ID               uuid.UUID
	Action           Action
	ServiceRequestID uuid.UUID
	PatientID        uuid.UUID
	Status           JobStatus
	Refusal          Refusal  // of a failed job
	AllowedCodes     []string // where the refusal is about a dictionary
	InsertedAt       time.Time
	ETA              time.Time // when the job has ended; when it is expected to end, if it is pending
}

// Jobs is the aggregate of jobs. The table of jobs is the queue too.
type Jobs struct {
	db     *statements
	news   *news
	intake *intake

	mu         sync.Mutex
	measured   time.Duration // how long the latest jobs took
	measuredAt time.Time
}

func newJobs(s *statements, n *news) *Jobs { return &Jobs{db: s, news: n, intake: newIntake(s)} }

// Accept judges an order. If no rule refuses it, Accept adds a pending job, or answers the equal job that is pending
// already (contract 4.3). When Accept returns a job, the job is durable. A Refusal: a rule refuses the order.
// TooManyPending: the client has to wait for its other jobs.
func (j *Jobs) Accept(ctx context.Context, o Order) (Job, error) {
	if err := o.prepare(); err != nil {
		return Job{}, err
	}
	a, err := j.intake.group.Do(ctx, &o)
	var full TooManyPending
	if errors.As(err, &full) {
		return Job{}, TooManyPending{Until: j.estimate(ctx, full.Until)}
	}
	if err != nil {
		return Job{}, err
	}
	return Job{
		ID: a.id, Action: o.Action, ServiceRequestID: o.ServiceRequestID, PatientID: a.patient, Status: Pending,
		InsertedAt: a.insertedAt, ETA: j.estimate(ctx, latest(a.insertedAt, a.beginsAt)),
	}, nil
}

// Added receives a signal after jobs have been accepted through this DB. Several acceptances may share one signal.
func (j *Jobs) Added() <-chan struct{} { return j.intake.added }

// Get finds a job of the client. ErrNotFound: there is none, or it belongs to another client.
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
		if job.AllowedCodes, err = job.Refusal.allowedCodes(ctx, j.db.read()); err != nil {
			return Job{}, err
		}
	}
	if row.EndedAt != nil {
		job.ETA = *row.EndedAt
	} else {
		job.ETA = j.estimate(ctx, latest(row.InsertedAt, row.BeginsAt))
	}
	return job, nil
}

// Await waits until the job has ended or enough is closed, and answers the job as Get does.
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

// estimate adds the present duration of jobs to the moment from which a job waits for its turn: that of its acceptance,
// or the next try of another job for which it has to wait. If the result is in the past, the duration is counted from
// now. The measurement is at most a second old.
func (j *Jobs) estimate(ctx context.Context, from time.Time) time.Time {
	j.mu.Lock()
	stale := time.Since(j.measuredAt) > time.Second
	if stale {
		j.measuredAt = time.Now() // one caller measures, the others use the last value
	}
	took := j.measured
	j.mu.Unlock()
	if stale {
		// If the measurement fails the last one is used.
		if seconds, err := j.db.read().MeasureJobs(ctx); err == nil {
			took = time.Duration(seconds * float64(time.Second))
			j.mu.Lock()
			j.measured = took
			j.mu.Unlock()
		}
	}
	eta, now := from.Add(took), time.Now()
	if eta.Before(now) {
		eta = now.Add(took)
	}
	return eta
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// Claim tells Run which pending jobs to take.
type Claim struct {
	Size     int  // the largest number of jobs; of each service request only one
	Repeated bool // take jobs that could not be carried out before and whose pause is over; false: jobs not tried yet
}

// Run takes pending jobs, oldest first, and ends each of them, in one transaction: the locks of the service requests,
// the ladder, the effect with histories and events, the results of the jobs. It passes over jobs whose service request
// another transaction holds, and jobs with an action that this program does not know. It answers the jobs that it has
// taken. After an error, or when the process dies, all of them are pending as before. A panic is an error (pg.Panic)
// too, so that its jobs are known.
func (j *Jobs) Run(ctx context.Context, c Claim) (taken []uuid.UUID, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("run jobs: %w", pg.Panicked(p))
		}
	}()
	err = j.db.transact(ctx, "run jobs", func(t *transaction) error {
		taken = taken[:0] // of an earlier try
		byAction, runs, err := claim(ctx, t.now(), c)
		if err != nil || len(runs) == 0 {
			return err
		}
		for _, run := range runs {
			taken = append(taken, run.ID)
		}
		t.Observe(j.db.observer.Jobs(t.Context(), runs))
		refusals := make(map[uuid.UUID]Refusal, len(runs))
		for action, orders := range byAction {
			of, err := carryOut(ctx, t.now(), j.db.moment(), action, orders)
			if err != nil {
				return fmt.Errorf("%s: %w", action, err)
			}
			maps.Copy(refusals, of)
		}
		var ended sqlc.EndJobsParams
		for i := range runs {
			runs[i].Refusal = refusals[runs[i].ID]
			ended.Ids = append(ended.Ids, runs[i].ID)
			ended.Refusals = append(ended.Refusals, string(runs[i].Refusal))
		}
		rows, err := t.now().EndJobs(ctx, ended)
		if err == nil && rows != int64(len(runs)) {
			err = fmt.Errorf("%d jobs claimed, %d still pending at their end: %w", len(runs), rows, errNotAsDecided)
		}
		return err
	})
	if err == nil {
		j.news.tell(taken)
	}
	return taken, err
}

// claim locks pending jobs and their service requests. It answers the orders of the jobs by action, and the jobs in the
// order of the claim.
func claim(ctx context.Context, q *sqlc.Queries, c Claim) (byAction map[Action][]*Order, runs []JobRun, err error) {
	var rows []sqlc.ClaimJobsRow
	if c.Repeated {
		var repeated []sqlc.ClaimRepeatedJobsRow
		repeated, err = q.ClaimRepeatedJobs(ctx, sqlc.ClaimRepeatedJobsParams{
			Actions: knownActions, BatchSize: int32(c.Size), WalkSize: mostPassedOver,
		})
		for _, r := range repeated {
			rows = append(rows, sqlc.ClaimJobsRow(r))
		}
	} else {
		rows, err = q.ClaimJobs(ctx, sqlc.ClaimJobsParams{
			Actions: knownActions, BatchSize: int32(c.Size), WalkSize: mostPassedOver,
		})
	}
	byAction = map[Action][]*Order{}
	for _, r := range rows {
		action := Action(r.Action)
		byAction[action] = append(byAction[action], &Order{
			Action: action, ServiceRequestID: r.ServiceRequestID, Caller: Caller{r.UserID, r.ClientID}, job: r.ID, body: r.Body,
		})
		run := JobRun{ID: r.ID, Action: action}
		if r.TraceContext != nil {
			run.Trace = *r.TraceContext
		}
		runs = append(runs, run)
	}
	return byAction, runs, err
}

// CountAttempt records that a job made its transaction fail. The job runs again, alone, after a pause that doubles with
// each attempt. The fifth attempt ends it with InternalError. It tells whether the job has ended.
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

// Postpone puts aside a job that could not be carried out for a reason outside of the job. No attempt is counted. The
// job runs again, alone, after a pause as long as the time since its acceptance, so that the pauses double; least and
// most limit the pause.
func (j *Jobs) Postpone(ctx context.Context, id uuid.UUID, least, most time.Duration) error {
	_, err := j.db.read().PostponeJob(ctx, sqlc.PostponeJobParams{
		ID: id, LeastSeconds: least.Seconds(), MostSeconds: most.Seconds(),
	})
	return err
}

// JobsFault tells whether an error of Run for a single job follows from the job itself: from its data (classes 22 and
// 23), an exception that a rule raises (P0001), a statement that takes too long, a panic, or a state other than the one
// that was decided on. Only these errors may end the job. All others follow from the state of the database.
func JobsFault(err error) bool {
	return raised(err) || pg.SQLSTATE(err) == timedOut || ownFault(err)
}

// Prune removes the jobs that ended longer ago than the retention, and answers their number.
func (j *Jobs) Prune(ctx context.Context, retention time.Duration) (pruned int64, err error) {
	batch := sqlc.PruneJobsParams{RetentionSeconds: retention.Seconds(), BatchSize: prunedAtOnce}
	for {
		var row sqlc.PruneJobsRow
		err := j.db.transact(ctx, "prune jobs", func(t *transaction) (err error) {
			row, err = t.last().PruneJobs(ctx, batch)
			return err
		})
		if err != nil {
			return pruned, err
		}
		j.db.observer.Pruned("jobs", row.Pruned)
		pruned += row.Pruned
		if row.Pruned < prunedAtOnce {
			return pruned, nil
		}
		batch.After = row.Last
	}
}

// Queue is the length of the queue and the age of its oldest job.
type Queue struct {
	Pending int64 // counted to a hundred thousand
	Oldest  time.Duration
}

// Queue measures the jobs that are pending.
func (j *Jobs) Queue(ctx context.Context) (Queue, error) {
	row, err := j.db.read().MeasureQueue(ctx)
	return Queue{row.Pending, time.Duration(row.OldestSeconds * float64(time.Second))}, err
}
