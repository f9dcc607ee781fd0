package pg

import (
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// Date is a calendar day. In Go it is a midnight in UTC, in JSON a text of the form YYYY-MM-DD.
type Date struct{ time.Time }

// ScanDate reads a date column.
func (d *Date) ScanDate(v pgtype.Date) error {
	d.Time = v.Time
	return nil
}

// DateValue writes a date column.
func (d Date) DateValue() (pgtype.Date, error) { return pgtype.Date{Time: d.Time, Valid: true}, nil }

// MarshalText writes the day without a time.
func (d Date) MarshalText() ([]byte, error) { return d.AppendFormat(nil, time.DateOnly), nil }

// UnmarshalText reads the text of MarshalText.
func (d *Date) UnmarshalText(text []byte) (err error) {
	d.Time, err = time.Parse(time.DateOnly, string(text))
	return err
}

// MarshalJSON replaces that of the embedded time.Time.
func (d Date) MarshalJSON() ([]byte, error) { return d.AppendFormat(nil, `"`+time.DateOnly+`"`), nil }

// UnmarshalJSON replaces that of the embedded time.Time.
func (d *Date) UnmarshalJSON(text []byte) (err error) {
	d.Time, err = time.Parse(`"`+time.DateOnly+`"`, string(text))
	return err
}
