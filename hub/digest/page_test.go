package digest

import (
	"fmt"
	"html/template"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// ask sends a request to the pages.
func (k *desk) ask(t *testing.T, method, target string, form url.Values) (int, string) {
	t.Helper()
	r := httptest.NewRequest(method, strings.TrimPrefix(target, "https://hasten.example.org"), strings.NewReader(form.Encode()))
	if method == "POST" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	w := httptest.NewRecorder()
	k.Handler(func(w http.ResponseWriter, r *http.Request, status int, title string, body template.HTML) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}).ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

var linkIn = regexp.MustCompile(`https://hasten\.example\.org/digest/\w+\?t=[\w-]+`)

func wishes(address string) url.Values {
	return url.Values{"address": {address}, "topics": {"attention, diffusion"}, "hour": {"6"}, "zone": {"Europe/Berlin"}}
}

// From the form to the last mail, as a reader goes through it.
func TestSubscribeConfirmChangeUnsubscribe(t *testing.T) {
	s := startServer(t)
	k := open(t, configFile(t, s, ""))
	k.keep(t, papers()...)
	status, answer := k.ask(t, "POST", "/digest", wishes("Ann@Example.ORG"))
	if status != 200 || !strings.Contains(answer, "Look into your mailbox") {
		t.Fatalf("%d %s", status, answer)
	}
	if err := k.Answer(t.Context()); err != nil {
		t.Fatal(err)
	}
	mails := s.received(t)
	if len(mails) != 1 || mails[0].to != "Ann@example.org" || !strings.Contains(mails[0].text, "06:00 (Europe/Berlin), about") || !strings.Contains(mails[0].html, "attention, diffusion") {
		t.Fatalf("%+v", mails)
	}
	link := linkIn.FindString(mails[0].text)
	if r, err := k.Send(t.Context(), true); err != nil || len(r.Deliveries) != 0 {
		t.Errorf("before confirmation: %+v, %v", r, err)
	}
	if status, page := k.ask(t, "GET", link, nil); status != 200 || !strings.Contains(page, "One more click") {
		t.Errorf("%d %s", status, page)
	}
	if all, _ := k.Readers(t.Context()); !all[0].Since.IsZero() {
		t.Error("a link that a scanner follows confirms")
	}
	token := link[strings.Index(link, "=")+1:]
	status, page := k.ask(t, "POST", "/digest/confirm", url.Values{"t": {token}})
	if status != 200 || !strings.Contains(page, "You are subscribed") || !strings.Contains(page, `value="attention, diffusion"`) {
		t.Errorf("%d %s", status, page)
	}
	k.clock = morning.AddDate(0, 0, 1)
	if r := k.send(t); r.Count(stateSent) != 1 {
		t.Fatalf("%+v", r)
	}
	daily := s.received(t)[1]
	var prefs, stop string
	for _, l := range linkIn.FindAllString(daily.text, -1) {
		if strings.Contains(l, "/preferences") {
			prefs = l
		} else {
			stop = l
		}
	}
	if status, page := k.ask(t, "GET", prefs, nil); status != 200 || !strings.Contains(page, "Ann@example.org") || !strings.Contains(page, `<option value="6" selected>06:00`) {
		t.Errorf("%d %s", status, page)
	}
	change := wishes("other@example.org") // an address cannot be changed
	change.Set("t", prefs[strings.Index(prefs, "=")+1:])
	change.Set("topics", "graphs")
	if status, page := k.ask(t, "POST", "/digest/preferences", change); status != 200 || !strings.Contains(page, "That is noted") {
		t.Errorf("%d %s", status, page)
	}
	if all, _ := k.Readers(t.Context()); all[0].Address != "Ann@example.org" || strings.Join(all[0].Topics, "|") != "graphs" {
		t.Errorf("%+v", all)
	}
	change.Set("zone", "Mars/Base")
	if status, page := k.ask(t, "POST", "/digest/preferences", change); status != 422 || !strings.Contains(page, "is no time zone such as Europe/Berlin.") {
		t.Errorf("%d %s", status, page)
	}
	if status, page := k.ask(t, "GET", stop, nil); status != 200 || !strings.Contains(page, `action="/digest/unsubscribe"`) {
		t.Errorf("%d %s", status, page)
	}
	// RFC 8058: a POST to the address of the header, with this body.
	header := strings.Trim(daily.header.Get("List-Unsubscribe"), "<>")
	if status, page := k.ask(t, "POST", header, url.Values{"List-Unsubscribe": {"One-Click"}}); status != 200 || !strings.Contains(page, "You are unsubscribed") {
		t.Errorf("%d %s", status, page)
	}
	if all, _ := k.Readers(t.Context()); len(all) != 0 {
		t.Errorf("%+v", all)
	}
	if status, _ := k.ask(t, "POST", header, nil); status != 200 {
		t.Errorf("a second click: %d", status)
	}
	if status, _ := k.ask(t, "POST", "/digest/confirm", url.Values{"t": {token}}); status != 403 {
		t.Errorf("an old link brings the reader back: %d", status)
	}
}

// The answer to a known address is that to an unknown one, and a mailbox is not
// filled.
func TestNobodyLearnsWhoReads(t *testing.T) {
	s := startServer(t)
	k := open(t, configFile(t, s, ""))
	k.reader(t, "known@example.org")
	_, known := k.ask(t, "POST", "/digest", wishes("known@example.org"))
	_, fresh := k.ask(t, "POST", "/digest", wishes("fresh@example.org"))
	_, again := k.ask(t, "POST", "/digest", wishes("fresh@example.org"))
	if known != fresh || fresh != again {
		t.Errorf("answers differ:\n%s\n%s\n%s", known, fresh, again)
	}
	if err := k.Answer(t.Context()); err != nil {
		t.Fatal(err)
	}
	mails := s.received(t)
	if len(mails) != 2 || !strings.Contains(mails[0].text, "You get\r\nthem already") || !strings.Contains(mails[1].text, "/digest/confirm?t=") {
		t.Errorf("%+v", mails)
	}
	if all, _ := k.Readers(t.Context()); len(all[0].Topics) != 0 {
		t.Error("someone else changed a reader's topics")
	}
	for range 10 {
		k.clock = k.clock.Add(askApart)
		if err := k.Subscribe(t.Context(), Reader{Address: "fresh@example.org", Hour: 7, Zone: "UTC"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.Answer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(s.received(t)); n != 2+asksADay-1 {
		t.Errorf("%d mails", n)
	}
}

func TestSubscribingIsBounded(t *testing.T) {
	k := open(t, "")
	if status, page := k.ask(t, "POST", "/digest", wishes("ann@example.org")); status != 503 || !strings.Contains(page, closed) {
		t.Errorf("without a mail server: %d %s", status, page)
	}
	k.Digest.config.Mail.Host = "smtp.example.org"
	for i := range eachBurst + 1 {
		status, page := k.ask(t, "POST", "/digest", wishes(fmt.Sprintf("r%d@example.org", i)))
		if want := map[bool]int{false: 200, true: 429}[i == eachBurst]; status != want {
			t.Fatalf("request %d: %d %s", i, status, page)
		}
	}
}

func TestWhatCannotBeSubscribed(t *testing.T) {
	k := open(t, "")
	k.Digest.config.Mail.Host = "smtp.example.org"
	for _, c := range []struct{ name, field, value, want string }{
		{"no address", "address", "nobody", "That is no e-mail address"},
		{"a name", "address", "Ann <ann@example.org>", "That is no e-mail address"},
		{"a header", "address", "ann@example.org\r\nBcc: b@example.org", "That is no e-mail address"},
		{"two", "address", "a@example.org, b@example.org", "That is no e-mail address"},
		{"hour", "hour", "24", "The hour is from 0 to 23"},
		{"no hour", "hour", "noon", "The hour is from 0 to 23"},
		{"zone", "zone", "../../etc/passwd", "is no time zone"},
		{"local zone", "zone", "Local", "is no time zone"},
		{"topics", "topics", "aa,bb,cc,dd,ee,ff,gg,hh,ii,jj,kk", "Those are 11 topics"},
		{"a script", "address", `"><script>alert(1)</script>`, "&#34;&gt;&lt;script&gt;"},
	} {
		form := wishes("ann@example.org")
		form.Set(c.field, c.value)
		status, page := k.ask(t, "POST", "/digest", form)
		if status != 422 || !strings.Contains(page, c.want) {
			t.Errorf("%s: %d %s", c.name, status, page)
		}
		k.limits = newLimits()
	}
	if all, err := k.Readers(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestPreviewOnThePage(t *testing.T) {
	k := open(t, "")
	if _, page := k.ask(t, "GET", "/digest", nil); !strings.Contains(page, "No papers have been fetched yet") {
		t.Error(page)
	}
	k.keep(t, papers()...)
	_, page := k.ask(t, "GET", "/digest?topics=attention", nil)
	if !strings.Contains(page, "What a reader with these topics") || !strings.Contains(page, "Attention without") {
		t.Error(page)
	}
	for _, target := range []string{"/digest?topics=%ff%00%22*(", "/digest?topics=" + strings.Repeat("NEAR,OR,", 500)} {
		if status, page := k.ask(t, "GET", target, nil); status != 200 {
			t.Errorf("%s: %d %s", target, status, page)
		}
	}
	if status, _ := k.ask(t, "GET", "/digest/elsewhere", nil); status != 404 {
		t.Errorf("status %d", status)
	}
}

func TestTokens(t *testing.T) {
	k := open(t, "")
	token := k.token(confirm, 7)
	if id, err := k.readToken(confirm, token); id != 7 || err != nil {
		t.Errorf("%d, %v", id, err)
	}
	if _, err := k.readToken(unsubscribe, token); err == nil {
		t.Error("it is good for another purpose")
	}
	for i := range token {
		for _, c := range []byte{'A', 'B'} {
			if forged := token[:i] + string(c) + token[i+1:]; forged != token {
				if _, err := k.readToken(confirm, forged); err == nil {
					t.Fatalf("%s is as good as %s", forged, token)
				}
			}
		}
	}
	other := open(t, "")
	if _, err := other.readToken(confirm, token); err == nil {
		t.Error("it is good elsewhere")
	}
	stop := k.token(unsubscribe, 7)
	k.clock = morning.Add(confirmLasts + time.Second)
	if _, err := k.readToken(confirm, token); err == nil {
		t.Error("it does not expire")
	}
	k.clock = morning.AddDate(20, 0, 0)
	if _, err := k.readToken(unsubscribe, stop); err != nil {
		t.Error("one cannot unsubscribe any more")
	}
}

func TestConfig(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "digest.toml")
	load := func(text string) (Config, error) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return Load(path)
	}
	c, err := load("page = \"https://x.org/\"\n[mail]\nhost = \"smtp.x.org\"\ntls = \"implicit\"\nfrom = \"d@x.org\"\npassword_file = \"secret\"\n")
	if err != nil || c.Page != "https://x.org" || c.Mail.Port != 465 || c.Papers != 12 || len(c.Feeds) != 2 || c.Mail.PasswordFile != filepath.Join(dir, "secret") || c.Mail.Timeout != 30*time.Second {
		t.Errorf("%+v, %v", c, err)
	}
	if err := os.WriteFile(c.Mail.PasswordFile, []byte("pass word\r\nmore"), 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := c.Mail.password(); p != "pass word" || err != nil {
		t.Errorf("%q, %v", p, err)
	}
	for text, want := range map[string]string{
		"page = 3":           "line 1",
		"pages = \"x\"":      `there is no setting "pages"`,
		"page = \"ftp://x\"": "page:",
		"papers = 0":         "papers: 0",
		"days = 99":          "days: 99",
		"[[feed]]\nkind = \"rss\"\nurl = \"https://x.org\"":   `kind: "rss"`,
		"[[feed]]\nkind = \"arxiv\"\nurl = \"file:///etc\"":   "no http or https address",
		"[mail]\nhost = \"x.org\"":                            "mail.from",
		"[mail]\nhost = \"x.org\"\ntls = \"none\"":            "in clear",
		"[mail]\nhost = \"x.org\"\ntls = \"ssl\"":             "mail.tls",
		"[mail]\nhost = \"x.org\"\nport = 70000":              "mail.port",
		"[mail]\nhost = \"x.org\"\nfrom = \"a@x\"\ntries = 0": "mail.tries",
	} {
		if _, err := load(text); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), path) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
