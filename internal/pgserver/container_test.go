package pgserver

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// withoutBinaries returns a configuration that finds no binaries, if PATH has none either.
func withoutBinaries(t *testing.T) Config {
	t.Helper()
	return Config{DataDir: t.TempDir(), Bin: t.TempDir(), folders: []string{}}
}

func TestNoServer(t *testing.T) {
	for name, test := range map[string]struct{ docker, detail string }{
		"no docker command": {"", "there is no docker command"},
		"no engine": {
			"echo Cannot connect to the Docker daemon >&2; exit 1",
			"the Docker engine does not answer: docker version: exit status 1: Cannot connect to the Docker daemon",
		},
		"no image": {
			`case "$1" in version) echo 28.0;; pull) echo no route to host >&2; exit 1;; *) exit 1;; esac`,
			"the Docker engine answers, but image postgres:17 is neither here nor can it be pulled: " +
				"docker pull: exit status 1: no route to host",
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir()
			t.Setenv("PATH", path)
			if test.docker != "" {
				script(t, filepath.Join(path, "docker"), test.docker)
			}
			cfg := withoutBinaries(t)
			_, err := Open(t.Context(), cfg)
			if !errors.Is(err, ErrNoServer) {
				t.Fatalf("error %v, want ErrNoServer", err)
			}
			for _, want := range []string{
				"apt-get install postgresql", "REIESTR_POSTGRES_BIN", "start Docker", "REIESTR_DATABASE_URL",
				"no PostgreSQL binaries of version 15 or newer found", test.detail,
			} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error does not say %q: %v", want, err)
				}
			}
			if _, err := os.Stat(filepath.Join(cfg.DataDir, containerFile)); err == nil {
				t.Error("the failure decides for Docker")
			}
		})
	}
}

func TestContainer(t *testing.T) {
	command, err := exec.LookPath("docker")
	if err != nil {
		t.Skip("no docker command")
	}
	if out, err := exec.Command(command, "info").CombinedOutput(); err != nil {
		t.Skipf("no Docker engine: %s", oneLine(out))
	}
	path := t.TempDir()
	t.Setenv("PATH", path) // docker only
	if err := os.Symlink(command, filepath.Join(path, "docker")); err != nil {
		t.Fatal(err)
	}
	for _, image := range []string{DefaultImage, "postgres:18"} {
		t.Run(image, func(t *testing.T) {
			if _, err := docker(t.Context(), dockerLimit, "image", "inspect", image); err != nil {
				t.Skipf("image %s is not here", image)
			}
			testContainer(t, image)
		})
	}
}

func testContainer(t *testing.T, image string) {
	cfg := withoutBinaries(t)
	cfg.Image = image
	h, err := openHome(cfg.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	c := &container{cfg: cfg, home: h}
	t.Cleanup(func() {
		if err := errors.Join(c.stop(context.Background()), c.discard(context.Background())); err != nil {
			t.Error(err)
		}
	})

	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.identify(false); err != nil {
		t.Fatal(err)
	}
	if got := s.Description(); s.Joined() || !strings.Contains(got, "Docker container "+c.Name+" of image "+image) {
		t.Errorf("description %q, joined %v", got, s.Joined())
	}
	keepRow(t, s.URL())
	for setting, want := range map[string]string{"server_encoding": "UTF8", "fsync": "on", "is_superuser": "on"} {
		if got := query(t, s.URL(), "SELECT current_setting('"+setting+"')"); got != want {
			t.Errorf("%s = %q, want %q", setting, got, want)
		}
	}
	if other := startHelper(t, cfg.DataDir); !other.Joined {
		t.Error("the second process did not join")
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if exists, _ := c.state(t.Context()); exists {
		t.Error("the container outlives Close")
	}

	killed := startHelper(t, cfg.DataDir)
	rowKept(t, killed.URL)
	killed.kill(t)
	if _, running := c.state(t.Context()); !running {
		t.Error("the container ended with its owner")
	}
	s, err = Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if s.Joined() || s.URL() != killed.URL {
		t.Errorf("the left container was not taken over: joined %v, URL %s", s.Joined(), s.URL())
	}
	rowKept(t, s.URL())
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}

	s, err = Temporary(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	temporary := container{cfg: cfg, home: s.home}
	if err := temporary.identify(false); err != nil {
		t.Fatal(err)
	}
	if got := query(t, s.URL(), "SELECT current_setting('fsync')"); got != "off" {
		t.Errorf("temporary server: fsync = %s", got)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := docker(t.Context(), dockerLimit, "volume", "inspect", temporary.Name); err == nil {
		t.Error("the volume of a temporary server is left")
	}
}
