// Package client calls the API of Reiestr. Its types and methods are generated from docs/openapi.yaml, so they are the
// contract in Go:
//
//	c, err := client.New("https://reiestr.example", token, apiKey)
//	…
//	answer, err := c.CreateLicenseWithResponse(ctx, client.LicenseCreation{Type: "PHARMACY_DRUGS", …})
//	switch {
//	case err != nil: // no answer, or none of the contract
//	case answer.JSON201 != nil: // answer.JSON201.Data is the licence
//	case answer.JSON409 != nil: // answer.JSON409.Error.Message is the rule that refused
//	}
//
// An answer has one field for each code that the contract knows; the one that was given is set. A property that can be
// null is a pointer.
package client

import (
	"context"
	"net/http"
)

// New makes a client of the service at url, which acts with an access token on behalf of the information system that
// the key belongs to.
func New(url, token, apiKey string, options ...ClientOption) (*ClientWithResponses, error) {
	credentials := func(_ context.Context, request *http.Request) error {
		request.Header.Set("Authorization", "Bearer "+token)
		request.Header.Set("api-key", apiKey)
		return nil
	}
	return NewClientWithResponses(url, append([]ClientOption{WithRequestEditorFn(credentials)}, options...)...)
}
