package token

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dlclark/regexp2/v2"
)

// pattern finds the matches of a regular expression or of a plain string.
type pattern struct {
	re    *regexp2.Regexp
	plain string // used when re is nil
}

// span is a part of a string: its bytes from lo to hi, and whether a pattern
// matched there.
type span struct {
	lo, hi int
	match  bool
}

const (
	maxPattern = 16 << 10 // bytes of a regular expression

	// Matching may backtrack, so its time is bounded: one match by matchTime,
	// and a whole text by that and a hundred times what its length usually
	// takes. What is left then is one piece. Patterns that come near these
	// bounds on common text are refused when they are read (see probe).
	matchTime   = 2 * time.Second
	timePerByte = 20 * time.Microsecond
)

// compile prepares a regular expression from a file of unknown origin.
func compile(expr string) (*pattern, error) {
	if len(expr) > maxPattern {
		return nil, errors.New("regular expression is longer than 16 KiB")
	}
	re, err := regexp2.Compile(expr, regexp2.Unicode)
	if err != nil {
		// The message holds the expression: as long as that may be.
		return nil, fmt.Errorf("%.200s", strings.ReplaceAll(err.Error(), "\n", " "))
	}
	p := &pattern{re: re}
	// Twice, for a busy machine can stop this process for a while.
	if _, known := splitters[expr]; !known && !p.probe() && !p.probe() {
		return nil, errors.New("regular expression is too slow on long runs of the same character")
	}
	re.MatchTimeout = matchTime
	return p, nil
}

// probe tells whether the expression goes through the runs that text holds
// in less than exponential time.
func (p *pattern) probe() bool {
	const limit = 300 * time.Millisecond // a good pattern takes less than one
	p.re.MatchTimeout = limit
	for _, s := range []string{"a", "A", " ", "\n", "1", "-", "é", "世", "aA", "a1", "a ", " \n", "-1", "a-"} {
		run := []rune(strings.Repeat(s, 1000) + "\x00")
		end := time.Now().Add(limit)
		late := false
		err := p.re.FindRunesMatches(run, 0, func(regexp2.MatchView) bool {
			late = time.Now().After(end)
			return !late
		})
		if err != nil || late {
			return false
		}
	}
	return true
}

// spans cuts all of s into matches and the gaps between them, in order. Matches
// may be empty, gaps are not.
func (p *pattern) spans(s string) []span {
	var out []span
	end := 0
	add := func(lo, hi int) {
		if end < lo {
			out = append(out, span{end, lo, false})
		}
		out = append(out, span{lo, hi, true})
		end = hi
	}
	if p.re == nil {
		if p.plain != "" {
			for {
				i := strings.Index(s[end:], p.plain)
				if i < 0 {
					break
				}
				add(end+i, end+i+len(p.plain))
			}
		}
	} else {
		p.matches(s, add)
	}
	if end < len(s) {
		out = append(out, span{end, len(s), false})
	}
	return out
}

// matches calls add with the byte range of every match. The engine works on
// characters; each byte that is not UTF-8 is one character to it.
func (p *pattern) matches(s string, add func(lo, hi int)) {
	runes := make([]rune, 0, len(s))
	for _, r := range s {
		runes = append(runes, r)
	}
	at, b := 0, 0 // character index and byte offset of the same place
	seek := func(to int) int {
		for ; at < to; at++ {
			_, n := utf8.DecodeRuneInString(s[b:])
			b += n
		}
		return b
	}
	deadline := time.Now().Add(matchTime + time.Duration(len(s))*timePerByte)
	// The only error is a match that runs out of time or stack in spite of
	// the probe; what is left of s is then one gap.
	_ = p.re.FindRunesMatches(runes, 0, func(m regexp2.MatchView) bool {
		i, n, ok := m.GroupRange(0)
		if ok && i >= at {
			lo := seek(i)
			add(lo, seek(i+n))
		}
		return time.Now().Before(deadline)
	})
}

// replace puts content in the place of every match.
func (p *pattern) replace(s, content string) string {
	if p.re == nil {
		if p.plain == "" {
			return s
		}
		return strings.ReplaceAll(s, p.plain, content)
	}
	var b strings.Builder
	for _, m := range p.spans(s) {
		if m.match {
			b.WriteString(content)
		} else {
			b.WriteString(s[m.lo:m.hi])
		}
	}
	return b.String()
}
