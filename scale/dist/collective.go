package dist

// SmallMessage is the number of bytes up to which AllReduce takes few messages
// rather than few bytes.
const SmallMessage = 1024

// reduceScatter sends partial sums round the ring. In step s rank r passes on
// part r-1-s, and adds its own values to part r-2-s as that comes in. After N-1
// steps part r has visited all other ranks and arrives where it belongs.
func (c *Comm) reduceScatter(d data) error {
	n, r := c.Size(), c.Rank()
	for s := range n - 1 {
		out, in := mod(r-1-s, n), mod(r-2-s, n)
		if err := c.exchange(mod(r+1, n), d.part(out, n), mod(r-1, n), d.part(in, n), d.sum); err != nil {
			return err
		}
	}
	return nil
}

// allGather passes finished parts round the ring.
func (c *Comm) allGather(d data) error {
	n, r := c.Size(), c.Rank()
	for s := range n - 1 {
		out, in := mod(r-s, n), mod(r-1-s, n)
		if err := c.exchange(mod(r+1, n), d.part(out, n), mod(r-1, n), d.part(in, n), none); err != nil {
			return err
		}
	}
	return nil
}

func (c *Comm) allReduce(d data) error {
	if len(d.b) <= SmallMessage {
		return c.allReduceSmall(d)
	}
	if err := c.reduceScatter(d); err != nil {
		return err
	}
	return c.allGather(d)
}

// allReduceSmall collects the values of all ranks, in rounds whose messages
// double in size (Bruck et al., "Efficient algorithms for all-to-all
// communications in multiport message-passing systems", 1997), and sums them
// on every rank in the order of the ring.
func (c *Comm) allReduceSmall(d data) error {
	n, r, size := c.Size(), c.Rank(), len(d.b)
	if cap(c.space) < n*size {
		c.space = raw(make([]uint64, (n*size+7)/8)).b
	}
	all := c.space[:n*size] // block i: the values of rank r+i
	copy(all, d.b)
	for have := 1; have < n; have *= 2 {
		k := min(have, n-have) * size
		if err := c.exchange(mod(r-have, n), all[:k], mod(r+have, n), all[have*size:have*size+k], none); err != nil {
			return err
		}
	}
	of := func(rank, part int) []byte {
		block := data{b: all[mod(rank-r, n)*size:][:size], size: d.size}
		return block.part(part, n)
	}
	for part := range n {
		sum := d.part(part, n)
		copy(sum, of(part+1, part))
		for i := 2; i <= n; i++ {
			add(sum, of(part+i, part), d.sum)
		}
	}
	return nil
}

// allToAll exchanges blocks with the ranks at distance 1, 2, …
func (c *Comm) allToAll(dst, src data) error {
	n, r := c.Size(), c.Rank()
	copy(dst.part(r, n), src.part(r, n))
	for s := 1; s < n; s++ {
		to, from := mod(r+s, n), mod(r-s, n)
		if err := c.exchange(to, src.part(to, n), from, dst.part(from, n), none); err != nil {
			return err
		}
	}
	return nil
}

// broadcast sends along a binomial tree. Ranks are counted from the root: rank r
// receives from r without its highest bit, and then sends to r with each higher
// bit set.
func (c *Comm) broadcast(b []byte, root int) error {
	n := c.Size()
	r := mod(c.Rank()-root, n)
	bit := 1
	for bit <= r {
		bit *= 2
	}
	if r > 0 {
		h, err := c.link.receive(mod(r-bit/2+root, n), b, none)
		if err != nil {
			return err
		}
		if err := h.Wait(); err != nil {
			return err
		}
	}
	for ; r+bit < n; bit *= 2 {
		h, err := c.send(mod(r+bit+root, n), b)
		if err != nil {
			return err
		}
		if err := h.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// barrier hears from all ranks in ⌈log₂N⌉ rounds: after round k, from the 2ᵏ
// before it.
func (c *Comm) barrier() error {
	n, r := c.Size(), c.Rank()
	for d := 1; d < n; d *= 2 {
		if err := c.exchange(mod(r+d, n), nil, mod(r-d, n), nil, none); err != nil {
			return err
		}
	}
	return nil
}

func mod(i, n int) int { return (i%n + n) % n }
