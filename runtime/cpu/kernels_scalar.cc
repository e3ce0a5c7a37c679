// The kernels in plain C++: for any processor, and the meaning of the primitives.
#include <cstdint>
#include <cstring>

#include "runtime/cpu/kernels.h"

namespace pith {
namespace {

constexpr int kTileRows = 4, kTileVectors = 1;

struct V16 {
  float v[16];
};

template <class F>
inline V16 each(F f) {
  V16 r;
  for (int i = 0; i < 16; ++i) r.v[i] = f(i);
  return r;
}
inline float from_bits(uint32_t u) {
  float f;
  std::memcpy(&f, &u, 4);
  return f;
}
inline uint32_t bits_of(float f) {
  uint32_t u;
  std::memcpy(&u, &f, 4);
  return u;
}

inline V16 set1(float x) {
  return each([&](int) { return x; });
}
inline V16 load(const float* p) {
  return each([&](int i) { return p[i]; });
}
inline V16 load_first(const float* p, int64_t n) {
  return each([&](int i) { return i < n ? p[i] : 0.0f; });
}
inline void store(float* p, V16 a) {
  for (int i = 0; i < 16; ++i) p[i] = a.v[i];
}
inline void store_first(float* p, V16 a, int64_t n) {
  for (int i = 0; i < n; ++i) p[i] = a.v[i];
}
inline V16 add(V16 a, V16 b) {
  return each([&](int i) { return a.v[i] + b.v[i]; });
}
inline V16 sub(V16 a, V16 b) {
  return each([&](int i) { return a.v[i] - b.v[i]; });
}
inline V16 mul(V16 a, V16 b) {
  return each([&](int i) { return a.v[i] * b.v[i]; });
}
inline V16 div(V16 a, V16 b) {
  return each([&](int i) { return a.v[i] / b.v[i]; });
}
inline V16 fma(V16 a, V16 b, V16 c) {
  return each([&](int i) { return a.v[i] * b.v[i] + c.v[i]; });
}  // may round twice
inline V16 max(V16 a, V16 b) {
  return each([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
inline V16 min(V16 a, V16 b) {
  return each([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
inline V16 round_nearest(V16 a) {  // |a| < 2^22, ties to even
  return each([&](int i) { return (a.v[i] + 12582912.0f) - 12582912.0f; });
}
inline V16 power_of_two(V16 n) {  // n integral, -126 to 127; anything for NaN
  return each([&](int i) { return from_bits((bits_of(n.v[i] + 12582912.0f) + 127u) << 23); });
}
// Lanes added in the same order at every level: halves onto each other.
inline float sum(V16 a) {
  for (int w = 8; w > 0; w /= 2) {
    for (int i = 0; i < w; ++i) a.v[i] += a.v[i + w];
  }
  return a.v[0];
}
inline float max_lane(V16 a) {
  float m = a.v[0];
  for (int i = 1; i < 16; ++i) m = a.v[i] > m ? a.v[i] : m;
  return m;
}

inline float half_to_float(uint16_t h) {
  const uint32_t magnitude = h & 0x7fffu;
  const uint32_t special = magnitude >= 0x7c00u ? 0x7f800000u : 0u;
  const float scaled = from_bits(magnitude << 13) * 0x1p112f;
  return from_bits(bits_of(scaled) | special | static_cast<uint32_t>(h & 0x8000u) << 16);
}
inline uint16_t float_to_half(float f) {
  const uint32_t u = bits_of(f), sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);
  if (magnitude < 0x38800000u) {
    return static_cast<uint16_t>(sign | (bits_of(from_bits(magnitude) + 0.5f) - 0x3f000000u));
  }
  return static_cast<uint16_t>(
      sign | ((magnitude + 0xfffu + ((magnitude >> 13) & 1u) - 0x38000000u) >> 13));
}
inline V16 load_f16(const uint16_t* p) {
  return each([&](int i) { return half_to_float(p[i]); });
}
inline void store_f16(uint16_t* p, V16 a) {
  for (int i = 0; i < 16; ++i) p[i] = float_to_half(a.v[i]);
}
inline V16 load_bf16(const uint16_t* p) {
  return each([&](int i) { return from_bits(static_cast<uint32_t>(p[i]) << 16); });
}
// The code's exponent and mantissa moved into place, then rescaled: exact, subnormals too. NaN
// codes become numbers.
inline V16 load_f8e4m3(const uint8_t* p) {
  return each([&](int i) {
    const uint32_t c = p[i];
    return from_bits((c & 0x80u) << 24 | (c & 0x7fu) << 20) * 0x1p120f;
  });
}
inline V16 load_f8e5m2(const uint8_t* p) {
  return each([&](int i) {
    const uint32_t c = p[i];
    return from_bits((c & 0x80u) << 24 | (c & 0x7fu) << 21) * 0x1p112f;
  });
}

// 16 codes of `bits` packed into 2*bits bytes, as numbers.
template <int bits>
inline V16 codes(const uint8_t* p) {
  return each([&](int i) {
    const int bit = i * bits;
    const uint32_t pair =
        p[bit / 8] | (bits == 8 ? 0u : static_cast<uint32_t>(p[bit / 8 + 1]) << 8);
    return static_cast<float>((pair >> (bit % 8)) & ((1u << bits) - 1));
  });
}
#include "runtime/cpu/nf4_table.h"
inline V16 nf4_values(const uint8_t* p) {
  return each([&](int i) { return kNf4[(p[i / 2] >> (i % 2 * 4)) & 15]; });
}

// The integers of the vector as bytes.
inline void store_bytes(uint8_t* p, V16 a) {
  for (int i = 0; i < 16; ++i) p[i] = static_cast<uint8_t>(static_cast<int>(a.v[i]));
}

// Sums of integers wrap: what a step passes through may be beyond int32 where its end is not.
struct I16 {
  uint32_t v[16];
};
struct Codes4 {  // four codes of each lane
  const uint8_t* p;
};
struct Inputs4 {  // the same four inputs for all lanes
  int x[4];
};
inline Codes4 load_codes4(const uint8_t* p) { return {p}; }
inline Inputs4 broadcast4(const int8_t* p) { return {{p[0], p[1], p[2], p[3]}}; }
inline I16 minus_product(const int32_t* p, int32_t factor) {
  I16 r;
  for (int i = 0; i < 16; ++i)
    r.v[i] = 0u - static_cast<uint32_t>(p[i]) * static_cast<uint32_t>(factor);
  return r;
}
inline I16 dot4(I16 sum, Codes4 c, Inputs4 x) {
  for (int i = 0; i < 16; ++i) {
    const uint8_t* p = c.p + 4 * i;
    sum.v[i] +=
        static_cast<uint32_t>(p[0] * x.x[0] + p[1] * x.x[1] + p[2] * x.x[2] + p[3] * x.x[3]);
  }
  return sum;
}
inline V16 to_float(I16 a) {
  return each([&](int i) { return static_cast<float>(static_cast<int32_t>(a.v[i])); });
}
// sums[r] = products of codes [begin, end) of row r with x. Both have whole units of 16, x zeros
// from the end on.
inline void dot_bytes(const uint8_t* const* rows, int64_t begin, int64_t end, const int8_t* x,
                      int32_t* sums) {
  for (int r = 0; r < 4; ++r) {
    uint32_t sum = 0;
    for (int64_t i = begin; i < end; ++i) sum += static_cast<uint32_t>(rows[r][i] * x[i]);
    sums[r] = static_cast<int32_t>(sum);
  }
}

#include "runtime/cpu/kernels_body.h"

}  // namespace

const CpuKernels kScalarKernels = PITH_KERNEL_TABLE("scalar");

}  // namespace pith
