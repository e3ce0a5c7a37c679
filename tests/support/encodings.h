// The encodings that tests run over: every combination that the kinds allow.
#pragma once

#include <string>
#include <vector>

#include "core/rng.h"
#include "formats/encodings/encoding.h"

namespace pith::test {

inline constexpr int kIntBits[] = {2, 3, 4, 5, 6, 8};
inline constexpr int64_t kGroupSizes[] = {0, 16, 32, 64, 128};

// Every encoding that can be written.
inline std::vector<Encoding> writable_encodings() {
  std::vector<Encoding> all;
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16})
    all.push_back(Encoding::dense(dtype));
  int tcq_bits = 0;
  for (const int64_t group : kGroupSizes) {
    for (const DType scale : {DType::kF16, DType::kBF16}) {
      for (const bool two_level : {false, true}) {
        for (const int bits : kIntBits) {
          for (const bool symmetric : {true, false})
            all.push_back(Encoding::integer(bits, group, symmetric, scale, two_level));
        }
        Encoding nf4 = Encoding::nf4(group, scale);
        nf4.two_level = two_level;
        all.push_back(nf4);
        if (group != 16) all.push_back(Encoding::tcq(2 + tcq_bits++ % 3, group, scale, two_level));
      }
    }
  }
  all.push_back(Encoding::mxfp4());
  for (const DType dtype : {DType::kF8E4M3, DType::kF8E5M2}) {
    for (const ScaleArea area : {ScaleArea::kTensor, ScaleArea::kRow, ScaleArea::kBlock128})
      all.push_back(Encoding::fp8(dtype, area));
  }
  return all;
}

// One or two of each kind and layout of planes: where every one would take too long.
inline std::vector<Encoding> encoding_families() {
  std::vector<Encoding> some = {Encoding::dense(DType::kF32), Encoding::dense(DType::kF16),
                                Encoding::dense(DType::kBF16)};
  for (const int bits : kIntBits) some.push_back(Encoding::integer(bits, 64));
  some.push_back(Encoding::integer(4, 32, false));
  some.push_back(Encoding::integer(3, 16, false, DType::kBF16, true));
  some.push_back(Encoding::integer(8, 0));
  some.push_back(Encoding::integer(5, 0, false));
  some.push_back(Encoding::nf4(64));
  some.push_back(Encoding::nf4(0, DType::kBF16));
  some.push_back(Encoding::mxfp4());
  for (const int bits : {2, 3, 4}) some.push_back(Encoding::tcq(bits, bits == 3 ? 32 : 128));
  for (const DType dtype : {DType::kF8E4M3, DType::kF8E5M2}) {
    for (const ScaleArea area : {ScaleArea::kTensor, ScaleArea::kRow, ScaleArea::kBlock128})
      some.push_back(Encoding::fp8(dtype, area));
  }
  return some;
}

// Sparse matrices of all of these, each with one of the ways to say which columns are kept.
inline std::vector<Encoding> sparse_encodings() {
  constexpr Sparsity kWays[] = {Sparsity{SparsityKind::kNM, 2, 4},
                                {SparsityKind::kBitmap, 24},
                                {SparsityKind::kNM, 4, 8},
                                {SparsityKind::kNM, 1, 3},
                                {SparsityKind::kBitmap, 7}};
  std::vector<Encoding> out;
  size_t i = 0;
  for (const Encoding& inner : encoding_families()) {
    if (inner.kind == EncodingKind::kTcq) continue;  // whose codes depend on their neighbours
    out.push_back(Encoding::sparse(inner, kWays[i++ % std::size(kWays)]));
    out.push_back(Encoding::sparse(inner, kWays[i % std::size(kWays)]));
  }
  return out;
}

inline std::vector<float> uniform_values(int64_t n, uint64_t seed, float magnitude = 1) {
  Rng rng(seed);
  std::vector<float> out(static_cast<size_t>(n));
  for (float& v : out) v = magnitude * static_cast<float>(2 * rng.uniform() - 1);
  return out;
}

// Weights as encodings meet them: rows of different sizes, a few outliers, exact zeros, and one
// row of zeros where there are three or more.
inline std::vector<float> weight_values(int64_t n, int64_t k, uint64_t seed) {
  Rng rng(seed, 1);
  std::vector<float> out = uniform_values(n * k, seed);
  for (int64_t r = 0; r < n; ++r) {
    const float size = r == 2 ? 0 : 0.02f * static_cast<float>(1 + r % 7);
    for (int64_t i = 0; i < k; ++i) {
      const double kind = rng.uniform();
      out[static_cast<size_t>(r * k + i)] *= kind < 0.01 ? 8 * size : kind < 0.03 ? 0 : size;
    }
  }
  return out;
}

}  // namespace pith::test
