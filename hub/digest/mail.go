package digest

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	html "html/template"
	"net/mail"
	"net/url"
	"strings"
	text "text/template"
	"time"
	"unicode/utf8"

	gomail "github.com/wneessen/go-mail"
)

//go:embed templates
var files embed.FS

var funcs = map[string]any{
	"add":     func(a, b int) int { return a + b },
	"brief":   func(s string) string { return tidyEnd(s, 320) },
	"authors": authors,
	"votes":   votes,
	"date":    func(t time.Time) string { return t.Format("2 January 2006") },
	"wrap":    wrap,
	"join":    strings.Join,
	"clock":   func(hour int) string { return fmt.Sprintf("%02d:00", hour) },
}

var (
	htmlMails = html.Must(html.New("").Funcs(funcs).ParseFS(files, "templates/mail_*.html"))
	textMails = text.Must(text.New("").Funcs(funcs).ParseFS(files, "templates/mail_*.txt"))
)

// Kinds of mail.
const (
	kindDigest  = "digest"
	kindConfirm = "confirm" // is the address yours?
	kindKnown   = "known"   // you are a reader already
)

// letter is what a mail says.
type letter struct {
	Day         string // Monday, 2 January 2006
	Papers      []Ranked
	Reader      Reader
	Page        string
	Confirm     string // links
	Preferences string
	Unsubscribe string
}

func (d *Digest) letterTo(r Reader, papers []Ranked) letter {
	l := letter{Papers: papers, Reader: r, Page: d.config.Page + "/digest",
		Confirm: d.link(confirm, r.ID), Preferences: d.link(preferences, r.ID), Unsubscribe: d.link(unsubscribe, r.ID)}
	now := d.now().UTC()
	if loc, err := zone(r.Zone); err == nil {
		now = now.In(loc)
	}
	l.Day = now.Format("Monday, 2 January 2006")
	return l
}

// Text is the digest of papers as the text part of a mail has it.
func (d *Digest) Text(papers []Ranked) (string, error) {
	var b strings.Builder
	err := textMails.ExecuteTemplate(&b, "list", letter{Papers: papers})
	return b.String(), err
}

// compose writes a mail. Two mails with the same key (such as reader and day)
// have the same Message-ID, so that one that came twice is seen to be one.
func (d *Digest) compose(kind, key string, r Reader, papers []Ranked) (*gomail.Msg, error) {
	l := d.letterTo(r, papers)
	from, err := mail.ParseAddress(d.config.Mail.From)
	if err != nil {
		return nil, fmt.Errorf("mail.from: %w", err)
	}
	id := hex.EncodeToString(d.sign([]byte("message " + kind + " " + key)))
	boundary := sha256.Sum256([]byte(id))
	m := gomail.NewMsg(gomail.WithNoDefaultUserAgent(), gomail.WithBoundary(hex.EncodeToString(boundary[:16])))
	m.FromMailAddress(from)
	m.ToMailAddress(&mail.Address{Address: r.Address})
	m.SetDateWithValue(d.now())
	m.SetMessageIDWithValue(id + from.Address[strings.LastIndexByte(from.Address, '@'):])
	m.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no holiday replies
	switch kind {
	case kindDigest:
		m.Subject(subject(papers))
		host := ""
		if u, err := url.Parse(d.config.Page); err == nil {
			host = u.Hostname()
		}
		m.SetGenHeader("List-Id", "hasten digest <digest."+host+">")
		// RFC 8058 allows one click over HTTPS only.
		if strings.HasPrefix(l.Unsubscribe, "https:") {
			err = m.SetListUnsubscribeOneClick(l.Unsubscribe)
		} else {
			m.SetListUnsubscribe(l.Unsubscribe)
		}
		if err != nil {
			return nil, err
		}
	case kindConfirm:
		m.Subject("Confirm your daily papers")
	case kindKnown:
		m.Subject("You get the daily papers already")
	}
	var plain, rich bytes.Buffer
	if err := textMails.ExecuteTemplate(&plain, "mail_"+kind+".txt", l); err != nil {
		return nil, err
	}
	if err := htmlMails.ExecuteTemplate(&rich, "mail_"+kind+".html", l); err != nil {
		return nil, err
	}
	m.SetBodyString(gomail.TypeTextPlain, plain.String())
	m.AddAlternativeString(gomail.TypeTextHTML, rich.String())
	return m, nil
}

// subject names the first paper, and says how many more there are.
func subject(papers []Ranked) string {
	s := tidyEnd(papers[0].Title, 90)
	if n := len(papers) - 1; n > 0 {
		s += fmt.Sprintf(" (and %d more)", n)
	}
	return s
}

// tidyEnd cuts a text after a word so that it has at most n characters.
func tidyEnd(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	s = string([]rune(s)[:n-1])
	if i := strings.LastIndexByte(s, ' '); i > n/2 {
		s = s[:i]
	}
	return strings.TrimRight(s, " ,.;:") + "…"
}

func authors(names []string) string {
	if len(names) > 3 {
		return strings.Join(names[:2], ", ") + fmt.Sprintf(" and %d others", len(names)-2)
	}
	return strings.Join(names, ", ")
}

func votes(n int) string {
	switch n {
	case 0:
		return ""
	case 1:
		return "1 vote"
	}
	return fmt.Sprintf("%d votes", n)
}

// lineLength is that of text in mails and terminals.
const lineLength = 76

// wrap breaks a text into lines, each behind an indent.
func wrap(indent, s string) string {
	var b strings.Builder
	length := 0
	for i, w := range strings.Fields(s) {
		n := utf8.RuneCountInString(w)
		switch {
		case i == 0:
			b.WriteString(indent)
			length = len(indent)
		case length+1+n > lineLength:
			b.WriteString("\n" + indent)
			length = len(indent)
		default:
			b.WriteByte(' ')
			length++
		}
		b.WriteString(w)
		length += n
	}
	return b.String()
}
