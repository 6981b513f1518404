package digest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/textproto"
	"os"

	gomail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"
)

// mailer hands mails to the server over one connection, which it makes anew
// when needed.
type mailer struct {
	config Mail
	client *gomail.Client
	conn   *smtp.Client
}

func newMailer(c Mail) (*mailer, error) {
	if c.Host == "" {
		return nil, errors.New("mail.host is not set: name the server that mails leave through in the configuration (--config)")
	}
	options := []gomail.Option{gomail.WithPort(c.Port), gomail.WithTimeout(c.Timeout)}
	switch c.TLS {
	case implicitTLS:
		options = append(options, gomail.WithSSL())
	case noTLS:
		options = append(options, gomail.WithTLSPolicy(gomail.NoTLS))
	default:
		options = append(options, gomail.WithTLSPolicy(gomail.TLSMandatory))
	}
	trust := &tls.Config{ServerName: c.Host, MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("mail.ca: %w", err)
		}
		trust.RootCAs = x509.NewCertPool()
		if !trust.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("mail.ca: %s holds no certificate in PEM", c.CA)
		}
	}
	options = append(options, gomail.WithTLSConfig(trust))
	if c.User != "" {
		password, err := c.password()
		if err != nil {
			return nil, err
		}
		options = append(options, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover), gomail.WithUsername(c.User), gomail.WithPassword(password))
	}
	client, err := gomail.NewClient(c.Host, options...)
	if err != nil {
		return nil, err
	}
	return &mailer{config: c, client: client}, nil
}

// outcome is what became of a mail.
type outcome int

const (
	later    outcome = iota // the server has not taken it: it can be tried again
	accepted                // the server has taken it
	refused                 // the server will not take it for this reader
	unknown                 // the server may have taken it
	down                    // the server cannot be talked to: nor will it take others now
	barred                  // the server does not want us: no use in trying again
)

// deliver hands one mail over. handing is called when the server has got all of
// it but the line that ends it, without which it delivers nothing (RFC 5321,
// 4.1.1.4); if handing fails, the server never gets that line.
func (m *mailer) deliver(ctx context.Context, msg *gomail.Msg, handing func() error) (outcome, error) {
	if err := m.connect(ctx); err != nil {
		return onConnect(err), fmt.Errorf("%s: %w", m.config.Host, err)
	}
	from, err := msg.GetSender(false)
	if err != nil {
		return barred, err
	}
	to, err := msg.GetRecipients()
	if err != nil || len(to) != 1 {
		return refused, errors.Join(err, fmt.Errorf("a mail to %d addresses", len(to)))
	}
	if err := m.conn.UpdateDeadline(m.config.Timeout); err != nil {
		return m.fail(err, later)
	}
	if err := m.conn.Mail(from); err != nil {
		return m.fail(err, barred)
	}
	if err := m.conn.Rcpt(to[0]); err != nil {
		return m.fail(err, refused)
	}
	w, err := m.conn.Data()
	if err != nil {
		return m.fail(err, refused)
	}
	if _, err := msg.WriteTo(w); err != nil {
		m.drop()
		return later, err
	}
	if err := handing(); err != nil {
		m.drop()
		return later, err
	}
	err = w.Close()
	reply := new(textproto.Error)
	switch {
	case err == nil, errors.As(err, &reply) && reply.Code/100 == 2: // taken, if not with 250
		return accepted, nil
	case reply.Code >= 400:
		return m.fail(err, refused)
	}
	m.drop()
	return unknown, err
}

// fail is the outcome of an error before the mail was taken: forGood if the
// server replied that it will not change its mind, else later.
func (m *mailer) fail(err error, forGood outcome) (outcome, error) {
	reply := new(textproto.Error)
	if !errors.As(err, &reply) {
		m.drop()
		return later, err
	}
	if reply.Code == 421 || m.conn.Reset() != nil { // 421: it hangs up
		m.drop()
	}
	if reply.Code >= 500 {
		return forGood, err
	}
	return later, err
}

// onConnect tells errors that time mends from those that it does not.
func onConnect(err error) outcome {
	reply, cert := new(textproto.Error), new(tls.CertificateVerificationError)
	switch {
	case errors.As(err, &reply) && reply.Code >= 500, errors.As(err, &cert), errors.Is(err, gomail.ErrNoSupportedAuthDiscovered):
		return barred
	}
	return down
}

func (m *mailer) connect(ctx context.Context) error {
	if m.conn != nil {
		return nil
	}
	conn, err := m.client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return err
	}
	m.conn = conn
	return nil
}

// drop ends the connection without a word.
func (m *mailer) drop() {
	if m.conn != nil {
		m.conn.Close()
		m.conn = nil
	}
}

// close takes leave of the server. It says nothing that matters.
func (m *mailer) close() {
	if m.conn != nil {
		m.conn.Quit()
		m.drop()
	}
}
