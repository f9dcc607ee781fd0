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
	// retryAfter is waited after a run that failed; what it has done is done.
	retryAfter = time.Minute
	// lookAtTheClock bounds how long a schedule sleeps without looking: a machine that was suspended, or whose clock was set, is late by this.
	lookAtTheClock = time.Minute
)

// TimesOfDay are times of each day; none: never.
type TimesOfDay []TimeOfDay

// never is what turns a schedule off. An empty text does not.
const never = "never"

// UnmarshalText reads times with commas between them, like 00:00,04:00, or never.
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
		return fmt.Errorf("%q is no time of day: give times like 00:00,04:00, or never", text)
	}
	t.Hour, t.Minute = clock.Hour(), clock.Minute()
	return nil
}

// Schedule is times of each day in a time zone.
type Schedule struct {
	Times TimesOfDay
	Zone  *time.Location
}

// Next is the first moment of the schedule after a moment. On the days on which clocks change each time comes once as well: one that the
// clocks pass twice counts at one of the two, one that they skip an hour away; zero: there are no times.
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

// Expire runs expire at the times of the schedule until ctx ends, and again after an error until it has succeeded. It may run in any number
// of processes at once: see db.ServiceRequests.Expire. What is due when a process starts waits for the next time.
func Expire(ctx context.Context, s Schedule, log *slog.Logger, expire func(context.Context) (int64, error)) {
	s.run(ctx, func() error {
		recalled, err := expire(ctx)
		switch {
		case ctx.Err() != nil:
		case err == nil:
			log.InfoContext(ctx, "expired service requests recalled", "count", recalled)
		default:
			log.ErrorContext(ctx, "the expiry of service requests failed, trying again", "count", recalled, "error", err)
		}
		return err
	})
}

// Prune runs prune as Expire does expire: see db.DB.Prune.
func Prune(ctx context.Context, s Schedule, log *slog.Logger, prune func(context.Context) (db.Pruned, error)) {
	s.run(ctx, func() error {
		p, err := prune(ctx)
		counts := slog.Group("removed", "jobs", p.Jobs, "events", p.Events, "idempotency_keys", p.IdempotencyKeys)
		switch {
		case ctx.Err() != nil:
		case err == nil:
			log.InfoContext(ctx, "what was past its retention removed", counts)
		default:
			log.ErrorContext(ctx, "the removal of what is past its retention failed, trying again", counts, "error", err)
		}
		return err
	})
}

// run does something at the times of the schedule until ctx ends, and again after an error until it has succeeded.
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

// sleepUntil tells whether the moment has come before ctx ended.
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
