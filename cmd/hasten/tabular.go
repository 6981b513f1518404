package main

import (
	"encoding/csv"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"hasten/task/tabular"
)

// tabularCommand is what can be done with a model of tables; hasten train
// tabular makes one.
func tabularCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "tabular",
		Short: "Predict from tables with a trained model, or measure it",
		Long:  "Predict from tables with a model of boosted trees, or measure it.\n\nTrain one with\n  hasten train tabular --data train.csv",
		Args:  cobra.NoArgs,
	}
	c.AddCommand(tabularPredict(), tabularEval())
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	return c
}

// tableFlags adds the flags of a command that reads a table.
func tableFlags(c *cobra.Command) (data *string, o *tabular.ReadOptions) {
	o = &tabular.ReadOptions{}
	data = c.Flags().String("data", "", "a table: .csv, .tsv or .parquet; the first two may be compressed (.gz, .zst)")
	c.Flags().StringVar(&o.Format, "format", "", "csv, tsv, parquet (default: by the file's name)")
	c.Flags().BoolVar(&o.NoHeader, "no-header", false, "the first line is data; columns are named c1, c2, …")
	c.MarkFlagRequired("data")
	return data, o
}

func tabularPredict() *cobra.Command {
	c := &cobra.Command{
		Use:   "predict DIR --data FILE",
		Short: "Predict every row of a table, as CSV on standard output",
		Long: `Predict every row of a table. Standard output is CSV: the predicted class, or
numbers, under the targets' names; with --probabilities also each class's.`,
		Example: "  hasten tabular predict runs/tabular-20260102-150405 --data new.csv > predicted.csv",
		Args:    cobra.ExactArgs(1),
	}
	data, o := tableFlags(c)
	probabilities := c.Flags().Bool("probabilities", false, "also print the probability of every class")
	c.RunE = func(_ *cobra.Command, args []string) error {
		m, err := tabular.Open(args[0])
		if err != nil {
			return err
		}
		t, err := m.Read(*data, *o)
		if err != nil {
			return err
		}
		p, err := m.Predict(t)
		if err != nil {
			return err
		}
		return printPrediction(m, p, *probabilities)
	}
	return c
}

func printPrediction(m *tabular.Model, p *tabular.Prediction, probabilities bool) error {
	w := csv.NewWriter(os.Stdout)
	header := append([]string(nil), m.Targets...)
	if m.Kind == tabular.Classification && probabilities {
		for _, class := range m.Classes {
			header = append(header, "P("+class+")")
		}
	}
	w.Write(header) // errors stay until Flush
	for r := range p.Rows {
		var line []string
		if m.Kind == tabular.Classification {
			line = append(line, m.Classes[p.Labels[r]])
		}
		if m.Kind == tabular.Regression || probabilities {
			for _, v := range p.Values[r*p.Outputs:][:p.Outputs] {
				line = append(line, strconv.FormatFloat(float64(v), 'g', -1, 32))
			}
		}
		w.Write(line)
	}
	w.Flush()
	return w.Error()
}

func tabularEval() *cobra.Command {
	c := &cobra.Command{
		Use:   "eval DIR --data FILE",
		Short: "Measure a model on a table that has the targets",
		Args:  cobra.ExactArgs(1),
	}
	data, o := tableFlags(c)
	asJSON := addJSON(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		m, err := tabular.Open(args[0])
		if err != nil {
			return err
		}
		t, err := m.Read(*data, *o)
		if err != nil {
			return err
		}
		d, err := m.Frame(t)
		if err != nil {
			return err
		}
		e, err := m.Evaluate(d)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(e)
		}
		fmt.Println(describeMetrics(m, e))
		return nil
	}
	return c
}

func describeMetrics(m *tabular.Model, e tabular.Metrics) string {
	of := fmt.Sprintf("%s, %d rows", strings.Join(m.Targets, ", "), e.Rows)
	if m.Kind == tabular.Classification {
		return fmt.Sprintf("%s: accuracy %.2f%%, cross-entropy %.4f nats", of, 100*e.Accuracy, e.LogLoss)
	}
	return fmt.Sprintf("%s: R² %.4f, root mean squared error %.5g", of, e.R2, e.RMSE)
}
