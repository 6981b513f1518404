package tabular_test

import (
	"context"
	"fmt"

	"hasten/task/tabular"
)

func Example() {
	length := tabular.Column{Name: "length", Values: []float32{1, 2, 3, 11, 12, 13, 21, 22}}
	colour := tabular.Column{Name: "colour", Categories: []string{"green", "brown"}, Values: []float32{0, 1, 0, 1, 0, 1, 0, 1}}
	animal := tabular.Column{Name: "animal", Categories: []string{"ant", "eel", "boa"}, Values: []float32{0, 0, 0, 1, 1, 1, 2, 2}}
	table, err := tabular.NewTable("animals", length, colour, animal)
	if err != nil {
		fmt.Println(err)
		return
	}
	data, err := tabular.Frame(table, []string{"animal"}, nil, "") // to be predicted from the others
	if err != nil {
		fmt.Println(err)
		return
	}
	booster, err := tabular.Boosters.Build("cgb", map[string]string{"rounds": "20"})
	if err != nil {
		fmt.Println(err)
		return
	}
	model, err := tabular.Fit(context.Background(), data, booster, tabular.FitOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := model.Predict(table)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, label := range p.Labels {
		fmt.Print(model.Classes[label], " ")
	}
	// Output: ant ant ant eel eel eel boa boa
}
