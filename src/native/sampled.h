// Losses against sampled negatives: logits, losses and gradients of a target in one pass, while its items are in cache.
// Negatives are drawn here, as functions of the target's key; nothing of size [targets, negatives, width] exists.
#pragma once

#include <algorithm>
#include <vector>

#include "draws.h"
#include "kernels.h"
#include "simd.h"

namespace facta::ISA {

// Rows of a table may be read in whole vectors, also where its width is no multiple of W: the last ones, from which such
// a read would leave the table, lie in a copy with room behind it.
class Rows {
 public:
  Rows(const float* table, int64_t count, int width)
      : table_(table), copied_(std::max<int64_t>(0, count - (W + width - 2) / width)), width_(width) {
    tail_.assign(table + copied_ * width, table + count * width);
    tail_.resize(tail_.size() + W, 0.0f);
  }
  const float* operator[](int64_t row) const {
    return row >= copied_ ? tail_.data() + (row - copied_) * width_ : table_ + row * width_;
  }

 private:
  const float* table_;
  int64_t copied_;
  int width_;
  std::vector<float> tail_;
};

// What one target needs; its items are the positive and then its negatives, padded to whole vectors with the positive.
class Target {
 public:
  Target(const Sampled& s, const Rows& rows, const float* inverse)
      : s_(s), rows_(rows), inverse_(inverse), width_(int(s.width)), wide_((width_ + W - 1) / W * W),
        count_(int(s.negatives) + 1), padded_((count_ + W - 1) / W * W), query_(size_t(wide_)), total_(size_t(wide_)),
        logits_(size_t(padded_)), items_(size_t(padded_)) {}

  void run(int64_t t) {
    draw(t);
    std::copy_n(s_.queries + t * width_, width_, query_.begin());
    for (int i = 0; i < count_; ++i) logits_[size_t(i)] = dot(items_[size_t(i)]);
    for (int i = count_; i < padded_; ++i) logits_[size_t(i)] = logits_[0];
    s_.losses[t] = s_.binary ? binary() : softmax();
    const float weight = s_.weight[t];
    for (int i = 0; i < padded_; i += W) store(&logits_[size_t(i)], load(&logits_[size_t(i)]) * weight);
    std::copy_n(logits_.begin(), count_, s_.slopes + t * count_);
    std::copy_n(items_.begin(), count_, s_.rows + t * count_);
    if (s_.d_queries) gather(t);
  }

 private:
  void draw(int64_t t) {
    std::fill(items_.begin(), items_.end(), int32_t(s_.positive[t]));
    for (int i = 1; i < count_; ++i)
      items_[size_t(i)] = int32_t(below(mix(uint64_t(s_.keys[t]), uint64_t(i - 1)), uint64_t(s_.items)));
  }
  float scale(int32_t item) const { return inverse_ ? inverse_[item] : 1.0f; }
  float dot(int32_t item) const {
    const float* row = rows_[item];
    vf total{};
    for (int d = 0; d < wide_; d += W) total += load(&query_[size_t(d)]) * load(row + d);
    return sum(total) * scale(item);
  }

  // Logits become slopes, d loss / d logit; what equals the positive, its own place aside, has none.
  float softmax() {
    vf highest = load(&logits_[0]);
    for (int i = W; i < padded_; i += W) highest = maximum(highest, load(&logits_[size_t(i)]));
    float most = highest[0];
    for (int lane = 1; lane < W; ++lane) most = std::max(most, highest[lane]);
    const float own = logits_[0];
    vf terms{};
    for (int i = 0; i < padded_; i += W) {
      const vf term = select(others(i), exp(load(&logits_[size_t(i)]) - most), vf{});
      store(&logits_[size_t(i)], term);
      terms += term;
    }
    const float first = std::exp(own - most), rest = sum(terms), total = rest + first;
    for (int i = 0; i < padded_; i += W) store(&logits_[size_t(i)], load(&logits_[size_t(i)]) / total);
    logits_[0] = -rest / total;  // first / total - 1, without cancellation
    return own == most ? std::log1p(rest) : std::log(total) + most - own;
  }
  float binary() {
    const float own = logits_[0];
    double loss = s_.beta * softplus(-own);
    for (int i = 1; i < count_; ++i)
      if (items_[size_t(i)] != items_[0]) loss += softplus(logits_[size_t(i)]);
    for (int i = 0; i < padded_; i += W)
      store(&logits_[size_t(i)], select(others(i), sigmoid(load(&logits_[size_t(i)])), vf{}));
    logits_[0] = -s_.beta / (1.0f + std::exp(own));
    return float(loss);
  }
  vi others(int i) const { return load(&items_[size_t(i)]) != items_[0]; }
  static float softplus(float x) { return std::max(x, 0.0f) + std::log1p(std::exp(-std::fabs(x))); }

  // d loss / d query = Σ slope · item, a few vectors of it at a time, so that the sums stay in registers.
  void gather(int64_t t) {
    for (int i = 0; i < count_; ++i) logits_[size_t(i)] *= scale(items_[size_t(i)]);
    int d = 0;
    for (; d + 4 * W <= wide_; d += 4 * W) gather_part<4>(d);
    for (; d < wide_; d += W) gather_part<1>(d);
    std::copy_n(total_.begin(), width_, s_.d_queries + t * width_);
  }
  template <int VECTORS>
  void gather_part(int d) {
    vf total[VECTORS] = {};
    for (int i = 0; i < count_; ++i) {
      const float* row = rows_[items_[size_t(i)]] + d;
      for (int v = 0; v < VECTORS; ++v) total[v] += logits_[size_t(i)] * load(row + v * W);
    }
    for (int v = 0; v < VECTORS; ++v) store(&total_[size_t(d + v * W)], total[v]);
  }

  const Sampled& s_;
  const Rows& rows_;
  const float* inverse_;
  const int width_, wide_, count_, padded_;
  std::vector<float> query_, total_, logits_;
  std::vector<int32_t> items_;
};

inline std::vector<float> inverse_lengths(const float* table, int64_t items, int64_t width, float eps, int threads) {
  std::vector<float> inverse(static_cast<size_t>(items));
#pragma omp parallel for num_threads(threads)
  for (int64_t i = 0; i < items; ++i) {
    float square = 0;
    for (int64_t d = 0; d < width; ++d) square += table[i * width + d] * table[i * width + d];
    inverse[size_t(i)] = 1.0f / std::max(std::sqrt(square), eps);
  }
  return inverse;
}

inline void sampled_loss(const Sampled& s, int threads) {
  std::vector<float> inverse;
  if (s.cosine) inverse = inverse_lengths(s.table, s.items, s.width, s.eps, threads);
  const Rows rows(s.table, s.items, int(s.width));
#pragma omp parallel num_threads(threads)
  {
    Target target(s, rows, s.cosine ? inverse.data() : nullptr);
#pragma omp for schedule(dynamic, 64)
    for (int64_t t = 0; t < s.targets; ++t) target.run(t);
  }
}

// d_vectors[item] = Σ slope · query over the (target, place) pairs of an item, in their order, whatever the threads: each
// thread owns a stretch of items and passes over all pairs.
inline void scatter_stretch(const SampledItems& s, int64_t from, int64_t to) {
  const int width = int(s.width), whole = width / W * W;
  std::vector<int32_t> mine(static_cast<size_t>(s.pairs));
  for (int64_t t = 0; t < s.targets; ++t) {
    const int32_t* items = s.rows + t * s.pairs;
    int64_t count = 0;
    for (int64_t i = 0; i < s.pairs; ++i) {  // without a branch: it would be guessed wrong half the time
      mine[size_t(count)] = int32_t(i);
      count += uint32_t(items[i] - from) < uint32_t(to - from);
    }
    const float* query = s.queries + t * width;
    for (int64_t at = 0; at < count; ++at) {
      const float slope = s.slopes[t * s.pairs + mine[size_t(at)]];
      float* row = s.d_vectors + int64_t(items[mine[size_t(at)]]) * width;
      for (int d = 0; d < whole; d += W) store(row + d, load(row + d) + slope * load(query + d));
      for (int d = whole; d < width; ++d) row[d] += slope * query[d];
    }
  }
}

// Through the normalisation of an item vector w of length n: d_w = (g - (g·ŵ) ŵ) / n.
inline void through_norm(const SampledItems& s, const float* inverse, int64_t item) {
  const float* row = s.vectors + item * s.width;
  float* gradient = s.d_vectors + item * s.width;
  const float scale = inverse[item];
  float along = 0;
  if (scale < 1.0f / s.eps)
    for (int64_t d = 0; d < s.width; ++d) along += gradient[d] * row[d] * scale;
  for (int64_t d = 0; d < s.width; ++d) gradient[d] = (gradient[d] - along * row[d] * scale) * scale;
}

inline void sampled_items(const SampledItems& s, int threads) {
  std::vector<float> inverse;
  if (s.cosine) inverse = inverse_lengths(s.vectors, s.items, s.width, s.eps, threads);
#pragma omp parallel num_threads(threads)
  {
#pragma omp for
    for (int64_t i = 0; i < s.items; ++i) std::fill_n(s.d_vectors + i * s.width, s.width, 0.0f);
#pragma omp for schedule(static, 1)
    for (int part = 0; part < threads; ++part)
      scatter_stretch(s, s.items * part / threads, s.items * (part + 1) / threads);
    if (s.cosine) {
#pragma omp for
      for (int64_t i = 0; i < s.items; ++i) through_norm(s, inverse.data(), i);
    }
  }
}

}  // namespace facta::ISA
