package hub

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// browser starts a headless Chromium for a test. Without one the test is
// skipped, unless HASTEN_FULL=1 demands it.
func browser(t *testing.T) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		const missing = "no Chromium on the PATH: the page is not tested in a browser; Debian has it as chromium"
		if os.Getenv("HASTEN_FULL") == "1" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	options := []chromedp.ExecAllocatorOption{chromedp.ExecPath(path), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.UserDataDir(t.TempDir())}
	for _, flag := range []string{"disable-quic", "disable-background-networking", "disable-component-update", "disable-sync"} {
		options = append(options, chromedp.Flag(flag, true))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	return ctx
}

func do(t *testing.T, ctx context.Context, what string, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// comes waits until an expression of the page is true, across navigations.
func comes(t *testing.T, ctx context.Context, what, expression string) {
	t.Helper()
	var err error
	for range 400 {
		var ok bool
		if ok, err = chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean("+expression+")")); ok {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	body, _ := chromedp.Run(ctx, chromedp.Evaluate[string]("document.body.innerText"))
	t.Fatalf("%s does not come (%v); the page says:\n%s", what, err, body)
}

func value[T any](t *testing.T, ctx context.Context, expression string) T {
	t.Helper()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// A person searches, filters, opens a paper, starts to measure it, stops it,
// and watches a run.
func TestInABrowser(t *testing.T) {
	ctx := browser(t)
	s := open(t, nil)
	s.log(t, "a", someLines)
	const titles = `[...document.querySelectorAll(".papers h3")].map(h => h.textContent).join("|")`

	do(t, ctx, "the catalogue", chromedp.Navigate(s.url+"/"))
	if got := value[string](t, ctx, titles); got != `A good optimiser|A little better|Not here|Planned <script>alert("x")</script>` {
		t.Errorf("papers: %s", got)
	}
	if color := value[string](t, ctx, `getComputedStyle(document.querySelector(".go")).backgroundColor`); color != "rgb(13, 92, 86)" && color != "rgb(108, 199, 187)" {
		t.Errorf("the style sheet is not in force: a button of %s", color)
	}

	do(t, ctx, "searching", chromedp.SendKeys(chromedp.CSS("#q"), "compressed gradients"))
	comes(t, ctx, "results while typing", titles+` === "Not here"`)
	if query := value[string](t, ctx, `location.search`); query != "?q=compressed+gradients" {
		t.Errorf("the address says %s", query)
	}
	do(t, ctx, "filtering", chromedp.Navigate(s.url+"/"), chromedp.SetValue(chromedp.CSS(`select[name="verdict"]`), "holds"))
	value[bool](t, ctx, `document.querySelector('select[name="verdict"]').dispatchEvent(new Event("input", {bubbles: true}))`)
	comes(t, ctx, "what the filter leaves", titles+` === "A good optimiser"`)

	do(t, ctx, "opening a paper", chromedp.Navigate(s.url+"/"), chromedp.Click(chromedp.CSS(`.papers a[href="/papers/direction"]`)))
	comes(t, ctx, "the paper", `document.querySelector("h1")?.textContent === "A little better"`)
	do(t, ctx, "starting", chromedp.Click(chromedp.CSS(`button[value="quick"]`)))
	comes(t, ctx, "progress", `document.querySelector(".job.running .lines")?.textContent.includes("adamw, seed 1")`)
	comes(t, ctx, "the time that goes on", `document.querySelector(".job .state")?.textContent.includes("1s")`)
	do(t, ctx, "stopping", chromedp.Click(chromedp.CSS(`.job button`)))
	comes(t, ctx, "the end", `document.querySelector(".job.stopped") !== null && document.querySelector('button[value="quick"]') !== null`)
	do(t, ctx, "another one", chromedp.Navigate(s.url+"/papers/good"), chromedp.Click(chromedp.CSS(`button[value="full"]`)))
	comes(t, ctx, "its result", `document.querySelector("#run table:last-of-type")?.textContent.includes("3×") && document.querySelector(".job.done") !== null`)

	do(t, ctx, "a run", chromedp.Navigate(s.url+"/runs/a"))
	comes(t, ctx, "its loss", `document.querySelector(".now dd")?.textContent === "3.5000"`)
	s.log(t, "a", `{"step":3,"tokens":300,"train_loss":1.25}`+"\n")
	comes(t, ctx, "a new line of its log", `document.querySelector(".now dd")?.textContent === "1.2500"`)

	do(t, ctx, "the list of runs", chromedp.Navigate(s.url+"/runs"), chromedp.Click(chromedp.CSS(`input[value="a"]`)), chromedp.Click(chromedp.CSS(`#compare button`)))
	comes(t, ctx, "the comparison", `document.querySelector("svg.chart .line") !== null`)

	do(t, ctx, "the scoreboard", chromedp.Navigate(s.url+"/scoreboard"), chromedp.Click(chromedp.CSS(`thead th:nth-child(4) a`)))
	comes(t, ctx, "its order", `document.querySelector("thead th:nth-child(4)").ariaSort === "descending"`)

	do(t, ctx, "dark", chromedp.Click(chromedp.CSS(`button[value="dark"]`)))
	comes(t, ctx, "the dark page", `getComputedStyle(document.documentElement).backgroundColor === "rgb(22, 24, 26)"`)
}

// No page is wider than a phone.
func TestFitsAPhone(t *testing.T) {
	ctx := browser(t)
	s := open(t, nil)
	s.log(t, "a", someLines)
	for _, path := range []string{"/", "/papers/direction", "/scoreboard", "/runs", "/runs/a"} {
		do(t, ctx, path, chromedp.EmulateViewport(360, 740), chromedp.Navigate(s.url+path))
		if width := value[int](t, ctx, `document.documentElement.scrollWidth`); width > 360 {
			t.Errorf("%s is %d wide", path, width)
		}
	}
}
