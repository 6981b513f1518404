package track

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"hasten/engine/rng"
)

var full = Record{Step: 100, Tokens: 204800, Seconds: 12.5, TrainLoss: 3.25, ValLoss: 3.5, BitsPerByte: 1.75,
	TokensPerS: 16384, LR: 1e-5, GradNorm: 0.5, PeakShare: 0.75, Extra: []Scalar{{"acc", 0.5}, {"moe/drop rate", -0.25}}}

const fullLine = `{"step":100,"tokens":204800,"seconds":12.5,"train_loss":3.25,"val_loss":3.5,"bits_per_byte":1.75,` +
	`"tokens_per_s":16384,"peak_share":0.75,"lr":1e-05,"grad_norm":0.5,"acc":0.5,"moe/drop rate":-0.25}` + "\n"

func TestRecordLine(t *testing.T) {
	got := full.appendJSON(nil)
	if string(got) != fullLine {
		t.Errorf("wrote %swant %s", got, fullLine)
	}
	back, err := parseRecord(got)
	if err != nil || !reflect.DeepEqual(back, full) {
		t.Errorf("read %+v, %v", back, err)
	}
}

func TestValue(t *testing.T) {
	for name, want := range map[string]float64{"val_loss": 3.5, "bits_per_byte": 1.75, "acc": 0.5, "moe/drop rate": -0.25} {
		if got := full.Value(name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	none := Record{Extra: []Scalar{{"zero", 0}}}
	if !math.IsNaN(none.Value("val_loss")) || !math.IsNaN(none.Value("accuracy")) || none.Value("zero") != 0 {
		t.Error("a value that was not measured is a number, or one that was is none")
	}
}

func TestMarshal(t *testing.T) {
	got, err := json.Marshal(full)
	if err != nil || string(got)+"\n" != fullLine {
		t.Errorf("wrote %s, %v", got, err)
	}
	if _, err := json.Marshal(Record{Extra: []Scalar{{"lr", 1}}}); err == nil {
		t.Error("an ambiguous name: no error")
	}
}

func TestLossesThatAreNoNumbers(t *testing.T) {
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		r := Record{Step: 1, TrainLoss: v}
		line := r.appendJSON(nil)
		if !json.Valid(line) {
			t.Errorf("%g: %s is no JSON", v, line)
		}
		if back, err := parseRecord(line); err != nil || !math.IsNaN(back.TrainLoss) {
			t.Errorf("%g: read %+v, %v", v, back, err)
		}
	}
}

func TestParseRecordRefuses(t *testing.T) {
	for _, line := range []string{``, `null`, `[]`, `{"step":1.5}`, `{"tokens":null}`, `{"step":1e300}`, `{"lr":"x"}`, `{"step":1}x`, `{"a":{}}`} {
		if r, err := parseRecord([]byte(line)); err == nil {
			t.Errorf("%s: %+v", line, r)
		}
	}
}

// logged makes a run's directory with the given steps logged.
func logged(t *testing.T, steps ...int64) string {
	t.Helper()
	dir := t.TempDir()
	l, err := Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	add(t, l, steps...)
	return dir
}

func record(step int64) Record {
	return Record{Step: step, Tokens: 10 * step, Seconds: float64(step) / 2, TrainLoss: 1 / float64(step)}
}

// add logs steps and closes.
func add(t *testing.T, l *Logger, steps ...int64) {
	t.Helper()
	for _, s := range steps {
		if err := l.Log(record(s)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, dir string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, LogName))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestResumedLogIsThatOfAnUnbrokenRun(t *testing.T) {
	want := read(t, logged(t, 1, 2, 3, 4, 5))
	for _, torn := range []string{"", "{", `{"step":9,"tok`, "\x00\x00\x00", "\x00\x00\n", strings.Repeat("\x00", 3<<20), strings.Repeat("\x00", 3<<20) + "\n"} {
		dir := logged(t, 1, 2, 3, 4, 8, 9) // the checkpoint is of step 3
		f, err := os.OpenFile(filepath.Join(dir, LogName), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(torn); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if all, err := ReadLog(f.Name()); err != nil || len(all) != 6 || !reflect.DeepEqual(all[5], record(9)) {
			t.Errorf("%.20q: read %d records, %v", torn, len(all), err)
		}
		l, err := Resume(dir, 3)
		if err != nil {
			t.Fatal(err)
		}
		add(t, l, 4, 5)
		if got := read(t, dir); !bytes.Equal(got, want) {
			t.Errorf("%.20q: the log is\n%s", torn, got)
		}
	}
}

func TestCreateReplacesAndResumeBegins(t *testing.T) {
	dir := logged(t, 1, 2)
	l, err := Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	add(t, l, 7)
	if got, want := read(t, dir), read(t, logged(t, 7)); !bytes.Equal(got, want) {
		t.Errorf("the log is %s", got)
	}
	dir = t.TempDir()
	if l, err = Resume(dir, 6); err != nil {
		t.Fatal(err)
	}
	add(t, l, 7)
	if got, want := read(t, dir), read(t, logged(t, 7)); !bytes.Equal(got, want) {
		t.Errorf("the log is %s", got)
	}
	if _, err := Resume(dir, -1); err == nil {
		t.Error("step -1: no error")
	}
	if _, err := Create(filepath.Join(dir, "absent")); err == nil {
		t.Error("absent directory: no error")
	}
}

func TestBrokenLineInTheMiddleIsNamed(t *testing.T) {
	for _, bad := range []string{"{", "x", strings.Repeat("y", 3<<20)} {
		dir := t.TempDir()
		path := filepath.Join(dir, LogName)
		if err := os.WriteFile(path, []byte("{\"step\":1}\n"+bad+"\n{\"step\":2}\n"), 0o666); err != nil {
			t.Fatal(err)
		}
		_, errRead := ReadLog(path)
		_, errResume := Resume(dir, 5)
		for _, err := range []error{errRead, errResume} {
			if err == nil || !strings.Contains(err.Error(), "line 2") || !strings.Contains(err.Error(), path) {
				t.Errorf("%.5s: %v", bad, err)
			}
		}
	}
}

func TestLogRefusesAmbiguousNames(t *testing.T) {
	dir := t.TempDir()
	l, err := Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, names := range [][]string{{""}, {"lr"}, {"step"}, {"a", "a"}, {"a\"b"}, {"a\nb"}, {"é"}} {
		var r Record
		for _, n := range names {
			r.Extra = append(r.Extra, Scalar{n, 1})
		}
		if l.Log(r) == nil {
			t.Errorf("%q: no error", names)
		}
	}
	add(t, l)
	if got := read(t, dir); len(got) > 0 {
		t.Errorf("wrote %s", got)
	}
}

// What a failed write leaves behind must not end up inside the log.
func TestFailedWriteIsWrittenOver(t *testing.T) {
	dir := t.TempDir()
	l, err := Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Log(record(1)); err != nil {
		t.Fatal(err)
	}
	good := l.log.f
	if l.log.f, err = os.Open(good.Name()); err != nil { // read only: every write fails
		t.Fatal(err)
	}
	if l.Log(record(2)) == nil {
		t.Fatal("no error")
	}
	l.log.f.Close()
	l.log.f = good
	if _, err := good.WriteAt([]byte(`{"st`), l.log.end); err != nil { // as a disk that is full half-way
		t.Fatal(err)
	}
	add(t, l, 3)
	if got, want := read(t, dir), read(t, logged(t, 1, 3)); !bytes.Equal(got, want) {
		t.Errorf("the log is %s", got)
	}
}

func TestLogAllocatesNothing(t *testing.T) {
	l, err := Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if n := testing.AllocsPerRun(100, func() {
		if err := l.Log(full); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// crc32c by its definition, bit by bit.
func crc32c(data []byte) uint32 {
	c := ^uint32(0)
	for _, b := range data {
		c ^= uint32(b)
		for range 8 {
			c = c>>1 ^ 0x82f63b78*(c&1)
		}
	}
	return ^c
}

// frame by the format's definition.
func frame(data string) string {
	masked := func(b []byte) string {
		c := crc32c(b)
		return string(binary.LittleEndian.AppendUint32(nil, (c>>15|c<<17)+0xa282ead8))
	}
	n := binary.LittleEndian.AppendUint64(nil, uint64(len(data)))
	return string(n) + masked(n) + data + masked([]byte(data))
}

func TestGoldenEvents(t *testing.T) {
	if crc32c([]byte("123456789")) != 0xe3069283 {
		t.Fatal("the reference checksum is wrong")
	}
	wall := time.Unix(1, 500e6)
	b := appendStart(nil, wall, 7)
	b = appendScalars(b, wall, &Record{Step: 300, ValLoss: 2, Extra: []Scalar{{"a", math.Inf(1)}}})
	const time15 = "\x09\x00\x00\x00\x00\x00\x00\xf8\x3f" // 1.5
	want := frame(time15+"\x10\x00"+"\x1a\x0dbrain.Event:2") +
		frame(time15+"\x10\x07"+"\x3a\x02\x08\x01") +
		frame(time15+"\x10\xac\x02"+"\x2a\x1b"+
			"\x0a\x0f"+"\x0a\x08loss/val"+"\x15\x00\x00\x00\x40"+
			"\x0a\x08"+"\x0a\x01a"+"\x15\x00\x00\x80\x7f")
	if string(b) != want {
		t.Errorf("wrote\n%q, want\n%q", b, want)
	}
}

func TestEventsReadBack(t *testing.T) {
	dir := t.TempDir()
	for range 2 { // two runs in the same second must not share a file
		l, err := Create(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Log(full); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	files, _ := filepath.Glob(filepath.Join(dir, eventsPrefix+"*"))
	if len(files) != 2 {
		t.Fatalf("files %q", files)
	}
	got, err := ReadEvents(files[1])
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float32{"progress/seconds": 12.5, "loss/train": 3.25, "loss/val": 3.5, "loss/bits_per_byte": 1.75,
		"speed/tokens_per_s": 16384, "speed/peak_share": 0.75, "optim/lr": 1e-5, "optim/grad_norm": 0.5, "acc": 0.5, "moe/drop rate": -0.25}
	if len(got) != len(want) {
		t.Errorf("%d events, want %d", len(got), len(want))
	}
	for _, e := range got {
		if e.Step != 100 || e.Value != want[e.Tag] || math.Abs(e.Wall-float64(time.Now().Unix())) > 3600 {
			t.Errorf("event %+v", e)
		}
	}
	data, err := os.ReadFile(files[1])
	if err != nil {
		t.Fatal(err)
	}
	for n := range data { // cut anywhere, it reads as far as whole events go
		if cut, err := readEvents(bytes.NewReader(data[:n]), int64(n)); err != nil || len(cut) > 0 {
			t.Fatalf("cut at %d: %v, %v", n, cut, err)
		}
	}
	for bit := range 8 * len(data) { // each byte is under a checksum
		bad := bytes.Clone(data)
		bad[bit/8] ^= 1 << (bit % 8)
		if _, err := readEvents(bytes.NewReader(bad), int64(len(bad))); err == nil {
			t.Fatalf("bit %d flipped: no error", bit)
		}
	}
}

func TestEventsFromElsewhere(t *testing.T) {
	for _, c := range []struct {
		data string
		want string // in the error
		n    int
	}{
		{"", "", 0},
		{frame(""), "", 0},
		{frame("\x2a\x09\x0a\x0f\x0a\x00\x15\x00\x00\x80\x3f\x10\x05"), "no TensorBoard event", 0}, // a length too long
		{frame("\x2a\x0b\x0a\x09\x0a\x02xy\x15\x00\x00\x80\x3f" + "\x10\x05"), "", 1},              // the step after the summary
		{frame("\x2a\x06\x0a\x04\x0a\x02xy"), "", 0},                                               // no simple value
		{frame("\xff"), "no TensorBoard event", 0},
		{string(binary.LittleEndian.AppendUint64(nil, 1<<62)) + "1234", "checksum", 0},
		{frame("\x10\x01")[:12+2] + "1234", "checksum of a record is", 0},
	} {
		got, err := readEvents(strings.NewReader(c.data), int64(len(c.data)))
		if c.want == "" && (err != nil || len(got) != c.n) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q: %v, %v", c.data, got, err)
		}
		if c.n == 1 && (got[0] != Event{Step: 5, Tag: "xy", Value: 1}) {
			t.Errorf("read %+v", got[0])
		}
	}
	huge := frame("")
	huge = string(binary.LittleEndian.AppendUint64(nil, 1<<40)) + huge[8:]
	sum := []byte(huge)
	binary.LittleEndian.PutUint32(sum[8:], maskedCRC(sum[:8]))
	if _, err := readEvents(bytes.NewReader(sum), int64(len(sum))); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a record of 1<<40 bytes: %v", err)
	}
}

func TestDraw(t *testing.T) {
	var records []Record
	s := rng.New(1, 0)
	for i := int64(1); i <= 5000; i++ {
		r := Record{Step: i, Tokens: 1000 * i, Seconds: float64(i), TrainLoss: 3 + 5/float64(i) + 0.1*s.Normal()}
		if i%500 == 0 {
			r.ValLoss = r.TrainLoss + 0.2
		}
		if i%7 == 0 {
			r.TrainLoss = math.NaN()
		}
		records = append(records, r)
	}
	for _, c := range []struct {
		axis Axis
		n    int
		want string
	}{
		{ByTokens, 5000, "million tokens"}, {BySeconds, 5000, "minutes"}, {BySteps, 5000, "thousand steps"}, {ByTokens, 1, "tokens"}, {BySeconds, 9, "seconds"},
	} {
		var b, again bytes.Buffer
		if err := Draw(&b, "a <run> & its loss", c.axis, LossCurves(records[:c.n])...); err != nil {
			t.Fatal(err)
		}
		if err := Draw(&again, "a <run> & its loss", c.axis, LossCurves(records[:c.n])...); err != nil || !bytes.Equal(b.Bytes(), again.Bytes()) {
			t.Errorf("the second picture differs (%v)", err)
		}
		for _, text := range []string{c.want, "training", "loss"} {
			if !strings.Contains(b.String(), text) {
				t.Errorf("axis %d: no %q in the picture", c.axis, text)
			}
		}
		if has := strings.Contains(b.String(), "validation"); has != (c.n >= 500) {
			t.Errorf("%d records: validation drawn: %v", c.n, has)
		}
		if b.Len() > 200<<10 {
			t.Errorf("%d KiB", b.Len()>>10)
		}
		d := xml.NewDecoder(&b)
		for {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, none := range [][]Record{nil, {{Step: 1}}, {{Step: 1, TrainLoss: math.Inf(1)}}} {
		if Draw(io.Discard, "", ByTokens, LossCurves(none)...) == nil {
			t.Errorf("%v: no error", none)
		}
	}
}

func TestThinningKeepsTheMean(t *testing.T) {
	var c Curve
	for i := range 8 * maxPoints {
		c.Records = append(c.Records, Record{Step: int64(i), TrainLoss: float64(1 + i%8)})
	}
	c.Of = func(r *Record) float64 { return r.TrainLoss }
	points := c.points(BySteps)
	if len(points) != maxPoints {
		t.Fatalf("%d points", len(points))
	}
	for i, p := range points {
		if p.Y != 4.5 || p.X != float64(8*i)+3.5 {
			t.Fatalf("point %d is %v", i, p)
		}
	}
}

func FuzzReadLog(f *testing.F) {
	f.Add([]byte(fullLine))
	f.Add([]byte(fullLine + fullLine[:50]))
	f.Add([]byte("{\"step\":1}\n\n{\"step\":2}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		end := int64(0)
		err := scan(bytes.NewReader(data), func(r Record, at int64) bool {
			if at <= end || at > int64(len(data)) || data[at-1] != '\n' {
				t.Fatalf("a line ends at %d", at)
			}
			end = at
			return true
		})
		if err != nil && errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(err)
		}
	})
}

func FuzzReadEvents(f *testing.F) {
	b := appendStart(nil, time.Unix(1, 0), 7)
	f.Add(appendScalars(b, time.Unix(2, 0), &full))
	f.Add([]byte(frame("\x2a\x06\x0a\x04\x0a\x02xy")))
	f.Fuzz(func(t *testing.T, data []byte) {
		readEvents(bytes.NewReader(data), int64(len(data)))
		// Damage behind the checksums, too.
		parseEvent(nil, data)
	})
}

func Example() {
	dir, err := os.MkdirTemp("", "run")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	l, err := Create(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(l.Log(Record{Step: 1, Tokens: 4096, Seconds: 0.5, TrainLoss: 8.3}), l.Close())
	records, err := ReadLog(filepath.Join(dir, LogName))
	fmt.Println(records[0].TrainLoss, err)
	// Output:
	// <nil> <nil>
	// 8.3 <nil>
}
