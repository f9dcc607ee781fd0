package rest

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// acceptable refuses a caller that does not take JSON, before anything is done.
func acceptable(ctx huma.Context) *Failure {
	r, _ := humago.Unwrap(ctx)
	accept := strings.Join(r.Header.Values("Accept"), ",") // several lines are one list
	if strings.Trim(accept, ", \t") == "" {
		return nil
	}
	for part := range strings.SplitSeq(accept, ",") {
		media, params, err := mime.ParseMediaType(part)
		json := media == "*/*" || media == "application/*" || media == "application/json"
		if err == nil && json && !zero(params["q"]) {
			return nil
		}
	}
	fault := Fault{Type: "content_type_invalid", Message: "Answers are application/json only"}
	return Fail(ctx.Context(), http.StatusNotAcceptable, fault)
}

// zero reports whether a quality is zero: 0, 0.0, 0.00, 0.000.
func zero(q string) bool { return q != "" && strings.Trim(q, "0.") == "" }

// readBody reads the body and refuses one that is not JSON, so that everything behind it sees JSON values only. No body
// is empty.
func readBody(ctx huma.Context) ([]byte, *Failure) {
	r, w := humago.Unwrap(ctx)
	expected := ctx.Operation().RequestBody
	if expected == nil {
		return nil, nil
	}
	if r.Body == nil { // a request that did not come over HTTP
		r.Body = http.NoBody
	}
	if r.ContentLength > maxBodyBytes { // before the first read, which would answer Expect with 100
		return nil, tooLarge(ctx.Context())
	}
	for coding := range strings.SplitSeq(strings.Join(r.Header.Values("Content-Encoding"), ","), ",") {
		if coding = strings.Trim(coding, " \t"); coding != "" && !strings.EqualFold(coding, "identity") {
			fault := Fault{Type: "content_type_invalid", Message: encodingMessage}
			return nil, Fail(ctx.Context(), http.StatusUnsupportedMediaType, fault, "Accept-Encoding", "identity")
		}
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	var limit *http.MaxBytesError
	switch {
	case errors.As(err, &limit):
		return nil, tooLarge(ctx.Context())
	case err != nil:
		return nil, malformed(ctx.Context(), "The body cannot be read")
	}
	http.NewResponseController(w).SetReadDeadline(time.Time{}) //nolint:errcheck // see identify
	r.Body = io.NopCloser(bytes.NewReader(data))
	if len(bytes.TrimSpace(data)) == 0 {
		r.Body = http.NoBody
		if expected.Required {
			return nil, malformed(ctx.Context(), "There is no body. A JSON object is expected.")
		}
		return nil, nil
	}
	if contentType := r.Header.Get("Content-Type"); contentType != "" {
		if media, _, err := mime.ParseMediaType(contentType); err != nil || media != "application/json" {
			return nil, unsupportedMediaType(ctx.Context())
		}
		r.Header.Set("Content-Type", "application/json") // huma knows no other form
	}
	if err := validJSON(data); err != nil {
		return nil, malformed(ctx.Context(), "The body is not valid JSON: "+err.Error())
	}
	return data, nil
}
