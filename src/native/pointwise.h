// Pointwise operators, one pass over memory each: dropout, HSTU's gate  y = dropout(u ⊙ LN(o)), SiLU.
#pragma once

#include <vector>

#include "draws.h"
#include "kernels.h"

namespace facta::ISA {

inline void dropout(const Dropout& a, int threads) {
  const DropoutMask keep(a.p, a.salt, int(a.width));
  const int width = int(a.width), whole = width / W * W;
#pragma omp parallel for num_threads(threads)
  for (int64_t t = 0; t < a.tokens; ++t) {
    const int32_t token = keep.token(a.keys[t]);
    const float* x = a.x + t * a.width;
    float* out = a.out + t * a.width;
    for (int d = 0; d < whole; d += W) store(out + d, load(x + d) * keep.factor(token, d));
    if (whole < width) {
      const vf factor = keep.factor(token, whole);
      for (int d = whole; d < width; ++d) out[d] = x[d] * factor[d - whole];
    }
  }
}

// The channels of a token, padded with zeros.
struct Channels {
  const float* p;
  int width;
  vf operator[](int d) const { return d + W <= width ? load(p + d) : d < width ? load_some(p + d, width - d) : vf{}; }
  // Zeros outside of the token's channels.
  vf inside(int d, vf x) const { return d + W <= width ? x : select(counting() < width - d, x, vf{}); }
  void write(float* to, int d, vf x) const {
    if (d + W <= width) store(to + d, x);
    else store_some(to + d, x, width - d);
  }
};

// Mean and 1/√(variance + eps) of a token.
struct Moments {
  float mean, rate;
  Moments(const Channels& x, float eps) {
    vf total{}, square{};
    for (int d = 0; d < x.width; d += W) total += x[d];
    mean = sum(total) / float(x.width);
    for (int d = 0; d < x.width; d += W) {
      const vf apart = x.inside(d, x[d] - mean);
      square += apart * apart;
    }
    rate = 1.0f / std::sqrt(sum(square) / float(x.width) + eps);
  }
};

// out = base + the gradient through x -> LN(x), from `normed` = LN(x) and its gradient.
inline void norm_backward(const Channels& normed, const Channels& d_normed, float rate, const float* base, float* out) {
  vf total{}, dot{};
  for (int d = 0; d < normed.width; d += W) total += d_normed[d], dot += d_normed[d] * normed[d];
  const float mean = sum(total) / float(normed.width), slope = sum(dot) / float(normed.width);
  const Channels more{base, normed.width};
  for (int d = 0; d < normed.width; d += W) {
    const vf x = rate * (d_normed[d] - mean - normed[d] * slope);
    normed.write(out, d, base ? x + more[d] : x);
  }
}

// dropout(u ⊙ LN(o)) of one token.
class GatedToken {
 public:
  GatedToken(const Gate& a, const DropoutMask& keep, int64_t t)
      : o_{a.o + t * a.width, int(a.width)}, u_{a.u + t * a.u_row, int(a.width)}, m_(o_, a.eps), keep_(keep),
        dropped_(a.p > 0), token_(dropped_ ? keep.token(a.keys[t]) : 0) {}

  // Whole vectors if `to` has room for them, with zeros after the last channel.
  void write(float* to, bool room = true) const {
    for (int d = 0; d < o_.width; d += W) {
      const vf y = factor(d, u_[d] * normed(d));
      room ? store(to + d, y) : o_.write(to, d, y);
    }
  }
  void backward(const Channels& d_y, float* d_o, float* d_u) const {
    vf total{}, dot{};
    for (int d = 0; d < o_.width; d += W) {
      const vf g = factor(d, d_y[d]), unit = normed(d), g_unit = g * u_[d];
      o_.write(d_u, d, g * unit), o_.write(d_o, d, g_unit);
      total += g_unit, dot += g_unit * unit;
    }
    const float mean = sum(total) / float(o_.width), slope = sum(dot) / float(o_.width);
    const Channels d_unit{d_o, o_.width};
    for (int d = 0; d < o_.width; d += W) o_.write(d_o, d, m_.rate * (d_unit[d] - mean - normed(d) * slope));
  }

 private:
  vf normed(int d) const { return (o_[d] - m_.mean) * m_.rate; }
  vf factor(int d, vf x) const { return dropped_ ? x * keep_.factor(token_, d) : x; }

  const Channels o_, u_;
  const Moments m_;
  const DropoutMask& keep_;
  const bool dropped_;
  const int32_t token_;
};

inline void gate(const Gate& a, int threads) {
  const DropoutMask keep(a.p, a.salt, int(a.width));
#pragma omp parallel for num_threads(threads)
  for (int64_t t = 0; t < a.tokens; ++t) GatedToken(a, keep, t).write(a.y + t * a.width, false);
}

inline void gate_backward(const Gate& a, int threads) {
  const DropoutMask keep(a.p, a.salt, int(a.width));
#pragma omp parallel for num_threads(threads)
  for (int64_t t = 0; t < a.tokens; ++t)
    GatedToken(a, keep, t).backward({a.d_y + t * a.width, int(a.width)}, a.d_o + t * a.width, a.d_u + t * a.width);
}

inline void silu(const Silu& a, int threads) {
  const int64_t whole = a.count / W * W;
#pragma omp parallel for num_threads(threads)
  for (int64_t i = 0; i < whole; i += W) {
    const vf z = load(a.z + i);
    store(a.out + i, z * sigmoid(z));
  }
  if (whole == a.count) return;  // an empty tensor may have a null pointer
  const Channels rest{a.z + whole, int(a.count - whole)};
  rest.write(a.out + whole, 0, rest[0] * sigmoid(rest[0]));
}

inline vf d_silu(vf z, vf d) {
  const vf gate = sigmoid(z);
  return d * gate * (1.0f + z * (1.0f - gate));
}

}  // namespace facta::ISA
