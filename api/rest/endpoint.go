package rest

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/reiestr/reiestr/db"
)

// Endpoint is one operation: its scope, its part of the OpenAPI document, and the function that does the work.
type Endpoint[I, O any] struct {
	huma.Operation
	Scope string
	Waits bool // heeds Prefer: wait
	// Check returns the faults of a body that its schema does not tell; nil: there are none.
	Check func(Sent) []*huma.ErrorDetail
	Do    func(context.Context, db.Caller, *I) (*O, error)
	Examples
}

type callerKey struct{}

// Register adds an endpoint to the API. Everything that is the same for all endpoints is here.
func Register[I, O any](s *Server, e Endpoint[I, O]) {
	op := e.Operation
	op.Security = []map[string][]string{{"token": {e.Scope}, "apiKey": {}}}
	op.Extensions = map[string]any{scopeExtension: e.Scope}
	op.MaxBodyBytes = maxBodyBytes + 1 // huma refuses a body of exactly that size; readBody has refused larger ones
	op.BodyReadTimeout = -1            // none: readBody has read the body, and a later deadline would cancel the request
	places := s.reads
	if op.Method != http.MethodGet {
		places = s.commands
	}
	op.Middlewares = huma.Middlewares{func(ctx huma.Context, next func(huma.Context)) {
		_, w := humago.Unwrap(ctx)
		note := Note(ctx.Context())
		note.Operation, note.Route = op.OperationID, op.Path
		leave, ok := places.enter(ctx.Context())
		defer func() { leave() }()
		if !ok { // as early as possible: a refusal has to cost little
			overloaded(ctx.Context()).write(w)
			return
		}
		caller, err := authorize(ctx, &s.Config, e.Scope)
		if err != nil {
			s.errors.answer(ctx.Context(), op.OperationID, err).write(w)
			return
		}
		note.Client = caller.ClientID
		fail := s.limiter.limit(ctx.Context(), caller.ClientID, w)
		if fail == nil {
			fail = acceptable(ctx)
		}
		r, _ := humago.Unwrap(ctx)
		comes := r.ContentLength != 0 // a body, perhaps slowly: meanwhile the request takes no place
		if comes {
			leave()
		}
		var body []byte
		if fail == nil {
			body, fail = readBody(ctx)
		}
		if fail == nil && comes {
			if leave, ok = places.enter(ctx.Context()); !ok {
				fail = overloaded(ctx.Context())
			}
		}
		if fail != nil {
			fail.write(w)
			return
		}
		faults := queryFaults(r.URL.RawQuery, ctx.Operation().Parameters)
		if e.Check != nil && len(body) > 0 {
			faults = append(faults, e.Check(sent(body))...)
		}
		if ignored := ignoredKeys(s.api.OpenAPI().Components.Schemas, ctx.Operation(), body); len(ignored) > 0 {
			note.IgnoredKeys = told(ignored)
			if s.StrictClients {
				faults = append(faults, unknownKeys(ignored)...)
			}
		}
		ctx = huma.WithValue(ctx, faultsKey{}, faults)
		ctx = huma.WithValue(ctx, leaveKey{}, leave)
		ctx = huma.WithValue(ctx, callerKey{}, caller)
		ctx = huma.WithValue(ctx, preferKey{}, preferredWait(r.Header.Values("Prefer")))
		if op.Method == http.MethodGet {
			next(ctx)
			return
		}
		s.idempotency.once(ctx, caller, next)
	}}
	if op.Method != http.MethodGet {
		op.Parameters = append(op.Parameters, idempotencyParameter())
	}
	if e.Waits {
		op.Parameters = append(op.Parameters, preferParameter())
	}
	describeErrors(s.api.OpenAPI(), &op, e.Examples)
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*O, error) {
		if len(faultsOf(ctx)) > 0 {
			return nil, schemaFailure(ctx, nil)
		}
		out, err := e.Do(ctx, ctx.Value(callerKey{}).(db.Caller), in)
		leave(ctx) // a client that reads its answer slowly takes no place
		if err != nil {
			return nil, s.errors.answer(ctx, op.OperationID, err)
		}
		return out, nil
	})
	describeExamples(s.api.OpenAPI(), &op, e.Examples)
}
