// rab^{p,t}: the bias by distance and by time bucket of two tokens, computed tile by tile.
//
// Buckets are exact: the time difference is an integer of milliseconds, compared with integer boundaries. It is looked
// up by the exponent and two bits of the mantissa of its float32; such a cell holds one boundary at most (buckets are a
// factor 1.35 wide, cells at most 1.25), so one comparison decides. Rounding to float32 keeps order: only where both
// sides are equal as floats the exact numbers are compared.
#pragma once

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "kernels.h"
#include "simd.h"

namespace facta::ISA {

using vd = double __attribute__((vector_size(8 * W)));

// Times and positions of the queries of a tile.
struct QuerySide {
  static constexpr int MOST_QUERIES = 128;
  double time[MOST_QUERIES];  // relative to the row's origin
  int32_t position[MOST_QUERIES];
  bool straight[MOST_QUERIES / W];  // positions of a vector count up by one
};

constexpr int CELLS = 65 * 4;

// Lookup tables of the kernels, built once per call.
class BiasTable {
 public:
  explicit BiasTable(const Bias& bias) : bias_(bias) {
    if (bias.position) {
      position_.assign(bias.position, bias.position + bias.distances);
      position_.resize(bias.distances + W, 0.0f);  // a whole vector may be read at the end
    }
    if (bias.time) read_boundaries();
  }
  bool any() const { return bias_.position || bias_.time; }
  bool timed() const { return bias_.time; }
  bool placed() const { return bias_.position; }
  int64_t distances() const { return bias_.distances; }
  int64_t buckets() const { return bias_.buckets; }

  // Buckets of |query - key| for a vector of queries.
  struct Lookup {
    vi cell;
    vi later;  // all bits set: at or after the cell's boundary
    bool one_cell;
  };
  Lookup look(const double* query, double key) const {
    vd apart;
    std::memcpy(&apart, query, sizeof apart);
    apart = apart - key;
    apart = reinterpret_cast<vd>(reinterpret_cast<vl>(apart) & ABS);
    const vf rounded = __builtin_convertvector(apart, vf);
    Lookup found;
    const vi raw = (bits(rounded) >> 21) - (127 << 2);
    found.cell = raw & (raw > 0);
    found.one_cell = !facta::ISA::any(found.cell != broadcast(int32_t(found.cell[0])));
    const vf bound = found.one_cell ? broadcast(bound_[found.cell[0]]) : gather(bound_, found.cell);
    found.later = rounded >= bound;
    if (facta::ISA::any(rounded == bound)) exactly(apart, rounded, bound, found);
    return found;
  }
  vf time(const Lookup& found) const {
    if (found.one_cell)
      return select(found.later, broadcast(after_[found.cell[0]]), broadcast(before_[found.cell[0]]));
    return select(found.later, gather(after_, found.cell), gather(before_, found.cell));
  }
  vi bucket(const Lookup& found) const {  // a cell has at most two buckets, the second after the first
    return (found.one_cell ? broadcast(first_[found.cell[0]]) : gather(first_, found.cell)) - found.later;
  }
  vf position(const QuerySide& side, int i, int32_t key) const {
    const int32_t nearest = side.position[i] - key;
    if (side.straight[i / W] && nearest >= 0) return load(position_.data() + nearest);
    const vi distance = load(side.position + i) - key;
    return gather(position_.data(), distance & (distance > 0));
  }

 private:
  using vl = int64_t __attribute__((vector_size(8 * W)));
  static constexpr int64_t ABS = 0x7fffffffffffffff;

  void exactly(vd apart, vf rounded, vf bound, Lookup& found) const {
    for (int lane = 0; lane < W; ++lane)
      if (rounded[lane] == bound[lane]) found.later[lane] = int64_t(apart[lane]) >= exact_[found.cell[lane]] ? -1 : 0;
  }

  void read_boundaries() {
    const int64_t count = bias_.buckets - 1;
    int64_t k = 0;
    for (int cell = 0; cell < CELLS; ++cell) {
      bound_[cell] = INFINITY, exact_[cell] = INT64_MAX;
      first_[cell] = int32_t(k);
      while (k < count && cell_of_boundary(bias_.boundaries[k]) == cell) {
        if (exact_[cell] != INT64_MAX && exact_[cell] != bias_.boundaries[k])
          throw std::invalid_argument("time boundaries must be at least a factor of 1.25 apart");
        exact_[cell] = bias_.boundaries[k], bound_[cell] = float(bias_.boundaries[k]);
        ++k;
      }
      before_[cell] = bias_.time[first_[cell]], after_[cell] = bias_.time[k];
    }
    if (k != count) throw std::invalid_argument("time boundaries must ascend from 1");
  }

  static int cell_of_boundary(int64_t boundary) {
    const float rounded = float(boundary);
    int32_t raw;
    std::memcpy(&raw, &rounded, 4);
    return std::max((raw >> 21) - (127 << 2), 0);
  }

  Bias bias_;
  std::vector<float> position_;
  float bound_[CELLS], before_[CELLS], after_[CELLS];
  int64_t exact_[CELLS];
  int32_t first_[CELLS];
};

}  // namespace facta::ISA
