package track

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Record is one measurement of a run. A float that is zero was not measured
// and is not written; one that is infinite or not a number is written as null
// and read as NaN, since JSON has no word for it.
type Record struct {
	Step    int64   // updates so far
	Tokens  int64   // tokens, or samples, trained on so far
	Seconds float64 // training time so far

	TrainLoss   float64 // of this step's batch, or averaged since the last record
	ValLoss     float64
	BitsPerByte float64 // of the validation data
	TokensPerS  float64
	LR          float64
	GradNorm    float64 // before clipping
	PeakShare   float64 // share of the machine's peak arithmetic, 0 to 1

	Extra []Scalar // what else a task measures; names must not be those of other fields
}

// Scalar is a named value.
type Scalar struct {
	Name  string
	Value float64
}

// columns are the floats of a Record, with their names in the log and in
// TensorBoard, which groups by what is before the slash.
var columns = [...]struct {
	name, tag string
	of        func(*Record) *float64
}{
	{"seconds", "progress/seconds", func(r *Record) *float64 { return &r.Seconds }},
	{"train_loss", "loss/train", func(r *Record) *float64 { return &r.TrainLoss }},
	{"val_loss", "loss/val", func(r *Record) *float64 { return &r.ValLoss }},
	{"bits_per_byte", "loss/bits_per_byte", func(r *Record) *float64 { return &r.BitsPerByte }},
	{"tokens_per_s", "speed/tokens_per_s", func(r *Record) *float64 { return &r.TokensPerS }},
	{"peak_share", "speed/peak_share", func(r *Record) *float64 { return &r.PeakShare }},
	{"lr", "optim/lr", func(r *Record) *float64 { return &r.LR }},
	{"grad_norm", "optim/grad_norm", func(r *Record) *float64 { return &r.GradNorm }},
}

// Value is the value of a name in the log, such as val_loss or accuracy; NaN
// where it was not measured.
func (r *Record) Value(name string) float64 {
	for i := range columns {
		if v := *columns[i].of(r); columns[i].name == name && v != 0 {
			return v
		}
	}
	for _, s := range r.Extra {
		if s.Name == name {
			return s.Value
		}
	}
	return math.NaN()
}

// MarshalJSON writes r as in the log.
func (r Record) MarshalJSON() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(r.appendJSON(nil), []byte{'\n'}), nil
}

// appendJSON appends r as one line.
func (r *Record) appendJSON(b []byte) []byte {
	b = append(b, `{"step":`...)
	b = strconv.AppendInt(b, r.Step, 10)
	b = append(b, `,"tokens":`...)
	b = strconv.AppendInt(b, r.Tokens, 10)
	for i := range columns {
		if v := *columns[i].of(r); v != 0 {
			b = appendField(b, columns[i].name, v)
		}
	}
	for _, s := range r.Extra {
		b = appendField(b, s.Name, s.Value)
	}
	return append(b, '}', '\n')
}

func appendField(b []byte, name string, v float64) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':')
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return append(b, "null"...)
	}
	return strconv.AppendFloat(b, v, 'g', -1, 64)
}

// check refuses names of Extra that would make the line ambiguous or no JSON.
func (r *Record) check() error {
	for i, s := range r.Extra {
		bad := s.Name == "" || s.Name == "step" || s.Name == "tokens"
		for j := range columns {
			bad = bad || s.Name == columns[j].name
		}
		for _, other := range r.Extra[:i] {
			bad = bad || s.Name == other.Name
		}
		for k := range len(s.Name) {
			c := s.Name[k]
			bad = bad || c < ' ' || c > '~' || c == '"' || c == '\\'
		}
		if bad {
			return fmt.Errorf("%q cannot be the name of a further value in a log", s.Name)
		}
	}
	return nil
}

// parseRecord reads a line. Names it does not know go to Extra, sorted.
func parseRecord(line []byte) (Record, error) {
	var r Record
	var fields map[string]*float64
	if err := json.Unmarshal(line, &fields); err != nil {
		return r, err
	}
	if fields == nil {
		return r, errors.New("null where an object is expected")
	}
	for name, p := range fields {
		v := math.NaN()
		if p != nil {
			v = *p
		}
		if err := r.set(name, v); err != nil {
			return r, err
		}
	}
	slices.SortFunc(r.Extra, func(a, b Scalar) int { return strings.Compare(a.Name, b.Name) })
	return r, nil
}

func (r *Record) set(name string, v float64) error {
	if name == "step" || name == "tokens" {
		if v != math.Trunc(v) || math.Abs(v) > 1<<53 { // a NaN is not its own Trunc
			return fmt.Errorf("%s is %g, not a whole number", name, v)
		}
		if name == "step" {
			r.Step = int64(v)
		} else {
			r.Tokens = int64(v)
		}
		return nil
	}
	for i := range columns {
		if columns[i].name == name {
			*columns[i].of(r) = v
			return nil
		}
	}
	r.Extra = append(r.Extra, Scalar{name, v})
	return nil
}

// maxLine bounds the memory that a damaged log can take.
const maxLine = 1 << 20

// ReadLog reads a log. A last line that a killed run left half-written is
// passed over; any other line that is no record is an error, which names it.
func ReadLog(path string) ([]Record, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []Record
	err = scan(f, func(r Record, _ int64) bool {
		all = append(all, r)
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return all, nil
}

// scan calls yield with each record and the offset behind its line, until
// yield returns false or the whole lines end.
func scan(r io.Reader, yield func(r Record, end int64) bool) error {
	b := bufio.NewReaderSize(r, maxLine)
	var offset int64
	for n := 1; ; n++ {
		line, err := b.ReadSlice('\n')
		offset += int64(len(line))
		if err == io.EOF {
			return nil // what is left, if anything, is not a whole line
		}
		var record Record
		if err == nil {
			record, err = parseRecord(line)
		} else if err == bufio.ErrBufferFull {
			err = fmt.Errorf("longer than %d bytes", maxLine)
			skipLine(b)
		}
		if err != nil {
			// A power cut can leave blocks of anything where the file had
			// grown, a newline among it; then this line is the last one.
			if _, end := b.Peek(1); end == io.EOF {
				return nil
			}
			return fmt.Errorf("line %d: %w", n, err)
		}
		if !yield(record, offset) {
			return nil
		}
	}
}

func skipLine(b *bufio.Reader) {
	err := bufio.ErrBufferFull
	for err == bufio.ErrBufferFull {
		_, err = b.ReadSlice('\n')
	}
}
