package pgserver

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Limits of waiting for Docker.
const (
	dockerLimit    = 30 * time.Second // for a short command
	pullLimit      = 10 * time.Minute
	containerLimit = 90 * time.Second // from the start of the container until the server accepts connections
)

// container runs a server in Docker. The data are in a volume.
type container struct {
	Name     string `json:"name"` // of the container and of the volume
	Image    string `json:"image"`
	Password string `json:"password"`

	cfg  Config
	home *home
}

// startContainer starts the server in a Docker container, or takes over the running container of a killed owner. reason
// says why binaries are not used; it becomes part of the error if Docker cannot be used either.
func startContainer(ctx context.Context, cfg Config, home *home, reason error) (*backend, error) {
	if _, err := exec.LookPath("docker"); err != nil {
		return nil, fmt.Errorf("%w (%w; there is no docker command)", ErrNoServer, reason)
	}
	if _, err := docker(ctx, dockerLimit, "version", "--format", "{{.Server.Version}}"); err != nil {
		return nil, unlessCancelled(ctx, fmt.Errorf("%w (%w; the Docker engine does not answer: %w)", ErrNoServer, reason,
			err))
	}
	c := &container{cfg: cfg, home: home}
	first := !home.has(containerFile)
	if err := c.identify(first); err != nil {
		return nil, fmt.Errorf("cannot read the name of the Docker container of data directory %s: %w", home.name, err)
	}
	if _, err := docker(ctx, dockerLimit, "image", "inspect", "--format", "{{.Id}}", c.Image); err != nil {
		cfg.Logger.Info("pulling the image of PostgreSQL", "image", c.Image)
		if _, err := docker(ctx, pullLimit, "pull", "--quiet", c.Image); err != nil {
			return nil, unlessCancelled(ctx, fmt.Errorf("%w (%w; the Docker engine answers, but image %s is neither here "+
				"nor can it be pulled: %w)", ErrNoServer, reason, c.Image, err))
		}
	}
	if first {
		if err := c.remember(); err != nil {
			return nil, fmt.Errorf("cannot store the name of the Docker container: %w", err)
		}
	}
	b, err := c.start(ctx)
	if err != nil {
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), dockerLimit)
		defer cancel()
		err = errors.Join(err, c.stop(after))
		if first {
			err = errors.Join(err, c.discard(after), home.Remove(containerFile))
		}
		return nil, err
	}
	return b, nil
}

// unlessCancelled returns the context's error if the context has ended, else the given error.
func unlessCancelled(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// identify reads name, image and password of the container; for the first start it makes new ones. Existing data keep
// the image that made them, because another image may have another major version.
func (c *container) identify(first bool) error {
	if first {
		c.Name, c.Image, c.Password = "reiestr-"+random(6), c.cfg.Image, random(32)
		return nil
	}
	text, err := c.home.ReadFile(containerFile)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, c); err != nil {
		return err
	}
	if c.Image != c.cfg.Image {
		c.cfg.Logger.Warn("the data need the container image that made them", "image", c.Image, "configured",
			c.cfg.Image)
	}
	return nil
}

// remember stores what identify made. From now on this data directory uses Docker.
func (c *container) remember() error {
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return replace(c.home.Root, containerFile, text, 0o600)
}

// random returns so many random bytes, in hexadecimal.
func random(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// start runs the container and waits until its server accepts connections.
func (c *container) start(ctx context.Context) (*backend, error) {
	if _, running := c.state(ctx); !running {
		if err := c.run(ctx); err != nil {
			return nil, unlessCancelled(ctx, fmt.Errorf("cannot run a Docker container of image %s: %w", c.Image, err))
		}
	}
	limit := time.Now().Add(containerLimit)
	for {
		url, version, err := c.ready(ctx)
		if err == nil {
			return &backend{
				url:         url,
				description: fmt.Sprintf("PostgreSQL %s, Docker container %s of image %s", version, c.Name, c.Image),
				stop:        c.stop,
				discard:     c.discard,
			}, nil
		}
		if _, running := c.state(ctx); ctx.Err() == nil && (!running || time.Now().After(limit)) {
			return nil, fmt.Errorf("PostgreSQL does not start in Docker container %s (%w): %s", c.Name, err, c.logs(ctx))
		}
		if err := sleep(ctx, retryEvery); err != nil {
			return nil, fmt.Errorf("starting PostgreSQL in Docker: %w", err)
		}
	}
}

// run starts a new container with the volume, and removes a container that has ended.
func (c *container) run(ctx context.Context) error {
	if err := c.remove(ctx); err != nil {
		return err
	}
	const mount = "/var/lib/reiestr" // not the volume that the image declares: its path differs between versions
	args := []string{
		"run", "--detach", "--name", c.Name,
		"--label", "reiestr.data-dir=" + c.home.path,
		"--publish", "127.0.0.1::5432",
		"--volume", c.Name + ":" + mount, "--env", "PGDATA=" + mount + "/postgres",
		"--env", "POSTGRES_USER=" + login, "--env", "POSTGRES_DB=" + login, "--env", "POSTGRES_PASSWORD",
		"--env", "POSTGRES_INITDB_ARGS=--encoding=UTF8 --locale=C.UTF-8 --data-checksums",
		"--stop-signal", "SIGINT", // fast shutdown
		"--shm-size", "256m",
		c.Image, "postgres",
	}
	if c.cfg.temporary {
		for _, setting := range temporarySettings {
			args = append(args, "-c", setting)
		}
	}
	if _, err := docker(ctx, dockerLimit, "volume", "create", "--label", "reiestr.data-dir="+c.home.path,
		c.Name); err != nil {
		return err
	}
	// The command is not cancelled with the context: it would not be known whether there is a container to remove.
	_, err := dockerWith(context.WithoutCancel(ctx), dockerLimit, []string{"POSTGRES_PASSWORD=" + c.Password}, args...)
	return err
}

// ready returns the URL and the version of the server if it accepts connections.
func (c *container) ready(ctx context.Context) (url, version string, err error) {
	address, err := docker(ctx, dockerLimit, "port", c.Name, "5432/tcp")
	if err != nil {
		return "", "", err
	}
	url = fmt.Sprintf("postgres://%s:%s@%s/%s?sslmode=disable", login, c.Password, address, login)
	version, err = prepareDatabase(ctx, url)
	return url, version, err
}

// state reports whether the container exists and whether it runs.
func (c *container) state(ctx context.Context) (exists, running bool) {
	state, err := docker(ctx, dockerLimit, "container", "inspect", "--format", "{{.State.Running}}", c.Name)
	return err == nil, state == "true"
}

// stop ends the server with a fast shutdown and removes the container; the volume stays.
func (c *container) stop(ctx context.Context) error {
	if _, running := c.state(ctx); running {
		if _, err := docker(ctx, containerLimit, "stop", "-t", "60", c.Name); err != nil {
			return fmt.Errorf("cannot stop Docker container %s: %w", c.Name, err)
		}
	}
	return c.remove(ctx)
}

// remove removes the container, if it exists, with its anonymous volumes.
func (c *container) remove(ctx context.Context) error {
	if exists, _ := c.state(ctx); !exists {
		return nil
	}
	if _, err := docker(ctx, dockerLimit, "rm", "--force", "--volumes", c.Name); err != nil {
		return fmt.Errorf("cannot remove Docker container %s: %w", c.Name, err)
	}
	return nil
}

// discard removes the volume with the data.
func (c *container) discard(ctx context.Context) error {
	if _, err := docker(ctx, dockerLimit, "volume", "rm", "--force", c.Name); err != nil {
		return fmt.Errorf("cannot remove Docker volume %s: %w", c.Name, err)
	}
	return nil
}

// logs returns the last lines of the container's output as one line.
func (c *container) logs(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, dockerLimit)
	defer cancel()
	out, err := dockerCommand(ctx, "logs", "--tail", "5", c.Name).CombinedOutput()
	if err != nil {
		return "the log cannot be read"
	}
	return oneLine(out)
}

// docker runs the docker command and returns its output. An error contains the standard error output.
func docker(ctx context.Context, limit time.Duration, args ...string) (string, error) {
	return dockerWith(ctx, limit, nil, args...)
}

// dockerWith does the same as docker, with further environment variables.
func dockerWith(ctx context.Context, limit time.Duration, env []string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var out, complaint bytes.Buffer
	cmd := dockerCommand(ctx, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", args[0], err, oneLine(complaint.Bytes()))
	}
	return strings.TrimSpace(out.String()), nil
}

// dockerCommand prepares the docker command in a process group of its own, so that Ctrl-C on the terminal does not
// reach it.
func dockerCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	return cmd
}
