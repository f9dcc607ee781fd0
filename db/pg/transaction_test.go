package pg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/reiestr/reiestr/internal/dev/testdb"
)

// scratch is a database with a table ops.scratch, whose commit fails for negative numbers. The pool has one connection,
// so that the next transaction meets the state in which the last one leaves it.
type scratch struct {
	*DB
	login *pgx.Conn // beside the pool
}

func newScratch(t *testing.T, settings ...string) *scratch {
	t.Helper()
	url := testdb.New(t).URL
	login, err := testdb.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { login.Close(context.Background()) })
	s := &scratch{login: login}
	s.exec(t, `
		CREATE TABLE ops.scratch (id int PRIMARY KEY, note text);
		INSERT INTO ops.scratch VALUES (1), (2);
		CREATE SEQUENCE ops.tries;
		GRANT ALL ON ops.scratch, ops.tries TO reiestr_app;
		CREATE FUNCTION ops.refuse_commit() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN RAISE EXCEPTION 'no commit' USING ERRCODE = 'check_violation'; END $$;
		CREATE CONSTRAINT TRIGGER refuse_commit AFTER INSERT ON ops.scratch DEFERRABLE INITIALLY DEFERRED
			FOR EACH ROW WHEN (NEW.id < 0) EXECUTE FUNCTION ops.refuse_commit();
		CREATE FUNCTION ops.undo(times int, code text) RETURNS void LANGUAGE plpgsql AS
			$$ BEGIN IF nextval('ops.tries') <= times THEN RAISE EXCEPTION 'undone' USING ERRCODE = code; END IF; END $$;`)
	for _, setting := range settings {
		s.exec(t, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET `+strings.ReplaceAll(setting, "'", "''")+
			`', current_database()); END $$`)
	}
	config := Config{URL: url, Role: App, MaxConns: 1}
	if strings.HasPrefix(t.Name(), "TestTransactionsOfASampledTrace/") {
		config.Observer = traced(sampledTrace)
	}
	s.DB, err = Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func (s *scratch) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := s.login.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// hold begins a transaction on a connection outside of the pool, and runs the statements in it.
func (s *scratch) hold(t *testing.T, statements ...string) pgx.Tx {
	t.Helper()
	conn, err := pgx.ConnectConfig(t.Context(), s.login.Config())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range statements {
		if _, err := tx.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	return tx
}

// ids are the committed ids of the table.
func (s *scratch) ids(t *testing.T) []int {
	t.Helper()
	rows, _ := s.login.Query(t.Context(), `SELECT id FROM ops.scratch ORDER BY id`)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// wantUnchanged checks that no change was committed, and wantUsable that the pool can run the next transaction.
func (s *scratch) wantUnchanged(t *testing.T) {
	t.Helper()
	if ids := s.ids(t); !slices.Equal(ids, []int{1, 2}) {
		t.Errorf("committed: %v", ids)
	}
	s.wantUsable(t)
}

func (s *scratch) wantUsable(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := s.pool.Acquire(ctx)
	if err != nil {
		t.Fatalf("the connection was not given back: %v", err)
	}
	if status := c.Conn().PgConn().TxStatus(); status != 'I' {
		t.Errorf("a connection in status %c was given back", status)
	}
	c.Release()
	s.exec(t, `UPDATE ops.scratch SET note = '' WHERE id = 1`) // no transaction holds the row
	err = s.Transact(t.Context(), "next", func(tx *Tx) error {
		_, err := now{tx, false}.Exec(t.Context(), `UPDATE ops.scratch SET note = 'next' WHERE id = 1`)
		return err
	})
	if err != nil {
		t.Errorf("the next transaction: %v", err)
	}
}

// untilWaiting returns when a session waits for a lock of another session, untilNoneWaits when no session waits.
func (s *scratch) untilWaiting(t *testing.T)   { t.Helper(); s.until(t, true) }
func (s *scratch) untilNoneWaits(t *testing.T) { t.Helper(); s.until(t, false) }

func (s *scratch) until(t *testing.T, want bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		var waiting bool
		if err := s.login.QueryRow(t.Context(), `
			SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`).Scan(
			&waiting); err != nil {
			t.Fatal(err)
		}
		if waiting == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not in time: sessions wait for a lock: %t", want)
		}
	}
}

// untilBothWait returns when two sessions wait for locks. cancelWaiting cancels their statements.
func (s *scratch) untilBothWait(t *testing.T) {
	t.Helper()
	for n, deadline := 0, time.Now().Add(20*time.Second); n < 2; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: two sessions wait, %d do", n)
		}
		if err := s.login.QueryRow(t.Context(), `
			SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(
			&n); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *scratch) cancelWaiting(t *testing.T) {
	t.Helper()
	s.exec(t, `SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = current_database()
		AND wait_event_type = 'Lock'`)
	s.untilNoneWaits(t)
}

// errRefused stands for the refusal of a rule.
var errRefused = errors.New("refused")

const insert = `INSERT INTO ops.scratch VALUES ($1)`

// ways are all ways in which a transaction can send a statement and its commit. Each returns the error of the accessor.
var ways = []struct {
	name string
	send func(ctx context.Context, tx *Tx, id int) error
}{
	{"soon", func(ctx context.Context, tx *Tx, id int) error {
		_, err := soon{tx}.Exec(ctx, insert, id)
		return err
	}},
	{"now exec", func(ctx context.Context, tx *Tx, id int) error {
		_, err := now{tx, false}.Exec(ctx, insert, id)
		return err
	}},
	{"now row", func(ctx context.Context, tx *Tx, id int) error {
		return now{tx, false}.QueryRow(ctx, insert+` RETURNING id`, id).Scan(&id)
	}},
	{"now rows", func(ctx context.Context, tx *Tx, id int) error {
		rows, err := now{tx, false}.Query(ctx, insert+` RETURNING id`, id)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := rows.Scan(&id); err != nil {
				return err
			}
		}
		return rows.Err()
	}},
	{"last exec", func(ctx context.Context, tx *Tx, id int) error {
		_, err := now{tx, true}.Exec(ctx, insert, id)
		return err
	}},
	{"last row", func(ctx context.Context, tx *Tx, id int) error {
		return now{tx, true}.QueryRow(ctx, insert+` RETURNING id`, id).Scan(&id)
	}},
	{"last rows", func(ctx context.Context, tx *Tx, id int) error {
		rows, err := now{tx, true}.Query(ctx, insert+` RETURNING id`, id)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := rows.Scan(&id); err != nil {
				return err
			}
		}
		return rows.Err()
	}},
}

func TestTransactCommits(t *testing.T) {
	t.Parallel()
	s := newScratch(t)
	want := []int{1, 2}
	for i, way := range ways {
		want = append(want, 10+i)
		if err := s.Transact(t.Context(), "commit",
			func(tx *Tx) error { return way.send(t.Context(), tx, 10+i) }); err != nil {
			t.Errorf("%s: %v", way.name, err)
		}
		s.wantUsable(t)
	}
	if ids := s.ids(t); !slices.Equal(ids, want) {
		t.Errorf("committed %v, want %v", ids, want)
	}
}

func TestTransactWithNothingToDo(t *testing.T) {
	t.Parallel()
	s := newScratch(t)
	if err := s.Transact(t.Context(), "nothing", func(*Tx) error { return nil }); err != nil {
		t.Error(err)
	}
	s.wantUnchanged(t)
}

func TestTransactReportsAFailedCommit(t *testing.T) {
	t.Parallel()
	s := newScratch(t)
	for _, way := range ways {
		var said error
		err := s.Transact(t.Context(), "commit", func(tx *Tx) error {
			said = way.send(t.Context(), tx, -1)
			return said
		})
		if SQLSTATE(err) != "23514" || !strings.HasPrefix(err.Error(), "commit: ") {
			t.Errorf("%s: %v", way.name, err)
		}
		if strings.HasPrefix(way.name, "last") && said == nil {
			t.Errorf("%s: the accessor did not report the commit", way.name)
		}
		s.wantUnchanged(t)
	}
}

// When the error of a statement is ignored, the database answers the commit with a rollback.
func TestTransactReportsACommitAnsweredWithARollback(t *testing.T) {
	t.Parallel()
	s := newScratch(t)
	err := s.Transact(t.Context(), "careless", func(tx *Tx) error {
		_, _ = now{tx, false}.Exec(t.Context(), insert, 3)
		_, _ = now{tx, false}.Exec(t.Context(), insert, 3)
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "ROLLBACK") {
		t.Errorf("error %v", err)
	}
	s.wantUnchanged(t)
}

// A missing row is an answer, and the commit behind it counts.
func TestTransactCommitsBehindNoRow(t *testing.T) {
	t.Parallel()
	s := newScratch(t)
	var id int
	err := s.Transact(t.Context(), "no row", func(tx *Tx) error {
		if _, err := (soon{tx}).Exec(t.Context(), insert, 3); err != nil {
			return err
		}
		err := now{tx, true}.QueryRow(t.Context(), `SELECT id FROM ops.scratch WHERE id = 99`).Scan(&id)
		if !errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("not %w", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if ids := s.ids(t); !slices.Equal(ids, []int{1, 2, 3}) {
		t.Errorf("committed %v", ids)
	}
	s.exec(t, `DELETE FROM ops.scratch WHERE id = 3`)

	err = s.Transact(t.Context(), "no row, no commit", func(tx *Tx) error {
		if _, err := (soon{tx}).Exec(t.Context(), insert, -1); err != nil {
			return err
		}
		return now{tx, true}.QueryRow(t.Context(), `SELECT id FROM ops.scratch WHERE id = 99`).Scan(&id)
	})
	if SQLSTATE(err) != "23514" {
		t.Errorf("error %v", err)
	}
	s.wantUnchanged(t)
}

func TestTransactCommitsNothingAfterARefusal(t *testing.T) {
	t.Parallel()
	s := newScratch(t)
	for _, way := range ways {
		if strings.HasPrefix(way.name, "last") {
			continue // it has been committed before the refusal
		}
		err := s.Transact(t.Context(), "refused", func(tx *Tx) error {
			if err := way.send(t.Context(), tx, 3); err != nil {
				return err
			}
			return errRefused
		})
		if !errors.Is(err, errRefused) {
			t.Errorf("%s: %v", way.name, err)
		}
		s.wantUnchanged(t)
	}
	if n := s.pool.Stat().NewConnsCount(); n != 1 {
		t.Errorf("refusals cost %d connections", n-1)
	}
}

func TestTransactReportsAnErrorOfAQueuedStatement(t *testing.T) {
	t.Parallel()
	s := newScratch(t)
	for _, next := range ways {
		for _, broken := range []struct{ name, sql, code string }{
			{"at run time", `SELECT 1 / (id - 1) FROM ops.scratch`, "22012"},
			{"when prepared", `SELECT nothing`, "42703"},
		} {
			err := s.Transact(t.Context(), "queued", func(tx *Tx) error {
				if _, err := (soon{tx}).Exec(t.Context(), broken.sql); err != nil {
					t.Errorf("%s: the queue answered %v", next.name, err)
				}
				return next.send(t.Context(), tx, 3)
			})
			if SQLSTATE(err) != broken.code {
				t.Errorf("%s, %s: %v", next.name, broken.name, err)
			}
			s.wantUnchanged(t)
		}
	}
}

func TestTransactReportsAnErrorOfAStatement(t *testing.T) {
	t.Parallel()
	s := newScratch(t)
	for _, way := range ways {
		err := s.Transact(t.Context(), "twice", func(tx *Tx) error {
			if err := ways[0].send(t.Context(), tx, 3); err != nil {
				return err
			}
			return way.send(t.Context(), tx, 3)
		})
		if SQLSTATE(err) != "23505" {
			t.Errorf("%s: %v", way.name, err)
		}
		s.wantUnchanged(t)
	}
}

func TestTransactQueuesNoStatementWithAResult(t *testing.T) {
	t.Parallel()
	s := newScratch(t)
	err := s.Transact(t.Context(), "queued", func(tx *Tx) error {
		var id int
		rowErr := soon{tx}.QueryRow(t.Context(), `SELECT 1`).Scan(&id)
		if _, err := (soon{tx}).Query(t.Context(), `SELECT 1`); err == nil || rowErr == nil {
			t.Errorf("errors %v, %v", err, rowErr)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestTransactCancelledWhileItWaits(t *testing.T) {
	t.Parallel()
	s := newScratch(t)
	const wait = `UPDATE ops.scratch SET note = 'late' WHERE id = 2`
	for _, way := range []struct {
		name string
		wait func(context.Context, *Tx) error
	}{
		{"in a statement", func(ctx context.Context, tx *Tx) error {
			_, err := now{tx, false}.Exec(ctx, wait)
			return err
		}},
		{"in a queued statement", func(ctx context.Context, tx *Tx) error {
			if _, err := (soon{tx}).Exec(ctx, wait); err != nil {
				return err
			}
			return ways[1].send(ctx, tx, 4)
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			holder := s.hold(t, `SELECT FROM ops.scratch WHERE id = 2 FOR UPDATE`)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			answer := make(chan error, 1)
			go func() {
				answer <- s.Transact(ctx, "wait", func(tx *Tx) error {
					if err := ways[1].send(ctx, tx, 3); err != nil {
						return err
					}
					return way.wait(ctx, tx)
				})
			}()
			s.untilWaiting(t)
			cancel()
			if err := receive(t, answer); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
			if err := holder.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.untilNoneWaits(t)
			s.wantUnchanged(t)
			var late bool
			if err := s.login.QueryRow(t.Context(), `SELECT coalesce(note, '') = 'late' FROM ops.scratch WHERE id = 2`).Scan(
				&late); err != nil || late {
				t.Errorf("the cancelled change was made: %v", err)
			}
		})
	}
}

// Where the commit travels with the statement that waits, a cancellation comes too late: the outcome is awaited, and a
// change that is reported as failed has not been committed.
func TestTransactCancelledAsTheLockIsGranted(t *testing.T) {
	t.Parallel()
	s := newScratch(t)
	for i := range 20 {
		id, way := 10+i, ways[i%len(ways)]
		holder := s.hold(t, `SELECT FROM ops.scratch WHERE id = 2 FOR UPDATE`)
		ctx, cancel := context.WithCancel(t.Context())
		answer := make(chan error, 1)
		go func() {
			answer <- s.Transact(ctx, "wait", func(tx *Tx) error {
				if _, err := (soon{tx}).Exec(ctx, `SELECT FROM ops.scratch WHERE id = 2 FOR UPDATE`); err != nil {
					return err
				}
				return way.send(ctx, tx, id)
			})
		}()
		s.untilWaiting(t)
		cancel()
		if err := holder.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
		err := receive(t, answer)
		s.untilNoneWaits(t)
		s.wantUsable(t)
		if committed := slices.Contains(s.ids(t), id); committed != (err == nil) {
			t.Fatalf("%s: committed %t, error %v", way.name, committed, err)
		}
	}
}

func TestTransactCancelledBefore(t *testing.T) {
	t.Parallel()
	s := newScratch(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := s.Transact(ctx, "cancelled", func(tx *Tx) error { return ways[1].send(ctx, tx, 3) })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	s.wantUnchanged(t)
}

func TestTransactGivesUpALockAfterItsTimeOut(t *testing.T) {
	t.Parallel()
	s := newScratch(t)
	holder := s.hold(t, `SELECT FROM ops.scratch WHERE id = 2 FOR UPDATE`)
	err := s.Transact(t.Context(), "wait", func(tx *Tx) error {
		if _, err := (now{tx, false}).Exec(t.Context(), `SET LOCAL lock_timeout = '10ms'`); err != nil {
			return err
		}
		_, err := now{tx, false}.Exec(t.Context(), `UPDATE ops.scratch SET note = 'late' WHERE id = 2`)
		return err
	})
	if SQLSTATE(err) != "55P03" || !Unavailable(err) {
		t.Errorf("error %v", err)
	}
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.wantUnchanged(t)
}

func TestTransactWhoseConnectionIsLost(t *testing.T) {
	t.Parallel()
	s := newScratch(t)
	err := s.Transact(t.Context(), "lost", func(tx *Tx) error {
		if err := ways[1].send(t.Context(), tx, 3); err != nil {
			return err
		}
		s.exec(t, `SELECT pg_terminate_backend($1)`, int32(tx.conn.PgConn().PID()))
		return ways[1].send(t.Context(), tx, 4)
	})
	if err == nil || !Unavailable(err) {
		t.Errorf("error %v", err)
	}
	s.wantUnchanged(t)
}

func TestTransactRepeatsUndoneTransactions(t *testing.T) {
	t.Parallel()
	s := newScratch(t)
	for _, test := range []struct {
		undone int
		code   string
		tries  int
		want   string // SQLSTATE; empty: success
	}{
		{0, "40P01", 1, ""},
		{1, "40P01", 2, ""},
		{2, "40P01", 3, ""},
		{2, "40001", 3, ""},
		{3, "40P01", 3, "40P01"},
		{9, "40001", 3, "40001"},
		{1, "23514", 1, "23514"},
		{1, "57014", 1, "57014"},
	} {
		t.Run(fmt.Sprint(test.undone, " times ", test.code), func(t *testing.T) {
			s.exec(t, `DELETE FROM ops.scratch WHERE id = 3; ALTER SEQUENCE ops.tries RESTART`)
			tries := 0
			err := s.Transact(t.Context(), "again", func(tx *Tx) error {
				tries++
				if err := ways[1].send(t.Context(), tx, 3); err != nil {
					return err
				}
				_, err := now{tx, true}.Exec(t.Context(), `SELECT ops.undo($1, $2)`, test.undone, test.code)
				return err
			})
			if tries != test.tries || SQLSTATE(err) != test.want {
				t.Errorf("%d tries, error %v", tries, err)
			}
			if test.want != "" {
				s.wantUnchanged(t)
			} else if ids := s.ids(t); !slices.Equal(ids, []int{1, 2, 3}) {
				t.Errorf("committed %v", ids)
			}
		})
	}
}

func TestTransactSurvivesADeadlock(t *testing.T) {
	t.Parallel()
	s := newScratch(t, `deadlock_timeout = '10ms'`)
	other, err := Open(t.Context(), Config{URL: s.login.Config().ConnString(), Role: App, MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)

	var tries atomic.Int32
	var met, all sync.WaitGroup
	met.Add(2)
	done := [2]chan struct{}{make(chan struct{}), make(chan struct{})}
	for i, d := range []*DB{s.DB, other} {
		all.Go(func() {
			defer close(done[i])
			first := true
			err := d.Transact(t.Context(), "cross", func(tx *Tx) error {
				tries.Add(1)
				if !first {
					<-done[1-i] // undone, it holds no lock of the other transaction
				}
				for _, id := range []int{1 + i, 2 - i} {
					if _, err := (now{tx, false}).Exec(t.Context(), `UPDATE ops.scratch SET note = coalesce(note, '') || 'x'
						WHERE id = $1`, id); err != nil {
						return err
					}
					if first {
						first = false
						met.Done()
						met.Wait()
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := tries.Load(); n != 3 {
		t.Errorf("%d tries", n)
	}
	var notes []string
	if err := s.login.QueryRow(t.Context(), `SELECT array_agg(note) FROM ops.scratch`).Scan(&notes); err != nil ||
		!slices.Equal(notes, []string{"xx", "xx"}) {
		t.Errorf("notes %v, %v", notes, err)
	}
}

func TestTransactIsReadCommittedWhateverTheDefaults(t *testing.T) {
	t.Parallel()
	for name, session := range map[string]string{
		"of the database": ``,
		"of the session":  `SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScratch(t, `default_transaction_isolation = 'serializable'`, `default_transaction_read_only = on`,
				`search_path = public`, `timezone = 'Asia/Tokyo'`, `synchronous_commit = off`, `lock_timeout = 1`)
			s.exec(t, `SET default_transaction_read_only = off`)
			if session != "" {
				if _, err := s.pool.Exec(t.Context(), session); err != nil {
					t.Fatal(err)
				}
			}
			show := func(tx *Tx, name string) (value string) {
				if err := (now{tx, false}).QueryRow(t.Context(), `SELECT current_setting($1)`, name).Scan(&value); err != nil {
					t.Error(err)
				}
				return value
			}
			err := s.Transact(t.Context(), "defaults", func(tx *Tx) error {
				for name, want := range map[string]string{
					"transaction_isolation": "read committed", "transaction_read_only": "off", "role": "reiestr_app",
					"search_path": "",
					"TimeZone":    "UTC", "synchronous_commit": "on", "lock_timeout": "5s", "statement_timeout": "10s",
					"idle_in_transaction_session_timeout": "10s",
				} {
					if got := show(tx, name); got != want {
						t.Errorf("%s is %q", name, got)
					}
				}
				// Each statement sees all that was committed before it.
				for want := range 2 {
					var n int
					if err := (now{tx, false}).QueryRow(t.Context(), `SELECT count(*) FROM ops.scratch WHERE id = 3`).Scan(
						&n); err != nil || n != want {
						t.Errorf("%d rows, %v", n, err)
					}
					if want == 0 {
						s.exec(t, insert, 3)
					}
				}
				return ways[1].send(t.Context(), tx, 4)
			})
			if err != nil {
				t.Error(err)
			}
			if ids := s.ids(t); !slices.Equal(ids, []int{1, 2, 3, 4}) {
				t.Errorf("committed %v", ids)
			}
		})
	}
}

// A statement behind a lock in the same round trip sees the rows that were committed while the transaction waited for
// the lock.
func TestTransactReadsAfterTheLock(t *testing.T) {
	t.Parallel()
	s := newScratch(t)
	holder := s.hold(t, `UPDATE ops.scratch SET note = 'held' WHERE id = 1`, `INSERT INTO ops.scratch VALUES (3)`)
	var n int
	answer := make(chan error, 1)
	go func() {
		answer <- s.Transact(t.Context(), "look", func(tx *Tx) error {
			if _, err := (soon{tx}).Exec(t.Context(), `SELECT FROM ops.scratch WHERE id = 1 FOR NO KEY UPDATE`); err != nil {
				return err
			}
			return now{tx, true}.QueryRow(t.Context(), `SELECT count(*) FROM ops.scratch`).Scan(&n)
		})
	}()
	s.untilWaiting(t)
	if err := holder.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, answer); err != nil || n != 3 {
		t.Errorf("%d rows, %v", n, err)
	}
}

func TestTransactRollsBackAfterAPanic(t *testing.T) {
	t.Parallel()
	s := newScratch(t)
	for name, do := range map[string]func(context.Context, *Tx){
		"before anything": func(context.Context, *Tx) {},
		"after a queued statement": func(ctx context.Context, tx *Tx) {
			_ = ways[0].send(ctx, tx, 3)
		},
		"after a statement": func(ctx context.Context, tx *Tx) {
			_ = ways[1].send(ctx, tx, 3)
		},
		"amid rows": func(ctx context.Context, tx *Tx) {
			_ = ways[1].send(ctx, tx, 3)
			rows, _ := now{tx, false}.Query(ctx, `SELECT generate_series(1, 100000)`)
			rows.Next()
		},
		"in a failed transaction": func(ctx context.Context, tx *Tx) {
			_ = ways[1].send(ctx, tx, 3)
			_ = ways[1].send(ctx, tx, 3)
		},
	} {
		t.Run(name, func(t *testing.T) {
			func() {
				defer func() {
					if reason := recover(); reason != io.ErrNoProgress {
						t.Errorf("recovered %v", reason)
					}
				}()
				_ = s.Transact(t.Context(), "panic", func(tx *Tx) error {
					do(t.Context(), tx)
					panic(io.ErrNoProgress)
				})
			}()
			s.wantUnchanged(t)
		})
	}
}

// After an error amid rows the rest of the answer is unread. Such a connection is not given back to the pool.
func TestTransactLeavesRowsUnread(t *testing.T) {
	t.Parallel()
	s := newScratch(t)
	err := s.Transact(t.Context(), "unread", func(tx *Tx) error {
		if err := ways[1].send(t.Context(), tx, 3); err != nil {
			return err
		}
		rows, err := now{tx, false}.Query(t.Context(), `SELECT generate_series(1, 100000)`)
		if err != nil {
			return err
		}
		rows.Next()
		return errRefused
	})
	if !errors.Is(err, errRefused) {
		t.Errorf("error %v", err)
	}
	s.wantUnchanged(t)
}

// A statement outside of a transaction is read committed under the same defaults too.
func TestStatementsUnderHostileDefaults(t *testing.T) {
	t.Parallel()
	s := newScratch(t, `default_transaction_isolation = 'serializable'`, `default_transaction_read_only = on`,
		`default_transaction_deferrable = on`)
	var isolation, readOnly string
	if err := s.pool.QueryRow(t.Context(), `SELECT current_setting('transaction_isolation'),
		current_setting('transaction_read_only')`).Scan(&isolation, &readOnly); err != nil {
		t.Fatal(err)
	}
	if isolation != "read committed" || readOnly != "off" {
		t.Errorf("a statement without a transaction is %s, read only %s", isolation, readOnly)
	}
}
