package rest

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/validation"
)

// huma's validator finds the faults of the schema. Its texts are variables of the process, therefore init. They are set
// to codes, the kind and its parameters with a bar between, from which ruleOf makes the rules of the contract.
func init() {
	huma.ValidateStrictCasing = true
	huma.DefaultArrayNullable = false // a list in an answer may be empty, but is never null
	validation.MsgUnexpectedProperty = "schema|"
	validation.MsgExpectedRequiredProperty = "required|%s"
	validation.MsgExpectedBoolean = "cast|boolean"
	validation.MsgExpectedNumber = "cast|number"
	validation.MsgExpectedInteger = "cast|integer"
	validation.MsgExpectedString = "cast|string"
	validation.MsgExpectedArray = "cast|array"
	validation.MsgExpectedObject = "cast|object"
	validation.MsgExpectedRFC3339Date = "date|"
	validation.MsgExpectedNotMatchSchema = "date|" // the schema of a date is the only one with a not
	validation.MsgExpectedRFC4122UUID = "format|" + uuidPattern + "%.0v"
	validation.MsgExpectedMatchPattern = "format|%s"
	validation.MsgExpectedBePattern = "format|%s"
	validation.MsgExpectedMinLength = "length|min|%d"
	validation.MsgExpectedMaxLength = "length|max|%d"
	validation.MsgExpectedMinItems = "length|min|%d"
	validation.MsgExpectedMaxItems = "length|max|%d"
	validation.MsgExpectedOneOf = "inclusion|%s"
	validation.MsgExpectedMinimumNumber = "range|min|%v"
	validation.MsgExpectedMaximumNumber = "range|max|%v"

	huma.NewErrorWithContext = func(ctx huma.Context, status int, _ string, errs ...error) huma.StatusError {
		return validatorFailure(ctx.Context(), status, errs)
	}
	// huma calls it without a context only to learn the type of an error, for the OpenAPI document.
	huma.NewError = func(status int, _ string, errs ...error) huma.StatusError {
		return validatorFailure(context.Background(), status, errs)
	}
}

// validatorFailure is the answer to the faults that huma itself finds.
func validatorFailure(ctx context.Context, status int, errs []error) *Failure {
	switch status {
	case http.StatusUnprocessableEntity:
		return schemaFailure(ctx, errs)
	case http.StatusUnsupportedMediaType:
		return unsupportedMediaType(ctx)
	case http.StatusBadRequest:
		return malformed(ctx, "The body is not valid JSON")
	case http.StatusRequestEntityTooLarge:
		return tooLarge(ctx)
	}
	return internalError(ctx)
}
