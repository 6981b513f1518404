package compact

import (
	"fmt"
	"math"

	"hasten/engine/grad"
	"hasten/engine/matmul"
	"hasten/engine/memory"
	"hasten/engine/precision"
	"hasten/engine/rng"
	"hasten/engine/simd"
	"hasten/engine/tensor"
	"hasten/lab/bench"
	"hasten/lab/card"
	"hasten/lab/experiment"
	"hasten/learn/loop"
	"hasten/model/net"
	"hasten/task/lm"
	"hasten/task/recipe"
)

// Jetfire is paper 164.
func (Papers) Jetfire() experiment.Paper {
	return experiment.Paper{
		Card: card.Card{
			Number: 164, Slug: "jetfire",
			Title: "Jetfire: Efficient and Accurate Transformer Pretraining with INT8 Data Flow and Per-Block Quantization",
			Stage: "precision", Tasks: []string{"lm", "text"},
			Summary: `
Most int8 training converts to int8 before each product and back to floating point after it, so memory traffic
eats the gain, and one outlier channel spoils a whole tensor's scale. Here tensors stay int8 between
operators, with one scale per 32×32 tile: products accumulate tile by tile and requantise their output at
once, and GELU, LayerNorm, dropout and residual additions read and write int8 too. The backward pass works
alike, with gradients rounded stochastically. Master weights and Adam stay f32. It should pay in wide
transformer blocks on processors with int8 dot products; narrow layers are dominated by conversion.`,
			Use: "--set precision=jetfire",
			Limits: `
Attention's softmax, the embedding, the last norm and the output layer stay wide, so small models with large
vocabularies gain little. The tokens of a tile share a scale, so that in training a later token can move an
earlier one by a fraction of a rounding step. Without int8 dot-product instructions the memory saving remains,
the speed-up does not.`,
			Headline: "two d=512 blocks, forward and backward",
			Claims: []card.Claim{
				{What: "transformer block training speed, against FP16", Figure: "1.42×", Ratio: 1.42},
				{What: "transformer block memory, against FP16", Figure: "1.49× less", Ratio: 1.49},
			},
		},
		Code: []string{
			"engine/precision/jetfire.go", "engine/matmul/tile8.go", "engine/simd/tile8.go",
			"model/int8flow/value.go", "model/int8flow/linear.go", "model/int8flow/norm.go", "model/int8flow/activation.go",
			"model/int8flow/attend.go", "model/int8flow/dropout.go", "model/net/int8.go",
		},
		Breaks: []experiment.Break{
			{ // one tile's scale stands for both
				File: "engine/matmul/tile8.go", Old: "f[k] = p.A.Scales[a] * p.B.Scales[b]", New: "f[k] = p.A.Scales[a]",
				Test: "./engine/matmul -run TestTilesProductEqualsIntegers",
			},
			{ // gradients are rounded to the nearest
				File: "model/int8flow/value.go", Old: "matmul.Rounding{Stochastic: true,", New: "matmul.Rounding{Stochastic: false,",
				Test: "./model/int8flow -run TestGradients",
			},
			{ // the draws of all tiles are the same
				File: "engine/matmul/tile8.go", Old: "+ uint64(i*t.wide()+j))", New: ")",
				Test: "./engine/matmul -run TestTilesDrawApart",
			},
			{ // int8 forward only
				File: "model/net/int8.go", Old: "x = f.forwardInt8(t, b.Norm2.applyInt8(t, x), x)",
				New:  "n, r := widen(t, b.Norm2.applyInt8(t, x), x)\n\t\t_ = f\n\t\tx = int8flow.Quantize(t, b.FFN.Forward(t, n, r))",
				Test: "./model/net -run TestInt8KeepsAQuarter",
			},
		},
		Run: jetfire,
	}
}

func jetfire(r *experiment.Run) error {
	jetfireProducts(r)
	jetfireRounding(r)
	jetfireOutlier(r)
	if err := jetfireSaved(r); err != nil {
		return err
	}
	if err := jetfireSpeed(r); err != nil {
		return err
	}
	if err := jetfirePeak(r); err != nil {
		return err
	}
	return jetfireOutcome(r)
}

func normal(id uint64, n int) []float32 {
	s := rng.New(164, id)
	x := make([]float32, n)
	s.FillNormal(x, 0, 1)
	return x
}

func tiles(x []float32, rows, cols int, how matmul.Rounding) matmul.Tiles {
	t := matmul.TilesOf(rows, cols, make([]float32, matmul.TilesLen(rows, cols)))
	t.Quantize(x, how)
	return t
}

// jetfireProducts counts the elements of the three products of a linear layer
// that are not what plain loops over the codes, in integers, come to. All scales
// are made 1 for it.
func jetfireProducts(r *experiment.Run) {
	const rows, in, out = 96, 130, 70
	x, w, dy := tiles(normal(1, rows*in), rows, in, matmul.Rounding{}), tiles(normal(2, out*in), out, in, matmul.Rounding{}), tiles(normal(3, rows*out), rows, out, matmul.Rounding{})
	for _, t := range []matmul.Tiles{x, w, dy} {
		for i := range t.Scales {
			t.Scales[i] = 1
		}
	}
	wrong := 0
	for _, c := range []struct {
		matmul.TileArgs
		m, n, k int
	}{
		{matmul.TileArgs{A: x, B: w, TransB: true}, rows, out, in},
		{matmul.TileArgs{A: dy, B: w}, rows, in, out},
		{matmul.TileArgs{A: dy, TransA: true, B: x}, out, in, rows},
	} {
		c.Wide = make([]float32, c.m*c.n)
		matmul.MulTiles(c.TileArgs)
		for i, got := range c.Wide {
			sum := 0
			for k := range c.k {
				a, b := [2]int{i / c.n, k}, [2]int{k, i % c.n}
				if c.TransA {
					a[0], a[1] = a[1], a[0]
				}
				if c.TransB {
					b[0], b[1] = b[1], b[0]
				}
				sum += int(c.A.At(a[0], a[1])) * int(c.B.At(b[0], b[1]))
			}
			if got != float32(sum) {
				wrong++
			}
		}
	}
	r.Exact("elements of int8 products that differ from integer loops, forward and backward", float64(wrong), experiment.Equals(0))
}

// jetfireRounding holds the mean of many stochastic roundings against the value.
func jetfireRounding(r *experiment.Run) {
	const n, draws = 32, 4000
	x := normal(4, n*n)
	sum, exact := make([]float64, n*n), float64(0)
	var step float64
	for i := range draws {
		q := tiles(x, n, n, matmul.Rounding{Stochastic: true, Draws: rng.New(164, uint64(100+i))})
		step = float64(q.Scales[0])
		for j, c := range q.Codes {
			sum[j] += float64(c)
		}
	}
	for j, v := range x {
		y := float64(v) / step
		f := y - math.Floor(y)
		// The draws have 16 bits, and y is rounded to float32: hence the floor.
		deviation := max(math.Sqrt(f*(1-f)/draws), 1e-4)
		exact = max(exact, math.Abs(sum[j]/draws-y)/deviation)
	}
	r.Exact("stochastic rounding: largest bias of an element over 4000 draws, in standard errors", exact, experiment.AtMost(5))
}

// jetfireOutlier compares the errors that tiles and scales per token make in
// activations of which one channel is fifty times as large as the others.
func jetfireOutlier(r *experiment.Run) {
	const rows, channel = 1024, 37
	compare := func(cols int) (squared, absolute float64) {
		x := normal(5, rows*cols)
		for i := channel; i < len(x); i += cols {
			x[i] *= 50
		}
		block := make([]float32, len(x))
		tiles(x, rows, cols, matmul.Rounding{}).Dequantize(block, false)
		p := tensor.NewPacked(memory.Default, memory.Workspace, tensor.Int8, tensor.Of(rows, cols), 0)
		defer p.Free(memory.Default, memory.Workspace)
		token := make([]float32, len(x))
		p.Pack(x)
		p.Unpack(token)
		var b, t [2]float64
		for i, v := range x {
			d, e := math.Abs(float64(block[i]-v)), math.Abs(float64(token[i]-v))
			b[0], b[1] = b[0]+d*d, b[1]+d
			t[0], t[1] = t[0]+e*e, t[1]+e
		}
		return b[0] / t[0], b[1] / t[1]
	}
	squared, absolute := compare(2048)
	r.Exact("one channel ×50, inputs 2048 wide: mean absolute error, of per-token's", absolute, experiment.AtMost(0.2))
	squared512, absolute512 := compare(512)
	r.Note("With one channel ×50 the error of tiles is confined to those that hold the channel: 1 of 64 in rows of 2048, the widest input in a block of d=512. "+
		"Of per-token's, the mean absolute error is %.2f there, and the root of the squared error %.2f, for in those few tiles it is larger. In rows of 512, "+
		"where it is 1 tile of 16, they are %.2f and %.2f.", absolute, math.Sqrt(squared), absolute512, math.Sqrt(squared512))
}

// block512 is a GPT-2 of blocks 512 wide.
func block512(layers, ctx int) net.Config {
	return net.Config{Arch: "gpt2", Layers: layers, Heads: 8, Dim: 512, Ctx: ctx, Vocab: 256, Tied: true, Eps: 1e-5}
}

// blocks is a model on a tape of its own.
type blocks struct {
	*net.GPT
	arena  *memory.Arena
	tape   *grad.Tape
	tokens []int32
}

func newBlocks(c net.Config, tokens int, p precision.Policy) (*blocks, error) {
	b := &blocks{arena: new(memory.Arena), tokens: make([]int32, tokens)}
	m, err := net.NewGPT(b.arena, c)
	if err != nil {
		return nil, err
	}
	m.Init(1)
	b.GPT, b.tape = m, grad.NewTape(b.arena)
	b.tape.Policy = p
	s := rng.New(164, 6)
	for i := range b.tokens {
		b.tokens[i] = int32(s.IntN(c.Vocab))
	}
	return b, nil
}

// saved is the bytes that the forward pass keeps for the backward pass.
func (b *blocks) saved() int64 {
	b.Hidden(b.tape, b.tokens, b.Ctx, nil)
	defer b.tape.Reset()
	return b.arena.Usage().Live[memory.Activations]
}

// pass is one forward and backward pass.
func (b *blocks) pass() {
	y := b.Hidden(b.tape, b.tokens, b.Ctx, nil)
	b.tape.SetGrad(y, y.Data)
	b.tape.BackwardFrom()
	b.tape.Reset()
}

// jetfireSaved reads from the arena what a block of d=512 keeps for each token:
// the inputs of its linear layers, of GELU, norms and attention.
func jetfireSaved(r *experiment.Run) error {
	// Differences leave out what other parts of the model keep, and what does not
	// grow with tokens.
	perToken := func(p precision.Policy) (bytes float64, err error) {
		for _, c := range []struct{ layers, tokens, sign int }{{2, 1024, 1}, {1, 1024, -1}, {2, 512, -1}, {1, 512, 1}} {
			b, err := newBlocks(block512(c.layers, 128), c.tokens, p)
			if err != nil {
				return 0, err
			}
			bytes += float64(c.sign) * float64(b.saved())
		}
		return bytes / 512, nil
	}
	wide, err := perToken(precision.F32{})
	if err != nil {
		return err
	}
	narrow, err := perToken(&precision.Jetfire{})
	if err != nil {
		return err
	}
	r.Exact("bytes a d=512 block saves for a token, of float32's", narrow/wide, experiment.AtMost(0.26))
	r.Note("A d=512 block saves %.0f bytes for a token, in float32 %.0f; in both, outputs of norms and activations are computed again in the backward pass.", narrow, wide)
	return nil
}

// jetfireSpeed times a forward and backward pass of two blocks of d=512.
func jetfireSpeed(r *experiment.Run) error {
	tokens, rounds := 4096, 7
	if r.Quick {
		tokens, rounds = 1024, 3
	}
	var passes []func()
	for _, p := range []precision.Policy{precision.F32{}, precision.BF16{}, &precision.Jetfire{}} {
		b, err := newBlocks(block512(2, 256), tokens, p)
		if err != nil {
			return err
		}
		passes = append(passes, b.pass)
	}
	s := r.Pairs(rounds, passes...)
	r.Ratio("two d=512 blocks, forward and backward", "s", s[0], s[2], experiment.SpeedupAtLeast(1.4))
	r.Print("two d=512 blocks in bf16", "s", s[0], s[1])
	return nil
}

// jetfirePeak is the peak of everything live in a training step with AdamW: weights,
// gradients, optimiser state, activations, workspace.
func jetfirePeak(r *experiment.Run) error {
	batch := 32
	if r.Quick {
		batch = 16
	}
	var peak [2]float64
	for i, name := range []string{"f32", "jetfire"} {
		memory.Default.ResetPeak()
		g, err := bench.GPT(bench.GPTOptions{Config: block512(2, 256), Batch: batch, Steps: 1, Precision: name})
		if err != nil {
			return err
		}
		peak[i] = g.ArenaPeakMiB
	}
	r.Ratio(fmt.Sprintf("peak of a step of two d=512 blocks on %d tokens", batch*256), "MiB", peak[:1], peak[1:], experiment.RatioAtMost(0.6))
	return nil
}

// jetfireOutcome trains LM-S: 0.9 million weights on 0.4 million tokens.
func jetfireOutcome(r *experiment.Run) error {
	grid := []float64{5e-4, 1e-3, 2e-3}
	if r.Quick {
		grid = grid[1:2]
	}
	lr, err := r.Tune("f32", grid, func(lr float64) (float64, error) { return smallLM(r, "f32", nil, tuningSeed, lr) })
	if err != nil {
		return err
	}
	train := func(arm string, p precision.Policy, seeds []uint64) (losses []float64, err error) {
		for _, seed := range seeds {
			r.Progress("%s, seed %d", arm, seed)
			l, err := smallLM(r, arm, p, seed, lr)
			if err != nil {
				return nil, err
			}
			losses = append(losses, l)
		}
		return losses, nil
	}
	wide, err := train("f32", precision.F32{}, r.Seeds)
	if err != nil {
		return err
	}
	narrow, err := train("jetfire", &precision.Jetfire{}, r.Seeds)
	if err != nil {
		return err
	}
	r.Outcome("LM-S, validation loss", "nats", wide, narrow, experiment.RatioAtMost(1.01))
	one := r.Seeds[:1]
	for _, arm := range []struct {
		name   string
		policy precision.Policy
	}{
		{"bf16", precision.BF16{}},
		{"int8, scale per token", &scaled{}},
		{"int8, scale per tensor", &scaled{tensor: true}},
	} {
		if r.Quick && arm.name == "bf16" {
			continue
		}
		l, err := train(arm.name, arm.policy, one)
		if err != nil {
			return err
		}
		r.Print("LM-S, "+arm.name+", one seed", "nats", wide[:1], l)
	}
	r.Note("All arms train with the rate tuned for f32 and are evaluated in float32, as a model is used afterwards. Scales per token and per tensor round the operands of " +
		"the same products, gradients stochastically, and keep everything else in float32: what int8 costs them in other operators, memory and time is not counted.")
	return nil
}

// tuningSeed is the seed of runs that choose a setting; those that are reported
// have others.
const tuningSeed = 1000

// smallLM trains LM-S with a policy (nil: f32) and returns the last validation
// loss. Runs for tuning leave no curve.
func smallLM(r *experiment.Run, arm string, p precision.Policy, seed uint64, lr float64) (float64, error) {
	steps, evaluations := 400, 10
	if r.Quick {
		steps, evaluations = 12, 2
	}
	text, err := recipe.Open("gpt")
	if err != nil {
		return 0, err
	}
	if err := text.Set("model=gpt2", "model.layers=4", "model.heads=4", "model.dim=128", "model.ctx=128", "tokenizer=bpe:1024", "precision=f32",
		"time=0s", "batch=8", fmt.Sprint("steps=", steps), fmt.Sprint("evaluate.every=", steps/evaluations), "evaluate.windows=64",
		fmt.Sprint("optim.lr=", lr), fmt.Sprint("seed=", seed)); err != nil {
		return 0, err
	}
	s, err := lm.Resolve(text)
	if err != nil {
		return 0, err
	}
	if p != nil {
		s.Precision = p
	}
	j, err := lm.NewJob(s, nil)
	if err != nil {
		return 0, err
	}
	defer j.Close()
	if q, ok := p.(*scaled); ok {
		q.vocab = j.Model.Vocab
	}
	var x, y []float64
	j.Loop.On(loop.AfterEvaluate, func(s *loop.State) error {
		x, y = append(x, float64(s.Step)), append(y, s.ValLoss)
		return nil
	})
	if err := j.Loop.Run(r.Context); err != nil {
		return 0, err
	}
	if seed != tuningSeed {
		r.Curve(arm, seed, "step", "validation loss", x, y)
	}
	return j.Loop.State.ValLoss, r.Context.Err()
}

// scaled is a policy for comparison: the operands of products are rounded to
// int8 with a scale for each of their rows, or one for all, and multiplied in
// float32, which sums of integers of this size pass unharmed. As with Jetfire,
// gradients are rounded stochastically, and the output layer is not rounded.
// All sizes must be multiples of 32.
type scaled struct {
	tensor bool
	vocab  int
	draws  rng.Stream
}

// Mul rounds the operands and multiplies.
func (p *scaled) Mul(pass precision.Pass, a matmul.Args) {
	if [...]int{precision.Forward: a.N, precision.GradInput: a.K, precision.GradWeight: a.M}[pass] == p.vocab {
		matmul.Mul(a)
		return
	}
	rowsA, colsA, rowsB, colsB := a.M, a.K, a.K, a.N
	if a.TransA {
		rowsA, colsA = colsA, rowsA
	}
	if a.TransB {
		rowsB, colsB = colsB, rowsB
	}
	a.A = p.round(a.A, rowsA, colsA, pass != precision.Forward)
	a.B = p.round(a.B, rowsB, colsB, false)
	defer memory.Default.Free(memory.Workspace, a.A)
	defer memory.Default.Free(memory.Workspace, a.B)
	matmul.Mul(a)
}

// round returns x [rows, cols], tightly stored, as its codes and scales give it
// back.
func (p *scaled) round(x []float32, rows, cols int, stochastic bool) []float32 {
	const side = simd.Tile8Side
	y := memory.Default.Dirty(memory.Workspace, rows*cols)
	copy(y, x)
	scales := make([]float32, rows)
	largest := simd.AbsMax(y)
	for i := range scales {
		row := y[i*cols:][:cols]
		if !p.tensor {
			largest = simd.AbsMax(row)
		}
		if scales[i] = largest / 127; largest > 0 {
			simd.Scale(row, 127/largest)
		}
	}
	var codes [side * side]int8
	for i := 0; i < rows; i += side {
		for j := 0; j < cols; j += side {
			at := y[i*cols+j:]
			if stochastic {
				simd.Tile8QuantizeStochastic(codes[:], at, cols, 1, [2]uint32{p.draws.Uint32(), p.draws.Uint32()})
			} else {
				simd.Tile8Quantize(codes[:], at, cols, 1)
			}
			simd.Tile8Dequantize(at, cols, codes[:], 1)
		}
	}
	for i, s := range scales {
		simd.Scale(y[i*cols:][:cols], s)
	}
	return y
}
