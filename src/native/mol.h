// Mixture of logits: scores of pairs of a query and an item, and their gradients; no tensor of size [pairs,
// components] exists outside of a block.
//
// Letters: A, B components of a query and an item, d their width, G = A·B, H hidden numbers of the gate.
#pragma once

#include <algorithm>
#include <vector>

#include "draws.h"
#include "gemm.h"
#include "kernels.h"

namespace facta::ISA {

constexpr int PAIRS = 48;  // most of a block: 1 + 128 negatives fill three
constexpr int PAIRS_AHEAD = 4;   // pairs whose rows are prefetched

// `count` numbers of a vector; it may be 0 or above a vector's width.
inline vf load_up_to(const float* p, int count) { return count >= W ? load(p) : load_some(p, count); }
inline void store_up_to(float* p, vf x, int count) { count >= W ? store(p, x) : store_some(p, x, count); }

// One block of pairs of one query. Numbers of pairs alone are stored as [numbers, pairs], in lanes; those that are
// combined with rows of the query or of an item, as [pairs, numbers]; `turn` transposes.
class MolBlock {
 public:
  explicit MolBlock(const Mol& m)
      : m_(m), d_(int(m.width)), a_(int(m.query_components)), b_(int(m.item_components)), groups_(a_ * b_),
        wide_(whole_vectors(groups_)), hidden_(int(m.hidden)), gate_(a_ * d_), item_gate_(b_ * d_),
        keep_(m.p, m.salt, groups_), cosine_(lanes(wide_)), inner_(lanes(hidden_)),
        act_(lanes(hidden_)), z_(lanes(wide_)), share_(lanes(wide_)), d_cosine_(lanes(wide_)), d_z_(lanes(wide_)),
        d_act_(lanes(hidden_)), cosine_across_(lanes(wide_)), d_across_(lanes(wide_)) {}

  // Scores of the pairs first … of a query.
  void forward(int64_t t, int64_t first, float* scores) {
    choose(t, first);
    shares();
    for (int i = 0; i < count_; i += W) {
      vf total{};
      for (int g = 0; g < groups_; ++g) total += load(at(share_, g, i)) * dropped(g, i) * load(at(cosine_, g, i));
      store_up_to(scores + i, total * m_.scale, count_ - i);
    }
  }

  // Gradients: of the query into `d_query`, of the items into `d_items` [items, B·d + G], of the gate's layers.
  void backward(int64_t t, int64_t first, const float* d_scores, float* d_query, const MolGradients& to) {
    choose(t, first);
    shares();
    through_softmax(d_scores);
    through_gates(d_query, to);
    through_layers(to);
    through_cosines(d_query, to);
  }

 private:
  // Rows are anywhere in a table that exceeds the caches.
  static void ahead(const float* row, int64_t numbers) {
    for (int64_t k = 0; k < numbers; k += 16) __builtin_prefetch(row + k);
  }
  static std::vector<float> lanes(int rows) { return std::vector<float>(size_t(rows) * PAIRS); }
  static float* at(std::vector<float>& x, int row, int i) { return x.data() + size_t(row) * PAIRS + i; }
  float* across(std::vector<float>& x, int i, int g) const { return x.data() + size_t(i) * wide_ + g; }

  void choose(int64_t t, int64_t first) {
    query_ = m_.queries + t * (gate_ + groups_);
    count_ = int(std::min<int64_t>(PAIRS, m_.pairs - first));
    filled_ = whole_vectors(count_);
    for (int i = 0; i < filled_; ++i) {  // padded with the first pair of the query
      const int64_t pair = first + (i < count_ ? i : 0);
      row_[i] = m_.index ? m_.index[t * m_.pairs + pair] : pair;
      item_[i] = m_.items + row_[i] * (item_gate_ + groups_);
      token_[i] = m_.keys ? keep_.token(m_.keys[t * m_.pairs + pair]) : 0;
    }
  }

  vf dropped(int g, int i) const { return m_.keys ? keep_.factor(load(token_ + i), g) : broadcast(1.0f); }

  // The share of each pair of components: softmax of SiLU(z). `inner_` and `z_` keep the slopes of their SiLU.
  void shares() {
    switch (b_) {
      case 4: cosines<4>(); break;
      case 2: cosines<2>(); break;
      case 1: cosines<1>(); break;
      default: cosines<0>();
    }
    turned(cosine_across_, cosine_);
    first_layer();
    gates_of_rows();
    product(groups_, filled_, hidden_, {m_.outer, hidden_, 1}, act_.data(), PAIRS, z_.data(), PAIRS, true);
    for (int i = 0; i < filled_; i += W) softmax(i);
  }

  // [pairs, G]. With B known to the compiler, components stay in registers from product to product; 0: not known.
  template <int B>
  void cosines() {
    constexpr int KNOWN = B ? B : 1;
    for (int i = 0; i < filled_; ++i) {
      ahead(item_[std::min(i + PAIRS_AHEAD, filled_ - 1)], item_gate_ + groups_);
      for (int g = 0; g < groups_; g += W) {
        vf dots[W] = {};
        for (int k = 0; k < d_; k += W)
          for (int j = 0; j < W; ++j) {
            const int q = std::min(B ? g / KNOWN + j / KNOWN : (g + j) / b_, a_ - 1);  // after G the last one
            const int x = B ? j % KNOWN : (g + j) % b_;
            dots[j] += load(query_ + q * d_ + k) * load(item_[i] + x * d_ + k);
          }
        store(across(cosine_across_, i, g), sums([&](int j) { return dots[j]; }));
      }
    }
  }

  // From [pairs, G] to [G, pairs].
  void turned(std::vector<float>& from, std::vector<float>& to) {
    for (int i = 0; i < filled_; i += W)
      for (int g = 0; g < groups_; g += W) {
        vf square[W];
        for (int j = 0; j < W; ++j) square[j] = load(across(from, i + j, g));
        turn(square);
        for (int j = 0; j < W; ++j) store(at(to, g + j, i), square[j]);
      }
  }

  // And back.
  void turned_back(std::vector<float>& from, std::vector<float>& to) {
    for (int i = 0; i < filled_; i += W)
      for (int g = 0; g < groups_; g += W) {
        vf square[W];
        for (int j = 0; j < W; ++j) square[j] = load(at(from, g + j, i));
        turn(square);
        for (int j = 0; j < W; ++j) store(across(to, i + j, g), square[j]);
      }
  }

  void first_layer() {
    for (int h = 0; h < hidden_; ++h)
      for (int i = 0; i < filled_; i += W) store(at(inner_, h, i), broadcast(m_.inner_bias[h]));
    product(hidden_, filled_, groups_, {m_.inner, groups_, 1}, cosine_.data(), PAIRS, inner_.data(), PAIRS, true);
    for (int h = 0; h < hidden_; ++h)
      for (int i = 0; i < filled_; i += W) {
        const vf x = load(at(inner_, h, i)), s = sigmoid(x), y = x * s;
        store(at(act_, h, i), y);
        store(at(inner_, h, i), s + y * (1.0f - s));
      }
  }

  // z = u ⊙ v + bias.
  void gates_of_rows() {
    for (int i = 0; i < filled_; i += W)
      for (int g = 0; g < groups_; g += W) {
        vf square[W];
        for (int j = 0; j < W; ++j) square[j] = load_up_to(item_[i + j] + item_gate_ + g, groups_ - g);
        turn(square);
        for (int j = 0; j < std::min(W, groups_ - g); ++j)
          store(at(z_, g + j, i), query_[gate_ + g + j] * square[j] + m_.outer_bias[g + j]);
      }
  }

  void softmax(int i) {
    vf most = broadcast(-INFINITY), total{};
    for (int g = 0; g < groups_; ++g) {
      const vf z = load(at(z_, g, i)), s = sigmoid(z), y = z * s;
      store(at(share_, g, i), y);
      store(at(z_, g, i), s + y * (1.0f - s));
      most = maximum(most, y);
    }
    for (int g = 0; g < groups_; ++g) {
      const vf term = exp(load(at(share_, g, i)) - most);
      store(at(share_, g, i), term);
      total += term;
    }
    const vf whole = 1.0f / total;
    for (int g = 0; g < groups_; ++g) store(at(share_, g, i), load(at(share_, g, i)) * whole);
  }

  // d_cosine of the weighted sum, and d_z through the softmax and the SiLU before it.
  void through_softmax(const float* d_scores) {
    for (int i = 0; i < filled_; i += W) {
      const vf slope = load_up_to(d_scores + i, count_ - i) * m_.scale;
      vf mean{};
      for (int g = 0; g < groups_; ++g) {
        const vf share = load(at(share_, g, i)), keep = slope * dropped(g, i);
        const vf d_share = keep * load(at(cosine_, g, i));
        store(at(d_cosine_, g, i), keep * share);
        store(at(d_z_, g, i), d_share);
        mean += d_share * share;
      }
      for (int g = 0; g < groups_; ++g)
        store(at(d_z_, g, i), load(at(share_, g, i)) * (load(at(d_z_, g, i)) - mean) * load(at(z_, g, i)));
    }
    turned_back(d_z_, d_across_);
  }

  // u and v, the gates of query and items.
  void through_gates(float* d_query, const MolGradients& to) {
    for (int g = 0; g < groups_; g += W) {
      const int some = groups_ - g;
      const vf u = load_up_to(query_ + gate_ + g, some);
      vf of_query = load_up_to(d_query + gate_ + g, some), bias = load_up_to(to.outer_bias + g, some);
      for (int i = 0; i < count_; ++i) {
        const vf d_z = load(across(d_across_, i, g));
        float* d_item = to.items + row_[i] * (item_gate_ + groups_) + item_gate_ + g;
        const int next = std::min(i + 2 * PAIRS_AHEAD, count_ - 1);
        ahead(to.items + row_[next] * (item_gate_ + groups_) + item_gate_, groups_);
        of_query += d_z * load_up_to(item_[i] + item_gate_ + g, some);
        bias += d_z;
        store_up_to(d_item, load_up_to(d_item, some) + u * d_z, some);
      }
      store_up_to(d_query + gate_ + g, of_query, some);
      store_up_to(to.outer_bias + g, bias, some);
    }
  }

  // The two layers of the pair's own gate.
  void through_layers(const MolGradients& to) {
    product(hidden_, wide_, filled_, {act_.data(), PAIRS, 1}, d_across_.data(), wide_, to.outer, wide_, true);
    product(hidden_, filled_, groups_, {m_.outer, 1, hidden_}, d_z_.data(), PAIRS, d_act_.data(), PAIRS, false);
    for (int h = 0; h < hidden_; ++h) {
      vf bias{};
      for (int i = 0; i < filled_; i += W) {
        const vf d_x = load(at(d_act_, h, i)) * load(at(inner_, h, i));
        store(at(d_act_, h, i), d_x);
        bias += d_x;
      }
      to.inner_bias[h] += sum(bias);
    }
    product(hidden_, wide_, filled_, {d_act_.data(), PAIRS, 1}, cosine_across_.data(), wide_, to.inner, wide_, true);
    product(groups_, filled_, hidden_, {m_.inner, 1, groups_}, d_act_.data(), PAIRS, d_cosine_.data(), PAIRS, true);
  }

  // The components.
  void through_cosines(float* d_query, const MolGradients& to) {
    turned_back(d_cosine_, d_across_);
    for (int i = 0; i < count_; ++i) {
      float* d_item = to.items + row_[i] * (item_gate_ + groups_);
      ahead(to.items + row_[std::min(i + PAIRS_AHEAD, count_ - 1)] * (item_gate_ + groups_), item_gate_);
      const float* slope = across(d_across_, i, 0);
      for (int k = 0; k < d_; k += W)
        b_ == 4 ? component<4>(i, k, slope, d_query, d_item) : component<1>(i, k, slope, d_query, d_item);
    }
  }

  // A vector of all components of a pair; STEP of the item's at a time.
  template <int STEP>
  void component(int i, int k, const float* slope, float* d_query, float* d_item) {
    for (int x = 0; x < b_; x += STEP) {
      vf item[STEP], total[STEP];
      for (int j = 0; j < STEP; ++j) {
        item[j] = load(item_[i] + (x + j) * d_ + k);
        total[j] = load(d_item + (x + j) * d_ + k);
      }
      for (int q = 0; q < a_; ++q) {
        const vf query = load(query_ + q * d_ + k);
        vf d = load(d_query + q * d_ + k);
        for (int j = 0; j < STEP; ++j) {
          const vf by = broadcast(slope[q * b_ + x + j]);
          total[j] += by * query;
          d += by * item[j];
        }
        store(d_query + q * d_ + k, d);
      }
      for (int j = 0; j < STEP; ++j) store(d_item + (x + j) * d_ + k, total[j]);
    }
  }

  const Mol& m_;
  const int d_, a_, b_, groups_, wide_, hidden_;
  const int64_t gate_, item_gate_;  // offset of the gate in a query and in an item
  const DropoutMask keep_;
  const float* query_ = nullptr;
  int count_ = 0, filled_ = 0;  // pairs of this block, and in whole vectors
  int64_t row_[PAIRS];
  const float* item_[PAIRS];
  int32_t token_[PAIRS];
  std::vector<float> cosine_, inner_, act_, z_, share_, d_cosine_, d_z_, d_act_, cosine_across_, d_across_;
};

inline void mol(const Mol& m, int threads) {
#pragma omp parallel num_threads(threads)
  {
    MolBlock block(m);
    const int64_t blocks = (m.pairs + PAIRS - 1) / PAIRS;
#pragma omp for schedule(dynamic, 16)
    for (int64_t task = 0; task < m.targets * blocks; ++task) {
      const int64_t t = task / blocks, first = task % blocks * PAIRS;
      block.forward(t, first, m.scores + t * m.pairs + first);
    }
  }
}

// Sums over the targets of a share. Shares depend on the sizes alone and are added in order, so that no sum depends on
// the number of threads.
class MolShare {
 public:
  explicit MolShare(const Mol& m) : wide_(whole_vectors(m.query_components * m.item_components)) {
    const int64_t groups = m.query_components * m.item_components;
    items_.resize(size_t(m.rows * (m.item_components * m.width + groups)));
    inner_.resize(size_t(m.hidden * wide_)), outer_.resize(size_t(m.hidden * wide_));
    inner_bias_.resize(size_t(m.hidden)), outer_bias_.resize(size_t(groups));
  }
  MolGradients view() {
    return {items_.data(), inner_.data(), inner_bias_.data(), outer_.data(), outer_bias_.data()};
  }
  void add_to(const Mol& m, const MolGradients& d) const {
    const int64_t groups = m.query_components * m.item_components;
    add(items_, d.items), add(inner_bias_, d.inner_bias), add(outer_bias_, d.outer_bias);
    for (int64_t h = 0; h < m.hidden; ++h)
      for (int64_t g = 0; g < groups; ++g) {
        d.inner[h * groups + g] += inner_[size_t(h * wide_ + g)];
        d.outer[g * m.hidden + h] += outer_[size_t(h * wide_ + g)];
      }
  }

 private:
  static void add(const std::vector<float>& from, float* to) {
    for (size_t i = 0; i < from.size(); ++i) to[i] += from[i];
  }
  int wide_;
  std::vector<float> items_, inner_, inner_bias_, outer_, outer_bias_;
};

// Adds to the gradients, which the caller sets to zero (d_queries and MolGradients).
inline void mol_backward(const Mol& m, int threads) {
  constexpr int64_t MOST_SHARES = 16, SHARED_NUMBERS = 1 << 24;  // shares, and their numbers in all: 64 MB of items
  const int64_t groups = m.query_components * m.item_components;
  const int64_t one = std::max<int64_t>(1, m.rows * (m.item_components * m.width + groups));
  const int64_t shares = std::clamp<int64_t>(SHARED_NUMBERS / one, 2, MOST_SHARES);
  const int64_t wide = m.query_components * m.width + groups;
  std::vector<MolShare> each;
  for (int64_t s = 0; s < shares; ++s) each.emplace_back(m);
#pragma omp parallel num_threads(threads)
  {
    MolBlock block(m);
#pragma omp for schedule(dynamic, 1)
    for (int64_t s = 0; s < shares; ++s) {
      const MolGradients to = each[size_t(s)].view();
      for (int64_t t = m.targets * s / shares; t < m.targets * (s + 1) / shares; ++t)
        for (int64_t first = 0; first < m.pairs; first += PAIRS)
          block.backward(t, first, m.d_scores + t * m.pairs + first, m.d_queries + t * wide, to);
    }
  }
  for (const MolShare& share : each) share.add_to(m, m.d);
}

}  // namespace facta::ISA
