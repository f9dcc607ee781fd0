// Command bench measures the service beside a floor: pgbench with the project's own statements on the same rows, in
// interleaved rounds. docs/performance.md explains its output.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/reiestr/reiestr/internal/dev/program"
	"github.com/reiestr/reiestr/internal/pgserver"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are those of the command line.
type options struct {
	scale            int
	rounds           int
	warmUp, duration time.Duration
	transactions     int // of each run of pgbench; 0: as many as the time allows
	clients          int
	crowd            int // requests of one storm, see contention
	only             []string
	soak, overload   time.Duration
	growth           []int
	cache, out       string
	serviceLog       string
}

// Names of measurements beside those of the paths.
const (
	drainName      = "drain"
	latencyName    = "latency"
	contentionName = "contention"
	heldName       = "held"
)

var names = []string{"accept", "license", "search", "job", "licenses", drainName, latencyName, contentionName, heldName}

func parse(args []string, stderr io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&o.scale, "scale", 1_000_000, "service requests; legal entities, licences, tokens and jobs come in "+
		"proportion")
	flags.IntVar(&o.rounds, "rounds", 5, "rounds, in each of which everything is measured once")
	flags.DurationVar(&o.duration, "duration", 4*time.Second, "of each measurement")
	flags.DurationVar(&o.warmUp, "warm-up", time.Second, "before each measurement, under the same load")
	flags.IntVar(&o.transactions, "transactions", 0, "of each run of pgbench, which then takes no warm-up and no "+
		"duration: to see whether everything works")
	flags.IntVar(&o.clients, "clients", 32, "clients of pgbench, and connections to the service")
	flags.IntVar(&o.crowd, "crowd", 1000, "clients that want one service request at the same moment")
	only := flags.String("only", "", "measure only these, parted by commas: "+strings.Join(names, ", "))
	quick := flags.Bool("quick", false, "three rounds of two seconds each")
	flags.DurationVar(&o.soak, "soak", 0, "instead of the rounds: a mixed load for this long, and the memory of "+
		"the service meanwhile")
	flags.DurationVar(&o.overload, "overload", 0, "instead of the rounds: for this long, twice the load that the "+
		"service can take")
	growth := flags.String("growth", "", "instead of the rounds: latency at these scales, parted by commas, e.g. "+
		"10000,1000000,10000000")
	flags.StringVar(&o.cache, "cache", "", "where filled databases are kept (default .bench in the module's folder)")
	flags.StringVar(&o.out, "out", "", "a Markdown file in which the tables take the place between the marks of their "+
		"kind: <!-- bench --> and <!-- /bench -->, <!-- bench growth -->, <!-- bench soak -->, "+
		"<!-- bench overload -->")
	flags.StringVar(&o.serviceLog, "service-log", os.DevNull, "where the service's log lines go")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if *quick {
		o.rounds, o.duration = 3, 2*time.Second
	}
	for name := range strings.SplitSeq(*only, ",") {
		if name == "" {
			continue
		}
		if !slices.Contains(names, name) {
			return o, fmt.Errorf("--only %s: there are %s", name, strings.Join(names, ", "))
		}
		o.only = append(o.only, name)
	}
	for text := range strings.SplitSeq(*growth, ",") {
		if text == "" {
			continue
		}
		scale, err := strconv.Atoi(text)
		if err != nil {
			return o, fmt.Errorf("--growth %s: %w", *growth, err)
		}
		o.growth = append(o.growth, scale)
	}
	for _, scale := range append([]int{o.scale}, o.growth...) {
		if scale < 1000 || scale%100 != 0 {
			return o, fmt.Errorf("scale %d: a multiple of 100 from 1000 on is wanted", scale)
		}
	}
	if o.rounds < 1 || o.clients < 1 || o.crowd < 1 || o.transactions < 0 || flags.NArg() > 0 {
		return o, errors.New("--rounds, --clients and --crowd are at least 1, --transactions at least 0, and there are " +
			"no further arguments")
	}
	return o, nil
}

// wants tells whether the command line asks for a measurement.
func (o options) wants(name string) bool { return len(o.only) == 0 || slices.Contains(o.only, name) }

// bench is a run of the command.
type bench struct {
	options
	log     *slog.Logger
	root    string // of the module
	temp    string
	program string // reiestr
	pgbench string
	queries queries
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	b := &bench{options: o, log: slog.New(slog.NewTextHandler(stderr, nil))}
	folder, _, err := pgserver.Binaries(ctx, os.Getenv("REIESTR_POSTGRES_BIN"))
	if err != nil {
		b.log.Warn("no PostgreSQL binaries, a container will do", "error", err)
	}
	if b.pgbench, err = findPgbench(folder); err != nil {
		return err
	}
	if b.root, err = moduleRoot(); err != nil {
		return err
	}
	if b.cache == "" {
		b.cache = filepath.Join(b.root, ".bench")
	}
	if b.queries, err = readQueries(filepath.Join(b.root, "sql")); err != nil {
		return err
	}
	if b.temp, err = os.MkdirTemp("", "reiestr-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.temp)
	if b.program, err = program.Build(ctx, b.root, b.temp); err != nil {
		return err
	}
	kind, measure := "bench", b.measureRounds
	switch {
	case len(b.growth) > 0:
		kind, measure = "bench growth", b.measureGrowth
	case b.soak > 0:
		kind, measure = "bench soak", b.measureSoak
	case b.overload > 0:
		kind, measure = "bench overload", b.measureOverload
	}
	r, err := measure(ctx)
	if err != nil {
		return err
	}
	text := r.markdown(fmt.Sprintf("%d CPUs, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH,
		runtime.Version()))
	if _, err := io.WriteString(stdout, text); err != nil {
		return err
	}
	if b.out != "" {
		return replaceBlock(b.out, kind, text)
	}
	return nil
}

// moduleRoot is the folder with the module's go.mod, from here upwards.
func moduleRoot() (string, error) {
	folder, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			return folder, nil
		}
		parent := filepath.Dir(folder)
		if parent == folder {
			return "", errors.New("run it in the module's folder: it builds the program and reads sql/")
		}
		folder = parent
	}
}
