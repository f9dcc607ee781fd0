package rest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/reiestr/reiestr/db"
)

const (
	idempotencyHeader = "Idempotency-Key"
	replayedHeader    = "Idempotency-Replayed"
	maxIdempotencyKey = 255
)

// idempotencyKey reads the key of a request: a string of RFC 9651, as the draft wants it, or the bare characters that
// most clients send. ok is false for what is neither; an empty key with ok is none.
func idempotencyKey(header []string) (key string, ok bool) {
	if len(header) == 0 {
		return "", true
	}
	if len(header) > 1 {
		return "", false
	}
	key = strings.Trim(header[0], " \t")
	if strings.HasPrefix(key, `"`) {
		if key, ok = unquoted(key); !ok {
			return "", false
		}
	}
	for _, c := range []byte(key) {
		if c < ' ' || c > '~' {
			return "", false
		}
	}
	return key, key != "" && len(key) <= maxIdempotencyKey
}

// unquoted is what stands between quotes; within them a backslash stands before a quote or a backslash only.
func unquoted(text string) (string, bool) {
	var plain []byte
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '"':
			return string(plain), i == len(text)-1
		case '\\':
			if i++; i == len(text) || text[i] != '"' && text[i] != '\\' {
				return "", false
			}
		}
		plain = append(plain, text[i])
	}
	return "", false
}

type leaseKey struct{}

// Keep stores an answer under the idempotency key of the request under way, if the request has one. A handler does so
// before it waits: if the process dies meanwhile, a repetition gets this answer. Only a 202 may be kept, since the
// final answer of the request replaces nothing else. header holds name-value pairs.
func Keep(ctx context.Context, code int, body any, header ...string) error {
	lease, ok := ctx.Value(leaseKey{}).(*db.IdempotencyLease)
	if !ok {
		return nil
	}
	answer := db.Answer{Code: code, Header: http.Header{"Content-Type": {"application/json"}}}
	for i := 0; i+1 < len(header); i += 2 {
		answer.Header.Set(header[i], header[i+1])
	}
	var text bytes.Buffer
	if err := jsonFormat.Marshal(&text, body); err != nil {
		return err
	}
	answer.Body = text.Bytes()
	keeping, cancel := outliving(ctx)
	defer cancel()
	return lease.Keep(keeping, answer)
}

// outliving is the context for keeping an answer: the answer is kept also for a caller that has gone, as it will ask
// again.
func outliving(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
}

// idempotency keeps the answers of requests that have an idempotency key.
type idempotency struct {
	*Config
	errors translator
}

// once carries out a request that has an idempotency key, unless it was carried out before: then it is given the same
// answer. It runs after who calls is known and the body is read.
func (i idempotency) once(ctx huma.Context, caller db.Caller, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	key, ok := idempotencyKey(r.Header.Values(idempotencyHeader))
	switch {
	case !ok:
		malformed(ctx.Context(), "Idempotency-Key must be one string of 1 to 255 printable ASCII characters").write(w)
		return
	case key == "":
		next(ctx)
		return
	}
	sum, err := requestDigest(r)
	if err != nil {
		i.errors.answer(ctx.Context(), ctx.Operation().OperationID, err).write(w)
		return
	}
	lease, before, err := i.DB.Idempotency.Claim(ctx.Context(), caller, key, sum)
	switch {
	case errors.Is(err, db.ErrKeyRunning):
		fault := Fault{Type: "request_conflict", Message: "A request with this Idempotency-Key is being carried out"}
		Fail(ctx.Context(), http.StatusConflict, fault, "Retry-After", "1").write(w)
		return
	case errors.Is(err, db.ErrKeyOfAnother):
		fault := Fault{Type: "validation_failed", Message: "Idempotency-Key was used for another request"}
		Fail(ctx.Context(), http.StatusUnprocessableEntity, fault).write(w)
		return
	case err != nil:
		i.errors.answer(ctx.Context(), ctx.Operation().OperationID, err).write(w)
		return
	}
	if before != nil {
		for name, values := range before.Header {
			w.Header()[name] = values
		}
		w.Header().Set(replayedHeader, "true")
		w.WriteHeader(before.Code)
		w.Write(before.Body) //nolint:errcheck // the caller has gone
		return
	}
	i.carryOut(ctx, lease, next)
}

// carryOut runs a request and keeps its answer if it is a decision; else, also after a panic, the key is free again,
// unless the handler has kept an answer.
func (i idempotency) carryOut(ctx huma.Context, lease *db.IdempotencyLease, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	answer := recorder{ResponseWriter: w, before: w.Header().Clone()}
	defer func() {
		keeping, cancel := outliving(ctx.Context())
		defer cancel()
		var err error
		if isDecision(answer.Code) {
			err = lease.Keep(keeping, answer.Answer)
		} else {
			err = lease.Free(keeping)
		}
		if err != nil {
			i.Log.WarnContext(
				keeping,
				"the answer of an idempotent request was not kept",
				"request_id",
				RequestID(keeping),
				"error",
				err,
			)
		}
	}()
	running := context.WithValue(ctx.Context(), leaseKey{}, lease)
	next(humago.NewContext(ctx.Operation(), r.WithContext(running), &answer))
}

// isDecision tells the answers that a repetition must get as well; after the others it may be tried again.
func isDecision(code int) bool {
	return code >= 200 && code < 500 &&
		!slices.Contains([]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests}, code)
}

// recorder remembers the answer that it passes on.
type recorder struct {
	http.ResponseWriter
	db.Answer
	before http.Header // what all answers have, whatever is decided
}

func (a *recorder) WriteHeader(code int) {
	if a.Code == 0 {
		a.Code = code
		a.Answer.Header = http.Header{}
		for name, values := range a.ResponseWriter.Header() {
			if _, common := a.before[name]; !common {
				a.Answer.Header[name] = slices.Clone(values)
			}
		}
	}
	a.ResponseWriter.WriteHeader(code)
}

func (a *recorder) Write(p []byte) (int, error) {
	if a.Code == 0 {
		a.WriteHeader(http.StatusOK)
	}
	a.Body = append(a.Body, p...)
	return a.ResponseWriter.Write(p)
}

// Header is that of the answer under way.
func (a *recorder) Header() http.Header { return a.ResponseWriter.Header() }

// Unwrap lets http.ResponseController reach the connection.
func (a *recorder) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// requestDigest is equal for equal requests: method, path with query, and body. No body and an empty object are equal.
func requestDigest(r *http.Request) (sum [32]byte, err error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return sum, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if isEmptyObject(body) {
		body = nil
	}
	return sha256.Sum256(append([]byte(r.Method+" "+r.URL.RequestURI()+"\n"), body...)), nil
}

// isEmptyObject reports whether a JSON text is {}, with any white space.
func isEmptyObject(text []byte) bool {
	inside, begins := bytes.CutPrefix(bytes.TrimSpace(text), []byte("{"))
	inside, ends := bytes.CutSuffix(inside, []byte("}"))
	return begins && ends && len(bytes.TrimSpace(inside)) == 0
}

// idempotencyParameter documents the key at the operations that change something.
func idempotencyParameter() *huma.Param {
	lowest, highest := 1, maxIdempotencyKey
	return &huma.Param{
		Name: idempotencyHeader, In: "header",
		Description: "Chosen by the caller, once for each request that it may repeat; each user of a legal entity has " +
			"keys of its own. A repetition within 24 hours is given the answer of the first, with " + replayedHeader +
			": true, and nothing is done twice. While an accepted action waits because of Prefer: wait, this answer is " +
			"its 202. 409 while the first has no answer yet; 422 if the key was used for another request. No body and " +
			"{} are the same request.",
		Schema:  &huma.Schema{Type: huma.TypeString, MinLength: &lowest, MaxLength: &highest},
		Example: "8e03978e-40d5-43dd-bc93-6894a57f9324",
	}
}
