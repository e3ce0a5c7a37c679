#include "runtime/cpu/rounded_inputs.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "core/bytes.h"
#include "core/parallel.h"

namespace pith {
namespace {

// The sum of a number below 2^22 and this has no room for a fraction: it rounds to nearest even.
constexpr float kRound = 0x1.8p23f;

// Magnitudes are ordered as their bits, and integers are compared without branches.
int32_t magnitude(float v) { return std::bit_cast<int32_t>(v) & 0x7fffffff; }

// The scale of n inputs: NaN where one is not finite.
float scale_of(const InputEncoding& e, const float* x, int64_t n) {
  int32_t top = 0;
  for (int64_t i = 0; i < n; ++i) top = std::max(top, magnitude(x[i]));
  if (top >= 0x7f800000) return std::numeric_limits<float>::quiet_NaN();
  if (e.scale == InputScale::kTensor) return e.value;
  const float s = std::bit_cast<float>(top) / largest_code(e);
  return s < 0x1p-126f ? 0 : s;
}

float within(float v, float limit) {
  const int32_t sign = std::bit_cast<int32_t>(v) & ~0x7fffffff;
  return std::bit_cast<float>(std::min(magnitude(v), std::bit_cast<int32_t>(limit)) | sign);
}

// x / s, s > 0
float to_int8(float x, float s) { return (within(x / s, 127) + kRound) - kRound; }
float to_f8e4m3(float x, float s) {
  const float v = within(x / s, 448);
  // As kRound, for three bits behind the leading one; steps below 2^-6 are as large as there.
  const int32_t exponent = std::max(magnitude(v), std::bit_cast<int32_t>(0x1p-6f)) & 0x7f800000;
  const float round = std::bit_cast<float>(exponent + (20 << 23) + 0x400000);
  return (v + round) - round;
}

}  // namespace

void RoundedInputs::set(const InputEncoding& encoding, const float* x, int64_t m, int64_t k) {
  encoding_ = encoding;
  x_ = x;
  m_ = m;
  k_ = k;
  // A line beside a multiple of lines: tokens one below the other do not share sets of the cache.
  stride_ = static_cast<int64_t>(round_up(static_cast<uint64_t>(k), 128)) + 64;
  block_ = encoding.scale == InputScale::kBlock128 ? 128 : std::max<int64_t>(k, 1);
  has_codes_ = has_values_ = false;
  sums_count_ = 0;
}

void RoundedInputs::set_blocks(int64_t block, const float* x, int64_t m, int64_t k) {
  set({DType::kI8, InputScale::kToken}, x, m, k);
  block_ = block;
}

template <class F>
void RoundedInputs::each_token(F f) {
  const int64_t grain = std::max<int64_t>(1, (1 << 14) / std::max<int64_t>(1, k_));
  parallel_ranges(m_, grain, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) f(t);
  });
}

template <class F>
void RoundedInputs::each_block(int64_t token, F f) {
  for (int64_t c = 0; c < k_; c += block_) {
    const float* const x = x_ + token * k_ + c;
    const int64_t n = std::min(block_, k_ - c);
    f(x, n, c, scale_of(encoding_, x, n));
  }
}

void RoundedInputs::round_rows(FunctionRef<void(int64_t)> make) {
  codes_.require(m_ * stride_);
  unsigned_codes_.require(m_ * stride_);
  scales_.require(ceil_div(k_, block_) * m_);
  each_token([&](int64_t t) {
    make(t);
    int8_t* const codes = codes_.data() + t * stride_;
    each_block(t, [&](const float* x, int64_t n, int64_t c, float s) {
      scales_[c / block_ * m_ + t] = s;
      if (!(s > 0)) return std::fill(codes + c, codes + c + n, int8_t{0});
      for (int64_t i = 0; i < n; ++i)
        codes[c + i] = static_cast<int8_t>(static_cast<int32_t>(to_int8(x[i], s)));
    });
    uint8_t* const above = unsigned_codes_.data() + t * stride_;
    for (int64_t i = 0; i < k_; ++i) above[i] = static_cast<uint8_t>(codes[i] + 128);
    std::fill(codes + k_, codes + stride_, int8_t{0});
    std::fill(above + k_, above + stride_, uint8_t{0});
  });
  has_codes_ = true;
}

const int8_t* RoundedInputs::codes() {
  if (!has_codes_) round_rows([](int64_t) {});
  return codes_.data();
}

const uint8_t* RoundedInputs::unsigned_codes() {
  codes();
  return unsigned_codes_.data();
}

const int32_t* RoundedInputs::sums(int64_t width) {
  for (size_t i = 0; i < sums_count_; ++i) {
    if (sums_[i].width == width) return sums_[i].sums.data();
  }
  const int8_t* const all = codes();
  if (sums_count_ == sums_.size()) sums_.emplace_back();
  Sums& made = sums_[sums_count_++];
  made.width = width;
  const int64_t pieces = ceil_div(k_, width);
  made.sums.require(pieces * m_);
  const int64_t grain = std::max<int64_t>(1, (1 << 15) / std::max<int64_t>(1, k_));
  parallel_ranges(m_, grain, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t p = 0; p < pieces; ++p) {
        const int8_t* const x = all + t * stride_ + p * width;
        int32_t sum = 0;
        for (int64_t i = 0, n = std::min(width, k_ - p * width); i < n; ++i) sum += x[i];
        made.sums[p * m_ + t] = sum;
      }
    }
  });
  return made.sums.data();
}

const float* RoundedInputs::values() {
  if (has_values_) return values_.data();
  values_.require(m_ * k_);
  each_token([&](int64_t t) {
    each_block(t, [&](const float* x, int64_t n, int64_t c, float s) {
      float* const to = values_.data() + t * k_ + c;
      if (!(s > 0)) {
        std::fill(to, to + n, s);  // 0 or NaN
      } else if (encoding_.dtype == DType::kI8) {
        for (int64_t i = 0; i < n; ++i) to[i] = to_int8(x[i], s) * s;
      } else {
        for (int64_t i = 0; i < n; ++i) to[i] = to_f8e4m3(x[i], s) * s;
      }
    });
  });
  has_values_ = true;
  return values_.data();
}

}  // namespace pith
