package digest

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"hasten/hub/state"
)

func TestTheMailThatArrives(t *testing.T) {
	s := startServer(t)
	k := open(t, configFile(t, s, ""))
	k.keep(t, papers()...)
	r := k.reader(t, "ann@example.org")
	if got := k.send(t); len(got.Deliveries) != 1 || got.Deliveries[0] != (Delivery{Address: "ann@example.org", Day: "2026-03-04", State: stateSent, Papers: 3}) {
		t.Fatalf("%+v", got)
	}
	all := s.received(t)
	if len(all) != 1 {
		t.Fatalf("%d mails", len(all))
	}
	m := all[0]
	unsubscribeLink := k.link(unsubscribe, r.ID)
	subject, err := new(mime.WordDecoder).DecodeHeader(m.header.Get("Subject"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"To": "<ann@example.org>", "From": `"hasten" <digest@example.org>`, "Date": "Wed, 04 Mar 2026 08:00:00 +0000",
		"List-Unsubscribe": "<" + unsubscribeLink + ">", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
		"List-Id": "hasten digest <digest.hasten.example.org>", "Auto-Submitted": "auto-generated",
	} {
		if got := m.header.Get(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if subject != "Images from noise in four steps (and 2 more)" {
		t.Errorf("subject %q", subject)
	}
	if id := m.header.Get("Message-Id"); !regexp.MustCompile(`^<[0-9a-f]{32}@example\.org>$`).MatchString(id) {
		t.Errorf("Message-ID %s", id)
	}
	for _, want := range []string{"Wednesday, 4 March 2026", "1. Images from noise in four steps\n   Eva\n   4 March 2026, 10 votes\n   https://arxiv.org/abs/2603.00002",
		"2. Gradients & <compression> for “slow” networks\n   Ann Example, Bo Müller and 2 others", "https://doi.org/10.1000/xyz", "\nUnsubscribe: " + unsubscribeLink} {
		if !strings.Contains(strings.ReplaceAll(m.text, "\r\n", "\n"), want) {
			t.Errorf("the text lacks %q:\n%s", want, m.text)
		}
	}
	for _, want := range []string{`<a href="https://arxiv.org/abs/2603.00001" style="text-decoration:none">Gradients &amp; &lt;compression&gt; for “slow” networks</a>`,
		"prefers-color-scheme: dark", `<a href="` + strings.ReplaceAll(unsubscribeLink, "&", "&amp;") + `">Unsubscribe</a>`, "https://hasten.example.org/digest/preferences?t="} {
		if !strings.Contains(m.html, want) {
			t.Errorf("the HTML lacks %q:\n%s", want, m.html)
		}
	}
	for line := range strings.Lines(m.text) {
		if !strings.Contains(line, "https:") && len([]rune(strings.TrimSpace(line))) > lineLength {
			t.Errorf("a line of %d characters: %s", len([]rune(line)), line)
		}
	}
	if strings.Contains(k.log.String(), smtpPassword) {
		t.Error("the log holds the password")
	}
}

// The day after, only what is new comes; the same day, nothing.
func TestNoMailAndNoPaperTwice(t *testing.T) {
	s := startServer(t)
	k := open(t, configFile(t, s, ""))
	k.keep(t, papers()...)
	k.reader(t, "ann@example.org")
	k.send(t)
	if r := k.send(t); len(r.Deliveries) != 0 {
		t.Errorf("the same day: %+v", r)
	}
	if r, err := k.Send(t.Context(), true); err != nil || len(r.Deliveries) != 0 {
		t.Errorf("early: %+v, %v", r, err)
	}
	k.clock = k.clock.AddDate(0, 0, 1)
	if r := k.send(t); len(r.Deliveries) != 1 || r.Deliveries[0].State != stateEmpty {
		t.Errorf("nothing new: %+v", r)
	}
	k.clock = k.clock.AddDate(0, 0, 1)
	k.keep(t, Paper{ArXiv: "2603.00009", Title: "The new one", URL: "https://arxiv.org/abs/2603.00009", Published: k.clock.Add(-time.Hour)})
	if r := k.send(t); r.Count(stateSent) != 1 || r.Deliveries[0].Papers != 1 {
		t.Errorf("one is new: %+v", r)
	}
	if n := len(s.received(t)); n != 2 {
		t.Errorf("%d mails", n)
	}
}

func TestWhoseTurnItIs(t *testing.T) {
	k := open(t, "")
	add := func(address, zone string, hour int, since time.Time) {
		k.clock = since
		if err := k.Add(t.Context(), Reader{Address: address, Hour: hour, Zone: zone}); err != nil {
			t.Fatal(err)
		}
	}
	before := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	add("utc@x.org", "UTC", 7, before)
	add("tokyo@x.org", "Asia/Tokyo", 7, before)                                // 22:00 UTC the day before
	add("la@x.org", "America/Los_Angeles", 7, before)                          // 15:00 UTC, 14:00 from 8 March on
	add("kathmandu@x.org", "Asia/Kathmandu", 12, before)                       // 6:15 UTC
	add("gap@x.org", "America/New_York", 2, before)                            // an hour that 8 March lacks
	add("today@x.org", "UTC", 7, time.Date(2026, 3, 4, 7, 30, 0, 0, time.UTC)) // starts on the 5th
	for _, c := range []struct {
		at   string
		want string
	}{
		{"2026-03-04T06:14:00Z", "tokyo@x.org 2026-03-04, la@x.org 2026-03-03"},
		{"2026-03-04T06:15:00Z", "tokyo@x.org 2026-03-04, la@x.org 2026-03-03, kathmandu@x.org 2026-03-04"},
		{"2026-03-04T07:40:00Z", "utc@x.org 2026-03-04, tokyo@x.org 2026-03-04, la@x.org 2026-03-03, kathmandu@x.org 2026-03-04, gap@x.org 2026-03-04"},
		{"2026-03-08T05:30:00Z", "tokyo@x.org 2026-03-08, la@x.org 2026-03-07"},
		{"2026-03-08T07:00:00Z", "utc@x.org 2026-03-08, tokyo@x.org 2026-03-08, la@x.org 2026-03-07, kathmandu@x.org 2026-03-08, gap@x.org 2026-03-08, today@x.org 2026-03-08"},
		{"2026-03-08T13:59:00Z", "utc@x.org 2026-03-08, tokyo@x.org 2026-03-08, kathmandu@x.org 2026-03-08, gap@x.org 2026-03-08, today@x.org 2026-03-08"},
		{"2026-03-08T14:00:00Z", "utc@x.org 2026-03-08, tokyo@x.org 2026-03-08, la@x.org 2026-03-08, kathmandu@x.org 2026-03-08, gap@x.org 2026-03-08, today@x.org 2026-03-08"},
	} {
		var err error
		if k.clock, err = time.Parse(time.RFC3339, c.at); err != nil {
			t.Fatal(err)
		}
		due, err := k.due(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, d := range due {
			got = append(got, d.Address+" "+d.day)
		}
		if s := strings.Join(got, ", "); s != c.want {
			t.Errorf("%s: %s, want %s", c.at, s, c.want)
		}
	}
}

func TestTheServerSaysNo(t *testing.T) {
	s := startServer(t)
	k := open(t, configFile(t, s, ""))
	k.keep(t, papers()...)
	for _, name := range []string{"good", "never", "later", "hangup", "last"} {
		k.reader(t, name+"@example.org")
	}
	s.tell(t, "refuse-never@example.org", "550")
	s.tell(t, "refuse-later@example.org", "450")
	s.tell(t, "hangup-hangup@example.org", "")
	r, err := k.Send(t.Context(), false)
	if err == nil || !strings.Contains(err.Error(), "left to the next run: 1 of the mails: later@example.org") {
		t.Errorf("error %v", err)
	}
	states := func(r Report) string {
		var all []string
		for _, d := range r.Deliveries {
			all = append(all, strings.TrimSuffix(d.Address, "@example.org")+" "+d.State)
		}
		return strings.Join(all, ", ")
	}
	if got := states(r); got != "good sent, never refused, hangup unknown, last sent, later begun" {
		t.Errorf("first run: %s", got)
	}
	if len(k.pauses) != 1 || k.pauses[0] != firstWait {
		t.Errorf("pauses %v", k.pauses)
	}
	s.untell(t, "refuse-later@example.org")
	if got := states(k.send(t)); got != "later sent" {
		t.Errorf("second run: %s", got)
	}
	for _, m := range s.received(t) {
		if m.to == "never@example.org" {
			t.Error("a refused mail was stored")
		}
	}
	if n := len(s.received(t)); n != 4 { // hangup's was stored before the line went dead, and once
		t.Errorf("%d mails", n)
	}
}

// What is wrong with the server or with us leaves everybody to the next run.
func TestNoServerNoPasswordNoTrust(t *testing.T) {
	s := startServer(t)
	for _, c := range []struct {
		name, want string
		spoil      func(k *desk)
		pauses     int
	}{
		{"no server", "connection refused", func(k *desk) { k.Digest.config.Mail.Port = closedPort(t) }, 1},
		{"wrong password", "535", func(*desk) { t.Setenv(passwordVariable, "hunter2hunter2") }, 0},
		{"no password", "the variable " + passwordVariable, func(*desk) { t.Setenv(passwordVariable, "") }, 0},
		{"not trusted", "certificate", func(k *desk) { k.Digest.config.Mail.CA = "" }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := open(t, configFile(t, s, ""))
			k.keep(t, papers()...)
			k.reader(t, "a@example.org")
			k.reader(t, "b@example.org")
			right := k.Digest.config
			c.spoil(k)
			_, err := k.Send(t.Context(), false)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v", err)
			}
			if err != nil && (strings.Contains(err.Error(), smtpPassword) || strings.Contains(err.Error(), "hunter2")) {
				t.Errorf("the password is in the error: %v", err)
			}
			if len(k.pauses) != c.pauses {
				t.Errorf("pauses %v", k.pauses)
			}
			k.Digest.config = right
			os.Setenv(passwordVariable, smtpPassword)
			if r := k.send(t); r.Count(stateSent) != 2 {
				t.Errorf("then: %+v", r)
			}
		})
	}
}

func closedPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Who unsubscribes while the mail is on its way does not get it.
func TestUnsubscribedMeanwhile(t *testing.T) {
	s := startServer(t)
	k := open(t, configFile(t, s, ""))
	k.keep(t, papers()...)
	k.reader(t, "gone@example.org")
	k.reader(t, "here@example.org")
	j, err := openJournal(t.Context(), k.Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	m, err := newMailer(k.Digest.config.Mail)
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	turns, err := k.due(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Remove(t.Context(), "gone@example.org"); err != nil {
		t.Fatal(err)
	}
	var r Report
	again, err := k.pass(t.Context(), m, j, turns, &r)
	if err != nil || len(again) != 0 || len(r.Deliveries) != 2 || r.Deliveries[0].State != stateRefused || r.Deliveries[1].State != stateSent {
		t.Errorf("%+v, %v, %v", r, again, err)
	}
	if all := s.received(t); len(all) != 1 || all[0].to != "here@example.org" {
		t.Errorf("%+v", all)
	}
}

// Without its ending line the server stores no mail.
func TestAMailThatIsNotEnded(t *testing.T) {
	s := startServer(t)
	k := open(t, configFile(t, s, ""))
	k.keep(t, papers()...)
	r := k.reader(t, "ann@example.org")
	ranked, err := k.Rank(t.Context(), nil, 3)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := k.compose(kindDigest, "key", r, ranked)
	if err != nil {
		t.Fatal(err)
	}
	m, err := newMailer(k.Digest.config.Mail)
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	stop := errors.New("stop")
	if out, err := m.deliver(t.Context(), msg, func() error { return stop }); out != later || err != stop {
		t.Errorf("outcome %d, %v", out, err)
	}
	if out, err := m.deliver(t.Context(), msg, func() error { return nil }); out != accepted {
		t.Errorf("then: outcome %d, %v", out, err)
	}
	if all := s.received(t); len(all) != 1 {
		t.Errorf("%d mails", len(all))
	}
}

// sendOnce is the sender's process.
func sendOnce(database, config string) error {
	c, err := Load(config)
	if err != nil {
		return err
	}
	db, err := state.Open(database)
	if err != nil {
		return err
	}
	defer db.Close()
	d, err := Open(context.Background(), c, db, Options{Now: func() time.Time { return morning }})
	if err != nil {
		return err
	}
	r, err := d.Send(context.Background(), false)
	fmt.Printf("sent %d\n", r.Count(stateSent))
	for _, l := range r.Deliveries {
		if l.State == stateUnknown {
			fmt.Printf("unknown %s\n", l.Address)
		}
	}
	return err
}

// Two hundred readers; the sender is killed with SIGKILL at every kind of
// moment, and started again. Everybody gets one mail.
func TestKilledInTheMiddle(t *testing.T) {
	const readers = 200
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		stop    string // the server's step; "": after some mails were stored, at no particular step
		unknown int    // deliveries that nobody can know the end of; -1: none or one
	}{
		{"before DATA", "mail", 0},
		{"within DATA", "data", -1}, // the ending line may lie in the connection already
		{"stored and not yet answered", "stored", 1},
		{"anywhere", "", -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startServer(t)
			config := configFile(t, s, "")
			k := open(t, config)
			k.keep(t, papers()...)
			for i := range readers {
				k.reader(t, fmt.Sprintf("reader%03d@example.org", i))
			}
			const at = 73
			stop := fmt.Sprintf("stop-%s-%d", c.stop, at)
			if c.stop != "" {
				s.tell(t, stop, "")
			}
			first := exec.Command(self, "sender", k.path, config)
			first.Stderr = os.Stderr
			if err := first.Start(); err != nil {
				t.Fatal(err)
			}
			reached := func() bool {
				if c.stop != "" {
					_, err := os.Stat(filepath.Join(s.dir, "stopped"))
					return err == nil
				}
				files, _ := filepath.Glob(filepath.Join(s.dir, "*.eml"))
				return len(files) >= at
			}
			for i := 0; !reached(); i++ {
				if i > 6000 {
					t.Fatal("the sender does not get there")
				}
				time.Sleep(5 * time.Millisecond)
			}
			if err := first.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := first.Wait(); err == nil {
				t.Fatal("the sender had ended before it was killed")
			}
			if c.stop != "" {
				s.untell(t, stop)
			}
			out, err := exec.Command(self, "sender", k.path, config).Output()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if n := strings.Count(string(out), "unknown"); c.unknown >= 0 && n != c.unknown || n > 1 {
				t.Errorf("%d unknown, want %d: %s", n, c.unknown, out)
			}
			if r := k.send(t); len(r.Deliveries) != 0 {
				t.Errorf("a third run still finds %+v", r)
			}
			got := map[string]int{}
			for _, m := range s.received(t) {
				got[m.to]++
			}
			for i := range readers {
				if a := fmt.Sprintf("reader%03d@example.org", i); got[a] != 1 {
					t.Errorf("%s has %d mails", a, got[a])
				}
			}
		})
	}
}

// The one moment that costs a mail: after the record that it is handed over,
// before the line that does it. It is not sent twice, and it is reported.
func TestKilledBetweenRecordAndLine(t *testing.T) {
	s := startServer(t)
	k := open(t, configFile(t, s, ""))
	k.keep(t, papers()...)
	k.reader(t, "first@example.org")
	k.reader(t, "second@example.org")
	// What such a process leaves behind.
	turns, err := k.due(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	j, err := openJournal(t.Context(), k.Digest)
	if err != nil {
		t.Fatal(err)
	}
	ranked, err := k.Rank(t.Context(), nil, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(j.begin(t.Context(), turns[0], stateBegun, ranked), j.set(t.Context(), turns[0], stateBegun, stateHanded, ""), j.close()); err != nil {
		t.Fatal(err)
	}
	r := k.send(t)
	if len(r.Deliveries) != 2 || r.Deliveries[0].State != stateUnknown || r.Deliveries[0].Address != "first@example.org" || r.Deliveries[1].State != stateSent {
		t.Errorf("%+v", r)
	}
	if all := s.received(t); len(all) != 1 || all[0].to != "second@example.org" {
		t.Errorf("%d mails", len(all))
	}
	k.clock = k.clock.AddDate(0, 0, 1) // its two papers count as sent
	if r := k.send(t); len(r.Deliveries) != 2 || r.Deliveries[0].Papers != 1 || r.Deliveries[1].State != stateEmpty {
		t.Errorf("the next day: %+v", r)
	}
}

func TestOneProcessSends(t *testing.T) {
	s := startServer(t)
	k := open(t, configFile(t, s, ""))
	release, err := k.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Send(t.Context(), false); !errors.Is(err, ErrBusy) {
		t.Errorf("a second one: %v", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	k.send(t)
}

// Run fetches, sends what is due, and answers who subscribes at once.
func TestRun(t *testing.T) {
	s := startServer(t)
	k := open(t, configFile(t, s, ""))
	publish(t, k)
	k.reader(t, "ann@example.org")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	arrive := func(n int) {
		t.Helper()
		for range 1500 {
			if files, _ := filepath.Glob(filepath.Join(s.dir, "*.eml")); len(files) >= n {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Fatalf("mail %d does not come", n)
	}
	arrive(1)
	if err := k.Subscribe(ctx, Reader{Address: "new@example.org", Zone: "UTC"}); err != nil {
		t.Fatal(err)
	}
	arrive(2)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	all := s.received(t)
	if len(all) != 2 || all[0].to != "ann@example.org" || !strings.Contains(all[0].text, "Fast training & more") || all[1].to != "new@example.org" {
		t.Errorf("%+v", all)
	}
	for _, want := range []string{"feed=arXiv state=got new=2", "an entry is left out", "reader=ann@example.org day=2026-03-04 state=sent"} {
		if !strings.Contains(k.log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, k.log.String())
		}
	}
	if strings.Contains(k.log.String(), "?t=") || strings.Contains(k.log.String(), smtpPassword) {
		t.Errorf("the log holds a secret:\n%s", k.log.String())
	}
}
