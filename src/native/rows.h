// Jagged rows in tiles of keys x queries, and the products of such a tile.
//
// Tiles hold keys along their rows and queries along their columns, so that keys and values are read in
// place and the query side of the bias (time, position) is along the vectors.
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
constexpr int NARROW = 2;  // vectors of queries computed together; wider groups compute more masked scores

// One row: its past, then its own tokens.
struct Row {
  const Attention& a;
  int64_t first, past, n;  // first token in T; cached tokens; all tokens
  const Past* kept;
  int64_t origin = 0;  // times are relative to this, so that differences are exact in doubles

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
  // One more than the largest distance between two of its tokens.
  int64_t span() const {
    int32_t least = n ? position(0) : 0, most = least;
    for (int64_t j = 1; j < n; ++j) least = std::min(least, position(j)), most = std::max(most, position(j));
    return int64_t(most) - least + 1;
  }
  // The leading tokens that token i sees, including itself if it directly follows them.
  int64_t seen(int64_t i) const {
    const int64_t sees = std::min(a.tokens.sees[first + i - past], n);
    return sees >= i ? std::max(sees, i + 1) : std::max<int64_t>(sees, 0);
  }
  bool detached(int64_t i) const { return seen(i) <= i; }  // sees itself, but not the tokens between
};

// Queries [q0, q1) of a row, in the layout of tiles.
struct QueryBlock {
  int64_t q0;
  int count, padded;      // padded to whole vectors
  int32_t seen[QUERIES];  // leading keys; 0 after the last query
  int most;               // maximum of seen
  int vector_most[QUERIES / W];  // maximum of each vector
  QuerySide side;         // of the bias

  QueryBlock(const Row& row, int64_t start, int64_t end) : q0(start), count(int(end - start)), most(0) {
    padded = (count + W - 1) / W * W;
    for (int i = 0; i < padded; ++i) {
      seen[i] = i < count ? int32_t(row.seen(q0 + i)) : 0;
      most = std::max(most, int(seen[i]));
    }
    for (int i = 0; i < padded; i += W) vector_most[i / W] = reach(i, i + W);
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
  // The block with only one query, which sees nothing but itself.
  QueryBlock only_query(int i) const {
    QueryBlock one = *this;
    std::fill_n(one.seen, QUERIES, 0);
    std::fill_n(one.vector_most, QUERIES / W, 0);
    one.seen[i] = one.most = one.vector_most[i / W] = int32_t(q0 + i + 1);
    return one;
  }
  // The most keys that a query of [from, to) sees.
  int reach(int from, int to) const {
    int best = 0;
    for (int i = from; i < to; ++i) best = std::max(best, int(seen[i]));
    return best;
  }
};

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

// s[keys, queries] = K · Qᵀ for the vectors of queries that see any of the keys; the rest becomes 0.
// `qt` is [depth, QUERIES]; key j of the tile is key j0 + j of the row.
inline void scores(const QueryBlock& block, Left keys, int64_t j0, int count, const float* qt, int depth, float* s) {
  for (int at = 0; at < block.padded; at += NARROW * W) {
    const int end = std::min(at + NARROW * W, block.padded);
    const int used = std::clamp<int>(int(block.reach(at, end) - j0), 0, count);
    product(used, end - at, depth, keys, qt + at, QUERIES, s + at, QUERIES, false);
    for (int i = at; i < end; i += W)
      for (int j = std::clamp<int>(int(block.vector_most[i / W] - j0), 0, count); j < count; ++j)
        store(s + j * QUERIES + i, vf{});
  }
}

// c[queries, width] += tileᵀ · B: sums for each query over the keys of a tile.
inline void gather_keys(const QueryBlock& block, const float* tile, int64_t j0, int count, const float* right,
                        int64_t right_row, float* c, int width) {
  constexpr int GROUP = 24;  // queries: a multiple of every panel's rows
  for (int i = 0; i < block.count; i += GROUP) {
    const int rows = std::min(GROUP, block.count - i);
    const int depth = std::clamp<int>(int(block.reach(i, i + rows) - j0), 0, count);
    if (depth) product(rows, width, depth, {tile + i, 1, QUERIES}, right, right_row, c + i * width, width, true);
  }
}

// c[keys, width] += tile · B: sums for each key over the queries of a tile.
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

// Keys or values [j0, j0 + count) of a head, `wide` columns each: in place if the layout allows.
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

}  // namespace facta::ISA
