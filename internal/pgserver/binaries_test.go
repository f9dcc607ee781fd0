package pgserver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// script writes an executable shell script.
func script(t *testing.T, path, body string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// fakeBinaries makes a folder with a postgres that only prints its version.
func fakeBinaries(t *testing.T, dir, version string) string {
	t.Helper()
	script(t, filepath.Join(dir, "postgres"), fmt.Sprintf("echo 'postgres (PostgreSQL) %s (Debian %s-1)'", version,
		version))
	script(t, filepath.Join(dir, "initdb"), "exit 1")
	return dir
}

func TestFindInstallation(t *testing.T) {
	root := t.TempDir()
	in := func(parts ...string) string { return filepath.Join(append([]string{root}, parts...)...) }
	bin := fakeBinaries(t, in("bin"), "16.1")
	old := fakeBinaries(t, in("old"), "14.9")
	config := fakeBinaries(t, in("config"), "17beta2")
	path := fakeBinaries(t, in("path"), "15.3")
	fakeBinaries(t, in("lib", "9", "bin"), "9.6.24")
	fifteen := fakeBinaries(t, in("lib", "15", "bin"), "15.18")
	nineteen := fakeBinaries(t, in("lib", "19", "bin"), "19.0")
	clientOnly := in("client")
	script(t, filepath.Join(clientOnly, "postgres"), "echo 'postgres (PostgreSQL) 18.0'")
	script(t, in("tools", "pg_config"), "[ \"$1\" = --bindir ] && echo "+config)
	usual := []string{in("lib", "*", "bin"), in("none", "*", "bin")}

	for name, test := range map[string]struct {
		bin     string
		path    []string
		major   int
		dir     string
		version string
	}{
		"configured":           {bin: bin, path: []string{in("tools"), path}, dir: bin, version: "16.1"},
		"pg_config":            {path: []string{in("tools"), path}, dir: config, version: "17beta2"},
		"configured is old":    {bin: old, path: []string{in("tools")}, dir: config, version: "17beta2"},
		"PATH":                 {bin: in("empty"), path: []string{clientOnly, path}, dir: path, version: "15.3"},
		"usual, newest first":  {dir: nineteen, version: "19.0"},
		"major version":        {bin: bin, path: []string{in("tools")}, major: 15, dir: fifteen, version: "15.18"},
		"major of a candidate": {bin: bin, path: []string{in("tools")}, major: 17, dir: config, version: "17beta2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PATH", strings.Join(test.path, string(filepath.ListSeparator)))
			got, err := findInstallation(t.Context(), test.bin, usual, test.major)
			if err != nil || got.dir != test.dir || got.version != test.version {
				t.Errorf("found %+v, %v, want %s, %s", got, err, test.dir, test.version)
			}
		})
	}

	t.Run("none", func(t *testing.T) {
		t.Setenv("PATH", "")
		_, err := findInstallation(t.Context(), old, nil, 0)
		if !errors.Is(err, errNoBinaries) || !strings.Contains(err.Error(), "14.9 in "+old) {
			t.Errorf("error %v, want one that tells the old version", err)
		}
	})
}

func TestDataOfAnotherMajorVersion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cluster := filepath.Join(dir, clusterFolder)
	if err := os.Mkdir(cluster, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cluster, "PG_VERSION"), []byte("99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), Config{DataDir: dir})
	if err == nil || !strings.Contains(err.Error(), "made by PostgreSQL 99") ||
		!strings.Contains(err.Error(), "postgresql-99") || errors.Is(err, ErrNoServer) {
		t.Errorf("error %v, want one that names version 99 and what to do", err)
	}
	if err := os.Remove(filepath.Join(cluster, "PG_VERSION")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{DataDir: dir}); err == nil ||
		!strings.Contains(err.Error(), "not a PostgreSQL cluster") {
		t.Errorf("error %v, want one that does not take the folder for a cluster", err)
	}
}
