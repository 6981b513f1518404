package hub

import (
	"bufio"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"hasten/hub/catalogue"
	"hasten/hub/state"
	"hasten/lab/card"
	"hasten/lab/result"
)

// measured is a result with one figure: a step that is gain times as fast.
func measured(slug string, gain float64) *result.Result {
	base := result.Of(gain)
	r := &result.Result{Slug: slug, Seeds: []uint64{1, 2, 3}, Seconds: 12, Date: time.Now(), Host: result.ThisHost(), Notes: []string{"a note <b>"}}
	r.Figures = []result.Figure{{Name: "step time", Kind: result.Ratio, Unit: "s", Baseline: &base, Method: result.Of(1), Bar: &result.Bar{Of: result.OfSpeedup, Op: result.AtLeast, Bound: 1.5}}}
	r.Figures[0].Settle()
	r.Judge()
	r.Curves = []result.Curve{{Arm: "adamw", Seed: 1, XName: "step", YName: "loss", X: []float64{1, 2}, Y: []float64{3, 2}}}
	return r
}

func entry(number int, slug, title, summary string) *catalogue.Entry {
	return &catalogue.Entry{Card: card.Card{Number: number, Slug: slug, Title: title, Family: "optimisation", Stage: "optimiser", Tasks: []string{"lm"},
		Summary: summary, Use: "--set optim=" + slug, Limits: "Few.", Claims: []card.Claim{{What: "time", Figure: "2×", Ratio: 2}}}}
}

// papersForTest are a paper of each standing.
func papersForTest() []*catalogue.Entry {
	good := entry(1, "good", "A good optimiser", "Momentum is kept in two buffers and costs little.")
	good.Measured, good.Built = measured("good", 2), true
	direction := entry(2, "direction", "A little better", "Sequences are cut into pieces so that memory stays small.")
	direction.Measured, direction.Built = measured("direction", 1.2), true
	no := entry(3, "no", "Not here", "Gradients are compressed between machines.")
	no.Measured, no.Built, no.Family = measured("no", 0.5), true, "scale"
	planned := entry(4, "planned", `Planned <script>alert("x")</script>`, "Images are sampled at several scales.")
	return []*catalogue.Entry{good, direction, no, planned}
}

// stub measures what is asked for: "direction" takes until it is stopped.
func stub(ctx context.Context, slug string, quick bool, progress func(string)) (result.Result, error) {
	progress("adamw, seed 1")
	if slug == "direction" {
		<-ctx.Done()
		return result.Result{}, ctx.Err()
	}
	r := *measured(slug, 3)
	r.Quick = quick
	return r, nil
}

// site is a page under test.
type site struct {
	*Server
	url    string
	client *http.Client
	runs   string
	db     *state.DB
}

func open(t *testing.T, change func(*Options)) *site {
	t.Helper()
	db, err := state.Open(filepath.Join(t.TempDir(), "hub.db"))
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Papers: papersForTest(), Runs: filepath.Join(t.TempDir(), "runs"), State: db, Measure: stub, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	if change != nil {
		change(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(s.Handler())
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		web.Close()
		db.Close()
	})
	return &site{s, web.URL, &http.Client{Jar: jar, Timeout: 30 * time.Second}, o.Runs, db}
}

func (s *site) do(t *testing.T, method, path, body string, header ...string) (int, string, http.Header) {
	t.Helper()
	r, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
		r.Header.Set(header[i], header[i+1])
	}
	a, err := s.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return a.StatusCode, string(text), a.Header
}

func (s *site) get(t *testing.T, path string) string {
	t.Helper()
	status, text, _ := s.do(t, "GET", path, "")
	if status != http.StatusOK {
		t.Fatalf("%s: status %d: %s", path, status, text)
	}
	return text
}

// log appends lines to the log of a run.
func (s *site) log(t *testing.T, run, lines string) {
	t.Helper()
	dir := filepath.Join(s.Server.runs.Dir(), filepath.FromSlash(run))
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "log.jsonl"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(lines); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

const someLines = `{"step":1,"tokens":100,"seconds":1,"train_loss":4.5,"tokens_per_s":100,"peak_share":0.5,"memory/weights":1048576}
{"step":2,"tokens":200,"seconds":2,"train_loss":3.5,"val_loss":3.75,"tokens_per_s":100,"peak_share":0.5,"memory/weights":1048576,"memory/activations":2097152}
`

// has fails unless a page holds texts, in that order.
func has(t *testing.T, page string, texts ...string) {
	t.Helper()
	rest := page
	for _, text := range texts {
		_, after, ok := strings.Cut(rest, text)
		if !ok {
			t.Errorf("the page lacks %q (in this place):\n%s", text, page)
			return
		}
		rest = after
	}
}

func TestWhatHelpedIsSeenAtOnce(t *testing.T) {
	s := open(t, nil)
	page := s.get(t, "/")
	has(t, page, "4 published speed-ups. 3 were measured", "<b>1</b> hold", "<b>1</b> point", "<b>1</b> did not", "<b>1</b> planned",
		"2×", "as fast: step time", "A good optimiser", "1.2×", "A little better", "0.5×", "Not here", "nothing measured yet", "Planned &lt;script&gt;")
	if strings.Contains(page, "<script>alert") {
		t.Error("a title is taken for HTML")
	}
}

func TestSearchAndFilter(t *testing.T) {
	s := open(t, nil)
	page := s.get(t, "/?q=compressed+gradients&part=found")
	has(t, page, "1 paper found", "Not here")
	if strings.Contains(page, "<html") {
		t.Error("a part is a whole page")
	}
	page = s.get(t, "/?verdict=planned")
	has(t, page, "1 paper,", "Planned")
	if strings.Contains(page, "A good optimiser") {
		t.Error("the filter lets all through")
	}
	has(t, s.get(t, "/?q="+url.QueryEscape(`"><zzz>`+strings.Repeat("é", 400))), "&#34;&gt;&lt;zzz&gt;", "Nothing fits")
	has(t, s.get(t, "/?q=%ff%00&n=-1"), "</html>")
}

func TestPaper(t *testing.T) {
	s := open(t, nil)
	has(t, s.get(t, "/papers/direction"), "The paper claims", "2×", "Measured here", "1.2×", "the bar is ≥ 1.5×", "--set optim=direction", "All figures", "a note &lt;b&gt;", `<svg class="chart"`, "Quick look")
	page := s.get(t, "/papers/planned")
	has(t, page, "How it will be switched on", "There is no experiment to run yet")
	if strings.Contains(page, "Quick look") {
		t.Error("a planned paper can be run")
	}
	if status, page, _ := s.do(t, "GET", "/papers/absent", ""); status != http.StatusNotFound || !strings.Contains(page, "no such paper") {
		t.Errorf("absent: %d %s", status, page)
	}
}

// phase waits until the measurement is over.
func (s *site) over(t *testing.T) {
	t.Helper()
	for range 3000 {
		if j := s.jobs.State(); !j.Active() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the measurement does not end")
}

func TestReproduce(t *testing.T) {
	s := open(t, nil)
	status, page, _ := s.do(t, "POST", "/papers/direction/reproduce", "how=quick")
	if status != http.StatusOK { // after the redirection
		t.Fatalf("status %d: %s", status, page)
	}
	has(t, page, "measuring direction", `data-live="/live/reproduction/direction"`, "Measuring, a quick look", ">Stop<")
	if status, page, _ := s.do(t, "POST", "/papers/good/reproduce", "how=full"); status != http.StatusConflict || !strings.Contains(page, "Another paper is being measured") {
		t.Errorf("a second one: %d", status)
	}
	if status, _, _ := s.do(t, "POST", "/papers/planned/reproduce", ""); status != http.StatusConflict {
		t.Errorf("a planned one: %d", status)
	}
	s.do(t, "POST", "/reproduction/stop", "")
	s.over(t)
	has(t, s.get(t, "/papers/direction"), "Stopped")
	s.do(t, "POST", "/papers/good/reproduce", "how=full")
	s.over(t)
	has(t, s.get(t, "/papers/good"), "2×", "Done", "3×", "full")
	kept, err := s.db.Results(t.Context())
	if err != nil || len(kept["good"]) != 1 || kept["good"][0].Quick || len(kept["direction"]) != 0 {
		t.Errorf("kept %+v, %v", kept, err)
	}
}

func TestScoreboardSorts(t *testing.T) {
	s := open(t, nil)
	has(t, s.get(t, "/scoreboard"), "Of 4 papers 3 were measured", `<svg class="chart wide"`, `aria-sort="ascending"`, "A good", "A little", "Not here", "Show the 1 planned")
	has(t, s.get(t, "/scoreboard?sort=measured&dir=asc"), "<tbody>", "Not here", "A little", "A good")
	has(t, s.get(t, "/scoreboard?sort=paper&planned"), "<tbody>", "A good", "A little", "Not here", "Planned")
	has(t, s.get(t, "/scoreboard?sort=nonsense&dir=x"), "</html>")
}

func TestRunsAreShownAndCompared(t *testing.T) {
	s := open(t, nil)
	has(t, s.get(t, "/runs"), "No run has logged anything", "hasten train")
	s.log(t, "a", someLines)
	s.log(t, "deep/b <x>", someLines+"broken\n")
	has(t, s.get(t, "/runs?run=a&run=deep/b+%3Cx%3E&y=train_loss&x=tokens"), "Runs compared", `class="line hue0"`, `class="line hue1"`, "deep/b &lt;x&gt;", "running")
	has(t, s.get(t, "/runs/a"), "3.5000", "3.7500", "50%", "Loss", `class="line hue1"`, "Throughput", "Memory by kind, 3.0 MiB", "activations", "2.0 MiB", "weights")
	has(t, s.get(t, "/runs/"+url.PathEscape("deep/b <x>")), "line 3 is no record")
	if text := s.get(t, "/runs/a/log.jsonl"); text != someLines {
		t.Errorf("log.jsonl: %s", text)
	}
	rows, err := csv.NewReader(strings.NewReader(s.get(t, "/runs/a/log.csv"))).ReadAll()
	if err != nil || len(rows) != 3 || strings.Join(rows[0][:4], ",") != "step,tokens,seconds,memory/activations" || strings.Join(rows[1][:4], ",") != "1,100,1," {
		t.Errorf("log.csv: %q, %v", rows, err)
	}
	for _, path := range []string{"/runs/absent", "/runs/..%2f..%2fetc", "/runs/absent/log.csv", "/runs/..%2F/log.jsonl"} {
		if status, _, _ := s.do(t, "GET", path, ""); status != http.StatusNotFound {
			t.Errorf("%s: %d", path, status)
		}
	}
}

// events reads server-sent events until one holds a text.
func (s *site) events(t *testing.T, path string, until func(event, data string) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, _ := http.NewRequestWithContext(ctx, "GET", s.url+path, nil)
	a, err := s.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	if a.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s: %s", path, a.Status)
	}
	event, data := "", ""
	lines := bufio.NewScanner(a.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		switch {
		case line == "":
			if until(event, data) {
				return
			}
			event, data = "", ""
		case strings.HasPrefix(line, "event: "):
			event = line[7:]
		case strings.HasPrefix(line, "data: "):
			data += line[6:] + "\n"
		}
	}
	t.Fatalf("%s: it ended at %v", path, lines.Err())
}

func TestLiveRun(t *testing.T) {
	s := open(t, nil)
	s.log(t, "a", someLines)
	n := 0
	s.events(t, "/live/runs/a", func(event, data string) bool {
		n++
		switch n {
		case 1:
			has(t, data, "3.5000")
			s.log(t, "a", `{"step":3,"train_loss":1.25}`+"\n")
			return false
		case 2:
			has(t, data, "1.2500")
			if err := os.WriteFile(filepath.Join(s.runs, "a", "model.safetensors"), nil, 0o666); err != nil {
				t.Fatal(err)
			}
			return false
		}
		has(t, data, "finished")
		return event == "end"
	})
	s.log(t, "b", someLines)
	s.events(t, "/live/runs?run=b", func(_, data string) bool { return strings.Contains(data, "Runs compared") })
}

func TestLiveReproduction(t *testing.T) {
	s := open(t, nil)
	s.do(t, "POST", "/papers/direction/reproduce", "")
	stopped := false
	s.events(t, "/live/reproduction/direction", func(event, data string) bool {
		if !stopped {
			has(t, data, "Measuring")
			stopped = true
			s.do(t, "POST", "/reproduction/stop", "")
		}
		return event == "end" && strings.Contains(data, "Stopped")
	})
}

func TestPasswordIsAskedFor(t *testing.T) {
	if _, err := New(Options{Public: true}); err == nil {
		t.Error("a public page without a password")
	}
	const password = "correct horse battery"
	s := open(t, func(o *Options) { o.Password, o.Public = password, true })
	const elsewhere = "example.org"
	for _, path := range []string{"/", "/papers/good", "/runs", "/nothing"} {
		if status, page, _ := s.do(t, "GET", path, "", "Host", elsewhere); status != http.StatusOK || !strings.Contains(page, `type="password"`) || strings.Contains(page, "A good") {
			t.Errorf("%s: %d %s", path, status, page)
		}
	}
	for _, q := range [][2]string{{"POST", "/papers/good/reproduce"}, {"POST", "/theme"}, {"GET", "/live/runs"}} {
		if status, _, _ := s.do(t, q[0], q[1], ""); status != http.StatusUnauthorized {
			t.Errorf("%s: %d", q, status)
		}
	}
	if status, _, _ := s.do(t, "GET", "/assets/style.css", ""); status != http.StatusOK {
		t.Errorf("the style of the login page: %d", status)
	}
	if status, page, _ := s.do(t, "POST", "/login", "password=wrong"); status != http.StatusUnauthorized || !strings.Contains(page, "not the password") {
		t.Errorf("a wrong password: %d", status)
	}
	status, page, _ := s.do(t, "POST", "/login", "password="+url.QueryEscape(password))
	if status != http.StatusOK || !strings.Contains(page, "A good optimiser") {
		t.Fatalf("the password: %d %s", status, page)
	}
	here, _ := url.Parse(s.url)
	session := s.client.Jar.Cookies(here)[0]
	if session.Name != sessionCookie {
		t.Fatalf("cookie %v", session)
	}
	s.do(t, "POST", "/logout", "")
	s.client.Jar.SetCookies(here, []*http.Cookie{session})
	if page := s.get(t, "/"); !strings.Contains(page, `type="password"`) {
		t.Error("a session goes on after its end")
	}
	for range 10 {
		status, _, _ = s.do(t, "POST", "/login", "password=wrong")
	}
	if status != http.StatusTooManyRequests {
		t.Errorf("the eleventh try: %d", status)
	}
}

func TestSessionCookie(t *testing.T) {
	s := newSessions("correct horse battery", newViews())
	w := httptest.NewRecorder()
	r := httptest.NewRequest("POST", "/login", strings.NewReader("password=correct+horse+battery"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	s.login(w, r)
	c := w.Result().Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || len(c.Value) < 26 {
		t.Errorf("%+v", c)
	}
}

func TestGuard(t *testing.T) {
	s := open(t, nil)
	for host, want := range map[string]int{"localhost:1": 200, "127.0.0.1": 200, "[::1]:8080": 200, "evil.example": 421, "127.0.0.1.evil.example:80": 421, "10.0.0.1": 421, "": 421} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("host %q: %d, want %d", host, w.Code, want)
		}
	}
	for _, h := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"}} {
		for _, path := range []string{"/papers/good/reproduce", "/reproduction/stop", "/theme"} {
			if status, _, _ := s.do(t, "POST", path, "", h...); status != http.StatusForbidden {
				t.Errorf("%s with %s: %d", path, h, status)
			}
		}
	}
	if j := s.jobs.State(); j.Slug != "" {
		t.Error("another site has started a measurement")
	}
	if status, _, _ := s.do(t, "POST", "/theme", "back="+strings.Repeat("x", 2*maxBody)); status != http.StatusSeeOther && status != http.StatusOK {
		t.Errorf("a large form: %d", status)
	}
	_, _, h := s.do(t, "GET", "/", "")
	if p := h.Get("Content-Security-Policy"); !strings.Contains(p, "default-src 'none'") || strings.Contains(p, "unsafe") || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("headers %v", h)
	}
}

func TestTooManyRequestsAreRefused(t *testing.T) {
	s := open(t, nil)
	status := 0
	for range burst + 60 {
		if status, _, _ = s.do(t, "GET", "/assets/icon.svg", ""); status == http.StatusTooManyRequests {
			break
		}
	}
	if status != http.StatusTooManyRequests {
		t.Errorf("the last of many: %d", status)
	}
	g := newGuard("", false, nil)
	for i := range 3 * maxAddresses {
		g.allow(fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255))
	}
	if len(g.rates) > maxAddresses {
		t.Errorf("%d addresses are kept", len(g.rates))
	}
	for i := range burst { // addresses of one network are one visitor
		g.allow(fmt.Sprintf("[2001:db8::%x]:1", i+1))
	}
	if g.allow("[2001:db8::ffff]:1") || !g.allow("[2001:db8:1::1]:1") {
		t.Error("limits of IPv6 addresses")
	}
}

func TestThemeIsRemembered(t *testing.T) {
	s := open(t, nil)
	_, page, _ := s.do(t, "POST", "/theme", "theme=dark&back=/scoreboard")
	has(t, page, `data-theme="dark"`, "Claims against")
	for _, to := range []string{"//evil.example", "https://evil.example", `/\evil.example`, ""} {
		r := httptest.NewRequest("POST", "/theme", strings.NewReader(url.Values{"back": {to}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if got := back(r); got != "/" {
			t.Errorf("back to %q leads to %q", to, got)
		}
	}
	if _, page, _ := s.do(t, "POST", "/theme", "theme=auto"); strings.Contains(page, "data-theme") {
		t.Error("auto is not the visitor's own")
	}
}

// The policy forbids what pages might hold inside themselves.
func TestPagesHoldNoScriptsOrStyles(t *testing.T) {
	s := open(t, nil)
	s.log(t, "a", someLines)
	inside := regexp.MustCompile(`<style|\sstyle=|\son\w+=|<script>|javascript:`)
	for _, path := range []string{"/", "/papers/good", "/scoreboard", "/runs?run=a", "/runs/a", "/nothing"} {
		_, page, _ := s.do(t, "GET", path, "")
		if found := inside.FindString(page); found != "" {
			t.Errorf("%s holds %q", path, found)
		}
	}
	names, err := fs.Glob(files, "assets/*")
	if err != nil || len(names) < 3 {
		t.Fatalf("assets %v, %v", names, err)
	}
	for _, name := range names {
		status, _, h := s.do(t, "GET", "/"+name, "")
		if status != http.StatusOK || h.Get("Content-Type") == "" {
			t.Errorf("%s: %d %v", name, status, h)
		}
	}
	if status, _, _ := s.do(t, "GET", "/assets/..%2fhub.go", ""); status != http.StatusNotFound {
		t.Errorf("a file that is no asset: %d", status)
	}
}

func TestMountedPages(t *testing.T) {
	s := open(t, nil)
	s.Mount("/digest", "Digest", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.Page(w, r, http.StatusAccepted, "Digest", "<h1>Every day</h1>")
	}))
	for _, path := range []string{"/digest", "/digest/confirm"} {
		status, page, _ := s.do(t, "GET", path, "")
		if status != http.StatusAccepted {
			t.Errorf("%s: %d", path, status)
		}
		has(t, page, `<a href="/digest" aria-current="page">Digest</a>`, "<h1>Every day</h1>")
	}
}

// Vectors are learnt once and kept.
func TestVectorsAreKept(t *testing.T) {
	db, err := state.Open(filepath.Join(t.TempDir(), "hub.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	count := func() (n int) {
		if err := db.SQL.QueryRow(`SELECT count(*) FROM cache`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for range 2 {
		s, err := New(Options{Papers: papersForTest(), State: db, Measure: stub})
		if err != nil {
			t.Fatal(err)
		}
		s.work.Wait()
		if err := s.Close(); err != nil || count() != 1 {
			t.Errorf("%v; %d values are kept", err, count())
		}
	}
}

// Serve ends when its context does, and with it a measurement and live pages.
func TestServeEndsInOrder(t *testing.T) {
	db, err := state.Open(filepath.Join(t.TempDir(), "hub.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s, err := New(Options{Papers: papersForTest(), Runs: t.TempDir(), State: db, Measure: stub})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	here := "http://" + l.Addr().String()
	if a, err := http.PostForm(here+"/papers/direction/reproduce", nil); err != nil {
		t.Fatal(err)
	} else {
		a.Body.Close()
	}
	live, err := http.Get(here + "/live/reproduction/direction")
	if err != nil {
		t.Fatal(err)
	}
	defer live.Body.Close()
	stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it does not end")
	}
	if j := s.jobs.State(); j.Active() {
		t.Errorf("the measurement goes on: %+v", j)
	}
	if _, err := io.ReadAll(live.Body); err != nil {
		t.Errorf("a live page: %v", err)
	}
}

func TestLoopback(t *testing.T) {
	for addr, want := range map[string]bool{"127.0.0.1:8080": true, "localhost:1": true, "[::1]:1": true, "127.8.9.1:1": true, ":8080": false, "0.0.0.0:1": false, "[::]:1": false, "192.168.1.2:1": false, "example.org:80": false, "nonsense": false} {
		if got := Loopback(addr); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
}

// Every paper of this program has a page.
func TestEveryPaperHasAPage(t *testing.T) {
	all := Papers()
	s := open(t, func(o *Options) { o.Papers = all })
	for _, e := range all {
		w := httptest.NewRecorder()
		s.mux.ServeHTTP(w, httptest.NewRequest("GET", "/papers/"+e.Slug, nil))
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "</html>") {
			t.Errorf("%s: %d", e.Slug, w.Code)
		}
	}
}

// The promise is a search within 20 ms at 10,000 papers, page and all.
func BenchmarkSearchPage10000(b *testing.B) {
	db, err := state.Open(filepath.Join(b.TempDir(), "hub.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	source := Papers()
	var all []*catalogue.Entry
	for i := range 10000 {
		e := *source[i%len(source)]
		other := source[(i*7+i/len(source))%len(source)]
		e.Number, e.Slug, e.Summary = i+1, fmt.Sprint(e.Slug, "-", i), e.Summary+" "+other.Summary
		all = append(all, &e)
	}
	s, err := New(Options{Papers: all, State: db, Measure: stub})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	s.work.Wait() // search by meaning, too
	for b.Loop() {
		w := httptest.NewRecorder()
		s.mux.ServeHTTP(w, httptest.NewRequest("GET", "/?q=less+memory+for+long+sequences&part=found", nil))
		if w.Code != http.StatusOK {
			b.Fatal(w.Body.String())
		}
	}
}
