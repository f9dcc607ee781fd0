package rest

import (
	"context"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/reiestr/reiestr/db"
)

// Endpoint is one operation: its scope, its part of the OpenAPI document, and the function that does the work.
type Endpoint[I, O any] struct {
	huma.Operation
	Access Access
	Scope  string // with ByToken
	Waits  bool   // heeds Prefer: wait
	// Tagged is the type of the answer of an operation that heeds If-None-Match; nil: it does not. Such an operation
	// answers a TaggedOutput.
	Tagged reflect.Type
	// Check returns the faults of a body that its schema does not tell; nil: there are none.
	Check func(Sent) []*huma.ErrorDetail
	Do    func(context.Context, db.Caller, *I) (*O, error) // the caller is zero unless it comes by token
	Examples
}

// TaggedOutput is an answer whose data have a tag. It is made by Tagged.
type TaggedOutput struct {
	Status       int
	ETag         string `header:"ETag" hidden:"true"`          // describeTag documents it
	CacheControl string `header:"Cache-Control" hidden:"true"` // instead of that of all other answers
	ContentType  string `header:"Content-Type" hidden:"true"`  // huma sends bytes without one
	Body         []byte
}

// revalidate lets a cache keep an answer that holds no personal data. The cache has to ask each time whether the answer
// is still the same.
const revalidate = "no-cache"

// Tagged makes the answer that is a whole list. data is the list as JSON, tag is TagOf(data). A caller that has the
// data already is answered 304.
func Tagged(ctx context.Context, data []byte, tag string) (*TaggedOutput, error) {
	if HasTag(ctx, tag) {
		return &TaggedOutput{Status: http.StatusNotModified, ETag: tag, CacheControl: revalidate}, nil
	}
	body, err := wholeList(ctx, data)
	return &TaggedOutput{http.StatusOK, tag, revalidate, "application/json", body}, err
}

type callerKey struct{}

// Register adds an endpoint to the API. Everything that is the same for all endpoints is here.
func Register[I, O any](s *Server, e Endpoint[I, O]) {
	op := e.Operation
	e.Access.describe(&op, e.Scope)
	op.MaxBodyBytes = maxBodyBytes + 1 // huma refuses a body of exactly that size; readBody has refused larger ones
	op.BodyReadTimeout = -1            // none: readBody has read the body, and a later deadline would cancel the request
	places := s.reads
	switch {
	case op.Method != http.MethodGet:
		places = s.commands
	case e.Access == Open:
		places = s.open
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
		caller, bucket, err := authorize(ctx, &s.Config, e.Access, e.Scope)
		if err != nil {
			s.errors.answer(ctx.Context(), op.OperationID, err).write(w)
			return
		}
		note.Client = caller.ClientID
		var fail *Failure
		if e.Access != Open { // what is open shares its answers
			fail = s.limiter.limit(ctx.Context(), bucket, w)
		}
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
		ctx = huma.WithValue(ctx, noneMatchKey{}, r.Header.Values("If-None-Match"))
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
	describeErrors(s.api.OpenAPI(), &op, e.Access, e.Examples)
	if e.Tagged != nil {
		op.Parameters = append(op.Parameters, noneMatchParameter())
		describeAnswer(s.api.OpenAPI(), &op, e.Tagged)
		describeTag(&op)
	}
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
