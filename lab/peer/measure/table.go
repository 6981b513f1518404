package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"strings"

	"hasten/engine/atomicfile"
)

// speedTables is the result of measure in Markdown.
func speedTables(r *speedReport) string {
	var b strings.Builder
	writeHost(&b, r.Host, r.Host.Hasten)
	b.WriteString("\n| comparison | hasten | PyTorch | unit | ratio (lowest–highest) | memory, MiB | PyTorch's memory is |\n")
	b.WriteString("|---|---:|---:|---|---:|---:|---:|\n")
	for _, o := range r.Outcomes {
		if len(o.Pairs) == 0 {
			fmt.Fprintf(&b, "| %s | – | – | %s | not measured: %s | | |\n", o.Name, o.Unit, o.Failed)
			continue
		}
		collect := func(f func(pair) float64) []float64 {
			var all []float64
			for _, p := range o.Pairs {
				all = append(all, f(p))
			}
			return all
		}
		ratios := collect(func(p pair) float64 { return p.Hasten.Rate / p.Peer.Rate })
		ours := median(collect(func(p pair) float64 { return p.Hasten.Memory }))
		theirs := median(collect(func(p pair) float64 { return p.Peer.Memory }))
		memory, times := "", ""
		if ours > 0 && theirs > 0 {
			memory, times = fmt.Sprintf("%.0f : %.0f", ours, theirs), fmt.Sprintf("%.2f×", theirs/ours)
		}
		fmt.Fprintf(&b, "| %s | %.0f | %.0f | %s | **%.2f×** (%.2f–%.2f) | %s | %s |\n", o.Name,
			median(collect(func(p pair) float64 { return p.Hasten.Rate })), median(collect(func(p pair) float64 { return p.Peer.Rate })),
			o.Unit, median(ratios), slices.Min(ratios), slices.Max(ratios), memory, times)
	}
	fmt.Fprintf(&b, "\nMedians of %d pairs of processes; the ratio is taken pair by pair.\n", rounds(r))
	return b.String()
}

// rounds is the number of pairs of the comparisons that were carried out.
func rounds(r *speedReport) int {
	n := 0
	for _, o := range r.Outcomes {
		n = max(n, len(o.Pairs))
	}
	return n
}

// qualityTables is the result of measure quality in Markdown. Of a file that
// holds several final runs, or several settings of hasten's, the newest count.
func qualityTables(records []*record) string {
	var h *host
	var searched, ours []*record
	var final *record
	for _, r := range records {
		switch {
		case r.Host != nil:
			h = r.Host
		case r.Run.Role == roleSearch:
			searched = append(searched, r)
		case r.Run.Role == roleFinal:
			final = r
		default:
			if same := len(ours) > 0 && ours[0].Run.Hasten == r.Run.Hasten && ours[0].Run.Budget == r.Run.Budget; !same {
				ours = nil
			}
			ours = append(ours, r)
		}
	}
	var b strings.Builder
	version := ""
	if ours != nil {
		version = ours[0].Run.Hasten
	}
	writeHost(&b, h, version)
	b.WriteString("\n| PyTorch: layers × dim, context, batch, learning rate, format | training seconds | bits per byte |\n|---|---:|---:|\n")
	for _, r := range searched {
		fmt.Fprintf(&b, "| %s | %.0f | %.4f |\n", r.Run.Cell.describe(), r.Run.Budget, r.last().BitsPerByte)
	}
	if final == nil {
		return b.String()
	}
	target := final.last().BitsPerByte
	fmt.Fprintf(&b, "| **the best: %s** | **%.0f** | **%.4f** |\n", final.Run.Cell.describe(), final.Run.Budget, target)
	if ours == nil {
		return b.String()
	}
	theirs := secondsTo(final.Points, target)
	fmt.Fprintf(&b, "\n| hasten | training seconds | bits per byte | seconds to PyTorch's %.4f | faster than PyTorch's %.0f s |\n|---|---:|---:|---:|---:|\n", target, theirs)
	var times []float64
	for _, r := range ours {
		at := secondsTo(r.Points, target)
		times = append(times, at)
		fmt.Fprintf(&b, "| seed %d | %.0f | %.4f | %s |\n", r.Run.Seed, r.Run.Budget, r.last().BitsPerByte, reached(at, theirs))
	}
	fmt.Fprintf(&b, "| median | | | %s |\n", reached(median(times), theirs))
	return b.String()
}

func (c cell) describe() string {
	return fmt.Sprintf("%d × %d, %d, %d, %g, %s", c.Layers, c.Dim, c.Ctx, c.Batch, c.LR, c.precision())
}

// reached is the two last columns of a row of hasten's.
func reached(at, theirs float64) string {
	if math.IsInf(at, 1) {
		return "not reached | –"
	}
	return fmt.Sprintf("%.1f | **%.1f×**", at, theirs/at)
}

// writeHost describes the machine and what was compared on it.
func writeHost(b *strings.Builder, h *host, hasten string) {
	fmt.Fprintf(b, "%s: %s, %d cores, %s; %d threads on each side. PyTorch %s, Python %s, %s. hasten %s, %s.\n",
		h.Date.Format("2006-01-02"), h.CPU, h.Cores, h.Platform, h.Threads, h.Peer.Torch, h.Peer.Python, h.Peer.BLAS, hasten, h.Go)
	if h.Load > 0.3 {
		fmt.Fprintf(b, "Something else was running (load %.1f): these figures are rough.\n", h.Load)
	}
}

// median of a set of numbers: of an even count the upper of the middle two.
func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	return x[len(x)/2]
}

// fill puts tables into a document, between the lines
//
//	<!-- speed -->   and   <!-- end of speed -->
//
// and the same for quality. Results that are not there leave their place as it is.
func fill(doc, speed, quality string) error {
	text, err := os.ReadFile(doc)
	if err != nil {
		return err
	}
	if data, err := os.ReadFile(speed); err == nil {
		var r speedReport
		if err := json.Unmarshal(data, &r); err != nil {
			return fmt.Errorf("%s: %w", speed, err)
		}
		if r.Host == nil {
			return fmt.Errorf("%s: it names no host: is it a result of measure?", speed)
		}
		if text, err = place(text, "speed", speedTables(&r)); err != nil {
			return fmt.Errorf("%s: %w", doc, err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := os.Stat(quality); err == nil {
		j, err := openJournal(quality)
		if err != nil {
			return err
		}
		if text, err = place(text, "quality", qualityTables(j.records)); err != nil {
			return fmt.Errorf("%s: %w", doc, err)
		}
	}
	return atomicfile.WriteFile(doc, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

// place replaces what is between two marks.
func place(text []byte, name, with string) ([]byte, error) {
	begin, end := []byte("<!-- "+name+" -->\n"), []byte("<!-- end of "+name+" -->")
	before, rest, ok := bytes.Cut(text, begin)
	_, after, closed := bytes.Cut(rest, end)
	if !ok || !closed {
		return nil, fmt.Errorf("there is no place for the tables: want the lines %s and %s", bytes.TrimSpace(begin), end)
	}
	return slices.Concat(before, begin, []byte("\n"+with+"\n"), end, after), nil
}
