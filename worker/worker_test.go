package worker_test

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/internal/dev/testdb"
	"github.com/reiestr/reiestr/worker"
)

func TestMain(m *testing.M) { os.Exit(testdb.Main(m)) }

// panicking panics in every transaction that carries out a job on one service request.
type panicking struct{ job uuid.UUID }

func (panicking) Transaction(ctx context.Context, _ string) (context.Context, func(int, error)) {
	return ctx, func(int, error) {}
}

func (panicking) Trace(context.Context) string { return "" }

func (panicking) Pruned(string, int64) {}

func (p *panicking) Jobs(ctx context.Context, runs []db.JobRun) (context.Context, func(error)) {
	if slices.ContainsFunc(runs, func(r db.JobRun) bool { return r.ID == p.job }) {
		panic("poison")
	}
	return ctx, func(error) {}
}

// TestPanickingJob: a job that makes the worker panic ends failed after its attempts; those beside it in the batch are done.
func TestPanickingJob(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	url := testdb.New(t).URL
	owner, err := testdb.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close(context.Background())
	clinic := uuid.New()
	if _, err := owner.Exec(ctx, `INSERT INTO prm.legal_entities (id, edrpou, name, type, status, inserted_by, updated_by)
		VALUES ($1, '1', 'n', 'OUTPATIENT', 'ACTIVE', $1, $1)`, clinic); err != nil {
		t.Fatal(err)
	}
	observer := &panicking{}
	app, err := db.Open(ctx, db.Config{URL: url, TimeZone: "Europe/Kyiv", Observer: observer})
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	var jobs []uuid.UUID
	for range 3 {
		id := uuid.New()
		if _, err := owner.Exec(ctx, `INSERT INTO medical_events.service_requests (id, requisition, patient_id, status, program_id,
			program_processing_status, used_by_legal_entity_id, category, expiration_date, inserted_by, updated_by)
			VALUES ($1, 'R', $1, 'active', $1, 'in_queue', $2, 'counselling', now() + interval '1 year', $2, $2)`, id, clinic); err != nil {
			t.Fatal(err)
		}
		job, err := app.Jobs.Accept(ctx, db.Order{
			Action: db.Release, ServiceRequestID: id, Caller: db.Caller{UserID: clinic, ClientID: clinic}, Body: db.ReleaseBody{},
		})
		if err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, job.ID)
	}
	observer.job = jobs[1]

	working, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { worker.New(app, slog.New(slog.DiscardHandler), 2).Run(working); close(done) }()
	defer func() { stop(); <-done }()
	deadline := time.Now().Add(time.Minute)
	for i, id := range jobs {
		for {
			job, err := app.Jobs.Get(ctx, clinic, id)
			if err != nil {
				t.Fatal(err)
			}
			if job.Status == db.Pending && time.Now().Before(deadline) {
				time.Sleep(20 * time.Millisecond)
				continue
			}
			want := db.Processed
			if i == 1 {
				want = db.Failed
			}
			if job.Status != want || (job.Refusal == db.InternalError) != (i == 1) {
				t.Errorf("job %d: %s %s", i, job.Status, job.Refusal)
			}
			break
		}
	}
}
