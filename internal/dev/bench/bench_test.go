package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// runSmall runs the command at a small scale, and answers its output. The command itself fails if an answer is wrong,
// or if the database does not hold the measured changes.
func runSmall(t *testing.T, args ...string) string {
	t.Helper()
	if _, err := findPgbench(""); err != nil {
		if matches, _ := filepath.Glob("/usr/lib/postgresql/*/bin/pgbench"); len(matches) == 0 {
			if os.Getenv("REIESTR_TEST_PGBENCH") == "required" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	var out, log bytes.Buffer
	args = append([]string{"--scale", "10000", "--rounds", "1", "--duration", "300ms", "--warm-up", "0s",
		"--transactions", "80", "--clients", "8", "--crowd", "40", "--cache", cache}, args...)
	if err := run(t.Context(), args, &out, &log); err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	return out.String()
}

// cache is the folder that keeps the filled database for all tests of this package.
var cache string

func TestMain(m *testing.M) {
	var err error
	if cache, err = os.MkdirTemp("", "reiestr-bench-test-"); err != nil {
		panic(err)
	}
	os.Chmod(cache, 0o711) //nolint:errcheck // if it fails, the start of PostgreSQL fails
	code := m.Run()
	os.RemoveAll(cache)
	os.Exit(code)
}

// TestRounds: everything is measured and every row of the tables is filled. The figures are not looked at.
func TestRounds(t *testing.T) {
	page := filepath.Join(t.TempDir(), "performance.md")
	begin, end := marks("bench")
	if err := os.WriteFile(page, []byte("before\n"+begin+"old\n"+end+"\nafter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	printed := runSmall(t, "--out", page)
	for way, wanted := range map[string]int{asSteps: 6, asSent: 5, asService: 5} { // six with that of the workers
		rows := regexp.MustCompile(`(?m)^\| .* \| `+way+` \|( [0-9.]+ \|){5}`).FindAllString(printed, -1)
		if len(rows) != wanted {
			t.Errorf("%d rows %q with speed, ratio and percentiles, not %d", len(rows), way, wanted)
		}
	}
	for _, pattern := range []string{
		`\| jobs drained \(.release.\) \| steps \| \d+ \| 1.00 \|`,
		`\| jobs drained \(.release.\) \| service \| \d+ \| [0-9.]+ \|`,
		`\| accept → processed at 200/s, p99 \| ≤ 50 ms \| [0-9.]+ ms \|`,
		`\| throughput on other rows .* \| ≥ 0.8 \| [0-9.]+ \|`,
		`p99 of the losers \d+ ms`,
		`\| reads beside commands that wait for a held row, p99 to undisturbed \| ≤ 2 \| [0-9.]+ \|`,
		`\| readiness beside commands that wait for a held row, p99 to undisturbed \| ≤ 2 \| [0-9.]+ \|`,
		`\| commands on other rows beside commands that wait for a held row, p99 to undisturbed \| ≤ 2 \| [0-9.]+ \|`,
	} {
		if !regexp.MustCompile(pattern).MatchString(printed) {
			t.Errorf("nothing like %s", pattern)
		}
	}
	if t.Failed() {
		t.Log(printed)
	}
	written, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if want := "before\n" + begin + printed + end + "\nafter\n"; string(written) != want {
		t.Errorf("written: %s", written)
	}
}

func TestGrowth(t *testing.T) {
	printed := runSmall(t, "--growth", "1000,10000")
	if n := strings.Count(printed, "| 10000 | by "); n != 2 {
		t.Errorf("%d rows of the larger scale\n%s", n, printed)
	}
}

// TestOverload: nothing that was accepted is lost, and each answer is one of the contract. The times are not looked at.
func TestOverload(t *testing.T) {
	printed := runSmall(t, "--overload", "1s")
	for _, pattern := range []string{
		`\| acknowledged and not in the tables, or there and not acknowledged \| ≤ 0 \| 0.00 \| met \|`,
		`\| twice of it \| [1-9]\d* \| [1-9]\d* \|`,
		`\| one client, whose limit is 20 \| [1-9]\d* \| [1-9]\d* \|`,
	} {
		if !regexp.MustCompile(pattern).MatchString(printed) {
			t.Errorf("nothing like %s\n%s", pattern, printed)
		}
	}
}

func TestSoak(t *testing.T) {
	printed := runSmall(t, "--soak", "3s", "--warm-up", "500ms")
	if !regexp.MustCompile(`\| goroutines left behind \| ≤ 0 \| -?\d+.00 \| met \|`).MatchString(printed) {
		t.Errorf("goroutines are left behind\n%s", printed)
	}
}
