// Package program builds `reiestr` and runs it in processes of its own, for measurements and proofs.
package program

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/reiestr/reiestr/internal/dev/watched"
)

// Build makes the program as `make build` does, in the folder temp, and returns its path. root is that of the
// repository.
func Build(ctx context.Context, root, temp string) (string, error) {
	if err := watch(ctx, root); err != nil {
		return "", err
	}
	program := filepath.Join(temp, "reiestr")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/reiestr")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, said)
	}
	return program, nil
}

// watch lets go test run the caller's tests again after a change of the program.
func watch(ctx context.Context, root string) error {
	cmd := exec.CommandContext(ctx, "go", "list", "-deps", "-f", "{{with .Module}}{{if .Main}}{{$.Dir}}{{end}}{{end}}",
		"./cmd/reiestr")
	cmd.Dir = root
	folders, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	return errors.Join(
		watched.Files(filepath.Join(root, "go.mod"), filepath.Join(root, "go.sum")),
		watched.Folders(strings.Fields(string(folders))...),
	)
}

// Service is a running `reiestr serve`.
type Service struct {
	cmd     *exec.Cmd
	Address string // host:port
	log     *os.File
}

// Serve starts the program in a role and waits until it is ready. The program writes its log as usual; the lines
// go to the file log.
func Serve(ctx context.Context, program, role, url, log string, variables ...string) (*Service, error) {
	s := &Service{cmd: exec.Command(program, "serve", "--role", role, "--listen", "127.0.0.1:0")}
	for _, variable := range os.Environ() { // a configuration of this machine must not change the results
		if !strings.HasPrefix(variable, "REIESTR_") && !strings.HasPrefix(variable, "OTEL_") {
			s.cmd.Env = append(s.cmd.Env, variable)
		}
	}
	s.cmd.Env = append(append(s.cmd.Env, "REIESTR_DATABASE_URL="+url), variables...)
	// Ctrl-C reaches only this process, which stops the service in order.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var err error
	if s.log, err = os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644); err != nil {
		return nil, err
	}
	s.cmd.Stderr = s.log
	out, err := s.cmd.StdoutPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(err, s.log.Close())
	}
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	address, found := strings.CutPrefix(strings.TrimSpace(line), "listening on http://")
	if err != nil || !found {
		return nil, errors.Join(
			fmt.Errorf("reiestr serve --role %s does not start, its log is %s (choose another with "+
				"--service-log)", role, log),
			s.Stop(),
		)
	}
	s.Address = address
	go io.Copy(io.Discard, lines) //nolint:errcheck // until the process ends
	if ctx.Err() != nil {
		return nil, errors.Join(ctx.Err(), s.Stop())
	}
	return s, nil
}

// Signal sends a signal to the process.
func (s *Service) Signal(signal os.Signal) error { return s.cmd.Process.Signal(signal) }

// Kill ends the process by SIGKILL, and waits for its end.
func (s *Service) Kill() error {
	err := s.cmd.Process.Kill()
	s.cmd.Wait() //nolint:errcheck // the error is that the process was killed
	return errors.Join(err, s.log.Close())
}

// Stop ends the process in order. An error: it did not exit with 0.
func (s *Service) Stop() error {
	s.Signal(syscall.SIGTERM)                                               //nolint:errcheck // Wait returns the outcome
	kill := time.AfterFunc(40*time.Second, func() { s.cmd.Process.Kill() }) //nolint:errcheck // see above
	defer kill.Stop()
	return errors.Join(s.cmd.Wait(), s.log.Close())
}

// Pid is the process.
func (s *Service) Pid() int { return s.cmd.Process.Pid }
