package dist

import "fmt"

// Op is an operation that a Meter tells apart.
type Op uint8

// The operations.
const (
	OpSend Op = iota
	OpAllReduce
	OpReduceScatter
	OpAllGather
	OpAllToAll
	OpBcast
	OpBarrier
	ops
)

func (o Op) String() string {
	names := [...]string{"send", "all-reduce", "reduce-scatter", "all-gather", "all-to-all", "broadcast", "barrier"}
	if int(o) < len(names) {
		return names[o]
	}
	return fmt.Sprintf("Op(%d)", uint8(o))
}

// Traffic is what left a rank.
type Traffic struct {
	Bytes    int64 // payload
	Calls    int64 // of the operation, by this rank
	Messages int64
}

func (t *Traffic) add(u Traffic) {
	t.Bytes += u.Bytes
	t.Calls += u.Calls
	t.Messages += u.Messages
}

// Meter counts what one rank sends, by operation and by phase of the work.
type Meter struct {
	phase  string
	now    *[ops]Traffic // of the phase
	phases map[string]*[ops]Traffic
	op     Op
}

func newMeter() *Meter {
	m := &Meter{}
	m.Reset()
	return m
}

// Reset forgets what was counted.
func (m *Meter) Reset() {
	m.phases = map[string]*[ops]Traffic{}
	m.Phase(m.phase)
}

// Phase names what is being done from now on, and returns the name before. The
// first phase is "".
func (m *Meter) Phase(name string) (before string) {
	before, m.phase = m.phase, name
	m.now = m.phases[name]
	if m.now == nil {
		m.now = new([ops]Traffic)
		m.phases[name] = m.now
	}
	return before
}

// Of is what an operation sent in a phase.
func (m *Meter) Of(op Op, phase string) Traffic {
	if p := m.phases[phase]; p != nil {
		return p[op]
	}
	return Traffic{}
}

// In is what all operations sent in the given phases.
func (m *Meter) In(phases ...string) Traffic {
	var sum Traffic
	for _, p := range phases {
		for op := range ops {
			sum.add(m.Of(op, p))
		}
	}
	return sum
}

// begin counts a call, to which the messages that follow belong.
func (m *Meter) begin(op Op) {
	m.op = op
	m.now[op].Calls++
}

func (m *Meter) message(bytes int) {
	m.now[m.op].Bytes += int64(bytes)
	m.now[m.op].Messages++
}
