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
	const commands, waiters, patience = 12, 5, time.Minute
	app, err := db.Open(t.Context(), db.Config{URL: s.owner.Config().ConnString(), TimeZone: "Europe/Kyiv", MaxConns: 4,
		Waiters: waiters, Patience: patience})
	must(t, err)
	t.Cleanup(app.Close)
	served := s.serving(app)
	holder, err := s.owner.Begin(t.Context())
	must(t, err)
	_, err = holder.Exec(t.Context(), `SELECT FROM prm.legal_entities WHERE id = $1 FOR NO KEY UPDATE`, s.clinic)
	must(t, err)
	answers := make(chan answer, commands)
	for range commands {
		go func() {
			answers <- served.do(call{method: "POST", path: "/api/licenses",
				body: `{"type": "PHARMACY_DRUGS", "is_primary": false,
				"issued_by": "MOZ", "issued_date": "2020-01-01", "active_from_date": "2020-01-01"}`})
		}()
	}
	late := time.After(patience / 2)
	for range commands - waiters {
		select {
		case a := <-answers:
			if a.code != 503 || a.header.Get("Retry-After") == "" || a.body.Error.Type != "service_unavailable" {
				t.Errorf("beyond the bound: %d %s", a.code, a.raw)
			}
		case <-late:
			t.Fatal("a command beyond the bound waits")
		}
	}
	if now, _, refused := app.Waiters(); now != waiters || refused != commands-waiters {
		t.Errorf("%d wait and %d were refused", now, refused)
	}
	if a := served.do(call{method: "GET", path: "/api/licenses"}); a.code != 200 {
		t.Errorf("a read: %d %s", a.code, a.raw)
	}
	must(t, holder.Commit(t.Context()))
	codes := map[int]int{}
	for range waiters {
		codes[receive(t, answers).code]++
	}
	if codes[201] != 1 || codes[409] != waiters-1 {
		t.Errorf("when the row is free: %v", codes)
	}
}
