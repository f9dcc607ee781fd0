package topology

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/reiestr/reiestr/internal/dev/testdb"
	"github.com/reiestr/reiestr/internal/pgserver"
	"github.com/reiestr/reiestr/migrations"
)

// standbyVariable, set to "required", makes tests that need a standby fail where no binaries of PostgreSQL are
// installed. Otherwise they are skipped.
const standbyVariable = "REIESTR_TEST_STANDBY"

// Standby starts two servers from the binaries of this machine until the end of the test: a primary with the schema,
// and its hot standby. It answers their URLs, for a superuser.
func Standby(t testing.TB) (primary, standby string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	bin, _, err := pgserver.Binaries(ctx, os.Getenv("REIESTR_POSTGRES_BIN"))
	if err != nil {
		if os.Getenv(standbyVariable) == "required" {
			t.Fatalf("a standby is required: %v", err)
		}
		t.Skip("no binaries of PostgreSQL here:", err)
	}
	server, err := pgserver.Temporary(ctx, pgserver.Config{Bin: bin})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := server.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := migrations.Up(ctx, server.URL()); err != nil {
		t.Fatal(err)
	}
	data := allowReplication(ctx, t, server.URL())
	info, err := os.Stat(data)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "reiestr-standby-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) }) //nolint:errcheck // the folder is temporary
	as := info.Sys().(*syscall.Stat_t)
	if err := os.Chown(dir, int(as.Uid), int(as.Gid)); err != nil {
		t.Fatal(err)
	}
	asServer := &syscall.SysProcAttr{}
	if os.Geteuid() == 0 {
		asServer.Credential = &syscall.Credential{Uid: as.Uid, Gid: as.Gid}
	}
	u, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "data")
	backup := exec.CommandContext(ctx, filepath.Join(bin, "pg_basebackup"), "--pgdata", copied, "--write-recovery-conf",
		"--checkpoint=fast", "--no-sync", "--host", u.Query().Get("host"), "--username", u.User.Username())
	backup.SysProcAttr, backup.Dir = asServer, dir
	if out, err := backup.CombinedOutput(); err != nil {
		t.Fatalf("pg_basebackup: %v\n%s", err, out)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	postgres := exec.Command(filepath.Join(bin, "postgres"), "-D", copied, "-c", "unix_socket_directories="+dir,
		"-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=300") // at least those of the primary
	postgres.SysProcAttr, postgres.Dir, postgres.Stdout, postgres.Stderr = asServer, dir, log, log
	if err := postgres.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { postgres.Wait(); close(ended); cancel() }() //nolint:errcheck // it is stopped below
	t.Cleanup(func() {
		postgres.Process.Signal(syscall.SIGQUIT) //nolint:errcheck // it may have ended
		<-ended
	})
	u.RawQuery = url.Values{"host": {dir}, "port": {"5432"}}.Encode()
	for {
		conn, err := testdb.Connect(ctx, u.String())
		if err == nil {
			conn.Close(ctx)
			return server.URL(), u.String()
		}
		if ctx.Err() != nil {
			said, _ := os.ReadFile(log.Name())
			t.Fatalf("the standby does not answer: %v\n%s", err, said)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// allowReplication allows the superuser of a server to replicate it, and answers the folder of its data.
func allowReplication(ctx context.Context, t testing.TB, address string) (data string) {
	t.Helper()
	conn, err := testdb.Connect(ctx, address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var access string
	err = conn.QueryRow(ctx, `SELECT current_setting('data_directory'), current_setting('hba_file')`).Scan(&data, &access)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(access, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	login := pgx.Identifier{conn.Config().User}.Sanitize()
	if _, err := fmt.Fprintf(f, "local replication %s peer map=%s\n", login, login); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(ctx, `SELECT pg_reload_conf()`); err != nil {
		t.Fatal(err)
	}
	return data
}
