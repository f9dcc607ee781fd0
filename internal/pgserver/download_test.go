package pgserver

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ulikunitz/xz"

	"github.com/reiestr/reiestr/internal/dev/mirror"
	"github.com/reiestr/reiestr/internal/dev/watched"
)

// testMirror is a mirror on the loopback interface with one archive, and a configuration that uses this mirror and
// finds neither PostgreSQL nor Docker.
type testMirror struct {
	*httptest.Server
	archive
	requests atomic.Int64
	Config
	log lockedBuffer
}

// newMirror serves the jar at the path of the pinned archive for this platform.
func newMirror(t *testing.T, jar []byte) *testMirror {
	t.Helper()
	pinned, err := findArchive(pinnedArchives, platform())
	if err != nil {
		t.Skip(err)
	}
	m := &testMirror{archive: pinned}
	m.checksum = fmt.Sprintf("%x", sha256.Sum256(jar))
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.requests.Add(1)
		if r.URL.Path != "/"+m.path {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(jar)))
		w.Write(jar)
	}))
	t.Cleanup(m.Close)
	m.Config = Config{
		DataDir: tempDir(t), Mirror: m.URL, Logger: slog.New(slog.NewTextHandler(&m.log, nil)),
		folders: []string{}, cache: filepath.Join(tempDir(t), "cache"), archives: m.checksum + "  " + m.path, temporary: true,
	}
	return m
}

// withoutPrograms empties PATH, so that neither pg_config nor docker is found.
func withoutPrograms(t *testing.T) { t.Setenv("PATH", "") }

// packed makes a jar of files, given as names and contents in turn. A content that begins with -> is the target of a
// link.
func packed(t *testing.T, files ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	jar := zip.NewWriter(&out)
	inner, err := jar.Create("postgres-linux-x86_64.txz")
	if err != nil {
		t.Fatal(err)
	}
	compressed, err := xz.NewWriter(inner)
	if err != nil {
		t.Fatal(err)
	}
	tape := tar.NewWriter(compressed)
	for i := 0; i < len(files); i += 2 {
		header := &tar.Header{Name: files[i], Mode: 0o755, Size: int64(len(files[i+1])), Typeflag: tar.TypeReg}
		if target, ok := strings.CutPrefix(files[i+1], "->"); ok {
			header.Typeflag, header.Linkname, header.Size = tar.TypeSymlink, target, 0
		}
		if err := tape.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if header.Size > 0 {
			if _, err := tape.Write([]byte(files[i+1])); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(tape.Close(), compressed.Close(), jar.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// fakeServer returns a jar with a postgres that only prints its version.
func fakeServer(t *testing.T) []byte {
	return packed(t, "bin/postgres", "#!/bin/sh\necho 'postgres (PostgreSQL) 17.9'\n", "bin/initdb", "#!/bin/sh\n")
}

// TestWithoutBinariesAndDockerPostgresIsDownloaded: the first start downloads, makes a cluster and starts the server.
// The second start needs no mirror.
func TestWithoutBinariesAndDockerPostgresIsDownloaded(t *testing.T) {
	bin, _, err := Binaries(t.Context(), os.Getenv("REIESTR_POSTGRES_BIN"))
	if err != nil {
		t.Skip(err)
	}
	if !mirror.CanPack(bin) {
		t.Skip("only PostgreSQL of a Debian package can be packed")
	}
	// In a process of its own, because the race detector makes the compression ten times as slow.
	if err := watched.Folders("../dev/mirror"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "postgres.jar")
	pack := exec.CommandContext(t.Context(), "go", "run", "../dev/mirror/serve", "-jar", file)
	if out, err := pack.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	jar, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m := newMirror(t, jar)
	// The scripts of the archive need a shell and its tools; only docker and pg_config have to be missing.
	tools := t.TempDir()
	for _, name := range []string{"sh", "dirname"} {
		if err := os.Symlink("/bin/"+name, filepath.Join(tools, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Dir(tools), 0o711); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", tools)

	for _, start := range []string{"first", "second"} {
		s, err := Open(t.Context(), m.Config)
		if err != nil {
			t.Fatalf("%s start: %v", start, err)
		}
		if data := query(t, s.URL(), "SHOW data_directory"); !strings.HasPrefix(data, m.DataDir) {
			t.Errorf("%s start: the server has its data in %s", start, data)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.Close() // the second start finds the server in the cache
	}
	if n := m.requests.Load(); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
	log := m.log.String()
	size := fmt.Sprintf("%.1f MB", float64(len(jar))/1e6)
	for _, want := range []string{"from=" + m.URL, "received=\"" + size + " of " + size + "\"", "folder=" + m.cache} {
		if !strings.Contains(log, want) {
			t.Errorf("the log does not show %s:\n%s", want, log)
		}
	}
}

func TestDownloadIsRefused(t *testing.T) {
	withoutPrograms(t)
	m := newMirror(t, fakeServer(t))
	other := strings.Repeat("0", 64) + "  " + m.path
	for name, test := range map[string]struct {
		change func(*Config)
		want   string // in the error
	}{
		"forbidden":            {func(c *Config) { c.Download = DownloadNever }, "REIESTR_POSTGRES_DOWNLOAD=never"},
		"not understood":       {func(c *Config) { c.Download = "no" }, "DOWNLOAD=no: must be auto or never"},
		"nothing is pinned":    {func(c *Config) { c.archives = "# nothing" }, "pinned for the platform " + platform()},
		"another checksum":     {func(c *Config) { c.archives = other }, "SHA-256 is " + m.checksum},
		"not on the mirror":    {func(c *Config) { c.Mirror += "/elsewhere" }, "404 Not Found"},
		"no mirror":            {func(c *Config) { c.Mirror = "http://127.0.0.1:1" }, "http://127.0.0.1:1/io/zonky"},
		"no URL":               {func(c *Config) { c.Mirror = "/srv/maven" }, "REIESTR_POSTGRES_MIRROR"},
		"a password is hidden": {func(c *Config) { c.Mirror = "http://me:secret@127.0.0.1:1" }, "http://me:xxxxx@"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := m.Config
			cfg.DataDir = tempDir(t)
			test.change(&cfg)
			_, err := Open(t.Context(), cfg)
			if !errors.Is(err, ErrNoServer) || !strings.Contains(err.Error(), test.want) ||
				!strings.Contains(err.Error(), "apt-get install postgresql") || strings.Contains(err.Error(), "secret") {
				t.Errorf("error %v; want one with %s and what to do", err, test.want)
			}
			if left, _ := filepath.Glob(filepath.Join(cfg.cache, "*")); len(left) > 1 || // the lock
				len(left) == 1 && filepath.Base(left[0]) != "lock" {
				t.Errorf("the cache holds %v", left)
			}
		})
	}
}

// TestDownloadForDataOfAnotherMajorVersion: a cluster needs binaries of its own version. Neither Docker nor a download
// of another version can replace them.
func TestDownloadForDataOfAnotherMajorVersion(t *testing.T) {
	withoutPrograms(t)
	m := newMirror(t, fakeServer(t))
	cluster := filepath.Join(m.DataDir, clusterFolder)
	if err := os.Mkdir(cluster, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cluster, "PG_VERSION"), []byte("15\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), m.Config)
	for _, want := range []string{"made by PostgreSQL 15", "apt-get install postgresql-15", "move " + cluster + " away",
		fmt.Sprintf("the PostgreSQL that can be downloaded is version %d", m.major)} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v; want one with %q", err, want)
		}
	}
	if n := m.requests.Load(); n != 0 {
		t.Errorf("%d requests, want none", n)
	}
}

// TestDownloadedEarlierServesItsOwnMajorVersion: a server that was pinned earlier is used for a cluster of its version,
// and for no new cluster.
func TestDownloadedEarlierServesItsOwnMajorVersion(t *testing.T) {
	withoutPrograms(t)
	m := newMirror(t, fakeServer(t))
	old := fakeBinaries(t, filepath.Join(m.cache, "15-linux-amd64-15.3.0-0123456789ab", "bin"), "15.3")
	patterns := m.Config.complete().downloaded(15)
	found, err := findInstallation(t.Context(), "", patterns, 15)
	if err != nil || found.dir != old {
		t.Errorf("found %+v, %v; want %s", found, err, old)
	}
	if found, err := findInstallation(t.Context(), "", m.Config.complete().downloaded(0), 0); err == nil {
		t.Errorf("a new cluster would be made by %+v, which is not pinned", found)
	}
}

func TestDownloadByManyAtOnce(t *testing.T) {
	withoutPrograms(t)
	m := newMirror(t, fakeServer(t))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			dir, err := Install(t.Context(), m.Config)
			if want := filepath.Join(m.cache, m.folder(), "bin"); err != nil || dir != want {
				t.Errorf("installed in %s, %v; want %s", dir, err, want)
			}
		})
	}
	all.Wait()
	if n := m.requests.Load(); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

func TestDownloadIsCancelled(t *testing.T) {
	withoutPrograms(t)
	m := newMirror(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	m.Server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("a part"))
		w.(http.Flusher).Flush()
		cancel()
		<-r.Context().Done()
	})
	begun := time.Now()
	if _, err := Open(ctx, m.Config); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want the context's", err)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	if left, _ := filepath.Glob(filepath.Join(m.cache, ".new-*")); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

func TestDownloadThatStallsIsGivenUp(t *testing.T) {
	withoutPrograms(t)
	m := newMirror(t, nil)
	m.stall = 100 * time.Millisecond
	m.Server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("a part"))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	_, err := Open(t.Context(), m.Config)
	if !errors.Is(err, ErrNoServer) || !strings.Contains(err.Error(), "nothing came for 100ms") {
		t.Errorf("error %v; want one that tells of the stall", err)
	}
}

func TestArchiveStaysInItsFolder(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		files []string
		fails bool
	}{
		"files and a link":         {[]string{"./bin/postgres", "x", "lib/libz.so", "->libz.so.1"}, false},
		"a path that leads out":    {[]string{"../evil", "x"}, true},
		"an absolute path":         {[]string{"/evil", "x"}, true},
		"a link that leads out":    {[]string{"lib", "->..", "lib/evil", "x"}, true},
		"an absolute link":         {[]string{"lib", "->/", "lib/evil", "x"}, true},
		"the same file once more":  {[]string{"bin/postgres", "x", "bin/postgres", "y"}, true},
		"a file where a folder is": {[]string{"bin/postgres", "x", "bin", "y"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			jar, err := os.Create(filepath.Join(dir, "jar"))
			if err != nil {
				t.Fatal(err)
			}
			defer jar.Close()
			if _, err := jar.Write(packed(t, test.files...)); err != nil {
				t.Fatal(err)
			}
			err = unpack(t.Context(), jar, filepath.Join(dir, "server"))
			if (err != nil) != test.fails {
				t.Errorf("error %v; want one: %v", err, test.fails)
			}
			for _, evil := range []string{filepath.Join(dir, "evil"), "/evil"} {
				if _, err := os.Lstat(evil); err == nil {
					t.Errorf("%s was written", evil)
				}
			}
		})
	}
}

// TestPinnedArchives: there is a line for every platform of the code, and every line has the format of sha256sum.
func TestPinnedArchives(t *testing.T) {
	t.Parallel()
	for _, platform := range []string{"linux-amd64", "linux-arm64v8", "darwin-amd64", "darwin-arm64v8"} {
		a, err := findArchive(pinnedArchives, platform)
		if err != nil || a.major < oldestMajor || !strings.HasSuffix(a.path, platform+"-"+a.version+".jar") {
			t.Errorf("%s: %+v, %v", platform, a, err)
		}
	}
	line := regexp.MustCompile(`^(#.*|[0-9a-f]{64}  \S+)$`)
	for text := range strings.Lines(pinnedArchives) {
		if text = strings.TrimSuffix(text, "\n"); !line.MatchString(text) {
			t.Errorf("not a line of sha256sum: %s", text)
		}
	}
	if a, err := findArchive(pinnedArchives, "linux-amd64-alpine"); err == nil {
		t.Errorf("the archive of another C library is taken for Alpine: %+v", a)
	}
}
