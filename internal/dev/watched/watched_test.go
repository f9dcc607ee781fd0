package watched

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const childVariable = "REIESTR_WATCHED_CHILD"

// TestGoTestLearnsOfTheFolders runs the test binary once more, and reads the log by which go test learns what a test
// has read.
func TestGoTestLearnsOfTheFolders(t *testing.T) {
	if root := os.Getenv(childVariable); root != "" {
		if err := Folders(root); err != nil {
			t.Fatal(err)
		}
		if err := Files(filepath.Join(root, "go.mod")); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Parallel()
	root := t.TempDir()
	for _, folder := range []string{"a/b", ".git/objects", "a/node_modules/c"} {
		if err := os.MkdirAll(filepath.Join(root, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "go.mod"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(t.TempDir(), "log")
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.testlogfile="+log)
	child.Env = append(os.Environ(), childVariable+"="+root)
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	read := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		read[strings.TrimSpace(line)] = true
	}
	for line, want := range map[string]bool{
		"open " + root: true, "open " + root + "/a": true, "open " + root + "/a/b": true, "stat " + root + "/go.mod": true,
		"open " + root + "/.git": false, "open " + root + "/a/node_modules": false,
	} {
		if read[line] != want {
			t.Errorf("%s: %t, want %t", line, read[line], want)
		}
	}
}

func TestWhatIsMissingIsAnError(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing")
	if Folders(missing) == nil || Files(missing) == nil {
		t.Error("a missing file is no error")
	}
}
