package pg

import (
	"encoding/json"
	"testing"
	"time"
)

// FuzzDate: a text that is taken for a day is written as it was read, and JSON and text agree.
func FuzzDate(f *testing.F) {
	for _, text := range []string{"", "2026-02-28", "2017-02-29", "2024-02-29", "0000-01-01", "9999-12-31", "10000-01-01",
		"2026-1-1",
		"2026-01-01T00:00:00Z", " 2026-01-01", "２０２６-01-01", "2026-01-01\x00", "-001-01-01"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var day, other Date
		err := day.UnmarshalText([]byte(text))
		quoted, _ := json.Marshal(text)
		if (other.UnmarshalJSON(quoted) == nil) != (err == nil) || !other.Equal(day.Time) {
			t.Fatalf("%q: as a text %v, in JSON %v", text, day, other)
		}
		if err != nil {
			return
		}
		if written, err := day.MarshalText(); err != nil || string(written) != text {
			t.Errorf("%q is written %q, %v", text, written, err)
		}
		if day.Truncate(24*time.Hour) != day.Time || day.Location() != time.UTC {
			t.Errorf("%q: %v is no midnight in UTC", text, day.Time)
		}
	})
}
