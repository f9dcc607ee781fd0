package rest

import (
	"net/http"

	"github.com/swaggest/swgui/v5emb"
)

// docsPolicy lets the console run only scripts of the binary and call only this server. The page has one inline script,
// and Swagger UI sets inline styles and shows images by data URLs.
const docsPolicy = "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; " +
	"img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// docs serves a console for the API from files in the binary.
func docs(mux *http.ServeMux) {
	console := v5emb.New("Reiestr", "/openapi.json", "/docs/")
	handler := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", docsPolicy)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "no-referrer")
		w.Header().Del("Cache-Control") // the console is the same for everyone
		console.ServeHTTP(&consoleAnswer{ResponseWriter: w, request: r}, r)
	}
	mux.HandleFunc("GET /docs", handler)
	mux.HandleFunc("GET /docs/{file}", handler)
}

// consoleAnswer replaces the plain text about a file that the console does not have by the envelope.
type consoleAnswer struct {
	http.ResponseWriter
	request  *http.Request
	replaced bool
}

func (a *consoleAnswer) WriteHeader(code int) {
	if code != http.StatusNotFound {
		a.ResponseWriter.WriteHeader(code)
		return
	}
	a.replaced = true
	NotFound(a.request.Context(), "Not found").write(a.ResponseWriter)
}

func (a *consoleAnswer) Write(p []byte) (int, error) {
	if a.replaced {
		return len(p), nil
	}
	return a.ResponseWriter.Write(p)
}
