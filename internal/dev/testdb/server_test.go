package testdb

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestServeAsksInOrder(t *testing.T) {
	t.Parallel()
	server, _, err := shared.get()
	if err != nil {
		t.Fatal(err)
	}
	works := func(context.Context) (*Server, error) { return &Server{URL: server.URL, Description: "fake"}, nil }
	absent := func(context.Context) (*Server, error) { return nil, fmt.Errorf("%w: none here", errAbsent) }
	broken := func(context.Context) (*Server, error) { return nil, errors.New("broken") }
	silent := func(context.Context) (*Server, error) {
		return &Server{URL: "postgres://127.0.0.1:1/?connect_timeout=2", Description: "fake"}, nil
	}
	unset := func(context.Context) (*Server, error) { return nil, errNoURL }

	type starter = func(context.Context) (*Server, error)
	for name, test := range map[string]struct {
		demand                   string
		url, container, binaries starter
		served                   string // beginning of the description
		mentions                 string // in the description or the error
	}{
		"the first that serves":      {"", works, works, works, "url, fake, PostgreSQL ", ""},
		"no URL goes without saying": {"", unset, works, works, "container, fake, PostgreSQL ", ""},
		"an absent one is passed over": {"", unset, absent, works, "binaries, fake",
			"; not container: not to be had: none here"},
		"a broken one is not":          {"", broken, works, works, "", "url: broken"},
		"nor one that does not answer": {"", silent, works, works, "", "url: the server does not answer"},
		"none serves":                  {"", unset, absent, absent, "", "binaries: not to be had: none here"},
		"the demanded one":             {"binaries", works, works, works, "binaries, fake", ""},
		"the demanded one is absent": {"container", works, absent, works, "",
			"REIESTR_TEST_SERVER demands a server that is not served: container"},
		"a URL is demanded and there is none": {"url", unset, works, works, "", "REIESTR_TEST_DATABASE_URL is not set"},
		"the demand cannot be understood":     {"docker", works, works, works, "", "must be one of url, container, binaries"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := serve(t.Context(), test.demand, []source{
				{"url", test.url}, {"container", test.container}, {"binaries", test.binaries},
			})
			if (err == nil) != (test.served != "") {
				t.Fatalf("got %v, %v; want %q", got, err, test.served)
			}
			text := fmt.Sprint(err)
			if err == nil {
				text = got.Description
				defer got.Close()
			}
			if !strings.HasPrefix(text, test.served) || !strings.Contains(text, test.mentions) ||
				test.mentions == "" && strings.Contains(text, "; not ") {
				t.Errorf("got %q; want %q… with %q", text, test.served, test.mentions)
			}
		})
	}
}

// A server that withdb started keeps its source in the processes that get its URL.
func TestServedByWithdb(t *testing.T) {
	server, _, err := shared.get()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(noteVariable, "")
	t.Setenv(urlVariable, server.URL)
	t.Setenv(servedVariable, "container, postgres:17 0123456789ab, PostgreSQL 17.6")
	t.Setenv(demandVariable, "container")
	got, err := Serve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	if got.URL != server.URL || got.Source != "container" ||
		!strings.HasPrefix(got.Description, "container, postgres:17 ") {
		t.Errorf("got %+v", got)
	}

	t.Setenv(demandVariable, "url")
	if got, err := Serve(t.Context()); err == nil {
		got.Close()
		t.Errorf("a container is served where a URL is demanded")
	}
}

func TestGivenURLDoesNotShowItsPassword(t *testing.T) {
	t.Setenv(noteVariable, "")
	t.Setenv(servedVariable, "")
	t.Setenv(urlVariable, "postgres://tester:secret@localhost:5433/play")
	got, err := given(t.Context())
	if err != nil || got.Description != "localhost:5433/play" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestServerTakesSettings(t *testing.T) {
	server, _, err := shared.get()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(noteVariable, "")
	t.Setenv(servedVariable, "")
	t.Setenv(settingsVariable, "cursor_tuple_fraction=0.25,application_name=hardened") // harmless
	stranger := func(context.Context) (*Server, error) { return &Server{URL: server.URL}, nil }
	if got, err := serve(t.Context(), "", []source{{"url", stranger}}); err == nil ||
		!strings.Contains(err.Error(), settingsVariable) {
		t.Errorf("got %v, %v: the settings of a given server must not be changed", got, err)
	}
	if server.Source == "url" {
		t.Skip("the tests have started no server")
	}

	t.Cleanup(func() {
		for _, name := range []string{"cursor_tuple_fraction", "application_name"} {
			server.exec(context.Background(), "ALTER SYSTEM RESET "+name)
		}
		server.exec(context.Background(), "SELECT pg_reload_conf()")
	})
	ours := func(context.Context) (*Server, error) {
		return &Server{URL: server.URL, stop: func(context.Context) error { return nil }}, nil
	}
	got, err := serve(t.Context(), "", []source{{"binaries", ours}})
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	conn, err := Connect(t.Context(), server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if value := query[string](t, conn, "SHOW cursor_tuple_fraction") +
		query[string](t, conn, "SHOW application_name"); value != "0.25hardened" {
		t.Errorf("a new session has %s", value)
	}
	if !strings.Contains(got.Description, "cursor_tuple_fraction=0.25") {
		t.Errorf("the description does not name the setting: %s", got.Description)
	}
	t.Setenv(settingsVariable, "no_such_setting=1")
	if got, err := serve(t.Context(), "", []source{{"binaries", ours}}); err == nil {
		t.Errorf("got %v, want an error", got)
	}
}
