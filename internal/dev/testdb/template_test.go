package testdb

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	osexec "os/exec"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
)

func migrationsOf(content string) fs.FS {
	return fstest.MapFS{"1.sql": {Data: []byte(content)}}
}

// unique is a migration that no other run has had on the same server.
func unique() fs.FS { return migrationsOf("-- " + rand.Text()) }

// dropAtEnd removes the template of the test.
func dropAtEnd(t *testing.T, server *pgx.Conn, name string) {
	t.Cleanup(func() {
		if _, err := server.Exec(context.Background(), "DROP DATABASE IF EXISTS "+name); err != nil {
			t.Error(err)
		}
	})
}

// raceVariable marks the processes that TestTemplateMadeByOneOfManyProcesses starts.
const raceVariable = "REIESTR_TESTDB_RACE"

func TestTemplateMadeByOneOfManyProcesses(t *testing.T) {
	content := os.Getenv(raceVariable)
	if content != "" {
		oneOfManyProcesses(t, migrationsOf(content))
		return
	}
	t.Parallel()
	server, _, err := shared.get()
	if err != nil {
		t.Fatal(err)
	}
	content = "-- " + rand.Text()
	digest, err := fingerprint(migrationsOf(content))
	if err != nil {
		t.Fatal(err)
	}
	dropAtEnd(t, ofServer(t), "reiestr_template_"+digest)

	const processes = 6
	outputs := make([]bytes.Buffer, processes)
	var wait sync.WaitGroup
	for i := range processes {
		wait.Go(func() {
			cmd := osexec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.run=^"+t.Name()+"$")
			cmd.Env = append(append(os.Environ(), server.Environment()...), demandVariable+"=", raceVariable+"="+content)
			cmd.Stdout, cmd.Stderr = &outputs[i], &outputs[i]
			if err := cmd.Run(); err != nil {
				t.Errorf("process %d: %v\n%s", i, err, &outputs[i])
			}
		})
	}
	wait.Wait()

	made := 0
	for i := range outputs {
		made += strings.Count(outputs[i].String(), madeHere)
	}
	if made != 1 {
		t.Errorf("%d processes of %d made the template, want 1", made, processes)
	}
}

const madeHere = "the template is made here"

func oneOfManyProcesses(t *testing.T, files fs.FS) {
	server, err := Serve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	template, err := prepareTemplate(t.Context(), server, files, func(ctx context.Context, address string) error {
		t.Log(madeHere)
		conn, err := Connect(ctx, address)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		time.Sleep(100 * time.Millisecond) // the other processes arrive meanwhile
		return execAll(ctx, conn, "CREATE TABLE migrated ()")
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		db, err := clone(t.Context(), server, template)
		if err != nil {
			t.Fatal(err)
		}
		conn := connect(t, db.URL)
		exec(t, conn, "TABLE migrated")
		conn.Close(t.Context())
		exec(t, connect(t, server.URL), "DROP DATABASE "+db.Name+" WITH (FORCE)")
	}
}

func TestTemplateTakesNoConnections(t *testing.T) {
	t.Parallel()
	server, template, err := shared.get()
	if err != nil {
		t.Fatal(err)
	}
	address, err := withDatabase(server.URL, template)
	if err != nil {
		t.Fatal(err)
	}
	if conn, err := pgx.Connect(t.Context(), address); err == nil {
		conn.Close(t.Context())
		t.Errorf("%s accepts connections", template)
	}
}

func TestHalfMadeTemplateIsRemoved(t *testing.T) {
	t.Parallel()
	server, _, err := shared.get()
	if err != nil {
		t.Fatal(err)
	}
	files, conn := unique(), ofServer(t)
	broken := errors.New("broken migration")
	count := func() int {
		digest, err := fingerprint(files)
		if err != nil {
			t.Fatal(err)
		}
		return query[int](t, conn, "SELECT count(*) FROM pg_database WHERE starts_with(datname, $1)",
			"reiestr_template_"+digest)
	}

	_, err = prepareTemplate(t.Context(), server, files, func(context.Context, string) error { return broken })
	if !errors.Is(err, broken) || count() != 0 {
		t.Errorf("got %v and %d databases, want %v and none", err, count(), broken)
	}

	name, err := prepareTemplate(t.Context(), server, files, func(context.Context, string) error { return nil })
	if err != nil || count() != 1 {
		t.Fatalf("after the repair: %v and %d databases, want one", err, count())
	}
	dropAtEnd(t, conn, name)
}

// A process that is killed leaves its draft. No other process may take the draft for the template.
func TestDraftOfKilledMakerIsReplaced(t *testing.T) {
	t.Parallel()
	server, _, err := shared.get()
	if err != nil {
		t.Fatal(err)
	}
	files, conn := unique(), ofServer(t)
	digest, err := fingerprint(files)
	if err != nil {
		t.Fatal(err)
	}
	draft := "reiestr_template_" + digest + "_draft"
	exec(t, conn, "CREATE DATABASE "+draft)
	address, err := withDatabase(server.URL, draft)
	if err != nil {
		t.Fatal(err)
	}
	exec(t, connect(t, address), "CREATE TABLE half_made ()")

	name, err := prepareTemplate(t.Context(), server, files, func(ctx context.Context, address string) error {
		conn, err := Connect(ctx, address)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		if query[bool](t, conn, "SELECT to_regclass('half_made') IS NOT NULL") {
			t.Error("the draft was used further")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	dropAtEnd(t, conn, name)
	if query[bool](t, conn, databaseExists, draft) {
		t.Error("the draft is still there")
	}
}

func TestFingerprint(t *testing.T) {
	t.Parallel()
	file := func(content string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(content)} }
	seen := map[string]int{}
	for i, files := range []fstest.MapFS{
		{},
		{"1.sql": file("a")},
		{"1.sql": file("b")},
		{"2.sql": file("a")},
		{"1.sql": file("a"), "2.sql": file("")},
		{"1.sql": file(""), "2.sql": file("a")},
		{"d/1.sql": file("a")},
	} {
		digest, err := fingerprint(files)
		if err != nil {
			t.Fatal(err)
		}
		if same, found := seen[digest]; found {
			t.Errorf("sets of files %d and %d share a fingerprint", same, i)
		}
		seen[digest] = i
	}
}
