package hub

import (
	"bytes"
	"fmt"
	"net/http"
	"time"
)

// Live pages: the server looks for news twice a second and sends the changed
// part of the page, whole, as a server-sent event; "end" says that no more will
// come.
const (
	livePath   = "/live/" // begins the addresses of live parts
	lookEvery  = 500 * time.Millisecond
	pingEvery  = 15 * time.Second
	writeLimit = 10 * time.Second // for one event; a reader that is gone is let go
)

// news is the newest version of a part of a page.
type news struct {
	version string // changes with the part
	name    string // of its template
	data    any
	last    bool // it will not change any more
}

// live sends what look returns whenever its version has changed.
func (s *Server) live(w http.ResponseWriter, r *http.Request, look func() (news, error)) {
	select {
	case s.guard.live <- struct{}{}:
		defer func() { <-s.guard.live }()
	default:
		w.Header().Set("Retry-After", "10")
		http.Error(w, "too many live pages are open", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(w)
	send := func(text string) bool {
		// A stream outlives the server's write timeout; each event has its own.
		if out.SetWriteDeadline(time.Now().Add(writeLimit)) != nil {
			return false
		}
		_, err := w.Write([]byte(text))
		return err == nil && out.Flush() == nil
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	version, sent := "", time.Now()
	for {
		n, err := look()
		if err != nil {
			send("event: gone\ndata: gone\n\n") // the page that was loaded stays
			return
		}
		if n.version != version || n.last {
			version, sent = n.version, time.Now()
			text, err := s.event(n)
			if err != nil || !send(text) || n.last {
				return
			}
		} else if time.Since(sent) > pingEvery {
			sent = time.Now()
			if !send(": still here\n\n") {
				return
			}
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		case <-s.closing:
			return
		}
	}
}

// event is a part of a page as a server-sent event.
func (s *Server) event(n news) (string, error) {
	var part bytes.Buffer
	if err := s.views.part(&part, n.name, n.data); err != nil {
		s.log.Error("a live part", "name", n.name, "error", err)
		return "", err
	}
	var b bytes.Buffer
	if n.last {
		b.WriteString("event: end\n")
	}
	for line := range bytes.Lines(part.Bytes()) {
		fmt.Fprintf(&b, "data: %s\n", bytes.TrimRight(line, "\r\n"))
	}
	b.WriteString("\n")
	return b.String(), nil
}
