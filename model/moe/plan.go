package moe

import (
	"fmt"
	"unsafe"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/par"
	"hasten/engine/simd"
	"hasten/engine/tensor"
	"hasten/model/block"
)

// Router says how experts are chosen.
type Router struct {
	K int // experts of a token

	// Normalize divides the weights of a token's experts by their sum. With one
	// expert that would be 1 whatever the router says, and teach it nothing: its
	// weight is then its probability.
	Normalize bool

	// Balance is the factor α of the term α·E·Σ fₑ·Pₑ of the loss, where fₑ is
	// the share of choices that fell on expert e, and Pₑ its mean probability:
	// α when all are alike. Source: Fedus, Zoph and Shazeer, "Switch
	// Transformers", 2021.
	Balance float64
}

// Plan is where the rows of a batch go. A place is a choice of a token: the
// choices of token t are the places t·K … t·K+K-1, the likeliest first. A row is
// a place in the order of the experts. A plan lies on the tape it was made on,
// and is good until that is Reset.
type Plan struct {
	Tokens, K, Experts int

	Starts []int32 // [Experts+1] the rows of expert e are Starts[e] … Starts[e+1]-1
	Order  []int32 // [Tokens·K] place of a row, ascending within an expert
	Token  []int32 // [Tokens·K] token of a row: Order / K
	Row    []int32 // [Tokens·K] row of a place
	Expert []int32 // [Tokens·K] expert of a place

	all []int32 // of which these are parts
}

// rows is the number of rows.
func (p *Plan) rows() int { return int(p.Starts[p.Experts]) }

// newPlan returns a plan on a tape, to be filled in.
func newPlan(t *grad.Tape, tokens, k, experts int) Plan {
	buf := t.New(tensor.Of(experts + 1 + 4*tokens*k)).Data
	return planOf(unsafe.Slice((*int32)(unsafe.Pointer(unsafe.SliceData(buf))), len(buf)), tokens, k, experts)
}

// planOf finds the parts of a plan.
func planOf(all []int32, tokens, k, experts int) Plan {
	p := Plan{Tokens: tokens, K: k, Experts: experts, all: all}
	n := tokens * k
	p.Starts, all = all[:experts+1], all[experts+1:]
	p.Order, p.Token, p.Row, p.Expert = all[:n], all[n:2*n], all[2*n:3*n], all[3*n:4*n]
	return p
}

// attach notes the plan with an operation; planFor gives it to the backward
// function.
func (p *Plan) attach(n *grad.Node) {
	n.Index = p.all
	n.Ints[0], n.Ints[1], n.Ints[2] = p.Tokens, p.K, p.Experts
}

func planFor(n *grad.Node) Plan { return planOf(n.Index, n.Ints[0], n.Ints[1], n.Ints[2]) }

// sort orders the places by their experts.
func (p *Plan) sort() {
	clear(p.Starts)
	for _, e := range p.Expert {
		p.Starts[e+1]++
	}
	for e := range p.Experts {
		p.Starts[e+1] += p.Starts[e]
	}
	// Starts[e] runs through the rows of expert e, and is then moved back.
	for place, e := range p.Expert {
		row := p.Starts[e]
		p.Starts[e]++
		p.Order[row], p.Token[row], p.Row[place] = int32(place), int32(place/p.K), row
	}
	copy(p.Starts[1:], p.Starts[:p.Experts])
	p.Starts[0] = 0
}

// routeRows is the number of tokens in one piece of a loop.
const routeRows = 32

type routeArgs struct {
	Router
	plan                 Plan
	logits, probs, gates []float32
	dgates, dlogits      []float32
	fresh                bool
	balance              float32 // of the gradient: Scale·α·E/(tokens·places)
}

var routeLoop par.Loop[routeArgs]

// Route lets each token choose the experts of its K largest logits [n, E]. The
// weights [n, K] are from the softmax over all logits. The term of the balance
// goes to aux, which may be nil if there is none.
func Route(t *grad.Tape, logits *grad.Var, r Router, aux *block.Auxiliary) (gates *grad.Var, p Plan) {
	n, experts := logits.Rows(), logits.Cols()
	if r.K < 1 || r.K > experts {
		panic(fmt.Sprintf("moe: %d of %d experts", r.K, experts))
	}
	p = newPlan(t, n, r.K, experts)
	gates = t.New(tensor.Of(n, r.K))
	probs := t.Arena.Dirty(memory.Activations, n*experts)
	a := routeArgs{Router: r, plan: p, logits: logits.Data, probs: probs, gates: gates.Data}
	routeLoop.Run(par.Pieces(n, routeRows), a, func(a *routeArgs, i int) {
		lo, hi := par.Bounds(i, routeRows, a.plan.Tokens)
		for token := lo; token < hi; token++ {
			a.choose(token)
		}
	})
	p.sort()
	if r.Balance > 0 {
		aux.Add(r.Balance * p.imbalance(probs))
	}
	node := t.Record(gates, routeBack, logits)
	if node == nil {
		t.Arena.Free(memory.Activations, probs)
		return gates, p
	}
	p.attach(node)
	node.Saved[0] = probs
	node.State = aux
	node.Floats[0] = float32(r.Balance)
	if r.Normalize {
		node.Ints[3] = 1
	}
	return gates, p
}

// choose fills in the choices of a token.
func (a *routeArgs) choose(token int) {
	e, k := a.plan.Experts, a.K
	probs := a.probs[token*e : (token+1)*e]
	gates, chosen := a.gates[token*k:(token+1)*k], a.plan.Expert[token*k:(token+1)*k]
	simd.SoftmaxRow(probs, a.logits[token*e:(token+1)*e])
	var sum float32
	for j := range chosen {
		best := -1
		for i, p := range probs {
			if (best < 0 || p > probs[best]) && !contains(chosen[:j], int32(i)) {
				best = i
			}
		}
		chosen[j], gates[j] = int32(best), probs[best]
		sum += probs[best]
	}
	if a.Normalize && k > 1 {
		simd.Scale(gates, 1/sum)
	}
}

func contains(s []int32, v int32) bool {
	for _, x := range s {
		if x == v {
			return true
		}
	}
	return false
}

// imbalance is E·Σ fₑ·Pₑ.
func (p *Plan) imbalance(probs []float32) float64 {
	var sum float64
	for i, x := range probs {
		e := i % p.Experts
		sum += float64(p.Starts[e+1]-p.Starts[e]) * float64(x)
	}
	return float64(p.Experts) * sum / float64(max(1, p.Tokens)) / float64(max(1, len(p.Order)))
}

func routeBack(n *grad.Node) {
	p := planFor(n)
	dlogits, fresh := n.GradInto(0)
	a := routeArgs{
		Router: Router{K: p.K, Normalize: n.Ints[3] == 1}, plan: p, fresh: fresh,
		probs: n.Saved[0], gates: n.Out.Data, dgates: n.Out.Grad, dlogits: dlogits,
	}
	if aux, ok := n.State.(*block.Auxiliary); ok && aux != nil {
		a.balance = aux.Scale() * n.Floats[0] * float32(p.Experts) / float32(p.Tokens) / float32(len(p.Order))
	}
	routeLoop.Run(par.Pieces(p.Tokens, routeRows), a, func(a *routeArgs, i int) {
		e := a.plan.Experts
		dprobs := memory.Default.Dirty(memory.Workspace, 2*e)
		lo, hi := par.Bounds(i, routeRows, a.plan.Tokens)
		for token := lo; token < hi; token++ {
			a.back(token, dprobs[:e], dprobs[e:])
		}
		memory.Default.Free(memory.Workspace, dprobs)
	})
}

// back computes the gradient of a token's logits by way of that of its
// probabilities.
func (a *routeArgs) back(token int, dprobs, d []float32) {
	e, k := a.plan.Experts, a.K
	probs, dlogits := a.probs[token*e:(token+1)*e], a.dlogits[token*e:(token+1)*e]
	chosen, dgates, gates := a.plan.Expert[token*k:(token+1)*k], a.dgates[token*k:(token+1)*k], a.gates[token*k:(token+1)*k]
	for i := range dprobs {
		dprobs[i] = a.balance * float32(a.plan.Starts[i+1]-a.plan.Starts[i])
	}
	var mean, sum float32 // of the weighted gradients; of the probabilities
	if a.Normalize && k > 1 {
		mean = simd.Dot(gates, dgates)
		for _, c := range chosen {
			sum += probs[c]
		}
	} else {
		sum = 1
	}
	for j, c := range chosen {
		dprobs[c] += (dgates[j] - mean) / sum
	}
	simd.SoftmaxRowBackward(d, probs, dprobs)
	if a.fresh {
		copy(dlogits, d)
	} else {
		simd.AddTo(dlogits, d)
	}
}
