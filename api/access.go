package api

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

// authorize finds on whose behalf the request acts, or why it may not: token, expiry, api key, scope, in this order (contract, section 1).
func (s *server) authorize(ctx huma.Context, scope string) (db.Caller, *Failure) {
	r, _ := humago.Unwrap(ctx)
	denied := func(challenge, message string) (db.Caller, *Failure) {
		return db.Caller{}, failure(ctx.Context(), http.StatusUnauthorized, Fault{Type: "access_denied", Message: message}, "WWW-Authenticate", challenge)
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

	var source TokenSource = s.DB.Access
	if s.Issuer != nil && strings.Count(token, ".") == 2 { // a JWT; an opaque token has no dots
		source = s.Issuer
	}
	grant, err := source.Check(ctx.Context(), token, apiKey)
	switch {
	case len(header) > 1 || errors.Is(err, db.ErrNotFound):
		return denied(bearerRealm+`, error="invalid_token"`, "Unauthorized: invalid access token")
	case err != nil:
		return db.Caller{}, s.answer(ctx.Context(), ctx.Operation().OperationID, err)
	case grant.Expired:
		return denied(bearerRealm+`, error="invalid_token"`, "Unauthorized: access token is expired")
	case s.RequireAPIKey && apiKey == "":
		return denied(`Api-Key realm="reiestr"`, "Unauthorized: Api key is not set")
	case s.RequireAPIKey && !grant.KnownAPIKey:
		return denied(`Api-Key realm="reiestr"`, "Unauthorized: Invalid api key")
	case !slices.Contains(grant.Scopes, scope):
		return db.Caller{}, failure(ctx.Context(), http.StatusForbidden,
			Fault{Type: "forbidden", Message: "Invalid scopes. Your scope does not allow to access this resource. Missing allowances: " + scope},
			"WWW-Authenticate", `Bearer error="insufficient_scope", scope="`+scope+`"`)
	}
	return grant.Caller, nil
}
