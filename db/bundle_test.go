package db_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/internal/dev/testdb"
)

// TestLoadNamesTheRefusedRow: also for faults that the checks of the bundle itself would find.
func TestLoadNamesTheRefusedRow(t *testing.T) {
	d, err := db.Open(t.Context(), db.Config{URL: testdb.New(t).URL, Role: db.Owner, TimeZone: "Europe/Kyiv"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	legalEntity := func(status string) db.LegalEntityRow {
		return db.LegalEntityRow{ID: uuid.New(), Type: "OUTPATIENT", Status: status, InsertedAt: time.Now(),
			UpdatedAt: time.Now()}
	}
	request := func(status string) db.ServiceRequestRow {
		return db.ServiceRequestRow{ServiceRequestColumns: db.ServiceRequestColumns{ID: uuid.New(), Status: status,
			Content: []byte("{}")}}
	}
	for name, test := range map[string]struct {
		load func(*db.Loader) error
		want db.RowFault
	}{
		"reference": {
			func(l *db.Loader) error {
				known := legalEntity("ACTIVE")
				if err := l.LegalEntities(t.Context(), []db.LegalEntityRow{known}); err != nil {
					return err
				}
				return l.Divisions(t.Context(), []db.DivisionRow{{ID: uuid.New(), LegalEntityID: known.ID},
					{ID: uuid.New(), LegalEntityID: uuid.New()}})
			},
			db.RowFault{Row: 1, Field: "legal_entity_id", Text: "there is no such legal entity, neither in the bundle nor in " +
				"the database"},
		},
		"rule": {
			func(l *db.Loader) error {
				return l.LegalEntities(t.Context(), []db.LegalEntityRow{legalEntity("ACTIVE"), legalEntity("ACTIVE"),
					legalEntity("ODD")})
			},
			db.RowFault{Row: 2, Text: `the database does not take it: new row for relation "legal_entities" violates check constraint "legal_entities_status_known"`},
		},
		"copied": {
			func(l *db.Loader) error {
				return l.ServiceRequests(t.Context(), []db.ServiceRequestRow{request("active"), request("odd")})
			},
			db.RowFault{Row: -1, Text: `the database does not take it: new row for relation "service_requests" violates check constraint "service_requests_status_known"`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := d.Bundles.Load(t.Context(), false, test.load)
			if f := (*db.RowFault)(nil); !errors.As(err, &f) || *f != test.want {
				t.Errorf("got %v, want %v", err, &test.want)
			}
		})
	}
}
