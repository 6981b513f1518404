package block

import "hasten/engine/memory"

// Cache is the state of attention: the keys and values of the tokens seen.
type Cache struct {
	Keys, Values []float32 // [ctx, width]; the first Seen rows count
	Seen         int

	arena *memory.Arena
	width int
}

// NewCache returns an empty cache for ctx tokens whose keys, of all heads, are
// width floats.
func NewCache(a *memory.Arena, ctx, width int) *Cache {
	return &Cache{
		Keys: a.Dirty(memory.Activations, ctx*width), Values: a.Dirty(memory.Activations, ctx*width),
		arena: a, width: width,
	}
}

// Append adds the keys and values of a token.
func (c *Cache) Append(key, value []float32) {
	at := c.Seen * c.width
	copy(c.Keys[at:at+c.width], key)
	copy(c.Values[at:at+c.width], value)
	c.Seen++
}

// Bytes implements State.
func (c *Cache) Bytes() int64 { return 4 * int64(len(c.Keys)+len(c.Values)) }

// Reset implements State.
func (c *Cache) Reset() { c.Seen = 0 }

// Close implements State.
func (c *Cache) Close() {
	c.arena.Free(memory.Activations, c.Keys)
	c.arena.Free(memory.Activations, c.Values)
	c.Keys, c.Values = nil, nil
}
