package testdb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/modules/postgres"
	"github.com/testcontainers/testcontainers-go/wait"
)

const (
	imageVariable = "REIESTR_TEST_POSTGRES_IMAGE"
	defaultImage  = "postgres:17"

	// runVariable names a run of tests. Its value is the value of runLabel on the containers of the run, so that a script
	// can find containers that were left behind.
	runVariable = "REIESTR_TEST_RUN"
	runLabel    = "org.reiestr.test-run"

	// dataFolder is in memory. No image declares a volume there.
	dataFolder = "/reiestr-test"

	engineLimit   = 10 * time.Second // for the engine to answer
	registryLimit = 15 * time.Second // for the registry to begin to answer; the download may take longer
	readyLimit    = time.Minute      // for the server in the container
	dialLimit     = 3 * time.Second  // for its port
)

// startContainer runs the server in a container. Close stops the container at once, and its data are removed with it.
func startContainer(ctx context.Context) (*Server, error) {
	// This process stops the container itself, and the reaper would be one more image to pull.
	if os.Getenv("TESTCONTAINERS_RYUK_DISABLED") == "" {
		os.Setenv("TESTCONTAINERS_RYUK_DISABLED", "true")
	}
	name := cmp.Or(os.Getenv(imageVariable), defaultImage)
	if err := ensureImage(ctx, name); err != nil {
		return nil, fmt.Errorf("%w: %w", errAbsent, err)
	}

	command := []string{"postgres"}
	for _, setting := range settings {
		command = append(command, "-c", setting)
	}
	container, err := postgres.Run(ctx, name,
		testcontainers.WithTmpfs(map[string]string{dataFolder: "rw"}),
		testcontainers.WithEnv(map[string]string{"PGDATA": dataFolder + "/data"}),
		testcontainers.WithCmd(command...),
		testcontainers.WithLabels(map[string]string{runLabel: cmp.Or(os.Getenv(runVariable), "unnamed")}),
		testcontainers.WithWaitStrategyAndDeadline(readyLimit,
			// The first message is of the server that prepares the data directory, the second of the server that stays.
			wait.ForLog("database system is ready to accept connections").WithOccurrence(2).
				WithPollInterval(50*time.Millisecond),
			wait.ForMappedPort("5432/tcp").WithPollInterval(50*time.Millisecond),
		),
	)
	stop := func(ctx context.Context) error {
		return testcontainers.TerminateContainer(container, testcontainers.StopContext(ctx), testcontainers.StopTimeout(0))
	}
	if err == nil {
		var address string
		if address, err = reachable(ctx, container); err == nil {
			id := container.GetContainerID()[:12]
			return &Server{URL: address, Description: name + " " + id, stop: stop, outro: "docker rm -f " + id}, nil
		}
	}
	return nil, fmt.Errorf("%w: %w", errAbsent, errors.Join(err, stop(context.WithoutCancel(ctx))))
}

// reachable is the URL of the server as this process reaches it. The URL of testcontainers can be wrong: in an
// environment that looks like a container, testcontainers takes the engine for the engine of the host. An engine that
// runs in the same container has its ports on the loopback interface.
func reachable(ctx context.Context, container *postgres.PostgresContainer) (string, error) {
	address, err := container.ConnectionString(ctx, "sslmode=disable", "connect_timeout=20")
	if err != nil {
		return "", err
	}
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	dialer := net.Dialer{Timeout: dialLimit}
	var failed []error
	for _, host := range []string{u.Hostname(), "127.0.0.1"} {
		u.Host = net.JoinHostPort(host, u.Port())
		conn, err := dialer.DialContext(ctx, "tcp", u.Host)
		if err == nil {
			return u.String(), conn.Close()
		}
		failed = append(failed, err)
	}
	return "", errors.Join(failed...)
}

// ensureImage makes sure that a Docker engine answers and has the image. It pulls a missing image.
func ensureImage(ctx context.Context, name string) error {
	provider, err := dockerProvider()
	if err != nil {
		return fmt.Errorf("no Docker engine answers: %w", err)
	}
	defer provider.Close()
	docker := provider.Client()

	asked, cancel := context.WithTimeout(ctx, engineLimit)
	defer cancel()
	_, err = docker.ImageInspect(asked, name)
	if err == nil || !errdefs.IsNotFound(err) {
		return err
	}

	pulling, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(registryLimit, cancel)
	progress, err := docker.ImagePull(pulling, name, image.PullOptions{})
	if err != nil {
		return fmt.Errorf("image %s is not here and cannot be pulled: %w", name, err)
	}
	defer progress.Close()
	silence.Stop()
	if _, err := io.Copy(io.Discard, progress); err != nil {
		return fmt.Errorf("pulling image %s: %w", name, err)
	}
	_, err = docker.ImageInspect(ctx, name) // a failed download ends the progress like a finished one
	return err
}

// dockerProvider is that of testcontainers, which panics where it finds no engine.
func dockerProvider() (provider *testcontainers.DockerProvider, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%v", reason)
		}
	}()
	return testcontainers.NewDockerProvider()
}
