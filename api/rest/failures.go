package rest

import (
	"context"
	"fmt"
	"net/http"
)

// maxBodyBytes bounds the body of a request.
const maxBodyBytes = 1 << 20

// The texts of failures. The OpenAPI document shows them too.
const (
	schemaMessage      = "Validation failed. See error.invalid for every fault."
	mediaTypeMessage   = "Content-Type must be application/json"
	scopeMessage       = "Invalid scopes. Your scope does not allow to access this resource. Missing allowances: "
	tooManyMessage     = "Too many requests. Try again later."
	internalMessage    = "Internal error. Quote the request id when you report it."
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

func unavailable(ctx context.Context) *Failure {
	return Fail(ctx, http.StatusServiceUnavailable, Fault{Type: "service_unavailable", Message: unavailableMessage},
		"Retry-After", "1")
}

func internalError(ctx context.Context) *Failure {
	return Fail(ctx, http.StatusInternalServerError, Fault{Type: "internal_error", Message: internalMessage})
}
