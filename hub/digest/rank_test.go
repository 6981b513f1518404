package digest

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

func TestTrend(t *testing.T) {
	for _, c := range []struct {
		votes int
		age   time.Duration
		want  float64
	}{{0, 2 * time.Hour, 1.0 / 8}, {7, 14 * time.Hour, 8.0 / 64}, {0, -time.Hour, 1 / math.Sqrt(8)}} {
		if got := Trend(c.votes, c.age); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%d votes after %s: %g, want %g", c.votes, c.age, got, c.want)
		}
	}
}

func titles(t *testing.T, k *desk, topics ...string) string {
	t.Helper()
	list, err := k.Rank(t.Context(), topics, 10)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, r := range list {
		all = append(all, fmt.Sprintf("%s %.4f %s", r.Title[:6], r.Score, r.Topic))
	}
	return strings.Join(all, "; ")
}

func TestRank(t *testing.T) {
	k := open(t, "")
	if got := titles(t, k, "anything"); got != "" {
		t.Errorf("nothing: %s", got)
	}
	k.keep(t, papers()...)
	// 11/8^1.5, 41/22^1.5, 1/5^1.5
	if got := titles(t, k); got != "Images 0.4861 ; Gradie 0.3973 ; Attent 0.0894 " {
		t.Errorf("by trend: %s", got)
	}
	if got := titles(t, k, "quadratic attention"); got != "Attent 0.0894 quadratic attention" {
		t.Errorf("on attention: %s", got)
	}
	if got := titles(t, k, "fewer bytes", "long sequences"); got != "Gradie 0.3973 fewer bytes; Attent 0.0894 long sequences" {
		t.Errorf("on two topics: %s", got)
	}
	// The second and third nearest count (1 + 1/10)² and (1 + 2/10)² times less.
	const topic = "little memory for a model of few steps"
	if got := titles(t, k, topic); got != "Images 0.4861 "+topic+"; Gradie 0.2759 "+topic+"; Attent 0.0739 "+topic {
		t.Errorf("by nearness: %s", got)
	}
	more := papers()[2]
	more.Votes = 50
	k.keep(t, more) // 51/5^1.5
	if got := titles(t, k); !strings.HasPrefix(got, "Attent 4.5616") {
		t.Errorf("after votes: %s", got)
	}
	k.clock = morning.AddDate(0, 0, 7).Add(-12 * time.Hour)
	if got := titles(t, k); strings.Count(got, ";") != 1 { // the one of 20 hours before is too old by then
		t.Errorf("a week later: %s", got)
	}
}

func TestTheSamePaper(t *testing.T) {
	at := morning
	p := func(arxiv, doi, title string, votes int) Paper {
		return Paper{ArXiv: arxiv, DOI: doi, Title: title, Votes: votes, Published: at, URL: "https://x.org"}
	}
	for _, c := range []struct {
		name string
		in   []Paper
		want int
	}{
		{"identifier", []Paper{p("2603.00001", "", "A title", 1), p("2603.00001", "", "A new title", 5)}, 1},
		{"DOI", []Paper{p("", "10.1/a", "A title", 1), p("2603.00001", "10.1/a", "Another", 5)}, 1},
		{"title", []Paper{p("", "10.1/a", "A Title: of two", 1), p("2603.00001", "", "A title of TWO", 5)}, 1},
		{"same title, other identifier", []Paper{p("2603.00001", "", "A title", 1), p("2603.00002", "", "A title", 5)}, 2},
		{"joins two", []Paper{p("2603.00001", "", "A title", 1), p("", "10.1/a", "Another", 3), p("2603.00001", "10.1/a", "A title", 5)}, 1},
	} {
		k := open(t, "")
		k.keep(t, c.in...)
		all, err := k.recent(t.Context(), at)
		if err != nil || len(all) != c.want {
			t.Errorf("%s: %+v, %v", c.name, all, err)
			continue
		}
		if c.want == 1 && all[0].Votes != 5 {
			t.Errorf("%s: %d votes", c.name, all[0].Votes)
		}
	}
}

// Who was sent one of two papers that turn out to be the same was sent both.
func TestJoinedPapersStaySent(t *testing.T) {
	s := startServer(t)
	k := open(t, configFile(t, s, "papers = 1"))
	k.keep(t, Paper{ArXiv: "2603.00001", Title: "Unpopular", Published: morning.Add(-time.Hour)}, Paper{DOI: "10.1/a", Title: "Popular", Votes: 9, Published: morning.Add(-time.Hour)})
	k.reader(t, "ann@example.org")
	k.send(t) // Popular
	k.keep(t, Paper{ArXiv: "2603.00001", DOI: "10.1/a", Title: "Unpopular", Published: morning})
	k.clock = k.clock.AddDate(0, 0, 1)
	if r := k.send(t); len(r.Deliveries) != 1 || r.Deliveries[0].State != stateEmpty {
		t.Errorf("%+v", r)
	}
}

func TestIdentifiers(t *testing.T) {
	for in, want := range map[string]string{
		"http://arxiv.org/abs/2603.01234v2": "2603.01234", "2603.01234": "2603.01234", "arXiv:2603.01234v11": "2603.01234",
		"https://arxiv.org/abs/math.GT/0309136v1": "math.GT/0309136", "2603.123": "", "https://arxiv.org/abs/2603.01234/evil": "", "": "",
	} {
		if got := arxivOf(in); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{"10.1000/AbC": "10.1000/abc", "https://doi.org/10.1/x": "10.1/x", "doi:10.1/x": "10.1/x", "11.1/x": "", "10.1": "", "10.1/a b": ""} {
		if got := doiOf(in); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}
