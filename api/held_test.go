package api_test

import (
	"testing"
	"time"

	"github.com/reiestr/reiestr/db"
)

// TestHeldLegalEntityOverHTTP: while another session holds a legal entity, as many commands wait as may; each further
// one is answered 503 with Retry-After at once, and reads go on. When the row is free the waiting commands are
// answered.
func TestHeldLegalEntityOverHTTP(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.primaryLicense(s.clinic)
	app, err := db.Open(t.Context(), db.Config{URL: s.owner.Config().ConnString(), TimeZone: "Europe/Kyiv", MaxConns: 4,
		Waiters: 5})
	must(t, err)
	t.Cleanup(app.Close)
	served := s.serving(app)
	served.do(call{method: "GET", path: "/api/licenses"}) // the first answer of a process takes long
	const commands, waiters = 12, 5
	// attempt tells whether the commands came before a command that waits gave up. If not, the machine was too busy.
	attempt := func() bool {
		holder, err := s.owner.Begin(t.Context())
		must(t, err)
		_, err = holder.Exec(t.Context(), `SELECT FROM prm.legal_entities WHERE id = $1 FOR NO KEY UPDATE`, s.clinic)
		must(t, err)
		begun := time.Now()
		_, _, before := app.Waiters()
		answers := make(chan answer, commands)
		for range commands {
			go func() {
				answers <- served.do(call{method: "POST", path: "/api/licenses",
					body: `{"type": "PHARMACY_DRUGS", "is_primary": false,
				"issued_by": "MOZ", "issued_date": "2020-01-01", "active_from_date": "2020-01-01"}`})
			}()
		}
		for range commands - waiters {
			a := <-answers
			if a.code != 503 || a.header.Get("Retry-After") == "" || a.body.Error.Type != "service_unavailable" {
				t.Errorf("beyond the bound: %d %s", a.code, a.raw)
			}
		}
		a := served.do(call{method: "GET", path: "/api/licenses"})
		inTime := time.Since(begun) < 4*time.Second // a command waits for five
		if inTime && a.code != 200 {
			t.Errorf("a read: %d %s", a.code, a.raw)
		}
		now, _, refused := app.Waiters()
		must(t, holder.Commit(t.Context()))
		codes := map[int]int{}
		for range waiters {
			codes[(<-answers).code]++
		}
		if !inTime {
			return false
		}
		if now != waiters || refused-before != commands-waiters {
			t.Errorf("%d wait and %d were refused", now, refused-before)
		}
		if codes[201] != 1 || codes[409] != waiters-1 {
			t.Errorf("when the row is free: %v", codes)
		}
		return true
	}
	for range 10 {
		if attempt() {
			return
		}
		s.sql(`DELETE FROM prm.licenses WHERE legal_entity_id = $1 AND NOT is_primary`, s.clinic)
	}
	t.Fatal("no attempt was in time")
}
