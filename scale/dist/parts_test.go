package dist

import (
	"slices"
	"testing"
)

// The shared table test of the seam: whatever the part, the weights are those of
// data parallelism written out.
func TestParts(t *testing.T) {
	for _, p := range Parts.Parts {
		settings := map[string]string{}
		if p.Name != "none" {
			settings["ranks"], settings["bucket"] = "3", "0.001"
		}
		plan, err := Parts.Build(p.Name, settings)
		if err != nil {
			t.Fatal(err)
		}
		got, err := train(plan.Ranks(), 6, plan.Options(), nil, nil)
		if err != nil {
			t.Fatalf("%s: %v", p.Name, err)
		}
		bucket := plan.Options().Bucket
		if bucket == 0 {
			bucket = DefaultBucket
		}
		if !slices.Equal(got, naive(plan.Ranks(), 6, bucket)) {
			t.Errorf("%s: the weights differ", p.Name)
		}
	}
	if plan, _ := Parts.Build("zero", map[string]string{"stage": "3"}); plan.Options().Stage != 3 || plan.Options().Bucket != DefaultBucket {
		t.Errorf("%+v", plan)
	}
	for _, bad := range []map[string]string{{"stage": "4"}, {"ranks": "0"}, {"bucket": "0"}} {
		if _, err := Parts.Build("zero", bad); err == nil {
			t.Errorf("%v is accepted", bad)
		}
	}
}
