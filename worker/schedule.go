package worker

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/reiestr/reiestr/db"
)

const (
	// retryAfter is the pause before a failed run is repeated. Batches that it has committed stay committed.
	retryAfter = time.Minute
	// lookAtTheClock bounds the sleep of a schedule: after a suspension of the machine, or a change of its clock, a run is
	// late by at most this time.
	lookAtTheClock = time.Minute
)

// TimesOfDay are times of day that hold on every day; none: never.
type TimesOfDay []TimeOfDay

// never turns a schedule off. An empty text does not.
const never = "never"

// UnmarshalText reads times with commas between them, for example 00:00,04:00, or never.
func (t *TimesOfDay) UnmarshalText(text []byte) error {
	*t = nil
	if string(text) == never {
		return nil
	}
	for _, part := range strings.Split(string(text), ",") {
		var time TimeOfDay
		if err := time.UnmarshalText([]byte(strings.TrimSpace(part))); err != nil {
			return err
		}
		*t = append(*t, time)
	}
	return nil
}

// TimeOfDay is a time on the clocks of the business time zone.
type TimeOfDay struct{ Hour, Minute int }

// UnmarshalText reads 15:04.
func (t *TimeOfDay) UnmarshalText(text []byte) error {
	clock, err := time.Parse("15:04", string(text))
	if err != nil {
		return fmt.Errorf("%q is not a time of day: give times like 00:00,04:00, or never", text)
	}
	t.Hour, t.Minute = clock.Hour(), clock.Minute()
	return nil
}

// Schedule holds the times of day in a time zone.
type Schedule struct {
	Times TimesOfDay
	Zone  *time.Location
}

// Next is the first moment of the schedule after the given one; zero: the schedule has no times. On a day on which the
// clocks change each time comes exactly once too: a time that the clocks show twice counts at one of the two moments,
// and a time that the clocks skip counts an hour earlier or later. There it may coincide with another time of the
// schedule.
func (s Schedule) Next(after time.Time) (next time.Time) {
	year, month, day := after.In(s.Zone).Date()
	for d := day - 1; d <= day+2; d++ {
		for _, t := range s.Times {
			at := time.Date(year, month, d, t.Hour, t.Minute, 0, 0, s.Zone)
			if at.After(after) && (next.IsZero() || at.Before(next)) {
				next = at
			}
		}
	}
	return next
}

// Expire calls expire at the times of the schedule until ctx ends. After an error it calls expire again until it
// succeeds. Any number of processes may do so at once (see db.ServiceRequests.Expire). A process does not make up for
// times before its start.
func Expire(ctx context.Context, s Schedule, log *slog.Logger, expire func(context.Context) (db.Expired, error)) {
	s.run(ctx, func() error {
		done, err := expire(ctx)
		log := log.With("count", done.Recalled, "failed", done.Failed)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			log.ErrorContext(ctx, "the expiry of service requests failed, trying again", "error", err)
		case done.Failed > 0:
			log.ErrorContext(ctx, "expired service requests recalled, except some that the next run tries again")
		default:
			log.InfoContext(ctx, "expired service requests recalled")
		}
		return err
	})
}

// Prune calls prune as Expire calls expire (see db.DB.Prune).
func Prune(ctx context.Context, s Schedule, log *slog.Logger, prune func(context.Context) (db.Pruned, error)) {
	s.run(ctx, func() error {
		p, err := prune(ctx)
		counts := slog.Group("removed", "jobs", p.Jobs, "events", p.Events, "idempotency_keys", p.IdempotencyKeys)
		switch {
		case ctx.Err() != nil:
		case err == nil:
			log.InfoContext(ctx, "rows past their retention removed", counts)
		default:
			log.ErrorContext(ctx, "the removal of rows past their retention failed, trying again", counts, "error", err)
		}
		return err
	})
}

// run calls do at the times of the schedule until ctx ends. After an error it calls do again until it succeeds.
func (s Schedule) run(ctx context.Context, do func() error) {
	for {
		next := s.Next(time.Now())
		if next.IsZero() || !sleepUntil(ctx, next) {
			return
		}
		for do() != nil && ctx.Err() == nil {
			pause(ctx, retryAfter)
		}
	}
}

// sleepUntil waits for the moment; false: ctx ended first.
func sleepUntil(ctx context.Context, moment time.Time) bool {
	for ctx.Err() == nil {
		left := time.Until(moment.Round(0)) // by the wall clock
		if left <= 0 {
			return true
		}
		pause(ctx, min(left, lookAtTheClock))
	}
	return false
}

// pause waits for the time d, or for the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
