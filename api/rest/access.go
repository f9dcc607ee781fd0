package rest

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
)

const (
	bearerRealm = `Bearer realm="reiestr"`
	keyRealm    = `Api-Key realm="reiestr"`
	keyInvalid  = "Unauthorized: Invalid api key"
)

// unauthorized is the answer to a caller without the credentials that the challenge asks for.
func unauthorized(ctx context.Context, challenge, message string) *Failure {
	fault := Fault{Type: "access_denied", Message: message}
	return Fail(ctx, http.StatusUnauthorized, fault, "WWW-Authenticate", challenge)
}

// authorize returns the caller and the bucket in which its requests are counted, or an error that says why the request
// may not be carried out.
func authorize(ctx huma.Context, c *Config, a Access, scope string) (caller db.Caller, bucket uuid.UUID, err error) {
	switch a {
	case ByToken:
		caller, err = authorizeToken(ctx, c, scope)
		bucket = caller.ClientID
	case ByKey:
		bucket, err = authorizeKey(ctx, c)
	}
	return caller, bucket, err
}

// authorizeKey checks the api key alone. The requests of each key are counted for themselves.
func authorizeKey(ctx huma.Context, c *Config) (bucket uuid.UUID, err error) {
	if !c.RequireAPIKey {
		return uuid.Nil, nil
	}
	apiKey := ctx.Header("api-key")
	if apiKey == "" {
		return uuid.Nil, unauthorized(ctx.Context(), keyRealm, keyNotSet)
	}
	known, err := c.DB.Access.KnowsAPIKey(ctx.Context(), apiKey)
	if err == nil && !known {
		err = unauthorized(ctx.Context(), keyRealm, keyInvalid)
	}
	return uuid.NewSHA1(uuid.Nil, []byte(apiKey)), err
}

// authorizeToken returns the caller of an access token. Token, expiry, api key and scope are checked in this order
// (contract, section 1).
func authorizeToken(ctx huma.Context, c *Config, scope string) (db.Caller, error) {
	r, _ := humago.Unwrap(ctx)
	denied := func(challenge, message string) (db.Caller, error) {
		return db.Caller{}, unauthorized(ctx.Context(), challenge, message)
	}
	header := r.Header.Values("Authorization")
	if len(header) == 0 {
		return denied(bearerRealm, "Unauthorized: access token is not set")
	}
	scheme, token, _ := strings.Cut(header[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return denied(bearerRealm, "Unauthorized: access token is not set")
	}
	token = strings.TrimSpace(token)
	apiKey := r.Header.Get("api-key")

	var source TokenSource = c.DB.Access
	if c.Issuer != nil && strings.Count(token, ".") == 2 { // a JWT; an opaque token has no dots
		source = c.Issuer
	}
	grant, err := source.Check(ctx.Context(), token, apiKey)
	switch {
	case len(header) > 1 || errors.Is(err, db.ErrNotFound):
		return denied(bearerRealm+`, error="invalid_token"`, "Unauthorized: invalid access token")
	case err != nil:
		return db.Caller{}, err
	case grant.Expired:
		return denied(bearerRealm+`, error="invalid_token"`, "Unauthorized: access token is expired")
	case c.RequireAPIKey && apiKey == "":
		return denied(keyRealm, keyNotSet)
	case c.RequireAPIKey && !grant.KnownAPIKey:
		return denied(keyRealm, keyInvalid)
	case !slices.Contains(grant.Scopes, scope):
		fault := Fault{Type: "forbidden", Message: scopeMessage + scope}
		return db.Caller{}, Fail(ctx.Context(), http.StatusForbidden, fault,
			"WWW-Authenticate", `Bearer error="insufficient_scope", scope="`+scope+`"`)
	}
	return grant.Caller, nil
}
