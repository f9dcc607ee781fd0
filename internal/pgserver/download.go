package pgserver

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// DefaultMirror is the Maven repository in which the archives of PostgreSQL are published.
const DefaultMirror = "https://repo1.maven.org/maven2"

// Values of [Config.Download].
const (
	DownloadAuto  = "auto"  // download where there are neither binaries nor Docker
	DownloadNever = "never" // never
)

// pinnedArchives lists the archives that may be downloaded, in the format of sha256sum. Lines that begin with # are
// comments.
//
//go:embed archives.sha256
var pinnedArchives string

// Limits of a download.
const (
	downloadLimit = 15 * time.Minute // for the whole download
	stallLimit    = time.Minute      // longest pause between two parts of the answer
	archiveLimit  = 128 << 20        // bytes of the archive
	progressEvery = 2 * time.Second  // between two lines of the log
)

// An archive is a PostgreSQL server for one platform: a jar, in which one file is a tar compressed with xz.
type archive struct {
	checksum string // SHA-256 of the jar, in hexadecimal
	path     string // below the mirror
	platform string // "linux-amd64"
	version  string // "17.6.0"
	major    int
}

// platform is the publisher's name of the platform that this program runs on.
func platform() string {
	name := runtime.GOOS + "-" + runtime.GOARCH
	if runtime.GOARCH == "arm64" {
		name += "v8"
	}
	if _, err := os.Stat("/etc/alpine-release"); err == nil { // Alpine has another C library
		name += "-alpine"
	}
	return name
}

// findArchive returns the archive for the platform from the list.
func findArchive(list, platform string) (archive, error) {
	prefix := "io/zonky/test/postgres/embedded-postgres-binaries-" + platform + "/"
	for line := range strings.Lines(list) {
		fields := strings.Fields(line)
		if len(fields) != 2 || fields[0] == "#" || !strings.HasPrefix(fields[1], prefix) {
			continue
		}
		a := archive{checksum: fields[0], path: fields[1], platform: platform, version: path.Base(path.Dir(fields[1]))}
		var err error
		a.major, err = strconv.Atoi(strings.Split(a.version, ".")[0])
		if err != nil {
			return archive{}, fmt.Errorf("the version in the path %s of a pinned archive: %w", a.path, err)
		}
		return a, nil
	}
	return archive{}, fmt.Errorf("no archive of PostgreSQL is pinned for the platform %s", platform)
}

// cacheFolder returns the folder of downloaded servers. For root it is a shared folder: the server then runs as another
// user, which may not enter root's own folders.
func (cfg Config) cacheFolder() (string, error) {
	switch {
	case cfg.cache != "":
		return cfg.cache, nil
	case os.Geteuid() == 0:
		return "/var/cache/reiestr/postgresql", nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("there is no cache folder: %w", err)
	}
	return filepath.Join(dir, "reiestr", "postgresql"), nil
}

// folder returns the name of the archive's folder in the cache. It contains the checksum, so that each archive has a
// folder of its own.
func (a archive) folder() string {
	return fmt.Sprintf("%d-%s-%s-%s", a.major, a.platform, a.version, a.checksum[:min(12, len(a.checksum))])
}

// downloaded returns patterns of the folders of downloaded binaries: that of the pinned archive and, unless major is 0,
// those of all archives of this major version, which an existing cluster needs.
func (cfg Config) downloaded(major int) []string {
	cache, err := cfg.cacheFolder()
	if err != nil {
		return nil
	}
	var patterns []string
	if a, err := findArchive(cfg.archives, platform()); err == nil {
		patterns = append(patterns, filepath.Join(cache, a.folder(), "bin"))
	}
	if major != 0 {
		patterns = append(patterns, filepath.Join(cache, fmt.Sprintf("%d-*", major), "bin"))
	}
	return patterns
}

// download downloads the pinned PostgreSQL server into the cache, where [Config.downloaded] finds it. major is the
// version of the existing cluster, 0 if there is none; a cluster of another version than the archive is refused.
func download(ctx context.Context, cfg Config, major int) error {
	switch cfg.Download {
	case DownloadAuto:
	case DownloadNever:
		return fmt.Errorf("REIESTR_POSTGRES_DOWNLOAD=%s forbids to download PostgreSQL", DownloadNever)
	default:
		return fmt.Errorf("REIESTR_POSTGRES_DOWNLOAD=%s: must be %s or %s", cfg.Download, DownloadAuto, DownloadNever)
	}
	a, err := findArchive(cfg.archives, platform())
	if err != nil {
		return err
	}
	if major != 0 && major != a.major {
		return fmt.Errorf("the PostgreSQL that can be downloaded is version %d", a.major)
	}
	cache, err := cfg.cacheFolder()
	if err == nil {
		err = a.install(ctx, cfg, cache)
	}
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("PostgreSQL %s cannot be downloaded: %w", a.version, err)
	}
	return err
}

// install downloads the archive into the cache, unless another process has done so meanwhile.
func (a archive) install(ctx context.Context, cfg Config, cache string) error {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return err
	}
	if os.Geteuid() == 0 { // the umask may be strict, and other users must be able to enter
		if err := errors.Join(os.Chmod(cache, 0o755), os.Chmod(filepath.Dir(cache), 0o755)); err != nil {
			return err
		}
	}
	unlock, err := lockCache(ctx, cache)
	if err != nil {
		return err
	}
	defer unlock()
	folder := filepath.Join(cache, a.folder())
	if _, ok := inspect(ctx, filepath.Join(folder, "bin")); ok {
		return nil
	}
	abandoned, _ := filepath.Glob(filepath.Join(cache, ".new-*")) // of killed processes; the pattern is valid
	for _, dir := range append(abandoned, folder) {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	draft, err := os.MkdirTemp(cache, ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(draft)
	jar, err := os.Create(filepath.Join(draft, "archive.jar"))
	if err != nil {
		return err
	}
	defer jar.Close()
	if err := a.fetch(ctx, cfg, jar); err != nil {
		return err
	}
	server := filepath.Join(draft, "server")
	if err := unpack(ctx, jar, server); err != nil {
		return fmt.Errorf("unpacking the archive: %w", err)
	}
	if _, ok := inspect(ctx, filepath.Join(server, "bin")); !ok {
		_, err := output(ctx, filepath.Join(server, "bin", "postgres"), "--version")
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, oneLine(exit.Stderr))
		}
		return fmt.Errorf("the server in it does not run on this machine: %w", err)
	}
	if err := os.Rename(server, folder); err != nil {
		return err
	}
	cfg.Logger.Info("PostgreSQL is downloaded", "version", a.version, "folder", folder)
	return nil
}

// lockCache waits until no other process downloads into the cache, at most downloadLimit.
func lockCache(ctx context.Context, cache string) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, downloadLimit)
	defer cancel()
	f, err := os.OpenFile(filepath.Join(cache, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = sleep(ctx, retryEvery)
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("waiting for another process that downloads into %s: %w", cache, err)
		}
	}
}

// fetch downloads the archive into the file. After an error the content of the file is not valid.
func (a archive) fetch(ctx context.Context, cfg Config, into *os.File) error {
	mirror, err := url.Parse(cfg.Mirror)
	if err == nil && mirror.Scheme != "http" && mirror.Scheme != "https" {
		err = errors.New("its scheme must be http or https")
	}
	if err != nil {
		return fmt.Errorf("REIESTR_POSTGRES_MIRROR is not the URL of a Maven repository: %w", err)
	}
	from := mirror.JoinPath(a.path)
	cfg.Logger.Info("this machine has no PostgreSQL: downloading one", "version", a.version, "from", from.Redacted())

	ctx, cancel := context.WithTimeoutCause(ctx, downloadLimit, fmt.Errorf("it took longer than %s", downloadLimit))
	defer cancel()
	ctx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	stalled := time.AfterFunc(cfg.stall, func() { abort(fmt.Errorf("nothing came for %s", cfg.stall)) })
	defer stalled.Stop()
	because := func(err error) error {
		if cause := context.Cause(ctx); cause != nil {
			return fmt.Errorf("%s: %w", from.Redacted(), cause)
		}
		return fmt.Errorf("%s: %w", from.Redacted(), err)
	}

	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from.String(), nil)
	if err != nil {
		return err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone() // uses a proxy that the environment names
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		var inner *url.Error
		if errors.As(err, &inner) {
			err = inner.Err // the rest is the URL, which may hold a password
		}
		return because(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return because(fmt.Errorf("the answer is %s", answer.Status))
	}
	hash := sha256.New()
	body := &progress{
		from: answer.Body, total: answer.ContentLength, came: func() { stalled.Reset(cfg.stall) },
		log: cfg.Logger, next: time.Now().Add(progressEvery),
	}
	length, err := io.Copy(io.MultiWriter(into, hash), io.LimitReader(body, archiveLimit+1))
	if err != nil {
		return because(err)
	}
	if length > archiveLimit {
		return because(fmt.Errorf("it is longer than %d bytes", archiveLimit))
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != a.checksum {
		return because(fmt.Errorf("its SHA-256 is %s, the pinned one is %s: it is not used", got, a.checksum))
	}
	return nil
}

// progress reads the body of an answer and logs the number of bytes received.
type progress struct {
	from        io.Reader
	done, total int64  // bytes; the total is -1 if the server does not send it
	came        func() // is called after each part
	log         *slog.Logger
	next        time.Time // time of the next line of the log
}

func (p *progress) Read(b []byte) (int, error) {
	n, err := p.from.Read(b)
	p.done += int64(n)
	p.came()
	if now := time.Now(); now.After(p.next) || err == io.EOF {
		p.next = now.Add(progressEvery)
		far := fmt.Sprintf("%.1f MB", float64(p.done)/1e6)
		if p.total > 0 {
			far += fmt.Sprintf(" of %.1f MB", float64(p.total)/1e6)
		}
		p.log.Info("downloading PostgreSQL", "received", far)
	}
	return n, err
}
