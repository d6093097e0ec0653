// The kernels of one instruction set; the build compiles this file once for each.
#include "kernels.h"

#include "attention.h"
#include "layer.h"
#include "mol.h"
#include "pointwise.h"
#include "sampled.h"

namespace facta {
namespace ISA {

template <class Rule>
void attention(const Attention& a, int threads) {
  a.half ? forward<bfloat16, Rule>(a, threads) : forward<float, Rule>(a, threads);
}
template <class Rule>
void attention_backward(const Attention& a, int threads) {
  a.half ? backward<bfloat16, Rule>(a, threads) : backward<float, Rule>(a, threads);
}

#define FACTA_JOIN(a, b) FACTA_JOIN_(a, b)
#define FACTA_JOIN_(a, b) a##b
#define FACTA_TEXT(a) FACTA_TEXT_(a)
#define FACTA_TEXT_(a) #a
static const Kernels kernels = {
    FACTA_TEXT(ISA),    attention<Pointwise>, attention_backward<Pointwise>, attention<Softmax>,
    attention_backward<Softmax>, sampled_loss, sampled_items, mol,
    mol_backward, dropout, gate, gate_backward, silu, project, project_backward, output, output_backward};

}  // namespace ISA

const Kernels* FACTA_JOIN(ISA, _kernels)() { return &ISA::kernels; }

}  // namespace facta
