package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/api"
	"github.com/reiestr/reiestr/db"
)

type tokenCommand struct {
	Issue  tokenIssue  `cmd:"" help:"Print a new access token, once, alone on stdout."`
	Revoke tokenRevoke `cmd:"" help:"Revoke an access token."`
}

type tokenIssue struct {
	LegalEntity uuid.UUID     `required:"" help:"The legal entity that the token acts for." placeholder:"UUID"`
	User        uuid.UUID     `required:"" help:"The user that the token acts for." placeholder:"UUID"`
	Scope       string        `required:"" help:"The scopes of the token, separated by spaces: ${scopes}." placeholder:"\"license:write job:read\""`
	TTL         time.Duration `name:"ttl" default:"1h" help:"How long the token is valid."`
	JSON        bool          `name:"json" help:"Print a JSON object."`
}

func (t tokenIssue) Run(ctx context.Context, env *environment) error {
	scopes := strings.Fields(t.Scope)
	if err := t.check(scopes); err != nil {
		return usageError{err}
	}
	return asOwner(ctx, env, "reiestr token", func(d *db.DB) error {
		known, err := d.Access.KnowsClient(ctx, t.LegalEntity)
		if err != nil {
			return err
		}
		if !known {
			return fmt.Errorf("there is no legal entity %s: load it first, see 'reiestr load --help'", t.LegalEntity)
		}
		caller := db.Caller{UserID: t.User, ClientID: t.LegalEntity}
		token, expiresAt, err := d.Access.IssueToken(ctx, caller, scopes, t.TTL)
		if err != nil {
			return err
		}
		return printSecret(env, t.JSON, token, map[string]any{
			"access_token":    token,
			"token_type":      "Bearer",
			"expires_at":      expiresAt.UTC(),
			"scope":           strings.Join(scopes, " "),
			"legal_entity_id": t.LegalEntity,
			"user_id":         t.User,
		})
	})
}

// check refuses flags that would make a useless token. Otherwise the mistake would show only when the token is used.
func (t tokenIssue) check(scopes []string) error {
	switch {
	case t.LegalEntity == uuid.Nil:
		return errors.New("--legal-entity: the UUID of zeros names no legal entity")
	case t.User == uuid.Nil:
		return errors.New("--user: the UUID of zeros names no person")
	case t.TTL < time.Second:
		return errors.New("--ttl is a second or more, like 30m or 24h")
	case len(scopes) == 0:
		return fmt.Errorf("--scope: a token needs at least one of %s", strings.Join(api.Scopes(), ", "))
	}
	for _, scope := range scopes {
		if !slices.Contains(api.Scopes(), scope) {
			return fmt.Errorf("--scope: there is no %q%s", scope, instead(scope, api.Scopes()))
		}
	}
	return nil
}

type tokenRevoke struct {
	Token string `arg:"" help:"The token, or - to read it from stdin."`
}

func (t tokenRevoke) Run(ctx context.Context, env *environment) error {
	return revoke(ctx, env, "token", t.Token,
		func(a *db.Access, secret string) error { return a.RevokeToken(ctx, secret) })
}

type apiKeyCommand struct {
	Issue  apiKeyIssue  `cmd:"" help:"Print a new api key, once, alone on stdout."`
	Revoke apiKeyRevoke `cmd:"" help:"Revoke an api key."`
}

type apiKeyIssue struct {
	Name string `required:"" help:"The information system that the key is for." placeholder:"NAME"`
	JSON bool   `name:"json" help:"Print a JSON object."`
}

func (k apiKeyIssue) Run(ctx context.Context, env *environment) error {
	if strings.TrimSpace(k.Name) == "" {
		return usageError{errors.New("an api key needs a --name")}
	}
	return asOwner(ctx, env, "reiestr apikey", func(d *db.DB) error {
		key, err := d.Access.IssueAPIKey(ctx, k.Name)
		if err != nil {
			return err
		}
		return printSecret(env, k.JSON, key, map[string]any{"api_key": key, "name": k.Name})
	})
}

type apiKeyRevoke struct {
	Key string `arg:"" help:"The api key, or - to read it from stdin."`
}

func (k apiKeyRevoke) Run(ctx context.Context, env *environment) error {
	return revoke(ctx, env, "api key", k.Key,
		func(a *db.Access, secret string) error { return a.RevokeAPIKey(ctx, secret) })
}

func printSecret(env *environment, asJSON bool, secret string, object map[string]any) error {
	if asJSON {
		return json.NewEncoder(env.out).Encode(object)
	}
	_, err := fmt.Fprintln(env.out, secret)
	return err
}

func revoke(ctx context.Context, env *environment, kind, secret string, do func(*db.Access, string) error) error {
	if secret == "-" {
		line, err := io.ReadAll(io.LimitReader(env.in, 4096))
		if err != nil {
			return err
		}
		secret = strings.TrimSpace(string(line))
	}
	return asOwner(ctx, env, "reiestr revoke", func(d *db.DB) error {
		err := do(d.Access, secret)
		if errors.Is(err, db.ErrNotFound) {
			return fmt.Errorf("there is no such %s, or it was revoked before", kind)
		}
		return err
	})
}
