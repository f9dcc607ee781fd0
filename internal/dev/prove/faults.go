package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/reiestr/reiestr/internal/pgserver"
)

const (
	harmLasts      = 3 * time.Second // of a fault that lasts
	maxConnections = 45              // of the server; the service's processes need some twenty
	diskSize       = 1 << 30         // bytes of the file system that gets full

	diskFull = "disk-full"
)

// fault is a harm that is done to the running service.
type fault struct {
	name string
	// do returns when the harm is over. The service has to get ready by itself after that.
	do func(ctx context.Context, f *faults, d *driver, dice *rand.Rand) error
}

// known faults. After each one every process is ready within a limit, and the history has to be legal.
var known = []fault{
	{"worker-killed", func(ctx context.Context, f *faults, d *driver, dice *rand.Rand) error {
		return d.replace(ctx, d.processes[2+dice.IntN(2)])
	}},
	{"api-killed", func(ctx context.Context, f *faults, d *driver, dice *rand.Rand) error {
		return d.replace(ctx, d.processes[dice.IntN(2)])
	}},
	{"worker-frozen", func(ctx context.Context, f *faults, d *driver, dice *rand.Rand) error {
		return freeze(d.processes[2+dice.IntN(2)])
	}},
	{"api-frozen", func(ctx context.Context, f *faults, d *driver, dice *rand.Rand) error {
		return freeze(d.processes[dice.IntN(2)])
	}},
	{"postgres-killed", func(ctx context.Context, f *faults, d *driver, dice *rand.Rand) error {
		return f.killServer(ctx)
	}},
	{"sessions-terminated", func(ctx context.Context, f *faults, d *driver, dice *rand.Rand) error {
		return f.direct(ctx, func(conn *pgx.Conn) error {
			for range 20 { // at any moment of a transaction, also during its commit
				if _, err := conn.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
					WHERE datname = $1 AND pid <> pg_backend_pid() AND random() < 0.5`, d.name); err != nil {
					return err
				}
				time.Sleep(time.Duration(20+dice.IntN(80)) * time.Millisecond)
			}
			return nil
		})
	}},
	{"database-answers-halved", func(ctx context.Context, f *faults, d *driver, dice *rand.Rand) error {
		return repeat(dice, f.database.halve)
	}},
	{"database-cut", func(ctx context.Context, f *faults, d *driver, dice *rand.Rand) error {
		return repeat(dice, f.database.cut)
	}},
	{"database-silent", func(ctx context.Context, f *faults, d *driver, dice *rand.Rand) error {
		f.database.stall(harmLasts)
		return nil
	}},
	{"clients-cut", func(ctx context.Context, f *faults, d *driver, dice *rand.Rand) error {
		return repeat(dice, func() {
			for _, l := range f.entries {
				if dice.IntN(2) == 0 {
					l.cut()
				} else {
					l.halve()
				}
			}
		})
	}},
	{"rows-held", func(ctx context.Context, f *faults, d *driver, dice *rand.Rand) error {
		return f.direct(ctx, func(conn *pgx.Conn) error { // longer than a command waits for a held row
			_, err := conn.Exec(ctx, `BEGIN;
				SELECT FROM medical_events.service_requests WHERE random() < 0.5 ORDER BY id DESC FOR UPDATE;
				SELECT FROM prm.legal_entities WHERE random() < 0.5 ORDER BY id DESC FOR UPDATE;
				SELECT pg_sleep(7); COMMIT`)
			return err
		})
	}},
	{diskFull, func(ctx context.Context, f *faults, d *driver, dice *rand.Rand) error {
		return f.fillDisk(ctx)
	}},
	{"connections-taken", func(ctx context.Context, f *faults, d *driver, dice *rand.Rand) error {
		return f.takeConnections(ctx, d.name)
	}},
}

func faultNames() (names []string) {
	for _, f := range known {
		names = append(names, f.name)
	}
	return names
}

// faultsOf reads names that are parted by commas; all is every one.
func faultsOf(names string) (wanted []fault, err error) {
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(known, func(f fault) bool { return f.name == name })
		switch {
		case name == "":
		case name == "all":
			wanted = append(wanted, known...)
		case i < 0:
			return nil, fmt.Errorf("--faults %s: there are all, %s", name, strings.Join(faultNames(), ", "))
		default:
			wanted = append(wanted, known[i])
		}
	}
	return wanted, nil
}

// faults does harm, one fault after the other, and tells how the service recovers.
type faults struct {
	wanted    []fault
	folder    string        // of the server's data
	limit     time.Duration // in which every process has to be ready after a fault
	mounted   bool          // the folder is a file system of its own
	server    *pgserver.Server
	superuser string  // the URL that no fault disturbs
	database  *line   // from the service's processes to PostgreSQL
	entries   []*line // from the clients to the API processes

	mu       sync.Mutex
	injected []injected
}

// injected is one fault that was done.
type injected struct {
	name           string
	calls, unknown int64         // from its beginning until the service was ready again
	ready          time.Duration // from its end
}

// prepare starts the server of the run for the first time. If the disk is to be filled, the data are in a file system
// of their own, in memory. This needs root's rights.
func (f *faults) prepare(ctx context.Context) (err error) {
	if slices.ContainsFunc(f.wanted, func(f fault) bool { return f.name == diskFull }) {
		if err := os.Mkdir(f.folder, 0o755); err != nil {
			return err
		}
		size := fmt.Sprintf("mode=0755,size=%d", diskSize)
		if said, err := exec.Command("mount", "-t", "tmpfs", "-o", size, "tmpfs", f.folder).CombinedOutput(); err != nil {
			return fmt.Errorf("%s needs Linux and root's rights: %w: %s", diskFull, err, said)
		}
		f.mounted = true
	}
	if err := f.startServer(ctx); err != nil {
		return errors.Join(err, f.unmount())
	}
	err = f.as(ctx, f.server.URL(), func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, fmt.Sprintf("ALTER SYSTEM SET max_connections = %d", maxConnections))
		return err
	})
	if err := errors.Join(err, f.server.Close(ctx)); err != nil {
		return errors.Join(err, f.unmount())
	}
	return f.startServer(ctx)
}

func (f *faults) close() error {
	return errors.Join(f.server.Close(context.Background()), f.unmount())
}

func (f *faults) unmount() error {
	if !f.mounted {
		return nil
	}
	return exec.Command("umount", f.folder).Run()
}

// fillDisk takes the space that is left for data and WAL, and gives it back. A server that has stopped meanwhile is
// started again, as an operator would.
func (f *faults) fillDisk(ctx context.Context) error {
	filler, err := os.Create(filepath.Join(f.folder, "filler"))
	if err != nil {
		return err
	}
	for block := make([]byte, 1<<20); err == nil; {
		_, err = filler.Write(block)
	}
	time.Sleep(harmLasts)
	if err := errors.Join(filler.Close(), os.Remove(filler.Name())); err != nil {
		return err
	}
	for limit := time.Now().Add(5 * time.Second); time.Now().Before(limit); time.Sleep(100 * time.Millisecond) {
		if err = f.as(ctx, f.superuser, func(*pgx.Conn) error { return nil }); err == nil {
			return nil
		}
	}
	f.server.Close(ctx) //nolint:errcheck // the error is that the server has ended
	return f.startServer(ctx)
}

// startServer starts the server of the run, or starts it again.
func (f *faults) startServer(ctx context.Context) (err error) {
	f.server, err = pgserver.Open(ctx, pgserver.Config{DataDir: f.folder, Bin: os.Getenv("REIESTR_POSTGRES_BIN")})
	return err
}

// postmaster is the process id of the server.
func (f *faults) postmaster() (int, error) {
	files, err := filepath.Glob(f.folder + "/*/postmaster.pid")
	if err != nil || len(files) != 1 {
		return 0, fmt.Errorf("faults need PostgreSQL's binaries on this machine: %d postmasters, %w", len(files), err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	return strconv.Atoi(first)
}

// killServer kills the server, as the kernel does when memory runs out, and starts it again.
func (f *faults) killServer(ctx context.Context) error {
	pid, err := f.postmaster()
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err != nil {
		return err
	}
	f.server.Close(ctx) //nolint:errcheck // the error is that the server was killed
	return f.startServer(ctx)
}

// direct gives a connection that no fault disturbs.
func (f *faults) direct(ctx context.Context, do func(*pgx.Conn) error) error {
	return f.as(ctx, f.superuser, do)
}

func (f *faults) as(ctx context.Context, url string, do func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return do(conn)
}

// takeConnections takes every connection that the server has left, ends the sessions of the service, and takes theirs
// too, for a while.
func (f *faults) takeConnections(ctx context.Context, name string) error {
	return f.direct(ctx, func(conn *pgx.Conn) error {
		var taken []*pgx.Conn
		defer func() {
			for _, c := range taken {
				c.Close(ctx) //nolint:errcheck // the session ends in any case
			}
		}()
		own := []int32{int32(conn.PgConn().PID())}
		var end time.Time // of the harm, which begins with the first refusal
		for end.IsZero() || time.Now().Before(end) {
			c, err := pgx.Connect(ctx, f.superuser)
			var failed *pgconn.PgError
			switch {
			case err == nil && len(taken) > maxConnections:
				return errors.New("the server has more connections than its setting")
			case err == nil:
				taken, own = append(taken, c), append(own, int32(c.PgConn().PID()))
				continue
			case !errors.As(err, &failed) || failed.Code != "53300": // too_many_connections
				return err
			}
			if end.IsZero() {
				end = time.Now().Add(harmLasts)
			}
			if _, err := conn.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE datname = $1 AND pid <> ALL ($2)`, name, own); err != nil {
				return err
			}
		}
		return nil
	})
}

// repeat does the harm some times in a second.
func repeat(dice *rand.Rand, harm func()) error {
	for range 10 {
		harm()
		time.Sleep(time.Duration(50+dice.IntN(100)) * time.Millisecond)
	}
	return nil
}

// freeze stops the process for a while.
func freeze(p *instance) error {
	s := p.current()
	if err := s.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	time.Sleep(harmLasts)
	return s.Signal(syscall.SIGCONT)
}

// replace kills the process and starts another one in its place.
func (r *registry) replace(ctx context.Context, p *instance) error {
	if err := p.current().Kill(); err != nil {
		return err
	}
	return r.start(ctx, p)
}

// between puts a line between the processes of the service, which do not run yet, and PostgreSQL.
func (f *faults) between(ctx context.Context, r *registry) error {
	config, err := pgconn.ParseConfig(r.url)
	if err != nil {
		return err
	}
	network, address := pgconn.NetworkAddress(config.Host, config.Port)
	f.database, err = newLine(ctx, func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	})
	if err != nil {
		return err
	}
	f.superuser = r.url
	served := url.URL{Scheme: "postgres", User: url.UserPassword(config.User, config.Password),
		Host: f.database.address(), Path: "/" + config.Database, RawQuery: "sslmode=disable"}
	r.served = served.String()
	return nil
}

// inFront puts a line in front of each API process, so that another process can take its place.
func (f *faults) inFront(ctx context.Context, r *registry) error {
	for i := range r.addresses {
		l, err := newLine(ctx, func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", r.processes[i].current().Address)
		})
		if err != nil {
			return err
		}
		f.entries = append(f.entries, l)
		r.addresses[i] = l.address()
	}
	return nil
}

// injectAll does each fault in turn, in a new order each time, until ctx ends.
func (d *driver) injectAll(ctx context.Context, dice *rand.Rand) {
	f := d.faults
	for whole := context.WithoutCancel(ctx); ; {
		order := slices.Clone(f.wanted)
		dice.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, one := range order {
			if !pause(ctx, time.Second+time.Duration(dice.IntN(1000))*time.Millisecond) {
				return
			}
			calls, unknown := d.made.Load(), d.unknown.Load()
			if err := one.do(whole, f, d, dice); err != nil {
				d.fail("%s: %w", one.name, err)
				return
			}
			ready, err := d.awaitReady(whole)
			if err != nil {
				d.fail("after %s: %w", one.name, err)
			}
			f.mu.Lock()
			f.injected = append(f.injected,
				injected{one.name, d.made.Load() - calls, d.unknown.Load() - unknown, ready})
			f.mu.Unlock()
		}
	}
}

// awaitReady returns when /readyz of every process has answered 200.
func (d *driver) awaitReady(ctx context.Context) (time.Duration, error) {
	begin := time.Now()
	asking := http.Client{Timeout: 2 * time.Second}
	for _, p := range d.processes {
		for {
			ready := false
			response, err := asking.Get("http://" + p.current().Address + "/readyz")
			if err == nil {
				ready = response.StatusCode == http.StatusOK
				response.Body.Close()
			}
			if ready {
				break
			}
			if time.Since(begin) > d.faults.limit {
				return time.Since(begin), fmt.Errorf("a process of the role %s is not ready after %s", p.role, d.faults.limit)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return time.Since(begin), nil
}

// table has a row for each fault.
func (f *faults) table() string {
	var t strings.Builder
	t.WriteString("\n| fault | times | calls meanwhile | of these without an answer | ready again: p50 | max |\n" +
		"|---|---|---|---|---|---|\n")
	for _, one := range f.wanted {
		var calls, unknown int64
		var ready []time.Duration
		for _, i := range f.injected {
			if i.name == one.name {
				calls, unknown, ready = calls+i.calls, unknown+i.unknown, append(ready, i.ready)
			}
		}
		if len(ready) == 0 {
			continue
		}
		slices.Sort(ready)
		fmt.Fprintf(&t, "| %s | %d | %d | %d | %.1f s | %.1f s |\n", one.name, len(ready), calls, unknown,
			ready[len(ready)/2].Seconds(), ready[len(ready)-1].Seconds())
	}
	return t.String()
}
