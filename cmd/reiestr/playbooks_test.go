package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/reiestr/reiestr/internal/pgserver"
	"github.com/reiestr/reiestr/migrations"
)

// playbook is a page of docs/playbooks. Tests run its blocks as an operator would paste them.
type playbook struct {
	t      testing.TB
	blocks map[string]playbookBlock // by the name in the comment in front of the block
	tried  map[string]bool
}

type playbookBlock struct{ language, text string }

var (
	fencedBlock = regexp.MustCompile("(?ms)^( *)```(sh|sql)\n(.*?)^ *```$")
	blockMark   = regexp.MustCompile(`<!-- (try|not tried): (.+) -->\n$`)
)

// readPlaybook reads the blocks of a page. At the end of the test it fails the test if a block was not run and the page
// does not say why not.
func readPlaybook(t testing.TB, page string) *playbook {
	t.Helper()
	p := &playbook{t, map[string]playbookBlock{}, map[string]bool{}}
	text, err := os.ReadFile(filepath.Join("../../docs/playbooks", page))
	must(t, err)
	for _, at := range fencedBlock.FindAllSubmatchIndex(text, -1) {
		indent, language, block := string(text[at[2]:at[3]]), string(text[at[4]:at[5]]), string(text[at[6]:at[7]])
		mark := blockMark.FindSubmatch(text[:at[0]])
		switch {
		case mark == nil:
			t.Errorf("%s: no comment in front of the block says how it is tried:\n%s", page, block)
		case string(mark[1]) == "try":
			if _, twice := p.blocks[string(mark[2])]; twice {
				t.Errorf("%s: two blocks are called %s", page, mark[2])
			}
			block = strings.TrimPrefix(strings.ReplaceAll("\n"+block, "\n"+indent, "\n"), "\n")
			p.blocks[string(mark[2])] = playbookBlock{language, block}
		}
	}
	t.Cleanup(func() {
		for _, name := range slices.Sorted(maps.Keys(p.blocks)) {
			if !p.tried[name] && !t.Failed() {
				t.Errorf("%s: block %s was not tried", page, name)
			}
		}
	})
	return p
}

// TestPlaybooksAreListed: the index links to every page.
func TestPlaybooksAreListed(t *testing.T) {
	t.Parallel()
	index, err := os.ReadFile("../../docs/playbooks/README.md")
	must(t, err)
	pages, err := filepath.Glob("../../docs/playbooks/*.md")
	must(t, err)
	if len(pages) < 5 {
		t.Errorf("pages %v", pages)
	}
	for _, page := range pages {
		if name := filepath.Base(page); name != "README.md" && !strings.Contains(string(index), "]("+name+")") {
			t.Errorf("the index does not lead to %s", name)
		}
	}
}

// fixedPlace finds a fixed port, or a file in the shared folder for temporary files: other programs of the machine may
// use it too.
var fixedPlace = regexp.MustCompile(`(?i)listen[^\n]{0,30}:[1-9][0-9]*\b|["' ]/tmp/`)

// TestNothingRestsOnAFixedPortOrFile: tests and the blocks of playbooks listen on free ports and write to folders of
// their own.
func TestNothingRestsOnAFixedPortOrFile(t *testing.T) {
	t.Parallel()
	var files []string
	must(t, filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == ".git"):
			return filepath.SkipDir
		case strings.HasSuffix(path, "_test.go"), strings.HasPrefix(path, "../../docs/playbooks/"), path == "../../.ci/run":
			files = append(files, path)
		}
		return nil
	}))
	if len(files) < 50 {
		t.Fatalf("%d files were found", len(files))
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		for n, line := range strings.Split(string(text), "\n") {
			if fixedPlace.MatchString(line) && !strings.HasPrefix(line, "var fixedPlace") {
				t.Errorf("%s:%d: %s", file, n+1, line)
			}
		}
	}
}

// bench is the machine of an operator: a folder with `reiestr` in PATH, and a PostgreSQL server whose files are
// accessible. All commands run as a user other than root, because PostgreSQL does not run as root.
type bench struct {
	t           testing.TB
	dir         string
	credential  *syscall.Credential // nil: this user
	environment map[string]string
}

// newBench starts a server. Without PostgreSQL's binaries it skips the test, or fails it if REIESTR_TEST_PLAYBOOKS is
// "required".
func newBench(t testing.TB) *bench {
	t.Helper()
	bin, _, err := pgserver.Binaries(t.Context(), os.Getenv("REIESTR_POSTGRES_BIN"))
	if err != nil {
		if os.Getenv("REIESTR_TEST_PLAYBOOKS") == "required" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir, err := os.MkdirTemp("", "reiestr-playbook-")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	b := &bench{t: t, dir: dir, environment: map[string]string{
		"PATH": dir + "/bin:" + bin + ":/usr/bin:/bin", "HOME": dir, "LC_ALL": "C", "TZ": "UTC", "PGDATA": dir + "/data",
		"REIESTR_DATABASE_URL": "postgres:///reiestr?user=postgres&port=5432&host=" + dir,
		"REIESTR_POSTGRES_BIN": bin,
	}}
	must(t, os.Chmod(dir, 0o755))
	must(t, os.Mkdir(dir+"/bin", 0o755))
	copyFile(t, os.Args[0], dir+"/bin/program")
	script := "#!/bin/sh\nREIESTR_TEST_IS_PROGRAM=1 exec " + dir + "/bin/program \"$@\"\n"
	must(t, os.WriteFile(dir+"/bin/reiestr", []byte(script), 0o755))
	if os.Geteuid() == 0 {
		postgres, err := user.Lookup("postgres")
		must(t, err)
		uid, err := strconv.Atoi(postgres.Uid)
		must(t, err)
		gid, err := strconv.Atoi(postgres.Gid)
		must(t, err)
		b.credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		must(t, os.Chown(dir, uid, gid))
	}
	b.start("data", 5432)
	b.sh("createdb --maintenance-db=" + b.server(5432) + " --template=template0 --encoding=UTF8 reiestr")
	return b
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	must(t, err)
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	must(t, err)
	_, err = io.Copy(out, in)
	must(t, err)
	must(t, out.Close())
}

// start makes a server that listens on a Unix socket only, and starts it.
func (b *bench) start(data string, port int) {
	b.t.Helper()
	b.sh(fmt.Sprintf(`initdb --pgdata=%[1]s --username=postgres --auth=trust --encoding=UTF8 --no-sync > initdb.log
		cat >> %[1]s/postgresql.conf <<CONF
port = %[2]d
listen_addresses = ''
unix_socket_directories = '%[3]s'
fsync = off
CONF
		pg_ctl --pgdata=%[1]s --wait --log=%[1]s.log start > pg_ctl.log`, data, port, b.dir))
	b.stopAtEnd(data)
}

func (b *bench) stopAtEnd(data string) {
	b.t.Cleanup(func() { b.sh("pg_ctl --pgdata=" + data + " --mode=immediate --wait stop > pg_ctl.log 2>&1") })
}

// server returns the quoted URL of the database postgres on the server with this port.
func (b *bench) server(port int) string {
	return fmt.Sprintf("'postgres:///postgres?user=postgres&port=%d&host=%s'", port, b.dir)
}

func (b *bench) set(name, value string) { b.environment[name] = value }

// command returns a command that runs a shell script on the bench.
func (b *bench) command(ctx context.Context, script string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail")
	cmd.Stdin = strings.NewReader(script)
	cmd.Dir = b.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: b.credential}
	cmd.Env = []string{}
	for name, value := range b.environment {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// sh runs a script, which must succeed, and returns its output.
func (b *bench) sh(script string) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.t.Context()), 2*time.Minute)
	defer cancel()
	said, err := b.command(ctx, script).CombinedOutput()
	if err != nil {
		b.t.Fatalf("%v\n%s\n%s", err, script, said)
	}
	return string(said)
}

// value runs a script and returns its standard output.
func (b *bench) value(script string) string {
	b.t.Helper()
	said, err := b.command(b.t.Context(), script).Output()
	if err != nil {
		b.t.Fatalf("%v\n%s", err, script)
	}
	return strings.TrimSpace(string(said))
}

func (b *bench) sql(statements string) string {
	b.t.Helper()
	return b.sh("psql --no-psqlrc --set=ON_ERROR_STOP=1 --dbname=\"$REIESTR_DATABASE_URL\" <<'STATEMENTS'\n" +
		statements + "\nSTATEMENTS")
}

// try runs a block of a playbook on a bench, and returns its output, which must contain the texts.
func (p *playbook) try(b *bench, name string, says ...string) string {
	p.t.Helper()
	block, found := p.blocks[name]
	if !found {
		p.t.Fatalf("there is no block %q", name)
	}
	p.tried[name] = true
	var said string
	if block.language == "sql" {
		said = b.sql(block.text)
	} else {
		said = b.sh(block.text)
	}
	for _, text := range says {
		if !strings.Contains(said, text) {
			p.t.Errorf("the output of block %s lacks %q:\n%s", name, text, said)
		}
	}
	return said
}

// connect opens a session of the superuser.
func (b *bench) connect(application string) *pgx.Conn {
	b.t.Helper()
	config, err := pgx.ParseConfig(b.environment["REIESTR_DATABASE_URL"])
	must(b.t, err)
	config.RuntimeParams["application_name"] = application
	conn, err := pgx.ConnectConfig(b.t.Context(), config)
	must(b.t, err)
	b.t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// serve starts the service, and returns its URL and a function that ends it. The service also ends with the test.
func (b *bench) serve() (url string, end func()) {
	b.t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(b.t.Context()))
	cmd := b.command(ctx, "exec reiestr serve --listen=127.0.0.1:0 2> serve.log")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	var mu sync.Mutex
	var out bytes.Buffer
	cmd.Stdout = &lockedWriter{&mu, &out}
	must(b.t, cmd.Start())
	end = sync.OnceFunc(func() {
		stop()
		cmd.Wait() //nolint:errcheck // its exit code does not matter
	})
	b.t.Cleanup(end)
	eventually(b.t, "the service listens", func() bool {
		mu.Lock()
		defer mu.Unlock()
		_, rest, _ := strings.Cut(out.String(), "listening on ")
		var whole bool
		url, _, whole = strings.Cut(rest, "\n")
		return whole
	})
	return url, end
}

// clinicSQL inserts a clinic and nine service requests that the clinic holds. With furnish every table gets at least
// one row.
const clinicSQL = `
	INSERT INTO prm.legal_entities (id, edrpou, name, type, status, inserted_by, updated_by)
		VALUES (:id, '12345678', 'Clinic', 'OUTPATIENT', 'ACTIVE', :id, :id);
	INSERT INTO prm.divisions (id, legal_entity_id, name, status, inserted_by, updated_by)
		VALUES (gen_random_uuid(), :id, 'Division', 'ACTIVE', :id, :id);
	INSERT INTO prm.employees (id, legal_entity_id, employee_type, status, inserted_by, updated_by)
		VALUES (gen_random_uuid(), :id, 'DOCTOR', 'APPROVED', :id, :id);
	INSERT INTO prm.licenses (id, legal_entity_id, type, is_primary, is_active, issued_by, issued_date, active_from_date,
			inserted_by, updated_by)
		VALUES (gen_random_uuid(), :id, 'MSP', true, true, 'Ministry', '2020-01-01', '2020-01-01', :id, :id);
	INSERT INTO medical_events.service_requests
			(id, requisition, patient_id, status, program_id, program_processing_status, used_by_legal_entity_id, category,
			 expiration_date, inserted_by, updated_by)
		SELECT ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, 'R', gen_random_uuid(), 'active',
			gen_random_uuid(), 'in_queue', :id, 'counselling', now() + interval '1 year', :id, :id
		FROM generate_series(1, 9) AS n;`

const clinicID = "8be63914-a278-470b-b868-1af5b9087332"

// furnish migrates the database, fills it, and sets KEY and TOKEN for calls of the API.
func (b *bench) furnish() {
	b.t.Helper()
	b.sh("reiestr migrate up")
	b.sql(strings.ReplaceAll(clinicSQL, ":id", "'"+clinicID+"'"))
	b.sql(`INSERT INTO ops.event_horizons VALUES (gen_random_uuid(), 1)`)
	b.sql(`INSERT INTO ops.access_epoch (epoch) VALUES (1)`)
	b.set("KEY", b.value("reiestr apikey issue --name test"))
	b.set("TOKEN", b.value("reiestr token issue --legal-entity "+clinicID+" --user "+clinicID+
		" --scope 'service_request:use job:read event:read' --ttl 24h"))
}

// release calls the release of the n-th service request, and returns the answer.
func (b *bench) release(url string, n int, wait string) string {
	b.t.Helper()
	return b.sh(fmt.Sprintf(`curl --silent --show-error --fail -X PATCH -H "Authorization: Bearer $TOKEN" \
		-H "api-key: $KEY" -H "Idempotency-Key: %d" -H "Prefer: wait=%s" \
		%s/api/service_requests/00000000-0000-0000-0000-%012d/actions/release`, n, wait, url, n))
}

// counts returns, for every table, a line with the number of rows and a checksum of them.
func (b *bench) counts() string {
	b.t.Helper()
	return b.sql(`
		SELECT format('SELECT %L AS table, count(*), min(t::text) IS NOT NULL AS filled,
				md5(string_agg(t::text, E''\n'' ORDER BY t::text)) FROM %I.%I t',
			schemaname || '.' || tablename, schemaname, tablename)
		FROM pg_tables WHERE schemaname IN ('prm', 'medical_events', 'ops') ORDER BY schemaname, tablename \gexec`)
}

// events answers the events behind a cursor; none: all.
func (b *bench) events(url, cursor string) string {
	b.t.Helper()
	query := "?limit=300"
	if cursor != "" {
		query += "&after=" + cursor
	}
	return b.sh(`curl --silent --show-error -H "Authorization: Bearer $TOKEN" -H "api-key: $KEY" '` +
		url + "/api/events" + query + "'")
}

// cursor answers the cursor of the end of the feed.
func (b *bench) cursor(url string) string {
	b.t.Helper()
	return regexp.MustCompile(`"cursor":"([0-9a-f]+)"`).FindStringSubmatch(b.events(url, ""))[1]
}

// cursorRefused expects that a cursor is told to be of another state of the database.
func (b *bench) cursorRefused(url, cursor string) {
	b.t.Helper()
	if told := b.events(url, cursor); !strings.Contains(told, `"code":409`) || !strings.Contains(told, "restored") {
		b.t.Errorf("behind a cursor that is lost: %s", told)
	}
}

func TestPlaybookBackupByDump(t *testing.T) {
	t.Parallel()
	p, b := readPlaybook(t, "backup-and-restore.md"), newBench(t)
	b.furnish()
	url, end := b.serve()
	for n := range 3 {
		b.release(url, n+1, "10")
	}
	b.events(url, "")
	end()
	// This table is empty when no command is under way, and every table has to have a row.
	b.sql(`INSERT INTO ops.unpublished_events VALUES (-1, gen_random_uuid())`)
	p.try(b, "dump")
	before := b.counts()
	b.sql(`DELETE FROM ops.unpublished_events WHERE sequence_number = -1`)
	url, end = b.serve()
	kept := b.cursor(url)
	for n := 4; n < 7; n++ { // events that the dump does not have
		b.release(url, n, "10")
	}
	lost := b.cursor(url)
	end()
	if strings.Contains(before, " f ") || strings.Count(before, "ops.jobs") != 1 {
		t.Errorf("tables without a row:\n%s", before)
	}

	b.start("new", 5433)
	b.set("RESTORE_SERVER_URL", strings.Trim(b.server(5433), "'"))
	b.set("RESTORED_URL", "postgres:///reiestr?user=postgres&port=5433&host="+b.dir)
	p.try(b, "restore", fmt.Sprintf("the schema is at version %d", migrations.Latest()))
	if status := p.try(b, "check schema"); strings.Contains(status, "pending") {
		t.Errorf("after the restore:\n%s", status)
	}
	b.set("REIESTR_DATABASE_URL", b.environment["RESTORED_URL"])
	if after := b.counts(); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
	if said := p.try(b, "check rows"); !regexp.MustCompile(`(?m)^ +0 \| .* \| +0 \| t$`).MatchString(said) {
		t.Errorf("check rows says\n%s", said)
	}
	b.sql(`DELETE FROM ops.unpublished_events WHERE sequence_number = -1`)
	p.try(b, "serve restored")
	// The token of before is still valid, stored answers are repeated, and new requests are processed.
	restored, _ := b.serve()
	if again := b.release(restored, 1, "10"); !strings.Contains(again, `"processed"`) {
		t.Errorf("a repeated request is answered %s", again)
	}
	// A reader that has seen events that are lost is told so, also when there are new ones. The others go on.
	b.cursorRefused(restored, lost)
	if next := b.release(restored, 4, "10"); !strings.Contains(next, `"processed"`) {
		t.Errorf("the next request is answered %s", next)
	}
	b.cursorRefused(restored, lost)
	if told := b.events(restored, kept); strings.Count(told, `"event_type"`) != 1 {
		t.Errorf("behind the cursor from before the dump: %s", told)
	}
	p.skip("archive", "base backup", "archiver", "last wal", "point in time", "own server")
}

// skip marks blocks that another test of the same page runs.
func (p *playbook) skip(names ...string) {
	for _, name := range names {
		p.tried[name] = true
	}
}

func TestPlaybookBackupByBaseBackup(t *testing.T) {
	t.Parallel()
	p, b := readPlaybook(t, "backup-and-restore.md"), newBench(t)
	b.furnish()
	b.sh("mkdir archive")
	b.set("ARCHIVE", b.dir+"/archive")
	b.set("BASE", b.dir+"/base")
	p.try(b, "archive", "server started")
	p.try(b, "base backup")
	url, _ := b.serve()
	b.release(url, 1, "10")
	b.events(url, "")
	b.set("MOMENT", b.value(`sleep 0.1
		psql --no-psqlrc --tuples-only --no-align --dbname="$REIESTR_DATABASE_URL" --command="SELECT clock_timestamp()"
		sleep 0.1`))
	// The accident: changes after the moment of the restore are lost, and the service requests are deleted. There are more
	// than 32 lost events, because a sequence skips up to 32 numbers after a recovery.
	b.release(url, 2, "10")
	b.sql(`INSERT INTO ops.events (entity_type, entity_id, properties, changed_by, legal_entity_ids)
		SELECT 'License', gen_random_uuid(), '{"status": {"new_value": "active", "old_value": null}}', gen_random_uuid(),
			'{` + clinicID + `}'
		FROM generate_series(1, 40)`)
	lost := b.cursor(url)
	b.sql(`DELETE FROM medical_events.service_request_history; DELETE FROM medical_events.service_requests`)
	p.try(b, "last wal")
	eventually(t, "the last WAL is archived", func() bool {
		return strings.Contains(b.sql(`SELECT last_archived_wal >= pg_walfile_name(pg_current_wal_lsn() - 1)
			OR last_archived_time > now() - interval '1 minute' AND archived_count > 2 AS done FROM pg_stat_archiver`), " t\n")
	})
	p.try(b, "archiver", " 0 |")

	b.set("RESTORED_PGDATA", b.dir+"/restored")
	b.set("RESTORE_PORT", "5434")
	b.set("RESTORED_URL", "postgres:///reiestr?user=postgres&port=5434&host="+b.dir)
	b.stopAtEnd("restored")
	p.try(b, "point in time", "server started", "recovery stopping before commit")
	b.set("REIESTR_DATABASE_URL", b.environment["RESTORED_URL"])
	said := b.sql(`SELECT count(*), count(*) FILTER (WHERE program_processing_status = 'new') AS released
		FROM medical_events.service_requests`)
	if !regexp.MustCompile(`(?m)^ +9 \| +1$`).MatchString(said) {
		t.Errorf("restored:\n%s", said)
	}
	// A reader that has seen the event that is lost is told so, before and after the next event.
	restored, _ := b.serve()
	b.cursorRefused(restored, lost)
	b.release(restored, 3, "10")
	b.cursorRefused(restored, lost)
	p.skip("dump", "restore", "check schema", "check rows", "serve restored", "own server")
}

func TestPlaybookBackupOfTheOwnServer(t *testing.T) {
	t.Parallel()
	p, b := readPlaybook(t, "backup-and-restore.md"), newBench(t)
	b.set("REIESTR_DATABASE_URL", "")
	b.set("KEY", b.value("reiestr apikey issue --name kept"))
	if said := p.try(b, "own server"); strings.Contains(said, "pending") {
		t.Errorf("restored:\n%s", said)
	}
	b.set("REIESTR_DATA_DIR", "restored/.reiestr")
	b.sh(`rm -r .reiestr; reiestr apikey revoke "$KEY"`) // the restored data have the key
	p.skip("archive", "base backup", "archiver", "last wal", "point in time", "dump", "restore",
		"check schema", "check rows", "serve restored")
}

func TestPlaybookRollOut(t *testing.T) {
	t.Parallel()
	p, b := readPlaybook(t, "roll-out-and-roll-back.md"), newBench(t)
	latest := migrations.Latest()
	b.furnish()
	takeBack := func(migration string) {
		b.sh("until reiestr migrate status | grep '" + migration + ".*pending'; do reiestr migrate down; done")
	}
	// The schema is that of an earlier release, and an open transaction blocks the migration.
	takeBack("00011_retention_indexes.sql")
	p.try(b, "plan", fmt.Sprintf("%05d_", latest), "pending", "SHARE UPDATE EXCLUSIVE on ops.event_feed")
	idler := b.connect("forgotten")
	_, err := idler.Exec(t.Context(), "BEGIN; LOCK TABLE ops.event_feed IN ROW EXCLUSIVE MODE")
	must(t, err)
	time.Sleep(5 * time.Second) // the query of the page finds older transactions only
	p.try(b, "long transactions", "forgotten", "idle in transaction")

	// The building of an index waits for the transaction, and is interrupted.
	interrupted := make(chan error, 1)
	go func() { interrupted <- b.command(t.Context(), "reiestr migrate up").Run() }()
	eventually(t, "the migration waits and is ended", func() bool {
		return strings.Contains(b.sql(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE application_name = 'reiestr migrate' AND wait_event = 'virtualxid'`), " t\n")
	})
	if err := receive(t, interrupted); err == nil {
		t.Error("the migration did not wait")
	}
	p.try(b, "invalid indexes", "ops.event_feed_position_idx", "ops.event_feed")
	_, err = idler.Exec(t.Context(), "COMMIT")
	must(t, err)

	b.sh("reiestr migrate up")
	p.try(b, "invalid indexes", "(0 rows)")

	// Another migration gives up waiting for its lock, and gets the lock when it is free.
	takeBack("00012_retention.sql")
	_, err = idler.Exec(t.Context(), "BEGIN; LOCK TABLE ops.events IN SHARE UPDATE EXCLUSIVE MODE")
	must(t, err)
	watcher := b.connect("watcher")
	freed := make(chan error, 1)
	go func() {
		// The migration waits for the lock, and then for the time after which it tries again.
		var err error
		for _, state := range []bool{true, false} {
			waits := !state
			for end := time.Now().Add(time.Minute); err == nil && waits != state && time.Now().Before(end); {
				time.Sleep(50 * time.Millisecond)
				err = watcher.QueryRow(context.Background(), `SELECT EXISTS (SELECT FROM pg_stat_activity
					WHERE application_name = 'reiestr migrate' AND wait_event_type = 'Lock')`).Scan(&waits)
			}
		}
		_, committed := idler.Exec(context.Background(), "COMMIT")
		freed <- errors.Join(err, committed)
	}()
	p.try(b, "up", "lock timeout", fmt.Sprintf("the schema is at version %d", latest))
	must(t, receive(t, freed))
	p.try(b, "failed jobs", "REFUSAL")
	pending := regexp.MustCompile(fmt.Sprintf(`(?m)^%d +%05d_\w+\.sql +pending$`, latest, latest))
	if said := p.try(b, "down"); strings.Count(said, "pending") != 1 || !pending.MatchString(said) {
		t.Errorf("taken back:\n%s", said)
	}
}

func TestPlaybookUpgrade(t *testing.T) {
	t.Parallel()
	p, b := readPlaybook(t, "upgrade.md"), newBench(t)
	b.furnish()
	url, _ := b.serve()
	b.release(url, 1, "10")
	p.try(b, "restart", "server started", "server_version")
	eventually(t, "the service is ready again", func() bool {
		said, _ := b.command(t.Context(),
			"curl --silent --output /dev/null --write-out '%{http_code}' "+url+"/readyz").Output()
		return string(said) == "200"
	})
	if after := b.release(url, 2, "10"); !strings.Contains(after, `"processed"`) {
		t.Errorf("after the restart: %s", after)
	}
	p.try(b, "connected sessions", "reiestr all")
	p.try(b, "statistics")
	said := b.sql(`SELECT count(*) AS n FROM pg_stats
		WHERE schemaname = 'medical_events' AND tablename = 'service_requests'`)
	if strings.Contains(said, " 0\n") {
		t.Errorf("no statistics:\n%s", said)
	}
	p.try(b, "collation", "reiestr")
	p.try(b, "reindex")
	if said := b.sql(`SELECT count(*) AS invalid FROM pg_index WHERE NOT indisvalid`); !strings.Contains(said, " 0\n") {
		t.Error(said)
	}
}

func TestPlaybookQueueGrows(t *testing.T) {
	t.Parallel()
	p, b := readPlaybook(t, "queue-grows.md"), newBench(t)
	b.furnish()
	url, _ := b.serve()
	b.release(url, 9, "10")

	// A session does not commit. It holds a lock on a service request, whose job the workers skip, and on a table, for
	// which the workers wait.
	idler := b.connect("forgotten")
	_, err := idler.Exec(t.Context(), `BEGIN;
		SELECT FROM medical_events.service_requests WHERE id = '00000000-0000-0000-0000-000000000001' FOR UPDATE`)
	must(t, err)
	b.release(url, 1, "0")
	p.try(b, "look", "release", "(1 row)", " 1 |")
	p.try(b, "workers", "reiestr all")
	pid := fmt.Sprintf(" %d |", idler.PgConn().PID())
	eventually(t, "the open transaction is seen", func() bool {
		return strings.Contains(p.try(b, "open transactions"), pid)
	})
	_, err = idler.Exec(t.Context(), `LOCK TABLE medical_events.service_request_history IN SHARE MODE`)
	must(t, err)
	b.release(url, 3, "0")
	var line string
	eventually(t, "a worker waits for the forgotten session", func() bool {
		line = p.try(b, "blocking sessions")
		return strings.Contains(line, "forgotten") && strings.Contains(line, "reiestr all") &&
			strings.Contains(line, "idle in transaction")
	})
	if !strings.Contains(line, pid) {
		t.Errorf("no process id %d:\n%s", idler.PgConn().PID(), line)
	}
	p.try(b, "dead rows", "unpublished_events")
	b.set("PID", strconv.FormatUint(uint64(idler.PgConn().PID()), 10))
	p.try(b, "end a session", " t\n")
	drained := func() bool {
		return strings.Contains(b.sql(`SELECT count(*) AS n FROM ops.jobs WHERE status = 'pending'`), " 0\n")
	}
	eventually(t, "the queue is empty", drained)

	// A job that fails at each attempt, until its cause is removed.
	b.sql(`CREATE FUNCTION ops.fail() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''cause''; END';
		CREATE TRIGGER fails BEFORE UPDATE ON medical_events.service_requests 
			FOR EACH ROW WHEN (OLD.id = '00000000-0000-0000-0000-000000000002') EXECUTE FUNCTION ops.fail();
		GRANT EXECUTE ON FUNCTION ops.fail() TO PUBLIC`)
	accepted := b.release(url, 2, "0")
	eventually(t, "the job has failed for good", drained)
	id := regexp.MustCompile(`/api/jobs/([0-9a-f-]{36})`).FindStringSubmatch(accepted)[1]
	p.try(b, "failed jobs", id, "internal_error")
	log := b.sh("cat serve.log")
	if !strings.Contains(log, "a job made its transaction fail") || !strings.Contains(log, id) {
		t.Errorf("the log does not say why:\n%s", log)
	}
	b.set("JOB", id)
	p.try(b, "show", "attempts", "5", "internal_error")
	b.sql(`DROP TRIGGER fails ON medical_events.service_requests`)
	b.set("JOB", strings.TrimSpace(p.try(b, "retry")))
	eventually(t, "the new job is processed", func() bool {
		return strings.Contains(b.sh(`reiestr jobs show "$JOB"`), "processed")
	})

	p.try(b, "more workers", "reiestr_queue_jobs 0")
	p.try(b, "vacuum", "VACUUM")
	p.try(b, "sizes", "jobs", "event_feed", "oldest_event")
	p.try(b, "prune", "0 jobs, 0 events and 0 idempotency keys removed")
}
