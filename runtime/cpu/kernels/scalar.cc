// The kernels in plain C++: for any processor, and the meaning of the primitives. Lanes are vectors
// of the compiler, which spreads them over the registers that there are.
#include <cstdint>
#include <cstring>

#include "formats/encodings/tcq_code.h"
#include "runtime/cpu/kernels.h"

namespace pith {
namespace {

constexpr int kTileRows = 4, kTileVectors = 1;

// How vectors are passed depends on the instruction level; nobody else calls these functions.
#pragma GCC diagnostic ignored "-Wpsabi"
using Floats = float __attribute__((vector_size(64), aligned(4)));
using Words = uint32_t __attribute__((vector_size(64), aligned(4)));
using SignedWords = int32_t __attribute__((vector_size(64), aligned(4)));

struct V16 {
  Floats v;
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

inline V16 set1(float x) { return {Floats{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}}; }
inline V16 load(const float* p) {
  V16 r;
  std::memcpy(&r.v, p, sizeof r.v);
  return r;
}
inline V16 load_first(const float* p, int64_t n) {
  return each([&](int i) { return i < n ? p[i] : 0.0f; });
}
inline void store(float* p, V16 a) { std::memcpy(p, &a.v, sizeof a.v); }
inline void store_first(float* p, V16 a, int64_t n) {
  for (int i = 0; i < n; ++i) p[i] = a.v[i];
}
inline V16 add(V16 a, V16 b) { return {a.v + b.v}; }
inline V16 sub(V16 a, V16 b) { return {a.v - b.v}; }
inline V16 mul(V16 a, V16 b) { return {a.v * b.v}; }
inline V16 div(V16 a, V16 b) { return {a.v / b.v}; }
inline V16 mul_add(V16 a, V16 b, V16 c) { return {a.v * b.v + c.v}; }  // may round twice
inline V16 fma(V16 a, V16 b, V16 c) {                                  // rounds once
  return each([&](int i) { return __builtin_fmaf(a.v[i], b.v[i], c.v[i]); });
}
inline V16 max(V16 a, V16 b) { return {a.v > b.v ? a.v : b.v}; }
inline V16 min(V16 a, V16 b) { return {a.v < b.v ? a.v : b.v}; }
inline V16 round_nearest(V16 a) {  // |a| < 2^22, ties to even
  return {(a.v + 12582912.0f) - 12582912.0f};
}
inline V16 power_of_two(V16 n) {  // n integral, -126 to 127; anything for NaN
  const auto bits = reinterpret_cast<Words>(n.v + 12582912.0f);
  return {reinterpret_cast<Floats>((bits + 127u) << 23)};
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
// 2^(e - 128): half of the float of exponent e, whose least is subnormal.
inline V16 load_e8m0(const uint8_t* p) {
  return each([&](int i) {
    return 0.5f * from_bits(p[i] == 0 ? 1u << 22 : static_cast<uint32_t>(p[i]) << 23);
  });
}
inline V16 load_i8(const int8_t* p) {
  return each([&](int i) { return static_cast<float>(p[i]); });
}

#include "runtime/cpu/kernels/nf4_table.h"

// Sums of integers wrap: what a step passes through may be beyond int32 where its end is not.
struct I16 {
  Words v;
};
template <class F>
inline I16 each_int(F f) {
  I16 r;
  for (int i = 0; i < 16; ++i) r.v[i] = f(i);
  return r;
}
inline void store_i32(int32_t* p, I16 a) { std::memcpy(p, &a.v, sizeof a.v); }

// 16 codes of `bits` packed into 2*bits bytes.
template <int bits>
inline I16 unpack_codes(const uint8_t* p) {
  return each_int([&](int i) {
    const int bit = i * bits;
    const uint32_t pair =
        p[bit / 8] | (bits == 8 ? 0u : static_cast<uint32_t>(p[bit / 8 + 1]) << 8);
    return (pair >> (bit % 8)) & ((1u << bits) - 1);
  });
}

// Four bytes of each lane, shifted (right, or left by what is negative) as lanes, masked as bytes.
using Bytes = I16;
inline Bytes load_bytes(const uint8_t* p) {
  Bytes r;
  std::memcpy(&r.v, p, sizeof r.v);
  return r;
}
inline void store_bytes(uint8_t* p, Bytes a) { std::memcpy(p, &a.v, sizeof a.v); }
template <int mask>
inline Bytes and_(Bytes a) {
  return {a.v & 0x01010101u * mask};
}
template <int by>
inline Bytes shift(Bytes a) {
  return {by > 0 ? a.v >> (by & 31) : a.v << (-by & 31)};
}
#include "runtime/cpu/kernels/e2m1_table.h"
inline Bytes table_lookup(Bytes a) {  // of bytes below 16
  return each_int([&](int i) {
    uint32_t lane = 0;
    for (int j = 0; j < 4; ++j)
      lane |= static_cast<uint32_t>(kE2M1Codes[a.v[i] >> 8 * j & 15]) << 8 * j;
    return lane;
  });
}
inline Bytes or_(Bytes a, Bytes b) { return {a.v | b.v}; }
// tcq_code() of formats/encodings/tcq.h, in two steps.
inline Bytes tcq_hash(Bytes a) {  // of the low 16 bits of a lane
  const auto windows = reinterpret_cast<SignedWords>(a.v << 16) >> 16;
  return {reinterpret_cast<Words>(windows) * static_cast<uint32_t>(kTcqFactor) +
          static_cast<uint32_t>(kTcqOffset)};
}
inline Bytes sum_bytes(Bytes a) {  // of a lane, each below 64
  const Words pairs = (a.v & 0x00ff00ffu) + (a.v >> 8 & 0x00ff00ffu);
  return {(pairs & 0xffffu) + (pairs >> 16)};
}
// One byte of each lane as a number, or the value of nf4 that it is the code of.
template <int byte, bool nf4>
inline V16 byte_values(Bytes a) {
  const Words c = a.v >> 8 * byte & 0xffu;
  if (nf4) return each([&](int i) { return kNf4[c[i] & 15]; });
  return {__builtin_convertvector(reinterpret_cast<SignedWords>(c), Floats)};
}

constexpr int64_t kFewColumns = 256;  // whose inputs' sum fits 16 bits
inline I16 load_i32(const int32_t* p) {
  I16 r;
  std::memcpy(&r.v, p, sizeof r.v);
  return r;
}
inline I16 neg_mul(I16 a, int32_t factor) { return {0u - a.v * static_cast<uint32_t>(factor)}; }
inline I16 neg_mul16(I16 a, int32_t factor) { return neg_mul(a, factor); }
inline I16 mul(I16 a, const int32_t* p) { return {a.v * load_i32(p).v}; }
inline I16 add(I16 a, I16 b) { return {a.v + b.v}; }
// Four codes of a row times four inputs, the same for all rows; codes of `bits` at most.
template <int bits>
inline I16 dot4(I16 sum, Bytes c, const int8_t* x) {
  for (int j = 0; j < 4; ++j) sum.v += (c.v >> 8 * j & 0xffu) * static_cast<uint32_t>(x[j]);
  return sum;
}
// The same of inputs without a sign and codes with one.
template <int bits>
inline I16 dot4_unsigned_inputs(I16 sum, const uint8_t* x, Bytes c) {
  for (int j = 0; j < 4; ++j) {
    const auto code = reinterpret_cast<SignedWords>(c.v << (24 - 8 * j)) >> 24;
    sum.v += reinterpret_cast<Words>(code) * static_cast<uint32_t>(x[j]);
  }
  return sum;
}
// 16 columns, shared out between two sums.
template <int bits>
PITH_INLINE void dot16(I16* sums, const Bytes* c, const int8_t* x) {
  for (int i = 0; i < 4; ++i) sums[i % 2] = dot4<bits>(sums[i % 2], c[i], x + 4 * i);
}
inline I16 zero_i32() { return {Words{}}; }
inline V16 to_float(I16 a) {
  return {__builtin_convertvector(reinterpret_cast<SignedWords>(a.v), Floats)};
}

#include "runtime/cpu/kernels/body.h"

}  // namespace

const CpuKernels kScalarKernels = PITH_KERNEL_TABLE("scalar");

}  // namespace pith
