// Package topology starts servers around PostgreSQL for tests: a pooler in front of it, or a standby behind it.
package topology

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// poolerVariable, set to "required", makes tests that need PgBouncer fail where it is not installed. Otherwise they are
// skipped.
const poolerVariable = "REIESTR_TEST_PGBOUNCER"

// Pooler starts a PgBouncer in front of the database of a URL until the end of the test, and answers the URL through
// it. mode is its pool_mode. It ignores the start-up parameters in ignored, and refuses others.
func Pooler(t testing.TB, address, mode string, ignored ...string) string {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/pgbouncer") // of Debian's package, in the PATH of root only
	}
	if err != nil {
		if os.Getenv(poolerVariable) == "required" {
			t.Fatal("PgBouncer is required and not installed")
		}
		t.Skip("no PgBouncer here (apt-get install pgbouncer)")
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal("the database URL cannot be parsed")
	}
	password, _ := u.User.Password()
	host, port := cmp.Or(u.Query().Get("host"), u.Hostname()), cmp.Or(u.Query().Get("port"), u.Port(), "5432")
	database := fmt.Sprintf("host=%s port=%s user=%s", host, port, u.User.Username())
	if password != "" {
		database += " password=" + password
	}

	dir, err := os.MkdirTemp("", "reiestr-pooler-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) }) //nolint:errcheck // the folder is temporary
	as := poolerAccount(t, host)
	settings := fmt.Sprintf(`[databases]
* = %s
[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = %s
pool_mode = %s
auth_type = any
ignore_startup_parameters = %s
`, database, dir, mode, strings.Join(ignored, ","))
	config := filepath.Join(dir, "pgbouncer.ini")
	if err := os.WriteFile(config, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(program, config)
	cmd.Stdout, cmd.Stderr = log, log
	if as != nil { // PgBouncer refuses to run as root
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
		for _, name := range []string{dir, config} {
			if err := os.Chown(name, int(as.Uid), int(as.Gid)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }() //nolint:errcheck // it is killed below
	t.Cleanup(func() {
		cmd.Process.Kill() //nolint:errcheck // it may have ended
		<-ended
	})
	dialer := net.Dialer{Timeout: time.Second}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := dialer.DialContext(t.Context(), "unix", filepath.Join(dir, ".s.PGSQL.6432"))
		if err == nil {
			conn.Close()
			break
		}
		if time.Now().After(deadline) {
			said, _ := os.ReadFile(log.Name())
			t.Fatalf("PgBouncer does not answer: %v\n%s", err, said)
		}
	}
	through := url.URL{Scheme: "postgres", User: url.User(u.User.Username()), Path: u.Path}
	through.RawQuery = url.Values{"host": {dir}, "port": {"6432"}}.Encode()
	return through.String()
}

// poolerAccount is the user of the operating system for the pooler. If this process is root it is the user that may use
// the server's socket; nil: the user of this process.
func poolerAccount(t testing.TB, host string) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	if info, err := os.Stat(host); err == nil {
		if s := info.Sys().(*syscall.Stat_t); s.Uid != 0 {
			return &syscall.Credential{Uid: s.Uid, Gid: s.Gid}
		}
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, uidErr := strconv.ParseUint(nobody.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(nobody.Gid, 10, 32)
	if uidErr != nil || gidErr != nil {
		t.Fatal(uidErr, gidErr)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}
