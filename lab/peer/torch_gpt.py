#!/usr/bin/env python3
"""A GPT in plain PyTorch: the peer that hasten is measured beside.

    torch_gpt.py bench    training steps on one random batch: tokens a second, memory
    torch_gpt.py train    a training run on files of token ids, for a number of seconds
    torch_gpt.py loss     mean loss of a model directory over a file of token ids
    torch_gpt.py curve    losses of AdamW steps from a model directory
    torch_gpt.py write    writes a model directory with random weights
    torch_gpt.py matmul   rate of one matrix product
    torch_gpt.py version  versions, the BLAS in use, threads
    torch_gpt.py many     carries out many of these in one process: each line of standard
                          input is a JSON list of arguments, each line of output the list
                          of what they print

Every mode prints JSON objects, one a line; --help after a mode shows its flags.

It is written as people write PyTorch: modules, materialised attention, torch.optim.AdamW.
Modules have the names that Hugging Face's transformers gives them, so that a state dict is
the content of a model.safetensors; only GPT-2's matrices are transposed there.
"""
import argparse
import dataclasses
import json
import math
import os
import platform
import resource
import struct
import sys
import time

if "--threads" in sys.argv[:-1]:  # OpenBLAS asks only once, when it is loaded
    os.environ["OPENBLAS_NUM_THREADS"] = sys.argv[sys.argv.index("--threads") + 1]

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


# ---- the model -------------------------------------------------------------------------

@dataclasses.dataclass
class Shape:
    arch: str             # "llama" or "gpt2"
    layers: int
    heads: int
    kv: int               # key and value heads; they divide heads
    dim: int
    hidden: int           # width of the feed-forward layer
    ctx: int              # longest sequence
    vocab: int
    eps: float = 1e-5     # added to the variance in norms
    theta: float = 1e4    # base of the rotary angles
    tied: bool = True     # the output layer is the token embedding
    activation: str = ""  # of GPT-2: gelu_new (the tanh form), gelu or relu
    biased: bool = False  # of Llama: products of attention have biases


class RMSNorm(nn.Module):
    def __init__(self, dim, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def rotate(x, cos, sin):
    """Rotary positions for x [B, H, T, E]: number i turns with number i + E/2."""
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * cos + turned * sin


def attend(q, k, v, hidden):
    """Attention with all scores in memory. q, k, v: [B, H, T, E]; hidden: [T, T], true where not seen."""
    B, H, T, E = q.shape
    scores = (q @ k.transpose(-2, -1)) / math.sqrt(E)
    p = F.softmax(scores.masked_fill(hidden, float("-inf")), dim=-1)
    return (p @ v).transpose(1, 2).contiguous().view(B, T, H * E)


class LlamaAttention(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.heads, self.kv, self.size = s.heads, s.kv, s.dim // s.heads
        self.q_proj = nn.Linear(s.dim, s.heads * self.size, bias=s.biased)
        self.k_proj = nn.Linear(s.dim, s.kv * self.size, bias=s.biased)
        self.v_proj = nn.Linear(s.dim, s.kv * self.size, bias=s.biased)
        self.o_proj = nn.Linear(s.dim, s.dim, bias=s.biased)

    def forward(self, x, at):
        B, T, _ = x.shape
        split = lambda y, heads: y.view(B, T, heads, self.size).transpose(1, 2)
        q = rotate(split(self.q_proj(x), self.heads), at.cos, at.sin)
        k = rotate(split(self.k_proj(x), self.kv), at.cos, at.sin)
        v = split(self.v_proj(x), self.kv)
        if self.kv != self.heads:
            k, v = (y.repeat_interleave(self.heads // self.kv, dim=1) for y in (k, v))
        return self.o_proj(attend(q, k, v, at.hidden))


class LlamaMLP(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.gate_proj = nn.Linear(s.dim, s.hidden, bias=False)
        self.up_proj = nn.Linear(s.dim, s.hidden, bias=False)
        self.down_proj = nn.Linear(s.hidden, s.dim, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class LlamaBlock(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.input_layernorm = RMSNorm(s.dim, s.eps)
        self.self_attn = LlamaAttention(s)
        self.post_attention_layernorm = RMSNorm(s.dim, s.eps)
        self.mlp = LlamaMLP(s)

    def forward(self, x, at):
        x = x + self.self_attn(self.input_layernorm(x), at)
        return x + self.mlp(self.post_attention_layernorm(x))


class LlamaTrunk(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.embed_tokens = nn.Embedding(s.vocab, s.dim)
        self.layers = nn.ModuleList(LlamaBlock(s) for _ in range(s.layers))
        self.norm = RMSNorm(s.dim, s.eps)

    def forward(self, tokens, at):
        x = self.embed_tokens(tokens)
        for block in self.layers:
            x = block(x, at)
        return self.norm(x)


class GPT2Attention(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.heads, self.size = s.heads, s.dim // s.heads
        self.c_attn = nn.Linear(s.dim, 3 * s.dim)
        self.c_proj = nn.Linear(s.dim, s.dim)

    def forward(self, x, at):
        B, T, D = x.shape
        q, k, v = (y.view(B, T, self.heads, self.size).transpose(1, 2) for y in self.c_attn(x).split(D, dim=2))
        return self.c_proj(attend(q, k, v, at.hidden))


# The tanh form is F.gelu's own kernel, which is faster here than the formula in several operations.
ACTIVATIONS = {
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu": F.gelu,
    "relu": F.relu,
}


class GPT2MLP(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.c_fc = nn.Linear(s.dim, s.hidden)
        self.c_proj = nn.Linear(s.hidden, s.dim)
        self.activation = ACTIVATIONS[s.activation]

    def forward(self, x):
        return self.c_proj(self.activation(self.c_fc(x)))


class GPT2Block(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.ln_1 = nn.LayerNorm(s.dim, s.eps)
        self.attn = GPT2Attention(s)
        self.ln_2 = nn.LayerNorm(s.dim, s.eps)
        self.mlp = GPT2MLP(s)

    def forward(self, x, at):
        x = x + self.attn(self.ln_1(x), at)
        return x + self.mlp(self.ln_2(x))


class GPT2Trunk(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.wte = nn.Embedding(s.vocab, s.dim)
        self.wpe = nn.Embedding(s.ctx, s.dim)
        self.h = nn.ModuleList(GPT2Block(s) for _ in range(s.layers))
        self.ln_f = nn.LayerNorm(s.dim, s.eps)

    def forward(self, tokens, at):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.h:
            x = block(x, at)
        return self.ln_f(x)


@dataclasses.dataclass
class Positions:
    """What the blocks share for a sequence of length T."""
    hidden: torch.Tensor  # [T, T], true where a query does not see a key
    cos: torch.Tensor     # [T, E], of the rotary angles
    sin: torch.Tensor


EMBEDDING = {"llama": "model.embed_tokens.weight", "gpt2": "transformer.wte.weight"}


class GPT(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.shape = s
        if s.arch == "llama":
            self.model = LlamaTrunk(s)
        else:
            self.transformer = GPT2Trunk(s)
        self.lm_head = nn.Linear(s.dim, s.vocab, bias=False)
        self.initialise()
        if s.tied:
            self.lm_head.weight = self.get_parameter(EMBEDDING[s.arch])
        size = s.dim // s.heads
        angles = torch.outer(torch.arange(s.ctx).float(), s.theta ** (-torch.arange(0, size, 2).float() / size))
        angles = torch.cat((angles, angles), dim=-1)
        self.positions = Positions(torch.ones(s.ctx, s.ctx, dtype=torch.bool).triu(1), angles.cos(), angles.sin())

    def initialise(self):
        """GPT-2's weights: deviation 0.02, divided by √(2·layers) where a branch ends; biases 0."""
        for name, p in self.named_parameters():
            if p.dim() > 1:
                ends = name.endswith(("o_proj.weight", "down_proj.weight", "c_proj.weight"))
                nn.init.normal_(p, 0.0, 0.02 / math.sqrt(2 * self.shape.layers) if ends else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, tokens, targets):
        """Mean cross-entropy in nats. tokens, targets: [B, T]."""
        T, p = tokens.shape[1], self.positions
        trunk = self.model if self.shape.arch == "llama" else self.transformer
        x = trunk(tokens, Positions(p.hidden[:T, :T], p.cos[:T], p.sin[:T]))
        return F.cross_entropy(self.lm_head(x).view(-1, self.shape.vocab), targets.reshape(-1))


# ---- training --------------------------------------------------------------------------

def adamw(model, lr):
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), eps=1e-8)


def step(model, optimizer, tokens, targets, precision="f32"):
    if precision not in ("f32", "bf16"):
        raise ValueError(f"training in {precision}: want f32 or bf16")
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
        loss = model(tokens, targets)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def read_tokens(path, dtype):
    return np.fromfile(path, dtype={"u8": np.uint8, "u16": np.uint16, "i32": np.int32}[dtype])


def windows(tokens, starts, length):
    """Batches [B, T] of tokens and of the tokens that follow them."""
    rows = torch.from_numpy(np.stack([tokens[i:i + length + 1] for i in starts]).astype(np.int64))
    return rows[:, :-1], rows[:, 1:]


def bench(a):
    model = GPT(shape_of(a))
    optimizer = adamw(model, 3e-4)
    tokens = torch.randint(0, a.vocab, (a.batch, a.ctx))
    targets = tokens.roll(-1, 1)
    times = []
    for _ in range(a.steps + 2):  # two more come first
        begin = time.perf_counter()
        step(model, optimizer, tokens, targets, a.precision)
        times.append(time.perf_counter() - begin)
    times = sorted(times[2:])
    median, items = times[len(times) // 2], a.batch * a.ctx
    yield {
        "peer": "torch " + torch.__version__, "arch": a.arch, "params": sum(p.numel() for p in model.parameters()),
        "tokens_per_s": items / median, "best_tokens_per_s": items / times[0], "step_ms": 1e3 * median,
        "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def train(a):
    """The learning rate rises over the first steps and falls along a cosine to a tenth, by the
    share of a.seconds spent. Evaluations are not charged, and are in float32."""
    data, valid = read_tokens(a.train, a.dtype), read_tokens(a.val, a.dtype)
    model = GPT(shape_of(a))
    optimizer = adamw(model, a.lr)
    draws = torch.Generator().manual_seed(a.seed)
    places = torch.linspace(0, len(valid) - a.ctx - 2, a.windows).long()
    spent, taken, evaluated = 0.0, 0, 0.0
    while spent < a.seconds:
        begin = time.perf_counter()
        cosine = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * spent / a.seconds))
        for group in optimizer.param_groups:
            group["lr"] = a.lr * min(1.0, (taken + 1) / a.warmup) * cosine
        starts = torch.randint(0, len(data) - a.ctx - 1, (a.batch,), generator=draws)
        loss = step(model, optimizer, *windows(data, starts, a.ctx), a.precision)
        taken += 1
        spent += time.perf_counter() - begin
        if spent - evaluated > a.seconds / 20 or spent >= a.seconds:
            evaluated = spent
            with torch.no_grad():
                mean = sum(model(*windows(valid, p, a.ctx)).item() * len(p) for p in places.split(8)) / len(places)
            yield {
                "seconds": round(spent, 1), "step": taken, "tokens": taken * a.batch * a.ctx,
                "train_loss": loss, "val_loss": mean, "bits_per_token": mean / math.log(2),
            }


def loss(a):
    model, tokens = load(a.model), read_tokens(a.tokens, a.dtype)
    count = (len(tokens) - 1) // a.ctx
    with torch.no_grad():
        total = sum(model(*windows(tokens, [i * a.ctx], a.ctx)).item() for i in range(count))
    yield {"loss": total / count, "windows": count}


def curve(a):
    """Batch i is windows i·B … i·B+B-1 of the file, one after the other."""
    model, tokens = load(a.model), read_tokens(a.tokens, a.dtype)
    optimizer = adamw(model, a.lr)
    losses = []
    for i in range(a.steps):
        starts = [w * a.ctx for w in range(i * a.batch, (i + 1) * a.batch)]
        losses.append(step(model, optimizer, *windows(tokens, starts, a.ctx)))
    yield {"losses": losses}


# ---- model directories -----------------------------------------------------------------

FORMATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

# What config.json calls the sizes.
FIELDS = {
    "llama": {"layers": "num_hidden_layers", "heads": "num_attention_heads", "dim": "hidden_size", "ctx": "max_position_embeddings",
              "vocab": "vocab_size"},
    "gpt2": {"layers": "n_layer", "heads": "n_head", "dim": "n_embd", "ctx": "n_positions", "vocab": "vocab_size"},
}


def transposed(name):
    """GPT-2 keeps its matrices as [in, out]."""
    return name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))


def read_config(path):
    with open(path) as f:
        c = json.load(f)
    arch = c["model_type"]
    sizes = {ours: c[theirs] for ours, theirs in FIELDS[arch].items()}
    if arch == "gpt2":
        return Shape(arch, kv=c["n_head"], hidden=c.get("n_inner") or 4 * c["n_embd"], eps=c.get("layer_norm_epsilon", 1e-5),
                     tied=c.get("tie_word_embeddings", True), activation=c.get("activation_function", "gelu_new"), **sizes)
    if c.get("hidden_act", "silu") != "silu" or c.get("mlp_bias"):
        raise ValueError(f"{path}: this Llama has another feed-forward layer than the usual one")
    return Shape(arch, kv=c.get("num_key_value_heads") or sizes["heads"], hidden=c["intermediate_size"], eps=c.get("rms_norm_eps", 1e-6),
                 theta=float(c.get("rope_theta", 1e4)), tied=c.get("tie_word_embeddings", False), biased=c.get("attention_bias", False), **sizes)


def config_of(s):
    c = {"model_type": s.arch, "tie_word_embeddings": s.tied}
    c.update({theirs: getattr(s, ours) for ours, theirs in FIELDS[s.arch].items()})
    if s.arch == "gpt2":
        c.update(n_inner=s.hidden, layer_norm_epsilon=s.eps, activation_function=s.activation)
    else:
        c.update(num_key_value_heads=s.kv, intermediate_size=s.hidden, rms_norm_eps=s.eps, rope_theta=s.theta, attention_bias=s.biased,
                 hidden_act="silu")
    return c


def read_safetensors(path):
    """Tensors by name, in float32."""
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        body = bytearray(f.read())
    header.pop("__metadata__", None)
    out = {}
    for name, t in header.items():
        begin, end = t["data_offsets"]
        out[name] = torch.frombuffer(body[begin:end], dtype=FORMATS[t["dtype"]]).view(t["shape"]).float()
    return out


def write_safetensors(path, tensors, store):
    header, body = {}, []
    at = 0
    for name, t in tensors.items():
        t = t.detach().to(FORMATS[store]).contiguous()
        data = (t if store == "F32" else t.view(torch.int16)).numpy().tobytes()
        header[name] = {"dtype": store, "shape": list(t.shape), "data_offsets": [at, at + len(data)]}
        body.append(data)
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(body))


def load(directory):
    """The model of a directory. Names may lack the prefix "model." or "transformer."."""
    shape = read_config(os.path.join(directory, "config.json"))
    file = read_safetensors(os.path.join(directory, "model.safetensors"))
    model = GPT(shape)
    state = {}
    for name in model.state_dict():
        if name == "lm_head.weight" and shape.tied:
            continue  # it is the embedding
        t = file[name] if name in file else file[name.split(".", 1)[1]]
        state[name] = t.t() if transposed(name) else t
    if shape.tied:
        state["lm_head.weight"] = state[EMBEDDING[shape.arch]]
    model.load_state_dict(state)
    return model


def write(a):
    """Weights of such sizes that every one of them has a part in the loss."""
    shape = shape_of(a)
    model = GPT(shape)
    tensors = {}
    for name, p in model.named_parameters():  # shared parameters come once
        if p.dim() > 1:
            nn.init.normal_(p, 0.0, 1 / math.sqrt(shape.dim))
        else:
            nn.init.normal_(p, 0.0 if name.endswith("bias") else 1.0, 0.2)
        if a.bare and name != "lm_head.weight":
            name = name.split(".", 1)[1]
        tensors[name] = p.t() if transposed(name) else p
    os.makedirs(a.model, exist_ok=True)
    write_safetensors(os.path.join(a.model, "model.safetensors"), tensors, a.store)
    with open(os.path.join(a.model, "config.json"), "w") as f:
        json.dump(config_of(shape), f)
    yield {"tensors": len(tensors)}


# ---- the rest --------------------------------------------------------------------------

def matmul(a):
    """Median rate over about a second, at least seven runs. int8 is the quantised linear layer
    with weights packed beforehand: the int8 product that this PyTorch has."""
    n = a.n
    x, y = torch.randn(n, n), torch.randn(n, n)
    if a.precision == "bf16":
        x, y = x.bfloat16(), y.bfloat16()
    if a.precision == "int8":
        if a.form != "nt":
            raise ValueError("the int8 product is there as nt")
        torch.backends.quantized.engine = "onednn"
        x = torch.quantize_per_tensor(x, 0.05, 128, torch.quint8)
        w = torch.ops.quantized.linear_prepack(torch.quantize_per_tensor(y, 0.05, 0, torch.qint8), None)
        run = lambda: torch.ops.quantized.linear(x, w, 3.0, 128)
    else:
        run = {"nn": lambda: x @ y, "nt": lambda: x @ y.T, "tn": lambda: x.T @ y}[a.form]
    run()
    times, start = [], time.perf_counter()
    while len(times) < 7 or time.perf_counter() - start < 1:
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    times.sort()
    yield {"gflops": 2 * n ** 3 / times[len(times) // 2] / 1e9, "threads": torch.get_num_threads()}


def version(a):
    blas = "unknown"
    if os.path.exists("/proc/self/maps"):
        with open("/proc/self/maps") as f:
            files = {line.split()[-1] for line in f if "/" in line}
        found = sorted(os.path.basename(p) for p in files if any(s in os.path.basename(p) for s in ("blas", "mkl_rt", "blis")))
        blas = ", ".join(found) or blas
    yield {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__, "blas": blas,
           "threads": torch.get_num_threads()}


def shape_of(a):
    hidden = a.hidden or (4 * a.dim if a.arch == "gpt2" else (8 * a.dim // 3 + 63) // 64 * 64)
    return Shape(a.arch, a.layers, a.heads, a.kv or a.heads, a.dim, hidden, a.ctx, a.vocab, a.eps, a.theta, not a.untied,
                 a.activation if a.arch == "gpt2" else "", a.biased)


def many(a):
    for line in sys.stdin:
        yield list(carry_out(json.loads(line)))


SHAPE = "arch layers heads kv dim hidden ctx vocab eps theta activation untied biased "

MODES = (
    (bench, "time training steps", SHAPE + "batch steps precision"),
    (train, "train for a number of seconds", SHAPE + "batch train val dtype seconds lr warmup windows precision"),
    (loss, "mean loss of a model", "model tokens dtype ctx"),
    (curve, "losses of AdamW steps from a model", "model tokens dtype ctx batch steps lr"),
    (write, "write a random model", SHAPE + "model store bare"),
    (matmul, "time the product of two square matrices", "n form precision"),
    (version, "show versions", ""),
    (many, "carry out commands from standard input", ""),
)

# Every flag: its default (a type: there is none), what it means, and, where they are few, its values.
FLAGS = {
    "threads": (os.cpu_count(), "threads"),
    "seed": (0, "seed of all random numbers"),
    "arch": ("gpt2", "layout of the model", ("gpt2", "llama")),
    "layers": (6, "transformer blocks"),
    "heads": (6, "query heads"),
    "kv": (0, "key and value heads; 0: as many as heads"),
    "dim": (384, "width of the residual stream"),
    "hidden": (0, "width of the feed-forward layer; 0: the usual for dim"),
    "ctx": (256, "tokens in a sequence"),
    "vocab": (4096, "size of the vocabulary"),
    "eps": (1e-5, "added to the variance in norms"),
    "theta": (1e4, "base of the rotary angles"),
    "activation": ("gelu_new", "of GPT-2", tuple(ACTIVATIONS)),
    "untied": (False, "give the output layer weights of its own"),
    "biased": (False, "give Llama's products of attention biases"),
    "batch": (8, "sequences in a step"),
    "steps": (8, "training steps"),
    "precision": ("f32", "number format; int8 is for products only", ("f32", "bf16", "int8")),
    "train": (str, "file of token ids to train on"),
    "val": (str, "file of token ids to evaluate on"),
    "tokens": (str, "file of token ids"),
    "dtype": ("u8", "format of token ids", ("u8", "u16", "i32")),
    "seconds": (600.0, "of training, evaluations not counted"),
    "lr": (1e-3, "learning rate"),
    "warmup": (50, "steps over which the learning rate rises"),
    "windows": (64, "windows of an evaluation, evenly spread"),
    "model": (str, "model directory"),
    "store": ("F32", "number format of the file", tuple(FORMATS)),
    "bare": (False, "leave the prefix of the network out of names"),
    "n": (1024, "rows and columns"),
    "form": ("nn", "a@b, a@b.T or a.T@b", ("nn", "nt", "tn")),
}


def parser():
    p = argparse.ArgumentParser(description="A GPT in plain PyTorch, to measure hasten beside.")
    modes = p.add_subparsers(dest="mode", required=True)
    for run, text, flags in MODES:
        q = modes.add_parser(run.__name__, help=text)
        q.set_defaults(run=run)
        for name in ["threads", "seed"] + flags.split():
            default, text, *choices = FLAGS[name]
            if default is False:
                q.add_argument("--" + name, action="store_true", help=text)
            elif isinstance(default, type):
                q.add_argument("--" + name, type=default, required=True, help=text)
            else:
                q.add_argument("--" + name, type=type(default), default=default, choices=choices[0] if choices else None, help=text)
    return p


def carry_out(arguments):
    """Carries out one command line; its answers come as they are made."""
    a = parser().parse_args(arguments)
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    return a.run(a)


if __name__ == "__main__":
    for answer in carry_out(sys.argv[1:]):
        print(json.dumps(answer), flush=True)
