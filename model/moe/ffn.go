package moe

import (
	"fmt"

	"hasten/engine/grad"
	"hasten/model/block"
)

// Routing are the options of a router.
type Routing struct {
	Experts   int     `set:"experts" range:"[1,1024]" help:"experts"`
	K         int     `set:"k" range:"[1,1024]" help:"experts that a token passes"`
	Balance   float64 `set:"balance" range:"[0,100]" help:"weight of the loss's term that keeps experts equally busy"`
	Normalize bool    `set:"normalize" help:"let the weights of a token's experts sum to 1, where there are two or more"`
}

// Validate checks that there are as many experts as a token is to pass.
func (r *Routing) Validate() error {
	if r.K > r.Experts {
		return fmt.Errorf("k=%d is more than experts=%d", r.K, r.Experts)
	}
	return nil
}

// router is the router of one layer.
type router struct {
	Linear block.Linear
	Router
	aux *block.Auxiliary
}

func (r *Routing) router(s *block.Site, name string) router {
	return router{
		s.Linear(name+".router", block.Weight(), r.Experts, s.Dim, false),
		Router{K: r.K, Normalize: r.Normalize, Balance: r.Balance}, s.Auxiliary,
	}
}

func (r *router) route(t *grad.Tape, x *grad.Var) (*grad.Var, Plan) {
	return Route(t, r.Linear.Apply(t, x, nil), r.Router, r.aux)
}

// experts makes the matrices [E, out, in] of a layer's experts.
func (r *Routing) experts(s *block.Site, name string, initial block.Initial, out, in int) *grad.Param {
	return s.Param(s.Prefix+name+".weight", initial, r.Experts, out, in)
}

// perToken is the number of multiply-adds that a token takes in its experts.
func (r *router) perToken(w *grad.Param) float64 {
	return float64(r.K) * float64(w.Dim(1)) * float64(w.Dim(2))
}

// FFN is a mixture of feed-forward experts, without biases:
//
//	y = x + Σⱼ pⱼ·Down_e(act(Up_e(x)))   over the experts e that the router chose
type FFN struct {
	Routing
	Hidden   int    `set:"hidden" range:"[0,131072]" help:"width of an expert; 0: the model's hidden/k, to compute as much as the dense layer"`
	Dispatch string `set:"dispatch" choices:"scatter,dropless,padded" help:"how rows get to their experts; all give the same: gathered in the products, copied, or copied and padded to the busiest expert"`
}

// NewFFN returns the defaults of the part.
func NewFFN() *FFN {
	return &FFN{Routing: Routing{Experts: 8, K: 2, Balance: 0.01, Normalize: true}, Dispatch: "scatter"}
}

// ffn is the layer of one block.
type ffn struct {
	router   router
	up, down *grad.Param // [E, hidden or 2·hidden, Dim], [E, Dim, hidden]
	gated    bool
	act      string
	dispatch string
}

// NewFFN implements block.FFNPart.
func (o *FFN) NewFFN(s *block.Site) (block.FFN, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	hidden := o.Hidden
	if hidden == 0 {
		hidden = (s.Hidden + o.K - 1) / o.K
	}
	up := hidden
	if s.Gated {
		up = 2 * hidden
	}
	f := &ffn{gated: s.Gated, act: s.Activation, dispatch: o.Dispatch}
	f.router = o.router(s, "ffn")
	f.up = o.experts(s, "ffn.up", block.Weight(), up, s.Dim)
	f.down = o.experts(s, "ffn.down", s.BranchEnd(), s.Dim, hidden)
	return f, nil
}

// MACs implements block.FFN.
func (f *ffn) MACs() float64 {
	return f.router.Linear.MACs() + f.router.perToken(f.up) + f.router.perToken(f.down)
}

// Forward implements block.FFN.
func (f *ffn) Forward(t *grad.Tape, x, residual *grad.Var) *grad.Var {
	gates, plan := f.router.route(t, x)
	if f.dispatch != "scatter" {
		return f.copied(t, x, residual, gates, plan)
	}
	h := ParallelLinear(t, x, f.up.Var, &plan, Tokens, Grouped, nil, nil)
	t.Forget(x)
	a := block.Activate(t, h, f.gated, f.act)
	y := ParallelLinear(t, a, f.down.Var, &plan, Grouped, Tokens, gates, residual)
	t.Forget(a)
	return y
}

// copied is Forward by way of copies.
func (f *ffn) copied(t *grad.Tape, x, residual, gates *grad.Var, plan Plan) *grad.Var {
	if f.dispatch == "padded" {
		plan = plan.padded(t)
	}
	rows := Gather(t, x, &plan)
	t.Forget(x)
	h := ParallelLinear(t, rows, f.up.Var, &plan, Grouped, Grouped, nil, nil)
	a := block.Activate(t, h, f.gated, f.act)
	rows = ParallelLinear(t, a, f.down.Var, &plan, Grouped, Grouped, nil, nil)
	t.Forget(a)
	return Combine(t, rows, gates, &plan, residual)
}
