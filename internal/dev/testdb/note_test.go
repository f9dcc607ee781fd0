package testdb

import (
	"context"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestNoteOfLaterRunsIsTheSame: the value of the variable differs only where the tests must run again.
func TestNoteOfLaterRunsIsTheSame(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv(imageVariable, "")
	t.Setenv(settingsVariable, "")
	started := func(context.Context) error { return nil }
	note := func(s Server) string {
		t.Helper()
		variable, remove, err := s.Note()
		if err != nil || !strings.HasPrefix(variable, noteVariable+"=") {
			t.Fatalf("got %q, %v", variable, err)
		}
		remove()
		return variable
	}
	first := note(Server{URL: "postgres://a:1", Source: "container", version: "17.6", stop: started})
	if again := note(Server{URL: "postgres://a:2", Source: "container", version: "17.6", stop: started}); again != first {
		t.Errorf("got %s in a later run, %s in the first", again, first)
	}
	for name, other := range map[string]Server{
		"another version":      {URL: "postgres://a:1", Source: "container", version: "17.7", stop: started},
		"another source":       {URL: "postgres://a:1", Source: "binaries", version: "17.6", stop: started},
		"a server that stays":  {URL: "postgres://a:1", Source: "url", version: "17.6"},
		"another one of those": {URL: "postgres://b:1", Source: "url", version: "17.6"},
	} {
		if got := note(other); got == first {
			t.Errorf("%s has the same variable", name)
		}
	}
	t.Setenv(settingsVariable, "lock_timeout=50ms")
	if got := note(Server{URL: "postgres://a:1", Source: "container", version: "17.6", stop: started}); got == first {
		t.Error("other settings have the same variable")
	}
}

func TestNoteNamesTheServer(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	server, _, err := shared.get()
	if err != nil {
		t.Fatal(err)
	}
	variable, remove, err := server.Note()
	if err != nil {
		t.Fatal(err)
	}
	name, path, _ := strings.Cut(variable, "=")
	t.Setenv(name, path)
	t.Setenv(urlVariable, "postgres://nobody@127.0.0.1:1/")
	t.Setenv(servedVariable, "")
	got, err := Serve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got.Close()
	if got.URL != server.URL || got.Source != server.Source {
		t.Errorf("got %+v, want %s from %s", got, server.URL, server.Source)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v: others must not read the password", info.Mode(), err)
	}

	second, forget, err := server.Note()
	if err != nil || second != noteVariable+"=" {
		t.Errorf("got %q, %v: one run at a time has the note", second, err)
	}
	forget()
	remove()
	if got, err := Serve(t.Context()); err == nil || !strings.Contains(err.Error(), "withdb has ended") {
		t.Errorf("got %v, %v after the end of the run", got, err)
	}
}

const notedVariable = "REIESTR_TESTDB_NOTED"

// TestGoTestKeepsResults: tests that are given a note read no variable whose value is another one in the next run. The
// log of the test binary is what go test compares.
func TestGoTestKeepsResults(t *testing.T) {
	if os.Getenv(notedVariable) != "" {
		connect(t, New(t).URL)
		return
	}
	server, _, err := shared.get()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	variable, remove, err := server.Note()
	if err != nil {
		t.Fatal(err)
	}
	defer remove()
	log := filepath.Join(t.TempDir(), "log")
	child := osexec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.testlogfile="+log)
	child.Env = append(append(os.Environ(), server.Environment()...), variable, demandVariable+"=", notedVariable+"=1")
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(log)
	if err != nil || !strings.Contains(string(text), "getenv "+noteVariable+"\n") {
		t.Fatalf("%v, the log is %s", err, text)
	}
	for _, changing := range []string{urlVariable, servedVariable, runVariable} {
		if strings.Contains(string(text), "getenv "+changing+"\n") {
			t.Errorf("the tests read %s", changing)
		}
	}
}
