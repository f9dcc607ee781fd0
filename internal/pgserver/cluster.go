package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// draftPrefix begins the names of folders with unfinished clusters.
const draftPrefix = clusterFolder + ".new-"

// socketLimit is the longest path of a socket, in bytes: systems take 104 or 108.
const socketLimit = 100

// settings are fixed for every server. The operator can change all others in postgresql.conf.
var settings = []string{
	"listen_addresses=", "port=5432", "unix_socket_permissions=0700",
	"logging_collector=off", "log_destination=stderr", "cluster_name=reiestr",
}

// temporarySettings make a server fast and not durable. pg_stat_statements counts only in databases that switch it on.
var temporarySettings = []string{"fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=300",
	statistics + ".track=none"}

// cluster runs a server with binaries of this machine.
type cluster struct {
	home     *home
	cfg      Config
	as       *account // user of the server; nil: the user of this process
	bin      installation
	log      *os.File
	socket   string // folder of the socket
	outside  bool   // the socket is outside of the data directory
	byHandle bool   // the account may not enter the parents of the data directory
	handles  map[string]*os.File
}

// startCluster starts the server in the data directory. If there is no cluster, it makes one first.
func startCluster(ctx context.Context, cfg Config, home *home) (b *backend, err error) {
	c := &cluster{home: home, cfg: cfg, handles: map[string]*os.File{}}
	if c.as, err = serverAccount(home); err != nil {
		return nil, err
	}
	if err := c.chooseBinaries(ctx); err != nil {
		return nil, err
	}
	if c.log, err = home.OpenFile(logFile, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
		return nil, fmt.Errorf("cannot write the log of PostgreSQL: %w", err)
	}
	defer func() {
		for _, f := range c.handles {
			f.Close()
		}
		if err != nil {
			c.log.Close()
		}
	}()
	if err := c.prepare(ctx); err != nil {
		return nil, err
	}
	p, err := c.launch(ctx)
	if err != nil {
		return nil, err
	}
	version, err := prepareDatabase(ctx, c.url())
	if err == nil && !cfg.temporary {
		err = showStatistics(ctx, c.url())
	}
	if err != nil {
		p.abandon()
		return nil, err
	}
	b = &backend{
		url:         c.url(),
		description: fmt.Sprintf("PostgreSQL %s, own server in %s", version, home.name),
		stop:        c.guard(p),
	}
	if c.outside {
		b.socket = c.socket
	}
	return b, nil
}

// chooseBinaries finds the binaries for the existing cluster, or the first suitable ones for a new cluster.
func (c *cluster) chooseBinaries(ctx context.Context) error {
	major, err := clusterMajor(c.home)
	if err != nil {
		return err
	}
	c.bin, err = findInstallation(ctx, c.cfg.Bin, slices.Concat(c.cfg.folders, c.cfg.downloaded(major)), major)
	if errors.Is(err, errNoBinaries) && major != 0 {
		return fmt.Errorf("the data in %s were made by PostgreSQL %d: install that version (for example apt-get install "+
			"postgresql-%d), or move %s away to start with an empty cluster: %w",
			c.home.name, major, major, filepath.Join(c.home.name, clusterFolder), err)
	}
	if err != nil {
		return err
	}
	if c.cfg.Bin != "" && !sameFolder(c.cfg.Bin, c.bin.dir) {
		c.cfg.Logger.Warn("the folder of PostgreSQL binaries in the configuration holds none that will do, using others",
			"configured", c.cfg.Bin, "used", c.bin.dir)
	}
	return nil
}

// clusterMajor returns the major version of PostgreSQL that made the cluster; 0 where there is no cluster.
func clusterMajor(home *home) (major int, err error) {
	if !home.has(clusterFolder) {
		return 0, nil
	}
	text, err := home.ReadFile(clusterFolder + "/PG_VERSION")
	if err == nil {
		major, err = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	if err != nil {
		return 0, fmt.Errorf("%s is not a PostgreSQL cluster, move it away to start with an empty one: %w",
			filepath.Join(home.name, clusterFolder), err)
	}
	return major, nil
}

func sameFolder(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// prepare makes what the start needs: the cluster, the authentication rules, the folder of the socket.
func (c *cluster) prepare(ctx context.Context) error {
	if c.home.has(clusterFolder) {
		if err := c.probe(ctx, clusterFolder); err != nil {
			return err
		}
	} else if err := c.create(ctx); err != nil {
		return err
	}
	if err := c.writeAccess(); err != nil {
		return fmt.Errorf("cannot write the authentication rules of PostgreSQL: %w", err)
	}
	if err := c.placeSocket(); err != nil {
		return fmt.Errorf("cannot make the folder of PostgreSQL's socket: %w", err)
	}
	return nil
}

// create makes the cluster in a folder with another name, and renames the folder when the cluster is complete.
func (c *cluster) create(ctx context.Context) error {
	c.cfg.Logger.Info("making a PostgreSQL cluster", "version", c.bin.version,
		"folder", filepath.Join(c.home.name, clusterFolder))
	abandoned, err := fs.Glob(c.home.FS(), draftPrefix+"*")
	if err != nil {
		return err
	}
	for _, name := range abandoned {
		_ = c.home.RemoveAll(name) // fails if a killed initdb still writes there; the next start tries again
	}
	draft := draftPrefix + strconv.FormatInt(time.Now().UnixNano(), 36)
	if err := c.makeFolder(draft); err != nil {
		return fmt.Errorf("cannot make a folder for the PostgreSQL cluster: %w", err)
	}
	err = c.probe(ctx, draft)
	if err == nil {
		err = c.initdb(ctx, draft)
	}
	if err == nil {
		err = c.loadStatistics(draft)
	}
	if err == nil {
		err = c.home.Rename(draft, clusterFolder)
	}
	if err == nil {
		err = syncFolder(c.home.Root)
	}
	if err != nil {
		return errors.Join(err, c.home.RemoveAll(draft))
	}
	return nil
}

// initdb makes a cluster in the folder, with encoding UTF8 and the locale C.UTF-8 or C.
func (c *cluster) initdb(ctx context.Context, folder string) error {
	var err error
	for _, locale := range []string{"C.UTF-8", "C"} { // some systems do not have the first
		cmd := exec.Command(filepath.Join(c.bin.dir, "initdb"),
			"--username="+login, "--encoding=UTF8", "--locale="+locale, "--data-checksums",
			"--auth-local=peer", "--auth-host=reject", "--no-instructions")
		if c.cfg.temporary {
			cmd.Args = append(cmd.Args, "--no-sync")
		}
		var path string
		if path, err = c.reach(cmd, folder); err != nil {
			return err
		}
		cmd.Args = append(cmd.Args, "--pgdata="+path)
		from := c.logSize()
		if err = c.run(ctx, cmd); err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("making the PostgreSQL cluster: %w", err)
		}
		said := c.tail(from)
		err = fmt.Errorf("initdb cannot make a PostgreSQL cluster in %s (%w): %s", c.home.name, err, said)
		if !strings.Contains(said, "locale") {
			return err
		}
	}
	return err
}

// statistics is the module that measures the cost of each statement.
const statistics = "pg_stat_statements"

// loadStatistics makes the server load the module, if it is installed. The setting is written to postgresql.conf, so
// that the operator can remove it.
func (c *cluster) loadStatistics(folder string) error {
	folders := []string{"../lib", "../lib/postgresql"} // Debian and Red Hat; Homebrew
	installed := slices.ContainsFunc(folders, func(libraries string) bool {
		found, _ := filepath.Glob(filepath.Join(c.bin.dir, libraries, statistics+".*"))
		return len(found) > 0
	})
	if !installed {
		return nil
	}
	f, err := c.home.OpenFile(folder+"/postgresql.conf", os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "\n# Written by reiestr, once: costs by statement.\nshared_preload_libraries = '%s'\n",
		statistics)
	return errors.Join(err, f.Close())
}

// showStatistics creates the view with the measurements of the module, if the module is loaded. This needs a superuser,
// as the login of the own server is.
func showStatistics(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, `DO $$ BEGIN
		IF current_setting('shared_preload_libraries') LIKE '%`+statistics+`%' THEN
			CREATE EXTENSION IF NOT EXISTS `+statistics+`;
		END IF;
	END $$`)
	return err
}

// syncFolder makes changes of names in the folder durable.
func syncFolder(root *os.Root) error {
	f, err := root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// run runs a program of PostgreSQL to its end. The output goes to the log.
func (c *cluster) run(ctx context.Context, cmd *exec.Cmd) error {
	cmd.Stdout, cmd.Stderr = c.log, c.log
	p, err := startProcess(cmd, c.as)
	if err != nil {
		return err
	}
	return p.run(ctx)
}

// probe checks that the account can run the binaries, and whether it can open a folder of the data directory by its
// path.
func (c *cluster) probe(ctx context.Context, folder string) error {
	if c.as == nil {
		return nil
	}
	try := func(dir string) error {
		cmd := exec.Command(filepath.Join(c.bin.dir, "postgres"), "--version")
		cmd.Dir = dir
		return c.run(ctx, cmd)
	}
	if try(filepath.Join(c.home.path, folder)) == nil {
		return nil
	}
	if err := try("/"); err != nil {
		return fmt.Errorf("PostgreSQL does not run as root, and user %s cannot run its binaries in %s, point "+
			"REIESTR_POSTGRES_BIN at others: %w", c.as.name, c.bin.dir, err)
	}
	c.byHandle = true
	return nil
}

// reach returns the path by which the command can open a folder of the data directory. It is the path of the folder or,
// if the account may not enter its parents (as below /root), a path through an open file descriptor.
func (c *cluster) reach(cmd *exec.Cmd, folder string) (string, error) {
	if !c.byHandle {
		return filepath.Join(c.home.path, folder), nil
	}
	if c.handles[folder] == nil {
		f, err := c.home.Open(folder)
		if err != nil {
			return "", err
		}
		c.handles[folder] = f
	}
	path, err := passFolder(cmd, c.handles[folder])
	if err != nil {
		return "", fmt.Errorf("PostgreSQL does not run as root, and user %s may not enter %s: set REIESTR_DATA_DIR to a "+
			"folder whose parents every user may enter, for example /var/lib/reiestr: %w", c.as.name, c.home.path, err)
	}
	return path, nil
}

// makeFolder makes a folder, if it is missing, and gives it to the user of the server alone.
func (c *cluster) makeFolder(name string) error {
	if err := c.home.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if c.as != nil {
		if err := c.home.Lchown(name, c.as.uid, c.as.gid); err != nil {
			return err
		}
	}
	return c.home.Chmod(name, 0o700)
}

// writeAccess writes the authentication rules: this user, the user of the server and root may log in as reiestr,
// through the socket and without a password. No other login is possible.
func (c *cluster) writeAccess() error {
	root, err := c.home.OpenRoot(clusterFolder)
	if err != nil {
		return err
	}
	defer root.Close()
	const header = "# Written at every start of the server.\n"
	users := []string{userName(os.Geteuid()), userName(0)}
	if c.as != nil {
		users = append(users, c.as.name)
	}
	slices.Sort(users)
	ident := header
	for _, name := range slices.Compact(users) {
		ident += fmt.Sprintf("%s %q %s\n", login, name, login)
	}
	hba := fmt.Sprintf("%slocal all %s peer map=%s\n", header, login, login)
	return errors.Join(
		replace(root, "pg_hba.conf", []byte(hba), 0o644),
		replace(root, "pg_ident.conf", []byte(ident), 0o644))
}

// placeSocket makes the folder of the socket in the data directory. If the path would be too long, or contains a comma
// (which separates folders in settings and URLs), it makes a private folder in /tmp instead.
func (c *cluster) placeSocket() error {
	c.socket = filepath.Join(c.home.path, socketFolder)
	if len(c.socket+"/.s.PGSQL.5432") <= socketLimit && !strings.Contains(c.socket, ",") {
		return c.makeFolder(socketFolder)
	}
	c.outside = true
	if text, err := c.home.ReadFile(socketFolderFile); err == nil {
		c.socket = string(text)
		if c.home.checkSocketFolder(c.socket) == nil {
			return nil // of a killed owner, whose server may still run
		}
	}
	dir, err := os.MkdirTemp("/tmp", "reiestr-")
	if err != nil {
		return err
	}
	c.socket = dir
	if c.as != nil {
		if err := os.Lchown(dir, c.as.uid, c.as.gid); err != nil {
			return err
		}
	}
	return replace(c.home.Root, socketFolderFile, []byte(dir), 0o600)
}

// checkSocketFolder refuses a folder in /tmp that another user may have made.
func (h *home) checkSocketFolder(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("the folder of PostgreSQL's socket: %w", err)
	}
	data, err := h.Lstat(clusterFolder)
	if err != nil {
		return err
	}
	if info.Mode() != fs.ModeDir|0o700 || owner(info) != owner(data) {
		return fmt.Errorf("%s is not the private folder of PostgreSQL's socket", path)
	}
	return nil
}

// url returns the URL by which clients reach the server.
func (c *cluster) url() string {
	host := strings.ReplaceAll(url.QueryEscape(c.socket), "+", "%20") // libpq does not read + as a space
	return fmt.Sprintf("postgres://%s@/%s?host=%s&port=5432", login, login, host)
}

// leftBehind matches what PostgreSQL logs while the server of a killed owner still runs.
var leftBehind = regexp.MustCompile(`lock file ".*" already exists|pre-existing shared memory block`)

// launch starts the server and waits until it accepts connections.
func (c *cluster) launch(ctx context.Context) (*process, error) {
	limit := time.Now().Add(retryLimit)
	for {
		from := c.logSize()
		p, err := c.startPostgres()
		if err != nil {
			return nil, fmt.Errorf("cannot start PostgreSQL: %w", err)
		}
		if err = c.awaitReady(ctx, p); err == nil {
			return p, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("starting PostgreSQL: %w", err)
		}
		said := c.tail(from)
		if !leftBehind.MatchString(said) || time.Now().After(limit) {
			return nil, fmt.Errorf("PostgreSQL does not start (%w), see %s: %s",
				err, filepath.Join(c.home.name, logFile), said)
		}
		c.stopOrphan(ctx)
		if err := sleep(ctx, retryEvery); err != nil {
			return nil, fmt.Errorf("waiting for an earlier PostgreSQL server to end: %w", err)
		}
	}
}

// startPostgres starts the server process.
func (c *cluster) startPostgres() (*process, error) {
	cmd := exec.Command(filepath.Join(c.bin.dir, "postgres"))
	cmd.Stdout, cmd.Stderr = c.log, c.log
	data, err := c.reach(cmd, clusterFolder)
	if err != nil {
		return nil, err
	}
	socket := c.socket
	if !c.outside {
		if socket, err = c.reach(cmd, socketFolder); err != nil {
			return nil, err
		}
	}
	cmd.Args = append(cmd.Args, "-D", data, "-c", "unix_socket_directories="+socket)
	fixed := settings
	if c.cfg.temporary {
		fixed = slices.Concat(settings, temporarySettings)
	}
	for _, setting := range fixed {
		cmd.Args = append(cmd.Args, "-c", setting)
	}
	return startProcess(cmd, c.as)
}

// awaitReady waits until the server reports that it is ready. There is no other limit, because a recovery may take
// long. When the context ends first, the server is stopped.
func (c *cluster) awaitReady(ctx context.Context, p *process) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.ended:
			return p.err
		case <-ctx.Done():
			p.abandon()
			return ctx.Err()
		case <-tick.C:
			if pid, status := c.postmaster(); pid == p.cmd.Process.Pid && status == "ready" {
				return nil
			}
		}
	}
}

// postmaster reads postmaster.pid: the process id (0 if there is no file) and the status of the server.
func (c *cluster) postmaster() (pid int, status string) {
	text, err := c.home.ReadFile(clusterFolder + "/postmaster.pid")
	if err != nil {
		return 0, ""
	}
	lines := strings.Split(string(text), "\n")
	pid, _ = strconv.Atoi(lines[0])
	if len(lines) > 7 {
		status = strings.TrimSpace(lines[7])
	}
	return pid, status
}

// stopOrphan stops a server whose owner was killed, on systems that do not signal the death of a parent. The server
// answers on the socket, which shows that the process id belongs to a server of this cluster.
func (c *cluster) stopOrphan(ctx context.Context) {
	if _, err := prepareDatabase(ctx, c.url()); err != nil {
		return
	}
	if pid, _ := c.postmaster(); pid > 0 {
		c.cfg.Logger.Warn("stopping a PostgreSQL server whose owner is gone", "pid", pid)
		_ = syscall.Kill(pid, syscall.SIGINT) // fails if the server ends at this moment
	}
}

// guard logs if the server ends by itself, and returns the function that stops the server.
func (c *cluster) guard(p *process) (stop func(context.Context) error) {
	var wanted atomic.Bool
	from := c.logSize()
	reported := make(chan struct{})
	go func() {
		defer close(reported)
		<-p.ended
		if !wanted.Load() {
			c.cfg.Logger.Error("PostgreSQL ended by itself, start again", "error", p.err, "log", c.tail(from))
		}
	}()
	return func(ctx context.Context) error {
		wanted.Store(true)
		err := p.stop(ctx)
		<-reported
		if err != nil {
			err = fmt.Errorf("PostgreSQL did not stop in time and was killed; its next start recovers: %w", err)
		}
		if c.outside {
			err = errors.Join(err, os.RemoveAll(c.socket), c.home.Remove(socketFolderFile))
		}
		return errors.Join(err, c.log.Close())
	}
}

// logSize returns the length of the log in bytes.
func (c *cluster) logSize() int64 {
	info, err := c.log.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}

// tail returns, as one line, at most five lines: the last ones of the log after the position.
func (c *cluster) tail(from int64) string {
	const most = 8 << 10 // bytes
	text := make([]byte, most)
	n, _ := c.log.ReadAt(text, max(from, c.logSize()-most)) // an error only makes the text shorter
	return oneLine(text[:n])
}

// oneLine joins the last lines of the text, at most five.
func oneLine(text []byte) string {
	lines := strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' })
	return strings.Join(lines[max(0, len(lines)-5):], " | ")
}
