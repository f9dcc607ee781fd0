package migrations_test

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/pressly/goose/v3"

	"github.com/reiestr/reiestr/api"
	"github.com/reiestr/reiestr/api/rest"
	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/migrations"
)

// baseData are the migrations that add rows. Their ways down remove the rows with their keys.
var baseData = map[int64]string{5: "00005_base_data.sql", 18: "00018_reference_data.sql"}

// fill adds rows to every table of a schema at a version: those files of testdata that belong to a migration up to this
// version. A column that can be null is null in one row and not null in another.
func fill(t *testing.T, conn *pgx.Conn, version int64) {
	t.Helper()
	files, err := fs.Glob(os.DirFS("testdata"), "0*.sql")
	must(t, err)
	for _, file := range files {
		if _, err := fs.Stat(migrations.FS, file); err != nil {
			t.Errorf("testdata/%s belongs to no migration", file)
		}
		of, err := goose.NumericComponent(file)
		must(t, err)
		if of > version {
			continue
		}
		rows, err := os.ReadFile("testdata/" + file)
		must(t, err)
		exec(t, conn, "SET ROLE reiestr_owner; "+string(rows)+"; RESET ROLE")
	}
	for table, rows := range rowsOf(t, conn) {
		if len(rows) == 0 {
			t.Errorf("version %d: %s has no row: testdata needs some, in a file of the name of the migration that makes it",
				version, table)
		}
	}
	for _, c := range column(t, conn, `
		SELECT format('%I.%I %I', n.nspname, c.relname, a.attname)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
		WHERE c.relkind IN ('r', 'p') AND n.nspname IN ('prm', 'medical_events', 'ops') AND c.relname <> 'schema_versions'
			AND a.attnum > 0 AND NOT a.attisdropped AND NOT a.attnotnull`) {
		table, name, _ := strings.Cut(c, " ")
		if states := column(t, conn, `SELECT DISTINCT (`+name+` IS NULL)::text FROM `+table); len(states) != 2 {
			t.Errorf("version %d: %s.%s: testdata needs a row where it is null, and one where it is not", version, table, name)
		}
	}
}

// row holds the values of a row by column, as JSON.
type row = map[string]json.RawMessage

// rowsOf reads the rows of every table.
func rowsOf(t *testing.T, conn *pgx.Conn) map[string][]row {
	t.Helper()
	all := map[string][]row{}
	for _, table := range column(t, conn, `
		SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname IN ('prm', 'medical_events', 'ops')
			AND c.relname <> 'schema_versions'`) {
		all[table] = []row{}
		for _, text := range column(t, conn, `SELECT row_to_json(r)::text FROM `+table+` r`) {
			var r row
			must(t, json.Unmarshal([]byte(text), &r))
			all[table] = append(all[table], r)
		}
	}
	return all
}

// missing are the rows of one state that another state lacks, by table. It ignores tables that the other state does not
// have, and columns that only one of them has.
func missing(t *testing.T, these, others map[string][]row) map[string][]row {
	t.Helper()
	lacking := map[string][]row{}
	for table, rows := range these {
		there, stands := others[table]
		if !stands {
			continue
		}
		shared := func(r, with row) string {
			values := row{}
			for name := range r {
				if _, both := with[name]; both {
					values[name] = r[name]
				}
			}
			text, err := json.Marshal(values)
			must(t, err)
			return string(text)
		}
		for _, r := range rows {
			if !slices.ContainsFunc(there, func(other row) bool { return shared(r, other) == shared(other, r) }) {
				lacking[table] = append(lacking[table], r)
			}
		}
	}
	return lacking
}

// A database with rows in every table is migrated from each version to the newest. No row is lost, changed or added,
// and the program reads the rows and works with them.
func TestUpWithRows(t *testing.T) {
	t.Parallel()
	for version := int64(1); version <= migrations.Latest(); version++ {
		t.Run(fmt.Sprint("from ", version), func(t *testing.T) {
			t.Parallel()
			address := empty(t)
			conn := connect(t, address)
			must(t, migrations.PrepareRoles(t.Context(), address))
			must(t, migrations.WithProvider(t.Context(), address, func(p *goose.Provider) error {
				_, err := p.UpTo(t.Context(), version)
				return err
			}))
			fill(t, conn, version)
			before := undescribed(t, rowsOf(t, conn))
			must(t, migrations.Up(t.Context(), address))
			after := undescribed(t, rowsOf(t, conn))
			for table, rows := range missing(t, before, after) {
				t.Errorf("lost from %s: %s", table, rows)
			}
			for table, rows := range missing(t, after, before) {
				for of := range baseData {
					if version < of {
						rows = slices.DeleteFunc(rows, func(r row) bool { return isBaseData(t, of, table, r) })
					}
				}
				if len(rows) > 0 {
					t.Errorf("new in %s: %s", table, rows)
				}
			}
			readBack(t, address, version)
		})
	}
}

// Each step goes down and up again with rows in every table. Only tables and columns that the step has added are lost.
func TestDownWithRows(t *testing.T) {
	t.Parallel()
	address := empty(t)
	conn := connect(t, address)
	must(t, migrations.Up(t.Context(), address))
	fill(t, conn, migrations.Latest())
	for version := migrations.Latest(); version > 0; version-- {
		above := undescribed(t, rowsOf(t, conn))
		must(t, migrations.Down(t.Context(), address))
		below := undescribed(t, rowsOf(t, conn))
		for table, rows := range missing(t, above, below) {
			rows = slices.DeleteFunc(rows, func(r row) bool { return isBaseData(t, version, table, r) })
			if len(rows) > 0 {
				t.Errorf("%d, down: lost from %s: %s", version, table, rows)
			}
		}
		must(t, migrations.WithProvider(t.Context(), address,
			func(p *goose.Provider) error { _, err := p.UpByOne(t.Context()); return err }))
		for table, rows := range missing(t, below, undescribed(t, rowsOf(t, conn))) {
			t.Errorf("%d, up again: lost from %s: %s", version, table, rows)
		}
		must(t, migrations.Down(t.Context(), address))
		again := undescribed(t, rowsOf(t, conn))
		if len(missing(t, below, again)) != 0 || len(missing(t, again, below)) != 0 {
			t.Errorf("%d, down again: %s and then %s", version, below, again)
		}
	}
}

// isBaseData tells whether the way down of a migration removes the row by its key.
func isBaseData(t *testing.T, version int64, table string, r row) bool {
	t.Helper()
	if baseData[version] == "" {
		return false
	}
	file, err := migrations.FS.ReadFile(baseData[version])
	must(t, err)
	_, down, _ := strings.Cut(string(file), "-- +goose Down")
	value := func(column string) string { return strings.Trim(string(r[column]), `"`) }
	key := value(map[string]string{"prm.dictionaries": "name", "prm.dictionary_values": "dictionary",
		"prm.parameters": "name"}[table])
	return key != "" && (regexp.MustCompile(`(?m)^    '`+regexp.QuoteMeta(key)+`'[,)]`).MatchString(down) ||
		strings.Contains(down, fmt.Sprintf("dictionary = '%s' AND code = '%s'", key, value("code"))))
}

// undescribed takes from the rows the descriptions that a migration gives to values that have none.
func undescribed(t *testing.T, all map[string][]row) map[string][]row {
	t.Helper()
	file, err := migrations.FS.ReadFile(baseData[18])
	must(t, err)
	_, down, _ := strings.Cut(string(file), "-- +goose Down")
	for _, r := range all["prm.dictionary_values"] {
		var values []any
		for _, name := range []string{"dictionary", "code", "description"} {
			var value string
			must(t, json.Unmarshal(r[name], &value))
			values = append(values, value)
		}
		if strings.Contains(down, fmt.Sprintf("('%s', '%s', '%s')", values...)) {
			r["description"] = json.RawMessage(`""`)
		}
	}
	return all
}

// readBack lets the present program, as the service, read and use the rows that fill has added at a version.
// testdata/answers.json has the answers of its API, by the first version to which they apply.
func readBack(t *testing.T, address string, from int64) {
	t.Helper()
	if from < 2 {
		return // the table did not exist yet
	}
	open := func(role db.Role) *db.DB {
		d, err := db.Open(t.Context(), db.Config{URL: address, Role: role, TimeZone: "Europe/Kyiv"})
		must(t, err)
		t.Cleanup(d.Close)
		must(t, d.Ready(t.Context(), migrations.Latest()))
		return d
	}
	app, owner := open(db.App), open(db.Owner)
	clinic := db.Caller{ClientID: uuid.MustParse("1e000000-0000-4000-8000-000000000001"),
		UserID: uuid.MustParse("05e00000-0000-4000-8000-000000000002")}
	scopes := []string{"license:read", "license:write", "service_request:read", "service_request:use", "job:read",
		"event:read"}
	token, key := "live token", "live key"
	if from >= 4 {
		grant, err := app.Access.Check(t.Context(), token, key)
		must(t, err)
		if want := (db.Grant{Caller: clinic, Scopes: scopes, KnownAPIKey: true}); !reflect.DeepEqual(grant, want) {
			t.Errorf("granted %+v, want %+v", grant, want)
		}
		if grant, err = app.Access.Check(t.Context(), "expired token", "revoked key"); err != nil || !grant.Expired ||
			grant.KnownAPIKey {
			t.Errorf("expired token and revoked key: %+v, %v", grant, err)
		}
		if grant, err = app.Access.Check(t.Context(), "revoked token", key); !errors.Is(err, db.ErrNotFound) {
			t.Errorf("revoked token: %+v, %v", grant, err)
		}
	} else { // tokens did not exist yet
		var err error
		token, _, err = owner.Access.IssueToken(t.Context(), clinic, scopes, time.Hour)
		must(t, err)
		key, err = owner.Access.IssueAPIKey(t.Context(), "new")
		must(t, err)
	}

	server := httptest.NewServer(api.New(rest.Config{DB: app, Log: slog.New(slog.DiscardHandler), RequireAPIKey: true}))
	t.Cleanup(server.Close)
	get := func(path string) (data any) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+path, nil)
		must(t, err)
		request.Header.Set("Authorization", "Bearer "+token)
		request.Header.Set("api-key", key)
		response, err := http.DefaultClient.Do(request)
		must(t, err)
		defer response.Body.Close()
		var answer struct{ Data, Error any }
		must(t, json.NewDecoder(response.Body).Decode(&answer))
		if response.StatusCode != http.StatusOK {
			t.Errorf("GET %s: %s %v", path, response.Status, answer.Error)
		}
		return answer.Data
	}
	file, err := os.ReadFile("testdata/answers.json")
	must(t, err)
	var answers map[int64]map[string]any
	must(t, json.Unmarshal(file, &answers))
	for since, paths := range answers {
		for path, want := range paths {
			if since > from {
				continue
			}
			if got := get(path); !reflect.DeepEqual(got, want) {
				gotText, _ := json.Marshal(got)
				wantText, _ := json.Marshal(want)
				t.Errorf("GET %s:\n got %s\nwant %s", path, gotText, wantText)
			}
		}
	}

	// Dictionaries and parameters, those of the operator and those of the base data.
	if codes, err := app.AllowedCodes(t.Context(), db.LicenseTypeUnknown); err != nil ||
		!slices.Equal(codes, []string{"MUD", "PHARMACY", "PHARMACY_DRUGS", "SPA"}) {
		t.Errorf("types of licences: %v, %v", codes, err)
	}
	_, err = app.Licenses.Create(t.Context(), clinic, map[string]any{
		"type": "SPA", "is_primary": false, "issued_by": "Issuer", "issued_date": "1970-01-01",
		"active_from_date": "1970-01-01",
	})
	if err != nil {
		t.Errorf("a licence of a type that the operator allows: %v", err)
	}
	if from >= 4 {
		// Orders that were accepted at that version, by rules of the operator.
		for _, failedBefore := range []bool{false, true} {
			if taken, err := app.Jobs.Run(t.Context(), db.Claim{Size: 10, Repeated: failedBefore}); err != nil ||
				len(taken) != 1 {
				t.Errorf("took %v: %v", taken, err)
			}
		}
		for n, processing := range map[int]string{3: "new", 4: "in_queue"} {
			job, err := app.Jobs.Get(t.Context(), clinic.ClientID,
				uuid.MustParse(fmt.Sprintf("0b000000-0000-4000-8000-%012d", n)))
			if err != nil || job.Status != db.Processed {
				t.Errorf("%+v, %v", job, err)
			}
			r, err := app.ServiceRequests.Get(t.Context(), job.PatientID, job.ServiceRequestID)
			if err != nil || r.ProgramProcessingStatus == nil || *r.ProgramProcessingStatus != processing {
				t.Errorf("%+v, %v; want %s", r, err, processing)
			}
		}
	}
	if from >= 7 {
		digest := sha256.Sum256([]byte("a request"))
		lease, answer, err := app.Idempotency.Claim(t.Context(), clinic, "answered", digest)
		if want := (&db.Answer{Code: 201, Header: http.Header{"Location": {"/there"}},
			Body: []byte(`{"answer":1}`)}); err != nil || lease != nil || !reflect.DeepEqual(answer, want) {
			t.Errorf("answered %+v, %v; want %+v", answer, err, want)
		}
		if _, _, err := app.Idempotency.Claim(t.Context(), clinic, "running", digest); !errors.Is(err,
			db.ErrKeyRunning) {
			t.Errorf("running: %v", err)
		}
		// Version 7 does not know the user of a key: another request may be another user's.
		if lease, _, err := app.Idempotency.Claim(t.Context(), clinic, "answered", sha256.Sum256(nil)); lease == nil ||
			err != nil {
			t.Errorf("another request: %v, %v", lease, err)
		}
	}
}
