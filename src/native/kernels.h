// Arguments of the kernels: plain pointers, one struct per kernel, the same for every instruction set.
//
// Letters: B rows, T tokens of all rows, H heads, n tokens of a row with its past.
#pragma once

#include <cstdint>

namespace facta {

// Cached keys and values of a row, before its tokens; n = 0: none.
struct Past {
  const void *k = nullptr, *v = nullptr;  // [n, H, dqk] and [n, H, dv], contiguous
  const int64_t *time = nullptr, *position = nullptr;
  int64_t n = 0;
};

struct Tokens {
  int64_t rows = 0;                // B
  const int64_t* offsets = nullptr;  // [B+1]
  const int64_t* sees = nullptr;     // [T] leading tokens of its row (past included) that a token sees, and itself
  const int64_t* position = nullptr;
  const int64_t* time = nullptr;        // null: no time bias
  const int64_t* query_time = nullptr;  // null: no time bias
  const int64_t* keys = nullptr;        // of random draws; null: no dropout
  const Past* past = nullptr;           // [B]; null: none
};

struct Bias {
  const float* position = nullptr;  // by distance, the longest last; null: none
  int64_t distances = 0;
  const float* time = nullptr;  // by bucket; null: none
  const int64_t* boundaries = nullptr;  // [buckets-1] milliseconds, ascending
  int64_t buckets = 0;
};

struct Attention {
  Tokens tokens;
  Bias bias;
  int64_t heads = 0, dqk = 0, dv = 0;
  bool half = false;  // q, k, v and out are bfloat16
  const void *q = nullptr, *k = nullptr, *v = nullptr;
  int64_t q_row = 0, k_row = 0, v_row = 0;  // elements from one token to the next
  float scale = 1;                // pointwise: factor of the output
  const float* scales = nullptr;  // [T], in place of scale
  float score_scale = 1;          // softmax: factor of the scores
  float* lse = nullptr;           // softmax: [T, H] log of the sum of all exponentials, stored for the backward
  double p = 0;                   // softmax: dropout of the weights
  uint64_t salt = 0;
  void* out = nullptr;            // [T, H, dv], contiguous; the backward of softmax reads it

  // Backward only.
  const void* d_out = nullptr;                            // [T, H, dv], contiguous
  void *d_q = nullptr, *d_k = nullptr, *d_v = nullptr;    // contiguous
  float *d_position = nullptr, *d_time = nullptr;         // like the tables
};

// Losses of targets against negatives drawn from their keys, with gradients of Σ weight · loss in the queries.
struct Sampled {
  int64_t targets = 0, width = 0, items = 0, negatives = 0;
  const float *queries = nullptr, *table = nullptr;  // [targets, width], [items, width]
  const int64_t *positive = nullptr, *keys = nullptr;  // [targets]
  const float* weight = nullptr;                       // [targets]
  bool cosine = false;  // item vectors are divided by max(length, eps)
  float eps = 1e-6f;
  bool binary = false;  // (generalised) binary cross-entropy instead of softmax
  float beta = 1;       // of the positive's term
  int32_t* rows = nullptr;   // [targets, 1 + negatives] the positive and its negatives
  float* slopes = nullptr;   // the same shape: weight · d loss / d logit
  float* losses = nullptr;   // [targets]
  float* d_queries = nullptr;  // null: not needed
};

// The gradient in the item vectors: of the whole table, or of the used rows.
struct SampledItems {
  int64_t targets = 0, width = 0, items = 0, pairs = 0;  // pairs: 1 + negatives
  const float *queries = nullptr, *vectors = nullptr;    // [targets, width], [items, width]
  const int32_t* rows = nullptr;                         // [targets, pairs] into the vectors
  const float* slopes = nullptr;                         // [targets, pairs]
  bool cosine = false;
  float eps = 1e-6f;
  float* d_vectors = nullptr;  // [items, width]
};

// Gradients of a mixture of logits; kernels add to them.
struct MolGradients {
  float* items = nullptr;                              // [rows, B·d + G]
  float *inner = nullptr, *inner_bias = nullptr;       // [H, G] and [H]
  float *outer = nullptr, *outer_bias = nullptr;       // [G, H] and [G]
};

// Scores of pairs by a mixture of logits: A x B components of width d (a multiple of the vector's), G = A·B.
struct Mol {
  int64_t targets = 0, rows = 0, pairs = 0;  // pairs of each target
  int64_t query_components = 0, item_components = 0, width = 0, hidden = 0;  // A, B, d, H
  const float *queries = nullptr, *items = nullptr;  // [targets, A·d + G], [rows, B·d + G]
  const int64_t* index = nullptr;                    // [targets, pairs] into the items; null: pair i is item i
  const float *inner = nullptr, *inner_bias = nullptr;  // [H, G], [H]
  const float *outer = nullptr, *outer_bias = nullptr;  // [G, H], [G]
  float scale = 1;                                   // 1 / temperature
  const int64_t* keys = nullptr;                     // [targets, pairs]; null: no dropout
  double p = 0;
  uint64_t salt = 0;
  float* scores = nullptr;  // [targets, pairs]
  const float* d_scores = nullptr;  // backward only
  float* d_queries = nullptr;
  MolGradients d;
};

struct Dropout {
  int64_t tokens = 0, width = 0;
  const float* x = nullptr;
  const int64_t* keys = nullptr;
  double p = 0;
  uint64_t salt = 0;
  float* out = nullptr;
};

// y = dropout(u ⊙ LN(o)) and its gradients.
struct Gate {
  int64_t tokens = 0, width = 0;
  const float *o = nullptr, *u = nullptr;  // [tokens, width]
  int64_t u_row = 0;                       // elements from one token to the next
  const int64_t* keys = nullptr;
  double p = 0;
  uint64_t salt = 0;
  float eps = 0;
  float* y = nullptr;
  const float* d_y = nullptr;  // backward only
  float *d_o = nullptr, *d_u = nullptr;
};

struct Silu {
  int64_t count = 0;
  const float* z = nullptr;
  float* out = nullptr;
};

// z = LN(x) W and SiLU(z), the first half of a layer. In the backward u, v, q and k, the parts of z, have a gradient
// each, and d_x starts from d_y.
struct Project {
  static constexpr int PARTS = 4;
  int64_t tokens = 0, width = 0, columns = 0;
  const float *x = nullptr, *weight = nullptr;  // [tokens, width], [width, columns]
  float eps = 0;
  float *z = nullptr, *act = nullptr;  // [tokens, columns]
  const float* d_part[PARTS] = {};     // backward only: [tokens, widths[i]]
  int64_t widths[PARTS] = {};
  const float* d_y = nullptr;
  float *d_x = nullptr, *d_weight = nullptr;
};

// y = dropout(u ⊙ LN(o)) Vᵀ + b + x, the second half; its backward returns no d_x, which equals d_y.
struct Output {
  Gate gate;          // the part before the product, without its y and d_y
  int64_t width = 0;  // of x and y
  const float *weight = nullptr, *bias = nullptr, *x = nullptr;  // [width, gate.width], [width], [tokens, width]
  float* y = nullptr;
  const float* d_y = nullptr;  // backward only
  float *d_weight = nullptr, *d_bias = nullptr;
};

struct Kernels {
  const char* name;
  void (*attention)(const Attention&, int threads);
  void (*attention_backward)(const Attention&, int threads);
  void (*softmax)(const Attention&, int threads);
  void (*softmax_backward)(const Attention&, int threads);
  void (*sampled_loss)(const Sampled&, int threads);
  void (*sampled_items)(const SampledItems&, int threads);
  void (*mol)(const Mol&, int threads);
  void (*mol_backward)(const Mol&, int threads);
  void (*dropout)(const Dropout&, int threads);
  void (*gate)(const Gate&, int threads);
  void (*gate_backward)(const Gate&, int threads);
  void (*silu)(const Silu&, int threads);
  void (*project)(const Project&, int threads);
  void (*project_backward)(const Project&, int threads);
  void (*output)(const Output&, int threads);
  void (*output_backward)(const Output&, int threads);
};

// Null if this build has no such kernels.
const Kernels* portable_kernels();
const Kernels* avx2_kernels();
const Kernels* avx512_kernels();
const Kernels* neon_kernels();

}  // namespace facta
