package api_test

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

func TestDocsPage(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for path, contentType := range map[string]string{"/docs": "text/html", "/docs/swagger-ui.css": "text/css",
		"/docs/swagger-ui-bundle.js": "application/javascript"} {
		response, err := http.Get(s.url + path)
		must(t, err)
		response.Body.Close()
		policy := response.Header.Get("Content-Security-Policy")
		if response.StatusCode != 200 || !strings.HasPrefix(response.Header.Get("Content-Type"), contentType) ||
			!strings.HasPrefix(policy, "default-src 'none'") {
			t.Errorf("%s: %s %v", path, response.Status, response.Header)
		}
	}
	if a, err := http.Get(s.url + "/docs/nothing"); err != nil || a.StatusCode != 404 {
		t.Errorf("%v %v", a, err)
	}
}

// browser finds Chromium. Where there is none the test is skipped, unless REIESTR_TEST_BROWSER is "required".
func browser(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("REIESTR_TEST_BROWSER") == "required" {
		t.Fatal("there is no Chromium")
	}
	t.Skip("there is no Chromium")
	return ""
}

// TestConsole does in a browser what a developer does: look at the operations, give token and key, try an example out.
func TestConsole(t *testing.T) {
	t.Parallel()
	path := browser(t)
	s := newService(t).work()
	s.primaryLicense(s.clinic)

	allocator, cancel := chromedp.NewExecAllocator(t.Context(), chromedp.ExecPath(path), chromedp.Headless,
		chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.NoFirstRun, chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.WSURLReadTimeout(time.Minute))
	defer cancel()
	var mu sync.Mutex
	var complaints, strange []string
	ctx, cancel := chromedp.NewContext(allocator, chromedp.WithListener(func(event any) {
		mu.Lock()
		defer mu.Unlock()
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			complaints = append(complaints, e.ExceptionDetails.Text)
		case *network.EventRequestWillBeSent:
			if !strings.HasPrefix(e.Request.URL, s.url) && !strings.HasPrefix(e.Request.URL, "data:") {
				strange = append(strange, e.Request.URL)
			}
		}
	}))
	defer cancel()
	ctx, cancel = context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()

	const operation = "#operations-Licences-createLicense "
	fill := func(scheme, secret string) chromedp.Action[chromedp.Void] {
		container := `//div[contains(@class, "auth-container")]` +
			`[.//*[contains(@class, "auth-header") or self::h4][contains(., "` + scheme + `")]]`
		return chromedp.Steps(
			chromedp.SendKeys(chromedp.Search(container+`//input`), secret),
			chromedp.Click(chromedp.Search(container+`//button[contains(@class, "authorize")]`)),
			chromedp.WaitVisible(chromedp.Search(container+`//button[contains(., "Logout")]`)),
		)
	}
	err := chromedp.Do(ctx,
		chromedp.Navigate(s.url+"/docs"),
		chromedp.WaitVisible(chromedp.CSS(operation)),
		chromedp.Click(chromedp.CSS(`.auth-wrapper .btn.authorize`)),
		fill("token", s.token),
		fill("apiKey", s.key),
		chromedp.Click(chromedp.CSS(`.btn-done`)),
		chromedp.Click(chromedp.CSS(operation+`.opblock-summary-control`)),
		chromedp.Click(chromedp.CSS(operation+`.try-out__btn`)),
		chromedp.WaitVisible(chromedp.CSS(operation+`textarea.body-param__text`)), // it holds the document's example
		chromedp.Click(chromedp.CSS(operation+`.execute`)),
		chromedp.WaitVisible(chromedp.CSS(operation+`.live-responses-table tbody .response-col_status`)),
	)
	if err != nil {
		page, _ := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("body")))
		t.Fatalf("%v %v\n%.3000s", err, complaints, page)
	}
	status := chromedp.CSS(operation + `.live-responses-table tbody .response-col_status`)
	code, err := chromedp.Run(ctx, chromedp.Text(status))
	must(t, err)
	operations, err := chromedp.Run(ctx, chromedp.Evaluate[int](`document.querySelectorAll('.opblock').length`))
	must(t, err)
	var created int
	const query = `SELECT count(*) FROM prm.licenses WHERE legal_entity_id = $1 AND NOT is_primary`
	must(t, s.owner.QueryRow(t.Context(), query, s.clinic).Scan(&created))
	if !strings.HasPrefix(code, "201") || created != 1 {
		t.Errorf("answered %s, %d licences", code, created)
	}
	if operations < 5 {
		t.Errorf("%d operations", operations)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(complaints) > 0 || len(strange) > 0 {
		t.Errorf("the page complains: %v; it asked for %v", complaints, strange)
	}
}
