package rest

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/reiestr/reiestr/db"
)

const bearerRealm = `Bearer realm="reiestr"`

// authorize returns the caller, or an error that says why the request may not be carried out. Token, expiry, api key
// and scope are checked in this order (contract, section 1).
func authorize(ctx huma.Context, c *Config, scope string) (db.Caller, error) {
	r, _ := humago.Unwrap(ctx)
	denied := func(challenge, message string) (db.Caller, error) {
		fault := Fault{Type: "access_denied", Message: message}
		return db.Caller{}, Fail(ctx.Context(), http.StatusUnauthorized, fault, "WWW-Authenticate", challenge)
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
		return denied(`Api-Key realm="reiestr"`, "Unauthorized: Api key is not set")
	case c.RequireAPIKey && !grant.KnownAPIKey:
		return denied(`Api-Key realm="reiestr"`, "Unauthorized: Invalid api key")
	case !slices.Contains(grant.Scopes, scope):
		fault := Fault{Type: "forbidden", Message: scopeMessage + scope}
		return db.Caller{}, Fail(ctx.Context(), http.StatusForbidden, fault,
			"WWW-Authenticate", `Bearer error="insufficient_scope", scope="`+scope+`"`)
	}
	return grant.Caller, nil
}
