package attention_test

import (
	"fmt"

	"hasten/model/attention"
)

// Two query heads share one key-value head, all in one fused buffer.
func ExampleForward() {
	const T, heads, kvHeads, E = 3, 2, 1, 4
	const row = (heads + 2*kvHeads) * E
	qkv := make([]float32, T*row) // [T, q q k v, E]
	for t := range T {
		v := qkv[t*row+(heads+kvHeads)*E:][:E]
		for e := range v {
			v[e] = float32(10*t + e)
		}
	}
	o := make([]float32, T*heads*E)
	attention.Forward(attention.Args{
		Batch: 1, Queries: T, Keys: T, Heads: heads, KVHeads: kvHeads, Dim: E,
		Q:    attention.View{Data: qkv, Row: row},
		K:    attention.View{Data: qkv[heads*E:], Row: row},
		V:    attention.View{Data: qkv[(heads+kvHeads)*E:], Row: row},
		Mask: attention.Causal{},
	}, attention.View{Data: o, Row: heads * E}, nil)
	for t := range T { // all scores are 0: each output is the mean of the values so far
		fmt.Println(o[t*heads*E:][:E])
	}
	// Output:
	// [0 1 2 3]
	// [5 6 7 8]
	// [10 11 12 13]
}
