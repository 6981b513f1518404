package tabular

import "math"

// Metrics say how good a model's predictions are.
type Metrics struct {
	Rows     int     `json:"rows"`
	Accuracy float64 `json:"accuracy,omitempty"` // classification: share of rows whose likeliest class is right
	LogLoss  float64 `json:"log_loss,omitempty"` // classification: mean cross-entropy, nats
	R2       float64 `json:"r2,omitempty"`       // regression: 1 - squared error / variance, mean over targets
	RMSE     float64 `json:"rmse,omitempty"`     // regression: root of the mean squared error over rows and targets
}

// Evaluate measures the model on data.
func (m *Model) Evaluate(d *Data) (Metrics, error) {
	p, err := m.Predict(d.Inputs)
	if err != nil {
		return Metrics{}, err
	}
	if m.Kind == Classification {
		return classMetrics(p, d.Labels), nil
	}
	return numberMetrics(p, d.Y), nil
}

func classMetrics(p *Prediction, labels []int32) Metrics {
	right, loss := 0, 0.0
	for r, y := range labels {
		if p.Labels[r] == y {
			right++
		}
		loss -= math.Log(max(float64(p.Values[r*p.Outputs+int(y)]), math.SmallestNonzeroFloat32))
	}
	n := float64(p.Rows)
	return Metrics{Rows: p.Rows, Accuracy: float64(right) / n, LogLoss: loss / n}
}

func numberMetrics(p *Prediction, y []float32) Metrics {
	m := Metrics{Rows: p.Rows}
	n, k := float64(p.Rows), p.Outputs
	var all float64
	for j := range k {
		var sum, squares, wrong float64
		for r := range p.Rows {
			v := float64(y[r*k+j])
			e := v - float64(p.Values[r*k+j])
			sum += v
			wrong += e * e
		}
		for r := range p.Rows {
			v := float64(y[r*k+j]) - sum/n
			squares += v * v
		}
		if squares > 0 {
			m.R2 += (1 - wrong/squares) / float64(k)
		}
		all += wrong
	}
	m.RMSE = math.Sqrt(all / n / float64(k))
	return m
}
