// Vectors of W floats, in the compiler's own vector types: one source for AVX2, AVX-512, NEON and no SIMD at all.
// This file is compiled once per instruction set, each time inside its own namespace (see isa.h).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#include "isa.h"

namespace facta::ISA {

constexpr int W = FACTA_LANES;

using vf = float __attribute__((vector_size(4 * W)));
using vi = int32_t __attribute__((vector_size(4 * W)));

// The width of so many numbers in whole vectors.
inline int whole_vectors(int64_t width) { return int((width + W - 1) / W * W); }

inline vf load(const float* p) {
  vf x;
  std::memcpy(&x, p, sizeof x);
  return x;
}
inline vi load(const int32_t* p) {
  vi x;
  std::memcpy(&x, p, sizeof x);
  return x;
}
inline void store(float* p, vf x) { std::memcpy(p, &x, sizeof x); }
inline void store(int32_t* p, vi x) { std::memcpy(p, &x, sizeof x); }
// The first `count` < W numbers, padded with zeros.
inline vf load_some(const float* p, int count) {
#if defined(__AVX512F__)
  return _mm512_maskz_loadu_ps(__mmask16((1u << count) - 1), p);
#else
  float x[W] = {};
  for (int lane = 0; lane < count; ++lane) x[lane] = p[lane];
  return load(x);
#endif
}
inline void store_some(float* p, vf x, int count) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, __mmask16((1u << count) - 1), x);
#else
  for (int lane = 0; lane < count; ++lane) p[lane] = x[lane];
#endif
}
inline vf broadcast(float x) { return x - vf{}; }  // x - 0 is x, also for -0: no instruction is left of it
inline vi broadcast(int32_t x) { return vi{} + x; }
inline vi bits(vf x) { return reinterpret_cast<vi>(x); }
inline vf floats(vi x) { return reinterpret_cast<vf>(x); }
inline vf select(vi mask, vf yes, vf no) { return mask ? yes : no; }

inline vi counting() {
  vi x;
  for (int lane = 0; lane < W; ++lane) x[lane] = lane;
  return x;
}

// Always in the same order, so that sums are reproducible.
inline float sum(vf x) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps(x);
#elif defined(__AVX2__)
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_shuffle_ps(half, half, 1)));
#else
  return (x[0] + x[2]) + (x[1] + x[3]);
#endif
}

// Sums of neighbours of `a`, then of `b`: log2(W) rounds over W vectors leave one sum in each lane.
inline vf pairs(vf a, vf b) {
#if FACTA_LANES == 16
  return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30) +
         __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
#elif FACTA_LANES == 8
  return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14) +
         __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
#else
  return __builtin_shufflevector(a, b, 0, 2, 4, 6) + __builtin_shufflevector(a, b, 1, 3, 5, 7);
#endif
}

// Lane i: the sum of the lanes of vector(first + i), for COUNT <= W of them.
template <int COUNT = W, class F>
[[gnu::always_inline]] inline vf sums(const F& vector, int first = 0) {
  if constexpr (COUNT == 1)
    return vector(first);
  else
    return pairs(sums<COUNT / 2>(vector, first), sums<COUNT / 2>(vector, first + COUNT / 2));
}

// A round of `turn`: rows i and i + S swap blocks of S lanes.
template <int S, std::size_t... L>
inline void exchange(vf& a, vf& b, std::index_sequence<L...>) {
  const vf first = __builtin_shufflevector(a, b, (int(L) & S ? W + int(L) - S : int(L))...);
  b = __builtin_shufflevector(a, b, (int(L) & S ? W + int(L) : int(L) + S)...);
  a = first;
}

// Transposes a W x W square of vectors.
template <int S = 1>
[[gnu::always_inline]] inline void turn(vf* x) {
  if constexpr (S < W) {
    for (int i = 0; i < W; ++i)
      if (!(i & S)) exchange<S>(x[i], x[i + S], std::make_index_sequence<W>());
    turn<2 * S>(x);
  }
}

// The second if either is NaN.
inline vf minimum(vf a, vf b) {
#if defined(__AVX512F__)
  return _mm512_mask_min_ps(b, 0xffff, a, b);
#elif defined(__AVX2__)
  return _mm256_min_ps(a, b);
#else
  return select(a < b, a, b);
#endif
}
inline vf maximum(vf a, vf b) {
#if defined(__AVX512F__)
  return _mm512_mask_max_ps(b, 0xffff, a, b);
#elif defined(__AVX2__)
  return _mm256_max_ps(a, b);
#else
  return select(a > b, a, b);
#endif
}

// e^x within 2 ulp for -87 <= x <= 88 (Cephes' polynomial), e^-87 below and infinity above; NaN for
// NaN. Infinity, not e^88: 1e36 times a sigmoid of e^-88 would not be near 0.
[[gnu::always_inline]] inline vf exp(const vf given) {
  const vf x = minimum(maximum(given, broadcast(-87.0f)), broadcast(88.0f));  // no integer below may overflow
  const vf magic = broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to the nearest integer
  const vf shifted = x * 1.44269504088896341f + magic;
  const vf n = shifted - magic;
  const vf r = x - n * 0.693359375f + n * 2.12194440e-4f;
  vf p = broadcast(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const vi exponent = (bits(shifted) - bits(magic)) << 23;
  return select(given <= 88.0f, floats(bits(p) + exponent), given + INFINITY);
}

[[gnu::always_inline]] inline vf sigmoid(vf x) { return 1.0f / (1.0f + exp(-x)); }

inline vf gather(const float* table, vi index) {
#if defined(__AVX512F__)
  return _mm512_mask_i32gather_ps(__m512{}, 0xffff, reinterpret_cast<__m512i>(index), table, 4);
#elif defined(__AVX2__)
  return _mm256_i32gather_ps(table, reinterpret_cast<__m256i>(index), 4);
#else
  vf x;
  for (int lane = 0; lane < W; ++lane) x[lane] = table[index[lane]];
  return x;
#endif
}

inline vi gather(const int32_t* table, vi index) {
#if defined(__AVX512F__)
  const auto places = reinterpret_cast<__m512i>(index);
  return reinterpret_cast<vi>(_mm512_mask_i32gather_epi32(__m512i{}, 0xffff, places, table, 4));
#elif defined(__AVX2__)
  return reinterpret_cast<vi>(_mm256_i32gather_epi32(table, reinterpret_cast<__m256i>(index), 4));
#else
  vi x;
  for (int lane = 0; lane < W; ++lane) x[lane] = table[index[lane]];
  return x;
#endif
}

// Writes the lanes of `x` under the mask, compacted, and returns their number. A whole vector is written.
inline int compress(int32_t* to, vi x, vi mask) {
#if defined(__AVX512F__)
  const __mmask16 chosen = _mm512_movepi32_mask(reinterpret_cast<__m512i>(mask));
  store(to, reinterpret_cast<vi>(_mm512_maskz_compress_epi32(chosen, reinterpret_cast<__m512i>(x))));
  return __builtin_popcount(chosen);
#else
  int count = 0;  // without a branch, which would be mispredicted half the time
  for (int lane = 0; lane < W; ++lane) to[count] = x[lane], count -= mask[lane];
  return count;
#endif
}

inline bool any(vi mask) {
#if defined(__AVX512F__)
  return _mm512_movepi32_mask(reinterpret_cast<__m512i>(mask)) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_ps(reinterpret_cast<__m256>(mask)) != 0;
#else
  int32_t found = 0;
  for (int lane = 0; lane < W; ++lane) found |= mask[lane];
  return found != 0;
#endif
}

}  // namespace facta::ISA
