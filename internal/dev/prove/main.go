// Prove has many clients send calls to real processes of the service, and has a checker judge whether the answers agree
// with the contract:
//
//	go run ./internal/dev/prove --minutes 5
//
// The checker is Porcupine: it looks for an order of the calls in which each one is carried out at one moment between
// its beginning and its answer, and in which each answer is that of the model (model.go). A history for which there is
// no such order is kept as JSON and as a picture. At the end the tables and the feeds of events are compared too.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/reiestr/reiestr/internal/dev/testdb"
)

// options of a run.
type options struct {
	duration time.Duration
	clients  int
	seed     uint64
	faults   string        // names, parted by commas, or all; empty: none
	ready    time.Duration // in which every process has to be ready after a fault
	keep     string        // folder of rejected histories
	root     string        // of the repository
}

func main() {
	o := options{keep: ".prove", root: ".", ready: 10 * time.Second}
	minutes := flag.Float64("minutes", 1.0/3, "how long the clients send calls")
	flag.IntVar(&o.clients, "clients", 64, "clients")
	flag.Uint64Var(&o.seed, "seed", rand.Uint64(), "from which the calls of each client follow")
	flag.StringVar(&o.keep, "keep", o.keep, "folder for histories that are rejected")
	flag.StringVar(&o.faults, "faults", "", "harm that is done meanwhile: all, or of these, parted by commas: "+
		strings.Join(faultNames(), ", "))
	flag.Parse()
	o.duration = time.Duration(*minutes * float64(time.Minute))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "prove:", err)
		os.Exit(1)
	}
}

// checkLimit is how long the checker looks at one object.
const checkLimit = 30 * time.Second

// mostUndecided is how many histories may have no verdict in a run with faults: each call without an answer doubles the
// work of the checker at its object.
const mostUndecided = 3

func fair() *rand.Rand { return rand.New(rand.NewPCG(0, 0)) }

func run(ctx context.Context, o options, out io.Writer) (err error) {
	fmt.Fprintf(out, "seed %d, %d clients, %s\n", o.seed, o.clients, o.duration)
	wanted, err := faultsOf(o.faults)
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "reiestr-prove-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	address, f, stop, err := server(ctx, folder, wanted, o.ready, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	r, err := open(ctx, address, o.root, folder)
	if r != nil {
		defer func() { err = errors.Join(err, r.close(address)) }()
	}
	if err != nil {
		return err
	}
	if f != nil {
		if err := f.between(ctx, r); err != nil {
			return err
		}
	}
	if err := r.serve(ctx); err != nil {
		return err
	}
	if f != nil {
		if err := f.inFront(ctx, r); err != nil {
			return err
		}
	}
	transport := &http.Transport{MaxIdleConnsPerHost: o.clients}
	defer transport.CloseIdleConnections()
	d := &driver{registry: r, faults: f, history: &history{start: time.Now()},
		http: &http.Client{Transport: transport}, licences: map[string]string{}}
	driving, end := context.WithTimeout(ctx, o.duration)
	defer end()
	d.drive(driving, o.clients, o.seed)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := r.connect(ctx); err != nil {
		return err
	}
	if err := d.settled(ctx); err != nil {
		return err
	}
	d.readAll(ctx)
	d.agree(ctx)
	return d.judge(o, out)
}

// server answers the URL of the superuser of a PostgreSQL server, and stop, which ends it. Faults need a server that
// they can kill, and one that keeps what it has committed; without faults the server is that of the tests.
func server(ctx context.Context, folder string, wanted []fault, ready time.Duration, out io.Writer) (
	address string, f *faults, stop func() error, err error,
) {
	if len(wanted) == 0 {
		s, err := testdb.Serve(ctx)
		if err != nil {
			return "", nil, nil, err
		}
		fmt.Fprintln(out, s.Description)
		return s.URL, nil, s.Close, nil
	}
	f = &faults{wanted: wanted, folder: folder + "/postgres", limit: ready}
	if err := f.prepare(ctx); err != nil {
		return "", nil, nil, err
	}
	fmt.Fprintln(out, f.server.Description())
	return f.server.URL(), f, f.close, nil
}

// judge prints what was found. An error: the contract was broken.
func (d *driver) judge(o options, out io.Writer) error {
	objects, err := d.history.operations()
	if err != nil {
		d.fail("%w", err)
	}
	unknown := 0
	for _, records := range objects {
		for _, r := range records {
			if r.Output.Unknown && r.Input.Kind != expire {
				unknown++
			}
		}
	}
	fmt.Fprintf(out, "%d calls, %d of them without an answer, on %d objects\n", d.made.Load(), unknown, len(objects))
	fmt.Fprintln(out, d.history.table())
	if d.faults != nil {
		fmt.Fprint(out, d.faults.table())
	}
	undecided := 0
	for _, v := range judge(objects, checkLimit) {
		if v.shrunk == nil {
			fmt.Fprintf(out, "%s: no verdict within %s\n", v.object, checkLimit)
			undecided++
			continue
		}
		path, err := v.keep(o.keep, checkLimit)
		if err != nil {
			return err
		}
		d.fail("%s: the history is rejected, see %s and the picture beside it", v.object, path)
	}
	if undecided > mostUndecided || undecided > 0 && d.faults == nil {
		d.fail("%d histories without a verdict", undecided)
	}
	for i, f := range d.failures {
		if i == 20 {
			fmt.Fprintf(out, "… and %d more\n", len(d.failures)-i)
			break
		}
		fmt.Fprintln(out, f)
	}
	if len(d.failures) > 0 {
		return fmt.Errorf("%d faults with seed %d", len(d.failures), o.seed)
	}
	fmt.Fprintf(out, "no history is rejected, %d have no verdict, and the tables agree\n", undecided)
	return nil
}
