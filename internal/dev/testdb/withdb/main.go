// Withdb runs a command with one PostgreSQL server for all the tests in it, found or started as [testdb.Serve] says:
//
//	go run ./internal/dev/testdb/withdb -- go test -race ./...
//
// The tests find it by REIESTR_TEST_DATABASE_URL in their environment. One line tells which server it is; it is stopped
// when the command ends, and the command's exit code is withdb's.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/reiestr/reiestr/internal/dev/testdb"
)

const startLimit = 4 * time.Minute

func main() {
	command := os.Args[1:]
	if len(command) > 0 && command[0] == "--" {
		command = command[1:]
	}
	if len(command) == 0 {
		fmt.Fprintln(os.Stderr, "usage: withdb [--] COMMAND [ARGUMENT…]")
		os.Exit(2)
	}
	code, err := run(command)
	if err != nil {
		fmt.Fprintln(os.Stderr, "withdb:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// run answers the command's exit code; an error is one of its surroundings.
func run(command []string) (code int, err error) {
	// Either signal ends the start. The command gets a terminal's interrupt by itself and a request to terminate from
	// here, and in both cases the server has to outlast it.
	signalled, done := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer done()
	terminated, done := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer done()

	starting, cancel := context.WithTimeout(signalled, startLimit)
	defer cancel()
	server, err := testdb.Serve(starting)
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	fmt.Println("testdb:", server.Description)

	cmd := exec.CommandContext(terminated, command[0], command[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Env = append(os.Environ(), server.Environment()...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	var exit *exec.ExitError
	if err := cmd.Run(); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	} else if err != nil {
		return 1, err
	}
	return 0, nil
}
