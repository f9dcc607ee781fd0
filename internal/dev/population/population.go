// Package population fills a migrated database with rows in realistic numbers and proportions, for measurements and
// stored plans. Every id and secret follows from the ordinal of its row. With the size of the population any row can be
// named without a query.
package population

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/reiestr/reiestr/api"
)

// Size is the number of rows. Divisions, employees, histories and idempotency keys are in proportion.
type Size struct {
	LegalEntities   int // a multiple of 20; each has a primary licence, a division and two employees
	Licenses        int // at least 1.5 times the legal entities; every second legal entity has additional ones
	Tokens          int // each with all scopes; clients are active OUTPATIENT legal entities
	ServiceRequests int // a multiple of 100
	Jobs            int // ended ones, and as many events; at most one for each service request
}

// Standard is the population of the stored plans.
var Standard = Size{LegalEntities: 200_000, Licenses: 500_000, Tokens: 10_000, ServiceRequests: 1_000_000,
	Jobs: 300_000}

// kinds are the middle parts of the ids.
var kinds = map[string]string{
	"user":            "-0000-4000-8000-",
	"legal_entity":    "-0001-4000-8000-",
	"division":        "-0002-4000-8000-",
	"employee":        "-0003-4000-8000-",
	"license":         "-0004-4000-8000-",
	"patient":         "-0005-4000-8000-",
	"program":         "-0006-4000-8000-",
	"service":         "-0007-4000-8000-",
	"service_request": "-0008-4000-8000-",
	"job":             "-0009-4000-8000-",
	"event":           "-000a-4000-8000-",
	"lease":           "-000b-4000-8000-",
}

// scatter is a prime. Multiplied by it, neighbouring ordinals get distant ids.
const scatter = 2654435761

//go:embed fill.sql
var fill string

// Fill adds the rows in one transaction, and runs VACUUM and ANALYZE. The tables must be empty except for the base data
// of the migrations. The login of the connection must be allowed to SET ROLE to reiestr_owner.
func Fill(ctx context.Context, conn *pgx.Conn, s Size) error {
	// PostgreSQL carries out the statements of one message in one transaction.
	if _, err := conn.PgConn().Exec(ctx, s.statements()).ReadAll(); err != nil {
		return fmt.Errorf("filling the database: %w", err)
	}
	for _, statement := range []string{"SET ROLE reiestr_owner", "VACUUM (ANALYZE, PARALLEL 0)", "RESET ROLE"} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// Digest identifies the population: another size or another fill.sql has another digest.
func (s Size) Digest() string {
	sum := sha256.Sum256([]byte(s.statements()))
	return hex.EncodeToString(sum[:8])
}

func (s Size) statements() string {
	replaced := []string{"{scopes}", "ARRAY['" + strings.Join(api.Scopes(), "', '") + "']"}
	for name, n := range map[string]int{
		"legal_entities": s.LegalEntities, "legal_entities_20": s.LegalEntities / 20, "licenses": s.Licenses,
		"tokens":           s.Tokens,
		"service_requests": s.ServiceRequests, "groups": s.groups(), "jobs": s.Jobs, "keys": s.Jobs / 10,
	} {
		replaced = append(replaced, "{"+name+"}", fmt.Sprint(n))
	}
	for name, middle := range kinds {
		replaced = append(replaced, "{"+name+"}", "'"+middle+"'")
	}
	return strings.NewReplacer(replaced...).Replace(fill)
}

// groups is the number of groups of a hundred service requests. The rows of a patient are within one group, so they do
// not grow with the population.
func (s Size) groups() int { return max(s.ServiceRequests/100, 1) }

// State is the state of a service request.
type State string

const (
	New           State = "new"            // may be used
	Expired       State = "expired"        // not reserved, to be recalled
	NeverReserved State = "never reserved" // may be used; its processing status is null
	NoProgram     State = "no program"     // any legal entity may complete it, none may use it
	InQueue       State = "in_queue"       // used by Holder
	InProgress    State = "in_progress"    // used by Holder
	Ended         State = "ended"          // completed, recalled or entered in error
)

// StateOf is the state of the n-th service request.
func (s Size) StateOf(n int) State {
	switch state := ((n-1)%s.groups() + (n-1)/s.groups()%100) % 100; {
	case state < 30:
		return New
	case state < 32:
		return Expired
	case state < 36:
		return NeverReserved
	case state < 44:
		return NoProgram
	case state < 48:
		return InQueue
	case state < 50:
		return InProgress
	}
	return Ended
}

// ServiceRequest is the id of the n-th service request. The first has ordinal 1, as in all functions.
func ServiceRequest(n int) uuid.UUID { return id("service_request", n) }

// Patient is the id of the patient of the n-th service request.
func (s Size) Patient(n int) uuid.UUID {
	group, place := (n-1)%s.groups(), (n-1)/s.groups()%100
	switch {
	case group < 10:
		return id("patient", 0)
	case group%100 == 0:
		place = 0
	case place < 20:
	case place < 50:
		place = place / 2 * 2
	case place < 80:
		place = place / 5 * 5
	default:
		place = 80
	}
	return id("patient", group*100+place)
}

// Requisition is the requisition of the n-th service request.
func (s Size) Requisition(n int) string {
	group, place := (n-1)%s.groups(), (n-1)/s.groups()%100
	switch {
	case group%100 == 0:
		place = 0
	case place >= 80:
		place = place / 4 * 4
	}
	digits := fmt.Sprintf("%016d", (group*100+place)*scatter%1e16)
	return digits[:4] + "-" + digits[4:8] + "-" + digits[8:12] + "-" + digits[12:]
}

// Busiest is the ordinal of a service request whose patient has a thousand service requests (or all, if there are
// fewer), and whose requisition has a hundred.
const Busiest = 1

// Holder is the ordinal of a token of the legal entity that holds the n-th service request. The service request must be
// in_queue or in_progress.
func (s Size) Holder(n int) int { return (n-1)%s.Tokens + 1 }

// Token is the secret of the n-th token.
func Token(n int) string { return fmt.Sprint("token", n) }

// User is the id of the user of the n-th token.
func User(n int) uuid.UUID { return id("user", n) }

// Caller is the ordinal of the legal entity of the n-th token. Legal entities with odd ordinals have only a primary
// licence, the others have additional ones too. The service requests that it holds have its employee and its division.
func (s Size) Caller(n int) int {
	t := n % s.Tokens
	return t/2%(s.LegalEntities/20)*20 + 1 + t%2
}

// LegalEntity is the id of the n-th legal entity.
func LegalEntity(n int) uuid.UUID { return id("legal_entity", n) }

// Employee is the id of an approved doctor of the n-th legal entity.
func Employee(n int) uuid.UUID { return id("employee", 2*n-1) }

// Division is the id of the division of the n-th legal entity.
func Division(n int) uuid.UUID { return id("division", n) }

// License is the id of the n-th licence: first the primary licences in the order of the legal entities, then the
// additional ones.
func License(n int) uuid.UUID { return id("license", n) }

// Job is the id of the n-th job. It was made with the n-th token; after the last token the first one follows.
func Job(n int) uuid.UUID { return id("job", n) }

// APIKey is the secret of the n-th api key of 50.
func APIKey(n int) string { return fmt.Sprint("api_key", n) }

// id is a UUID of version 4. Its last twelve digits are the ordinal, and its first digits give no order.
func id(kind string, n int) uuid.UUID {
	return uuid.MustParse(fmt.Sprintf("%08x%s%012x", n*scatter%(1<<32), kinds[kind], n))
}
