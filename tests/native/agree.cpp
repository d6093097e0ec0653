// Do the kernels of one instruction set compute what the portable ones compute? Every kernel on pseudo-random input,
// compiled without Python and without torch, so that it also runs where neither is: under an emulator (scripts/neon).
//
//   agree                 the set that it was built with (FACTA_FAST) against the portable one beside it
//   agree record FILE     write what the portable kernels computed
//   agree against FILE    compare with that in place of the portable kernels here: another processor's, say
//
// Inputs are made of integers and exact in float32, the same bits on every processor. Arrays are filled with NaN and end
// in some more, so that what is left unwritten, or written or read beyond an end, shows.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <deque>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels.h"

#define JOIN(a, b) JOIN_(a, b)
#define JOIN_(a, b) a##b

namespace {

using namespace facta;
using Longs = std::vector<int64_t>;

constexpr int THREADS = 2;
constexpr double CLOSE = 2e-5;        // of the largest value, as in tests/numerics/test_kernels.py
constexpr double HALF = 1.0 / 256;    // the same where results are stored as bfloat16
constexpr double LEAST = 0.01;        // what is all but zero is told by the size of what cancels in it
constexpr size_t GUARD = 32;          // numbers behind the end of an array

struct Draw {
  uint64_t state;
  uint64_t next() {  // splitmix64
    uint64_t z = state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  int64_t below(int64_t bound) { return int64_t((next() >> 33) % uint64_t(bound)); }
  float number() {  // about normal, 16 bits
    int64_t total = 0;
    for (int i = 0; i < 4; ++i) total += below(1 << 14) - (1 << 13);
    return float(total) / float(1 << 13);
  }
};

// Numbers as a kernel reads or writes them.
class Numbers {
 public:
  explicit Numbers(size_t count, bool half = false)
      : count_(count), half_(half), wide_(half ? 0 : count + GUARD, NAN), narrow_(half ? count + GUARD : 0, 0x7fc0) {}
  Numbers(size_t count, Draw& draw, bool half = false) : Numbers(count, half) {
    for (size_t i = 0; i < count; ++i) set(i, draw.number());
  }
  void set(size_t i, float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    if (half_) narrow_[i] = uint16_t(bits >> 16);
    else wide_[i] = x;
  }
  float operator[](size_t i) const {
    if (!half_) return wide_[i];
    const uint32_t bits = uint32_t(narrow_[i]) << 16;
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
  }
  size_t size() const { return count_; }
  bool half() const { return half_; }
  void* at(size_t i) { return half_ ? (void*)(narrow_.data() + i) : wide_.data() + i; }
  const void* at(size_t i) const { return const_cast<Numbers*>(this)->at(i); }
  float* data() { return wide_.data(); }
  const float* data() const { return wide_.data(); }
  bool guarded() const {
    for (size_t i = count_; i < count_ + GUARD; ++i)
      if (!std::isnan((*this)[i])) return false;
    return true;
  }

 private:
  size_t count_;
  bool half_;
  std::vector<float> wide_;
  std::vector<uint16_t> narrow_;
};

using Results = std::deque<Numbers>;

// One line per kernel: how far the two sets are apart, over all cases.
class Report {
 public:
  Report(const char* verb, const char* file) {
    if (!file) return;
    recording_ = !std::strcmp(verb, "record");
    if (!recording_ && std::strcmp(verb, "against")) throw std::runtime_error("agree [record FILE | against FILE]");
    file_ = std::fopen(file, recording_ ? "wb" : "rb");
    if (!file_) throw std::runtime_error(std::string("cannot open ") + file);
  }
  ~Report() {
    if (file_) std::fclose(file_);
  }

  void compare(const char* kernel, const Results& found, const Results& expected, bool exact = false) {
    for (size_t i = 0; i < found.size(); ++i) compare(kernel, found[i], expected[i], exact);
    ++line(kernel).cases;
  }

  bool print() const {
    bool good = true;
    for (const Line& one : lines_) {
      const bool agrees = one.worst <= 1 && one.guarded;
      std::printf("%-20s %3d cases  %s  %.2g of what is allowed%s\n", one.kernel.c_str(), one.cases,
                  agrees ? "agree   " : "DISAGREE", one.worst, one.guarded ? "" : ", written beyond an end");
      good &= agrees;
    }
    return good;
  }

 private:
  struct Line {
    std::string kernel;
    int cases = 0;
    double worst = 0;
    bool guarded = true;
  };

  Line& line(const char* kernel) {
    for (Line& one : lines_)
      if (one.kernel == kernel) return one;
    return lines_.emplace_back(Line{kernel});
  }

  void compare(const char* kernel, const Numbers& found, const Numbers& expected, bool exact) {
    Line& one = line(kernel);
    one.guarded &= found.guarded() && expected.guarded();
    double apart = 0, largest = LEAST;
    for (size_t i = 0; i < found.size(); ++i) {
      const float told = through_file(expected[i]), here = found[i];
      if (!(std::isfinite(told) && std::isfinite(here))) apart = INFINITY;
      if (exact && std::memcmp(&told, &here, 4)) apart = INFINITY;
      apart = std::max(apart, std::fabs(double(here) - told)), largest = std::max<double>(largest, std::fabs(told));
    }
    one.worst = std::max(one.worst, apart / largest / (found.half() ? HALF : CLOSE));
  }

  float through_file(float expected) {
    if (!file_) return expected;
    if ((recording_ ? std::fwrite(&expected, 4, 1, file_) : std::fread(&expected, 4, 1, file_)) != 1)
      throw std::runtime_error("the file of recorded results has another length");
    return expected;
  }

  std::FILE* file_ = nullptr;
  bool recording_ = false;
  std::vector<Line> lines_;
};

enum Sees { CAUSAL, TARGETS, PREFIX, ANY };

struct Shape {
  Longs lengths;
  int heads, dqk, dv;
  Sees sees = CAUSAL;
  int stride = 1;  // from one position to the next
  bool position = false, time = false, scales = false, half = false;
  double p = 0;
  Longs past = {};  // kept tokens of each row
};

// Rows of tokens with everything that attention is told of them.
class Batch {
 public:
  explicit Batch(const Shape& shape) : s(shape), row_(size_t(s.heads * (2 * s.dqk + s.dv) + 3)) {
    for (double edge = 1; edge < 1e15; edge = std::ceil(edge * 1.35)) boundaries_.push_back(int64_t(edge));
    for (size_t b = 0; b < s.lengths.size(); ++b) row(b);
    tokens = position_.size();
    z_ = Numbers(tokens * row_, draw_, s.half), d_out = Numbers(tokens * size_t(s.heads * s.dv), draw_, s.half);
    scales_ = Numbers(tokens, draw_);
    position_bias = Numbers(size_t(longest_ * s.stride + 1), draw_);
    time_bias = Numbers(boundaries_.size() + 1, draw_);
  }

  Attention told() const {
    Attention a;
    a.tokens = {int64_t(s.lengths.size()), offsets_.data(), sees_.data(), position_.data(),
                s.time ? time_.data() : nullptr, s.time ? query_time_.data() : nullptr, keys_.data(),
                s.past.empty() ? nullptr : past_.data()};
    if (s.position) a.bias.position = position_bias.data(), a.bias.distances = int64_t(position_bias.size());
    if (s.time) a.bias.time = time_bias.data();
    a.bias.boundaries = boundaries_.data(), a.bias.buckets = int64_t(boundaries_.size()) + 1;
    a.heads = s.heads, a.dqk = s.dqk, a.dv = s.dv, a.half = s.half;
    a.q = z_.at(0), a.k = z_.at(size_t(s.heads * s.dqk)), a.v = z_.at(size_t(2 * s.heads * s.dqk));
    a.q_row = a.k_row = a.v_row = int64_t(row_);
    a.scale = 1.0f / 211, a.scales = s.scales ? scales_.data() : nullptr;
    a.score_scale = 0.3f, a.p = s.p, a.salt = 9;
    return a;
  }

  const Shape s;
  size_t tokens = 0;
  Numbers d_out{0}, position_bias{0}, time_bias{0};

 private:
  void row(size_t b) {
    const int64_t kept = s.past.empty() ? 0 : s.past[b], n = kept + s.lengths[b];
    Longs times(size_t(n) + 1);
    int64_t now = 1'500'000'000'000;
    for (int64_t& time : times) time = now += gap();
    Longs& kept_time = longs_.emplace_back(times.begin(), times.begin() + kept);
    Longs& kept_position = longs_.emplace_back();
    for (int64_t i = 0; i < n; ++i) {
      if (i < kept) {
        kept_position.push_back(i * s.stride);
        continue;
      }
      position_.push_back(i * s.stride), keys_.push_back(int64_t(draw_.next()));
      time_.push_back(times[size_t(i)]), query_time_.push_back(times[size_t(i) + 1]);
      sees_.push_back(s.sees == TARGETS ? std::min(i, 2 * n / 3) : s.sees == PREFIX ? std::max(i, n / 4)
                      : s.sees == ANY ? draw_.below(n + 1) : i);
    }
    offsets_.push_back(int64_t(position_.size()));
    longest_ = std::max(longest_, n);
    const Numbers& k = kept_.emplace_back(size_t(kept * s.heads * s.dqk), draw_, s.half);
    const Numbers& v = kept_.emplace_back(size_t(kept * s.heads * s.dv), draw_, s.half);
    past_.push_back({k.at(0), v.at(0), s.time ? kept_time.data() : nullptr, kept_position.data(), kept});
  }
  // Milliseconds to decades; some are none, and some lie on a boundary of the buckets.
  int64_t gap() {
    const int64_t kind = draw_.below(5);
    if (kind == 0) return 0;
    if (kind == 1) return boundaries_[size_t(draw_.below(80))];
    return draw_.below(int64_t(1) << draw_.below(31)) << draw_.below(7);
  }

  Draw draw_{7};
  size_t row_;  // numbers of a token: q, k, v and some more
  int64_t longest_ = 0;
  Longs offsets_{0}, sees_, position_, time_, query_time_, keys_, boundaries_;
  std::deque<Longs> longs_;
  Results kept_;
  std::vector<Past> past_;
  Numbers z_{0}, scales_{0};
};

using AttentionKernel = void (*)(const Attention&, int);

Results attended(AttentionKernel kernel, const Batch& batch, bool softmax) {
  Attention a = batch.told();
  Results made;
  a.out = made.emplace_back(batch.d_out.size(), batch.s.half).at(0);
  if (softmax) a.lse = made.emplace_back(batch.tokens * size_t(batch.s.heads)).data();
  kernel(a, THREADS);
  return made;
}

Results gradients(AttentionKernel kernel, const Batch& batch, bool softmax, Results& forward) {
  Attention a = batch.told();
  if (softmax) a.out = forward[0].at(0), a.lse = forward[1].data();
  a.d_out = batch.d_out.at(0);
  Results made;
  const size_t keys = batch.tokens * size_t(batch.s.heads * batch.s.dqk);
  a.d_q = made.emplace_back(keys, batch.s.half).at(0), a.d_k = made.emplace_back(keys, batch.s.half).at(0);
  a.d_v = made.emplace_back(batch.d_out.size(), batch.s.half).at(0);
  if (batch.s.position) a.d_position = made.emplace_back(batch.position_bias.size()).data();
  if (batch.s.time) a.d_time = made.emplace_back(batch.time_bias.size()).data();
  kernel(a, THREADS);
  return made;
}

void pointwise(const Kernels& fast, const Kernels& portable, const Batch& batch, Report& report) {
  report.compare("attention", attended(fast.attention, batch, false), attended(portable.attention, batch, false));
  if (!batch.s.past.empty()) return;  // for inference
  Results none;
  report.compare("attention_backward", gradients(fast.attention_backward, batch, false, none),
                 gradients(portable.attention_backward, batch, false, none));
}

void softmax(const Kernels& fast, const Kernels& portable, const Batch& batch, Report& report) {
  Results out = attended(portable.softmax, batch, true);
  report.compare("softmax", attended(fast.softmax, batch, true), out);
  if (!batch.s.past.empty()) return;
  report.compare("softmax_backward", gradients(fast.softmax_backward, batch, true, out),
                 gradients(portable.softmax_backward, batch, true, out));
}

void attention(const Kernels& fast, const Kernels& portable, Report& report) {
  const Shape shapes[] = {
      {{60, 0, 1, 130}, 2, 5, 7},
      {{60, 0, 1, 130}, 2, 5, 7, CAUSAL, 1, true, false, true},
      {{60, 0, 1, 130}, 2, 8, 16, TARGETS, 3, true, true},
      {{300, 33}, 1, 1, 1, PREFIX, 1, false, true, true},
      {{70, 129, 2}, 3, 33, 40, ANY, 3, true, true, true},
      {{0, 0}, 1, 4, 4, CAUSAL, 1, true, true},
      {{2100, 20}, 1, 8, 8, CAUSAL, 1, true, true},  // gradients of a long row are shared by threads
      {{150, 1, 40}, 2, 24, 23, CAUSAL, 1, true, true, false, true},
      {{40, 0, 9, 30}, 2, 8, 7, CAUSAL, 1, true, true, false, false, 0, {300, 5, 0, 17}},
      {{40, 0, 9, 30}, 2, 8, 7, TARGETS, 3, true, true, true, true, 0, {130, 5, 0, 17}},
  };
  for (const Shape& shape : shapes) {
    const Batch batch(shape);
    pointwise(fast, portable, batch, report);
    for (const double p : {0.0, 0.3}) {
      Shape plain = shape;
      plain.position = plain.time = plain.scales = false, plain.p = p;
      softmax(fast, portable, Batch(plain), report);
    }
  }
}

// What a target was compared with and how it came out; the rows drawn are told as numbers, all below 2^24.
struct Lost {
  std::vector<int32_t> rows;
  Results results;  // slopes, losses, gradients, rows
};

Lost lost(const Kernels& set, Sampled s, const Numbers& table) {
  const size_t pairs = size_t(s.targets * (1 + s.negatives));
  Lost made{std::vector<int32_t>(pairs), {}};
  s.table = table.data(), s.rows = made.rows.data();
  s.slopes = made.results.emplace_back(pairs).data();
  s.losses = made.results.emplace_back(size_t(s.targets)).data();
  s.d_queries = made.results.emplace_back(size_t(s.targets * s.width)).data();
  set.sampled_loss(s, THREADS);
  Numbers& rows = made.results.emplace_back(pairs);
  for (size_t i = 0; i < pairs; ++i) rows.set(i, float(made.rows[i]));
  return made;
}

Results of_items(const Kernels& set, const Sampled& s, const Numbers& table, const Lost& by) {
  Results made;
  Numbers& gradient = made.emplace_back(table.size());
  set.sampled_items({s.targets, s.width, s.items, 1 + s.negatives, s.queries, table.data(), by.rows.data(),
                     by.results[0].data(), s.cosine, s.eps, gradient.data()}, THREADS);
  return made;
}

void sampled(const Kernels& fast, const Kernels& portable, Report& report) {
  const int64_t shapes[][4] = {{60, 1, 2, 1}, {39, 39, 39, 38}, {200, 64, 5000, 50}, {77, 129, 90, 7}, {5, 16, 40, 16}};
  for (const auto& [targets, width, items, negatives] : shapes)
    for (int kind = 0; kind < 4; ++kind) {
      Draw draw{uint64_t(width)};
      const Numbers queries(size_t(targets * width), draw);
      Numbers table(size_t(items * width), draw), weight(size_t(targets), draw);
      for (int64_t d = 0; d < width; ++d) table.set(size_t(d), 0);  // an item vector without a length
      for (size_t t = 0; t < weight.size(); ++t) weight.set(t, std::fabs(weight[t]));
      Longs positive, keys;
      for (int64_t t = 0; t < targets; ++t) positive.push_back(draw.below(items)), keys.push_back(int64_t(draw.next()));
      Sampled s;
      s.targets = targets, s.width = width, s.items = items, s.negatives = negatives;
      s.queries = queries.data(), s.positive = positive.data(), s.keys = keys.data(), s.weight = weight.data();
      s.cosine = kind & 1, s.binary = kind & 2, s.beta = kind == 3 ? 0.25f : 1.0f;
      const Lost given = lost(portable, s, table);
      report.compare("sampled_loss", lost(fast, s, table).results, given.results);
      report.compare("sampled_items", of_items(fast, s, table, given), of_items(portable, s, table, given));
    }
}

Results dropped(const Kernels& set, const Dropout& given) {
  Results made;
  Dropout a = given;
  a.out = made.emplace_back(size_t(a.tokens * a.width)).data();
  set.dropout(a, THREADS);
  return made;
}

Results gated(const Kernels& set, const Gate& given, bool backward) {
  Results made;
  Gate a = given;
  const size_t count = size_t(a.tokens * a.width);
  if (backward) {
    a.d_o = made.emplace_back(count).data(), a.d_u = made.emplace_back(count).data();
    set.gate_backward(a, THREADS);
  } else {
    a.y = made.emplace_back(count).data();
    set.gate(a, THREADS);
  }
  return made;
}

void gates(const Kernels& fast, const Kernels& portable, Report& report) {
  for (const int64_t width : {1, 3, 16, 50, 129})
    for (const double p : {0.0, 0.3}) {
      Draw draw{uint64_t(width)};
      const int64_t tokens = 200;
      const size_t count = size_t(tokens * width);
      const Numbers o(count, draw), u(3 * count, draw), d(count, draw);
      Longs keys;
      for (int64_t t = 0; t < tokens; ++t) keys.push_back(int64_t(draw.next()));
      const Dropout x{tokens, width, o.data(), keys.data(), p, 5, nullptr};
      report.compare("dropout", dropped(fast, x), dropped(portable, x), true);
      Gate g;
      g.tokens = tokens, g.width = width, g.o = o.data(), g.u = u.data() + width, g.u_row = 3 * width;
      g.keys = keys.data(), g.p = p, g.salt = 5, g.eps = 1e-6f, g.d_y = d.data();
      report.compare("gate", gated(fast, g, false), gated(portable, g, false));
      report.compare("gate_backward", gated(fast, g, true), gated(portable, g, true));
    }
}

Results activated(const Kernels& set, const Numbers& z) {
  Results made;
  set.silu({int64_t(z.size()), z.data(), made.emplace_back(z.size()).data()}, THREADS);
  return made;
}

void silus(const Kernels& fast, const Kernels& portable, Report& report) {
  for (const size_t count : {0, 1, 15, 231, 3200}) {
    Draw draw{count};
    const Numbers z(count, draw);
    report.compare("silu", activated(fast, z), activated(portable, z));
  }
}

Results projected(const Kernels& set, const Project& given, bool backward) {
  Results made;
  Project a = given;
  if (backward) {
    a.d_x = made.emplace_back(size_t(a.tokens * a.width)).data();
    a.d_weight = made.emplace_back(size_t(a.width * a.columns)).data();
    set.project_backward(a, THREADS);
  } else {
    a.z = made.emplace_back(size_t(a.tokens * a.columns)).data();
    a.act = made.emplace_back(size_t(a.tokens * a.columns)).data();
    set.project(a, THREADS);
  }
  return made;
}

Results combined(const Kernels& set, const Output& given, bool backward) {
  Results made;
  Output a = given;
  if (backward) {
    a.gate.d_o = made.emplace_back(size_t(a.gate.tokens * a.gate.width)).data();
    a.gate.d_u = made.emplace_back(size_t(a.gate.tokens * a.gate.width)).data();
    a.d_weight = made.emplace_back(size_t(a.width * a.gate.width)).data();
    a.d_bias = made.emplace_back(size_t(a.width)).data();
    set.output_backward(a, THREADS);
  } else {
    a.y = made.emplace_back(size_t(a.gate.tokens * a.width)).data();
    set.output(a, THREADS);
  }
  return made;
}

// Both halves of a layer: [tokens, width], and `channels` of each of u, v, q and k (of k one more).
void layers(const Kernels& fast, const Kernels& portable, Report& report) {
  const int64_t shapes[][3] = {{0, 4, 4}, {1, 1, 1}, {100, 12, 7}, {211, 64, 32}, {211, 70, 90}};
  for (const auto& [tokens, width, channels] : shapes) {
    Draw draw{uint64_t(width)};
    const int64_t columns = 4 * channels + 1;
    const Numbers x(size_t(tokens * width), draw), d_y(size_t(tokens * width), draw), bias(size_t(width), draw);
    const Numbers z(size_t(tokens * columns), draw), o(size_t(tokens * channels), draw);
    const Numbers first(size_t(width * columns), draw), second(size_t(width * channels), draw);
    Results parts;
    Longs keys;
    for (int64_t t = 0; t < tokens; ++t) keys.push_back(int64_t(draw.next()));
    Project p;
    p.tokens = tokens, p.width = width, p.columns = columns, p.x = x.data(), p.weight = first.data(), p.eps = 1e-6f;
    report.compare("project", projected(fast, p, false), projected(portable, p, false));
    p.z = const_cast<float*>(z.data()), p.d_y = d_y.data();
    for (int i = 0; i < Project::PARTS; ++i) {
      p.widths[i] = channels + (i == Project::PARTS - 1);
      p.d_part[i] = parts.emplace_back(size_t(tokens * p.widths[i]), draw).data();
    }
    report.compare("project_backward", projected(fast, p, true), projected(portable, p, true));
    Output q;
    q.gate.tokens = tokens, q.gate.width = channels, q.gate.o = o.data(), q.gate.u = z.data(), q.gate.u_row = columns;
    q.gate.keys = keys.data(), q.gate.p = 0.3, q.gate.salt = 5, q.gate.eps = 1e-6f;
    q.width = width, q.weight = second.data(), q.bias = bias.data(), q.x = x.data(), q.d_y = d_y.data();
    report.compare("output", combined(fast, q, false), combined(portable, q, false));
    report.compare("output_backward", combined(fast, q, true), combined(portable, q, true));
  }
}

}  // namespace

int main(int count, char** words) try {
  Report report(count > 1 ? words[1] : "", count > 2 ? words[2] : nullptr);
  const Kernels &fast = *JOIN(FACTA_FAST, _kernels)(), &portable = *portable_kernels();
  attention(fast, portable, report);
  sampled(fast, portable, report);
  gates(fast, portable, report);
  silus(fast, portable, report);
  layers(fast, portable, report);
  return report.print() ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "agree: %s\n", error.what());
  return 2;
}
