// Random numbers as functions of keys: facta/draws.py, to the bit.
#pragma once

#include <vector>

#include "simd.h"

namespace facta::ISA {

inline uint64_t mix(uint64_t key, uint64_t place) {
  uint64_t z = key + (place + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

inline uint64_t below(uint64_t bits, uint64_t bound) { return ((bits >> 32) * bound) >> 32; }

// Dropout mask of a token's channels: 32-bit draws, the token's half mixed with the channel's (murmur3's finaliser).
class DropoutMask {
 public:
  DropoutMask(double p, uint64_t salt, int width) : scale_(float(1.0 / (1.0 - p))), channel_(size_t(width + W)) {
    threshold_ = int32_t(int64_t(std::nearbyint(p * 4294967296.0)) - 2147483648LL);
    for (int d = 0; d < width; ++d) channel_[size_t(d)] = int32_t(mix(uint64_t(d), ~salt));
    salt_ = salt;
  }
  int32_t token(int64_t key) const { return int32_t(mix(uint64_t(key), salt_)); }
  // The factor of channels d …: 0, or 1 / (1 - p).
  vf factor(int32_t token, int d) const {
    return factor(vu(broadcast(token) ^ load(channel_.data() + d)));
  }
  // The factor of channel d for a vector of tokens.
  vf factor(vi tokens, int d) const { return factor(vu(tokens ^ channel_[size_t(d)])); }

 private:
  using vu = uint32_t __attribute__((vector_size(4 * W)));
  vf factor(vu bits) const {
    bits ^= bits >> 16;
    bits *= 0x85EBCA6Bu;
    bits ^= bits >> 13;
    bits *= 0xC2B2AE35u;
    return select(vi(bits) >= threshold_, broadcast(scale_), vf{});
  }

  float scale_;
  int32_t threshold_;
  uint64_t salt_;
  std::vector<int32_t> channel_;
};

}  // namespace facta::ISA
