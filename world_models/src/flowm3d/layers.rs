//! The layers of FloWM 3D's transformers: linear, layer norm, attention, feed-forward, and the two kinds of blocks.
//!
//! Shapes: `B` batch, `N` tokens, `D` features. Weights are `f32`; a layer works in the precision of what it is given.

use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use simulators::rng::Rng;
use tch::{Tensor, nn};

/// Makes weights, begun as PyTorch begins them, and remembers which it has made.
pub struct Maker {
    rng: Rng,
    made: Vec<Tensor>,
}

impl Maker {
    pub fn new(rng: Rng) -> Self {
        Self { rng, made: Vec::new() }
    }

    /// The weights made since the last call.
    pub fn made(&mut self) -> Vec<Tensor> {
        std::mem::take(&mut self.made)
    }

    /// A weight that begins with `values`.
    pub fn values(&mut self, path: &nn::Path<'_>, name: &str, shape: &[i64], values: &[f32]) -> Tensor {
        let weight = path.var_copy(name, &Tensor::from_slice(values).view(shape));
        self.made.push(weight.shallow_clone());
        weight
    }

    /// One of equal numbers.
    pub fn constant(&mut self, path: &nn::Path<'_>, name: &str, shape: &[i64], value: f32) -> Tensor {
        self.values(path, name, shape, &vec![value; shape.iter().product::<i64>() as usize])
    }

    /// One drawn uniformly from `-bound..bound`.
    pub fn uniform(&mut self, path: &nn::Path<'_>, name: &str, shape: &[i64], bound: f32) -> Tensor {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_: i64| self.rng.random_range(-bound..bound)).collect();
        self.values(path, name, shape, &values)
    }

    /// One drawn from the normal law with this spread.
    pub fn normal(&mut self, path: &nn::Path<'_>, name: &str, shape: &[i64], spread: f32) -> Tensor {
        let mut draw = || -> f32 { StandardNormal.sample(&mut self.rng) };
        let values: Vec<f32> = (0..shape.iter().product()).map(|_: i64| spread * draw()).collect();
        self.values(path, name, shape, &values)
    }

    /// A linear layer; convolutions whose stride is their size are linear too, and say the `shape` of their weight.
    pub fn linear_of(&mut self, path: &nn::Path<'_>, shape: &[i64]) -> Linear {
        let fan_in: i64 = shape[1..].iter().product();
        let bound = 1.0 / (fan_in as f32).sqrt();
        let weight = self.uniform(path, "weight", shape, bound);
        Linear { weight, bias: self.uniform(path, "bias", &shape[..1], bound) }
    }

    pub fn linear(&mut self, path: &nn::Path<'_>, from: i64, to: i64) -> Linear {
        self.linear_of(path, &[to, from])
    }

    pub fn norm(&mut self, path: &nn::Path<'_>, width: i64) -> Norm {
        let weight = self.constant(path, "weight", &[width], 1.0);
        Norm { weight, bias: self.constant(path, "bias", &[width], 0.0) }
    }

    /// Attention's inner projections have Xavier's bound, its biases begin at zero.
    fn attention(&mut self, path: &nn::Path<'_>, width: i64, heads: i64) -> Attention {
        let bound = (6.0 / (4 * width) as f32).sqrt();
        let weight = self.uniform(path, "in_proj_weight", &[3 * width, width], bound);
        let bias = self.constant(path, "in_proj_bias", &[3 * width], 0.0);
        let out = path / "out_proj";
        let out = Linear {
            weight: self.uniform(&out, "weight", &[width, width], 1.0 / (width as f32).sqrt()),
            bias: self.constant(&out, "bias", &[width], 0.0),
        };
        Attention { inner: Linear { weight, bias }, out, heads }
    }

    fn self_attention(&mut self, path: &nn::Path<'_>, width: i64, heads: i64) -> SelfAttention {
        let norm = self.norm(&(path / "norm"), width);
        SelfAttention { norm, attention: self.attention(&(path / "fn" / "attn"), width, heads) }
    }

    fn forward(&mut self, path: &nn::Path<'_>, width: i64, ratio: i64) -> FeedForward {
        let (norm, net) = (self.norm(&(path / "norm"), width), path / "fn" / "net");
        // The published list is linear, GELU, dropout, linear, dropout.
        let wide = self.linear(&(&net / 0), width, ratio * width);
        FeedForward { norm, wide, narrow: self.linear(&(&net / 3), ratio * width, width) }
    }

    /// A block of the encoder.
    pub fn block(&mut self, path: &nn::Path<'_>, width: i64, heads: i64, ratio: i64) -> Block {
        let attention = self.self_attention(&(path / "attn"), width, heads);
        Block { attention, forward: self.forward(&(path / "ff"), width, ratio) }
    }

    /// A block of the decoder.
    pub fn reading_block(&mut self, path: &nn::Path<'_>, width: i64, heads: i64, ratio: i64) -> ReadingBlock {
        let (cross, inner) = (path / "cross_attn", path / "cross_attn" / "fn");
        let mut projection = |name: &str| self.linear(&(&inner / name), width, width);
        let [query, key, value] = ["q_proj", "k_proj", "v_proj"].map(&mut projection);
        ReadingBlock {
            attention: self.self_attention(&(path / "self_attn"), width, heads),
            norm: self.norm(&(&cross / "norm"), width),
            norm_read: self.norm(&(path / "norm_kv"), width),
            query,
            key,
            value,
            reading: self.attention(&(&inner / "attn"), width, heads),
            forward: self.forward(&(path / "ff"), width, ratio),
        }
    }
}

/// `x W' + b`.
#[derive(Debug)]
pub struct Linear {
    /// `[to, from]`, or of a convolution `[to, colours, side, side]`.
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    /// `[.., from]` -> `[.., to]`.
    pub fn apply(&self, x: &Tensor) -> Tensor {
        self.rows(x, 0, self.bias.size()[0])
    }

    /// The outputs from `first` on, `count` of them.
    fn rows(&self, x: &Tensor, first: i64, count: i64) -> Tensor {
        let of = |weight: &Tensor| weight.narrow(0, first, count).to_kind(x.kind());
        x.linear(&of(&self.weight.flatten(1, -1)), Some(of(&self.bias)))
    }

    /// The same for what stands in `a` and `b` beside each other: `[.., from / 2]` each.
    pub fn apply_to_both(&self, a: &Tensor, b: &Tensor) -> Tensor {
        let (weight, half) = (self.weight.to_kind(a.kind()), self.weight.size()[1] / 2);
        let from_a = a.linear(&weight.narrow(1, 0, half), Some(self.bias.to_kind(a.kind())));
        from_a + b.linear(&weight.narrow(1, half, half), None::<&Tensor>)
    }
}

/// Layer norm over features.
#[derive(Debug)]
pub struct Norm {
    weight: Tensor,
    bias: Tensor,
}

impl Norm {
    pub fn apply(&self, x: &Tensor) -> Tensor {
        let [weight, bias] = [&self.weight, &self.bias].map(|weight| weight.to_kind(x.kind()));
        x.layer_norm(weight.size(), Some(weight), Some(bias), 1e-5, false)
    }
}

/// Attention of several heads, with projections of its own.
#[derive(Debug)]
struct Attention {
    /// Queries, keys and values, `[3 D, D]`.
    inner: Linear,
    out: Linear,
    heads: i64,
}

impl Attention {
    /// Tokens `[B, N, D]` look at each other; `bias`, of a shape that widens to `[B, heads, N, N]`, is added to what they have in
    /// common.
    fn among(&self, x: &Tensor, bias: Option<&Tensor>) -> Tensor {
        let parts = self.inner.apply(x).chunk(3, -1);
        self.attend([0, 1, 2].map(|part| parts[part].shallow_clone()), bias)
    }

    /// Queries `[B, N, D]` look at keys and values `[B, M, D]`; `bias` is added to what they have in common.
    fn read(&self, parts: [&Tensor; 3], bias: Option<&Tensor>) -> Tensor {
        let (width, [query, key, value]) = (self.out.bias.size()[0], parts);
        let parts = [(query, 0), (key, 1), (value, 2)].map(|(x, part)| self.inner.rows(x, part * width, width));
        self.attend(parts, bias)
    }

    fn attend(&self, parts: [Tensor; 3], bias: Option<&Tensor>) -> Tensor {
        let of_heads = |x: Tensor| x.view([x.size()[0], x.size()[1], self.heads, -1]).transpose(1, 2);
        let [query, key, value] = parts.map(of_heads); // [B, heads, N, D / heads]
        let seen = Tensor::scaled_dot_product_attention(&query, &key, &value, bias, 0.0, false, None, false);
        self.out.apply(&seen.transpose(1, 2).flatten(2, 3)) // [B, N, D]
    }
}

/// `MHA(LN x)`.
#[derive(Debug)]
struct SelfAttention {
    norm: Norm,
    attention: Attention,
}

impl SelfAttention {
    fn apply(&self, x: &Tensor, bias: Option<&Tensor>) -> Tensor {
        self.attention.among(&self.norm.apply(x), bias)
    }
}

/// `W2 gelu(W1 LN x)`.
#[derive(Debug)]
struct FeedForward {
    norm: Norm,
    wide: Linear,
    narrow: Linear,
}

impl FeedForward {
    fn apply(&self, x: &Tensor) -> Tensor {
        self.narrow.apply(&self.wide.apply(&self.norm.apply(x)).gelu("none"))
    }
}

/// A block of the encoder: tokens look at each other.
#[derive(Debug)]
pub struct Block {
    attention: SelfAttention,
    forward: FeedForward,
}

impl Block {
    /// `[B, N, D]` -> the same; `bias` as in attention.
    pub fn apply(&self, x: &Tensor, bias: Option<&Tensor>) -> Tensor {
        let x = x + self.attention.apply(x, bias);
        &x + self.forward.apply(&x)
    }
}

/// A block of the decoder: tokens look at each other, then at what is read.
#[derive(Debug)]
pub struct ReadingBlock {
    attention: SelfAttention,
    norm: Norm,
    norm_read: Norm,
    /// Published as they are: linear layers before those that attention has itself.
    query: Linear,
    key: Linear,
    value: Linear,
    reading: Attention,
    forward: FeedForward,
}

impl ReadingBlock {
    /// `x [B, N, D]`, `read [B, M, D]` -> `[B, N, D]`; `among` biases the attention of `x` to itself, `across` that to `read`.
    pub fn apply(&self, x: &Tensor, read: &Tensor, among: Option<&Tensor>, across: Option<&Tensor>) -> Tensor {
        let x = x + self.attention.apply(x, among);
        let (asked, read) = (self.norm.apply(&x), self.norm_read.apply(read));
        let (query, key, value) = (self.query.apply(&asked), self.key.apply(&read), self.value.apply(&read));
        let x = x + self.reading.read([&query, &key, &value], across);
        &x + self.forward.apply(&x)
    }
}
