// The kernels of one instruction set; the build compiles this file once for each.
#include "kernels.h"

#include "attention.h"
#include "pointwise.h"
#include "sampled.h"

namespace facta {
namespace ISA {

static void attention(const Attention& a, int threads) {
  a.half ? forward<bfloat16>(a, threads) : forward<float>(a, threads);
}
static void attention_backward(const Attention& a, int threads) {
  a.half ? backward<bfloat16>(a, threads) : backward<float>(a, threads);
}

#define FACTA_JOIN(a, b) FACTA_JOIN_(a, b)
#define FACTA_JOIN_(a, b) a##b
#define FACTA_TEXT(a) FACTA_TEXT_(a)
#define FACTA_TEXT_(a) #a
static const Kernels kernels = {FACTA_TEXT(ISA), attention,     attention_backward, sampled_loss,
                                dropout,         gate,          gate_backward};

}  // namespace ISA

const Kernels* FACTA_JOIN(ISA, _kernels)() { return &ISA::kernels; }

}  // namespace facta
