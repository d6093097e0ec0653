// Stored numbers, float32 or bfloat16; all sums are float32.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace facta::ISA {

struct bfloat16 {
  uint16_t high;
};

inline float number(float x) { return x; }
inline float number(bfloat16 x) {
  const uint32_t wide = uint32_t(x.high) << 16;
  float y;
  std::memcpy(&y, &wide, 4);
  return y;
}

template <class S>
S stored(float x);
template <>
inline float stored<float>(float x) {
  return x;
}
template <>
inline bfloat16 stored<bfloat16>(float x) {  // to the nearest, ties to even, as torch rounds
  uint32_t wide;
  std::memcpy(&wide, &x, 4);
  if (x != x) return {uint16_t(0x7fc0)};
  return {uint16_t((wide + 0x7fff + ((wide >> 16) & 1)) >> 16)};
}

// to[count, width] <- from, columns after `used` become 0.
template <class S>
void copied(const S* from, int64_t from_row, int count, int used, float* to, int64_t to_row, int width) {
  for (int i = 0; i < count; ++i) {
    for (int d = 0; d < used; ++d) to[i * to_row + d] = number(from[i * from_row + d]);
    for (int d = used; d < width; ++d) to[i * to_row + d] = 0;
  }
}

// to[used, padded] <- scale · fromᵀ, columns after `count` become 0.
template <class S>
void transposed(const S* from, int64_t from_row, int count, int used, float* to, int64_t to_row, int padded,
                float scale) {
  for (int i = 0; i < count; ++i)
    for (int d = 0; d < used; ++d) to[d * to_row + i] = scale * number(from[i * from_row + d]);
  for (int i = count; i < padded; ++i)
    for (int d = 0; d < used; ++d) to[d * to_row + i] = 0;
}

}  // namespace facta::ISA
