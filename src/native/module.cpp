// The Python module `facta.ops._native`: tensors in, pointers to the kernels.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <initializer_list>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "kernels.h"

namespace nb = nanobind;
using nb::device::cpu;

namespace {

using facta::Attention;
using facta::Kernels;

using Stored = nb::ndarray<cpu>;  // float32 or bfloat16
using Floats = nb::ndarray<float, cpu, nb::c_contig>;
using Longs = nb::ndarray<int64_t, cpu, nb::c_contig>;
template <class T>
using Maybe = std::optional<T>;

// The kernels of this build that this processor supports, fastest first.
std::vector<const Kernels*> usable() {
  std::vector<const Kernels*> found;
#ifdef FACTA_HAS_AVX512
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl"))
    found.push_back(facta::avx512_kernels());
#endif
#ifdef FACTA_HAS_AVX2
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(facta::avx2_kernels());
#endif
#ifdef FACTA_HAS_NEON
  found.push_back(facta::neon_kernels());
#endif
  found.push_back(facta::portable_kernels());
  return found;
}

const Kernels& named(const std::string& name) {
  for (const Kernels* one : usable())
    if (name == one->name) return *one;
  throw std::invalid_argument("there are no kernels '" + name + "'");
}

template <class T>
auto pointer(const Maybe<T>& array) {
  return array ? array->data() : nullptr;
}

// Checks shapes: a wrong one would read beyond an array.
void agree(bool shapes, const char* expected) {
  if (!shapes) throw std::invalid_argument(std::string("shape mismatch: ") + expected);
}

// Whether all numbers are from 0 to bound - 1.
template <class T>
bool within(const T* numbers, size_t count, int64_t bound) {
  using Unsigned = std::make_unsigned_t<T>;
  bool inside = true;  // without a branch in the loop, so that it is vectorised
  for (size_t i = 0; i < count; ++i) inside &= Unsigned(numbers[i]) < Unsigned(bound);
  return inside;
}

// float32 or bfloat16, the only stored types.
nb::dlpack::dtype stored(const Stored& x) {
  const auto type = x.dtype();
  const bool bfloat16 = type.code == uint8_t(nb::dlpack::dtype_code::Bfloat) && type.bits == 16;
  if (!bfloat16 && type != nb::dtype<float>())
    throw std::invalid_argument("type mismatch: tensors must be float32 or bfloat16");
  return type;
}

void same_type(const Stored& x, std::initializer_list<const Stored*> others) {
  for (const Stored* other : others)
    if (other->dtype() != x.dtype()) throw std::invalid_argument("type mismatch: all tensors must have the type of q");
}

void read_tokens(Attention& a, const Stored& q, const Stored& k, const Stored& v, const Longs& offsets,
                 const Longs& sees, const Longs& position) {
  const size_t count = q.shape(0);
  agree(q.ndim() == 3 && k.ndim() == 3 && v.ndim() == 3, "q, k and v must be [T, H, d]");
  a.half = stored(q).code == uint8_t(nb::dlpack::dtype_code::Bfloat);
  same_type(q, {&k, &v});
  agree(k.shape(0) == count && v.shape(0) == count && sees.shape(0) == count && position.shape(0) == count,
        "k, v, sees and position must have T tokens as q");
  agree(k.shape(1) == q.shape(1) && v.shape(1) == q.shape(1) && k.shape(2) == q.shape(2),
        "k and v must have the heads of q, and k its width");
  agree(offsets.shape(0) >= 1 && offsets.data()[0] == 0 && offsets.data()[offsets.shape(0) - 1] == int64_t(count),
        "offsets must be [B+1], from 0 to T");
  bool ascending = true;
  for (size_t b = 1; b < offsets.shape(0); ++b) ascending &= offsets.data()[b - 1] <= offsets.data()[b];
  agree(ascending, "offsets must ascend");
  a.tokens.rows = int64_t(offsets.shape(0)) - 1;
  a.tokens.offsets = offsets.data(), a.tokens.sees = sees.data(), a.tokens.position = position.data();
  a.heads = int64_t(q.shape(1)), a.dqk = int64_t(q.shape(2)), a.dv = int64_t(v.shape(2));
  a.q = q.data(), a.k = k.data(), a.v = v.data();
  a.q_row = q.stride(0), a.k_row = k.stride(0), a.v_row = v.stride(0);
}

// [B, 5]: addresses of cached keys, values, positions and times, and the number of tokens. The caller has checked the
// arrays behind the addresses.
std::vector<facta::Past> kept_rows(const Attention& a, const Longs& addresses) {
  std::vector<facta::Past> rows;
  if (!addresses.size()) return rows;
  agree(addresses.ndim() == 2 && int64_t(addresses.shape(0)) == a.tokens.rows && addresses.shape(1) == 5,
        "past must be [B, 5] addresses");
  for (int64_t b = 0; b < a.tokens.rows; ++b) {
    const int64_t* row = addresses.data() + 5 * b;
    const auto* position = reinterpret_cast<const int64_t*>(row[2]);
    const auto* time = reinterpret_cast<const int64_t*>(row[3]);
    const int64_t n = row[4];
    agree(n == 0 || (n > 0 && row[0] && row[1] && row[2]), "past must have the addresses of its tokens");
    agree(!a.bias.position || within(position, size_t(n), a.bias.distances),
          "past positions must be within the position table");
    agree(!a.bias.time || time || !n, "past times must be [n] int64");
    rows.push_back({reinterpret_cast<const void*>(row[0]), reinterpret_cast<const void*>(row[1]), time, position, n});
  }
  return rows;
}

Attention read_attention(const Stored& q, const Stored& k, const Stored& v, const Longs& offsets, const Longs& sees,
                    const Longs& position, const Maybe<Longs>& time, const Maybe<Longs>& query_time,
                    const Maybe<Floats>& position_bias, const Maybe<Floats>& time_bias, const Longs& boundaries,
                    float scale, const Maybe<Floats>& scales) {
  Attention a;
  read_tokens(a, q, k, v, offsets, sees, position);
  const size_t count = q.shape(0);
  agree(!time || time->shape(0) == count, "time must be [T]");
  agree(!query_time || query_time->shape(0) == count, "query_time must be [T]");
  agree(!time_bias || (time && query_time), "a time table needs time and query_time");
  agree(!scales || scales->shape(0) == count, "scales must be [T]");
  a.tokens.time = pointer(time), a.tokens.query_time = pointer(query_time);
  if (position_bias) a.bias.position = position_bias->data(), a.bias.distances = int64_t(position_bias->shape(0));
  if (time_bias) a.bias.time = time_bias->data();
  agree(!time_bias || time_bias->shape(0) == boundaries.shape(0) + 1,
        "the time table must have one entry more than boundaries");
  if (position_bias)
    agree(within(position.data(), position.shape(0), a.bias.distances), "positions must be within the position table");
  a.bias.boundaries = boundaries.data(), a.bias.buckets = int64_t(boundaries.shape(0)) + 1;
  a.scale = scale, a.scales = pointer(scales);
  return a;
}

Attention softmax_of(const Stored& q, const Stored& k, const Stored& v, const Longs& offsets, const Longs& sees,
                     const Longs& position, const Longs& keys, float scale, double p, int64_t salt, const Stored& out,
                     const Floats& lse) {
  Attention a;
  read_tokens(a, q, k, v, offsets, sees, position);
  agree(keys.shape(0) == q.shape(0) && lse.size() == q.shape(0) * q.shape(1), "keys must be [T] and lse [T, H]");
  agree(out.size() == q.shape(0) * v.shape(1) * v.shape(2), "out must be [T, H, dv]");
  same_type(q, {&out});
  a.tokens.keys = keys.data(), a.score_scale = scale, a.p = p, a.salt = uint64_t(salt);
  a.out = out.data(), a.lse = lse.data();
  return a;
}

facta::Gate gated(const Floats& o, const Stored& u, const Longs& keys, double p, int64_t salt, float eps) {
  agree(o.ndim() == 2 && u.ndim() == 2 && u.shape(1) == o.shape(1) && keys.shape(0) == o.shape(0),
        "all tensors must have the same tokens");
  agree(u.shape(0) == o.shape(0) && u.stride(1) == 1, "all tensors must have the same tokens");
  if (u.dtype() != nb::dtype<float>()) throw std::invalid_argument("type mismatch: u must be float32");
  facta::Gate a;
  a.tokens = int64_t(o.shape(0)), a.width = int64_t(o.shape(1)), a.o = o.data(), a.u = (const float*)u.data();
  a.u_row = u.stride(0), a.keys = keys.data(), a.p = p, a.salt = uint64_t(salt), a.eps = eps;
  return a;
}

facta::Project projected(const Floats& x, const Floats& weight, float eps) {
  agree(x.ndim() == 2 && weight.ndim() == 2 && weight.shape(0) == x.shape(1), "widths must agree");
  facta::Project a;
  a.tokens = int64_t(x.shape(0)), a.width = int64_t(x.shape(1)), a.columns = int64_t(weight.shape(1));
  a.x = x.data(), a.weight = weight.data(), a.eps = eps;
  return a;
}

facta::Output combined(const Floats& o, const Stored& u, const Longs& keys, double p, int64_t salt, float eps,
                       const Floats& weight) {
  agree(weight.ndim() == 2 && weight.shape(1) == o.shape(1), "widths must agree");
  facta::Output a;
  a.gate = gated(o, u, keys, p, salt, eps), a.width = int64_t(weight.shape(0)), a.weight = weight.data();
  return a;
}

facta::Mol mixed(const Floats& queries, const Floats& items, const Maybe<Longs>& index, const std::vector<Floats>& gate,
                 int64_t query_components, int64_t item_components, float scale, const Maybe<Longs>& keys, double p,
                 int64_t salt) {
  facta::Mol m;
  agree(queries.ndim() == 2 && items.ndim() == 2 && gate.size() == 4 && gate[0].ndim() == 2, "widths must agree");
  m.query_components = query_components, m.item_components = item_components;
  const int64_t groups = query_components * item_components;
  m.targets = int64_t(queries.shape(0)), m.rows = int64_t(items.shape(0)), m.hidden = int64_t(gate[0].shape(0));
  m.width = (int64_t(items.shape(1)) - groups) / item_components;
  agree(m.width > 0 && m.width % 16 == 0 && int64_t(items.shape(1)) == item_components * m.width + groups &&
            int64_t(queries.shape(1)) == query_components * m.width + groups,
        "queries must be [S, A d + G] and items [U, B d + G], d a multiple of 16");
  agree(int64_t(gate[0].size()) == m.hidden * groups && int64_t(gate[1].size()) == m.hidden &&
            int64_t(gate[2].size()) == m.hidden * groups && int64_t(gate[3].size()) == groups,
        "the gate's layers must be [H, G], [H], [G, H] and [G]");
  agree(!index || (index->ndim() == 2 && int64_t(index->shape(0)) == m.targets),
        "all tensors must have the same targets");
  m.pairs = index ? int64_t(index->shape(1)) : m.rows;
  agree(!index || within(index->data(), index->size(), m.rows), "index must be within the items");
  agree(!keys || int64_t(keys->size()) == m.targets * m.pairs, "keys must be [targets, pairs]");
  m.queries = queries.data(), m.items = items.data(), m.index = pointer(index), m.keys = pointer(keys);
  m.inner = gate[0].data(), m.inner_bias = gate[1].data(), m.outer = gate[2].data(), m.outer_bias = gate[3].data();
  m.scale = scale, m.p = p, m.salt = uint64_t(salt);
  return m;
}

// The declaration of an argument. A written one must have the right type already: a conversion would write to a copy,
// unseen by the caller.
template <class T, bool WRITTEN>
auto argument() {
  constexpr bool maybe = std::is_same_v<T, Maybe<Floats>> || std::is_same_v<T, Maybe<Longs>>;
  if constexpr (maybe && WRITTEN) return nb::arg().none().noconvert();
  else if constexpr (maybe) return nb::arg().none();
  else if constexpr (WRITTEN) return nb::arg().noconvert();
  else return nb::arg();
}

// Adds a function to the module; it writes to its last WRITTEN arguments.
template <size_t WRITTEN, class F, class... A, size_t... I>
void add(nb::module_& m, const char* name, F function, void (F::*)(A...) const, std::index_sequence<I...>) {
  m.def(name, function, argument<A, (I + WRITTEN >= sizeof...(A))>()...);
}
template <size_t WRITTEN, class F, class... A>
void add(nb::module_& m, const char* name, F function, void (F::*call)(A...) const) {
  add<WRITTEN>(m, name, function, call, std::index_sequence_for<A...>());
}
template <size_t WRITTEN, class F>
void add(nb::module_& m, const char* name, F function) {
  add<WRITTEN>(m, name, function, &F::operator());
}

}  // namespace

NB_MODULE(_native, m) {
  m.def("backends", [] {
    std::vector<std::string> names;
    for (const Kernels* one : usable()) names.emplace_back(one->name);
    return names;
  });
  add<1>(m, "hstu_attention",
        [](const std::string& backend, int threads, Stored q, Stored k, Stored v, Longs offsets, Longs sees,
           Longs position, Maybe<Longs> time, Maybe<Longs> query_time, Maybe<Floats> position_bias,
           Maybe<Floats> time_bias, Longs boundaries, float scale, Maybe<Floats> scales, Longs past,
           Stored out) {
          Attention a = read_attention(q, k, v, offsets, sees, position, time, query_time, position_bias, time_bias,
                                  boundaries, scale, scales);
          const auto kept = kept_rows(a, past);
          a.tokens.past = kept.empty() ? nullptr : kept.data();
          agree(out.size() == q.shape(0) * v.shape(1) * v.shape(2), "out must be [T, H, dv]");
          same_type(q, {&out});
          a.out = out.data();
          nb::gil_scoped_release free;
          named(backend).attention(a, threads);
        });
  add<5>(m, "hstu_attention_backward",
        [](const std::string& backend, int threads, Stored q, Stored k, Stored v, Longs offsets, Longs sees,
           Longs position, Maybe<Longs> time, Maybe<Longs> query_time, Maybe<Floats> position_bias,
           Maybe<Floats> time_bias, Longs boundaries, float scale, Maybe<Floats> scales, Stored d_out, Stored d_q,
           Stored d_k, Stored d_v, Maybe<Floats> d_position, Maybe<Floats> d_time) {
          Attention a = read_attention(q, k, v, offsets, sees, position, time, query_time, position_bias, time_bias,
                                  boundaries, scale, scales);
          agree(d_out.size() == v.size() && d_q.size() == q.size() && d_k.size() == k.size() && d_v.size() == v.size(),
                "gradients must have the shapes of their tensors");
          same_type(q, {&d_out, &d_q, &d_k, &d_v});
          a.d_out = d_out.data(), a.d_q = d_q.data(), a.d_k = d_k.data(), a.d_v = d_v.data();
          agree(!position_bias || (d_position && d_position->size() == position_bias->size()),
                "gradients must have the shapes of their tensors");
          agree(!time_bias || (d_time && d_time->size() == time_bias->size()),
                "gradients must have the shapes of their tensors");
          a.d_position = pointer(d_position), a.d_time = pointer(d_time);
          nb::gil_scoped_release free;
          named(backend).attention_backward(a, threads);
        });
  add<2>(m, "softmax_attention",
        [](const std::string& backend, int threads, Stored q, Stored k, Stored v, Longs offsets, Longs sees,
           Longs position, Longs keys, float scale, double p, int64_t salt, Longs past, Stored out,
           Floats lse) {
          Attention a = softmax_of(q, k, v, offsets, sees, position, keys, scale, p, salt, out, lse);
          const auto kept = kept_rows(a, past);
          a.tokens.past = kept.empty() ? nullptr : kept.data();
          nb::gil_scoped_release free;
          named(backend).softmax(a, threads);
        });
  add<3>(m, "softmax_attention_backward",
        [](const std::string& backend, int threads, Stored q, Stored k, Stored v, Longs offsets, Longs sees,
           Longs position, Longs keys, float scale, double p, int64_t salt, Stored out, Floats lse, Stored d_out,
           Stored d_q, Stored d_k, Stored d_v) {
          Attention a = softmax_of(q, k, v, offsets, sees, position, keys, scale, p, salt, out, lse);
          agree(d_out.size() == out.size() && d_q.size() == q.size(),
                "gradients must have the shapes of their tensors");
          agree(d_k.size() == k.size() && d_v.size() == v.size(), "gradients must have the shapes of their tensors");
          same_type(q, {&d_out, &d_q, &d_k, &d_v});
          a.d_out = d_out.data(), a.d_q = d_q.data(), a.d_k = d_k.data(), a.d_v = d_v.data();
          nb::gil_scoped_release free;
          named(backend).softmax_backward(a, threads);
        });
  add<4>(m, "sampled_loss",
        [](const std::string& backend, int threads, Floats queries, Floats table, Longs positive, Longs keys,
           Floats weight, bool cosine, float eps, bool binary, float beta, nb::ndarray<int32_t, cpu, nb::c_contig> rows,
           Floats slopes, Floats losses, Maybe<Floats> d_queries) {
          const size_t count = queries.shape(0);
          agree(queries.ndim() == 2 && table.ndim() == 2 && table.shape(1) == queries.shape(1), "widths must agree");
          agree(positive.shape(0) == count && keys.shape(0) == count && weight.shape(0) == count &&
                    losses.shape(0) == count && rows.shape(0) == count && slopes.shape(0) == count &&
                    rows.shape(1) == slopes.shape(1),
                "all tensors must have the same targets");
          agree(within(positive.data(), count, int64_t(table.shape(0))), "positives must be within the table");
          agree(!d_queries || d_queries->size() == queries.size(), "gradients must have the shapes of their tensors");
          facta::Sampled s;
          s.targets = int64_t(queries.shape(0)), s.width = int64_t(queries.shape(1)), s.items = int64_t(table.shape(0));
          s.negatives = int64_t(rows.shape(1)) - 1;
          s.queries = queries.data(), s.table = table.data(), s.positive = positive.data(), s.keys = keys.data();
          s.weight = weight.data(), s.cosine = cosine, s.eps = eps, s.binary = binary, s.beta = beta;
          s.rows = rows.data(), s.slopes = slopes.data(), s.losses = losses.data();
          s.d_queries = pointer(d_queries);
          nb::gil_scoped_release free;
          named(backend).sampled_loss(s, threads);
        });
  add<1>(m, "sampled_items",
        [](const std::string& backend, int threads, Floats queries, Floats vectors,
           nb::ndarray<int32_t, cpu, nb::c_contig> rows, Floats slopes, bool cosine, float eps, Floats d_vectors) {
          agree(queries.ndim() == 2 && vectors.ndim() == 2 && rows.ndim() == 2 && slopes.ndim() == 2,
                "all tensors must be matrices");
          agree(vectors.shape(1) == queries.shape(1) && d_vectors.size() == vectors.size(), "widths must agree");
          agree(rows.shape(0) == queries.shape(0) && slopes.shape(0) == rows.shape(0) &&
                    slopes.shape(1) == rows.shape(1),
                "all tensors must have the same targets");
          facta::SampledItems s;
          s.targets = int64_t(queries.shape(0)), s.width = int64_t(queries.shape(1));
          s.items = int64_t(vectors.shape(0)), s.pairs = int64_t(rows.shape(1));
          agree(within(rows.data(), rows.size(), s.items), "rows must be within the vectors");
          s.queries = queries.data(), s.vectors = vectors.data(), s.rows = rows.data(), s.slopes = slopes.data();
          s.cosine = cosine, s.eps = eps, s.d_vectors = d_vectors.data();
          nb::gil_scoped_release free;
          named(backend).sampled_items(s, threads);
        });
  add<1>(m, "mol",
        [](const std::string& backend, int threads, Floats queries, Floats items, Maybe<Longs> index,
           std::vector<Floats> gate, int64_t query_components, int64_t item_components, float scale, Maybe<Longs> keys,
           double p, int64_t salt, Floats scores) {
          facta::Mol m = mixed(queries, items, index, gate, query_components, item_components, scale, keys, p, salt);
          agree(int64_t(scores.size()) == m.targets * m.pairs, "scores must be [targets, pairs]");
          m.scores = scores.data();
          nb::gil_scoped_release free;
          named(backend).mol(m, threads);
        });
  add<6>(m, "mol_backward",
        [](const std::string& backend, int threads, Floats queries, Floats items, Maybe<Longs> index,
           std::vector<Floats> gate, int64_t query_components, int64_t item_components, float scale, Maybe<Longs> keys,
           double p, int64_t salt, Floats d_scores, Floats d_queries, Floats d_items, Floats d_inner,
           Floats d_inner_bias, Floats d_outer, Floats d_outer_bias) {
          facta::Mol m = mixed(queries, items, index, gate, query_components, item_components, scale, keys, p, salt);
          agree(int64_t(d_scores.size()) == m.targets * m.pairs && d_queries.size() == queries.size() &&
                    d_items.size() == items.size() && d_inner.size() == gate[0].size() &&
                    d_inner_bias.size() == gate[1].size() && d_outer.size() == gate[2].size() &&
                    d_outer_bias.size() == gate[3].size(),
                "gradients must have the shapes of their tensors");
          m.d_scores = d_scores.data(), m.d_queries = d_queries.data();
          m.d = {d_items.data(), d_inner.data(), d_inner_bias.data(), d_outer.data(), d_outer_bias.data()};
          nb::gil_scoped_release free;
          named(backend).mol_backward(m, threads);
        });
  add<1>(m, "dropout", [](const std::string& backend, int threads, Floats x, Longs keys, double p, int64_t salt,
                          Floats out) {
    agree(x.ndim() == 2 && keys.shape(0) == x.shape(0) && out.size() == x.size(),
          "all tensors must have the same tokens");
    facta::Dropout a;
    a.tokens = int64_t(x.shape(0)), a.width = int64_t(x.shape(1)), a.x = x.data(), a.keys = keys.data();
    a.p = p, a.salt = uint64_t(salt), a.out = out.data();
    nb::gil_scoped_release free;
    named(backend).dropout(a, threads);
  });
  add<1>(m, "gate", [](const std::string& backend, int threads, Floats o, Stored u, Longs keys, double p, int64_t salt,
                       float eps, Floats y) {
    facta::Gate a = gated(o, u, keys, p, salt, eps);
    agree(y.size() == o.size(), "all tensors must have the same tokens");
    a.y = y.data();
    nb::gil_scoped_release free;
    named(backend).gate(a, threads);
  });
  add<2>(m, "gate_backward", [](const std::string& backend, int threads, Floats o, Stored u, Longs keys, double p,
                                int64_t salt, float eps, Floats d_y, Floats d_o, Floats d_u) {
    facta::Gate a = gated(o, u, keys, p, salt, eps);
    agree(d_y.size() == o.size() && d_o.size() == o.size() && d_u.size() == o.size(),
          "gradients must have the shapes of their tensors");
    a.d_y = d_y.data(), a.d_o = d_o.data(), a.d_u = d_u.data();
    nb::gil_scoped_release free;
    named(backend).gate_backward(a, threads);
  });
  add<1>(m, "silu", [](const std::string& backend, int threads, Floats z, Floats out) {
    agree(out.size() == z.size(), "all tensors must have the same tokens");
    nb::gil_scoped_release free;
    named(backend).silu({int64_t(z.size()), z.data(), out.data()}, threads);
  });
  add<2>(m, "project", [](const std::string& backend, int threads, Floats x, Floats weight, float eps, Floats z,
                          Floats act) {
    facta::Project a = projected(x, weight, eps);
    agree(int64_t(z.size()) == a.tokens * a.columns && act.size() == z.size(), "all tensors must have the same tokens");
    a.z = z.data(), a.act = act.data();
    nb::gil_scoped_release free;
    named(backend).project(a, threads);
  });
  add<2>(m, "project_backward", [](const std::string& backend, int threads, Floats x, Floats weight, float eps,
                                   Floats z, std::vector<Floats> parts, Floats d_y, Floats d_x, Floats d_weight) {
    facta::Project a = projected(x, weight, eps);
    agree(int64_t(z.size()) == a.tokens * a.columns && parts.size() == facta::Project::PARTS,
          "all tensors must have the same tokens");
    agree(d_y.size() == x.size() && d_x.size() == x.size() && d_weight.size() == weight.size(),
          "gradients must have the shapes of their tensors");
    a.z = z.data(), a.d_y = d_y.data(), a.d_x = d_x.data(), a.d_weight = d_weight.data();
    int64_t total = 0;
    for (size_t i = 0; i < parts.size(); ++i) {
      agree(parts[i].ndim() == 2 && int64_t(parts[i].shape(0)) == a.tokens, "all tensors must have the same tokens");
      a.d_part[i] = parts[i].data(), total += a.widths[i] = int64_t(parts[i].shape(1));
    }
    agree(total == a.columns, "widths must agree");
    nb::gil_scoped_release free;
    named(backend).project_backward(a, threads);
  });
  add<1>(m, "output", [](const std::string& backend, int threads, Floats o, Stored u, Longs keys, double p,
                         int64_t salt, float eps, Floats weight, Floats bias, Floats x, Floats y) {
    facta::Output a = combined(o, u, keys, p, salt, eps, weight);
    agree(int64_t(bias.size()) == a.width, "widths must agree");
    agree(int64_t(x.size()) == a.gate.tokens * a.width && y.size() == x.size(),
          "all tensors must have the same tokens");
    a.bias = bias.data(), a.x = x.data(), a.y = y.data();
    nb::gil_scoped_release free;
    named(backend).output(a, threads);
  });
  add<4>(m, "output_backward", [](const std::string& backend, int threads, Floats o, Stored u, Longs keys, double p,
                                  int64_t salt, float eps, Floats weight, Floats d_y, Floats d_o, Floats d_u,
                                  Floats d_weight, Floats d_bias) {
    facta::Output a = combined(o, u, keys, p, salt, eps, weight);
    agree(int64_t(d_y.size()) == a.gate.tokens * a.width && d_o.size() == o.size() && d_u.size() == o.size(),
          "all tensors must have the same tokens");
    agree(d_weight.size() == weight.size() && int64_t(d_bias.size()) == a.width,
          "gradients must have the shapes of their tensors");
    a.d_y = d_y.data(), a.gate.d_o = d_o.data(), a.gate.d_u = d_u.data();
    a.d_weight = d_weight.data(), a.d_bias = d_bias.data();
    nb::gil_scoped_release free;
    named(backend).output_backward(a, threads);
  });
}
