package pgserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// oldestMajor is the oldest major version of PostgreSQL that the program supports.
const oldestMajor = 15

// usualFolders are patterns of the folders in which the packages of Debian, Red Hat and Homebrew install the binaries.
var usualFolders = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/opt/homebrew/opt/postgresql@*/bin",
	"/usr/local/opt/postgresql@*/bin",
}

// errNoBinaries: the machine has no postgres and initdb of a suitable version.
var errNoBinaries = errors.New("no PostgreSQL binaries")

// installation is a folder with postgres and initdb.
type installation struct {
	dir     string
	version string // "15.18"
	major   int
}

// Binaries finds the folder with postgres and initdb of version 15 or newer. It looks in bin (may be empty), in the
// folder that pg_config --bindir prints, in PATH, and in the usual folders of Debian, Red Hat and Homebrew, there the
// newest version first.
func Binaries(ctx context.Context, bin string) (dir, version string, err error) {
	found, err := findInstallation(ctx, bin, usualFolders, 0)
	return found.dir, found.version, err
}

// Install finds the folder of binaries as [Binaries] does. If there are none, it downloads them. Of the configuration
// it uses Bin, Download, Mirror and Logger.
func Install(ctx context.Context, cfg Config) (dir string, err error) {
	cfg = cfg.complete()
	usual := slices.Concat(cfg.folders, cfg.downloaded(0))
	found, err := findInstallation(ctx, cfg.Bin, usual, 0)
	if errors.Is(err, errNoBinaries) {
		if failed := download(ctx, cfg, 0); failed != nil {
			return "", fmt.Errorf("%w; %w", err, failed)
		}
		found, err = findInstallation(ctx, cfg.Bin, usual, 0)
	}
	return found.dir, err
}

// findInstallation returns the first suitable installation in the order of the places. Unless major is 0, only an
// installation of this major version is suitable.
func findInstallation(ctx context.Context, bin string, usual []string, major int) (installation, error) {
	var others []string
	for _, dir := range binaryFolders(ctx, bin, usual) {
		found, ok := inspect(ctx, dir)
		if !ok {
			continue
		}
		if found.major >= oldestMajor && (major == 0 || found.major == major) {
			return found, nil
		}
		others = append(others, fmt.Sprintf("%s in %s", found.version, found.dir))
	}
	if err := ctx.Err(); err != nil {
		return installation{}, err
	}
	wanted := fmt.Sprintf("of version %d or newer", oldestMajor)
	if major != 0 {
		wanted = fmt.Sprintf("of version %d", major)
	}
	err := fmt.Errorf("%w %s found", errNoBinaries, wanted)
	if len(others) > 0 {
		err = fmt.Errorf("%w, only %s", err, strings.Join(others, ", "))
	}
	return installation{}, err
}

// binaryFolders lists the folders to look in, in order, without duplicates.
func binaryFolders(ctx context.Context, bin string, usual []string) []string {
	folders := []string{bin}
	if out, err := output(ctx, "pg_config", "--bindir"); err == nil {
		folders = append(folders, strings.TrimSpace(out))
	}
	folders = append(folders, filepath.SplitList(os.Getenv("PATH"))...)
	for _, pattern := range usual {
		matches, _ := filepath.Glob(pattern) // the only error is a malformed pattern
		slices.SortStableFunc(matches, func(a, b string) int { return cmp.Compare(majorIn(b), majorIn(a)) })
		folders = append(folders, matches...)
	}
	seen := map[string]bool{"": true}
	return slices.DeleteFunc(folders, func(dir string) bool {
		again := seen[dir]
		seen[dir] = true
		return again
	})
}

var number = regexp.MustCompile(`\d+`)

// majorIn returns the version number in a usual folder's path, which is the last number there; 0 when it has none.
func majorIn(path string) int {
	numbers := append([]string{""}, number.FindAllString(path, -1)...)
	major, _ := strconv.Atoi(numbers[len(numbers)-1])
	return major
}

var versionLine = regexp.MustCompile(`\(PostgreSQL\) ((\d+)\S*)`)

// inspect reads the version of the binaries in a folder; false if the folder does not hold both postgres and initdb.
func inspect(ctx context.Context, dir string) (installation, bool) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return installation{}, false
	}
	if _, err := exec.LookPath(filepath.Join(dir, "initdb")); err != nil {
		return installation{}, false
	}
	out, err := output(ctx, filepath.Join(dir, "postgres"), "--version")
	if err != nil {
		return installation{}, false
	}
	parts := versionLine.FindStringSubmatch(out)
	if parts == nil {
		return installation{}, false
	}
	major, err := strconv.Atoi(parts[2])
	return installation{dir: dir, version: parts[1], major: major}, err == nil
}

// output runs a short command and returns its standard output.
func output(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	return string(out), err
}
