// LAWA: Kaddour, "Stop Wasting My Time! Saving Days of ImageNet and BERT
// Training with Latest Weight Averaging", NeurIPS workshop HITY 2022.
//
//	θ̄ₑ = 1/k · (θₑ + θₑ₋₁ + … + θₑ₋ₖ₊₁)
//
// θₑ are the weights at the end of epoch e. θ̄ is used for evaluation and for
// saving, never to train from.

package average

import (
	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/simd"
	"hasten/learn/loop"
	"hasten/learn/optim"
)

// LAWA is the mean of the K latest snapshots; while there are fewer, of those.
//
// The snapshots lie in a ring, and the mean is summed anew whenever it is
// wanted. A running sum would save reading k snapshots at an evaluation, which
// costs little beside one, but take the memory of one more, drift, and differ
// after a resume from what it would have been.
type LAWA struct {
	K     int    `set:"k" range:"[1,1000]" help:"snapshots in the mean"`
	Every int    `set:"every" range:"[0,inf)" help:"steps from one snapshot to the next; 0: one at the end of each epoch"`
	Store string `set:"store" choices:"f32,bf16" help:"number format of the snapshots"`

	ring  [][]snapshot // [K][parameter]
	work  []float32    // for snapshots on their way from bf16
	count []float32    // snapshots taken; epochs that have ended
	state []optim.Buffer
}

var _ Average = (*LAWA)(nil)

// NewLAWA returns the mean over the paper's six epochs.
func NewLAWA() *LAWA { return &LAWA{K: 6, Store: "f32"} }

// CountsEpochs tells whether snapshots are taken at the ends of epochs.
func (w *LAWA) CountsEpochs() bool { return w.Every == 0 }

// Init takes K copies of the parameters, of half the size in bf16.
func (w *LAWA) Init(a *memory.Arena, params []*grad.Param) error {
	w.count = make([]float32, 2)
	w.state = []optim.Buffer{{Name: "lawa.count", Data: w.count}}
	w.ring = make([][]snapshot, w.K)
	for k := range w.ring {
		for _, p := range params {
			s := newSnapshot(a, p, w.Store == "bf16")
			w.ring[k] = append(w.ring[k], s)
			w.state = append(w.state, optim.Buffer{Name: slotName(k, p), Data: s.buffer})
		}
	}
	if w.Store == "bf16" {
		w.work = a.Floats(memory.Workspace, workFloats)
	}
	return nil
}

// State is the snapshots and their number.
func (w *LAWA) State() []optim.Buffer { return w.state }

// Observe takes a snapshot when one is due. The oldest makes room for it.
func (w *LAWA) Observe(s *loop.State) {
	due := w.Every > 0 && s.Step%w.Every == 0
	if ended := float32(int(s.Epochs)); w.Every == 0 && ended > w.count[1] {
		due, w.count[1] = true, ended
	}
	if !due {
		return
	}
	slot := w.ring[int(w.count[0])%w.K]
	for i := range slot {
		slot[i].take()
	}
	w.count[0]++
}

// Ready tells whether a snapshot was taken.
func (w *LAWA) Ready() bool { return w.count[0] > 0 }

// Mean is that of the snapshots there are.
func (w *LAWA) Mean(param int, dst []float32) {
	n := min(int(w.count[0]), w.K)
	clear(dst)
	for _, slot := range w.ring[:n] {
		slot[param].addTo(dst, w.work)
	}
	simd.Scale(dst, 1/float32(n))
}
