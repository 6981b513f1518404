package digest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"hasten/hub/state"
)

// The test's own binary plays two other processes: the mail server, and a
// sender that can be killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case "smtp-server":
			os.Exit(told(serveSMTP(os.Args[2])))
		case "sender":
			os.Exit(told(sendOnce(os.Args[2], os.Args[3])))
		}
	}
	os.Exit(m.Run())
}

func told(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

const (
	smtpUser     = "digest"
	smtpPassword = "correct horse battery"
)

// serveSMTP runs a server on loopback with STARTTLS and AUTH until standard
// input ends. Mails become files of a folder: each is stored before the reply
// that accepts it. The folder's other files tell it what to do; see backend.
func serveSMTP(dir string) error {
	cert, ca, err := certificate()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), ca, 0o600); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := smtp.NewServer(&backend{dir: dir})
	s.Domain, s.TLSConfig, s.ReadTimeout, s.WriteTimeout = "localhost", &tls.Config{Certificates: []tls.Certificate{cert}}, time.Minute, time.Minute
	s.ErrorLog = quiet{}
	fmt.Println(l.Addr().(*net.TCPAddr).Port)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		s.Close()
	}()
	if err := s.Serve(l); err != nil && !errors.Is(err, smtp.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

// backend obeys, at a step (mail, data, stored) of a mail:
//   - a file "stop-STEP-N": at that step of the Nth mail (from 1) it makes the
//     file "stopped" and waits until the stop file is gone;
//   - a file "refuse-ADDRESS" with a reply code such as 450: to RCPT;
//   - a file "hangup-ADDRESS": after the mail of ADDRESS is stored it closes the
//     connection without a reply.
type backend struct {
	dir string

	mu    sync.Mutex
	mails int // begun, of all connections
}

func (b *backend) NewSession(c *smtp.Conn) (smtp.Session, error) {
	return &session{b: b, c: c}, nil
}

func (b *backend) stop(step string, n int) {
	file := filepath.Join(b.dir, fmt.Sprintf("stop-%s-%d", step, n))
	if _, err := os.Stat(file); err != nil {
		return
	}
	os.WriteFile(filepath.Join(b.dir, "stopped"), nil, 0o600)
	for range 6000 {
		if _, err := os.Stat(file); err != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

type session struct {
	b  *backend
	c  *smtp.Conn
	ok bool
	n  int
	to string
}

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != smtpUser || password != smtpPassword {
			return smtp.ErrAuthFailed
		}
		s.ok = true
		return nil
	}), nil
}

func (s *session) Mail(string, *smtp.MailOptions) error {
	if _, encrypted := s.c.TLSConnectionState(); !s.ok || !encrypted {
		return smtp.ErrAuthRequired
	}
	s.b.mu.Lock()
	s.b.mails++
	s.n = s.b.mails
	s.b.mu.Unlock()
	s.b.stop("mail", s.n)
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = to
	if code, err := os.ReadFile(filepath.Join(s.b.dir, "refuse-"+to)); err == nil {
		n, _ := strconv.Atoi(string(code))
		return &smtp.SMTPError{Code: n, EnhancedCode: smtp.EnhancedCode{n / 100, 0, 0}, Message: "not now"}
	}
	return nil
}

func (s *session) Data(r io.Reader) error {
	s.b.stop("data", s.n)
	text, err := io.ReadAll(r)
	if err != nil {
		return err // the connection ended before the mail did
	}
	f, err := os.CreateTemp(s.b.dir, fmt.Sprintf("%06d-*.eml", s.n))
	if err != nil {
		return err
	}
	if _, err := f.Write(append([]byte("X-Envelope-To: "+s.to+"\r\n"), text...)); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(s.b.dir, "hangup-"+s.to)); err == nil {
		s.c.Conn().Close()
	}
	s.b.stop("stored", s.n)
	return nil
}

func (s *session) Reset()        {}
func (s *session) Logout() error { return nil }

// certificate is one for 127.0.0.1 that signs itself.
func certificate() (tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "hasten test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// server is a mail server in a process of its own.
type server struct {
	dir  string
	port int
}

func startServer(t *testing.T) *server {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := &server{dir: t.TempDir()}
	c := exec.Command(self, "smtp-server", s.dir)
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := c.Wait(); err != nil {
			t.Error("mail server:", err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if s.port, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		t.Fatal(err)
	}
	return s
}

// tell makes a file that the server obeys.
func (s *server) tell(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *server) untell(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(s.dir, name)); err != nil {
		t.Fatal(err)
	}
}

// received is a mail as it came, read by other code than wrote it.
type received struct {
	to         string
	header     mail.Header
	text, html string
}

func (s *server) received(t *testing.T) []received {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.dir, "*.eml"))
	if err != nil {
		t.Fatal(err)
	}
	var all []received
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m, err := mail.ReadMessage(bytes.NewReader(raw))
		if err != nil {
			t.Fatalf("%s: %v\n%s", file, err, raw)
		}
		kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
		if err != nil || kind != "multipart/alternative" {
			t.Fatalf("%s: %s, %v", file, kind, err)
		}
		r := received{to: m.Header.Get("X-Envelope-To"), header: m.Header}
		parts := multipart.NewReader(m.Body, params["boundary"])
		for {
			p, err := parts.NextRawPart()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if p.Header.Get("Content-Transfer-Encoding") != "quoted-printable" {
				t.Fatalf("%s: a part in %s", file, p.Header.Get("Content-Transfer-Encoding"))
			}
			body, err := io.ReadAll(quotedprintable.NewReader(p))
			if err != nil {
				t.Fatal(err)
			}
			switch p.Header.Get("Content-Type") {
			case "text/plain; charset=UTF-8":
				r.text = string(body)
			case "text/html; charset=UTF-8":
				r.html = string(body)
			default:
				t.Fatalf("%s: a part of type %s", file, p.Header.Get("Content-Type"))
			}
		}
		all = append(all, r)
	}
	return all
}

// morning is the time of the tests: 8:00 in UTC, Wednesday.
var morning = time.Date(2026, 3, 4, 8, 0, 0, 0, time.UTC)

const passwordVariable = "HASTEN_TEST_SMTP_PASSWORD"

// configFile writes a configuration for a server; "" has a closed port.
func configFile(t *testing.T, s *server, more string) string {
	t.Helper()
	t.Setenv(passwordVariable, smtpPassword)
	path := filepath.Join(t.TempDir(), "digest.toml")
	text := fmt.Sprintf("page = \"https://hasten.example.org\"\n%s\n[mail]\nhost = \"127.0.0.1\"\nport = %d\nca = %q\nuser = %q\npassword_env = %q\nfrom = \"hasten <digest@example.org>\"\ntries = 2\ntimeout = \"10s\"\n",
		more, s.port, filepath.Join(s.dir, "ca.pem"), smtpUser, passwordVariable)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// desk is a digest under test.
type desk struct {
	*Digest
	db     *state.DB
	path   string // of the database
	config string // file
	clock  time.Time
	pauses []time.Duration
	log    bytes.Buffer
}

func open(t *testing.T, config string) *desk {
	t.Helper()
	c := Default()
	if config != "" {
		var err error
		if c, err = Load(config); err != nil {
			t.Fatal(err)
		}
	}
	k := &desk{path: filepath.Join(t.TempDir(), "hub.db"), config: config, clock: morning}
	var err error
	if k.db, err = state.Open(k.path); err != nil {
		t.Fatal(err)
	}
	o := Options{Now: func() time.Time { return k.clock }, Log: slog.New(slog.NewTextHandler(&k.log, nil)),
		Pause: func(ctx context.Context, d time.Duration) error { k.pauses = append(k.pauses, d); return ctx.Err() }}
	if k.Digest, err = Open(t.Context(), c, k.db, o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(k.Close(), k.db.Close()); err != nil {
			t.Error(err)
		}
	})
	return k
}

// papers are three, published some hours before the tests' time.
func papers() []Paper {
	p := []Paper{
		{ArXiv: "2603.00001", Title: "Gradients & <compression> for “slow” networks", Summary: "Machines send fewer bytes. " + strings.Repeat("They send them seldom. ", 40), Authors: []string{"Ann Example", "Bo Müller", "C", "D"}, Votes: 40, Published: morning.Add(-20 * time.Hour)},
		{ArXiv: "2603.00002", Title: "Images from noise in four steps", Summary: "A diffusion model takes few steps.", Authors: []string{"Eva"}, Votes: 10, Published: morning.Add(-6 * time.Hour)},
		{DOI: "10.1000/xyz", Title: "Attention without a quadratic cost", Summary: "Long sequences cost little memory.", Published: morning.Add(-3 * time.Hour)},
	}
	for i := range p {
		if err := p[i].check(); err != nil {
			panic(err)
		}
	}
	return p
}

func (k *desk) keep(t *testing.T, papers ...Paper) {
	t.Helper()
	if _, err := k.Keep(t.Context(), papers); err != nil {
		t.Fatal(err)
	}
}

// reader takes in a reader who subscribed yesterday.
func (k *desk) reader(t *testing.T, address string, topics ...string) Reader {
	t.Helper()
	now := k.clock
	k.clock = morning.AddDate(0, 0, -1)
	defer func() { k.clock = now }()
	if err := k.Add(t.Context(), Reader{Address: address, Topics: topics, Hour: 7, Zone: "UTC"}); err != nil {
		t.Fatal(err)
	}
	all, err := k.Readers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all[len(all)-1]
}

func (k *desk) send(t *testing.T) Report {
	t.Helper()
	r, err := k.Send(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
