package tabular

import "hasten/engine/simd"

// Condensed Gradient Boosting. Seyedsaman Emami, Gonzalo Martínez-Muñoz.
//
// For K classes, ordinary boosting grows K trees a round. Condensed boosting
// grows one, whose leaves are vectors: with scores F [n, K], one-hot labels Y
// and the pseudo-residuals
//
//	R = Y - softmax(F),    F = log prior at first,
//
// a tree is grown that minimises the squared error to R summed over its K
// columns, and each leaf j takes, for each class k, the Newton step
//
//	v_jk = (K-1)/K · Σ_{i∈j} R_ik / Σ_{i∈j} P_ik (1-P_ik),    P = Y - R,
//
// which is 0 where the denominator vanishes. F grows by the learning rate
// times v. For regression of K targets R = Y - F, F is the mean at first, and
// a leaf's vector is its mean residual. With K = 1 that is ordinary boosting.
//
// What makes it fast is the histogram: K+1 adjacent lanes a bin, so that a
// row's bin is looked up once for all K, and the additions are vectors.

// Condensed grows one tree a round for all outputs.
type Condensed struct{ Boosting }

var _ Booster = (*Condensed)(nil)

func (c *Condensed) lanes(d *Data) int { return simd.TreeLanes(d.Outputs()) }

func (c *Condensed) round(f *fit) []Tree {
	return []Tree{f.tree(f.residual, f.width, allOutputs)}
}

// classStep is a leaf's step for one of k classes, from Σ R and Σ P(1-P).
func classStep(sum, curve float64, k int) float64 {
	const vanished = 1e-30
	if curve < vanished {
		return 0
	}
	return float64(k-1) / float64(k) * sum / curve
}
