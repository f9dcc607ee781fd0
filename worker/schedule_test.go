package worker_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/worker"
)

func schedule(t *testing.T, zone string, times ...worker.TimeOfDay) worker.Schedule {
	t.Helper()
	location, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	return worker.Schedule{Times: times, Zone: location}
}

var midnightAndFour = []worker.TimeOfDay{{Hour: 0}, {Hour: 4}}

func TestNextTimeOfTheSchedule(t *testing.T) {
	t.Parallel()
	s := schedule(t, "Europe/Kyiv", midnightAndFour...)
	for _, test := range []struct{ after, next string }{
		{"2026-01-15T00:00:00+02:00", "2026-01-15T04:00:00+02:00"},
		{"2026-01-14T23:59:59+02:00", "2026-01-15T00:00:00+02:00"},
		{"2026-01-15T03:59:59+02:00", "2026-01-15T04:00:00+02:00"},
		{"2026-01-15T04:00:00+02:00", "2026-01-16T00:00:00+02:00"},
		{"2026-12-31T12:00:00+02:00", "2027-01-01T00:00:00+02:00"},
		// Clocks go from 03:00 to 04:00.
		{"2026-03-28T23:00:00+02:00", "2026-03-29T00:00:00+02:00"},
		{"2026-03-29T00:00:00+02:00", "2026-03-29T04:00:00+03:00"},
		{"2026-03-29T02:59:59+02:00", "2026-03-29T04:00:00+03:00"},
		{"2026-03-29T04:00:00+03:00", "2026-03-30T00:00:00+03:00"},
		// Clocks go from 04:00 back to 03:00.
		{"2026-10-25T00:00:00+03:00", "2026-10-25T04:00:00+02:00"},
		{"2026-10-25T03:30:00+03:00", "2026-10-25T04:00:00+02:00"},
		{"2026-10-25T03:30:00+02:00", "2026-10-25T04:00:00+02:00"},
		{"2026-10-25T04:00:00+02:00", "2026-10-26T00:00:00+02:00"},
		// A moment in another zone is the same moment.
		{"2026-01-14T22:00:00Z", "2026-01-15T04:00:00+02:00"},
	} {
		after, err := time.Parse(time.RFC3339, test.after)
		if err != nil {
			t.Fatal(err)
		}
		if next := s.Next(after).Format(time.RFC3339); next != test.next {
			t.Errorf("after %s: %s, want %s", test.after, next, test.next)
		}
	}
}

// Every day has each of its times once, also where the clocks change, and the schedule goes on.
func TestEveryDayHasItsTimes(t *testing.T) {
	t.Parallel()
	for _, zone := range []string{"Europe/Kyiv", "Asia/Beirut", "America/Santiago", "Australia/Lord_Howe", "UTC"} {
		s := schedule(t, zone, worker.TimeOfDay{Hour: 0}, worker.TimeOfDay{Hour: 3, Minute: 30}, worker.TimeOfDay{Hour: 4})
		at := time.Date(2025, 1, 1, 12, 0, 0, 0, s.Zone)
		end := at.AddDate(2, 0, 0)
		runs := 0
		for at.Before(end) {
			next := s.Next(at)
			if !next.After(at) || next.Sub(at) > 25*time.Hour {
				t.Fatalf("%s: after %s comes %s", zone, at, next)
			}
			at = next
			runs++
		}
		// A time that the clocks skip may coincide with another one of the day: at most once a year.
		if days := int(end.Sub(time.Date(2025, 1, 1, 12, 0, 0, 0, s.Zone)).Hours()/24 + 0.5); runs < 3*days-2 ||
			runs > 3*days+1 {
			t.Errorf("%s: %d runs on %d days", zone, runs, days)
		}
	}
}

func TestTimeOfDay(t *testing.T) {
	t.Parallel()
	var at worker.TimeOfDay
	if err := at.UnmarshalText([]byte("04:05")); err != nil || at != (worker.TimeOfDay{Hour: 4, Minute: 5}) {
		t.Errorf("%v %v", at, err)
	}
	for _, text := range []string{"", "4", "24:00", "04:60", "-1:00", "midnight"} {
		if err := at.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is read as %v", text, at)
		}
	}
}

// The clock of synctest begins at midnight UTC of 2000-01-01, which is two o'clock in Kyiv.
func TestExpireRunsAtItsTimesAndAgainAfterAnError(t *testing.T) {
	s := schedule(t, "Europe/Kyiv", midnightAndFour...)
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithTimeout(t.Context(), 30*time.Hour)
		defer stop()
		var runs []string
		var told strings.Builder
		worker.Expire(ctx, s, slog.New(slog.NewTextHandler(&told, nil)), func(context.Context) (db.Expired, error) {
			runs = append(runs, time.Now().In(s.Zone).Format("02 15:04:05"))
			if len(runs) == 2 {
				return db.Expired{Recalled: 7}, errors.New("the database has gone")
			}
			return db.Expired{Recalled: 5, Failed: 3}, nil // rows that failed are left to the next run
		})
		want := []string{"01 04:00:00", "02 00:00:00", "02 00:01:00", "02 04:00:00"}
		if len(runs) != len(want) {
			t.Fatalf("ran at %v, want %v", runs, want)
		}
		for i := range want {
			if runs[i] != want[i] {
				t.Errorf("ran at %v, want %v", runs, want)
			}
		}
		for _, want := range []string{"count=7 failed=0 error=\"the database has gone\"", "count=5 failed=3\n"} {
			if !strings.Contains(told.String(), want) {
				t.Errorf("the log does not say %s:\n%s", want, told.String())
			}
		}
	})
}

// The clock of synctest begins at two o'clock in Kyiv. A failed run is logged with the number of removed rows, and is
// repeated.
func TestPruneRunsAtItsTimesAndAgainAfterAnError(t *testing.T) {
	s := schedule(t, "Europe/Kyiv", worker.TimeOfDay{Hour: 2})
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithTimeout(t.Context(), 50*time.Hour)
		defer stop()
		var runs []string
		var told strings.Builder
		worker.Prune(ctx, s, slog.New(slog.NewTextHandler(&told, nil)), func(context.Context) (db.Pruned, error) {
			runs = append(runs, time.Now().In(s.Zone).Format("02 15:04:05"))
			if len(runs) == 1 {
				return db.Pruned{Jobs: 7}, errors.New("the database has gone")
			}
			return db.Pruned{Jobs: 1, Events: 2, IdempotencyKeys: 3}, nil
		})
		if want := []string{"02 02:00:00", "02 02:01:00", "03 02:00:00"}; !slices.Equal(runs, want) {
			t.Errorf("ran at %v, want %v", runs, want)
		}
		for _, want := range []string{
			"level=ERROR", "removed.jobs=7 removed.events=0 removed.idempotency_keys=0 error=\"the database has gone\"",
			"level=INFO", "removed.jobs=1 removed.events=2 removed.idempotency_keys=3\n",
		} {
			if !strings.Contains(told.String(), want) {
				t.Errorf("the log does not say %s:\n%s", want, told.String())
			}
		}
	})
}

func TestExpireWithoutTimesEnds(t *testing.T) {
	t.Parallel()
	worker.Expire(t.Context(), worker.Schedule{Zone: time.UTC}, slog.New(slog.DiscardHandler), nil)
}
