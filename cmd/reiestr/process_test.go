package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/reiestr/reiestr/internal/dev/testdb"
)

// TestMain runs the program instead of the tests if REIESTR_TEST_IS_PROGRAM is 1. So the test binary serves as the
// program in a process that a test can kill.
func TestMain(m *testing.M) {
	if os.Getenv("REIESTR_TEST_IS_PROGRAM") == "1" {
		main()
		return
	}
	os.Exit(testdb.Main(m))
}

// process is the program in a process of its own.
type process struct {
	t      testing.TB
	cmd    *exec.Cmd
	url    string // of the API
	exited chan struct{}

	mu          sync.Mutex
	out, errors bytes.Buffer
}

// program is the path of a binary of the program.
type program string

// today is the binary of the program under test.
var today = program(os.Args[0])

func serve(t testing.TB, env []string, args ...string) *process { return today.serve(t, env, args...) }
func start(t testing.TB, env []string, args ...string) *process { return today.start(t, env, args...) }

// serve starts `reiestr serve` and waits until the server listens.
func (of program) serve(t testing.TB, env []string, args ...string) *process {
	t.Helper()
	p := of.start(t, env, append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)...)
	p.await("listening on http://")
	_, rest, _ := strings.Cut(p.stdout(), "listening on ")
	p.url, _, _ = strings.Cut(rest, "\n")
	return p
}

func (of program) start(t testing.TB, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(string(of), args...), exited: make(chan struct{})}
	p.cmd.Env = append(append(os.Environ(), "REIESTR_TEST_IS_PROGRAM=1"), env...)
	p.cmd.Stderr = &lockedWriter{&p.mu, &p.errors}
	stdout, err := p.cmd.StdoutPipe()
	must(t, err)
	must(t, p.cmd.Start())
	go func() {
		lines := bufio.NewReader(stdout)
		for {
			line, err := lines.ReadString('\n')
			p.mu.Lock()
			p.out.WriteString(line)
			p.mu.Unlock()
			if err != nil {
				break
			}
		}
		p.cmd.Wait() //nolint:errcheck // exit returns the exit code
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill() //nolint:errcheck // it may have ended
		receive(t, p.exited)
		if t.Failed() {
			t.Logf("reiestr %s\n%s", strings.Join(args, " "), p.stderr())
		}
	})
	return p
}

func (p *process) stdout() string { p.mu.Lock(); defer p.mu.Unlock(); return p.out.String() }
func (p *process) stderr() string { p.mu.Lock(); defer p.mu.Unlock(); return p.errors.String() }

// await waits until the process has printed the text and the end of its line.
func (p *process) await(text string) {
	p.t.Helper()
	eventually(p.t, "the process prints "+text, func() bool {
		select {
		case <-p.exited:
			p.t.Fatalf("the process ended before it printed %q", text)
		default:
		}
		_, rest, found := strings.Cut(p.stdout(), text)
		return found && strings.Contains(rest, "\n")
	})
}

// stop ends the process by SIGTERM, as an operator does, and expects exit code 0.
func (p *process) stop() {
	p.t.Helper()
	must(p.t, p.cmd.Process.Signal(syscall.SIGTERM))
	if code := p.exit(); code != 0 {
		p.t.Errorf("exit code %d after SIGTERM", code)
	}
}

// kill ends the process by SIGKILL, so that the process cannot clean up.
func (p *process) kill() {
	p.t.Helper()
	must(p.t, p.cmd.Process.Kill())
	p.exit()
}

func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(time.Minute):
		p.t.Fatal("the process does not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

// command runs a command line in this process, and returns its exit code and its output.
func command(t testing.TB, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(context.Background(), args, streams{strings.NewReader(stdin), &out, &errs})
	return code, out.String(), errs.String()
}

// done runs a command that must succeed, and returns its output.
func done(t testing.TB, args ...string) string {
	t.Helper()
	code, out, errs := command(t, "", args...)
	if code != 0 {
		t.Fatalf("reiestr %s: exit code %d: %s", strings.Join(args, " "), code, errs)
	}
	return strings.TrimSpace(out)
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	within(t, time.Minute, what, is)
}

// within waits until the condition holds, at most for the limit. what describes the condition.
func within(t testing.TB, limit time.Duration, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	// The pause grows, because a check may start a process, which takes CPU time from the awaited work.
	for pause := 10 * time.Millisecond; !is(); pause = min(2*pause, 250*time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain: %s", limit, what)
		}
		time.Sleep(pause)
	}
}

// receive is <-c with a bound: a test that waits in vain fails, and does not stop the tests of the package.
func receive[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(2 * time.Minute):
		t.Fatal("nothing received within two minutes")
		panic("unreachable")
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
