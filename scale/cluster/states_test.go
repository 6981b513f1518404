package cluster

import "testing"

func TestZeROTable(t *testing.T) {
	cells := ZeROTable()
	if len(cells) != 6*3*3 {
		t.Errorf("%d cells", len(cells))
	}
	for _, c := range cells {
		if got := c.Simulated(); got != c.Paper {
			t.Errorf("%s on %d ranks, stage %d: %s GB, the paper prints %s", c.Model, c.Ranks, c.Stage, got, c.Paper)
		}
	}
	// Data parallelism, in the paper's text.
	if got := Gigabytes(ModelStates(7.5e9, 72, 64, 0)); got != "120" {
		t.Errorf("data parallelism: %s GB", got)
	}
}
