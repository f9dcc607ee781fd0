package db_test

import (
	"errors"
	"testing"
	"time"

	"github.com/reiestr/reiestr/db"
)

// TestRevocationHoldsWhileOthersRenewTheEpoch: the first check after the loss of a right is refused, although other
// requests have kept the epoch of the process fresh. So the epoch itself must have changed: the check does not ask the
// database for a grant whose epoch was renewed at this moment. TestAccessIsCached cannot see that, because its only
// grant renews the epoch itself.
func TestRevocationHoldsWhileOthersRenewTheEpoch(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	owner := h.open(t, db.Owner, noon)
	// grant issues a token and an api key.
	grant := func(t *testing.T) (token, key string) {
		t.Helper()
		token, _, err := owner.Access.IssueToken(t.Context(), newLegalEntity().caller(), []string{"license:read"}, time.Hour)
		must(t, err)
		key, err = owner.Access.IssueAPIKey(t.Context(), "MIS")
		must(t, err)
		return token, key
	}
	for _, test := range []struct {
		name, change string // $1 is the SHA-256 of the token, $2 that of the key
		keeps        func(db.Grant, error) bool
	}{
		{"token revoked", `UPDATE ops.access_tokens SET revoked_at = now() WHERE token_hash = $1 AND $2::bytea IS NOT NULL`,
			func(_ db.Grant, err error) bool { return !errors.Is(err, db.ErrNotFound) }},
		{"scopes taken away", `UPDATE ops.access_tokens SET scopes = '{}' WHERE token_hash = $1 AND $2::bytea IS NOT NULL`,
			func(g db.Grant, err error) bool { return err != nil || len(g.Scopes) > 0 }},
		{"token deleted", `DELETE FROM ops.access_tokens WHERE token_hash = $1 AND $2::bytea IS NOT NULL`,
			func(_ db.Grant, err error) bool { return !errors.Is(err, db.ErrNotFound) }},
		{"api key revoked", `UPDATE ops.api_keys SET revoked_at = now() WHERE key_hash = $2 AND $1::bytea IS NOT NULL`,
			func(g db.Grant, err error) bool { return err != nil || g.KnownAPIKey }},
		{"api key deleted", `DELETE FROM ops.api_keys WHERE key_hash = $2 AND $1::bytea IS NOT NULL`,
			func(g db.Grant, err error) bool { return err != nil || g.KnownAPIKey }},
	} {
		t.Run(test.name, func(t *testing.T) { // not parallel: each change advances the epoch of all grants
			statements := &counter{}
			process := h.openWith(t, db.Config{Tracer: statements})
			token, key := grant(t)
			otherToken, otherKey := grant(t)
			// renew checks the other grant until one of these checks has asked the database.
			renew := func() {
				t.Helper()
				before := statements.n.Load()
				for deadline := time.Now().Add(20 * time.Second); statements.n.Load() == before; {
					if _, err := process.Access.Check(t.Context(), otherToken, otherKey); err != nil {
						t.Fatal(err)
					}
					if time.Now().After(deadline) {
						t.Fatal("not in time: a check of the other grant asks the database")
					}
				}
			}
			cached := false
			for deadline := time.Now().Add(20 * time.Second); !cached; {
				renew()
				before := statements.n.Load()
				g, err := process.Access.Check(t.Context(), token, key)
				if err != nil || !g.KnownAPIKey {
					t.Fatalf("%+v, %v", g, err)
				}
				cached = statements.n.Load() == before
				if time.Now().After(deadline) {
					t.Fatal("not in time: the grant is cached")
				}
			}
			h.exec(t, test.change, hash(token), hash(key))
			renew()
			if g, err := process.Access.Check(t.Context(), token, key); test.keeps(g, err) {
				t.Errorf("still granted: %+v, %v", g, err)
			}
		})
	}
}
