package rest

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"
)

// maxBodyBytes bounds the body of a request.
const maxBodyBytes = 1 << 20

// The texts of failures. The OpenAPI document shows them too.
const (
	schemaMessage         = "Validation failed. See error.invalid for every fault."
	mediaTypeMessage      = "Content-Type must be application/json"
	encodingMessage       = "Content-Encoding must be identity: the body is sent as it is"
	keyNotSet             = "Unauthorized: Api key is not set"
	scopeMessage          = "Invalid scopes. Your scope does not allow to access this resource. Missing allowances: "
	tooManyMessage        = "Too many requests. Try again later."
	tooManyPendingMessage = "Too many pending jobs of the legal entity on this service request. " +
		"Wait until one of them has ended."
	internalMessage    = "Internal error. Quote the request id when you report it."
	overloadedMessage  = "The service is overloaded, and has not carried out the request. Try again later."
	unavailableMessage = "The service is not available at the moment. Try again later."
)

func malformed(ctx context.Context, message string) *Failure {
	return Fail(ctx, http.StatusBadRequest, Fault{Type: "request_malformed", Message: message})
}

func unsupportedMediaType(ctx context.Context) *Failure {
	return Fail(ctx, http.StatusUnsupportedMediaType, Fault{Type: "content_type_invalid", Message: mediaTypeMessage})
}

func tooLarge(ctx context.Context) *Failure {
	message := fmt.Sprintf("The body is larger than %d bytes", maxBodyBytes)
	return Fail(ctx, http.StatusRequestEntityTooLarge, Fault{Type: "request_too_large", Message: message})
}

// NotFound is the answer for something that does not exist, or that the caller may not know of.
func NotFound(ctx context.Context, message string) *Failure {
	return Fail(ctx, http.StatusNotFound, Fault{Type: "not_found", Message: message})
}

// tooManyPending is the answer to an action of a client that has to wait for its other jobs, one of which is expected
// to have ended at the moment given.
func tooManyPending(ctx context.Context, until time.Time) *Failure {
	seconds := max(1, int(math.Ceil(time.Until(until).Seconds())))
	return Fail(ctx, http.StatusTooManyRequests, Fault{Type: "too_many_requests", Message: tooManyPendingMessage},
		"Retry-After", strconv.Itoa(seconds))
}

func unavailable(ctx context.Context) *Failure {
	return Fail(ctx, http.StatusServiceUnavailable, Fault{Type: "service_unavailable", Message: unavailableMessage},
		"Retry-After", "1")
}

// overloaded is the answer to a request that found no place: nothing has been done for it.
func overloaded(ctx context.Context) *Failure {
	return Fail(ctx, http.StatusServiceUnavailable, Fault{Type: "service_unavailable", Message: overloadedMessage},
		"Retry-After", "1")
}

func internalError(ctx context.Context) *Failure {
	return Fail(ctx, http.StatusInternalServerError, Fault{Type: "internal_error", Message: internalMessage})
}
