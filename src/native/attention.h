// Attention over jagged rows, forward and backward, by a rule (see rules.h).
//
// A task is a block of queries of one row (forward) or a stretch of keys of one row (backward); nothing of size n x n
// is ever written. What a task computes depends on its row alone, never on the threads or on the rest of the batch.
#pragma once

#include <algorithm>
#include <memory>
#include <mutex>
#include <type_traits>
#include <vector>

#include "bias_gradient.h"
#include "rows.h"
#include "rules.h"

namespace facta::ISA {

constexpr int64_t STRETCH_KEYS = 1024;  // keys of a backward task: a long row is shared by several threads
constexpr int64_t MOST_STRETCHES = 16;  // each reads the row's queries once more
constexpr int64_t FEW_QUERIES = 2 * QUERIES;  // of so few new tokens over a long past, threads share the keys

template <class S, class Rule>
class Task {
 public:
  Task(const Attention& a, const Row& row, const BiasTable& table, const DropoutMask* keep)
      : a_(a), row_(row), table_(table), rules_(size_t(a.heads), Rule(a, keep)), heads_(int(a.heads)),
        dqk_(int(a.dqk)), dv_(int(a.dv)),
        wide_qk_(whole_vectors(a.dqk)), wide_v_(whole_vectors(a.dv)),
        keys_{a.k, row.kept ? row.kept->k : nullptr, a.k_row, int(a.dqk)},
        values_{a.v, row.kept ? row.kept->v : nullptr, a.v_row, int(a.dv)} {}

 protected:
  int64_t token(const QueryBlock& block, int i) const { return row_.first + block.q0 + i - row_.past; }

  void read_queries(const QueryBlock& block, float* qt) const {
    for (int h = 0; h < heads_; ++h)
      transposed((const S*)a_.q + token(block, 0) * a_.q_row + h * dqk_, a_.q_row, block.count, dqk_,
                 qt + h * dqk_ * QUERIES, QUERIES, block.padded, Rule::score_scale(a_));
  }

  // The bias of each key and query, and the buckets of the times between them where they are asked for.
  void bias_tile(const QueryBlock& block, int64_t j0, int count, float* tile, int32_t* buckets) const {
    if (!table_.any()) return;
    for (int j = 0; j < count; ++j) {
      const double time = table_.timed() ? row_.time(j0 + j) : 0.0;
      const int32_t position = row_.position(j0 + j);
      for (int i = 0; i < block.padded; i += W) {
        if (block.vector_most[i / W] <= j0 + j) continue;
        vf bias{};
        if (table_.placed()) bias = table_.position(block.side, i, position);
        if (table_.timed()) {
          const auto found = table_.look(block.side.time + i, time);
          bias += table_.time(found);
          if (buckets) store(buckets + j * QUERIES + i, table_.bucket(found));
        }
        store(tile + j * QUERIES + i, bias);
      }
    }
  }

  // Calls `with(key, query, place in the tile)` for every vector of a tile in which a query sees a key.
  template <class F>
  void vectors(const QueryBlock& block, int64_t j0, int count, F with) const {
    const int used = std::clamp<int>(int(block.most - j0), 0, count);
    for (int j = 0; j < used; ++j)
      for (int i = 0; i < block.padded; i += W)
        if (block.vector_most[i / W] > j0 + j) with(j, i, j * QUERIES + i);
  }

  const Attention& a_;
  const Row& row_;
  const BiasTable& table_;
  std::vector<Rule> rules_;  // one per head
  const int heads_, dqk_, dv_, wide_qk_, wide_v_;
  const Source keys_, values_;
};

// Partial results of a stretch of keys for a block of queries; stretches are added up in order.
template <class Rule>
struct Share {
  std::vector<float> sums;  // [H, queries, wide]
  std::vector<Rule> rules;  // one per head
};

template <class S, class Rule>
class Forward : Task<S, Rule> {
  using Base = Task<S, Rule>;
  using Base::a_, Base::row_, Base::table_, Base::rules_, Base::heads_, Base::dqk_, Base::dv_, Base::wide_v_;

 public:
  Forward(const Attention& a, const Row& row, const BiasTable& table, const DropoutMask* keep, Scratch& scratch)
      : Base(a, row, table, keep) {
    scratch.clear();
    qt_ = scratch.take(heads_ * dqk_ * QUERIES);
    sum_ = scratch.take(heads_ * QUERIES * wide_v_);
    tile_ = scratch.take(KEYS * QUERIES);
    bias_ = scratch.take(KEYS * QUERIES);
    k_ = scratch.take(KEYS * dqk_);
    v_ = scratch.take(KEYS * wide_v_);
  }

  void run(int64_t q0, int64_t q1) {
    const QueryBlock block(row_, q0, q1);
    keys(block, 0, block.most);
    themselves(block);
    write(block);
  }

  // Stretch number `stretch` of the keys; the last one also has keys that only their own token sees.
  void run(int64_t q0, int64_t q1, int64_t stretch, Share<Rule>& share) {
    const QueryBlock block(row_, q0, q1);
    const int64_t first = stretch * STRETCH_KEYS, end = std::min<int64_t>(first + STRETCH_KEYS, block.most);
    keys(block, first, end);
    if (end == block.most) themselves(block);
    const size_t each = size_t(block.count * wide_v_);
    for (int h = 0; h < heads_; ++h) share.sums.insert(share.sums.end(), sums(h), sums(h) + each);
    share.rules = std::vector<Rule>(rules_);
  }

  void join(int64_t q0, int64_t q1, const std::vector<Share<Rule>>& shares) {
    const QueryBlock block(row_, q0, q1);
    begin(block);
    for (const Share<Rule>& one : shares)
      for (int h = 0; h < heads_; ++h)
        rules_[h].absorb(one.rules[h], block, one.sums.data() + h * block.count * wide_v_, sums(h), wide_v_);
    write(block);
  }

 private:
  float* sums(int head) const { return sum_ + head * QUERIES * wide_v_; }

  void begin(const QueryBlock& block) {
    std::fill_n(sum_, heads_ * QUERIES * wide_v_, 0.0f);
    for (int h = 0; h < heads_; ++h) rules_[h].begin(row_, block, h);
  }

  void keys(const QueryBlock& block, int64_t first, int64_t end) {
    this->read_queries(block, qt_);
    begin(block);
    for (int64_t j0 = first; j0 < end; j0 += KEYS) tile(block, j0, int(std::min<int64_t>(KEYS, end - j0)));
  }

  void themselves(const QueryBlock& block) {
    for (int i = 0; i < block.count; ++i)
      if (row_.detached(block.q0 + i)) tile(block.only_query(i), block.q0 + i, 1);
  }

  void tile(const QueryBlock& block, int64_t j0, int count) {
    this->bias_tile(block, j0, count, bias_, nullptr);
    const float* bias = table_.any() ? bias_ : nullptr;
    for (int h = 0; h < heads_; ++h) {
      float* sums = sum_ + h * QUERIES * wide_v_;
      const Left keys = rows_of<S>(row_, this->keys_, j0, count, h, dqk_, k_);
      scores(block, keys, j0, count, qt_ + h * dqk_ * QUERIES, dqk_, tile_);
      rules_[h].weigh(block, j0, tile_, bias, [&](auto with) { this->vectors(block, j0, count, with); }, sums, wide_v_);
      const Left values = rows_of<S>(row_, this->values_, j0, count, h, wide_v_, v_);
      gather_keys(block, tile_, j0, count, values.p, values.row, sums, wide_v_);
    }
  }

  void write(const QueryBlock& block) const {
    for (int i = 0; i < block.count; ++i)
      for (int h = 0; h < heads_; ++h) {
        const int64_t token = this->token(block, i);
        const float scale = rules_[h].finish(token, h, i);
        S* out = (S*)a_.out + (token * heads_ + h) * dv_;
        for (int d = 0; d < dv_; ++d) out[d] = stored<S>(scale * sum_[(h * QUERIES + i) * wide_v_ + d]);
      }
  }

  float *qt_, *sum_, *tile_, *bias_, *k_, *v_;
};

template <class S, class Rule>
class Backward : Task<S, Rule> {
  using Base = Task<S, Rule>;
  using Base::a_, Base::row_, Base::table_, Base::rules_, Base::heads_, Base::dqk_, Base::dv_, Base::wide_qk_,
      Base::wide_v_;

 public:
  // Keys [k0, k1) of a row. `partial` [n, H·dqk]: this stretch's part of d_q, if a row has several stretches.
  Backward(const Attention& a, const Row& row, const BiasTable& table, const DropoutMask* keep, Scratch& scratch,
           int64_t k0, int64_t k1, float* partial, BiasGradient& bias)
      : Base(a, row, table, keep), k0_(k0), k1_(k1), partial_(partial), gradient_(bias) {
    const int h = heads_, keys = int(k1 - k0);
    scratch.clear();
    qt_ = scratch.take(h * dqk_ * QUERIES), dt_ = scratch.take(h * dv_ * QUERIES);
    q_ = scratch.take(h * QUERIES * wide_qk_), d_ = scratch.take(h * QUERIES * wide_v_);
    dq_ = scratch.take(h * QUERIES * wide_qk_);
    dk_ = scratch.take(h * keys * wide_qk_), dv_sum_ = scratch.take(h * keys * wide_v_);
    weights_ = scratch.take(KEYS * QUERIES), slopes_ = scratch.take(KEYS * QUERIES);
    bias_ = scratch.take(KEYS * QUERIES), total_ = scratch.take(KEYS * QUERIES);
    buckets_ = (int32_t*)scratch.take(table_.timed() ? KEYS * QUERIES : 0);
    k_ = scratch.take(KEYS * wide_qk_), v_ = scratch.take(KEYS * wide_v_);
    std::fill_n(dk_, h * keys * wide_qk_, 0.0f);
    std::fill_n(dv_sum_, h * keys * wide_v_, 0.0f);
  }

  void run() {
    for (int64_t q0 = 0; q0 < row_.n; q0 += QUERIES) {
      const QueryBlock block(row_, q0, std::min<int64_t>(q0 + QUERIES, row_.n));
      if (block.most > k0_ || (block.q0 + block.count > k0_ && block.q0 < k1_)) queries(block);
      else if (!partial_) write_queries(block, true);
    }
    write_keys(dk_, wide_qk_, dqk_, (S*)a_.d_k);
    write_keys(dv_sum_, wide_v_, dv_, (S*)a_.d_v);
  }

 private:
  void queries(const QueryBlock& block) {
    this->read_queries(block, qt_);
    for (int h = 0; h < heads_; ++h) {
      copied((const S*)a_.q + this->token(block, 0) * a_.q_row + h * dqk_, a_.q_row,
             block.count, dqk_, q_ + h * QUERIES * wide_qk_, wide_qk_, wide_qk_);
      read_gradient(block, h);
    }
    std::fill_n(dq_, heads_ * QUERIES * wide_qk_, 0.0f);
    const int64_t end = std::min<int64_t>(k1_, block.most);
    for (int64_t j0 = k0_; j0 < end; j0 += KEYS) tile(block, j0, int(std::min<int64_t>(KEYS, end - j0)));
    for (int i = 0; i < block.count; ++i) {
      const int64_t own = block.q0 + i;
      if (own >= k0_ && own < k1_ && row_.detached(own)) tile(block.only_query(i), own, 1);
    }
    if (table_.any()) gradient_.flush();
    write_queries(block, false);
  }

  // The incoming gradient times each query's scale, as rows and as columns, and its product with the output.
  void read_gradient(const QueryBlock& block, int h) {
    float *rows = d_ + h * QUERIES * wide_v_, *columns = dt_ + h * dv_ * QUERIES;
    float delta[QUERIES];
    for (int i = 0; i < block.count; ++i) {
      const int64_t token = this->token(block, i), at = (token * heads_ + h) * dv_;
      const S *from = (const S*)a_.d_out + at, *out = (const S*)a_.out + at;
      const float scale = rules_[h].gradient_scale(token);
      delta[i] = 0;
      for (int d = 0; d < dv_; ++d) {
        rows[i * wide_v_ + d] = scale * number(from[d]);
        if (a_.out) delta[i] += number(from[d]) * number(out[d]);
      }
      for (int d = dv_; d < wide_v_; ++d) rows[i * wide_v_ + d] = 0;
    }
    transposed(rows, wide_v_, block.count, dv_, columns, QUERIES, block.padded, 1.0f);
    rules_[h].begin_backward(row_, block, h, delta);
  }

  void tile(const QueryBlock& block, int64_t j0, int count) {
    this->bias_tile(block, j0, count, bias_, buckets_);
    const float* bias = table_.any() ? bias_ : nullptr;
    const auto vectors = [&](auto with) { this->vectors(block, j0, count, with); };
    for (int h = 0; h < heads_; ++h) {
      const Left keys = rows_of<S>(row_, this->keys_, j0, count, h, wide_qk_, k_);
      const Left values = rows_of<S>(row_, this->values_, j0, count, h, wide_v_, v_);
      scores(block, keys, j0, count, qt_ + h * dqk_ * QUERIES, dqk_, weights_);
      scores(block, values, j0, count, dt_ + h * dv_ * QUERIES, dv_, slopes_);
      rules_[h].slope(block, j0, weights_, slopes_, bias, vectors);
      const int64_t own = h * (k1_ - k0_) + j0 - k0_;
      gather_queries(block, weights_, j0, count, d_ + h * QUERIES * wide_v_, wide_v_, dv_sum_ + own * wide_v_, wide_v_,
                     wide_v_);
      gather_queries(block, slopes_, j0, count, q_ + h * QUERIES * wide_qk_, wide_qk_, dk_ + own * wide_qk_, wide_qk_,
                     wide_qk_);
      gather_keys(block, slopes_, j0, count, keys.p, keys.row, dq_ + h * QUERIES * wide_qk_, wide_qk_);
      if (bias && heads_ > 1)
        vectors([&](int, int, int place) {
          store(total_ + place, h ? load(total_ + place) + load(slopes_ + place) : load(slopes_ + place));
        });
    }
    if (!bias) return;
    const float* terms = heads_ > 1 ? total_ : slopes_;
    vectors([&](int j, int i, int place) {
      gradient_.add(block.side, i, row_.position(j0 + j), buckets_ + place, load(terms + place));
    });
  }

  void write_queries(const QueryBlock& block, bool nothing) const {
    for (int i = 0; i < block.count; ++i)
      for (int h = 0; h < heads_; ++h) {
        const float* from = dq_ + (h * QUERIES + i) * wide_qk_;
        const int64_t own = ((block.q0 + i) * heads_ + h) * dqk_;
        S* out = (S*)a_.d_q + row_.first * heads_ * dqk_ + own;
        for (int d = 0; d < dqk_; ++d) {
          if (partial_) partial_[own + d] = from[d];
          else out[d] = stored<S>(nothing ? 0.0f : from[d]);
        }
      }
  }

  void write_keys(const float* from, int wide, int width, S* to) const {
    const int64_t keys = k1_ - k0_;
    for (int64_t j = 0; j < keys; ++j)
      for (int h = 0; h < heads_; ++h) {
        S* out = to + ((row_.first + k0_ + j) * heads_ + h) * width;
        for (int d = 0; d < width; ++d) out[d] = stored<S>(from[(h * keys + j) * wide + d]);
      }
  }

  const int64_t k0_, k1_;
  float* partial_;
  BiasGradient& gradient_;
  float *qt_, *dt_, *q_, *d_, *dq_, *dk_, *dv_sum_, *weights_, *slopes_, *bias_, *total_, *k_, *v_;
  int32_t* buckets_;
};

struct Piece {
  int64_t row, from, to, cost, stretch = 0, block = 0;
};

inline void costly_first(std::vector<Piece>& pieces) {
  std::stable_sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) { return a.cost > b.cost; });
}

inline int longest(const Attention& a) {
  int64_t most = 0;
  for (int64_t b = 0; b < a.tokens.rows; ++b) most = std::max(most, Row(a, b).n);
  return int(most);
}

// Blocks of queries; few queries over a long past are divided by stretches of keys instead. The division depends on the
// row alone, so that results do not depend on the number of threads.
template <class S, class Rule>
void forward(const Attention& a, int threads) {
  const BiasTable table(a.bias);
  const DropoutMask keep(a.p, a.salt, a.p > 0 ? longest(a) : 0);
  std::vector<Piece> pieces, divided;
  std::vector<std::vector<Share<Rule>>> shares;
  for (int64_t b = 0; b < a.tokens.rows; ++b) {
    const Row row(a, b);
    for (int64_t q = row.past; q < row.n; q += QUERIES) {
      const int64_t end = std::min(q + QUERIES, row.n), seen = row.seen(end - 1);
      const int64_t most = row.past && row.n - row.past <= FEW_QUERIES ? QueryBlock(row, q, end).most : 0;
      if (most <= STRETCH_KEYS) {
        pieces.push_back({b, q, end, seen, -1});
        continue;
      }
      const int64_t stretches = (most + STRETCH_KEYS - 1) / STRETCH_KEYS;
      for (int64_t k = 0; k < stretches; ++k)
        pieces.push_back({b, q, end, STRETCH_KEYS, k, int64_t(divided.size())});
      divided.push_back({b, q, end, 0});
      shares.emplace_back(size_t(stretches));
    }
  }
  costly_first(pieces);
#pragma omp parallel num_threads(threads)
  {
    Scratch scratch;
#pragma omp for schedule(dynamic, 1)
    for (size_t p = 0; p < pieces.size(); ++p) {
      const Piece& one = pieces[p];
      const Row row(a, one.row);
      Forward<S, Rule> task(a, row, table, &keep, scratch);
      if (one.stretch < 0) task.run(one.from, one.to);
      else task.run(one.from, one.to, one.stretch, shares[size_t(one.block)][size_t(one.stretch)]);
    }
#pragma omp for schedule(dynamic, 1)
    for (size_t d = 0; d < divided.size(); ++d) {
      const Row row(a, divided[d].row);
      Forward<S, Rule>(a, row, table, &keep, scratch).join(divided[d].from, divided[d].to, shares[d]);
    }
  }
}

// d_q of a row of several stretches: the sum of their parts in the order of the stretches, not of completion. Memory
// holds the parts of running threads and those that wait for an earlier one; for a type narrower than float32 also the
// sum.
template <class S>
class StretchGradients {
 public:
  StretchGradients(const Attention& a, const Row& row, int64_t stretches)
      : size_(size_t(row.n * a.heads * a.dqk)), out_((S*)a.d_q + row.first * a.heads * a.dqk),
        waiting_(static_cast<size_t>(stretches)) {}
  size_t size() const { return size_; }

  void add(int64_t stretch, std::vector<float> share) {
    const std::lock_guard<std::mutex> alone(mutex_);
    waiting_[size_t(stretch)] = std::move(share);
    for (; next_ < waiting_.size() && !waiting_[next_].empty(); ++next_) add_next(std::move(waiting_[next_]));
  }

 private:
  void add_next(std::vector<float> one) {
    if constexpr (std::is_same_v<S, float>) {
      for (size_t i = 0; i < size_; ++i) out_[i] = next_ ? out_[i] + one[i] : one[i];
    } else {
      if (!next_) total_.swap(one);
      else for (size_t i = 0; i < size_; ++i) total_[i] += one[i];
      if (next_ + 1 < waiting_.size()) return;
      for (size_t i = 0; i < size_; ++i) out_[i] = stored<S>(total_[i]);
      total_ = {};
    }
  }

  const size_t size_;
  S* const out_;
  std::mutex mutex_;
  std::vector<std::vector<float>> waiting_;
  std::vector<float> total_;
  size_t next_ = 0;  // the stretch to be added next
};

template <class S, class Rule>
void backward(const Attention& a, int threads) {
  const BiasTable table(a.bias);
  const DropoutMask keep(a.p, a.salt, a.p > 0 ? longest(a) : 0);
  std::vector<Piece> pieces;
  std::vector<std::unique_ptr<StretchGradients<S>>> shared(size_t(a.tokens.rows));
  for (int64_t b = 0; b < a.tokens.rows; ++b) {
    const Row row(a, b);
    const int64_t stretches = std::clamp<int64_t>((row.n + STRETCH_KEYS - 1) / STRETCH_KEYS, 1, MOST_STRETCHES);
    const int64_t stretch = (row.n + stretches - 1) / stretches;
    if (stretches > 1) shared[size_t(b)] = std::make_unique<StretchGradients<S>>(a, row, stretches);
    for (int64_t k = 0; k < row.n; k += stretch) {
      const int64_t end = std::min(k + stretch, row.n);
      pieces.push_back({b, k, end, row.n, k / stretch});
    }
  }
  costly_first(pieces);  // row by row, so that few rows at a time have waiting parts
  std::vector<BiasGradient> gradients;
  for (const Piece& piece : pieces) gradients.emplace_back(table, Row(a, piece.row).span());
#pragma omp parallel num_threads(threads)
  {
    Scratch scratch;
#pragma omp for schedule(dynamic, 1)
    for (size_t p = 0; p < pieces.size(); ++p) {
      const Piece& piece = pieces[p];
      const Row row(a, piece.row);
      StretchGradients<S>* shares = shared[size_t(piece.row)].get();
      std::vector<float> share(shares ? shares->size() : 0);
      Backward<S, Rule>(a, row, table, &keep, scratch, piece.from, piece.to, shares ? share.data() : nullptr,
                        gradients[p]).run();
      if (shares) shares->add(piece.stretch, std::move(share));
    }
  }
  std::vector<double> position(a.bias.position ? a.bias.distances : 0), time(a.bias.time ? a.bias.buckets : 0);
  for (const BiasGradient& one : gradients) {
    for (size_t d = 0; d < one.position.size(); ++d) position[d] += one.position[d];
    for (size_t b = 0; b < time.size(); ++b) time[b] += one.time[b];
  }
  for (size_t d = 0; d < position.size(); ++d) a.d_position[d] = float(position[d]);
  for (size_t b = 0; b < time.size(); ++b) a.d_time[b] = float(time[b]);
}

}  // namespace facta::ISA
