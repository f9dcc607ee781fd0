// Package population fills a migrated database with rows in realistic replaced and proportions, for measurements and
// stored plans. Every id and secret follows from the row's ordinal, so whoever knows the size can name any row without
// asking the database.
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

// Size is how many rows there are. Divisions, employees, histories and idempotency keys come in proportion.
type Size struct {
	LegalEntities   int // a multiple of 20; each has a primary licence, a division and two employees
	Licenses        int // at least 1.5 times the legal entities; every second legal entity has additional ones
	Tokens          int // each with all scopes; clients are active OUTPATIENT legal entities
	ServiceRequests int // a multiple of 100
	Jobs            int // ended, as many events; at most one a service request
}

// Standard is the population that plans are stored for.
var Standard = Size{LegalEntities: 200_000, Licenses: 500_000, Tokens: 10_000, ServiceRequests: 1_000_000,
	Jobs: 300_000}

// kinds are the middles of the ids.
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

// scatter is a prime: multiplied by it, neighbours come to stand apart.
const scatter = 2654435761

//go:embed fill.sql
var fill string

// Fill adds the rows in one transaction and has the database vacuum and analyze. The tables are empty before but for
// the base data of the migrations, and the connection's login may become reiestr_owner.
func Fill(ctx context.Context, conn *pgx.Conn, s Size) error {
	// Several statements in one message are one transaction.
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

// Digest names what Fill does: another population has another.
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

// groups is how many groups of a hundred service requests there are: what belongs to a patient is within one of them,
// so it grows with no population.
func (s Size) groups() int { return max(s.ServiceRequests/100, 1) }

// State is where a service request stands in its life.
type State string

const (
	New           State = "new"            // free to be used
	Expired       State = "expired"        // free, and to be recalled
	NeverReserved State = "never reserved" // free to be used; its processing status is null
	NoProgram     State = "no program"     // can be completed by anyone, and never used
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

// ServiceRequest is the id of the n-th service request, from 1 on; so in the other functions.
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

// Requisition is that of the n-th service request.
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

// Busiest is the ordinal of a service request whose patient has a thousand, or as many as there are, and whose
// requisition has a hundred.
const Busiest = 1

// Holder is the ordinal of a token of the legal entity that holds the n-th service request, where it is in_queue or
// in_progress.
func (s Size) Holder(n int) int { return (n-1)%s.Tokens + 1 }

// Token is the secret of the n-th token.
func Token(n int) string { return fmt.Sprint("token", n) }

// User is the id of the person who acts with the n-th token.
func User(n int) uuid.UUID { return id("user", n) }

// Caller is the ordinal of the legal entity of the n-th token. Legal entities of odd ordinals have a primary licence
// only, the others additional ones, too. Its employee and division are those of the service requests it holds.
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

// License is the id of the n-th licence: the primary one of the n-th legal entity, or, behind those, an additional one.
func License(n int) uuid.UUID { return id("license", n) }

// Job is the id of the n-th job, made with the n-th token; after the last token it is the first one's turn.
func Job(n int) uuid.UUID { return id("job", n) }

// APIKey is the secret of the n-th api key of 50.
func APIKey(n int) string { return fmt.Sprint("api_key", n) }

// id is a UUID of version 4 in whose order nothing can be seen, the ordinal in its last twelve digits.
func id(kind string, n int) uuid.UUID {
	return uuid.MustParse(fmt.Sprintf("%08x%s%012x", n*scatter%(1<<32), kinds[kind], n))
}
