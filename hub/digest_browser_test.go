package hub

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/emersion/go-smtp"

	"hasten/hub/digest"
)

// mailbox is a mail server on loopback that keeps what it gets.
type mailbox struct {
	mu    sync.Mutex
	mails []string
}

func (b *mailbox) NewSession(*smtp.Conn) (smtp.Session, error) { return b, nil }
func (b *mailbox) Mail(string, *smtp.MailOptions) error        { return nil }
func (b *mailbox) Rcpt(string, *smtp.RcptOptions) error        { return nil }
func (b *mailbox) Reset()                                      {}
func (b *mailbox) Logout() error                               { return nil }

func (b *mailbox) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mails = append(b.mails, string(text))
	return err
}

// links are those of the newest mail, once there are n mails.
func (b *mailbox) links(t *testing.T, n int) map[string]string {
	t.Helper()
	for range 1000 {
		b.mu.Lock()
		var text string
		if len(b.mails) >= n {
			text = b.mails[n-1]
		}
		b.mu.Unlock()
		if text != "" {
			text = strings.NewReplacer("=\r\n", "", "=3D", "=").Replace(text) // quoted-printable
			all := map[string]string{}
			for _, m := range regexp.MustCompile(`http://[\w.:]+/digest/(\w+)\?t=[\w-]+`).FindAllStringSubmatch(text, -1) {
				all[m[1]] = m[0]
			}
			return all
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("mail %d does not come", n)
	return nil
}

// daily mounts a digest on a site, with a mail server and a paper.
func daily(t *testing.T, s *site) (*digest.Digest, *mailbox) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	box := new(mailbox)
	server := smtp.NewServer(box)
	server.Domain = "localhost"
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	path := filepath.Join(t.TempDir(), "digest.toml")
	config := fmt.Sprintf("page = %q\n[mail]\nhost = \"127.0.0.1\"\nport = %d\ntls = \"none\"\nfrom = \"digest@example.org\"\n", s.url, l.Addr().(*net.TCPAddr).Port)
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := digest.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	d, err := digest.Open(t.Context(), c, s.db, digest.Options{Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	s.Mount(digest.Path, "Daily papers", d.Handler(s.Page))
	s.Tokened(digest.Tokened...)
	now := time.Now()
	if _, err := d.Keep(t.Context(), []digest.Paper{
		{ArXiv: "2603.00001", Title: "Gradients on a slow network", Summary: "Fewer bytes are sent.", URL: "https://arxiv.org/abs/2603.00001", Authors: []string{"Ann"}, Votes: 3, Published: now.Add(-time.Hour)},
		{ArXiv: "2603.00002", Title: "Images from noise <b>fast</b>", Summary: "A few steps.", URL: "https://arxiv.org/abs/2603.00002", Authors: []string{"Bo"}, Published: now.Add(-2 * time.Hour)},
	}); err != nil {
		t.Fatal(err)
	}
	return d, box
}

// A person tries topics, subscribes, follows the mail's link, changes the
// topics, gets the mail and ends it.
func TestSubscribeInABrowser(t *testing.T) {
	ctx := browser(t)
	s := open(t, nil)
	d, box := daily(t, s)
	const titles = `[...document.querySelectorAll(".digest .list h3")].map(h => h.textContent).join("|")`

	do(t, ctx, "the page", chromedp.Navigate(s.url+"/"), chromedp.Click(chromedp.CSS(`nav a[href="/digest"]`)))
	comes(t, ctx, "what is trending", titles+` === "Gradients on a slow network|Images from noise <b>fast</b>"`)
	do(t, ctx, "trying topics", chromedp.SendKeys(chromedp.CSS("#try"), "noise"), chromedp.Click(chromedp.CSS(".ask button")))
	comes(t, ctx, "what fits", titles+` === "Images from noise <b>fast</b>"`)
	if got := value[string](t, ctx, `document.querySelector("#topics").value`); got != "noise" {
		t.Errorf("the form to subscribe has the topics %q", got)
	}
	if got := value[string](t, ctx, `getComputedStyle(document.querySelector("#address")).borderRadius`); got != "8px" {
		t.Errorf("the style sheet is not in force: %s", got)
	}
	do(t, ctx, "subscribing", chromedp.SendKeys(chromedp.CSS("#address"), "ann@example.org"), chromedp.SetValue(chromedp.CSS("#hour"), "0"), chromedp.Click(chromedp.CSS(".fields .go")))
	comes(t, ctx, "the answer", `document.body.innerText.includes("Look into your mailbox")`)
	if err := d.Answer(t.Context()); err != nil {
		t.Fatal(err)
	}
	do(t, ctx, "the link of the mail", chromedp.Navigate(box.links(t, 1)["confirm"]), chromedp.Click(chromedp.CSS(".digest .go")))
	comes(t, ctx, "the confirmation", `document.body.innerText.includes("You are subscribed") && document.querySelector("#topics").value === "noise" && document.querySelector("#hour").value === "0"`)
	if r, err := d.Send(t.Context(), true); err != nil || len(r.Deliveries) != 1 || r.Deliveries[0].Papers != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	links := box.links(t, 2)
	do(t, ctx, "the preferences", chromedp.Navigate(links["preferences"]), chromedp.SetValue(chromedp.CSS("#topics"), "networks"), chromedp.Click(chromedp.CSS(".fields .go")))
	comes(t, ctx, "that they are kept", `document.body.innerText.includes("That is noted") && document.querySelector("#topics").value === "networks"`)
	do(t, ctx, "the end", chromedp.Navigate(links["unsubscribe"]), chromedp.Click(chromedp.CSS(".digest .go")))
	comes(t, ctx, "that it is", `document.body.innerText.includes("You are unsubscribed")`)
	if all, err := d.Readers(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
	for _, path := range []string{"/digest", "/digest/elsewhere"} {
		do(t, ctx, path, chromedp.EmulateViewport(360, 740), chromedp.Navigate(s.url+path))
		if width := value[int](t, ctx, `document.documentElement.scrollWidth`); width > 360 {
			t.Errorf("%s is %d wide on a phone", path, width)
		}
	}
}

// With a password, the links of mails work without it, also for a mail
// provider's one click from elsewhere; all else asks for it.
func TestLinksOfMailsNeedNoPassword(t *testing.T) {
	s := open(t, func(o *Options) { o.Password = "a long password" })
	d, box := daily(t, s)
	web := &http.Server{Handler: s.Handler()}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go web.Serve(l)
	t.Cleanup(func() { web.Close() })
	s.url = "http://" + l.Addr().String() // the handler with what was mounted
	if err := d.Add(t.Context(), digest.Reader{Address: "ann@example.org", Zone: "UTC"}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Send(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	links := box.links(t, 1)
	u, err := url.Parse(links["unsubscribe"])
	if err != nil {
		t.Fatal(err)
	}
	foreign := []string{"Origin", "https://mail.example.com", "Sec-Fetch-Site", "cross-site"}
	if status, page, _ := s.do(t, "POST", "/digest", "address=a@example.org&hour=7&zone=UTC", foreign...); status != http.StatusForbidden {
		t.Errorf("subscribing from elsewhere: %d %s", status, page)
	}
	if status, page, _ := s.do(t, "POST", "/digest", "address=a@example.org&hour=7&zone=UTC"); status != http.StatusUnauthorized {
		t.Errorf("subscribing without the password: %d %s", status, page)
	}
	if status, page, _ := s.do(t, "POST", "/digest/unsubscribe?t=forged", "List-Unsubscribe=One-Click", foreign...); status != http.StatusForbidden || !strings.Contains(page, "no longer good") {
		t.Errorf("a forged token: %d %s", status, page)
	}
	if status, page, _ := s.do(t, "POST", u.RequestURI(), "List-Unsubscribe=One-Click", foreign...); status != http.StatusOK || !strings.Contains(page, "You are unsubscribed") {
		t.Errorf("one click: %d %s", status, page)
	}
	if all, err := d.Readers(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
}
