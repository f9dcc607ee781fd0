package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// pgbench runs scripts with PostgreSQL's own load generator, which spends the least possible on the client side.
type pgbench struct {
	program string
	cluster *cluster
	clients int
	temp    string
	options string // of its sessions
}

// findPgbench finds the program beside the server's binaries or in PATH.
func findPgbench(folder string) (string, error) {
	if folder != "" {
		if path, err := exec.LookPath(filepath.Join(folder, "pgbench")); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath("pgbench")
	if err != nil {
		return "", errors.New("pgbench is not installed: it is in the package postgresql-contrib (on Debian and Ubuntu, " +
			"with the server, in postgresql)")
	}
	return path, nil
}

// run runs a script for warm-up and duration. With transactions > 0 it ends after that number, and all of them are
// measured.
func (p pgbench) run(ctx context.Context, script string, warmUp, duration time.Duration, transactions int) (sample,
	error) {
	folder, err := os.MkdirTemp(p.temp, "pgbench-")
	if err != nil {
		return sample{}, err
	}
	defer os.RemoveAll(folder)
	file := filepath.Join(folder, "script.sql")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		return sample{}, err
	}
	clients := p.clients
	args := []string{
		"--no-vacuum", "--protocol=prepared", "--file=" + file, "--log", "--log-prefix=" + filepath.Join(folder, "log"),
		"--define=i=-1", // counts the transactions of a client
	}
	if transactions > 0 {
		clients = min(clients, transactions)
		args = append(args, fmt.Sprintf("--transactions=%d", transactions/clients))
	} else {
		// pgbench takes whole seconds only.
		args = append(args, fmt.Sprintf("--time=%d", int((warmUp+duration+time.Second-1).Seconds())))
	}
	args = append(args, fmt.Sprintf("--client=%d", clients), fmt.Sprintf("--jobs=%d", min(clients, runtime.NumCPU())),
		p.cluster.url)
	cmd := exec.CommandContext(ctx, p.program, args...)
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "PGOPTIONS="+p.options)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	before, _ := p.cluster.cpu()
	if err := cmd.Run(); err != nil {
		return sample{}, fmt.Errorf("pgbench: %w\n%s\n%s", err, said.String(), script)
	}
	time.Sleep(100 * time.Millisecond) // until the sessions of pgbench have ended
	after, known := p.cluster.cpu()
	events, err := readLog(folder)
	if err != nil {
		return sample{}, err
	}
	if transactions > 0 {
		warmUp, duration = -time.Nanosecond, span(events)
	}
	s := window(events, warmUp, duration)
	s.total = len(events)
	s.postgres = perThousand(after-before, known, len(events))
	s.client = perThousand(cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime(), true, len(events))
	return s, nil
}

// span is the time from the first end to the last.
func span(events []event) time.Duration {
	var first, last time.Duration
	for i, e := range events {
		if i == 0 || e.at < first {
			first = e.at
		}
		last = max(last, e.at)
	}
	return last - first
}

// readLog reads the log files of pgbench. A line is a transaction: client, number, microseconds, script, second and
// microsecond of its end.
func readLog(folder string) ([]event, error) {
	files, err := filepath.Glob(filepath.Join(folder, "log.*"))
	if err != nil {
		return nil, err
	}
	var events []event
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(file)
		for lines.Scan() {
			fields := strings.Fields(lines.Text())
			if len(fields) < 6 {
				continue // cut off at the end of the run
			}
			took, err1 := strconv.ParseInt(fields[2], 10, 64)
			second, err2 := strconv.ParseInt(fields[4], 10, 64)
			micro, err3 := strconv.ParseInt(fields[5], 10, 64)
			if err := errors.Join(err1, err2, err3); err != nil {
				file.Close()
				return nil, fmt.Errorf("log of pgbench: %q: %w", lines.Text(), err)
			}
			events = append(events, event{
				at:   time.Duration(second)*time.Second + time.Duration(micro)*time.Microsecond,
				took: time.Duration(took) * time.Microsecond,
			})
		}
		err = errors.Join(lines.Err(), file.Close())
		if err != nil {
			return nil, err
		}
	}
	return events, nil
}
