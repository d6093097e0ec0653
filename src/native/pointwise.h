// The rest of the layer, one pass over memory each: dropout, HSTU's gate  y = dropout(u ⊙ LN(o)), SiLU.
#pragma once

#include <vector>

#include "draws.h"
#include "kernels.h"

namespace facta::ISA {

inline void dropout(const Dropout& a, int threads) {
  const Keep keep(a.p, a.salt, int(a.width));
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

// One token's row in whole vectors, zeros behind its end.
struct Line {
  std::vector<float> values;
  int width, wide;
  explicit Line(int width_) : values(size_t(width_ + W)), width(width_), wide((width_ + W - 1) / W * W) {}
  void read(const float* from) {
    std::memcpy(values.data(), from, size_t(width) * 4);
    std::fill(values.begin() + width, values.end(), 0.0f);
  }
  void write(float* to) const { std::memcpy(to, values.data(), size_t(width) * 4); }
  vf operator[](int d) const { return load(values.data() + d); }
  void set(int d, vf x) { store(values.data() + d, x); }
};

// Mean and 1/√(variance + eps) of a row.
struct Moments {
  float mean, rate;
  Moments(const Line& o, float eps) {
    vf total{};
    for (int d = 0; d < o.wide; d += W) total += o[d];
    mean = sum(total) / float(o.width);
    vf square{};
    for (int d = 0; d < o.wide; d += W) {
      const vf apart = select(counting() < o.width - d, o[d] - mean, vf{});
      square += apart * apart;
    }
    rate = 1.0f / std::sqrt(sum(square) / float(o.width) + eps);
  }
};

inline void gate(const Gate& a, int threads) {
  const int width = int(a.width);
  const Keep keep(a.p, a.salt, width);
#pragma omp parallel num_threads(threads)
  {
    Line o(width), u(width);
#pragma omp for
    for (int64_t t = 0; t < a.tokens; ++t) {
      o.read(a.o + t * a.width), u.read(a.u + t * a.u_row);
      const Moments m(o, a.eps);
      const int32_t token = a.p > 0 ? keep.token(a.keys[t]) : 0;
      for (int d = 0; d < o.wide; d += W) {
        vf y = u[d] * ((o[d] - m.mean) * m.rate);
        if (a.p > 0) y *= keep.factor(token, d);
        o.set(d, y);
      }
      o.write(a.y + t * a.width);
    }
  }
}

inline void gate_backward(const Gate& a, int threads) {
  const int width = int(a.width);
  const Keep keep(a.p, a.salt, width);
#pragma omp parallel num_threads(threads)
  {
    Line o(width), u(width), d_y(width);
#pragma omp for
    for (int64_t t = 0; t < a.tokens; ++t) {
      o.read(a.o + t * a.width), u.read(a.u + t * a.u_row), d_y.read(a.d_y + t * a.width);
      const Moments m(o, a.eps);
      const int32_t token = a.p > 0 ? keep.token(a.keys[t]) : 0;
      vf total{}, along{};
      for (int d = 0; d < o.wide; d += W) {
        vf g = d_y[d];
        if (a.p > 0) g *= keep.factor(token, d);
        const vf unit = (o[d] - m.mean) * m.rate, g_unit = g * u[d];
        d_y.set(d, g * unit);  // of u
        u.set(d, g_unit);      // of LN(o); zero behind the end, where u is
        total += g_unit, along += g_unit * unit;
      }
      const float mean = sum(total) / float(width), slope = sum(along) / float(width);
      for (int d = 0; d < o.wide; d += W)
        o.set(d, m.rate * (u[d] - mean - (o[d] - m.mean) * m.rate * slope));
      o.write(a.d_o + t * a.width), d_y.write(a.d_u + t * a.d_u_row);
    }
  }
}

// The last vector of a row may have fewer than W numbers.
inline vf load_some(const float* p, int count) {
  vf x{};
  std::memcpy(&x, p, size_t(count) * 4);
  return x;
}
inline void store_some(float* p, vf x, int count) { std::memcpy(p, &x, size_t(count) * 4); }

inline void silu(const Silu& a, int threads) {
  const int64_t count = a.tokens * a.width, whole = count / W * W;
#pragma omp parallel for num_threads(threads)
  for (int64_t i = 0; i < whole; i += W) {
    const vf z = load(a.z + i);
    store(a.out + i, z * sigmoid(z));
  }
  const int left = int(count - whole);
  if (!left) return;  // nor may an empty tensor's null pointer be read
  const vf z = load_some(a.z + whole, left);
  store_some(a.out + whole, z * sigmoid(z), left);
}

inline vf through_silu(vf z, vf d) {
  const vf gate = sigmoid(z);
  return d * gate * (1.0f + z * (1.0f - gate));
}

inline void silu_backward(const Silu& a, int threads) {
#pragma omp parallel for num_threads(threads)
  for (int64_t t = 0; t < a.tokens; ++t) {
    const float* z = a.z + t * a.width;
    float* d_z = a.out + t * a.width;
    for (int part = 0; part < Silu::PARTS; ++part) {
      const int width = int(a.widths[part]), whole = width / W * W, left = width - whole;
      const float* d = a.d_part[part] + t * width;
      for (int i = 0; i < whole; i += W) store(d_z + i, through_silu(load(z + i), load(d + i)));
      if (left) store_some(d_z + whole, through_silu(load_some(z + whole, left), load_some(d + whole, left)), left);
      z += width, d_z += width;
    }
  }
}

}  // namespace facta::ISA
