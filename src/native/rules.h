// Rules for the weights of visible keys: the difference between HSTU's attention and softmax attention.
//
// A rule turns a tile of scores into weights (forward), and scores and incoming gradients into weights and slopes,
// d loss / d score (backward). It may store numbers per query, along the vectors.
#pragma once

#include "draws.h"
#include "rows.h"

namespace facta::ISA {

// weight = SiLU(score); not normalised; each query's sum is scaled by its own constant.
class Pointwise {
 public:
  Pointwise(const Attention& a, const DropoutMask*) : a_(a) {}
  static constexpr float score_scale(const Attention&) { return 1.0f; }

  void begin(const Row&, const QueryBlock&, int) {}
  template <class Vectors>
  void weigh(const QueryBlock& block, int64_t j0, float* tile, const float* bias, const Vectors& vectors, float*, int) {
    vectors([&](int j, int i, int place) {
      vf x = load(tile + place);
      if (bias) x += load(bias + place);
      store(tile + place, select(load(block.seen + i) > int32_t(j0 + j), x * sigmoid(x), vf{}));
    });
  }
  float finish(int64_t token, int, int) const { return a_.scales ? a_.scales[token] : a_.scale; }
  // Adds the sums of another rule over later keys.
  void absorb(const Pointwise&, const QueryBlock& block, const float* later, float* sums, int wide) {
    for (int at = 0; at < block.count * wide; at += W) store(sums + at, load(sums + at) + load(later + at));
  }

  void begin_backward(const Row&, const QueryBlock&, int, const float*) {}
  float gradient_scale(int64_t token) const { return a_.scales ? a_.scales[token] : a_.scale; }
  template <class Vectors>
  void slope(const QueryBlock& block, int64_t j0, float* weights, float* slopes, const float* bias,
             const Vectors& vectors) {
    vectors([&](int j, int i, int place) {
      vf x = load(weights + place);
      if (bias) x += load(bias + place);
      const vi visible = load(block.seen + i) > int32_t(j0 + j);
      const vf gate = sigmoid(x);
      store(slopes + place, select(visible, load(slopes + place) * gate * (1.0f + x * (1.0f - gate)), vf{}));
      store(weights + place, select(visible, x * gate, vf{}));
    });
  }

 private:
  const Attention& a_;
};

// weight = softmax of the scores of the keys seen, in one pass with a running maximum; dropout is of the weights.
class Softmax {
 public:
  Softmax(const Attention& a, const DropoutMask* keep) : a_(a), keep_(keep) {}
  static float score_scale(const Attention& a) { return a.score_scale; }

  void begin(const Row& row, const QueryBlock& block, int head) {
    std::fill_n(most_, QUERIES, -INFINITY);
    std::fill_n(total_, QUERIES, 0.0f);
    read_tokens(row, block, head);
  }
  template <class Vectors>
  void weigh(const QueryBlock& block, int64_t j0, float* tile, const float*, const Vectors& vectors, float* sums,
             int wide) {
    float before[QUERIES];
    std::copy_n(most_, QUERIES, before);
    vectors([&](int j, int i, int place) {
      const vf x = select(load(block.seen + i) > int32_t(j0 + j), load(tile + place), broadcast(-INFINITY));
      store(most_ + i, maximum(load(most_ + i), x));
    });
    rescale(block, before, sums, wide);
    vectors([&](int j, int i, int place) {
      const vi visible = load(block.seen + i) > int32_t(j0 + j);
      const vf weight = select(visible, exp(load(tile + place) - load(most_ + i)), vf{});
      store(total_ + i, load(total_ + i) + weight);
      store(tile + place, a_.p > 0 ? weight * factor(i, j0 + j) : weight);
    });
  }
  float finish(int64_t token, int head, int i) const {
    a_.lse[token * a_.heads + head] = most_[i] + std::log(total_[i]);
    return 1.0f / total_[i];
  }
  void absorb(const Softmax& other, const QueryBlock& block, const float* later, float* sums, int wide) {
    for (int i = 0; i < block.count; ++i) {
      if (other.total_[i] == 0) continue;  // it has seen no key
      const float most = std::max(most_[i], other.most_[i]);
      const float own = total_[i] == 0 ? 0.0f : std::exp(most_[i] - most), its = std::exp(other.most_[i] - most);
      for (int d = i * wide; d < (i + 1) * wide; d += W) store(sums + d, own * load(sums + d) + its * load(later + d));
      total_[i] = own * total_[i] + its * other.total_[i];
      most_[i] = most;
    }
  }

  void begin_backward(const Row& row, const QueryBlock& block, int head, const float* delta) {
    read_tokens(row, block, head);
    for (int i = 0; i < block.padded; ++i) {
      most_[i] = i < block.count ? a_.lse[(row.first + block.q0 + i - row.past) * a_.heads + head] : 0.0f;
      total_[i] = i < block.count ? delta[i] : 0.0f;
    }
  }
  float gradient_scale(int64_t) const { return 1.0f; }
  template <class Vectors>
  void slope(const QueryBlock& block, int64_t j0, float* weights, float* slopes, const float*, const Vectors& vectors) {
    vectors([&](int j, int i, int place) {
      const vi visible = load(block.seen + i) > int32_t(j0 + j);
      const vf share = select(visible, exp(load(weights + place) - load(most_ + i)), vf{});
      const vf kept = a_.p > 0 ? factor(i, j0 + j) : broadcast(1.0f);
      store(slopes + place, a_.score_scale * share * (kept * load(slopes + place) - load(total_ + i)));
      store(weights + place, share * kept);
    });
  }

 private:
  void read_tokens(const Row& row, const QueryBlock& block, int head) {
    if (a_.p <= 0) return;
    for (int i = 0; i < block.padded; ++i) {
      const int64_t token = row.first + block.q0 - row.past + std::min(i, block.count - 1);
      token_[i] = keep_->token(a_.tokens.keys[token] + head);
    }
  }
  vf factor(int i, int64_t j) const { return keep_->factor(load(token_ + i), int(j)); }
  void rescale(const QueryBlock& block, const float* before, float* sums, int wide) {
    for (int i = 0; i < block.count; ++i) {
      if (most_[i] == before[i] || total_[i] == 0) continue;
      const float factor = std::exp(before[i] - most_[i]);
      total_[i] *= factor;
      for (int d = 0; d < wide; d += W) store(sums + i * wide + d, factor * load(sums + i * wide + d));
    }
  }

  const Attention& a_;
  const DropoutMask* keep_;
  float most_[QUERIES], total_[QUERIES];
  int32_t token_[QUERIES];
};

}  // namespace facta::ISA
