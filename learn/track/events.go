package track

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// TensorBoard reads files of records, framed as TFRecord:
//
//	uint64  length of the data, little-endian
//	uint32  masked CRC-32C of the length's bytes
//	        data
//	uint32  masked CRC-32C of the data
//
// The data is one Event message. Its fields, and those of the messages in it:
const (
	eventWallTime    protowire.Number = 1 // double, seconds since 1970
	eventStep        protowire.Number = 2 // int64
	eventFileVersion protowire.Number = 3 // string, in the first event only
	eventSummary     protowire.Number = 5 // Summary
	eventSessionLog  protowire.Number = 7 // SessionLog

	summaryValue     protowire.Number = 1 // repeated Value
	valueTag         protowire.Number = 1 // string
	valueSimple      protowire.Number = 2 // float
	sessionLogStatus protowire.Number = 1 // enum

	sessionStart = 1
)

const (
	frameHead = 12 // bytes before the data
	frameTail = 4  // and behind it
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// maskedCRC is the checksum of a frame: a CRC of data that contains CRCs is
// weak, so the format stores it rotated and shifted.
func maskedCRC(data []byte) uint32 {
	c := crc32.Checksum(data, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}

// appendFrame appends the frame of the event that make appends.
func appendFrame(b []byte, event func([]byte) []byte) []byte {
	start := len(b)
	b = append(b, make([]byte, frameHead)...)
	b = event(b)
	head, data := b[start:start+frameHead], b[start+frameHead:]
	binary.LittleEndian.PutUint64(head, uint64(len(data)))
	binary.LittleEndian.PutUint32(head[8:], maskedCRC(head[:8]))
	return binary.LittleEndian.AppendUint32(b, maskedCRC(data))
}

func appendEventHead(b []byte, wall time.Time, step int64) []byte {
	b = protowire.AppendTag(b, eventWallTime, protowire.Fixed64Type)
	b = protowire.AppendFixed64(b, math.Float64bits(float64(wall.UnixMicro())/1e6))
	b = protowire.AppendTag(b, eventStep, protowire.VarintType)
	return protowire.AppendVarint(b, uint64(step))
}

// appendStart appends the events that begin a file. The session's start tells
// TensorBoard to forget what earlier files have from that step on: it was
// logged after the checkpoint that this run goes on from.
func appendStart(b []byte, wall time.Time, step int64) []byte {
	b = appendFrame(b, func(b []byte) []byte {
		b = appendEventHead(b, wall, 0)
		b = protowire.AppendTag(b, eventFileVersion, protowire.BytesType)
		return protowire.AppendString(b, "brain.Event:2")
	})
	return appendFrame(b, func(b []byte) []byte {
		b = appendEventHead(b, wall, step)
		b = protowire.AppendTag(b, eventSessionLog, protowire.BytesType)
		b = protowire.AppendVarint(b, 2)
		b = protowire.AppendTag(b, sessionLogStatus, protowire.VarintType)
		return protowire.AppendVarint(b, sessionStart)
	})
}

// appendScalars appends the event of a record.
func appendScalars(b []byte, wall time.Time, r *Record) []byte {
	return appendFrame(b, func(b []byte) []byte {
		b = appendEventHead(b, wall, r.Step)
		b = protowire.AppendTag(b, eventSummary, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(summarySize(r)))
		for i := range columns {
			if v := *columns[i].of(r); v != 0 {
				b = appendValue(b, columns[i].tag, v)
			}
		}
		for _, s := range r.Extra {
			b = appendValue(b, s.Name, s.Value)
		}
		return b
	})
}

func summarySize(r *Record) int {
	n := 0
	for i := range columns {
		if *columns[i].of(r) != 0 {
			n += fieldSize(columns[i].tag)
		}
	}
	for _, s := range r.Extra {
		n += fieldSize(s.Name)
	}
	return n
}

// valueSize is the size of a Value message: two tags of one byte each.
func valueSize(tag string) int { return 1 + protowire.SizeBytes(len(tag)) + 1 + 4 }

func fieldSize(tag string) int { return 1 + protowire.SizeBytes(valueSize(tag)) }

func appendValue(b []byte, tag string, v float64) []byte {
	b = protowire.AppendTag(b, summaryValue, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(valueSize(tag)))
	b = protowire.AppendTag(b, valueTag, protowire.BytesType)
	b = protowire.AppendString(b, tag)
	b = protowire.AppendTag(b, valueSimple, protowire.Fixed32Type)
	return protowire.AppendFixed32(b, math.Float32bits(float32(v)))
}

// Event is a scalar of a TensorBoard file.
type Event struct {
	Wall  float64 // seconds since 1970
	Step  int64
	Tag   string
	Value float32
}

// maxEvent bounds the memory that a file from elsewhere can take at a time.
const maxEvent = 64 << 20

// ReadEvents reads the scalars of a TensorBoard file; everything else in it,
// such as pictures, is passed over, and so is a last event that a killed run
// left half-written.
func ReadEvents(path string) ([]Event, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	all, err := readEvents(f, info.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return all, nil
}

func readEvents(r io.Reader, size int64) ([]Event, error) {
	var all []Event
	var data []byte
	b := bufio.NewReader(r)
	for at := int64(0); ; {
		var head [frameHead]byte
		if _, err := io.ReadFull(b, head[:]); err != nil {
			return all, torn(err)
		}
		n := binary.LittleEndian.Uint64(head[:])
		if binary.LittleEndian.Uint32(head[8:]) != maskedCRC(head[:8]) {
			return nil, fmt.Errorf("byte %d: the checksum of a record's length is wrong", at)
		}
		if n > maxEvent {
			return nil, fmt.Errorf("byte %d: a record of %d bytes; want at most %d", at, n, maxEvent)
		}
		if int64(n) > size-at-frameHead-frameTail {
			return all, nil
		}
		if uint64(cap(data)) < n+frameTail {
			data = make([]byte, n+frameTail)
		}
		data = data[:n+frameTail]
		if _, err := io.ReadFull(b, data); err != nil {
			return all, torn(err)
		}
		if binary.LittleEndian.Uint32(data[n:]) != maskedCRC(data[:n]) {
			return nil, fmt.Errorf("byte %d: the checksum of a record is wrong", at)
		}
		var err error
		if all, err = parseEvent(all, data[:n]); err != nil {
			return nil, fmt.Errorf("byte %d: %w", at, err)
		}
		at += int64(n) + frameHead + frameTail
	}
}

// torn forgives an end of the file.
func torn(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil
	}
	return err
}

// errWire is the error of data that is no message.
var errWire = errors.New("the record is no TensorBoard event")

// field is one field of a message; number holds those that are no bytes.
type field struct {
	num    protowire.Number
	typ    protowire.Type
	number uint64
	bytes  []byte
}

// next takes a field off b.
func next(b []byte) (f field, rest []byte, err error) {
	num, typ, n := protowire.ConsumeTag(b)
	if n < 0 {
		return f, nil, errWire
	}
	b = b[n:]
	f = field{num: num, typ: typ}
	switch typ {
	case protowire.VarintType:
		f.number, n = protowire.ConsumeVarint(b)
	case protowire.Fixed64Type:
		f.number, n = protowire.ConsumeFixed64(b)
	case protowire.Fixed32Type:
		var v uint32
		v, n = protowire.ConsumeFixed32(b)
		f.number = uint64(v)
	case protowire.BytesType:
		f.bytes, n = protowire.ConsumeBytes(b)
	default:
		n = protowire.ConsumeFieldValue(num, typ, b)
	}
	if n < 0 {
		return f, nil, errWire
	}
	return f, b[n:], nil
}

// each calls yield with the fields of a message.
func each(b []byte, yield func(f field) error) error {
	for len(b) > 0 {
		f, rest, err := next(b)
		if err == nil {
			err = yield(f)
		}
		if err != nil {
			return err
		}
		b = rest
	}
	return nil
}

// parseEvent appends the scalars of an Event message.
func parseEvent(all []Event, data []byte) ([]Event, error) {
	var event Event
	first := len(all)
	err := each(data, func(f field) error {
		switch {
		case f.num == eventWallTime && f.typ == protowire.Fixed64Type:
			event.Wall = math.Float64frombits(f.number)
		case f.num == eventStep && f.typ == protowire.VarintType:
			event.Step = int64(f.number)
		case f.num == eventSummary && f.typ == protowire.BytesType:
			return each(f.bytes, func(f field) error {
				if f.num != summaryValue || f.typ != protowire.BytesType {
					return nil
				}
				e, scalar, err := parseValue(f.bytes)
				if scalar {
					all = append(all, e)
				}
				return err
			})
		}
		return nil
	})
	for i := range all[first:] { // the fields may come in any order
		all[first+i].Wall, all[first+i].Step = event.Wall, event.Step
	}
	return all, err
}

// parseValue reads a Value message; scalar tells whether it has a simple value.
func parseValue(data []byte) (e Event, scalar bool, err error) {
	err = each(data, func(f field) error {
		switch {
		case f.num == valueTag && f.typ == protowire.BytesType:
			e.Tag = string(f.bytes)
		case f.num == valueSimple && f.typ == protowire.Fixed32Type:
			e.Value, scalar = math.Float32frombits(uint32(f.number)), true
		}
		return nil
	})
	return e, scalar, err
}
