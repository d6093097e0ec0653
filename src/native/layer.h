// The two linear maps of an HSTU layer with LayerNorm, SiLU, gate and dropout, by tiles of tokens, so that intermediate
// results stay in cache.
//
//     z = LN(x) W,  act = SiLU(z)                     project
//     y = dropout(u ⊙ LN(o)) Vᵀ + b + x               output
//
// Letters: T tokens, D width, C columns of W, K channels of o.
#pragma once

#include <algorithm>
#include <vector>

#include "gemm.h"
#include "pointwise.h"
#include "storage.h"

namespace facta::ISA {

constexpr int TOKENS = 96;    // of a tile: a multiple of every panel's rows
constexpr int COLUMNS = 256;  // of a tile, in whole vectors

// A matrix in whole vectors: in place if its rows are whole vectors, otherwise a copy (or its transpose).
class Wide {
 public:
  Wide(const float* matrix, int64_t rows, int64_t width) : row_(whole_vectors(width)), p_(matrix) {
    if (row_ == width) return;
    own_.resize(size_t(rows * row_));
    copied(matrix, width, int(rows), int(width), own_.data(), row_, row_);
    p_ = own_.data();
  }
  static Wide transpose(const float* matrix, int64_t rows, int64_t width) {
    Wide made(nullptr, 0, whole_vectors(rows));
    made.own_.resize(size_t(width * made.row_));
    transposed(matrix, width, int(rows), int(width), made.own_.data(), made.row_, made.row_, 1.0f);
    made.p_ = made.own_.data();
    return made;
  }
  const float* operator[](int64_t i) const { return p_ + i * row_; }
  int row() const { return row_; }

 private:
  int row_;
  const float* p_;
  std::vector<float> own_;
};

// The tokens of one thread, tile by tile.
template <class F>
void tiles(int64_t tokens, int part, int parts, F with) {
  const int64_t end = tokens * (part + 1) / parts;
  for (int64_t t = tokens * part / parts; t < end; t += TOKENS) with(t, int(std::min<int64_t>(TOKENS, end - t)));
}

// Gradients of weights: a sum per thread, added up in the order of the threads.
class Sums {
 public:
  Sums(int threads, int64_t rows, int64_t width) : rows_(rows), width_(width), row_(whole_vectors(width)) {
    each_.assign(size_t(threads), std::vector<float>(size_t(rows * row_)));
  }
  float* of(int thread) { return each_[size_t(thread)].data(); }
  int row() const { return row_; }
  void write(float* to) const {
    for (int64_t i = 0; i < rows_; ++i)
      for (int64_t d = 0; d < width_; ++d) {
        float total = 0;
        for (const auto& one : each_) total += one[size_t(i * row_ + d)];
        to[i * width_ + d] = total;
      }
  }

 private:
  int64_t rows_, width_;
  int row_;
  std::vector<std::vector<float>> each_;
};

// LN(x) of a tile in whole vectors, with the numbers for its backward.
struct Normed {
  std::vector<float> values, rate;
  int row;
  explicit Normed(int64_t width)
      : values(size_t(TOKENS * whole_vectors(width))), rate(TOKENS), row(whole_vectors(width)) {}
  void read(const float* x, int count, int width, float eps) {
    for (int i = 0; i < count; ++i) {
      const Channels from{x + int64_t(i) * width, width};
      const Moments m(from, eps);
      rate[size_t(i)] = m.rate;
      for (int d = 0; d < row; d += W)
        store(&values[size_t(i * row + d)], from.inside(d, (from[d] - m.mean) * m.rate));
    }
  }
};

inline void project(const Project& a, int threads) {
  const int width = int(a.width), columns = int(a.columns);
  const Wide weight(a.weight, width, columns);
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int part = 0; part < threads; ++part) {
    Normed x(width);
    std::vector<float> tile(size_t(TOKENS * COLUMNS));
    tiles(a.tokens, part, threads, [&](int64_t t, int count) {
      x.read(a.x + t * width, count, width, a.eps);
      for (int c = 0; c < weight.row(); c += COLUMNS) {
        const int wide = std::min(COLUMNS, weight.row() - c), used = std::min(COLUMNS, columns - c);
        const Left normed{x.values.data(), x.row, 1};
        product(count, wide, width, normed, weight[0] + c, weight.row(), tile.data(), COLUMNS, false);
        for (int i = 0; i < count; ++i) {
          const Channels from{tile.data() + i * COLUMNS, used};
          float *z = a.z + (t + i) * columns + c, *act = a.act + (t + i) * columns + c;
          for (int d = 0; d < used; d += W) from.write(z, d, from[d]), from.write(act, d, from[d] * sigmoid(from[d]));
        }
      }
    });
  }
}

// d_z = SiLU'(z) times the gradients of u, v, q and k, whose columns are adjacent.
inline void through_silu(const Project& a, int64_t t, int count, int from, int used, float* tile) {
  int64_t begin = 0;
  for (int part = 0; part < Project::PARTS; begin += a.widths[part++]) {
    const int first = int(std::max<int64_t>(begin, from));
    const int last = int(std::min<int64_t>(begin + a.widths[part], from + used));
    for (int i = 0; i < count && first < last; ++i) {
      const Channels z{a.z + (t + i) * a.columns + first, last - first};
      const Channels d{a.d_part[part] + (t + i) * a.widths[part] + first - begin, last - first};
      float* to = tile + i * COLUMNS + first - from;
      for (int at = 0; at < z.width; at += W) z.write(to, at, d_silu(z[at], d[at]));
    }
  }
}

inline void project_backward(const Project& a, int threads) {
  const int width = int(a.width), columns = int(a.columns), wide = whole_vectors(width);
  const Wide weight = Wide::transpose(a.weight, width, columns);  // [C, D]
  Sums sums(threads, width, columns);
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int part = 0; part < threads; ++part) {
    Normed x(width);
    std::vector<float> d_z(size_t(TOKENS * COLUMNS)), d_x(size_t(TOKENS * wide));
    tiles(a.tokens, part, threads, [&](int64_t t, int count) {
      x.read(a.x + t * width, count, width, a.eps);
      for (int c = 0; c < columns; c += COLUMNS) {
        const int used = std::min(COLUMNS, columns - c), padded = whole_vectors(used);
        if (used < padded)
          for (int i = 0; i < count; ++i) std::fill_n(&d_z[size_t(i * COLUMNS + used)], padded - used, 0.0f);
        through_silu(a, t, count, c, used, d_z.data());
        product(count, wide, used, {d_z.data(), COLUMNS, 1}, weight[c], wide, d_x.data(), wide, c > 0);
        const Left normed{x.values.data(), 1, x.row};  // transposed
        product(width, padded, count, normed, d_z.data(), COLUMNS, sums.of(part) + c, sums.row(), true);
      }
      for (int i = 0; i < count; ++i) {
        const Channels normed{&x.values[size_t(i * wide)], width}, d{&d_x[size_t(i * wide)], width};
        norm_backward(normed, d, x.rate[size_t(i)], a.d_y + (t + i) * width, a.d_x + (t + i) * width);
      }
    });
  }
  sums.write(a.d_weight);
}

inline void output(const Output& a, int threads) {
  const int width = int(a.width), channels = int(a.gate.width), wide = whole_vectors(channels);
  const Wide weight = Wide::transpose(a.weight, width, channels);  // [K, D]
  const DropoutMask keep(a.gate.p, a.gate.salt, channels);
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int part = 0; part < threads; ++part) {
    std::vector<float> gated(size_t(TOKENS * wide)), tile(size_t(TOKENS * weight.row()));
    tiles(a.gate.tokens, part, threads, [&](int64_t t, int count) {
      for (int i = 0; i < count; ++i) GatedToken(a.gate, keep, t + i).write(&gated[size_t(i * wide)]);
      const Left left{gated.data(), wide, 1};
      product(count, weight.row(), channels, left, weight[0], weight.row(), tile.data(), weight.row(), false);
      for (int i = 0; i < count; ++i) {
        const Channels y{&tile[size_t(i * weight.row())], width}, b{a.bias, width}, x{a.x + (t + i) * width, width};
        for (int d = 0; d < width; d += W) y.write(a.y + (t + i) * width, d, y[d] + b[d] + x[d]);
      }
    });
  }
}

inline void output_backward(const Output& a, int threads) {
  const int width = int(a.width), channels = int(a.gate.width), wide = whole_vectors(channels);
  const Wide weight(a.weight, width, channels);  // [D, K]
  const DropoutMask keep(a.gate.p, a.gate.salt, channels);
  Sums weights(threads, width, channels), biases(threads, 1, width);
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int part = 0; part < threads; ++part) {
    std::vector<float> gated(size_t(TOKENS * wide)), d_gated(size_t(TOKENS * wide));
    tiles(a.gate.tokens, part, threads, [&](int64_t t, int count) {
      const float* d_y = a.d_y + t * width;
      product(count, wide, width, {d_y, width, 1}, weight[0], wide, d_gated.data(), wide, false);
      for (int i = 0; i < count; ++i) {
        const GatedToken token(a.gate, keep, t + i);
        token.write(&gated[size_t(i * wide)]);
        float *d_o = a.gate.d_o + (t + i) * channels, *d_u = a.gate.d_u + (t + i) * channels;
        token.backward({&d_gated[size_t(i * wide)], channels}, d_o, d_u);
        const Channels d{d_y + int64_t(i) * width, width};
        for (int at = 0; at < width; at += W) store(biases.of(part) + at, load(biases.of(part) + at) + d[at]);
      }
      product(width, wide, count, {d_y, 1, width}, gated.data(), wide, weights.of(part), weights.row(), true);
    });
  }
  weights.write(a.d_weight), biases.write(a.d_bias);
}

}  // namespace facta::ISA
