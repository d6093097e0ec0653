// Small matrix products on tiles in cache.
#pragma once

#include "simd.h"

namespace facta::ISA {

#if FACTA_LANES == 16  // 32 registers: 24 sums, the rest for operands
constexpr int PANEL = 4;
constexpr int rows_at_once(int vectors) { return vectors == 4 ? 6 : vectors == 3 ? 8 : 12; }
#elif FACTA_ISA == FACTA_NEON
constexpr int PANEL = 4;
constexpr int rows_at_once(int vectors) { return vectors == 4 ? 6 : vectors == 3 ? 8 : 12; }
#else  // 16 registers
constexpr int PANEL = 2;
constexpr int rows_at_once(int vectors) { return vectors == 2 ? 6 : 8; }
#endif

// A matrix in memory; element (i, k) is p[i * row + k * column].
struct Left {
  const float* p;
  int64_t row, column;
};

// c[ROWS, VECTORS·W] (+)= a[ROWS, depth] · b[depth, VECTORS·W]
template <int ROWS, int VECTORS>
[[gnu::noinline]] void tile_product(Left a, const float* b, int64_t b_row, float* c, int64_t c_row, int depth,
                                    bool add) {
  vf total[ROWS][VECTORS];
  for (int i = 0; i < ROWS; ++i)
    for (int v = 0; v < VECTORS; ++v) total[i][v] = add ? load(c + i * c_row + v * W) : vf{};
  for (int k = 0; k < depth; ++k) {
    vf right[VECTORS];
    for (int v = 0; v < VECTORS; ++v) right[v] = load(b + k * b_row + v * W);
    for (int i = 0; i < ROWS; ++i) {
      const vf left = broadcast(a.p[i * a.row + k * a.column]);
      for (int v = 0; v < VECTORS; ++v) total[i][v] += left * right[v];
    }
  }
  for (int i = 0; i < ROWS; ++i)
    for (int v = 0; v < VECTORS; ++v) store(c + i * c_row + v * W, total[i][v]);
}

template <int ROWS, int VECTORS>
inline void few_rows(int rows, Left a, const float* b, int64_t b_row, float* c, int64_t c_row, int depth, bool add) {
  if (rows == ROWS)
    tile_product<ROWS, VECTORS>(a, b, b_row, c, c_row, depth, add);
  else if constexpr (ROWS > 1)
    few_rows<ROWS - 1, VECTORS>(rows, a, b, b_row, c, c_row, depth, add);
}

template <int VECTORS>
inline void panel_product(int rows, Left a, const float* b, int64_t b_row, float* c, int64_t c_row, int depth,
                          bool add) {
  constexpr int STEP = rows_at_once(VECTORS);
  int i = 0;
  for (; i + STEP <= rows; i += STEP)
    tile_product<STEP, VECTORS>({a.p + i * a.row, a.row, a.column}, b, b_row, c + i * c_row, c_row, depth, add);
  if (i < rows)
    few_rows<STEP - 1, VECTORS>(rows - i, {a.p + i * a.row, a.row, a.column}, b, b_row, c + i * c_row, c_row, depth,
                                add);
}

// c[rows, width] (+)= a[rows, depth] · b[depth, width]; width is a multiple of W.
inline void product(int rows, int width, int depth, Left a, const float* b, int64_t b_row, float* c, int64_t c_row,
                    bool add) {
  int column = 0;
  for (; column + PANEL * W <= width; column += PANEL * W)
    panel_product<PANEL>(rows, a, b + column, b_row, c + column, c_row, depth, add);
  switch ((width - column) / W) {
    case 3: panel_product<(PANEL > 3 ? 3 : 1)>(rows, a, b + column, b_row, c + column, c_row, depth, add); break;
    case 2: panel_product<(PANEL > 2 ? 2 : 1)>(rows, a, b + column, b_row, c + column, c_row, depth, add); break;
    case 1: panel_product<1>(rows, a, b + column, b_row, c + column, c_row, depth, add); break;
    default: break;
  }
}

}  // namespace facta::ISA
