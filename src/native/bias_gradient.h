// Gradients of the bias tables.
#pragma once

#include <algorithm>
#include <vector>

#include "bias.h"

namespace facta::ISA {

// Gradients of the bias tables from one task, in doubles: a bucket may sum millions of terms.
struct BiasGradient {
  std::vector<double> position, time;
  std::vector<float> near, lanes;  // of one block of queries: by distance; by bucket and lane

  // `span`: above all distances of the row, so that a short row needs no long table.
  BiasGradient(const BiasTable& table, int64_t span)
      : position(table.placed() ? std::min(span, table.distances()) : 0), time(table.timed() ? table.buckets() : 0),
        near(position.empty() ? 0 : position.size() + W), lanes(time.size() * W) {}

  // `buckets` of the vector's queries; arbitrary without a time bias.
  void add(const QuerySide& side, int i, int32_t key_position, const int32_t* buckets, vf terms) {
    if (!position.empty()) add_position(side, i, key_position, terms);
    if (!time.empty()) add_time(load(buckets), terms);
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
  void add_time(const vi bucket, vf terms) {
    if (!any(bucket != broadcast(int32_t(bucket[0])))) {
      float* p = lanes.data() + bucket[0] * W;
      store(p, load(p) + terms);
      return;
    }
    for (int lane = 0; lane < W; ++lane) lanes[bucket[lane] * W + lane] += terms[lane];
  }
};

}  // namespace facta::ISA
