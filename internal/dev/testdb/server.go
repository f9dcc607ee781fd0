package testdb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Variables of the environment that choose the server of the tests.
const (
	// demandVariable names the only source that is allowed: url, container or binaries.
	demandVariable = "REIESTR_TEST_SERVER"
	// urlVariable is the URL of a login that may create databases and roles.
	urlVariable = "REIESTR_TEST_DATABASE_URL"
	// servedVariable accompanies a URL that withdb has set: source and description of the server behind it.
	servedVariable = "REIESTR_TEST_SERVED_BY"
	// noteVariable is the path of a file that holds both, see [Server.Note]. Tests that find it read neither variable.
	noteVariable = "REIESTR_TEST_SERVER_NOTE"
	// settingsVariable holds defaults that the server gives every session, as name=value with commas between. With the
	// defaults of a hardened server the service has to work as with any others.
	settingsVariable = "REIESTR_TEST_POSTGRES_SETTINGS"
)

// settings make a throw-away server fast and roomy. It counts statements for the databases that ask for it, by
// pg_stat_statements.track.
var settings = []string{"fsync=off", "full_page_writes=off", "synchronous_commit=off", "max_connections=400",
	"shared_preload_libraries=pg_stat_statements", "pg_stat_statements.track=none"}

// Server is a PostgreSQL server for tests.
type Server struct {
	URL         string // of a login that may create databases and roles
	Source      string // url, container or binaries
	Description string // one line for people: the source, the server, and why the sources before were passed over

	version string
	stop    func(context.Context) error // nil: this process has not started the server
	outro   string                      // how to stop a server that outlives this process; empty: it cannot
	idle    chan *pgx.Conn
}

// source is one place that a server may come from.
type source struct {
	name  string
	start func(context.Context) (*Server, error)
}

var (
	// errAbsent: the source has nothing to offer here, and the next one may be asked.
	errAbsent = errors.New("not to be had")
	// errNoURL is the usual case: a description does not mention it.
	errNoURL = fmt.Errorf("%w: %s is not set", errAbsent, urlVariable)
)

// Serve answers a PostgreSQL server from the first source that has one:
//
//   - url: the server at REIESTR_TEST_DATABASE_URL, which then must answer;
//   - container: a container of the image REIESTR_TEST_POSTGRES_IMAGE, postgres:17 unless set, when a Docker engine
//     answers and has the image or can pull it;
//   - binaries: the PostgreSQL server binaries of this machine, the folder REIESTR_POSTGRES_BIN first; where there are
//     none, they are downloaded from REIESTR_POSTGRES_MIRROR, unless REIESTR_POSTGRES_DOWNLOAD is never.
//
// REIESTR_TEST_SERVER demands one of them by name: then the others are not asked. REIESTR_TEST_POSTGRES_SETTINGS are
// defaults for the sessions of a server that is started here, as name=value,name=value.
func Serve(ctx context.Context) (*Server, error) {
	return serve(ctx, os.Getenv(demandVariable), []source{
		{givenSource(), given},
		{"container", startContainer},
		{"binaries", startBinaries},
	})
}

func serve(ctx context.Context, demand string, sources []source) (*Server, error) {
	if names := []string{"", "url", "container", "binaries"}; !slices.Contains(names, demand) {
		return nil, fmt.Errorf("%s=%s: must be one of url, container, binaries", demandVariable, demand)
	}
	var passed []error
	for _, source := range sources {
		if demand != "" && demand != source.name {
			continue
		}
		server, err := source.start(ctx)
		if err == nil {
			server.Source = source.name
			if err = server.introduce(ctx, passed); err == nil {
				if err = server.harden(ctx, os.Getenv(settingsVariable)); err == nil {
					return server, nil
				}
			}
			err = errors.Join(err, server.Close())
		}
		err = fmt.Errorf("%s: %w", source.name, err)
		if !errors.Is(err, errAbsent) || ctx.Err() != nil {
			return nil, err
		}
		passed = append(passed, err)
	}
	if demand != "" {
		return nil, fmt.Errorf("%s demands a server that is not served: %w", demandVariable, errors.Join(passed...))
	}
	return nil, fmt.Errorf("no PostgreSQL server for the tests: %w", errors.Join(passed...))
}

// introduce asks the server for its version and completes the description.
func (s *Server) introduce(ctx context.Context, passed []error) error {
	conn, err := Connect(ctx, s.URL)
	if err != nil {
		return fmt.Errorf("the server does not answer: %w", err)
	}
	s.Description = s.Source + ", " + s.Description
	s.version = conn.PgConn().ParameterStatus("server_version") // "17.6 (Debian 17.6-1)"
	number, _, _ := strings.Cut(s.version, " ")
	if version := "PostgreSQL " + number; !strings.Contains(s.Description, version) {
		s.Description += ", " + version
	}
	for _, err := range passed {
		if errors.Is(err, errNoURL) {
			continue
		}
		s.Description += "; not " + strings.ReplaceAll(err.Error(), "\n", " ")
	}
	s.idle = make(chan *pgx.Conn, 4)
	s.idle <- conn
	return nil
}

// harden sets the defaults on a server that was started here. It returns when new sessions have them.
func (s *Server) harden(ctx context.Context, defaults string) error {
	if _, served, err := named(); err != nil || defaults == "" || served != "" {
		return err // no defaults are set, or withdb has set them
	}
	if s.stop == nil {
		return fmt.Errorf("%s is for servers that are started for the tests, and %s names one that is not", settingsVariable,
			urlVariable)
	}
	for setting := range strings.SplitSeq(defaults, ",") {
		name, value, _ := strings.Cut(setting, "=")
		if err := s.exec(ctx, "ALTER SYSTEM SET "+pgx.Identifier{name}.Sanitize()+" = '"+strings.ReplaceAll(value, "'",
			"''")+"'"); err != nil {
			return fmt.Errorf("%s: %s: %w", settingsVariable, setting, err)
		}
	}
	if err := s.exec(ctx, "SELECT pg_reload_conf()"); err != nil {
		return err
	}
	for {
		conn, err := pgx.Connect(ctx, s.URL)
		if err != nil {
			return err
		}
		var missing int
		err = conn.QueryRow(ctx, `SELECT count(*) FROM pg_file_settings f JOIN pg_settings s USING (name)
			WHERE f.sourcefile LIKE '%postgresql.auto.conf' AND s.source <> 'configuration file'`).Scan(&missing)
		conn.Close(ctx)
		if err != nil || missing == 0 {
			s.Description += "; every session begins with " + defaults
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Close stops the server if it was started by this process, and keeps it running if it has databases of failed tests
// to be looked at.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if s.outro != "" && s.keeps(ctx) {
		fmt.Fprintln(os.Stderr, "testdb: the server stays up for the databases of failed tests; to stop it:", s.outro)
		return nil
	}
	for len(s.idle) > 0 {
		(<-s.idle).Close(ctx)
	}
	if s.stop == nil {
		return nil
	}
	return s.stop(ctx)
}

// keeps tells whether databases of failed tests were kept, as REIESTR_TEST_KEEP demands.
func (s *Server) keeps(ctx context.Context) (kept bool) {
	if os.Getenv(keepVariable) != "1" {
		return false
	}
	conn, err := Connect(ctx, s.URL)
	if err != nil {
		return false
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE starts_with(datname, $1))",
		databasePrefix).Scan(&kept)
	return kept && err == nil
}

// Environment holds the variables by which the tests of another process find this server.
func (s *Server) Environment() []string {
	return []string{urlVariable + "=" + s.URL, servedVariable + "=" + s.Description, noteVariable + "="}
}

// named answers URL and description of the server that the environment names, as a note or as variables. A URL without
// a description is not of withdb. Both are empty if the environment names no server.
func named() (address, description string, err error) {
	if path := os.Getenv(noteVariable); path != "" {
		return readNote(path)
	}
	return os.Getenv(urlVariable), os.Getenv(servedVariable), nil
}

// givenSource is the source of the server that the environment names: url, or the source from which withdb started it.
func givenSource() string {
	_, served, _ := named() //nolint:errcheck // given returns the error
	if name, _, found := strings.Cut(served, ","); found {
		return name
	}
	return "url"
}

func given(context.Context) (*Server, error) {
	address, served, err := named()
	if err != nil {
		return nil, err
	}
	if address == "" {
		return nil, errNoURL
	}
	if _, description, found := strings.Cut(served, ", "); found {
		return &Server{URL: address, Description: description}, nil
	}
	config, err := pgx.ParseConfig(address)
	if err != nil {
		return nil, err
	}
	return &Server{URL: address, Description: fmt.Sprintf("%s:%d/%s", config.Host, config.Port, config.Database)}, nil
}
