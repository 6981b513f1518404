package text

import "math"

// tree is a Huffman tree over labels: frequent ones lie near the root, so that
// the average path is as short as can be, at most one node more than the
// entropy of the labels in bits.
//
// Inner nodes are numbered from the root (0) in the order of how many texts
// pass through them; a tree of K labels has K-1.
type tree struct {
	labels int
	// children of inner node i: another inner node n as n, label l as ^l.
	children [][2]int32
	// The path of label l from the root: nodes[ends[l-1]:ends[l]], and at each
	// whether it takes the second child (1) or the first (0).
	nodes []uint32
	codes []float32
	ends  []int
}

// newTree builds the tree of labels that occur counts times, in descending
// order.
func newTree(counts []int) *tree {
	k := len(counts)
	t := &tree{labels: k, ends: make([]int, k)}
	inner := max(k-1, 0)
	t.children = make([][2]int32, inner)
	// Two queues of ascending counts: the labels from the last to the first,
	// and the nodes in the order in which they are made. Node n has number
	// inner-1-n, which makes the root 0.
	count := make([]int, inner)
	parent := make([]int32, inner) // of inner nodes
	leafParent := make([]int32, k)
	side, leafSide := make([]float32, inner), make([]float32, k)
	leaf, node := k-1, 0
	for n := range inner {
		number := int32(inner - 1 - n)
		for c := range 2 {
			if leaf >= 0 && (node >= n || counts[leaf] <= count[node]) {
				count[n] += counts[leaf]
				t.children[number][c] = ^int32(leaf)
				leafParent[leaf], leafSide[leaf] = number, float32(c)
				leaf--
			} else {
				count[n] += count[node]
				child := int32(inner - 1 - node)
				t.children[number][c] = child
				parent[child], side[child] = number, float32(c)
				node++
			}
		}
	}
	for l := range k {
		if inner > 0 {
			at := len(t.nodes)
			t.nodes, t.codes = append(t.nodes, uint32(leafParent[l])), append(t.codes, leafSide[l])
			for n := leafParent[l]; n != 0; n = parent[n] {
				t.nodes, t.codes = append(t.nodes, uint32(parent[n])), append(t.codes, side[n])
			}
			for i, j := at, len(t.nodes)-1; i < j; i, j = i+1, j-1 {
				t.nodes[i], t.nodes[j] = t.nodes[j], t.nodes[i]
				t.codes[i], t.codes[j] = t.codes[j], t.codes[i]
			}
		}
		t.ends[l] = len(t.nodes)
	}
	return t
}

// path returns the inner nodes from the root to a label, and the child taken at
// each.
func (t *tree) path(label int) (nodes []uint32, codes []float32) {
	from := 0
	if label > 0 {
		from = t.ends[label-1]
	}
	return t.nodes[from:t.ends[label]], t.codes[from:t.ends[label]]
}

// top returns the k likeliest labels, best first, when score gives the logit of
// the second child at an inner node.
//
// It is a best-first search: of all nodes reached, the likeliest is opened
// next. A label's probability is a product of factors below one along its path,
// so no label under a node can be likelier than the node itself: labels come
// out in order, and once k are out, nothing else need be opened. Nodes below
// the k-th best label reached so far are not even queued.
func (t *tree) top(k int, score func(node uint32) float32) []Prediction {
	if t.labels == 0 || k <= 0 {
		return nil
	}
	var open frontier
	bound := newBound(k)
	reach := func(child int32, logp float64) {
		if logp < bound.least() {
			return
		}
		if child < 0 {
			bound.add(logp)
		}
		open.push(reached{child, logp})
	}
	if t.labels == 1 {
		return []Prediction{{Label: 0, Probability: 1}}
	}
	reach(0, 0)
	var found []Prediction
	for len(open) > 0 && len(found) < k {
		n := open.pop()
		if n.child < 0 {
			found = append(found, Prediction{Label: int(^n.child), Probability: math.Exp(n.logp)})
			continue
		}
		z := float64(score(uint32(n.child)))
		reach(t.children[n.child][0], n.logp-softplus(z))
		reach(t.children[n.child][1], n.logp-softplus(-z))
	}
	return found
}

// softplus is log(1+eᶻ), which is -log σ(-z).
func softplus(z float64) float64 { return max(z, 0) + math.Log1p(math.Exp(-math.Abs(z))) }

// reached is a node that search has come to: an inner node, or a label's
// complement.
type reached struct {
	child int32
	logp  float64
}

// frontier is a binary heap, the likeliest first; of equals the lower child.
type frontier []reached

func (f frontier) before(i, j int) bool {
	return f[i].logp > f[j].logp || f[i].logp == f[j].logp && f[i].child < f[j].child
}

func (f *frontier) push(r reached) {
	*f = append(*f, r)
	for i := len(*f) - 1; i > 0 && f.before(i, (i-1)/2); i = (i - 1) / 2 {
		(*f)[i], (*f)[(i-1)/2] = (*f)[(i-1)/2], (*f)[i]
	}
}

func (f *frontier) pop() reached {
	h := *f
	first, last := h[0], len(h)-1
	h[0] = h[last]
	*f = h[:last]
	for i := 0; ; {
		c := 2*i + 1
		if c >= last {
			break
		}
		if c+1 < last && f.before(c+1, c) {
			c++
		}
		if !f.before(c, i) {
			break
		}
		h[i], h[c] = h[c], h[i]
		i = c
	}
	return first
}

// bound keeps the k largest numbers, in a heap with the least first.
type bound struct {
	k    int
	heap frontier // by -number
}

func newBound(k int) *bound { return &bound{k: k} }

// least is the k-th largest number so far, -Inf if there are fewer.
func (b *bound) least() float64 {
	if len(b.heap) < b.k {
		return math.Inf(-1)
	}
	return -b.heap[0].logp
}

func (b *bound) add(x float64) {
	b.heap.push(reached{0, -x})
	if len(b.heap) > b.k {
		b.heap.pop()
	}
}
