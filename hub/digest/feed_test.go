package digest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"
)

const atomFeed = `<?xml version="1.0" encoding="UTF-8"?>
<feed xmlns="http://www.w3.org/2005/Atom" xmlns:arxiv="http://arxiv.org/schemas/atom">
<title>arXiv Query</title><id>http://arxiv.org/api/x</id><updated>2026-03-04T00:00:00-05:00</updated>
<entry><id>http://arxiv.org/abs/2603.01234v2</id><updated>2026-03-04T01:00:00Z</updated><published>2026-03-03T20:00:00Z</published>
<title>Fast
  training &amp; more</title><summary>  One two.
 Three. </summary><author><name>Ann Example</name></author><author><name>Bo Müller</name></author>
<arxiv:doi>10.1000/ABC.1</arxiv:doi></entry>
<entry><id>http://arxiv.org/abs/cs/0112017v1</id><published>2001-12-01T00:00:00Z</published><title>An old one</title></entry>
<entry><id>http://arxiv.org/abs/2603.05555v1</id><published>2026-03-03T20:00:00Z</published><title> </title></entry>
<entry><id>http://arxiv.org/abs/2603.06666v1</id><published>yesterday</published><title>No date</title></entry>
<entry><id>http://elsewhere.org/1</id><published>2026-03-03T20:00:00Z</published><title>No identifier</title></entry>
</feed>`

const dailyFeed = `[
{"paper":{"id":"2603.01234","title":"Fast training & more","summary":"S","upvotes":31,"publishedAt":"2026-03-03T20:00:00.000Z","authors":[{"name":"Ann Example","hidden":false},{"name":""}]},"numComments":3},
{"paper":{"id":"2603.07777","title":"Another\u202e one","summary":"S","upvotes":-3,"publishedAt":"2026-03-04T02:00:00.000Z","authors":[]}},
{"paper":{"id":"2603.08888","title":"Votes in words","upvotes":"many","publishedAt":"2026-03-04T02:00:00.000Z"}},
{"paper":{"id":"../../etc","title":"Not an identifier","publishedAt":"2026-03-04T02:00:00.000Z"}},
7,
{}
]`

func TestParse(t *testing.T) {
	for _, c := range []struct {
		kind, text string
		papers     []Paper
		problems   []Problem
	}{
		{ArXiv, atomFeed, []Paper{
			{ArXiv: "2603.01234", DOI: "10.1000/abc.1", Title: "Fast training & more", Summary: "One two. Three.", Authors: []string{"Ann Example", "Bo Müller"},
				URL: "https://arxiv.org/abs/2603.01234", Published: time.Date(2026, 3, 3, 20, 0, 0, 0, time.UTC)},
			{ArXiv: "cs/0112017", Title: "An old one", URL: "https://arxiv.org/abs/cs/0112017", Published: time.Date(2001, 12, 1, 0, 0, 0, 0, time.UTC)},
		}, []Problem{
			{"feed", "entry 3 (http://arxiv.org/abs/2603.05555v1)", "it has no title"},
			{"feed", "entry 4 (http://arxiv.org/abs/2603.06666v1)", "it has no date, or none that can be read"},
			{"feed", "entry 5 (http://elsewhere.org/1)", "it has neither an identifier of arXiv nor a DOI"},
		}},
		{HuggingFace, dailyFeed, []Paper{
			{ArXiv: "2603.01234", Title: "Fast training & more", Summary: "S", Authors: []string{"Ann Example"}, URL: "https://arxiv.org/abs/2603.01234", Votes: 31, Published: time.Date(2026, 3, 3, 20, 0, 0, 0, time.UTC)},
			{ArXiv: "2603.07777", Title: "Another one", Summary: "S", URL: "https://arxiv.org/abs/2603.07777", Published: time.Date(2026, 3, 4, 2, 0, 0, 0, time.UTC)},
		}, []Problem{
			{"feed", "entry 3 (2603.08888)", "json: cannot unmarshal string into Go struct field .paper.upvotes of type int"},
			{"feed", "entry 4 (../../etc)", "its id is no identifier of arXiv"},
			{"feed", "entry 5", "json: cannot unmarshal number into Go value of type digest.dailyPaper"},
			{"feed", "entry 6", "it has no title"},
		}},
	} {
		papers, problems, err := Parse(Feed{Name: "feed", Kind: c.kind}, []byte(c.text))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(papers, c.papers) {
			t.Errorf("%s: papers %+v\nwant %+v", c.kind, papers, c.papers)
		}
		if !reflect.DeepEqual(problems, c.problems) {
			t.Errorf("%s: problems %q\nwant %q", c.kind, problems, c.problems)
		}
	}
	for _, c := range []struct{ kind, text string }{{ArXiv, ""}, {ArXiv, "<feed><entry>"}, {ArXiv, "{}"}, {ArXiv, "<rss/>"}, {ArXiv, "<feed>" + strings.Repeat("<x:b>", 1e6)}, {HuggingFace, ""}, {HuggingFace, "{}"}, {HuggingFace, "[{}"}} {
		if _, _, err := Parse(Feed{Name: "feed", Kind: c.kind}, []byte(c.text)); err == nil || !strings.HasPrefix(err.Error(), "feed: this is no ") {
			t.Errorf("%s %.60q: %v", c.kind, c.text, err)
		}
	}
}

// What comes out of a feed is fit to be kept and sent, whatever went in.
func fuzz(f *testing.F, kind, seed string) {
	f.Add([]byte(seed))
	for i := range 8 {
		f.Add([]byte(seed[:len(seed)*i/8]))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		papers, _, err := Parse(Feed{Name: "feed", Kind: kind}, text)
		if err != nil && papers != nil {
			t.Error("papers and an error")
		}
		for _, p := range papers {
			if err := p.check(); err != nil {
				t.Errorf("%+v: %v", p, err)
			}
			if !strings.HasPrefix(p.URL, "https://arxiv.org/abs/") && !strings.HasPrefix(p.URL, "https://doi.org/10.") {
				t.Errorf("address %q", p.URL)
			}
			if strings.ContainsAny(p.Title+p.Summary+strings.Join(p.Authors, ""), "\r\n\x00\x1b\u202e") || len([]rune(p.Title)) > maxTitle {
				t.Errorf("%+v", p)
			}
		}
	})
}

func FuzzAtom(f *testing.F)  { fuzz(f, ArXiv, atomFeed) }
func FuzzDaily(f *testing.F) { fuzz(f, HuggingFace, dailyFeed) }

// publisher serves both feeds, and notes what it was asked.
type publisher struct {
	*httptest.Server
	asked  []*http.Request
	status int
	header http.Header
	atom   string
}

func publish(t *testing.T, k *desk) *publisher {
	p := &publisher{status: 200, header: http.Header{}, atom: atomFeed}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked = append(p.asked, r)
		for name, values := range p.header {
			w.Header()[name] = values
		}
		w.Header().Set("ETag", `"one"`)
		w.Header().Set("Last-Modified", "Wed, 04 Mar 2026 07:00:00 GMT")
		if p.status != 200 {
			w.WriteHeader(p.status)
			return
		}
		if r.Header.Get("If-None-Match") == `"one"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprint(w, map[string]string{"/atom": p.atom, "/daily": dailyFeed}[r.URL.Path])
	}))
	t.Cleanup(p.Close)
	k.Digest.config.Feeds = []Feed{{"arXiv", ArXiv, p.URL + "/atom"}, {"HF", HuggingFace, p.URL + "/daily"}}
	return p
}

func (k *desk) fetch(t *testing.T) []Fetched {
	t.Helper()
	f, err := k.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFetchIsPolite(t *testing.T) {
	k := open(t, "")
	p := publish(t, k)
	got := k.fetch(t)
	if len(got) != 2 || got[0].State != Got || got[0].Papers != 2 || got[0].New != 2 || len(got[0].Problems) != 3 || got[1].State != Got || got[1].Papers != 2 || got[1].New != 1 {
		t.Errorf("first: %+v", got)
	}
	if len(k.pauses) != 1 || k.pauses[0] != between {
		t.Errorf("pauses %v", k.pauses)
	}
	if a := p.asked[0]; a.Header.Get("User-Agent") != userAgent || a.Header.Get("If-None-Match") != "" {
		t.Errorf("asked with %v", a.Header)
	}
	// The paper of both feeds is one, with what each knows.
	all, err := k.recent(t.Context(), morning.AddDate(0, 0, -2))
	if err != nil || len(all) != 2 || all[1].Votes != 31 || all[1].DOI != "10.1000/abc.1" || len(all[1].Authors) != 2 {
		t.Errorf("kept %+v, %v", all, err)
	}

	k.clock = morning.Add(apart - time.Second)
	if got := k.fetch(t); got[0].State != Waiting || len(p.asked) != 2 {
		t.Errorf("too early: %+v", got)
	}
	k.clock = morning.Add(apart)
	if got := k.fetch(t); got[0].State != Unchanged || got[1].State != Unchanged || got[0].Next != k.clock.Add(apart) {
		t.Errorf("unchanged: %+v", got)
	}
	if a := p.asked[2]; a.Header.Get("If-None-Match") != `"one"` || a.Header.Get("If-Modified-Since") != "Wed, 04 Mar 2026 07:00:00 GMT" {
		t.Errorf("asked with %v", a.Header)
	}
}

func TestFetchBacksOff(t *testing.T) {
	k := open(t, "")
	p := publish(t, k)
	k.Digest.config.Feeds = k.Digest.config.Feeds[:1]
	p.status = http.StatusServiceUnavailable
	for _, want := range []time.Duration{5 * time.Minute, 10 * time.Minute, 20 * time.Minute} {
		got := k.fetch(t)
		if got[0].State != Failed || !strings.Contains(got[0].Err, "503") || got[0].Next != k.clock.Add(want) {
			t.Errorf("%+v, want the next after %s", got, want)
		}
		k.clock = got[0].Next
	}
	p.header.Set("Retry-After", "7200")
	got := k.fetch(t)
	if got[0].Next != k.clock.Add(2*time.Hour) {
		t.Errorf("with Retry-After: %+v", got)
	}
	k.clock = got[0].Next
	p.header.Del("Retry-After")
	p.status = 200
	p.atom = "<feed>" // no feed: what it says is not remembered as read
	got = k.fetch(t)
	if got[0].State != Failed {
		t.Errorf("garbled: %+v", got)
	}
	k.clock, p.atom = got[0].Next, atomFeed
	if got := k.fetch(t); got[0].State != Got || got[0].New != 2 {
		t.Errorf("well again: %+v", got)
	}
	p.Close()
	k.clock = k.clock.Add(apart)
	if got := k.fetch(t); got[0].State != Failed || got[0].Next != k.clock.Add(firstBack) {
		t.Errorf("gone: %+v", got)
	}
}

func TestFetchBoundsSize(t *testing.T) {
	k := open(t, "")
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write(make([]byte, maxFeed+1))
	}))
	defer s.Close()
	k.Digest.config.Feeds = []Feed{{"big", HuggingFace, s.URL}}
	if got := k.fetch(t); got[0].State != Failed || !strings.Contains(got[0].Err, "more than 16 MiB") {
		t.Errorf("%+v", got)
	}
}
