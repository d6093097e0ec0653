// HSTU's pointwise attention over jagged rows: out_i = scale_i · Σ_j SiLU(q_i·k_j + rab_ij) v_j, forward and backward.
//
// A task is a block of queries of one row (forward) or a stretch of keys of one row (backward); nothing of size n x n
// is ever written. Tiles hold keys along their rows and queries along their columns, so that keys and values are used
// as they lie in memory and the query side of the bias (its time, its position) lies along the vectors.
//
// What a task computes depends on its row alone, never on the threads or on the other rows of the batch.
#pragma once

#include <algorithm>
#include <vector>

#include "bias.h"
#include "gemm.h"
#include "kernels.h"
#include "storage.h"

namespace facta::ISA {

constexpr int QUERIES = 128;  // of a tile: 8 vectors of AVX-512
constexpr int KEYS = 256;
constexpr int64_t STRETCH = 2048;  // keys of a backward task: a long row is shared by several threads
constexpr int64_t STRETCHES = 8;   // at most: each has its own d_q to be added up

// One row: its past in front, then its own tokens.
struct Row {
  const Attention& a;
  int64_t first, past, n;  // first token in T; kept tokens; all tokens
  const Past* kept;
  int64_t origin = 0;  // times are told from here, so that their differences are exact as doubles

  Row(const Attention& a_, int64_t b) : a(a_), first(a_.tokens.offsets[b]) {
    kept = a.tokens.past ? a.tokens.past + b : nullptr;
    past = kept ? kept->n : 0;
    n = past + a.tokens.offsets[b + 1] - first;
    if (timed() && n) origin = past ? kept->time[0] : a.tokens.time[first];
  }
  bool timed() const { return a.bias.time; }
  double time(int64_t j) const {
    return double((j < past ? kept->time[j] : a.tokens.time[first + j - past]) - origin);
  }
  int32_t position(int64_t j) const {
    return int32_t(j < past ? kept->position[j] : a.tokens.position[first + j - past]);
  }
  // The leading tokens that token i sees; itself among them where it follows them.
  int64_t seen(int64_t i) const {
    const int64_t sees = std::min(a.tokens.sees[first + i - past], n);
    return sees >= i ? std::max(sees, i + 1) : std::max<int64_t>(sees, 0);
  }
  bool apart(int64_t i) const { return seen(i) <= i; }  // sees itself, but not the tokens between
};

// Queries [q0, q1) of a row, laid out for the tiles.
struct QueryBlock {
  int64_t q0;
  int count, padded;      // padded to whole vectors
  int32_t seen[QUERIES];  // leading keys; 0 behind the last query
  int most;               // of seen
  QuerySide side;         // of the bias

  QueryBlock(const Row& row, int64_t start, int64_t end) : q0(start), count(int(end - start)), most(0) {
    padded = (count + W - 1) / W * W;
    for (int i = 0; i < padded; ++i) {
      seen[i] = i < count ? int32_t(row.seen(q0 + i)) : 0;
      most = std::max(most, int(seen[i]));
    }
    for (int i = 0; i < padded; ++i) {
      const int64_t token = row.first + q0 - row.past + std::min(i, count - 1);
      side.time[i] = row.timed() ? double(row.a.tokens.query_time[token] - row.origin) : 0.0;
      side.position[i] = int32_t(row.a.tokens.position[token]);
    }
    for (int i = 0; i < padded; i += W) {
      side.straight[i / W] = true;
      for (int lane = 1; lane < W && i + lane < count; ++lane)
        side.straight[i / W] &= side.position[i + lane] == side.position[i] + lane;
    }
  }
  // The most keys that a query of [from, to) sees.
  int reach(int from, int to) const {
    int best = 0;
    for (int i = from; i < to; ++i) best = std::max(best, int(seen[i]));
    return best;
  }
};

inline int whole(int64_t width) { return int((width + W - 1) / W * W); }

// Scratch of one thread.
class Scratch {
 public:
  void clear() { used_ = 0; }
  float* take(size_t count) {
    if (used_ == pieces_.size()) pieces_.emplace_back();
    std::vector<float>& piece = pieces_[used_++];
    if (piece.size() < count + W) piece.resize(count + W);
    return piece.data();
  }

 private:
  std::vector<std::vector<float>> pieces_;
  size_t used_ = 0;
};

// s[keys, queries] = K · Qᵀ for the panels of queries that see any of the keys; the rest becomes 0.
// `qt` is [depth, QUERIES]; key j of the tile is key j0 + j of the row.
inline void scores(const QueryBlock& block, Left keys, int64_t j0, int count, const float* qt, int depth, float* s) {
  for (int at = 0; at < block.padded; at += PANEL * W) {
    const int width = std::min(PANEL * W, block.padded - at);
    const int used = std::clamp<int>(int(block.reach(at, at + width) - j0), 0, count);
    product(used, width, depth, keys, qt + at, QUERIES, s + at, QUERIES, false);
    for (int j = used; j < count; ++j)
      for (int i = 0; i < width; i += W) store(s + j * QUERIES + at + i, vf{});
  }
}

// c[queries, width] += tileᵀ · B: what each query gathers from the keys of a tile.
inline void gather_keys(const QueryBlock& block, const float* tile, int64_t j0, int count, const float* right,
                        int64_t right_row, float* c, int width) {
  constexpr int GROUP = 24;  // queries: a multiple of every panel's rows
  for (int i = 0; i < block.count; i += GROUP) {
    const int rows = std::min(GROUP, block.count - i);
    const int depth = std::clamp<int>(int(block.reach(i, i + rows) - j0), 0, count);
    if (depth) product(rows, width, depth, {tile + i, 1, QUERIES}, right, right_row, c + i * width, width, true);
  }
}

// c[keys, width] += tile · B: what each key gathers from the queries of a tile.
inline void gather_queries(const QueryBlock& block, const float* tile, int64_t j0, int count, const float* right,
                           int64_t right_row, float* c, int64_t c_row, int width) {
  constexpr int GROUP = 24;
  for (int j = 0; j < count; j += GROUP) {
    const int rows = std::min(GROUP, count - j);
    int i = 0;
    while (i < block.count && block.seen[i] <= j0 + j) ++i;
    if (i < block.count)
      product(rows, width, block.count - i, {tile + j * QUERIES + i, QUERIES, 1}, right + i * right_row, right_row,
              c + j * c_row, c_row, true);
  }
}

// Keys or values [j0, j0 + count) of a head, `wide` columns each: as they lie in memory where that will do.
struct Source {
  const void *own, *kept;
  int64_t own_row;
  int width;
};

template <class S>
Left rows_of(const Row& row, const Source& from, int64_t j0, int count, int head, int wide, float* buffer) {
  const int64_t kept_row = row.a.heads * from.width;
  const S* kept = (const S*)from.kept + head * from.width;
  const S* own = (const S*)from.own + row.first * from.own_row + head * from.width;
  if constexpr (sizeof(S) == sizeof(float)) {
    if (wide == from.width && j0 + count <= row.past) return {(const float*)kept + j0 * kept_row, kept_row, 1};
    if (wide == from.width && j0 >= row.past)
      return {(const float*)own + (j0 - row.past) * from.own_row, from.own_row, 1};
  }
  const int old = int(std::clamp<int64_t>(row.past - j0, 0, count));
  copied(kept + j0 * kept_row, kept_row, old, from.width, buffer, wide, wide);
  copied(own + (j0 + old - row.past) * from.own_row, from.own_row, count - old, from.width, buffer + old * wide, wide,
         wide);
  return {buffer, wide, 1};
}

template <class S>
class Task {
 public:
  Task(const Attention& a, const Row& row, const BiasTable& table)
      : a_(a), row_(row), table_(table), heads_(int(a.heads)), dqk_(int(a.dqk)), dv_(int(a.dv)),
        wide_qk_(whole(a.dqk)), wide_v_(whole(a.dv)),
        keys_{a.k, row.kept ? row.kept->k : nullptr, a.k_row, int(a.dqk)},
        values_{a.v, row.kept ? row.kept->v : nullptr, a.v_row, int(a.dv)} {}

 protected:
  int64_t token(const QueryBlock& block, int i) const { return row_.first + block.q0 + i - row_.past; }
  float scale(int64_t token) const { return a_.scales ? a_.scales[token] : a_.scale; }

  void read_queries(const QueryBlock& block, float* qt) const {
    for (int h = 0; h < heads_; ++h)
      transposed((const S*)a_.q + token(block, 0) * a_.q_row + h * dqk_, a_.q_row, block.count, dqk_,
                 qt + h * dqk_ * QUERIES, QUERIES, block.padded);
  }

  void bias_tile(const QueryBlock& block, int64_t j0, int count, float* tile) const {
    if (!table_.any()) return;
    for (int j = 0; j < count; ++j) {
      const double time = table_.timed() ? row_.time(j0 + j) : 0.0;
      const int32_t position = row_.position(j0 + j);
      for (int i = 0; i < block.padded; i += W) {
        vf bias{};
        if (table_.placed()) bias = table_.position(block.side, i, position);
        if (table_.timed()) bias += table_.time(table_.look(block.side.time + i, time));
        store(tile + j * QUERIES + i, bias);
      }
    }
  }

  float own_bias(const QueryBlock& block, int i) const {
    if (!table_.any()) return 0;
    const int64_t j = block.q0 + i;
    return table_.one(block.side.time[i], table_.timed() ? row_.time(j) : 0.0, block.side.position[i], row_.position(j));
  }

  // Calls `with` for every vector of a tile in which a query may see a key: (key, query, place in the tile).
  template <class F>
  void vectors(const QueryBlock& block, int64_t j0, int count, F with) const {
    for (int at = 0; at < block.padded; at += PANEL * W) {
      const int end = std::min(at + PANEL * W, block.padded);
      const int used = std::clamp<int>(int(block.reach(at, end) - j0), 0, count);
      for (int j = 0; j < used; ++j)
        for (int i = at; i < end; i += W) with(j, i, j * QUERIES + i);
    }
  }

  const Attention& a_;
  const Row& row_;
  const BiasTable& table_;
  const int heads_, dqk_, dv_, wide_qk_, wide_v_;
  const Source keys_, values_;
};

template <class S>
class Forward : Task<S> {
 public:
  Forward(const Attention& a, const Row& row, const BiasTable& table, Scratch& scratch) : Task<S>(a, row, table) {
    scratch.clear();
    qt_ = scratch.take(this->heads_ * this->dqk_ * QUERIES);
    sum_ = scratch.take(this->heads_ * QUERIES * this->wide_v_);
    tile_ = scratch.take(KEYS * QUERIES);
    bias_ = scratch.take(KEYS * QUERIES);
    k_ = scratch.take(KEYS * this->dqk_);
    v_ = scratch.take(KEYS * this->wide_v_);
  }

  void run(int64_t q0, int64_t q1) {
    const QueryBlock block(this->row_, q0, q1);
    this->read_queries(block, qt_);
    std::fill_n(sum_, this->heads_ * QUERIES * this->wide_v_, 0.0f);
    for (int64_t j0 = 0; j0 < block.most; j0 += KEYS) tile(block, j0, int(std::min<int64_t>(KEYS, block.most - j0)));
    for (int i = 0; i < block.count; ++i)
      if (this->row_.apart(q0 + i)) itself(block, i);
    write(block);
  }

 private:
  void tile(const QueryBlock& block, int64_t j0, int count) {
    const bool biased = this->table_.any();
    this->bias_tile(block, j0, count, bias_);
    for (int h = 0; h < this->heads_; ++h) {
      const Left keys = rows_of<S>(this->row_, this->keys_, j0, count, h, this->dqk_, k_);
      scores(block, keys, j0, count, qt_ + h * this->dqk_ * QUERIES, this->dqk_, tile_);
      this->vectors(block, j0, count, [&](int j, int i, int place) {
        vf x = load(tile_ + place);
        if (biased) x += load(bias_ + place);
        const vi visible = load(block.seen + i) > int32_t(j0 + j);
        store(tile_ + place, select(visible, x * sigmoid(x), vf{}));
      });
      const Left values = rows_of<S>(this->row_, this->values_, j0, count, h, this->wide_v_, v_);
      gather_keys(block, tile_, j0, count, values.p, values.row, sum_ + h * QUERIES * this->wide_v_, this->wide_v_);
    }
  }

  // A query that sees itself and not the tokens between, as a candidate does.
  void itself(const QueryBlock& block, int i) {
    const float bias = this->own_bias(block, i);
    for (int h = 0; h < this->heads_; ++h) {
      const float* key = rows_of<S>(this->row_, this->keys_, block.q0 + i, 1, h, this->dqk_, k_).p;
      const float* value = rows_of<S>(this->row_, this->values_, block.q0 + i, 1, h, this->wide_v_, v_).p;
      float x = bias;
      for (int d = 0; d < this->dqk_; ++d) x += key[d] * qt_[(h * this->dqk_ + d) * QUERIES + i];
      const float weight = x / (1.0f + std::exp(-x));
      for (int d = 0; d < this->dv_; ++d) sum_[(h * QUERIES + i) * this->wide_v_ + d] += weight * value[d];
    }
  }

  void write(const QueryBlock& block) const {
    for (int i = 0; i < block.count; ++i) {
      const int64_t token = this->token(block, i);
      const float scale = this->scale(token);
      for (int h = 0; h < this->heads_; ++h) {
        S* out = (S*)this->a_.out + (token * this->heads_ + h) * this->dv_;
        for (int d = 0; d < this->dv_; ++d) out[d] = stored<S>(scale * sum_[(h * QUERIES + i) * this->wide_v_ + d]);
      }
    }
  }

  float *qt_, *sum_, *tile_, *bias_, *k_, *v_;
};

// Gradients of the bias tables from one task, in doubles: a bucket may gather millions of terms.
struct BiasGradient {
  std::vector<double> position, time;
  std::vector<float> near, lanes;  // of one block of queries: by distance; by bucket and lane

  explicit BiasGradient(const BiasTable& table)
      : position(table.placed() ? table.distances() : 0), time(table.timed() ? table.buckets() : 0),
        near(position.empty() ? 0 : position.size() + W), lanes(time.size() * W) {}

  void add(const BiasTable& table, const QuerySide& side, int i, double key_time, int32_t key_position, vf terms) {
    if (!position.empty()) add_position(side, i, key_position, terms);
    if (!time.empty()) add_time(table.look(side.time + i, key_time), table, terms);
  }
  void add_one(const BiasTable& table, double query_time, double key_time, int32_t from, int32_t to, float term) {
    if (!position.empty()) position[std::max(from - to, 0)] += term;
    if (!time.empty()) time[table.bucket(query_time, key_time)] += term;
  }
  void flush() {
    for (size_t d = 0; d < position.size(); ++d) position[d] += near[d];
    for (size_t b = 0; b < time.size(); ++b) time[b] += sum(load(lanes.data() + b * W));
    std::fill(near.begin(), near.end(), 0.0f);
    std::fill(lanes.begin(), lanes.end(), 0.0f);
  }

 private:
  void add_position(const QuerySide& side, int i, int32_t key, vf terms) {
    const int32_t nearest = side.position[i] - key;
    if (side.straight[i / W] && nearest >= 0) {
      store(near.data() + nearest, load(near.data() + nearest) + terms);
      return;
    }
    for (int lane = 0; lane < W; ++lane) near[std::max(side.position[i + lane] - key, 0)] += terms[lane];
  }
  void add_time(const BiasTable::Lookup& found, const BiasTable& table, vf terms) {
    if (found.one_cell && !any(found.later != broadcast(int32_t(found.later[0])))) {
      float* p = lanes.data() + table.bucket(found, 0) * W;
      store(p, load(p) + terms);
      return;
    }
    for (int lane = 0; lane < W; ++lane) lanes[table.bucket(found, lane) * W + lane] += terms[lane];
  }
};

template <class S>
class Backward : Task<S> {
 public:
  // Keys [k0, k1) of a row. `partial` [n, H·dqk]: where a row has several stretches, this one's share of d_q.
  Backward(const Attention& a, const Row& row, const BiasTable& table, Scratch& scratch, int64_t k0, int64_t k1,
           float* partial, BiasGradient& bias)
      : Task<S>(a, row, table), k0_(k0), k1_(k1), partial_(partial), gradient_(bias) {
    const int h = this->heads_, keys = int(k1 - k0);
    scratch.clear();
    qt_ = scratch.take(h * this->dqk_ * QUERIES), dt_ = scratch.take(h * this->dv_ * QUERIES);
    q_ = scratch.take(h * QUERIES * this->wide_qk_), d_ = scratch.take(h * QUERIES * this->wide_v_);
    dq_ = scratch.take(h * QUERIES * this->wide_qk_);
    dk_ = scratch.take(h * keys * this->wide_qk_), dv_sum_ = scratch.take(h * keys * this->wide_v_);
    weights_ = scratch.take(KEYS * QUERIES), slopes_ = scratch.take(KEYS * QUERIES);
    bias_ = scratch.take(KEYS * QUERIES), total_ = scratch.take(KEYS * QUERIES);
    k_ = scratch.take(KEYS * this->wide_qk_), v_ = scratch.take(KEYS * this->wide_v_);
    std::fill_n(dk_, h * keys * this->wide_qk_, 0.0f);
    std::fill_n(dv_sum_, h * keys * this->wide_v_, 0.0f);
  }

  void run() {
    for (int64_t q0 = 0; q0 < this->row_.n; q0 += QUERIES) {
      const QueryBlock block(this->row_, q0, std::min<int64_t>(q0 + QUERIES, this->row_.n));
      if (block.most > k0_ || (block.q0 + block.count > k0_ && block.q0 < k1_)) queries(block);
      else if (!partial_) write_queries(block, true);
    }
    write_keys(dk_, this->wide_qk_, this->dqk_, (S*)this->a_.d_k);
    write_keys(dv_sum_, this->wide_v_, this->dv_, (S*)this->a_.d_v);
  }

 private:
  void queries(const QueryBlock& block) {
    this->read_queries(block, qt_);
    for (int h = 0; h < this->heads_; ++h) {
      copied((const S*)this->a_.q + this->token(block, 0) * this->a_.q_row + h * this->dqk_, this->a_.q_row,
             block.count, this->dqk_, q_ + h * QUERIES * this->wide_qk_, this->wide_qk_, this->wide_qk_);
      read_gradient(block, h);
    }
    std::fill_n(dq_, this->heads_ * QUERIES * this->wide_qk_, 0.0f);
    const int64_t end = std::min<int64_t>(k1_, block.most);
    for (int64_t j0 = k0_; j0 < end; j0 += KEYS) tile(block, j0, int(std::min<int64_t>(KEYS, end - j0)));
    for (int i = 0; i < block.count; ++i) {
      const int64_t own = block.q0 + i;
      if (own >= k0_ && own < k1_ && this->row_.apart(own)) itself(block, i);
    }
    if (this->table_.any()) gradient_.flush();
    write_queries(block, false);
  }

  // The incoming gradient times each query's scale, as rows and as columns.
  void read_gradient(const QueryBlock& block, int h) {
    float *rows = d_ + h * QUERIES * this->wide_v_, *columns = dt_ + h * this->dv_ * QUERIES;
    for (int i = 0; i < block.count; ++i) {
      const int64_t token = this->token(block, i);
      const S* from = (const S*)this->a_.d_out + (token * this->heads_ + h) * this->dv_;
      const float scale = this->scale(token);
      for (int d = 0; d < this->wide_v_; ++d) rows[i * this->wide_v_ + d] = d < this->dv_ ? scale * number(from[d]) : 0;
    }
    transposed(rows, this->wide_v_, block.count, this->dv_, columns, QUERIES, block.padded);
  }

  void tile(const QueryBlock& block, int64_t j0, int count) {
    const bool biased = this->table_.any();
    this->bias_tile(block, j0, count, bias_);
    for (int h = 0; h < this->heads_; ++h) {
      const Left keys = rows_of<S>(this->row_, this->keys_, j0, count, h, this->wide_qk_, k_);
      const Left values = rows_of<S>(this->row_, this->values_, j0, count, h, this->wide_v_, v_);
      scores(block, keys, j0, count, qt_ + h * this->dqk_ * QUERIES, this->dqk_, weights_);
      scores(block, values, j0, count, dt_ + h * this->dv_ * QUERIES, this->dv_, slopes_);
      this->vectors(block, j0, count, [&](int j, int i, int place) {
        vf x = load(weights_ + place);
        if (biased) x += load(bias_ + place);
        const vi visible = load(block.seen + i) > int32_t(j0 + j);
        const vf gate = sigmoid(x);
        const vf slope = select(visible, load(slopes_ + place) * gate * (1.0f + x * (1.0f - gate)), vf{});
        store(weights_ + place, select(visible, x * gate, vf{}));
        store(slopes_ + place, slope);
        if (biased) store(total_ + place, h ? load(total_ + place) + slope : slope);
      });
      const int64_t at = j0 - k0_, own = h * (k1_ - k0_) + at;
      gather_queries(block, weights_, j0, count, d_ + h * QUERIES * this->wide_v_, this->wide_v_,
                     dv_sum_ + own * this->wide_v_, this->wide_v_, this->wide_v_);
      gather_queries(block, slopes_, j0, count, q_ + h * QUERIES * this->wide_qk_, this->wide_qk_,
                     dk_ + own * this->wide_qk_, this->wide_qk_, this->wide_qk_);
      gather_keys(block, slopes_, j0, count, keys.p, keys.row, dq_ + h * QUERIES * this->wide_qk_, this->wide_qk_);
    }
    if (!biased) return;
    this->vectors(block, j0, count, [&](int j, int i, int place) {
      gradient_.add(this->table_, block.side, i, this->table_.timed() ? this->row_.time(j0 + j) : 0.0,
                    this->row_.position(j0 + j), load(total_ + place));
    });
  }

  void itself(const QueryBlock& block, int i) {
    const int64_t j = block.q0 + i;
    const float bias = this->own_bias(block, i);
    float total = 0;
    for (int h = 0; h < this->heads_; ++h) {
      const float* key = rows_of<S>(this->row_, this->keys_, j, 1, h, this->wide_qk_, k_).p;
      const float* value = rows_of<S>(this->row_, this->values_, j, 1, h, this->wide_v_, v_).p;
      const float* query = q_ + (h * QUERIES + i) * this->wide_qk_;
      const float* incoming = d_ + (h * QUERIES + i) * this->wide_v_;
      float x = bias, d_weight = 0;
      for (int d = 0; d < this->dqk_; ++d) x += key[d] * query[d];
      for (int d = 0; d < this->dv_; ++d) d_weight += value[d] * incoming[d];
      const float gate = 1.0f / (1.0f + std::exp(-x)), slope = d_weight * gate * (1.0f + x * (1.0f - gate));
      const int64_t own = h * (k1_ - k0_) + j - k0_;
      for (int d = 0; d < this->dv_; ++d) dv_sum_[own * this->wide_v_ + d] += x * gate * incoming[d];
      for (int d = 0; d < this->dqk_; ++d) {
        dk_[own * this->wide_qk_ + d] += slope * query[d];
        dq_[(h * QUERIES + i) * this->wide_qk_ + d] += slope * key[d];
      }
      total += slope;
    }
    if (this->table_.any())
      gradient_.add_one(this->table_, block.side.time[i], this->table_.timed() ? this->row_.time(j) : 0.0,
                        block.side.position[i], this->row_.position(j), total);
  }

  void write_queries(const QueryBlock& block, bool nothing) const {
    for (int i = 0; i < block.count; ++i)
      for (int h = 0; h < this->heads_; ++h) {
        const float* from = dq_ + (h * QUERIES + i) * this->wide_qk_;
        const int64_t own = ((block.q0 + i) * this->heads_ + h) * this->dqk_;
        S* out = (S*)this->a_.d_q + this->row_.first * this->heads_ * this->dqk_ + own;
        for (int d = 0; d < this->dqk_; ++d) {
          if (partial_) partial_[own + d] = from[d];
          else out[d] = stored<S>(nothing ? 0.0f : from[d]);
        }
      }
  }

  void write_keys(const float* from, int wide, int width, S* to) const {
    const int64_t keys = k1_ - k0_;
    for (int64_t j = 0; j < keys; ++j)
      for (int h = 0; h < this->heads_; ++h) {
        S* out = to + ((this->row_.first + k0_ + j) * this->heads_ + h) * width;
        for (int d = 0; d < width; ++d) out[d] = stored<S>(from[(h * keys + j) * wide + d]);
      }
  }

  const int64_t k0_, k1_;
  float* partial_;
  BiasGradient& gradient_;
  float *qt_, *dt_, *q_, *d_, *dq_, *dk_, *dv_sum_, *weights_, *slopes_, *bias_, *total_, *k_, *v_;
};

struct Piece {
  int64_t row, from, to, cost;
};

inline void costly_first(std::vector<Piece>& pieces) {
  std::stable_sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) { return a.cost > b.cost; });
}

template <class S>
void forward(const Attention& a, int threads) {
  const BiasTable table(a.bias);
  std::vector<Piece> pieces;
  for (int64_t b = 0; b < a.tokens.rows; ++b) {
    const Row row(a, b);
    for (int64_t q = row.past; q < row.n; q += QUERIES)
      pieces.push_back({b, q, std::min<int64_t>(q + QUERIES, row.n), row.seen(std::min<int64_t>(q + QUERIES, row.n) - 1)});
  }
  costly_first(pieces);
#pragma omp parallel num_threads(threads)
  {
    Scratch scratch;
#pragma omp for schedule(dynamic, 1)
    for (size_t p = 0; p < pieces.size(); ++p) {
      const Row row(a, pieces[p].row);
      Forward<S>(a, row, table, scratch).run(pieces[p].from, pieces[p].to);
    }
  }
}

template <class S>
void backward(const Attention& a, int threads) {
  const BiasTable table(a.bias);
  std::vector<Piece> pieces;
  std::vector<int64_t> shared;  // rows of several stretches: their first piece
  std::vector<std::vector<float>> partial;
  for (int64_t b = 0; b < a.tokens.rows; ++b) {
    const Row row(a, b);
    const int64_t stretches = std::clamp<int64_t>((row.n + STRETCH - 1) / STRETCH, 1, STRETCHES);
    const int64_t stretch = (row.n + stretches - 1) / stretches;
    if (stretches > 1) shared.push_back(int64_t(pieces.size()));
    for (int64_t k = 0; k < row.n; k += stretch) {
      const int64_t end = std::min(k + stretch, row.n);
      pieces.push_back({b, k, end, (end - k) * (2 * row.n - k - end)});
      partial.emplace_back(stretches > 1 ? size_t(row.n * a.heads * a.dqk) : 0);
    }
  }
  std::vector<BiasGradient> gradients(pieces.size(), BiasGradient(table));
  std::vector<size_t> order(pieces.size());
  for (size_t p = 0; p < order.size(); ++p) order[p] = p;
  std::stable_sort(order.begin(), order.end(), [&](size_t x, size_t y) { return pieces[x].cost > pieces[y].cost; });
#pragma omp parallel num_threads(threads)
  {
    Scratch scratch;
#pragma omp for schedule(dynamic, 1)
    for (size_t at = 0; at < order.size(); ++at) {
      const size_t p = order[at];
      const Row row(a, pieces[p].row);
      float* share = partial[p].empty() ? nullptr : partial[p].data();
      Backward<S>(a, row, table, scratch, pieces[p].from, pieces[p].to, share, gradients[p]).run();
    }
  }
  for (const int64_t first : shared) {  // add up the shares of d_q, stretch by stretch
    const Row row(a, pieces[first].row);
    const int64_t width = a.heads * a.dqk;
    S* out = (S*)a.d_q + row.first * width;
#pragma omp parallel for num_threads(threads)
    for (int64_t at = 0; at < row.n * width; ++at) {
      float total = 0;
      for (size_t p = first; p < pieces.size() && pieces[p].row == pieces[first].row; ++p) total += partial[p][at];
      out[at] = stored<S>(total);
    }
  }
  std::vector<double> position(a.bias.position ? a.bias.distances : 0), time(a.bias.time ? a.bias.buckets : 0);
  for (const BiasGradient& one : gradients) {
    for (size_t d = 0; d < position.size(); ++d) position[d] += one.position[d];
    for (size_t b = 0; b < time.size(); ++b) time[b] += one.time[b];
  }
  for (size_t d = 0; d < position.size(); ++d) a.d_position[d] = float(position[d]);
  for (size_t b = 0; b < time.size(); ++b) a.d_time[b] = float(time[b]);
}

}  // namespace facta::ISA
