package cluster

import "testing"

// Memory per device in GB, for P_os, P_os+g and P_os+g+p: table 1 of the paper.
func TestZeROTable(t *testing.T) {
	models := []struct {
		name   string
		params int
	}{{"7.5B", 7_500_000_000}, {"128B", 128_000_000_000}, {"1T", 1_000_000_000_000}}
	for _, row := range []struct {
		ranks int
		want  [3][3]string
	}{
		{1, [3][3]string{{"120", "120", "120"}, {"2048", "2048", "2048"}, {"16000", "16000", "16000"}}},
		{4, [3][3]string{{"52.5", "41.3", "30"}, {"896", "704", "512"}, {"7000", "5500", "4000"}}},
		{16, [3][3]string{{"35.6", "21.6", "7.5"}, {"608", "368", "128"}, {"4750", "2875", "1000"}}},
		{64, [3][3]string{{"31.4", "16.6", "1.88"}, {"536", "284", "32"}, {"4187", "2218", "250"}}},
		{256, [3][3]string{{"30.4", "15.4", "0.47"}, {"518", "263", "8"}, {"4046", "2054", "62.5"}}},
		{1024, [3][3]string{{"30.1", "15.1", "0.12"}, {"513", "257", "2"}, {"4011", "2013", "15.6"}}},
	} {
		for m, model := range models {
			for i, want := range row.want[m] {
				if got := Gigabytes(ModelStates(model.params, 72, row.ranks, i+1)); got != want {
					t.Errorf("%s on %d ranks, stage %d: %s GB, the paper prints %s", model.name, row.ranks, i+1, got, want)
				}
			}
		}
	}
	if got := Gigabytes(ModelStates(7_500_000_000, 72, 64, 0)); got != "120" {
		t.Errorf("data parallelism: %s GB", got)
	}
}
