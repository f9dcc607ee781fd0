package db_test

import (
	"context"
	"crypto/sha256"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/reiestr/reiestr/db"
)

func TestAccessCheck(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	owner := h.open(t, db.Owner, noon)
	caller := db.Caller{UserID: uuid.New(), ClientID: uuid.New()}
	scopes := []string{"license:read", "license:write"}
	token := func() string {
		token, _, err := owner.Access.IssueToken(t.Context(), caller, scopes, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	key := func() string {
		key, err := owner.Access.IssueAPIKey(t.Context(), "MIS")
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	good, goodKey := token(), key()
	revoked, revokedKey := token(), key()
	if err := owner.Access.RevokeToken(t.Context(), revoked); err != nil {
		t.Fatal(err)
	}
	if err := owner.Access.RevokeAPIKey(t.Context(), revokedKey); err != nil {
		t.Fatal(err)
	}
	expiry := value[time.Time](t, h, `SELECT expires_at FROM ops.access_tokens WHERE token_hash = $1`, hash(good))

	known := &db.Grant{Caller: caller, Scopes: scopes, KnownAPIKey: true}
	withoutKey := &db.Grant{Caller: caller, Scopes: scopes}
	expired := &db.Grant{Caller: caller, Scopes: scopes, Expired: true, KnownAPIKey: true}
	for _, test := range []struct {
		name       string
		token, key string
		at         time.Time
		want       *db.Grant // nil: ErrNotFound
	}{
		{"token and key", good, goodKey, expiry.Add(-time.Hour), known},
		{"a moment before expiry", good, goodKey, expiry.Add(-time.Microsecond), known},
		{"at expiry", good, goodKey, expiry, expired},
		{"long after expiry", good, goodKey, expiry.AddDate(1, 0, 0), expired},
		{"no key", good, "", expiry.Add(-time.Hour), withoutKey},
		{"unknown key", good, goodKey + "x", expiry.Add(-time.Hour), withoutKey},
		{"revoked key", good, revokedKey, expiry.Add(-time.Hour), withoutKey},
		{"token for a key", good, good, expiry.Add(-time.Hour), withoutKey},
		{"no token", "", goodKey, expiry.Add(-time.Hour), nil},
		{"unknown token", good[1:], goodKey, expiry.Add(-time.Hour), nil},
		{"key for a token", goodKey, goodKey, expiry.Add(-time.Hour), nil},
		{"revoked token", revoked, goodKey, expiry.Add(-time.Hour), nil},
		{"revoked and expired token", revoked, goodKey, expiry.AddDate(1, 0, 0), nil},
		{"the hash in place of the token", string(hash(good)), goodKey, expiry.Add(-time.Hour), nil},
		{"not UTF-8", "\xff\x00", "\x00", expiry.Add(-time.Hour), nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			grant, err := h.open(t, db.App, test.at).Access.Check(t.Context(), test.token, test.key)
			if test.want == nil {
				if err != db.ErrNotFound {
					t.Errorf("%+v, %v", grant, err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(grant, *test.want) {
				t.Errorf("%+v, %v; want %+v", grant, err, *test.want)
			}
		})
	}
}

// TestAccessIsCached: a grant in use is asked for only now and then, and its revocation holds in every process within a
// second.
func TestAccessIsCached(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	owner := h.open(t, db.Owner, noon)
	caller := newLegalEntity().caller()
	const update = `UPDATE ops.access_tokens SET scopes = '{other}' WHERE token_hash = $1`
	for name, takeAway := range map[string]func(token, key string) error{
		"token revoked":   func(token, _ string) error { return owner.Access.RevokeToken(t.Context(), token) },
		"api key revoked": func(_, key string) error { return owner.Access.RevokeAPIKey(t.Context(), key) },
		"scopes changed": func(token, _ string) error {
			_, err := h.owner.Exec(t.Context(), update,
				hash(token))
			return err
		},
		"token deleted": func(token, _ string) error {
			_, err := h.owner.Exec(t.Context(), `DELETE FROM ops.access_tokens WHERE token_hash = $1`, hash(token))
			return err
		},
		"api key deleted": func(_, key string) error {
			_, err := h.owner.Exec(t.Context(), `DELETE FROM ops.api_keys WHERE key_hash = $1`, hash(key))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			token, _, err := owner.Access.IssueToken(t.Context(), caller, []string{"license:read"}, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			key, err := owner.Access.IssueAPIKey(t.Context(), "MIS")
			if err != nil {
				t.Fatal(err)
			}
			good := db.Grant{Caller: caller, Scopes: []string{"license:read"}, KnownAPIKey: true}
			var processes []*db.DB
			for range 2 {
				statements := &counter{}
				process := h.openWith(t, db.Config{Tracer: statements})
				processes = append(processes, process)
				for range 1000 {
					if grant, err := process.Access.Check(t.Context(), token, key); err != nil || !reflect.DeepEqual(grant, good) {
						t.Fatalf("%+v, %v", grant, err)
					}
				}
				if n := statements.n.Load(); n == 0 || n > 500 {
					t.Errorf("%d queries for 1000 checks", n)
				}
			}
			if err := takeAway(token, key); err != nil {
				t.Fatal(err)
			}
			takenAway := time.Now()
			for i, process := range processes {
				for {
					began := time.Now()
					grant, err := process.Access.Check(t.Context(), token, key)
					if err != nil || !reflect.DeepEqual(grant, good) {
						break
					}
					if began.Sub(takenAway) > time.Second {
						t.Fatalf("process %d still grants %+v after a second", i, grant)
					}
				}
			}
		})
	}
}

// TestNewAPIKeyIsAcceptedAtOnce: a process that has refused an api key accepts it as soon as it is issued.
func TestNewAPIKeyIsAcceptedAtOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	token, _, err := h.open(t, db.Owner, noon).Access.IssueToken(t.Context(), newLegalEntity().caller(),
		[]string{"license:read"}, time.Hour)
	must(t, err)
	for range 20 { // a process that kept the refusal would ask again after some time: on a busy machine at once
		key := uuid.NewString()
		if grant, err := h.Access.Check(t.Context(), token, key); err != nil || grant.KnownAPIKey {
			t.Fatalf("before: %+v, %v", grant, err)
		}
		h.exec(t, `INSERT INTO ops.api_keys (key_hash, name) VALUES ($1, 'MIS')`, hash(key))
		if grant, err := h.Access.Check(t.Context(), token, key); err != nil || !grant.KnownAPIKey {
			t.Fatalf("when it is issued: %+v, %v", grant, err)
		}
	}
}

// TestAccessForgetsTruncated: a TRUNCATE, which is a statement without rows, changes the epoch too.
func TestAccessForgetsTruncated(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, table := range []string{"ops.access_tokens", "ops.api_keys"} {
		before := value[int64](t, h, `SELECT coalesce(max(epoch), 0) FROM ops.access_epoch`)
		h.exec(t, `TRUNCATE `+table)
		if after := value[int64](t, h, `SELECT max(epoch) FROM ops.access_epoch`); after <= before {
			t.Errorf("%s truncated: epoch %d after %d", table, after, before)
		}
	}
}

// TestAccessKnownGrantExpires: a token in the cache expires without a query, and a key that is issued after it was
// refused is accepted at once.
func TestAccessKnownGrantExpires(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	owner := h.open(t, db.Owner, noon)
	token, expiresAt, err := owner.Access.IssueToken(t.Context(), newLegalEntity().caller(), []string{}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	clock := expiresAt.Add(-time.Millisecond)
	process := h.openWith(t, db.Config{AsOf: func() time.Time { return clock }})
	for range 2 {
		if grant, err := process.Access.Check(t.Context(), token, ""); err != nil || grant.Expired {
			t.Fatalf("%+v, %v", grant, err)
		}
	}
	clock = expiresAt
	if grant, err := process.Access.Check(t.Context(), token, ""); err != nil || !grant.Expired {
		t.Errorf("%+v, %v", grant, err)
	}
	key := strings.Repeat("k", 43)
	if grant, err := process.Access.Check(t.Context(), token, key); err != nil || grant.KnownAPIKey {
		t.Errorf("%+v, %v", grant, err)
	}
	h.exec(t, `INSERT INTO ops.api_keys (key_hash, name) VALUES (sha256('`+key+`'), 'MIS')`)
	if grant, err := process.Access.Check(t.Context(), token, key); err != nil || !grant.KnownAPIKey {
		t.Errorf("%+v, %v", grant, err)
	}
}

// counter counts statements.
type counter struct{ n atomic.Int64 }

func (c *counter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.n.Add(1)
	return ctx
}

func (c *counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func hash(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

func TestAccessTokenLastsForItsTTL(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	owner := h.open(t, db.Owner, noon)
	for _, ttl := range []time.Duration{time.Second, 90 * time.Minute, 365 * 24 * time.Hour} {
		token, expiresAt, err := owner.Access.IssueToken(t.Context(), newLegalEntity().caller(), []string{}, ttl)
		if err != nil {
			t.Fatal(err)
		}
		if !value[bool](t, h, `SELECT expires_at = $2 AND expires_at - inserted_at = make_interval(secs => $3) FROM ops.access_tokens WHERE token_hash = $1`,
			hash(token), expiresAt, ttl.Seconds()) {
			t.Errorf("%s: expires at %s", ttl, expiresAt)
		}
	}
}

// TestSecretsAreNoFlags: no command line takes a secret for a flag.
func TestSecretsAreNoFlags(t *testing.T) {
	t.Parallel()
	for range 2000 { // without the rule one in 64 would begin with a dash
		if secret := db.NewSecret(); secret[0] == '-' {
			t.Fatalf("%q", secret)
		}
	}
}

func TestAccessRevokesOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	owner := h.open(t, db.Owner, noon)
	token, _, err := owner.Access.IssueToken(t.Context(), newLegalEntity().caller(), []string{}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	key, err := owner.Access.IssueAPIKey(t.Context(), "MIS")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []error{nil, db.ErrNotFound} {
		if err := owner.Access.RevokeToken(t.Context(), token); err != want {
			t.Errorf("token, time %d: %v", i+1, err)
		}
		if err := owner.Access.RevokeAPIKey(t.Context(), key); err != want {
			t.Errorf("api key, time %d: %v", i+1, err)
		}
	}
	if err := owner.Access.RevokeToken(t.Context(), "unknown"); err != db.ErrNotFound {
		t.Errorf("an unknown token: %v", err)
	}
}

func TestOnlyTheOwnerIssuesAndRevokes(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	token, _, issueErr := h.Access.IssueToken(t.Context(), newLegalEntity().caller(), []string{}, time.Hour)
	_, keyErr := h.Access.IssueAPIKey(t.Context(), "MIS")
	for name, err := range map[string]error{
		"IssueToken": issueErr, "IssueAPIKey": keyErr,
		"RevokeToken": h.Access.RevokeToken(t.Context(), token), "RevokeAPIKey": h.Access.RevokeAPIKey(t.Context(), "key"),
	} {
		if sqlState(err) != "42501" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSecretsAreNotInTheDatabase(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	owner := h.open(t, db.Owner, noon)
	token, _, err := owner.Access.IssueToken(t.Context(), newLegalEntity().caller(), []string{"license:read"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	key, err := owner.Access.IssueAPIKey(t.Context(), "MIS")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Access.Check(t.Context(), token, key); err != nil {
		t.Fatal(err)
	}
	if len(token) < 43 || len(key) < 43 || token == key {
		t.Errorf("secrets %q and %q hold less than 256 bits", token, key)
	}
	rows := column[string](t, h, `SELECT t::text FROM ops.access_tokens t UNION ALL SELECT k::text FROM ops.api_keys k`)
	if len(rows) != 2 {
		t.Fatalf("rows %v", rows)
	}
	for _, row := range rows {
		for _, secret := range []string{token, key} {
			for _, form := range []string{secret, value[string](t, h, `SELECT encode(convert_to($1, 'UTF8'), 'hex')`, secret)} {
				if strings.Contains(row, form) {
					t.Errorf("a secret is in %s", row)
				}
			}
		}
	}
	for table, secret := range map[string]string{"ops.access_tokens WHERE token_hash": token,
		"ops.api_keys WHERE key_hash": key} {
		if !value[bool](t, h, `SELECT EXISTS (SELECT FROM `+table+` = $1)`, hash(secret)) {
			t.Errorf("no SHA-256 in %s", table)
		}
	}
}
