// Gradients of the bias tables.
#pragma once

#include <algorithm>
#include <vector>

#include "bias.h"

namespace facta::ISA {

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

}  // namespace facta::ISA
