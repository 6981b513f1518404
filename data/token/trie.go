package token

import (
	"sort"
)

// trie finds which keys a text begins with. The children of a node stand side
// by side in nodes, ordered by label.
type trie struct {
	nodes []trieNode
	root  [256]int32 // child of the root by first byte; 0: none
}

type trieNode struct {
	child int32 // the first one
	n     int16 // how many
	label byte
	value int32 // -1: no key ends here
}

// newTrie makes the trie of the keys, which must be distinct and not empty;
// the value of a key is values[i].
func newTrie(keys []string, values []int32) *trie {
	order := make([]int, len(keys))
	for i := range order {
		order[i] = i
	}
	sort.Slice(order, func(a, b int) bool { return keys[order[a]] < keys[order[b]] })
	t := &trie{nodes: []trieNode{{value: -1}}}
	// Breadth first: each node waits with the range of keys below it.
	type pending struct{ node, lo, hi, depth int }
	queue := []pending{{0, 0, len(order), 0}}
	for len(queue) > 0 {
		p := queue[0]
		queue = queue[1:]
		lo := p.lo
		if lo < p.hi && len(keys[order[lo]]) == p.depth {
			t.nodes[p.node].value = values[order[lo]]
			lo++
		}
		t.nodes[p.node].child = int32(len(t.nodes))
		for lo < p.hi {
			c := keys[order[lo]][p.depth]
			hi := lo + 1
			for hi < p.hi && keys[order[hi]][p.depth] == c {
				hi++
			}
			t.nodes[p.node].n++
			queue = append(queue, pending{len(t.nodes), lo, hi, p.depth + 1})
			t.nodes = append(t.nodes, trieNode{label: c, value: -1})
			lo = hi
		}
	}
	for i := range t.nodes[0].n {
		child := t.nodes[0].child + int32(i)
		t.root[t.nodes[child].label] = child
	}
	return t
}

// step goes from a node (0: the root) along byte c; 0 means there is no way.
func (t *trie) step(node int32, c byte) int32 {
	if node == 0 {
		return t.root[c]
	}
	lo := t.nodes[node].child
	hi := lo + int32(t.nodes[node].n)
	for hi-lo > 8 {
		mid := (lo + hi) / 2
		if t.nodes[mid].label <= c {
			lo = mid
		} else {
			hi = mid
		}
	}
	for ; lo < hi; lo++ {
		if t.nodes[lo].label == c {
			return lo
		}
	}
	return 0
}

// longest is the longest key that s begins with, from the given node on: its
// length and value, or length 0.
func (t *trie) longest(node int32, s string) (length int, value int32) {
	for i := range len(s) {
		node = t.step(node, s[i])
		if node == 0 {
			break
		}
		if v := t.nodes[node].value; v >= 0 {
			length, value = i+1, v
		}
	}
	return length, value
}
