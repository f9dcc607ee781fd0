// Package pgserver runs a PostgreSQL server in a data directory. The program uses it if no database is configured.
//
// The server uses the PostgreSQL binaries of the machine and listens on a Unix socket only. If there are no binaries,
// the server runs in a Docker container. If there is no Docker either, binaries are downloaded: one pinned archive for
// each platform, kept in the user's cache folder.
//
// The process that starts the server is its owner, as long as this process runs. Every other process that opens the
// same data directory joins the server, and loses it when the owner closes it. If the owner is killed, its server may
// continue to run; the next owner stops that server and starts a new one.
//
// A data directory holds:
//
//	lock            flock of the owner, its process id inside
//	NAME.lock       flock of a role, see [Server.LockRole]
//	server.json     how to join the server that runs now
//	postgres/       the cluster (PGDATA)
//	postgres.log    everything PostgreSQL says, never rotated
//	socket/         the socket, for the server's user and root only
//	socket-folder   where the socket is instead, when its path in here would be too long
//	container.json  name, image and password of the Docker container, which then holds the data in a volume of its name
//
// Existing data decide between binaries and Docker. Only for an empty data directory there is a choice.
package pgserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// DefaultImage is the container image that is used unless the configuration names another.
const DefaultImage = "postgres:17"

// login is the name of the superuser, which is the only login, and of the database.
const login = "reiestr"

// Limits and intervals of waiting.
const (
	pollEvery  = 10 * time.Millisecond // between two checks of a starting server
	retryEvery = 50 * time.Millisecond // between two attempts to start or to join
	retryLimit = 30 * time.Second      // to wait for the end of the server of a killed owner
	joinLimit  = 2 * time.Minute       // to wait for another process that starts its server
)

// Errors that callers can test for with errors.Is. The error around them says what happened and what to do.
var (
	// ErrNoServer: there are neither binaries nor Docker, and binaries cannot be downloaded.
	ErrNoServer = errors.New("no PostgreSQL server is available: install one (for example apt-get install postgresql) " +
		"or point REIESTR_POSTGRES_BIN at the folder of its binaries; or start Docker; " +
		"or set REIESTR_DATABASE_URL to a server of your own")
	// ErrInUse: another process holds the lock asked for.
	ErrInUse = errors.New("data directory in use")
)

// Config sets the place of the server, and how its binaries are found.
type Config struct {
	DataDir string       // is made if it is missing
	Bin     string       // folder with postgres and initdb, searched first; may be empty
	Image   string       // container image; empty: DefaultImage
	Logger  *slog.Logger // nil: nothing is logged

	// Used if there are neither binaries nor Docker.
	Download string // DownloadAuto or DownloadNever; empty: DownloadAuto
	Mirror   string // URL of the Maven repository to download from; empty: DefaultMirror

	folders   []string      // patterns of usual folders of binaries; nil: usualFolders
	temporary bool          // fast, not durable
	archives  string        // empty: pinnedArchives
	cache     string        // folder of downloaded servers; empty: in the user's cache folder
	stall     time.Duration // longest pause in a download; 0: stallLimit
}

// complete returns the configuration with defaults for its empty values.
func (cfg Config) complete() Config {
	cfg.Image = cmp.Or(cfg.Image, DefaultImage)
	cfg.Download = cmp.Or(cfg.Download, DownloadAuto)
	cfg.Mirror = cmp.Or(cfg.Mirror, DefaultMirror)
	cfg.archives = cmp.Or(cfg.archives, pinnedArchives)
	cfg.stall = cmp.Or(cfg.stall, stallLimit)
	if cfg.folders == nil {
		cfg.folders = usualFolders
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg
}

// Server is a running PostgreSQL server that this process has started or joined.
type Server struct {
	home    *home
	lock    *lockFile // nil: another process owns the server
	backend *backend
	cleanup func() error // removes the data of a temporary server; nil: there is nothing to remove
}

// backend runs the server, as processes of this machine or in a container.
type backend struct {
	url         string
	socket      string // folder of the socket, if outside of the data directory
	description string
	stop        func(context.Context) error
	discard     func(context.Context) error // removes data outside of the data directory; nil: there are none
}

// Open joins the server that runs in the data directory, or starts one that ends with Close or with this process.
//
// It removes the variables of libpq (PGHOST, PGOPTIONS, …) from the environment of this process: they are meant for
// another server, and would change every connection to this one.
//
// If the context is cancelled while Open runs, Open ends all processes that it has started. Errors: [ErrNoServer]; a
// cluster of a major version that is not installed; a server that does not start, with the last lines of its log.
func Open(ctx context.Context, cfg Config) (*Server, error) {
	cfg = cfg.complete()
	if err := forgetEnvironment(); err != nil {
		return nil, err
	}
	home, err := openHome(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	s, err := startOrJoin(ctx, cfg, home)
	if err != nil {
		home.Close()
		return nil, err
	}
	return s, nil
}

// Temporary starts a server for tests in a new folder under [os.TempDir]. The server accepts 300 connections, and is
// fast instead of durable. Close removes the server and its data. The configuration's DataDir is not used.
func Temporary(ctx context.Context, cfg Config) (*Server, error) {
	dir, err := os.MkdirTemp("", "reiestr-")
	if err == nil {
		err = letServerPass(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot make a folder for a temporary server: %w", err)
	}
	cfg.DataDir, cfg.temporary = dir, true
	s, err := Open(ctx, cfg)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	s.cleanup = func() error { return os.RemoveAll(dir) }
	return s, nil
}

// startOrJoin starts the server if it gets the owner's lock. Otherwise it joins the server of the lock's holder when
// that is ready. It tries both in turn until one succeeds.
func startOrJoin(ctx context.Context, cfg Config, home *home) (*Server, error) {
	limit := time.Now().Add(joinLimit)
	for {
		lock, holder, err := home.tryLock("lock")
		if err != nil {
			return nil, err
		}
		if lock != nil {
			b, err := start(ctx, cfg, home)
			if err != nil {
				return nil, errors.Join(err, lock.release())
			}
			return &Server{home: home, lock: lock, backend: b}, nil
		}
		b, err := join(ctx, home, holder)
		if err == nil {
			return &Server{home: home, backend: b}, nil
		}
		if time.Now().After(limit) {
			return nil, fmt.Errorf("process %d owns the PostgreSQL server in %s and it cannot be joined within %s, "+
				"see the log of that process: %w", holder, home.name, joinLimit, err)
		}
		if err := sleep(ctx, retryEvery); err != nil {
			return nil, fmt.Errorf("waiting for process %d to start the PostgreSQL server in %s: %w", holder, home.name, err)
		}
	}
}

// start starts the server; this process holds the owner's lock. Existing data decide between binaries and Docker, see
// the package comment.
func start(ctx context.Context, cfg Config, home *home) (*backend, error) {
	if err := home.forgetServer(); err != nil {
		return nil, err
	}
	var (
		b   *backend
		err error
	)
	if home.has(containerFile) {
		b, err = startContainer(ctx, cfg, home, fmt.Errorf("the data of %s are in a Docker volume", home.name))
	} else {
		b, err = startCluster(ctx, cfg, home)
		if errors.Is(err, errNoBinaries) {
			b, err = startWithoutBinaries(ctx, cfg, home, err)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := home.announce(announcement{os.Getpid(), b.url, b.socket, b.description}); err != nil {
		return nil, errors.Join(err, b.stop(context.WithoutCancel(ctx)))
	}
	cfg.Logger.Info("PostgreSQL runs", "server", b.description)
	return b, nil
}

// startWithoutBinaries starts the server if the machine has no suitable binaries: in Docker, or else with binaries that
// it downloads. missing says why there are no binaries. An existing cluster needs binaries of its own major version, so
// Docker is not tried for it.
func startWithoutBinaries(ctx context.Context, cfg Config, home *home, missing error) (*backend, error) {
	major, err := clusterMajor(home)
	if err != nil {
		return nil, err
	}
	if major == 0 {
		b, err := startContainer(ctx, cfg, home, missing)
		if !errors.Is(err, ErrNoServer) {
			return b, err
		}
		missing = err
	}
	if err := download(ctx, cfg, major); err != nil {
		return nil, unlessCancelled(ctx, fmt.Errorf("%w; %w", missing, err))
	}
	return startCluster(ctx, cfg, home)
}

// join returns the server that the process with the id owner has announced, if the server accepts connections.
func join(ctx context.Context, home *home, owner int) (*backend, error) {
	a, err := home.announced()
	if err != nil {
		return nil, err
	}
	if a.PID != owner {
		return nil, fmt.Errorf("process %d has not announced its server yet", owner)
	}
	if a.Socket != "" {
		if err := home.checkSocketFolder(a.Socket); err != nil {
			return nil, err
		}
	}
	if _, err := prepareDatabase(ctx, a.URL); err != nil {
		return nil, err
	}
	return &backend{url: a.URL, description: a.Description}, nil
}

// URL returns the PostgreSQL URL of the database reiestr with the superuser reiestr. It may hold a password.
func (s *Server) URL() string { return s.backend.url }

// Joined reports whether another process owns the server. Then the server ends with that process, not with Close.
func (s *Server) Joined() bool { return s.lock == nil }

// Description returns version and place of the server, in one line for people.
func (s *Server) Description() string { return s.backend.description }

// Close stops the server if this process started it, and waits for its end. Open connections are closed, also those of
// joined processes. If the context ends first, the server is killed, and its next start recovers. A joined server is
// not stopped. Further calls do nothing.
func (s *Server) Close(ctx context.Context) error {
	home := s.home
	if home == nil {
		return nil
	}
	s.home = nil
	defer home.Close()
	if s.Joined() {
		return nil
	}
	err := errors.Join(home.forgetServer(), s.backend.stop(ctx))
	if s.cleanup != nil {
		if s.backend.discard != nil {
			err = errors.Join(err, s.backend.discard(ctx))
		}
		err = errors.Join(err, s.cleanup())
	}
	return errors.Join(err, s.lock.release())
}

var roleName = regexp.MustCompile(`^[a-z][a-z-]*$`)

// LockRole reserves the role on the data directory for this process, until release is called or the process ends.
// Error: [ErrInUse] with the id of the process that has the role.
func (s *Server) LockRole(role string) (release func() error, err error) {
	if !roleName.MatchString(role) {
		return nil, fmt.Errorf("role %q: only a-z and - make a name of a role", role)
	}
	lock, holder, err := s.home.tryLock(role + ".lock")
	if err != nil {
		return nil, err
	}
	if lock == nil {
		return nil, fmt.Errorf("%w: process %d already runs %q on %s; stop it or choose another data directory",
			ErrInUse, holder, role, s.home.name)
	}
	return lock.release, nil
}

// prepareDatabase connects to the server, makes the database of the URL if it is missing, and returns the version of
// the server. If there is no error, the server accepts connections.
func prepareDatabase(ctx context.Context, url string) (version string, err error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return "", err
	}
	config.ConnectTimeout = 5 * time.Second
	conn, err := pgx.ConnectConfig(ctx, config)
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "3D000" { // invalid_catalog_name: no such database
		config.Database = "postgres"
		conn, err = pgx.ConnectConfig(ctx, config)
		if err == nil {
			_, err = conn.Exec(ctx, "CREATE DATABASE "+login+" TEMPLATE template0 ENCODING 'UTF8'")
		}
	}
	if conn != nil {
		defer conn.Close(context.WithoutCancel(ctx))
	}
	if err != nil {
		return "", fmt.Errorf("cannot use the PostgreSQL server: %w", err)
	}
	version = conn.PgConn().ParameterStatus("server_version")
	version, _, _ = strings.Cut(version, " ") // "15.18 (Debian 15.18-0+deb12u1)"
	return version, nil
}

// sleep waits for the duration. If the context ends first, it returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
