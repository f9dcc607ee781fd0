package main

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/reiestr/reiestr/internal/dev/population"
	"github.com/reiestr/reiestr/internal/pgserver"
	"github.com/reiestr/reiestr/migrations"
)

// settings are those of a small server that keeps every acknowledged commit. Checkpoints come before a measurement, not
// during it.
var settings = [][2]string{
	{"fsync", "on"},
	{"synchronous_commit", "on"},
	{"full_page_writes", "on"},
	{"shared_buffers", "512MB"},
	{"max_wal_size", "8GB"},
	{"checkpoint_timeout", "30min"},
	{"random_page_cost", "1.1"},
	{"max_connections", "200"},
}

// sessionOptions give a session of pgbench the settings of a session of the service.
const sessionOptions = "-c role=reiestr_app -c search_path= -c timezone=UTC"

// sentOptions add a setting that belongs to the way in which the service sends its statements. The floor does not have
// it.
const sentOptions = sessionOptions + " -c plan_cache_mode=force_generic_plan"

// stage adds the rows that the paths need beside the population. restore undoes the changes of a measurement.
var (
	//go:embed stage.sql
	stage string
	//go:embed restore.sql
	restore string
)

// filledFile marks a data directory that has been filled completely.
const filledFile = "filled"

// cluster is a running PostgreSQL server with its population.
type cluster struct {
	server *pgserver.Server
	url    string
	folder string
	pid    int // of the postmaster; 0: the processes of this machine do not show it
	size   population.Size
	conn   *pgx.Conn // of the superuser
}

// sizeOf is the size of a population with that number of service requests. Each token has a legal entity of its own.
func sizeOf(scale int) population.Size {
	return population.Size{
		ServiceRequests: scale, LegalEntities: scale / 5, Licenses: scale / 2, Tokens: min(10_000, scale/50),
		Jobs: scale * 3 / 10,
	}
}

// openCluster starts the server of this scale and schema, whose data are in the cache folder. The first call fills it.
func openCluster(ctx context.Context, root, cache string, scale int, log *slog.Logger) (_ *cluster, err error) {
	key, err := cacheKey(root)
	if err != nil {
		return nil, err
	}
	folder := filepath.Join(cache, fmt.Sprintf("%d-%s", scale, key))
	_, err = os.Stat(filepath.Join(folder, filledFile))
	filled := err == nil
	if !filled {
		if err := os.RemoveAll(folder); err != nil { // the rest of an interrupted run
			return nil, err
		}
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	c := &cluster{folder: folder, size: sizeOf(scale)}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	if err := c.start(ctx, folder, log); err != nil {
		return nil, err
	}
	if filled {
		return c, c.restore(ctx)
	}
	log.Info("filling the database, once for this scale and schema", "service_requests", scale)
	if err := migrations.Up(ctx, c.url); err != nil {
		return nil, err
	}
	if err := population.Fill(ctx, c.conn, c.size); err != nil {
		return nil, err
	}
	numbers := strings.NewReplacer("{tokens}", fmt.Sprint(c.size.Tokens), "{legal_entities_20}",
		fmt.Sprint(c.size.LegalEntities/20),
		"{groups}", fmt.Sprint(c.groups()), "{first_state}", fmt.Sprint(poolFirstState), "{states}", fmt.Sprint(poolStates),
		"{types}", fmt.Sprint(benchTypes),
		"{service_request}", "'"+population.ServiceRequest(1).String()[8:24]+"'", "{user}",
		"'"+population.User(1).String()[8:24]+"'",
		"{legal_entity}", "'"+population.LegalEntity(1).String()[8:24]+"'")
	if _, err := c.conn.PgConn().Exec(ctx, numbers.Replace(stage)).ReadAll(); err != nil {
		return nil, fmt.Errorf("staging: %w", err)
	}
	if err := c.statements(ctx, "VACUUM (ANALYZE, PARALLEL 0)", "CHECKPOINT"); err != nil {
		return nil, err
	}
	return c, os.WriteFile(filepath.Join(folder, filledFile), nil, 0o644)
}

// start starts the server with the settings. If the settings are new to the server, it has to start a second time.
func (c *cluster) start(ctx context.Context, folder string, log *slog.Logger) error {
	for range 2 {
		var err error
		if c.server, err = pgserver.Open(ctx, pgserver.Config{DataDir: folder,
			Bin: os.Getenv("REIESTR_POSTGRES_BIN")}); err != nil {
			return err
		}
		if c.server.Joined() {
			return fmt.Errorf("another benchmark runs on %s", folder)
		}
		c.url = c.server.URL()
		if c.conn, err = pgx.Connect(ctx, c.url); err != nil {
			return err
		}
		differs := false
		for _, s := range settings {
			var is bool
			// The server compares the two values, as it knows the units: that of its file and that in force.
			err := c.conn.QueryRow(ctx, "SELECT coalesce((SELECT applied FROM pg_file_settings WHERE name = $1 AND setting = "+
				"$2), false)", s[0], s[1]).Scan(&is)
			if err != nil {
				return err
			}
			if !is {
				differs = true
				if err := c.statements(ctx, fmt.Sprintf("ALTER SYSTEM SET %s = '%s'", s[0], s[1])); err != nil {
					return err
				}
			}
		}
		if !differs {
			text, err := os.ReadFile(filepath.Join(folder, "postgres", "postmaster.pid"))
			if err == nil { // a server in a container has its files there
				first, _, _ := strings.Cut(string(text), "\n")
				c.pid, _ = strconv.Atoi(first)
			}
			log.Info("PostgreSQL runs", "server", c.server.Description())
			return nil
		}
		if err := c.close(); err != nil {
			return err
		}
	}
	return errors.New("PostgreSQL does not take its settings")
}

// version describes the server for the tables. It leaves out where the data are.
func (c *cluster) version() string {
	version, _, _ := strings.Cut(c.server.Description(), ",")
	return version
}

func (c *cluster) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var err error
	if c.conn != nil {
		err = c.conn.Close(ctx)
	}
	if c.server != nil {
		err = errors.Join(err, c.server.Close(ctx))
	}
	c.conn, c.server = nil, nil
	return err
}

// cpu answers the CPU time of all processes of the server.
func (c *cluster) cpu() (time.Duration, bool) {
	if c.pid == 0 {
		return 0, false
	}
	return cpuOfFamily(c.pid)
}

func (c *cluster) statements(ctx context.Context, statements ...string) error {
	for _, s := range statements {
		if _, err := c.conn.Exec(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// restore puts back the rows that measurements have changed. Afterwards the server is as after a checkpoint.
func (c *cluster) restore(ctx context.Context) error {
	if _, err := c.conn.PgConn().Exec(ctx, restore).ReadAll(); err != nil {
		return fmt.Errorf("restoring: %w", err)
	}
	return c.statements(ctx,
		"VACUUM (ANALYZE, PARALLEL 0) ops.jobs",
		"VACUUM ops.events, ops.unpublished_events, ops.event_feed, prm.licenses, medical_events.service_requests, "+
			"medical_events.service_request_history",
		"CHECKPOINT")
}

// wearOut makes the next run fill the database anew: this run changes more than deleting and vacuuming can undo.
func (c *cluster) wearOut() error { return os.Remove(filepath.Join(c.folder, filledFile)) }

// warm reads the service requests and their histories, so that the operating system caches as many of them as memory
// allows.
func (c *cluster) warm(ctx context.Context) error {
	return c.statements(ctx, "CREATE EXTENSION IF NOT EXISTS pg_prewarm SCHEMA bench",
		"SELECT sum(bench.pg_prewarm(oid, 'read')) FROM pg_class WHERE relnamespace = 'medical_events'::regnamespace AND "+
			"relkind IN ('r', 'i')")
}

func (c *cluster) number(ctx context.Context, query string, args ...any) (n int, err error) {
	if err = c.conn.QueryRow(ctx, query, args...).Scan(&n); err != nil {
		err = fmt.Errorf("%s: %w", query, err)
	}
	return n, err
}

// cacheKey is a digest of everything that a filled database depends on: the schema, the population and the stage.
func cacheKey(root string) (string, error) {
	sum := sha256.New()
	for _, folder := range []string{"migrations", "internal/dev/population", "internal/dev/bench"} {
		err := fs.WalkDir(os.DirFS(filepath.Join(root, folder)), ".", func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(path) != ".sql" || path == "restore.sql" {
				return err
			}
			text, err := os.ReadFile(filepath.Join(root, folder, path))
			fmt.Fprintf(sum, "%s %d\n%s", path, len(text), text)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%x", sum.Sum(nil)[:4]), nil
}
