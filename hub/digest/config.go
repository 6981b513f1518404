package digest

import (
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// Config is the digest's configuration, a TOML file:
//
//	page   = "https://hasten.example.org" # where readers reach the page; for links
//	papers = 12                           # in one mail, at most: 1 to 50
//	days   = 7                            # how old a paper may be: 1 to 60
//
//	[mail]
//	host = "smtp.example.org"
//	port = 587                 # 587 for starttls, 465 for implicit TLS
//	tls  = "starttls"          # or "implicit"; "none" on loopback only
//	ca   = ""                  # PEM file of the authority to trust, "" for the system's
//	user = "digest"            # "" sends without logging in
//	password_env  = "HASTEN_SMTP_PASSWORD" # variable that holds the password,
//	password_file = ""                     # or file whose first line does
//	from    = "hasten <digest@example.org>"
//	timeout = "30s"            # for one step of the conversation
//	tries   = 4                # of a mail in one run, 1 to 10
//
//	[[feed]]                   # as many as wanted; none: arXiv and Hugging Face
//	name = "arXiv"
//	kind = "arxiv"             # Atom as arXiv writes it; or "huggingface", daily papers in JSON
//	url  = "https://export.arxiv.org/api/query?…"
//
// What is left out has the value shown, except host, user and from.
type Config struct {
	Page   string `toml:"page"`
	Papers int    `toml:"papers"`
	Days   int    `toml:"days"`
	Mail   Mail   `toml:"mail"`
	Feeds  []Feed `toml:"feed"`
}

// Mail says how mails leave.
type Mail struct {
	Host         string        `toml:"host"`
	Port         int           `toml:"port"`
	TLS          string        `toml:"tls"`
	CA           string        `toml:"ca"`
	User         string        `toml:"user"`
	PasswordEnv  string        `toml:"password_env"`
	PasswordFile string        `toml:"password_file"`
	From         string        `toml:"from"`
	Timeout      time.Duration `toml:"timeout"`
	Tries        int           `toml:"tries"`
}

// Feed is where papers come from.
type Feed struct {
	Name string `toml:"name" json:"name"`
	Kind string `toml:"kind" json:"kind"`
	URL  string `toml:"url" json:"url"`
}

// Kinds of feed.
const (
	ArXiv       = "arxiv"
	HuggingFace = "huggingface"
)

// Ways to encrypt.
const (
	startTLS    = "starttls"
	implicitTLS = "implicit"
	noTLS       = "none"
)

// Default is the configuration without a file: it can fetch and rank, and lacks
// a server to send through.
func Default() Config {
	return Config{
		Page: "http://127.0.0.1:8080", Papers: 12, Days: 7,
		Mail: Mail{Port: 587, TLS: startTLS, PasswordEnv: "HASTEN_SMTP_PASSWORD", Timeout: 30 * time.Second, Tries: 4},
		Feeds: []Feed{
			{"arXiv", ArXiv, "https://export.arxiv.org/api/query?search_query=cat:cs.LG+OR+cat:cs.CL+OR+cat:cs.CV+OR+cat:stat.ML&sortBy=submittedDate&sortOrder=descending&max_results=200"},
			{"Hugging Face", HuggingFace, "https://huggingface.co/api/daily_papers?limit=100"},
		},
	}
}

// Load reads and checks a configuration. Files that it names are relative to
// its own folder.
func Load(path string) (Config, error) {
	c := Default()
	defaults := c.Feeds
	c.Feeds = nil
	c.Mail.Port = 0
	meta, err := toml.DecodeFile(path, &c)
	if err != nil {
		if pathErr := new(os.PathError); errors.As(err, &pathErr) {
			return c, err // it names the file
		}
		return c, fmt.Errorf("%s: %w", path, err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return c, fmt.Errorf("%s: there is no setting %q", path, unknown[0].String())
	}
	if c.Feeds == nil {
		c.Feeds = defaults
	}
	if c.Mail.Port == 0 {
		c.Mail.Port = 587
		if c.Mail.TLS == implicitTLS {
			c.Mail.Port = 465
		}
	}
	for _, file := range []*string{&c.Mail.CA, &c.Mail.PasswordFile} {
		if *file != "" && !filepath.IsAbs(*file) {
			*file = filepath.Join(filepath.Dir(path), *file)
		}
	}
	if err := c.check(); err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

func (c *Config) check() error {
	page, err := url.Parse(c.Page)
	if err != nil || page.Scheme != "https" && page.Scheme != "http" || page.Host == "" || page.RawQuery != "" || page.Fragment != "" {
		return fmt.Errorf("page: %q is no address of a page such as https://hasten.example.org", c.Page)
	}
	c.Page = strings.TrimRight(c.Page, "/")
	if c.Papers < 1 || c.Papers > 50 {
		return fmt.Errorf("papers: %d in a mail; give 1 to 50", c.Papers)
	}
	if c.Days < 1 || c.Days > 60 {
		return fmt.Errorf("days: %d; give 1 to 60", c.Days)
	}
	for i, f := range c.Feeds {
		u, err := url.Parse(f.URL)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
			return fmt.Errorf("feed %d: url: %q is no http or https address", i+1, f.URL)
		}
		if f.Kind != ArXiv && f.Kind != HuggingFace {
			return fmt.Errorf("feed %d: kind: %q; give %q or %q", i+1, f.Kind, ArXiv, HuggingFace)
		}
		if f.Name == "" {
			c.Feeds[i].Name = u.Host
		}
		if slices.ContainsFunc(c.Feeds[:i], func(g Feed) bool { return g.URL == f.URL }) {
			return fmt.Errorf("feed %d: url: %s is there twice", i+1, f.URL)
		}
	}
	return c.Mail.check()
}

func (m *Mail) check() error {
	if m.Host == "" {
		return nil // fetching and ranking need none
	}
	if m.Port < 1 || m.Port > 65535 {
		return fmt.Errorf("mail.port: %d; give 1 to 65535", m.Port)
	}
	switch m.TLS {
	case startTLS, implicitTLS:
	case noTLS:
		if ip := net.ParseIP(m.Host); m.Host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return fmt.Errorf("mail.tls: %q sends mails and password in clear to %s; give %q or %q", noTLS, m.Host, startTLS, implicitTLS)
		}
	default:
		return fmt.Errorf("mail.tls: %q; give %q, %q or %q", m.TLS, startTLS, implicitTLS, noTLS)
	}
	if _, err := mail.ParseAddress(m.From); err != nil {
		return fmt.Errorf("mail.from: %q is no address such as \"hasten <digest@example.org>\"", m.From)
	}
	if m.Timeout < time.Second || m.Timeout > 10*time.Minute {
		return fmt.Errorf("mail.timeout: %s; give 1s to 10m", m.Timeout)
	}
	if m.Tries < 1 || m.Tries > 10 {
		return fmt.Errorf("mail.tries: %d; give 1 to 10", m.Tries)
	}
	return nil
}

// password is read when mails are sent, so that it is in no other place.
func (m *Mail) password() (string, error) {
	if m.PasswordFile != "" {
		text, err := os.ReadFile(m.PasswordFile)
		if err != nil {
			return "", fmt.Errorf("mail.password_file: %w", err)
		}
		line, _, _ := strings.Cut(string(text), "\n")
		if line = strings.TrimSuffix(line, "\r"); line == "" {
			return "", fmt.Errorf("mail.password_file: %s: the first line is empty", m.PasswordFile)
		}
		return line, nil
	}
	if p := os.Getenv(m.PasswordEnv); p != "" {
		return p, nil
	}
	return "", fmt.Errorf("mail.user is %q, and the variable %s that should hold the password is not set", m.User, m.PasswordEnv)
}
