package worker_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/internal/dev/testdb"
	"github.com/reiestr/reiestr/worker"
)

func TestMain(m *testing.M) { os.Exit(testdb.Main(m)) }

// panicking panics in every transaction that carries out the job.
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

// registry is the database of a test with one legal entity, which acts on its service requests.
type registry struct {
	*testing.T
	owner  *pgx.Conn
	app    *db.DB
	clinic uuid.UUID
}

func newRegistry(t *testing.T, observer db.Observer) *registry {
	t.Helper()
	url := testdb.New(t).URL
	owner, err := testdb.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { owner.Close(context.Background()) })
	app, err := db.Open(t.Context(), db.Config{URL: url, TimeZone: "Europe/Kyiv", Observer: observer})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(app.Close)
	r := &registry{t, owner, app, uuid.New()}
	r.exec(`INSERT INTO prm.legal_entities (id, edrpou, name, type, status, inserted_by, updated_by)
		VALUES ($1, '1', 'n', 'OUTPATIENT', 'ACTIVE', $1, $1)`, r.clinic)
	return r
}

func (r *registry) exec(sql string, args ...any) {
	r.Helper()
	if _, err := r.owner.Exec(r.Context(), sql, args...); err != nil {
		r.Fatalf("%s: %v", sql, err)
	}
}

func (r *registry) number(sql string, args ...any) (n int) {
	r.Helper()
	if err := r.owner.QueryRow(r.Context(), sql, args...).Scan(&n); err != nil {
		r.Fatalf("%s: %v", sql, err)
	}
	return n
}

// release accepts the release of a new service request, and answers its job.
func (r *registry) release() (serviceRequest, job uuid.UUID) {
	r.Helper()
	id := uuid.New()
	r.exec(`INSERT INTO medical_events.service_requests (id, requisition, patient_id, status, program_id,
		program_processing_status, used_by_legal_entity_id, category, expiration_date, inserted_by, updated_by)
		VALUES ($1, 'R', $1, 'active', $1, 'in_queue', $2, 'counselling', now() + interval '1 year', $2, $2)`, id, r.clinic)
	accepted, err := r.app.Jobs.Accept(r.Context(), db.Order{
		Action: db.Release, ServiceRequestID: id, Caller: db.Caller{UserID: r.clinic, ClientID: r.clinic},
		Body: db.ReleaseBody{},
	})
	if err != nil {
		r.Fatal(err)
	}
	return id, accepted.ID
}

// poison makes each change of service requests that meet the condition raise an error.
func (r *registry) poison(sqlState, condition string) (cure func()) {
	r.Helper()
	r.exec(`CREATE FUNCTION medical_events.poison() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN RAISE EXCEPTION 'poison' USING ERRCODE = '` + sqlState + `'; END $$`)
	r.exec(`CREATE TRIGGER poison BEFORE UPDATE ON medical_events.service_requests
		FOR EACH ROW WHEN (` + condition + `) EXECUTE FUNCTION medical_events.poison()`)
	return func() {
		r.Helper()
		r.exec(`DROP FUNCTION medical_events.poison() CASCADE`)
	}
}

// work runs workers until the end of the test.
func (r *registry) work(size int, log *slog.Logger) *worker.Pool {
	r.Helper()
	pool := worker.New(r.app, log, size)
	working, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { pool.Run(working); close(done) }()
	r.Cleanup(func() { stop(); receive(r, done) })
	return pool
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

// until waits until holds is true, for a minute at most.
func (r *registry) until(what string, holds func() bool) {
	r.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.Fatalf("not within a minute: %s", what)
		}
	}
}

// end waits for the end of a job.
func (r *registry) end(id uuid.UUID) db.Job {
	r.Helper()
	var job db.Job
	r.until("the job has ended", func() bool {
		var err error
		if job, err = r.app.Jobs.Get(r.Context(), r.clinic, id); err != nil {
			r.Fatal(err)
		}
		return job.Status != db.Pending
	})
	return job
}

// told is a log that can be read while it is written.
type told struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *told) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *told) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *told) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

var silent = slog.New(slog.DiscardHandler)

// TestPanickingJob: a job that makes the worker panic ends failed after its attempts. The other jobs of its batch are
// carried out, and the log has the stack.
func TestPanickingJob(t *testing.T) {
	t.Parallel()
	observer := &panicking{}
	r := newRegistry(t, observer)
	var jobs []uuid.UUID
	for range 3 {
		_, job := r.release()
		jobs = append(jobs, job)
	}
	observer.job = jobs[1]
	var log told
	r.work(2, log.logger())
	for i, id := range jobs {
		want := db.Processed
		if i == 1 {
			want = db.Failed
		}
		if job := r.end(id); job.Status != want || (job.Refusal == db.InternalError) != (i == 1) {
			t.Errorf("job %d: %s %s", i, job.Status, job.Refusal)
		}
	}
	if text := log.String(); !strings.Contains(text, "worker_test.(*panicking).Jobs") ||
		!strings.Contains(text, jobs[1].String()) {
		t.Errorf("the log has no stack of the panic: %s", text)
	}
}

// TestHeldServiceRequestDelaysNoOtherJob: while another transaction holds one service request, one worker carries out
// all other jobs. The job of the held service request is carried out afterwards, without an attempt.
func TestHeldServiceRequestDelaysNoOtherJob(t *testing.T) {
	t.Parallel()
	r := newRegistry(t, nil)
	held, heldJob := r.release()
	var jobs []uuid.UUID
	for range 20 {
		_, job := r.release()
		jobs = append(jobs, job)
	}
	holder, err := testdb.Connect(t.Context(), r.owner.Config().ConnString())
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close(context.Background())
	tx, err := holder.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT FROM medical_events.service_requests WHERE id = $1 FOR NO KEY UPDATE`,
		held); err != nil {
		t.Fatal(err)
	}
	pool := r.work(1, silent)
	for _, id := range jobs { // while the row is held
		if job := r.end(id); job.Status != db.Processed {
			t.Errorf("%s %s", job.Status, job.Refusal)
		}
	}
	if job, err := r.app.Jobs.Get(t.Context(), r.clinic, heldJob); err != nil || job.Status != db.Pending {
		t.Errorf("%+v, %v", job, err)
	}
	if err := pool.Trouble(); err != nil {
		t.Errorf("trouble: %v", err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if job := r.end(heldJob); job.Status != db.Processed || r.number(`SELECT attempts FROM ops.jobs WHERE id = $1`,
		heldJob) != 0 {
		t.Errorf("%s %s", job.Status, job.Refusal)
	}
}

// TestFaultsOfAJobEndIt: an error that follows from the job itself, for example a statement time-out, counts as an
// attempt when the job runs alone. The fifth attempt ends the job. The other jobs of its batch are carried out.
func TestFaultsOfAJobEndIt(t *testing.T) {
	t.Parallel()
	for _, sqlState := range []string{"22003", "23514", "P0001", "57014"} {
		t.Run(sqlState, func(t *testing.T) {
			t.Parallel()
			r := newRegistry(t, nil)
			poisoned, culprit := r.release()
			_, other := r.release()
			r.poison(sqlState, `OLD.id = '`+poisoned.String()+`'`)
			r.work(1, silent)
			if job := r.end(other); job.Status != db.Processed || r.number(`SELECT attempts FROM ops.jobs WHERE id = $1`,
				other) != 0 {
				t.Errorf("the other job: %s %s", job.Status, job.Refusal)
			}
			if job := r.end(culprit); job.Status != db.Failed || job.Refusal != db.InternalError {
				t.Errorf("%s %s", job.Status, job.Refusal)
			}
			if attempts := r.number(`SELECT attempts FROM ops.jobs WHERE id = $1`, culprit); attempts != 5 {
				t.Errorf("%d attempts", attempts)
			}
		})
	}
}

// TestTroubleOfTheDatabaseEndsNoJob: while the database cannot carry out any job, all jobs stay pending without an
// attempt, and the pool tells the cause. When the cause is gone they are carried out, and the pool has no trouble.
func TestTroubleOfTheDatabaseEndsNoJob(t *testing.T) {
	t.Parallel()
	for _, sqlState := range []string{"58P01", "XX000", "XX001", "42501", "42P01", "0A000", "55P03", "53100", "40P01",
		"F0000"} {
		t.Run(sqlState, func(t *testing.T) {
			t.Parallel()
			r := newRegistry(t, nil)
			var jobs []uuid.UUID
			for range 5 {
				_, job := r.release()
				jobs = append(jobs, job)
			}
			cure := r.poison(sqlState, `true`)
			var log told
			pool := r.work(2, log.logger())
			r.until("the pool tells of its trouble", func() bool { return pool.Trouble() != nil })
			var pg *pgconn.PgError
			if err := pool.Trouble(); !errors.As(err, &pg) || pg.Code != sqlState {
				t.Errorf("trouble: %v", err)
			}
			time.Sleep(2500 * time.Millisecond) // long enough for several attempts, if attempts were made
			if n := r.number(`SELECT count(*) FROM ops.jobs WHERE status = 'pending' AND attempts = 0`); n != len(jobs) {
				t.Errorf("%d jobs are pending without an attempt", n)
			}
			if text := log.String(); !strings.Contains(text, sqlState) || strings.Count(text, "\n") > 60 {
				t.Errorf("the log: %s", text)
			}
			cure()
			for _, id := range jobs {
				if job := r.end(id); job.Status != db.Processed {
					t.Errorf("%s %s", job.Status, job.Refusal)
				}
			}
			r.until("the pool has no trouble", func() bool { return pool.Trouble() == nil })
		})
	}
}

// TestUnavailableDatabaseIsNotBlamedOnTheJob: while the database ends connections, is full or has no memory, a job that
// runs alone gets no attempt and is not put aside: it keeps its place. The pool tells the cause and pauses.
func TestUnavailableDatabaseIsNotBlamedOnTheJob(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"no space":             `RAISE EXCEPTION 'poison' USING ERRCODE = '53100'`,
		"no memory":            `RAISE EXCEPTION 'poison' USING ERRCODE = '53200'`,
		"connection failure":   `RAISE EXCEPTION 'poison' USING ERRCODE = '08006'`,
		"shutting down":        `RAISE EXCEPTION 'poison' USING ERRCODE = '57P01'`,
		"connection cut":       `PERFORM pg_terminate_backend(pg_backend_pid())`,
		"cannot connect again": `RAISE EXCEPTION 'poison' USING ERRCODE = '57P03'`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRegistry(t, nil)
			_, job := r.release()
			r.exec(`CREATE FUNCTION medical_events.poison() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
				$$ BEGIN ` + body + `; RETURN NEW; END $$`)
			r.exec(`CREATE TRIGGER poison BEFORE UPDATE ON medical_events.service_requests
				FOR EACH ROW EXECUTE FUNCTION medical_events.poison()`)
			var log told
			pool := r.work(1, log.logger())
			// The second error comes after the first pause.
			r.until("the pool has met the error twice", func() bool {
				return pool.Trouble() != nil && strings.Count(log.String(), "the database cannot carry") > 1
			})
			if n := r.number(`SELECT count(*) FROM ops.jobs WHERE id = $1 AND status = 'pending' AND attempts = 0
				AND not_before IS NULL`, job); n != 1 {
				t.Errorf("the job is blamed; the log: %s", log.String())
			}
			r.exec(`DROP FUNCTION medical_events.poison() CASCADE`)
			if ended := r.end(job); ended.Status != db.Processed {
				t.Errorf("%s %s", ended.Status, ended.Refusal)
			}
		})
	}
}

// TestStopFinishesTheBatchUnderWay: workers that are told to stop carry out the batch that they have begun.
func TestStopFinishesTheBatchUnderWay(t *testing.T) {
	t.Parallel()
	r := newRegistry(t, nil)
	r.exec(`CREATE FUNCTION medical_events.wait() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END $$`)
	r.exec(`CREATE TRIGGER wait BEFORE UPDATE ON medical_events.service_requests
		FOR EACH ROW EXECUTE FUNCTION medical_events.wait()`)
	_, job := r.release()
	r.exec(`SELECT pg_advisory_lock(1)`)
	working, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { worker.New(r.app, silent, 1).Run(working); close(done) }()
	r.Cleanup(stop)
	r.until("the batch waits", func() bool {
		return r.number(`SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`) > 0
	})
	stop()
	select {
	case <-done:
		t.Error("the batch is cut off")
	case <-time.After(time.Second): // a batch that is cut off ends within milliseconds
	}
	r.exec(`SELECT pg_advisory_unlock(1)`)
	receive(t, done)
	if got, err := r.app.Jobs.Get(t.Context(), r.clinic, job); err != nil || got.Status != db.Processed {
		t.Errorf("%s %s, %v", got.Status, got.Refusal, err)
	}
}

// TestTroubleWithOneRowDelaysNoOtherJob: where the database fails for the row of one job only, the other jobs are
// carried out.
func TestTroubleWithOneRowDelaysNoOtherJob(t *testing.T) {
	t.Parallel()
	r := newRegistry(t, nil)
	_, before := r.release()
	bad, badJob := r.release()
	_, after := r.release()
	cure := r.poison("XX001", `OLD.id = '`+bad.String()+`'`)
	r.work(1, silent)
	for _, id := range []uuid.UUID{before, after} {
		if job := r.end(id); job.Status != db.Processed {
			t.Errorf("%s %s", job.Status, job.Refusal)
		}
	}
	_, later := r.release()
	if job := r.end(later); job.Status != db.Processed {
		t.Errorf("%s %s", job.Status, job.Refusal)
	}
	if n := r.number(`SELECT count(*) FROM ops.jobs WHERE id = $1 AND status = 'pending' AND attempts = 0
		AND not_before IS NOT NULL`, badJob); n != 1 {
		t.Error("the job of the bad row was not put aside")
	}
	cure()
	if job := r.end(badJob); job.Status != db.Processed {
		t.Errorf("%s %s", job.Status, job.Refusal)
	}
}

// TestRepeatedJobsGetTheirTurnInABacklog: a job that failed before, and the next job on its service request, are
// carried out long before the end of the backlog.
func TestRepeatedJobsGetTheirTurnInABacklog(t *testing.T) {
	t.Parallel()
	r := newRegistry(t, nil)
	serviceRequest, first := r.release()
	behind := uuid.New()
	r.exec(`INSERT INTO ops.jobs (id, action, service_request_id, patient_id, client_id, user_id, body, request_digest)
		VALUES ($1, 'release', $2, $2, $3, gen_random_uuid(), '{}', sha256('behind'))`, behind, serviceRequest, r.clinic)
	// The backlog: jobs on service requests that do not exist, so that each job is refused quickly.
	r.exec(`INSERT INTO ops.jobs (id, action, service_request_id, patient_id, client_id, user_id, body, request_digest)
		SELECT gen_random_uuid(), 'release', gen_random_uuid(), gen_random_uuid(), $1, $1, '{}', sha256(n::text::bytea)
		FROM generate_series(1, 30000) AS n`, r.clinic)
	r.exec(`UPDATE ops.jobs SET attempts = 1, not_before = statement_timestamp() + interval '300 milliseconds'
		WHERE id = $1`, first)
	r.work(1, silent)
	if job := r.end(first); job.Status != db.Processed {
		t.Errorf("%s %s", job.Status, job.Refusal)
	}
	if job := r.end(behind); job.Refusal != db.ProcessingStatusInvalid {
		t.Errorf("the next job: %s %s", job.Status, job.Refusal)
	}
	if left := r.number(`SELECT count(*) FROM ops.jobs WHERE ended_at IS NULL`); left < 1000 {
		t.Errorf("%d jobs were left when the two had ended", left)
	}
}
