package pgserver

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// helperVariable holds a data directory. If it is set, the test binary runs helperMain with this directory instead of
// the tests.
const helperVariable = "PGSERVER_TEST_HELPER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(helperVariable); dir != "" {
		if err := helperMain(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// helperSays is the line of JSON in which another process describes its server.
type helperSays struct {
	URL    string
	Joined bool
}

// helperMain opens the server, prints a helperSays, and closes the server at the end of standard input.
func helperMain(dir string) error {
	ctx := context.Background()
	s, err := Open(ctx, Config{DataDir: dir})
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(helperSays{s.URL(), s.Joined()}); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return s.Close(ctx)
}

// helper is another process that has opened the server.
type helper struct {
	helperSays
	cmd    *exec.Cmd
	finish func() error // makes the process close its server, and waits for the end of the process
}

// startHelper starts another process on the data directory, and waits until its server is ready.
func startHelper(t *testing.T, dir string, env ...string) *helper {
	t.Helper()
	h, err := tryHelper(t, dir, env...)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func tryHelper(t *testing.T, dir string, env ...string) (*helper, error) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), helperVariable+"="+dir), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	h := &helper{cmd: cmd, finish: sync.OnceValue(func() error {
		in.Close()
		return cmd.Wait()
	})}
	t.Cleanup(func() { _ = h.finish() })
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("the other process prints nothing: %w", err)
	}
	return h, json.Unmarshal(line, &h.helperSays)
}

// kill ends the process by SIGKILL.
func (h *helper) kill(t *testing.T) {
	t.Helper()
	if err := h.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = h.finish() // the error is that the process was killed
}

// open opens a server that ends with the test. The server is fast and not durable: if it is killed, it may lose its
// last commits.
func open(t *testing.T, cfg Config) *Server {
	t.Helper()
	cfg.temporary = true
	return openDurable(t, cfg)
}

// openDurable opens a server as the service does. The server ends with the test.
func openDurable(t *testing.T, cfg Config) *Server {
	t.Helper()
	needBinaries(t)
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// tempDir makes a folder for a data directory. Every user may enter the folder.
func tempDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

func needBinaries(t *testing.T) {
	t.Helper()
	if _, _, err := Binaries(t.Context(), ""); err != nil {
		t.Skip(err)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root drops to another user")
	}
}

func needLinux(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("looks into /proc")
	}
}

// query returns the only value of the query's only row.
func query(t *testing.T, url, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var value string
	if err := conn.QueryRow(t.Context(), sql).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

// execute runs statements.
func execute(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// keepRow commits a row that rowKept finds.
func keepRow(t *testing.T, url string) {
	t.Helper()
	execute(t, url, "CREATE TABLE kept (x text); INSERT INTO kept VALUES ('here')")
}

func rowKept(t *testing.T, url string) {
	t.Helper()
	if got := query(t, url, "SELECT x FROM kept"); got != "here" {
		t.Errorf("row = %q, want here", got)
	}
}

// postmasterOf returns the process id of the server in the data directory, 0 if postmaster.pid is missing.
func postmasterOf(t *testing.T, dir string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, clusterFolder, "postmaster.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.SplitN(string(text), "\n", 2)[0])
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// eventually polls until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// gone reports whether the process has ended.
func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func TestStartsAndFindsItsDataAgain(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(tempDir(t), "not", "there yet")
	s := openDurable(t, Config{DataDir: dir})
	if s.Joined() {
		t.Error("the first process joined")
	}
	if got := s.Description(); !strings.HasPrefix(got, "PostgreSQL 1") || !strings.HasSuffix(got, "own server in "+dir) {
		t.Errorf("description %q", got)
	}
	for setting, want := range map[string]string{
		"server_encoding": "UTF8", "data_checksums": "on", "listen_addresses": "", "is_superuser": "on",
		"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "TimeZone": "UTC",
	} {
		if got := query(t, s.URL(), "SELECT current_setting('"+setting+"')"); got != want {
			t.Errorf("%s = %q, want %q", setting, got, want)
		}
	}
	if got, want := query(t, s.URL(), "SHOW data_directory"), filepath.Join(dir, clusterFolder); got != want {
		t.Errorf("data in %s, want %s", got, want)
	}
	if got := query(t, s.URL(), "SELECT current_user || '@' || current_database()"); got != "reiestr@reiestr" {
		t.Errorf("logged in as %s", got)
	}
	info, err := os.Stat(filepath.Join(dir, socketFolder))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder of the socket: %v, %v", info.Mode(), err)
	}
	pid := postmasterOf(t, dir)
	if group, err := syscall.Getpgid(pid); err != nil || group != pid {
		t.Errorf("process group %d, %v, want its own, %d", group, err, pid)
	}
	module, err := filepath.Glob(query(t, s.URL(), "SELECT setting FROM pg_config WHERE name = 'PKGLIBDIR'") +
		"/pg_stat_statements.*")
	if err != nil {
		t.Fatal(err)
	}
	if len(module) > 0 {
		if query(t, s.URL(), "SELECT count(*)::text FROM pg_stat_statements") == "0" {
			t.Error("no statement was counted")
		}
		execute(t, s.URL(), "ALTER SYSTEM SET shared_preload_libraries = auto_explain") // a setting of the operator
	}
	keepRow(t, s.URL())
	for range 2 {
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if !gone(pid) {
		t.Error("the server outlives Close")
	}

	s = openDurable(t, Config{DataDir: dir})
	rowKept(t, s.URL())
	if got := query(t, s.URL(), "SHOW shared_preload_libraries"); len(module) > 0 && got != "auto_explain" {
		t.Errorf("the server loads %q, which the operator has changed", got)
	}
}

func TestOnlyReiestrLogsIn(t *testing.T) {
	t.Parallel()
	s := open(t, Config{DataDir: tempDir(t)})
	execute(t, s.URL(), "CREATE ROLE other LOGIN")
	conn, err := pgx.Connect(t.Context(), strings.Replace(s.URL(), "reiestr@", "other@", 1))
	if err == nil {
		conn.Close(t.Context())
		t.Error("another login than reiestr is let in")
	}
}

func TestRunsAsUnprivilegedUser(t *testing.T) {
	needRoot(t)
	needLinux(t)
	t.Parallel()
	dir := tempDir(t)
	open(t, Config{DataDir: dir})
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", postmasterOf(t, dir)))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"Uid:\t0", "Gid:\t0"} {
		if strings.Contains(string(status), line) {
			t.Errorf("the server runs with %s", line)
		}
	}
	if !strings.Contains(string(status), "Groups:\t \n") {
		t.Errorf("the server keeps supplementary groups:\n%s", status)
	}
}

func TestClosedParentsAsRoot(t *testing.T) {
	needRoot(t)
	needLinux(t)
	t.Parallel()
	parent := filepath.Join(tempDir(t), "closed")
	if err := os.Mkdir(parent, 0o700); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(parent, "data")
	first := startHelper(t, dir)
	keepRow(t, first.URL)
	execute(t, first.URL, "CREATE DATABASE another")
	pid := postmasterOf(t, dir)
	first.kill(t)
	eventually(t, "the server ends with its owner", func() bool { return gone(pid) })
	s := open(t, Config{DataDir: dir})
	rowKept(t, s.URL())
	if got := query(t, s.URL(), "SHOW data_directory"); !strings.HasPrefix(got, "/proc/self/fd/") {
		t.Errorf("the server knows its data as %s, so its user can enter the parent", got)
	}
	if second := startHelper(t, dir); !second.Joined {
		t.Error("the second process did not join")
	}
}

func TestSecondProcessJoins(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	s := open(t, Config{DataDir: dir})
	h := startHelper(t, dir)
	if !h.Joined || h.URL != s.URL() {
		t.Errorf("the second process: joined %v, URL %s, want true, %s", h.Joined, h.URL, s.URL())
	}
	keepRow(t, h.URL)
	if err := h.finish(); err != nil {
		t.Fatal(err)
	}
	rowKept(t, s.URL())
}

func TestConcurrentFirstStarts(t *testing.T) {
	t.Parallel()
	needBinaries(t)
	dir := tempDir(t)
	const processes = 4
	helpers := make([]*helper, processes)
	errs := make([]error, processes)
	var wg sync.WaitGroup
	for i := range processes {
		wg.Go(func() { helpers[i], errs[i] = tryHelper(t, dir) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	owners := 0
	for _, h := range helpers {
		if !h.Joined {
			owners++
		}
		execute(t, h.URL, "SELECT")
	}
	if owners != 1 {
		t.Errorf("%d processes own the server, want 1", owners)
	}
	for _, joined := range []bool{true, false} {
		for _, h := range helpers {
			if h.Joined == joined {
				if err := h.finish(); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

func TestRecoversFromKilledOwner(t *testing.T) {
	for _, victim := range []string{"owner", "owner and server", "server and owner"} {
		t.Run(victim, func(t *testing.T) {
			t.Parallel()
			needBinaries(t)
			dir := tempDir(t)
			h := startHelper(t, dir)
			keepRow(t, h.URL)
			idle, err := pgx.Connect(t.Context(), h.URL) // its backend ends a little later than the server
			if err != nil {
				t.Fatal(err)
			}
			defer idle.Close(context.Background())
			pid := postmasterOf(t, dir)
			kill := func() { _ = syscall.Kill(pid, syscall.SIGKILL) }
			switch victim {
			case "owner":
				h.kill(t)
			case "owner and server":
				h.kill(t)
				kill()
			case "server and owner":
				kill()
				h.kill(t)
			}
			s := open(t, Config{DataDir: dir})
			if s.Joined() {
				t.Error("joined a server whose owner is dead")
			}
			rowKept(t, s.URL())
		})
	}
}

func TestStopsOrphanedServer(t *testing.T) {
	needLinux(t)
	t.Parallel()
	dir := tempDir(t)
	s := open(t, Config{DataDir: dir})
	keepRow(t, s.URL())
	pid := postmasterOf(t, dir)
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The same server again, without an owner.
	args := strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
	orphan := exec.Command(args[0], args[1:]...)
	orphan.Dir = "/"
	if os.Geteuid() == 0 {
		stat := info.Sys().(*syscall.Stat_t)
		orphan.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stat.Uid, Gid: stat.Gid}}
	}
	if err := orphan.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- orphan.Wait() }()
	eventually(t, "the orphan answers", func() bool {
		_, err := prepareDatabase(t.Context(), s.URL())
		return err == nil
	})

	s = open(t, Config{DataDir: dir})
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the orphan did not stop cleanly: %v", err)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("the orphan did not stop within two minutes")
	}
	rowKept(t, s.URL())
}

func TestSocketElsewhere(t *testing.T) {
	for name, folder := range map[string]string{
		"path too long":    strings.Repeat("long/", 20),
		"comma in path":    "this, that",
		"not ASCII, spare": "дані+100%",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			needBinaries(t)
			dir := filepath.Join(tempDir(t), folder)
			h := startHelper(t, dir)
			keepRow(t, h.URL)
			h.kill(t)
			s := open(t, Config{DataDir: dir})
			rowKept(t, s.URL())
			if s.URL() != h.URL {
				t.Errorf("the next start has URL %s, want %s", s.URL(), h.URL)
			}
			if second := startHelper(t, dir); !second.Joined {
				t.Error("the second process did not join")
			}
			place := s.backend.socket
			if err := s.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if place == "" {
				if !strings.HasPrefix(name, "not ASCII") {
					t.Error("the socket is in the data directory")
				}
				return
			}
			if _, err := os.Lstat(place); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("folder %s of the socket is left: %v", place, err)
			}
		})
	}
}

func TestForeignSocketFolderIsRefused(t *testing.T) {
	t.Parallel()
	h, err := openHome(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := h.Mkdir(clusterFolder, 0o700); err != nil {
		t.Fatal(err)
	}
	place := t.TempDir()
	check := func(why string, want bool) {
		t.Helper()
		if got := h.checkSocketFolder(place) == nil; got != want {
			t.Errorf("%s: accepted %v, want %v", why, got, want)
		}
	}
	chmod := func(mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(place, mode); err != nil {
			t.Fatal(err)
		}
	}
	chmod(0o700)
	check("private folder", true)
	chmod(0o755)
	check("open folder", false)
	chmod(0o700)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(place, link); err != nil {
		t.Fatal(err)
	}
	real := place
	place = link
	check("symbolic link", false)
	place = filepath.Join(real, "missing")
	check("missing folder", false)
	if os.Geteuid() == 0 {
		place = real
		if err := os.Chown(place, 12345, 12345); err != nil {
			t.Fatal(err)
		}
		check("folder of another user", false)
	}
}

func TestLockRole(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	s := open(t, Config{DataDir: dir})
	release, err := s.LockRole("serve")
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.LockRole("serve")
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), fmt.Sprintf("process %d ", os.Getpid())) ||
		!strings.Contains(err.Error(), dir) {
		t.Errorf("second lock: %v", err)
	}
	other, err := s.LockRole("serve-api")
	if err != nil {
		t.Errorf("another role: %v", err)
	} else if err := other(); err != nil {
		t.Error(err)
	}
	if _, err := s.LockRole("../serve"); err == nil || errors.Is(err, ErrInUse) {
		t.Errorf("a path for a role: %v", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if release, err = s.LockRole("serve"); err != nil {
		t.Fatal(err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}

// TestCancelledStart cancels the start at different stages: during initdb and during the start of the server.
func TestCancelledStart(t *testing.T) {
	needLinux(t)
	for _, test := range []struct {
		stage string
		after []time.Duration // in milliseconds
	}{
		{"first start", []time.Duration{0, 30, 100, 300, 600}},
		{"later start", []time.Duration{5, 10, 20, 30, 40, 60}},
	} {
		t.Run(test.stage, func(t *testing.T) {
			t.Parallel()
			dir := tempDir(t)
			if test.stage == "later start" {
				if err := open(t, Config{DataDir: dir}).Close(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			for _, after := range test.after {
				cancelStart(t, dir, after*time.Millisecond)
			}
			execute(t, open(t, Config{DataDir: dir}).URL(), "SELECT")
		})
	}
}

// cancelStart cancels a start after the given time, unless the start ends earlier.
func cancelStart(t *testing.T, dir string, after time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), after)
	defer cancel()
	s, err := Open(ctx, Config{DataDir: dir, temporary: true})
	if err == nil {
		err = s.Close(t.Context())
	} else if errors.Is(err, context.DeadlineExceeded) {
		err = nil
	}
	if err != nil {
		t.Errorf("after %s: error %v, want that of the context", after, err)
	}
	if left := processesNaming(t, dir); len(left) > 0 {
		t.Errorf("after %s: processes left behind: %v", after, left)
	}
	if drafts, _ := filepath.Glob(filepath.Join(dir, draftPrefix+"*")); len(drafts) > 0 {
		t.Errorf("after %s: folders left behind: %v", after, drafts)
	}
}

func TestOwnerKilledInFirstStart(t *testing.T) {
	t.Parallel()
	needBinaries(t)
	dir := tempDir(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperVariable+"="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "initdb writes", func() bool {
		files, _ := filepath.Glob(filepath.Join(dir, draftPrefix+"*", "base"))
		return len(files) > 0
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the error is that the process was killed
	s := open(t, Config{DataDir: dir})
	if s.Joined() {
		t.Error("joined a dead owner")
	}
	execute(t, s.URL(), "SELECT")
}

// processesNaming lists the command lines of running processes that contain the text.
func processesNaming(t *testing.T, text string) (lines []string) {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		line, err := os.ReadFile(path)
		if err == nil && bytes.Contains(line, []byte(text)) {
			lines = append(lines, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return lines
}

func TestHardStopIsReportedAndRecovered(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	s := openDurable(t, Config{DataDir: dir})
	keepRow(t, s.URL())
	pid := postmasterOf(t, dir)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil { // a stopped process obeys neither SIGINT nor SIGQUIT
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Close: %v, want the context's error", err)
	}
	if !gone(pid) {
		t.Error("the server outlives Close")
	}
	rowKept(t, open(t, Config{DataDir: dir}).URL())
}

func TestUnexpectedEndIsLogged(t *testing.T) {
	t.Parallel()
	var out lockedBuffer
	dir := tempDir(t)
	open(t, Config{DataDir: dir, Logger: slog.New(slog.NewTextHandler(&out, nil))})
	if err := syscall.Kill(postmasterOf(t, dir), syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end is logged", func() bool { return strings.Contains(out.String(), "PostgreSQL ended by itself") })
}

// lockedBuffer takes the log of several goroutines.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestFailedStartTellsTheLog(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	s := open(t, Config{DataDir: dir})
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	conf, err := os.OpenFile(filepath.Join(dir, clusterFolder, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = conf.WriteString("no_such_setting = 1\n")
	if err := errors.Join(err, conf.Close()); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), Config{DataDir: dir})
	if err == nil || !strings.Contains(err.Error(), "no_such_setting") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v, want one line that tells the log", err)
	}
}

func TestTemporary(t *testing.T) {
	t.Parallel()
	needBinaries(t)
	s, err := Temporary(t.Context(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	for setting, want := range map[string]string{
		"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "300",
	} {
		if got := query(t, s.URL(), "SELECT current_setting('"+setting+"')"); got != want {
			t.Errorf("%s = %q, want %q", setting, got, want)
		}
	}
	dir := s.home.path
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left: %v", dir, err)
	}
}

func TestUnusableDataDirectory(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"", file, filepath.Join(file, "below")} {
		if _, err := Open(t.Context(), Config{DataDir: dir}); err == nil ||
			!strings.Contains(err.Error(), "REIESTR_DATA_DIR") {
			t.Errorf("data directory %q: error %v, want one that names REIESTR_DATA_DIR", dir, err)
		}
	}
}
