package db

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/reiestr/reiestr/db/sqlc"
)

// Access issues, revokes and checks tokens and api keys. The database stores only the SHA-256 of a secret.
type Access struct {
	db     *statements
	grants *grants
}

// Check finds the rights of a token and an api key. ErrNotFound: the token is unknown or revoked. A revoked token or
// key may be accepted for another half second (see grants). A new one is accepted at once.
func (a *Access) Check(ctx context.Context, token, apiKey string) (Grant, error) {
	hashes := secrets{sha256.Sum256([]byte(token)), sha256.Sum256([]byte(apiKey))}
	asked := a.db.now()
	if known, ok := a.grants.get(hashes); ok {
		return known.at(asked), nil
	}
	began := time.Now()
	row, err := a.db.shared().Authenticate(ctx, sqlc.AuthenticateParams{
		TokenHash: hashes.token[:],
		KeyHash:   hashes.apiKey[:],
		AsOf:      a.db.moment(),
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return Grant{}, ErrNotFound
	}
	if err != nil {
		return Grant{}, err
	}
	known := knownGrant{
		Grant: Grant{
			Caller:      Caller{UserID: row.UserID, ClientID: row.ClientID},
			Scopes:      row.Scopes,
			KnownAPIKey: row.APIKeyIsKnown,
		},
		asOf:     asked,
		validFor: time.Duration(row.ValidSeconds * float64(time.Second)),
		epoch:    row.Epoch,
	}
	if row.APIKeyIsKnown || apiKey == "" { // an unknown key is not cached, so that it is accepted as soon as it is issued
		a.grants.add(hashes, known, began)
	}
	return known.at(asked), nil
}

// KnowsAPIKey tells whether an api key is known.
func (a *Access) KnowsAPIKey(ctx context.Context, apiKey string) (bool, error) {
	return a.db.shared().CheckAPIKey(ctx, hashOf(apiKey))
}

// KnowsClient tells whether there is a legal entity for which a token can be issued. Owner only.
func (a *Access) KnowsClient(ctx context.Context, legalEntity uuid.UUID) (bool, error) {
	return a.db.read().CheckClient(ctx, legalEntity)
}

// IssueToken makes a token, and answers when it expires. Owner only.
func (a *Access) IssueToken(
	ctx context.Context,
	c Caller,
	scopes []string,
	ttl time.Duration,
) (token string, expiresAt time.Time, err error) {
	token = newSecret()
	expiresAt, err = a.db.read().IssueToken(ctx, sqlc.IssueTokenParams{
		TokenHash:  hashOf(token),
		UserID:     c.UserID,
		ClientID:   c.ClientID,
		Scopes:     scopes,
		TTLSeconds: ttl.Seconds(),
	})
	return token, expiresAt, err
}

// IssueAPIKey makes an api key for the information system with that name. Owner only.
func (a *Access) IssueAPIKey(ctx context.Context, name string) (key string, err error) {
	key = newSecret()
	return key, a.db.read().IssueAPIKey(ctx, sqlc.IssueAPIKeyParams{KeyHash: hashOf(key), Name: name})
}

// RevokeToken revokes a token. ErrNotFound: it was not known. Owner only.
func (a *Access) RevokeToken(ctx context.Context, token string) error {
	return oneRow(a.db.read().RevokeToken(ctx, hashOf(token)))
}

// RevokeAPIKey revokes an api key. ErrNotFound: it was not known. Owner only.
func (a *Access) RevokeAPIKey(ctx context.Context, key string) error {
	return oneRow(a.db.read().RevokeAPIKey(ctx, hashOf(key)))
}

func oneRow(rows int64, err error) error {
	if err == nil && rows == 0 {
		return ErrNotFound
	}
	return err
}

// newSecret is 256 random bits, in characters that need no quoting. It does not begin with a dash, so that no command
// line takes it for a flag.
func newSecret() string {
	for {
		var bits [32]byte
		rand.Read(bits[:]) // never fails: the runtime ends the process instead
		if secret := base64.RawURLEncoding.EncodeToString(bits[:]); secret[0] != '-' {
			return secret
		}
	}
}

func hashOf(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}
