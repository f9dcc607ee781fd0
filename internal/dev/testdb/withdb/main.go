// Withdb runs a command with one PostgreSQL server for all tests of the command. [testdb.Serve] finds or starts the
// server:
//
//	go run ./internal/dev/testdb/withdb -- go test -race ./...
//
// The tests find the server by a note (see [testdb.Server.Note]), so go test keeps the results of packages that did not
// change; other commands find it by REIESTR_TEST_DATABASE_URL. Withdb prints one line that describes the server, and
// stops it when the command ends. The exit code is that of the command.
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

// run answers the exit code of the command. An error concerns the server or the start of the command.
func run(command []string) (code int, err error) {
	// Both signals end the start of the server. A terminal sends its interrupt to the command too; a request to terminate
	// is passed on to the command here. In both cases the server must run until the command has ended.
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
	note, remove, err := server.Note()
	if err != nil {
		return 1, err
	}
	defer remove()

	cmd := exec.CommandContext(terminated, command[0], command[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Env = append(append(os.Environ(), server.Environment()...), note)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	var exit *exec.ExitError
	if err := cmd.Run(); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	} else if err != nil {
		return 1, err
	}
	return 0, nil
}
