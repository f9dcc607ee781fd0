package worker

import (
	"testing"
	"time"
)

// FuzzSchedule: times that are taken are times of day, and the next run is within two days.
func FuzzSchedule(f *testing.F) {
	for _, text := range []string{"", "never", "00:00", "00:00,04:00", "24:00", "4:00", "04:60", " 02:00 ", ",",
		"02:30,02:30", "02:00:00", "٠٢:00",
		"-1:00", "23:59"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var times TimesOfDay
		if times.UnmarshalText([]byte(text)) != nil {
			return
		}
		if len(times) == 0 && text != never {
			t.Errorf("%q is no times", text)
		}
		for _, at := range times {
			if at.Hour < 0 || at.Hour > 23 || at.Minute < 0 || at.Minute > 59 {
				t.Errorf("%q: %+v", text, at)
			}
		}
		now := time.Date(2026, 3, 29, 2, 59, 59, 0, time.UTC)
		if len(times) > 0 {
			next := Schedule{Times: times, Zone: time.UTC}.Next(now)
			if !next.After(now) || next.Sub(now) > 48*time.Hour {
				t.Errorf("%q: after %s comes %s", text, now, next)
			}
		}
	})
}
