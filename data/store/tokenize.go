package store

import (
	"iter"
	"sync"

	"hasten/data/source"
	"hasten/engine/par"
)

// Encoder turns text into tokens, which it appends to dst. Several goroutines
// call it at once.
type Encoder interface {
	Encode(dst []int32, text []byte) []int32
}

// Counts says how much was tokenised.
type Counts struct {
	Documents int64
	Bytes     int64 // of text
	Tokens    int64 // with the end-of-text tokens
}

// Output is where Tokenize writes. A nil Writer drops its documents.
type Output struct {
	Train, Valid *Writer
	Progress     func(Counts) // called now and then with what is done, if not nil
}

func (o *Output) writer(d *source.Document) *Writer {
	if d.Valid {
		return o.Valid
	}
	return o.Train
}

// chunkText is about the bytes of text that are encoded at a stretch.
const chunkText = 256 << 10

// chunk is a run of documents on its way.
type chunk struct {
	docs   []source.Document
	tokens []int32
	ends   []int // ends[i] is where the tokens of docs[i] end
	err    error // what ended the documents
	ready  chan struct{}
}

// Tokenize encodes documents on all cores and writes them in their order, each
// with the token eos after it (none if eos is below 0). Memory stays bounded.
func Tokenize(docs iter.Seq2[source.Document, error], enc Encoder, eos int32, out Output) (Counts, error) {
	workers := par.Width()
	free := make(chan *chunk, 2*workers+2)
	for range cap(free) {
		free <- &chunk{ready: make(chan struct{}, 1)}
	}
	work := make(chan *chunk, cap(free))
	order := make(chan *chunk, cap(free))
	stop := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		defer close(work)
		defer close(order)
		gather(docs, &out, free, stop, func(c *chunk) {
			work <- c
			order <- c
		})
	})
	for range workers {
		running.Go(func() {
			for c := range work {
				c.encode(enc, eos)
				c.ready <- struct{}{}
			}
		})
	}
	var sum Counts
	var failed error
	begins := true // the next document is no continuation
	for c := range order {
		<-c.ready
		if failed == nil {
			failed = c.write(&out, &begins, &sum)
			if failed == nil {
				failed = c.err
			}
			if failed != nil {
				close(stop)
			}
		}
		if out.Progress != nil && failed == nil {
			out.Progress(sum)
		}
		free <- c
	}
	running.Wait()
	return sum, failed
}

// gather fills free chunks with documents and sends them on, until the
// documents end or stop is closed.
func gather(docs iter.Seq2[source.Document, error], out *Output, free <-chan *chunk, stop <-chan struct{}, send func(*chunk)) {
	var c *chunk
	bytes := 0
	for d, err := range docs {
		if err == nil && out.writer(&d) == nil {
			continue
		}
		if c == nil {
			select {
			case <-stop:
				return
			case c = <-free:
			}
			clear(c.docs) // let go of the texts
			c.docs, c.tokens, c.ends, c.err = c.docs[:0], c.tokens[:0], c.ends[:0], nil
			bytes = 0
		}
		if err != nil {
			c.err = err
			break
		}
		c.docs = append(c.docs, d)
		if bytes += len(d.Text); bytes >= chunkText {
			send(c)
			c = nil
		}
	}
	if c != nil {
		send(c)
	}
}

func (c *chunk) encode(enc Encoder, eos int32) {
	for i := range c.docs {
		c.tokens = enc.Encode(c.tokens, c.docs[i].Text)
		if eos >= 0 && !c.docs[i].More {
			c.tokens = append(c.tokens, eos)
		}
		c.ends = append(c.ends, len(c.tokens))
	}
}

func (c *chunk) write(out *Output, begins *bool, sum *Counts) error {
	at := 0
	for i := range c.docs {
		d := &c.docs[i]
		w := out.writer(d)
		if *begins {
			w.Document()
			sum.Documents++
		}
		*begins = !d.More
		tokens := c.tokens[at:c.ends[i]]
		at = c.ends[i]
		if err := w.Append(tokens, int64(len(d.Text))); err != nil {
			return err
		}
		sum.Bytes += int64(len(d.Text))
		sum.Tokens += int64(len(tokens))
	}
	return nil
}
