// Package attention computes exact softmax attention in tiles, forward and
// backward, without ever storing the matrix of weights:
//
//	O = softmax(scale·Q·Kᵀ + mask)·V
//
// Start with Args and Forward. Queries, keys and values are read where they
// lie, for instance in the one buffer that a fused projection wrote:
//
//	qkv: [B, T, Hq+2·Hkv, E]            o: [B, T, Hq, E]   lse: [B, Hq, T]
//	 ├─ q  Data: qkv            ┐                 ▲               ▲
//	 ├─ k  Data: qkv[Hq*E:]     ├── Forward ──────┴───────────────┘
//	 └─ v  Data: qkv[(Hq+Hkv)*E:]┘
//
// and Backward writes their gradients into a buffer of the same layout. When
// Heads is a multiple of KVHeads, groups of query heads share a key and value
// head (grouped-query attention), which is read in place by each.
//
// What a query sees is a Mask: a value that says, for a tile of queries and
// keys, whether everything, nothing or a part of it is visible. Tiles of which
// nothing is visible are skipped and only partly visible ones are masked, so a
// sparse mask saves time in proportion. All masks share one kernel.
//
// The scheme is that of FlashAttention-2 (T. Dao, 2023), laid out for a CPU:
// a tile of 64 queries is transposed once, so that queries are vector lanes,
// and the whole softmax runs down the lanes.
package attention
