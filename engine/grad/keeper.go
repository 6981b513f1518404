package grad

// Keeper has the values of parameters which are not in memory all the time:
// because they are spread over several machines, or stored in a smaller format.
// It puts Data and Grad of a parameter in place before they are needed, and may
// take them away afterwards.
//
// Before every operation, forward and backward, Fetch is told of all its
// parameters together; they must stay until the next Fetch. An operation that
// reads parameters calls Record first, so that they are there.
type Keeper interface {
	// Fetch makes Data of the parameters of one operation readable.
	Fetch(ids []int)
	// FetchGrad gives a parameter the Grad that a backward function is about to
	// write.
	FetchGrad(id int)
	// Recorded tells of an operation that will carry a gradient to the
	// parameter, should a backward pass come.
	Recorded(id int)
	// Carried tells that the backward pass is done with such an operation. When
	// it has been called as often as Recorded, the gradient is complete.
	Carried(id int)
}

// Keep hands the parameter over to a keeper, who knows it by an id. Its Data
// and Grad are the keeper's to set from then on, nil included. A nil keeper
// makes it an ordinary parameter again, whose Data and Grad must be there.
//
// Tangents and per-sample gradients of kept parameters are not to be had.
func (p *Param) Keep(k Keeper, id int) { p.keeper, p.id = k, id }

// fetch has the keepers of an operation's inputs put their values in place.
func (t *Tape) fetch(in []*Var) {
	var k Keeper
	ids := t.ids[:0]
	for _, v := range in {
		if v != nil && v.keeper != nil {
			k = v.keeper
			ids = append(ids, v.id)
		}
	}
	if k != nil {
		t.ids = ids
		k.Fetch(ids)
	}
}

// recorded tells the keepers that an operation owes their parameters a
// gradient. A segment that runs once more has told before.
func (t *Tape) recorded(in []*Var) {
	if t.again {
		return
	}
	for _, v := range in {
		if v != nil && v.keeper != nil {
			v.keeper.Recorded(v.id)
		}
	}
}

// carried tells the keepers that the backward pass is done with n.
func (n *Node) carried() {
	for _, v := range n.In {
		if v != nil && v.keeper != nil {
			v.keeper.Carried(v.id)
		}
	}
}
