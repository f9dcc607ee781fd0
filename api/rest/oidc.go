package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
)

const (
	clockSkew     = 30 * time.Second // allowed between the issuer's clock and ours
	issuerTimeout = 5 * time.Second  // for one answer of the issuer
	keysMaxAge    = 5 * time.Minute  // then keys are fetched again, so that a withdrawn key is refused
	// keysFetchPause follows a fetch without a new key: tokens with invented key ids must not put load on the issuer.
	keysFetchPause = 5 * time.Second
	maxKeysBytes   = 1 << 20
)

// signatures are the accepted algorithms: those with public keys. "none" and shared secrets prove no issuer.
var signatures = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// Issuer is an OIDC issuer. Its signed JWTs are accepted as access tokens. Its keys are fetched when the first token
// comes, so the service starts without it.
//
// The key set of go-oidc is not used: it trusts a withdrawn key for ever, asks the issuer once for every invented key
// id, reads an answer of any size, and refuses the whole set because of one malformed key (decision 8).
type Issuer struct {
	url      string
	audience string
	access   *db.Access
	log      *slog.Logger
	client   *http.Client
	known    atomic.Pointer[issuerKeys] // never nil
	fetching chan struct{}              // holds one token: the right to fetch
}

// issuerKeys is the result of the latest fetch.
type issuerKeys struct {
	keys      []jose.JSONWebKey
	fetchedAt time.Time // when the keys were fetched
	inVainAt  time.Time // when the latest fetch without a new key ended
	err       error     // of the latest fetch
}

// NewIssuer makes a token source of the issuer at a URL, for tokens with the audience. Api keys are looked up in the
// database.
func NewIssuer(url, audience string, access *db.Access, log *slog.Logger) *Issuer {
	client := &http.Client{Timeout: issuerTimeout}
	i := &Issuer{url: url, audience: audience, access: access, log: log, client: client, fetching: make(chan struct{}, 1)}
	i.known.Store(&issuerKeys{})
	i.fetching <- struct{}{}
	return i
}

// claims of a token. The user is sub. The legal entity is legal_entity_id or, if there is none, client_id.
type claims struct {
	Subject       string   `json:"sub"`
	LegalEntityID *string  `json:"legal_entity_id"`
	ClientID      string   `json:"client_id"`
	Scope         string   `json:"scope"`
	Expiry        *float64 `json:"exp"`
	NotBefore     float64  `json:"nbf"`
}

// Check returns what a JWT allows. It checks signature, issuer and audience, then the claims, the expiry last.
// db.ErrNotFound: the token is refused.
func (i *Issuer) Check(ctx context.Context, token, apiKey string) (db.Grant, error) {
	keys := &keysOnce{issuer: i}
	grant, err := i.verify(ctx, token, keys)
	switch {
	case keys.err != nil:
		i.log.WarnContext(ctx, "the keys of the OIDC issuer cannot be fetched",
			"request_id", RequestID(ctx), "error", keys.err)
		return db.Grant{}, unavailable(ctx)
	case err != nil:
		i.log.DebugContext(ctx, "a JWT is refused", "request_id", RequestID(ctx), "reason", err)
		return db.Grant{}, db.ErrNotFound
	}
	grant.KnownAPIKey, err = i.access.KnowsAPIKey(ctx, apiKey)
	return grant, err
}

func (i *Issuer) verify(ctx context.Context, token string, keys oidc.KeySet) (db.Grant, error) {
	// The expiry is checked below: go-oidc allows no clock skew there.
	config := &oidc.Config{ClientID: i.audience, SkipExpiryCheck: true}
	for _, algorithm := range signatures {
		config.SupportedSigningAlgs = append(config.SupportedSigningAlgs, string(algorithm))
	}
	verified, err := oidc.NewVerifier(i.url, keys, config).Verify(ctx, token)
	if err != nil {
		return db.Grant{}, err
	}
	var c claims
	if err := verified.Claims(&c); err != nil {
		return db.Grant{}, err
	}
	client := c.ClientID
	if c.LegalEntityID != nil {
		client = *c.LegalEntityID
	}
	grant := db.Grant{Scopes: strings.Fields(c.Scope)}
	for _, id := range []struct {
		claim, value string
		into         *uuid.UUID
	}{{"sub", c.Subject, &grant.UserID}, {"legal_entity_id or client_id", client, &grant.ClientID}} {
		if *id.into, err = uuid.Parse(id.value); err != nil || len(id.value) != 36 {
			return db.Grant{}, errors.New(id.claim + " is no uuid")
		}
	}
	now := time.Now()
	switch {
	case c.Expiry == nil:
		return db.Grant{}, errors.New("it never expires")
	case moment(c.NotBefore).After(now.Add(clockSkew)):
		return db.Grant{}, errors.New("it is not valid yet")
	}
	grant.Expired = !moment(*c.Expiry).After(now.Add(-clockSkew))
	return grant, nil
}

// moment is the time of a NumericDate, to the second.
func moment(seconds float64) time.Time { return time.Unix(int64(seconds), 0) }

// keysOnce verifies one signature. err is set if the keys could not be fetched.
type keysOnce struct {
	issuer *Issuer
	err    error
}

// VerifySignature implements oidc.KeySet.
func (k *keysOnce) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	signed, err := jose.ParseSigned(token, signatures)
	if err != nil {
		return nil, err
	}
	if len(signed.Signatures) != 1 {
		return nil, errors.New("it has not one signature")
	}
	header := signed.Signatures[0].Header
	if kind, there := header.ExtraHeaders[jose.HeaderType]; there && !isAccessToken(kind) {
		return nil, errors.New("it is a JWT of another type")
	}
	keys, err := k.issuer.keys(ctx, header.KeyID)
	if err != nil {
		k.err = err
		return nil, err
	}
	for _, key := range keys {
		if key.Algorithm != "" && key.Algorithm != header.Algorithm || key.Use != "" && key.Use != "sig" {
			continue
		}
		if payload, err := signed.Verify(key); err == nil {
			return payload, nil
		}
	}
	return nil, errors.New("no key of the issuer has signed it")
}

// isAccessToken reports whether the type of a JWT, which may be left out, can be that of an access token: the general
// one, or that of RFC 9068. Types are media types, whose "application/" may be left out (RFC 7515, section 4.1.9).
func isAccessToken(kind any) bool {
	text, _ := kind.(string)
	text = strings.TrimPrefix(strings.ToLower(text), "application/")
	return text == "jwt" || text == "at+jwt"
}

// keys returns the keys with an id, or all keys if the token names none. An unknown id, and keys that are too old,
// cause a fetch. Old keys serve while the issuer cannot be reached.
func (i *Issuer) keys(ctx context.Context, id string) ([]jose.JSONWebKey, error) {
	known := i.known.Load()
	found := known.of(id)
	if len(found) > 0 && time.Since(known.fetchedAt) < keysMaxAge {
		return found, nil
	}
	if len(found) > 0 {
		select {
		case <-i.fetching:
		default: // another request fetches; the old keys serve meanwhile
			return found, nil
		}
	} else {
		select {
		case <-i.fetching:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	defer func() { i.fetching <- struct{}{} }()
	known = i.known.Load() // another request may have fetched while this one waited
	if len(known.of(id)) == 0 || time.Since(known.fetchedAt) >= keysMaxAge {
		if time.Since(known.inVainAt) >= keysFetchPause {
			known = i.fetch(ctx, known)
			i.known.Store(known)
		}
	}
	if found = known.of(id); len(found) == 0 && known.err != nil {
		return nil, known.err
	}
	return found, nil
}

func (k *issuerKeys) of(id string) []jose.JSONWebKey {
	if id == "" {
		return k.keys
	}
	var found []jose.JSONWebKey
	for _, key := range k.keys {
		if key.KeyID == id {
			found = append(found, key)
		}
	}
	return found
}

// fetch asks the issuer for its keys. The end of the request that caused it does not end the fetch: other requests need
// the keys too.
func (i *Issuer) fetch(ctx context.Context, before *issuerKeys) *issuerKeys {
	ctx, cancel := context.WithTimeout(oidc.ClientContext(context.WithoutCancel(ctx), i.client), issuerTimeout)
	defer cancel()
	keys, err := i.ask(ctx)
	now := time.Now()
	if err != nil {
		return &issuerKeys{before.keys, before.fetchedAt, now, err}
	}
	fetched := &issuerKeys{keys: keys, fetchedAt: now}
	if !slices.ContainsFunc(keys, func(key jose.JSONWebKey) bool { return len(before.of(key.KeyID)) == 0 }) {
		fetched.inVainAt = now
	}
	return fetched
}

func (i *Issuer) ask(ctx context.Context) ([]jose.JSONWebKey, error) {
	provider, err := oidc.NewProvider(ctx, i.url)
	if err != nil {
		return nil, err
	}
	var discovered struct {
		KeysURL string `json:"jwks_uri"`
	}
	if err := provider.Claims(&discovered); err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, discovered.KeysURL, nil)
	if err != nil {
		return nil, err
	}
	response, err := i.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", discovered.KeysURL, response.Status)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxKeysBytes)).Decode(&set); err != nil {
		return nil, fmt.Errorf("%s is no key set: %w", discovered.KeysURL, err)
	}
	if set.Keys == nil {
		return nil, fmt.Errorf("%s is no key set: it has no list keys", discovered.KeysURL)
	}
	return i.usable(ctx, set.Keys), nil
}

// usable returns the keys that can verify a signature. RFC 7517, section 5: keys of an unknown type, without a required
// member, or with a value out of range are ignored, so that one such key does not spoil the set.
func (i *Issuer) usable(ctx context.Context, set []json.RawMessage) []jose.JSONWebKey {
	var keys []jose.JSONWebKey
	for place, raw := range set {
		var key jose.JSONWebKey
		err := key.UnmarshalJSON(raw)
		if err == nil && !key.IsPublic() { // a shared secret or a private key
			err = errors.New("it is no public key")
		}
		if err != nil {
			i.log.DebugContext(ctx, "a key of the OIDC issuer is ignored", "place", place, "reason", err)
			continue
		}
		keys = append(keys, key)
	}
	return keys
}
