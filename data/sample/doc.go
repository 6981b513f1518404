// Package sample draws batches: which windows of a token stream a training
// step sees, and in which order.
//
//	*store.Tokens ──Order──▶ Windows ──Batch(i)──▶ Loader ──Next──▶ *Batch
//
// A batch is a pure function of the sampler's settings and the batch's number,
// so a run that is resumed at batch i sees what the unbroken run would have
// seen. Start with NewWindows, and a Loader around it to prepare batches while
// the model computes.
package sample

import "fmt"

// Batch is B rows of T tokens. Row r is Tokens[r*T : (r+1)*T], and so on.
type Batch struct {
	B, T    int
	Tokens  []int32 // [B, T] what the model sees
	Targets []int32 // [B, T] the token after each of them
	// Segments numbers the documents of a row from 0 on, in each position.
	// Attention that is masked to equal numbers keeps documents apart. It is
	// nil unless asked for.
	Segments []int32 // [B, T]
	Starts   []int64 // [B] where in the stream each row begins

	window []int32 // [T+1]
}

// Sampler makes batches of type B, by number. Batch fills b with batch i and
// reuses b's buffers; what it writes depends on i and the sampler's settings
// only. String tells the settings, for comparison when a run is resumed.
type Sampler[B any] interface {
	Batch(i int64, b *B) error
	fmt.Stringer
}

// resize gives the buffers their lengths and keeps their memory.
func (b *Batch) resize(rows, length int, segments bool) {
	b.B, b.T = rows, length
	b.Tokens = sized(b.Tokens, rows*length)
	b.Targets = sized(b.Targets, rows*length)
	b.Starts = sized(b.Starts, rows)
	b.window = sized(b.window, length+1)
	if segments {
		b.Segments = sized(b.Segments, rows*length)
	} else {
		b.Segments = nil
	}
}

func sized[E any](s []E, n int) []E {
	if cap(s) < n {
		return make([]E, n)
	}
	return s[:n]
}
