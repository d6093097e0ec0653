// Mixture of logits: scores of pairs of a query and an item, and their gradients; nothing of size [pairs, components]
// exists outside of a block.
//
// Letters: A, B components of a query and an item, d their width, G = A·B, H hidden numbers of the gate. In a block the
// pairs lie side by side in lanes, so that what is computed of a pair alone needs no sum across lanes.
#pragma once

#include <algorithm>
#include <vector>

#include "draws.h"
#include "gemm.h"
#include "kernels.h"

namespace facta::ISA {

constexpr int PAIRS = 64;  // of a block

// One block of pairs of one query.
class MolBlock {
 public:
  explicit MolBlock(const Mol& m)
      : m_(m), d_(int(m.width)), groups_(int(m.query_components * m.item_components)), hidden_(int(m.hidden)),
        gate_(m.query_components * m.width), item_gate_(m.item_components * m.width), keep_(m.p, m.salt, groups_),
        cosine_(lanes(groups_)), of_item_(lanes(groups_)), inner_(lanes(hidden_)), act_(lanes(hidden_)),
        z_(lanes(groups_)), share_(lanes(groups_)), d_cosine_(lanes(groups_)), d_z_(lanes(groups_)),
        d_act_(lanes(hidden_)), across_(size_t(PAIRS * whole_vectors(groups_))) {}

  // Scores of the pairs first … of a query.
  void forward(int64_t t, int64_t first, float* scores) {
    choose(t, first);
    gates();
    for (int i = 0; i < count_; i += W) {
      vf total{};
      for (int g = 0; g < groups_; ++g) total += load(at(share_, g, i)) * dropped(g, i) * load(at(cosine_, g, i));
      put(scores, i, total * m_.scale);
    }
  }

  // Gradients: of the query into `d_query`, of the items into `d_items` [items, B·d + G], of the gate's layers.
  void backward(int64_t t, int64_t first, const float* d_scores, float* d_query, const MolGradients& to) {
    choose(t, first);
    gates();
    through_softmax(d_scores);
    through_gates(d_query, to);
    through_layers(to);
    through_cosines(d_query, to);
  }

 private:
  static std::vector<float> lanes(int rows) { return std::vector<float>(size_t(rows) * PAIRS); }
  static float* at(std::vector<float>& x, int row, int i) { return x.data() + size_t(row) * PAIRS + i; }
  void put(float* to, int i, vf x) const {
    count_ - i >= W ? store(to + i, x) : store_some(to + i, x, count_ - i);
  }

  void choose(int64_t t, int64_t first) {
    query_ = m_.queries + t * (gate_ + groups_);
    count_ = int(std::min<int64_t>(PAIRS, m_.pairs - first));
    for (int i = 0; i < PAIRS; ++i) {  // behind the last pair of a query stands its first one again
      const int64_t pair = first + (i < count_ ? i : 0);
      row_[i] = m_.index ? m_.index[t * m_.pairs + pair] : pair;
      item_[i] = m_.items + row_[i] * (item_gate_ + groups_);
      token_[i] = m_.keys ? keep_.token(m_.keys[t * m_.pairs + pair]) : 0;
    }
  }

  vf dropped(int g, int i) const { return m_.keys ? keep_.factor(load(token_ + i), g) : broadcast(1.0f); }

  // The pairs' cosines, the gate's layers, z = u ⊙ v + w and the share of each pair of components.
  void gates() {
    const int a = int(m_.query_components), b = int(m_.item_components);
    for (int q = 0; q < a; ++q)
      for (int x = 0; x < b; ++x)
        for (int i = 0; i < PAIRS; i += W) store(at(cosine_, q * b + x, i), dots(query_ + q * d_, x * d_, i));
    for (int h = 0; h < hidden_; ++h) std::fill_n(at(inner_, h, 0), PAIRS, m_.inner_bias[h]);
    product(hidden_, PAIRS, groups_, {m_.inner, groups_, 1}, cosine_.data(), PAIRS, inner_.data(), PAIRS, true);
    for (size_t j = 0; j < inner_.size(); j += W) {
      const vf x = load(&inner_[j]);
      store(&act_[j], x * sigmoid(x));
    }
    for (int g = 0; g < groups_; ++g) {
      const float u = query_[gate_ + g];
      for (int i = 0; i < PAIRS; ++i) {
        *at(of_item_, g, i) = item_[i][item_gate_ + g];
        *at(z_, g, i) = u * *at(of_item_, g, i) + m_.outer_bias[g];
      }
    }
    product(groups_, PAIRS, hidden_, {m_.outer, hidden_, 1}, act_.data(), PAIRS, z_.data(), PAIRS, true);
    for (int i = 0; i < PAIRS; i += W) softmax(i);
  }

  vf dots(const float* component, int64_t from, int i) const {
    return sums([&](int lane) __attribute__((always_inline)) {
      const float* vector = item_[i + lane] + from;
      vf total{};
      for (int k = 0; k < d_; k += W) total += load(component + k) * load(vector + k);
      return total;
    });
  }

  void softmax(int i) {
    vf most = broadcast(-INFINITY), total{};
    for (int g = 0; g < groups_; ++g) {
      const vf z = load(at(z_, g, i)), y = z * sigmoid(z);
      store(at(share_, g, i), y);
      most = maximum(most, y);
    }
    for (int g = 0; g < groups_; ++g) {
      const vf term = exp(load(at(share_, g, i)) - most);
      store(at(share_, g, i), term);
      total += term;
    }
    for (int g = 0; g < groups_; ++g) store(at(share_, g, i), load(at(share_, g, i)) / total);
  }

  // d_cosine of the weighted sum, and d_z through the softmax and the SiLU before it.
  void through_softmax(const float* d_scores) {
    for (int i = 0; i < PAIRS; i += W) {
      const vf slope = (count_ - i >= W ? load(d_scores + i) : i < count_ ? load_some(d_scores + i, count_ - i) : vf{}) *
                       m_.scale;
      vf mean{};
      for (int g = 0; g < groups_; ++g) {
        const vf share = load(at(share_, g, i)), keep = dropped(g, i), cosine = load(at(cosine_, g, i));
        const vf d_share = slope * keep * cosine;
        store(at(d_cosine_, g, i), slope * keep * share);
        store(at(d_z_, g, i), d_share);
        mean += d_share * share;
      }
      for (int g = 0; g < groups_; ++g) {
        const vf z = load(at(z_, g, i)), s = sigmoid(z);
        const vf d_y = load(at(share_, g, i)) * (load(at(d_z_, g, i)) - mean);
        store(at(d_z_, g, i), d_y * s * (1.0f + z * (1.0f - s)));
      }
    }
  }

  // u and v, the gates of the query and of the items.
  void through_gates(float* d_query, const MolGradients& to) {
    for (int g = 0; g < groups_; ++g) {
      const float u = query_[gate_ + g];
      vf of_query{}, bias{};
      for (int i = 0; i < PAIRS; i += W) {
        const vf d_z = load(at(d_z_, g, i));
        of_query += d_z * load(at(of_item_, g, i));
        bias += d_z;
      }
      d_query[gate_ + g] += sum(of_query);
      to.outer_bias[g] += sum(bias);
      const float* d_z = at(d_z_, g, 0);
      for (int i = 0; i < count_; ++i) to.items[row_[i] * (item_gate_ + groups_) + item_gate_ + g] += u * d_z[i];
    }
  }

  // The two layers of the pair's own gate.
  void through_layers(const MolGradients& to) {
    const int wide = whole_vectors(groups_);
    turn(d_z_, wide);  // [PAIRS, G]
    product(hidden_, wide, PAIRS, {act_.data(), PAIRS, 1}, across_.data(), wide, to.outer, wide, true);
    product(hidden_, PAIRS, groups_, {m_.outer, 1, hidden_}, d_z_.data(), PAIRS, d_act_.data(), PAIRS, false);
    for (int h = 0; h < hidden_; ++h) {
      vf bias{};
      for (int i = 0; i < PAIRS; i += W) {
        const vf x = load(at(inner_, h, i)), s = sigmoid(x);
        const vf d_x = load(at(d_act_, h, i)) * s * (1.0f + x * (1.0f - s));
        store(at(d_act_, h, i), d_x);
        bias += d_x;
      }
      to.inner_bias[h] += sum(bias);
    }
    turn(cosine_, wide);
    product(hidden_, wide, PAIRS, {d_act_.data(), PAIRS, 1}, across_.data(), wide, to.inner, wide, true);
    product(groups_, PAIRS, hidden_, {m_.inner, 1, groups_}, d_act_.data(), PAIRS, d_cosine_.data(), PAIRS, true);
  }

  void turn(std::vector<float>& x, int wide) {
    for (int i = 0; i < PAIRS; ++i)
      for (int g = 0; g < groups_; ++g) across_[size_t(i * wide + g)] = *at(x, g, i);
  }

  // The components.
  void through_cosines(float* d_query, const MolGradients& to) {
    const int a = int(m_.query_components), b = int(m_.item_components);
    for (int i = 0; i < count_; ++i) {
      float* d_item = to.items + row_[i] * (item_gate_ + groups_);
      for (int x = 0; x < b; ++x)
        for (int k = 0; k < d_; k += W) {
          const vf item = load(item_[i] + x * d_ + k);
          vf total = load(d_item + x * d_ + k);
          for (int q = 0; q < a; ++q) {
            const vf slope = broadcast(*at(d_cosine_, q * b + x, i));
            total += slope * load(query_ + q * d_ + k);
            store(d_query + q * d_ + k, load(d_query + q * d_ + k) + slope * item);
          }
          store(d_item + x * d_ + k, total);
        }
    }
  }

  const Mol& m_;
  const int d_, groups_, hidden_;
  const int64_t gate_, item_gate_;  // where the gates stand in a query and an item
  const Keep keep_;
  const float* query_ = nullptr;
  int count_ = 0;
  int64_t row_[PAIRS];
  const float* item_[PAIRS];
  int32_t token_[PAIRS];
  std::vector<float> cosine_, of_item_, inner_, act_, z_, share_, d_cosine_, d_z_, d_act_, across_;
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

// What the targets of one share add up: a share is a function of the sizes alone, and shares are added in their order, so
// that no sum depends on the number of threads.
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

// Gradients are added to what stands there: d_queries and those of MolGradients begin as zeros.
inline void mol_backward(const Mol& m, int threads) {
  constexpr int64_t MOST = 16, NUMBERS = 1 << 24;  // shares, and of all of them together about 64 MB of items
  const int64_t groups = m.query_components * m.item_components;
  const int64_t one = std::max<int64_t>(1, m.rows * (m.item_components * m.width + groups));
  const int64_t shares = std::clamp<int64_t>(NUMBERS / one, 2, MOST), wide = m.query_components * m.width + groups;
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
