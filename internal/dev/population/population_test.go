package population_test

import (
	"crypto/sha256"
	"os"
	"testing"

	"github.com/reiestr/reiestr/internal/dev/population"
	"github.com/reiestr/reiestr/internal/dev/testdb"
)

func TestMain(m *testing.M) { os.Exit(testdb.Main(m)) }

// TestOrdinals compares the formulas in Go with those in SQL: each names an existing row with the right properties.
func TestOrdinals(t *testing.T) {
	t.Parallel()
	size := population.Size{LegalEntities: 400, Licenses: 1000, Tokens: 30, ServiceRequests: 12_000, Jobs: 500}
	conn, err := testdb.Connect(t.Context(), testdb.New(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := population.Fill(t.Context(), conn, size); err != nil {
		t.Fatal(err)
	}
	holds := func(sql string, args ...any) {
		t.Helper()
		var found bool
		if err := conn.QueryRow(t.Context(), "SELECT EXISTS ("+sql+")", args...).Scan(&found); err != nil || !found {
			t.Errorf("%s %v: %v, %v", sql, args, found, err)
		}
	}
	count := func(table string, want int) {
		t.Helper()
		var got int
		if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&got); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", table, got, err, want)
		}
	}
	count("medical_events.service_requests", size.ServiceRequests)
	count("prm.legal_entities WHERE status = 'ACTIVE'", size.LegalEntities*19/20)
	count("prm.licenses", size.Licenses)
	count("prm.licenses WHERE is_active AND NOT is_primary", size.LegalEntities/2)
	count("ops.access_tokens", size.Tokens)
	count("ops.jobs", size.Jobs)
	count("ops.events", size.Jobs)
	count("ops.event_feed", 2*size.Jobs)
	count("ops.unpublished_events", 0)
	count("ops.event_horizons JOIN ops.event_feed f USING (legal_entity_id) WHERE f.position <= event_horizons.position",
		0)
	holds("SELECT FROM ops.event_horizons HAVING count(*) = (SELECT count(DISTINCT legal_entity_id) FROM ops.event_feed)")

	conditions := map[population.State]string{
		population.New:     "status = 'active' AND expiration_date > now() AND program_processing_status = 'new'",
		population.Expired: "status = 'active' AND expiration_date < now() AND program_processing_status = 'new'",
		population.NeverReserved: "status = 'active' AND expiration_date > now() AND program_id IS NOT NULL AND " +
			"program_processing_status IS NULL",
		population.NoProgram:  "status = 'active' AND program_id IS NULL",
		population.InQueue:    "status = 'active' AND program_processing_status = 'in_queue'",
		population.InProgress: "status = 'active' AND program_processing_status = 'in_progress'",
		population.Ended:      "status <> 'active'",
	}
	for n := 1; n <= size.ServiceRequests; n += 97 {
		state := size.StateOf(n)
		holds("SELECT FROM medical_events.service_requests WHERE id = $1 AND patient_id = $2 AND requisition = $3 "+
			"AND "+conditions[state],
			population.ServiceRequest(n), size.Patient(n), size.Requisition(n))
		if state == population.InQueue || state == population.InProgress {
			caller := size.Caller(size.Holder(n))
			holds("SELECT FROM medical_events.service_requests WHERE id = $1 AND used_by_legal_entity_id = $2 AND "+
				"used_by_employee_id = $3",
				population.ServiceRequest(n), population.LegalEntity(caller), population.Employee(caller))
		}
	}
	holds(`SELECT FROM medical_events.service_requests WHERE patient_id = $1 HAVING count(*) = 1000`,
		size.Patient(population.Busiest))
	holds(`SELECT FROM medical_events.service_requests WHERE requisition = $1 HAVING count(*) = 100`,
		size.Requisition(population.Busiest))
	for n := 1; n <= size.Tokens; n++ {
		hash := sha256.Sum256([]byte(population.Token(n)))
		caller := size.Caller(n)
		holds(`SELECT FROM ops.access_tokens WHERE token_hash = $1 AND user_id = $2 AND client_id = $3`,
			hash[:], population.User(n), population.LegalEntity(caller))
		holds(`SELECT FROM prm.legal_entities WHERE id = $1 AND status = 'ACTIVE' AND type = 'OUTPATIENT'`,
			population.LegalEntity(caller))
		holds(`SELECT FROM prm.employees WHERE id = $1 AND legal_entity_id = $2 AND status = 'APPROVED'
			AND employee_type = 'DOCTOR'`,
			population.Employee(caller), population.LegalEntity(caller))
		holds(`SELECT FROM prm.divisions WHERE id = $1 AND legal_entity_id = $2`, population.Division(caller),
			population.LegalEntity(caller))
		holds(`SELECT FROM prm.licenses WHERE id = $1 AND legal_entity_id = $2 AND is_primary`,
			population.License(caller), population.LegalEntity(caller))
		holds(`SELECT FROM prm.licenses WHERE legal_entity_id = $1 HAVING (count(*) > 1) = ($2 % 2 = 0)`,
			population.LegalEntity(caller), caller)
		holds(`SELECT FROM ops.jobs WHERE id = $1 AND client_id = $2`, population.Job(n+size.Tokens),
			population.LegalEntity(caller))
	}
	key := sha256.Sum256([]byte(population.APIKey(50)))
	holds(`SELECT FROM ops.api_keys WHERE key_hash = $1`, key[:])
}
