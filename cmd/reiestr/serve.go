package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/reiestr/reiestr/api"
	"github.com/reiestr/reiestr/api/rest"
	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/internal/pgserver"
	"github.com/reiestr/reiestr/migrations"
	"github.com/reiestr/reiestr/worker"
)

// shutdownTimeout bounds how long requests and jobs that have begun may take after SIGTERM.
const shutdownTimeout = 20 * time.Second

type serveCommand struct {
	Role    string `enum:"all,api,worker" default:"all" help:"What this process does: all, api (no jobs) or worker (no API)."`
	Demo    bool   `help:"Load the demo data and print calls that are ready to paste."`
	Migrate bool   `help:"Migrate the configured database first; the own server is always migrated."`
}

func (c serveCommand) Run(ctx context.Context, env *environment) error {
	if err := env.check(); err != nil {
		return usageError{err}
	}
	return withDatabase(ctx, env, func(d *database) error { return c.run(ctx, env, d) })
}

func (c serveCommand) run(ctx context.Context, env *environment, d *database) (err error) {
	if d.server != nil {
		unlock, err := d.server.LockRole("serve-" + c.Role)
		if errors.Is(err, pgserver.ErrInUse) {
			return fmt.Errorf("another 'reiestr serve' runs on data directory %s: %w", env.DataDir, err)
		}
		if err != nil {
			return err
		}
		defer unlock() //nolint:errcheck // the process ends
		env.log.Info("database", "server", d.server.Description())
	} else if c.Migrate {
		if err := migrations.Up(ctx, d.url); err != nil {
			return err
		}
	}
	var demo *demo
	if c.Demo {
		if demo, err = loadDemo(ctx, env, d); err != nil {
			return fmt.Errorf("loading the demo: %w", err)
		}
	}
	observed, err := observe(ctx, env)
	if err != nil {
		return err
	}
	defer observed.close()
	app, err := d.connect(ctx, env, db.App, "reiestr "+c.Role, observed.watch, env.bounds)
	if err != nil {
		return err
	}
	defer app.Close()
	if err := app.Ready(ctx, migrations.Latest()); err != nil {
		return err
	}
	return c.serve(ctx, env, app, observed, demo)
}

// serve runs until ctx ends. Then it waits for the requests and jobs that have begun.
func (c serveCommand) serve(ctx context.Context, env *environment, app *db.DB, observed *observation,
	demo *demo) error {
	listener, err := net.Listen("tcp", env.Listen)
	if err != nil {
		return err
	}
	zone, err := time.LoadLocation(env.TimeZone)
	if err != nil {
		return err
	}
	pool := worker.New(app, env.log, runtime.GOMAXPROCS(0))
	works := c.Role != "api"
	apiConfig := rest.Config{
		DB: app, Log: env.log, RequireAPIKey: env.RequireAPIKey, Stopping: ctx,
		Ready: func(ctx context.Context) error {
			if works && !pool.Alive() {
				return errors.New("not all workers run")
			}
			if err := pool.Trouble(); works && err != nil {
				return fmt.Errorf("jobs are not carried out: %w", err)
			}
			return app.Ready(ctx, migrations.Latest())
		},
		Places: int(env.Requests), LockWaiters: int(env.LockWaiters),
		RatePerSecond: env.RateLimit, RateBurst: env.RateBurst, TrustedProxies: env.TrustedProxies,
		StrictClients: env.StrictClients,
		Metrics:       observed.Metrics(app), Answered: observed.Answered,
	}
	if env.OIDCIssuer != "" {
		apiConfig.Issuer = rest.NewIssuer(env.OIDCIssuer, env.OIDCAudience, app.Access, env.log)
	}
	handler := api.New(apiConfig)
	if c.Role == "worker" {
		handler = rest.Health(apiConfig)
	}
	server := &http.Server{
		Handler:           observed.Handler(handler),
		ReadHeaderTimeout: 5 * time.Second,
		// No ReadTimeout: it cancels a request that waits for its answer longer than that. The API bounds the reading of
		// bodies.
		WriteTimeout:   60 * time.Second,
		IdleTimeout:    2 * time.Minute,
		MaxHeaderBytes: 64 << 10,
		ErrorLog:       slog.NewLogLogger(env.log.Handler(), slog.LevelDebug),
		// net/http would answer "OPTIONS *" itself, without the envelope.
		DisableGeneralOptionsHandler: true,
	}

	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var running sync.WaitGroup
	if works {
		running.Go(func() { pool.Run(background) })
		schedule := worker.Schedule{Times: env.ExpiryTimes, Zone: zone}
		pruning := worker.Schedule{Times: env.PruneTimes, Zone: zone}
		running.Go(func() {
			worker.Prune(background, pruning, env.log,
				func(ctx context.Context) (db.Pruned, error) { return app.Prune(ctx, env.retention()) })
		})
		running.Go(func() {
			worker.Expire(background, schedule, env.log, func(ctx context.Context) (db.Expired, error) {
				return app.ServiceRequests.Expire(ctx, nil, notRecalled(ctx, env.log))
			})
		})
	} else {
		running.Go(func() { worker.Announce(background, app, env.log) })
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(rest.Listener(listener)) }()

	address := "http://" + reachable(listener.Addr())
	fmt.Fprintf(env.out, "listening on %s\n", address)
	if demo != nil {
		calls, err := demo.calls(address)
		if err != nil {
			return err
		}
		fmt.Fprint(env.out, calls)
	}

	select {
	case err := <-served:
		stop()
		running.Wait()
		return err
	case <-ctx.Done():
	}
	env.log.Info("stopping")
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err = server.Shutdown(ending)
	stop()
	ended := make(chan struct{})
	go func() { running.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-ending.Done():
		// The database rolls the transactions of these jobs back when their connections end. The jobs are then pending again.
		err = errors.Join(err, errors.New("jobs under way were handed back"))
	}
	if errors.Is(err, context.DeadlineExceeded) {
		env.log.Warn("requests under way were cut", "error", err)
		return nil
	}
	return err
}

// reachable returns an address that a client on this machine can use. For a listener on all addresses it is the
// loopback address.
func reachable(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return a.String()
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port))
}
