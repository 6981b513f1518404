package grad

// PerSample …
type PerSample struct{}

func (n *Node) PerSample(shared ...int) *Node { return n }
func (n *Node) squares(f func(*Node)) *Node   { return n }
func linearSquares(*Node)                     {}
func embeddingSquares(*Node)                  {}
