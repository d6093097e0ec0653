// The instruction set of this translation unit; the build passes FACTA_ISA.
#pragma once

#define FACTA_PORTABLE 0
#define FACTA_AVX2 1
#define FACTA_AVX512 2
#define FACTA_NEON 3

#ifndef FACTA_ISA
#define FACTA_ISA FACTA_PORTABLE
#endif

#if FACTA_ISA == FACTA_AVX512
#include <immintrin.h>
#define ISA avx512
#define FACTA_LANES 16
#elif FACTA_ISA == FACTA_AVX2
#include <immintrin.h>
#define ISA avx2
#define FACTA_LANES 8
#elif FACTA_ISA == FACTA_NEON
#define ISA neon
#define FACTA_LANES 4
#else
#define ISA portable
#define FACTA_LANES 4
#endif
