// Losses against sampled negatives: logits, losses and gradients of a target in one pass, while its items are in cache.
// Negatives are drawn here, as functions of the target's key; no tensor of size [targets, negatives, width] exists.
#pragma once

#include <algorithm>
#include <vector>

#include "draws.h"
#include "kernels.h"
#include "simd.h"

namespace facta::ISA {

// The next address at which whole vectors are in whole cache lines.
inline float* aligned(float* p) { return (float*)((uintptr_t(p) + 4 * W - 1) / (4 * W) * (4 * W)); }

// 1 / length, a factor after the sum of a product, so that a copy changes no bit. Not inlined, and with sums in a fixed
// order (no -ffast-math), so that every call gives the same bits.
[[gnu::noinline]] inline float inverse_length(const float* vector, int64_t width, float eps) {
  vf square{};
  int64_t d = 0;
  for (; d + W <= width; d += W) square += load(vector + d) * load(vector + d);
  if (d < width) {
    const vf rest = load_some(vector + d, int(width - d));
    square += rest * rest;
  }
  return 1.0f / std::max(std::sqrt(sum(square)), eps);
}
inline std::vector<float> inverse_lengths(const float* table, int64_t items, int64_t width, float eps, int threads) {
  std::vector<float> inverse(static_cast<size_t>(items));
#pragma omp parallel for num_threads(threads)
  for (int64_t i = 0; i < items; ++i) inverse[size_t(i)] = inverse_length(table + i * width, width, eps);
  return inverse;
}

// Item vectors, readable in whole SIMD vectors. A table with many uses is copied to whole cache lines; of a larger one
// only the last rows are copied, where such a read would leave the table.
class ItemVectors {
 public:
  struct View {
    const float *table, *tail;  // both relative to the table's first row
    int64_t copied, width;
    const float* operator[](int64_t row) const { return (row >= copied ? tail : table) + row * width; }
  };
  ItemVectors(const Sampled& s, int threads) {
    const int64_t draws = s.targets * (s.negatives + 1);
    if (s.cosine && s.items < draws) inverse_ = inverse_lengths(s.table, s.items, s.width, s.eps, threads);
    s.items * OFTEN < draws ? pack(s, threads) : copy_tail(s);
  }
  const View& view() const { return view_; }
  // 1 / length of every item if there are more draws than items; otherwise null.
  const float* inverse() const { return inverse_.empty() ? nullptr : inverse_.data(); }

 private:
  static constexpr int64_t OFTEN = 8;
  void copy_tail(const Sampled& s) {
    const int64_t copied = std::max<int64_t>(0, s.items - (W + s.width - 2) / s.width);
    own_.assign(s.table + copied * s.width, s.table + s.items * s.width);
    own_.resize(own_.size() + W, 0.0f);
    view_ = {s.table, own_.data() - copied * s.width, copied, s.width};
  }
  void pack(const Sampled& s, int threads) {
    const int64_t wide = whole_vectors(s.width);
    own_.resize(size_t(s.items * wide + W));
    float* to = aligned(own_.data());
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < s.items; ++i) std::copy_n(s.table + i * s.width, s.width, to + i * wide);
    view_ = {to, to, 0, wide};
  }

  std::vector<float> inverse_, own_;
  View view_;
};

// Data of a target; its items are the positive and then the negatives, padded to whole vectors with the positive.
class Target {
 public:
  Target(const Sampled& s, const ItemVectors& vectors)
      : s_(s), vectors_(vectors.view()), inverse_(vectors.inverse()), width_(int(s.width)),
        wide_(whole_vectors(width_)), count_(int(s.negatives) + 1), padded_(whole_vectors(count_)),
        query_(size_t(wide_)), total_(size_t(wide_)), logits_(size_t(padded_)), scales_(size_t(s.cosine ? padded_ : 0)),
        items_(size_t(padded_)) {}

  void run(int64_t t) {
    draw(t);
    measure();
    std::copy_n(s_.queries + t * width_, width_, query_.begin());
    dots();
    s_.losses[t] = s_.binary ? binary() : softmax();
    const float weight = s_.weight[t];
    for (int i = 0; i < padded_; i += W) store(&logits_[size_t(i)], load(&logits_[size_t(i)]) * weight);
    std::copy_n(logits_.begin(), count_, s_.slopes + t * count_);
    std::copy_n(items_.begin(), count_, s_.rows + t * count_);
    if (s_.d_queries) gather(t);
  }

 private:
  void draw(int64_t t) {
    int32_t* items = items_.data();
    std::fill(items, items + padded_, int32_t(s_.positive[t]));
    const uint64_t key = uint64_t(s_.keys[t]), bound = uint64_t(s_.items);
    const int negatives = count_ - 1;
    for (int i = 0; i < negatives; ++i) items[1 + i] = int32_t(below(mix(key, uint64_t(i)), bound));
  }
  // 1 / length of the target's items only.
  void measure() {
    for (size_t i = 0; i < scales_.size(); ++i)
      scales_[i] = inverse_ ? inverse_[items_[i]] : inverse_length(vectors_[items_[i]], width_, s_.eps);
  }
  vf scaled(int i, vf x) const { return scales_.empty() ? x : x * load(&scales_[size_t(i)]); }

  // Logits of all items, W at a time: W sums over lanes then cost hardly more than one. Numbers of the next item in an
  // item's last vector are masked, since they may be NaN, and 0 · NaN is NaN.
  void dots() {
    const bool cut = vectors_.width < wide_;
    if (wide_ != 4 * W) dots<0, true>();
    else cut ? dots<4, true>() : dots<4, false>();
  }
  template <int VECTORS, bool CUT>
  void dots() {
    const ItemVectors::View vectors = vectors_;
    const int32_t* items = items_.data();
    const float* query = query_.data();
    const int last = wide_ - W;
    const vi own = counting() < width_ - last;
    const vf query_end = load(query + last);
    vf held[VECTORS + 1];
    for (int v = 0; v < VECTORS; ++v) held[v] = load(query + v * W);
    for (int first = 0; first < padded_; first += W)
      store(&logits_[size_t(first)], scaled(first, sums([&](int i) __attribute__((always_inline)) {
              const float* vector = vectors[items[first + i]];
              const vf end = CUT ? select(own, load(vector + last), vf{}) : load(vector + last);
              vf total{};
              for (int v = 0; v + 1 < VECTORS; ++v) total += held[v] * load(vector + v * W);
              if constexpr (VECTORS == 0)
                for (int d = 0; d < last; d += W) total += load(query + d) * load(vector + d);
              return total + query_end * end;
            })));
  }

  // Logits become slopes, d loss / d logit; negatives that equal the positive get 0.
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
    return own == most ? std::log1p(rest) + (own - most) : std::log(total) + most - own;
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
    for (int i = 0; i < padded_; i += W) store(&logits_[size_t(i)], scaled(i, load(&logits_[size_t(i)])));
    int d = 0;
    for (; d + 4 * W <= wide_; d += 4 * W) gather_part<4>(d);
    for (; d < wide_; d += W) gather_part<1>(d);
    std::copy_n(total_.begin(), width_, s_.d_queries + t * width_);
  }
  template <int VECTORS>
  void gather_part(int d) {
    const ItemVectors::View vectors = vectors_;
    const int32_t* items = items_.data();
    const float* slopes = logits_.data();
    vf total[VECTORS] = {};
    for (int i = 0; i < count_; ++i) {
      const float* vector = vectors[items[i]] + d;
      for (int v = 0; v < VECTORS; ++v) total[v] += slopes[i] * load(vector + v * W);
    }
    for (int v = 0; v < VECTORS; ++v) store(&total_[size_t(d + v * W)], total[v]);
  }

  const Sampled& s_;
  const ItemVectors::View vectors_;
  const float* inverse_;
  const int width_, wide_, count_, padded_;
  std::vector<float> query_, total_, logits_, scales_;
  std::vector<int32_t> items_;
};

inline void sampled_loss(const Sampled& s, int threads) {
  const ItemVectors vectors(s, threads);
#pragma omp parallel num_threads(threads)
  {
    Target target(s, vectors);
#pragma omp for schedule(dynamic, 64)
    for (int64_t t = 0; t < s.targets; ++t) target.run(t);
  }
}

// d_vectors[item] = Σ slope · query over the (target, place) pairs of an item, in order, for any number of threads:
// each thread owns a range of items and passes over all pairs.
class ItemRange {
 public:
  ItemRange(const SampledItems& s, int64_t from, int64_t to)
      : s_(s), from_(from), count_(to - from), width_(int(s.width)), wide_(whole_vectors(width_)),
        sums_(width_ == wide_ ? s.d_vectors + from * width_ : nullptr), mine_(size_t(s.pairs + W)) {
    if (!sums_) own_.resize(size_t(count_ * wide_ + W)), sums_ = aligned(own_.data());
    std::fill_n(sums_, count_ * wide_, 0.0f);
  }

  void add() {
    std::vector<float> query(static_cast<size_t>(wide_));
    for (int64_t t = 0; t < s_.targets; ++t) {
      const int mine = choose(t);
      std::copy_n(s_.queries + t * width_, width_, query.begin());
      int d = 0;
      for (; d + 4 * W <= wide_; d += 4 * W) add_part<4>(t, mine, query.data(), d);
      for (; d < wide_; d += W) add_part<1>(t, mine, query.data(), d);
    }
    if (own_.empty()) return;
    for (int64_t i = 0; i < count_; ++i) std::copy_n(sums_ + i * wide_, width_, s_.d_vectors + (from_ + i) * width_);
  }

 private:
  // The target's pairs within this range.
  int choose(int64_t t) {
    const int32_t* items = s_.rows + t * s_.pairs;
    const int pairs = int(s_.pairs), from = int(from_), to = int(from_ + count_);
    int32_t* mine = mine_.data();
    int count = 0, i = 0;
    for (; i + W <= pairs; i += W) {
      const vi item = load(items + i);
      count += compress(mine + count, counting() + i, (item >= from) & (item < to));
    }
    for (; i < pairs; ++i) {
      mine[count] = i;
      count += items[i] >= from && items[i] < to;
    }
    return count;
  }
  template <int VECTORS>
  void add_part(int64_t t, int count, const float* query, int d) {
    const int32_t *items = s_.rows + t * s_.pairs, *mine = mine_.data();
    const float* slopes = s_.slopes + t * s_.pairs;
    float* sums = sums_ + d - from_ * wide_;
    vf held[VECTORS];
    for (int v = 0; v < VECTORS; ++v) held[v] = load(query + d + v * W);
    for (int at = 0; at < count; ++at) {
      float* row = sums + int64_t(items[mine[at]]) * wide_;
      const vf slope = broadcast(slopes[mine[at]]);
      for (int v = 0; v < VECTORS; ++v) store(row + v * W, load(row + v * W) + slope * held[v]);
    }
  }

  const SampledItems& s_;
  const int64_t from_, count_;
  const int width_, wide_;
  float* sums_;
  std::vector<float> own_;
  std::vector<int32_t> mine_;
};

// Through the normalisation of an item vector w of length n: d_w = (g - (g·ŵ) ŵ) / n.
inline void through_norm(const SampledItems& s, const float* inverse, int64_t item) {
  const float* row = s.vectors + item * s.width;
  float* gradient = s.d_vectors + item * s.width;
  const float scale = inverse[item];
  float dot = 0;
  if (scale < 1.0f / s.eps)
    for (int64_t d = 0; d < s.width; ++d) dot += gradient[d] * row[d] * scale;
  for (int64_t d = 0; d < s.width; ++d) gradient[d] = (gradient[d] - dot * row[d] * scale) * scale;
}

inline void sampled_items(const SampledItems& s, int threads) {
  std::vector<float> inverse;
  if (s.cosine) inverse = inverse_lengths(s.vectors, s.items, s.width, s.eps, threads);
#pragma omp parallel num_threads(threads)
  {
#pragma omp for schedule(static, 1)
    for (int part = 0; part < threads; ++part)
      ItemRange(s, s.items * part / threads, s.items * (part + 1) / threads).add();
    if (s.cosine) {
#pragma omp for
      for (int64_t i = 0; i < s.items; ++i) through_norm(s, inverse.data(), i);
    }
  }
}

}  // namespace facta::ISA
