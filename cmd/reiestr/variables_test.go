package main

import (
	"bytes"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
)

// configured reads a command line as run does, and returns the settings and the names of all variables.
func configured(t *testing.T, args ...string) (Config, []string) {
	t.Helper()
	var c cli
	parser, err := newParser(&c, streams{nil, io.Discard, io.Discard})
	must(t, err)
	var variables []string
	for _, flag := range parser.Model.Flags {
		variables = append(variables, flag.Envs...)
	}
	_, err = parser.Parse(append([]string{"version"}, args...))
	must(t, err)
	return c.Config, variables
}

// TestEmptyVariablesCountAsUnset: every variable of Config, and every flag, may be empty and then counts as unset.
func TestEmptyVariablesCountAsUnset(t *testing.T) {
	config := reflect.TypeFor[Config]()
	_, variables := configured(t)
	if len(variables) != config.NumField() {
		t.Fatalf("%d fields of Config, but variables %s", config.NumField(), variables)
	}
	for _, name := range variables {
		t.Setenv(name, "") // restores it after the test
		must(t, os.Unsetenv(name))
	}
	want, _ := configured(t)
	if want.Listen == "" || len(want.ExpiryTimes) == 0 {
		t.Fatalf("the defaults are %+v", want)
	}
	var flags []string
	for i := range config.NumField() {
		field := config.Field(i)
		must(t, os.Setenv(field.Tag.Get("env"), ""))
		if got, _ := configured(t); !reflect.DeepEqual(got, want) {
			t.Errorf("with an empty %s: %+v, want %+v", field.Tag.Get("env"), got, want)
		}
	}
	parser, err := newParser(&cli{}, streams{nil, io.Discard, io.Discard})
	must(t, err)
	for _, flag := range parser.Model.Flags {
		if len(flag.Envs) > 0 {
			flags = append(flags, "--"+flag.Name+"=")
		}
	}
	if got, _ := configured(t, flags...); !reflect.DeepEqual(got, want) {
		t.Errorf("with %s: %+v, want %+v", flags, got, want)
	}
	must(t, os.Setenv("REIESTR_LISTEN", "127.0.0.2:0"))
	if got, _ := configured(t, "--listen", ""); got.Listen != "127.0.0.2:0" {
		t.Errorf("an empty flag hides the variable: %q", got.Listen)
	}
}

func TestNeverTurnsAScheduleOff(t *testing.T) {
	t.Parallel()
	got, _ := configured(t, "--expiry-times=never", "--prune-times=03:00, 15:30")
	if len(got.ExpiryTimes) != 0 || len(got.PruneTimes) != 2 || got.PruneTimes[1].Minute != 30 {
		t.Errorf("expiry %v, pruning %v", got.ExpiryTimes, got.PruneTimes)
	}
	for _, times := range []string{"never,04:00", "24:00", "04:00,,05:00", "off"} {
		var errs bytes.Buffer
		code := run(t.Context(), []string{"version", "--expiry-times=" + times}, streams{nil, io.Discard, &errs})
		if code != exitUsage || !strings.Contains(errs.String(), "give times like 00:00,04:00, or never") {
			t.Errorf("%s: exit code %d: %s", times, code, errs.String())
		}
	}
}
