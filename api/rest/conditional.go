package rest

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// TagOf is the entity tag of the data of an answer (RFC 9110, section 8.8.3). It is weak, because answers with the same
// data differ in the request id and the URL of their meta. It is the same in every process.
func TagOf(data []byte) string {
	sum := sha256.Sum256(data)
	return `W/"` + base64.RawURLEncoding.EncodeToString(sum[:]) + `"`
}

type noneMatchKey struct{}

// HasTag reports whether the caller says by If-None-Match that it has the data of this tag already: the header lists
// the tag, weak or strong, or is *.
func HasTag(ctx context.Context, tag string) bool {
	header, _ := ctx.Value(noneMatchKey{}).([]string)
	opaque := strings.TrimPrefix(tag, "W/")
	for listed := range splitQuoted(strings.Join(header, ","), ',') {
		listed = strings.Trim(listed, " \t")
		if listed == "*" || strings.TrimPrefix(listed, "W/") == opaque {
			return true
		}
	}
	return false
}

// noneMatchParameter documents If-None-Match at the operations that heed it.
func noneMatchParameter() *huma.Param {
	return &huma.Param{
		Name: "If-None-Match", In: "header",
		Description: "ETag of an earlier answer, several of them, or *: if the data are still the same, the answer is 304 " +
			"without a body.",
		Schema: &huma.Schema{Type: huma.TypeString}, Example: `W/"n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg"`,
	}
}

// describeTag adds the tag to a success, and the answer to a caller that has the data.
func describeTag(op *huma.Operation) {
	tag := func() map[string]*huma.Header {
		return map[string]*huma.Header{"ETag": {
			Description: "Tag of the data, for If-None-Match", Schema: &huma.Schema{Type: huma.TypeString},
		}}
	}
	op.Responses["200"].Headers = tag()
	op.Responses["304"] = &huma.Response{
		Description: "The caller has the data already (If-None-Match). " + http.StatusText(http.StatusNotModified),
		Headers:     tag(),
	}
}
