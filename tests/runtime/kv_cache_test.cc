// What a cache gives back of what was put into it.

#include "runtime/cpu/kv_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/rng.h"
#include "tests/support/encodings.h"
#include "tests/support/kernel_levels.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_packed.h"

namespace pith {
namespace {

constexpr NumberFormat kTypes[] = {NumberFormat::kF32,  NumberFormat::kF16,  NumberFormat::kBF16,
                                   NumberFormat::kInt8, NumberFormat::kE4M3, NumberFormat::kInt4};
constexpr int64_t kSizes[] = {2, 16, 24, 64, 72, 80, 96, 128};

// How far the row may be from x where it is stored as `type`, by element.
std::vector<float> allowed(NumberFormat type, const std::vector<float>& x) {
  float absmax = 0;
  for (const float v : x) absmax = std::max(absmax, std::fabs(v));
  std::vector<float> out(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const float size = std::fabs(x[i]);
    switch (type) {
      case NumberFormat::kF32:
        break;
      case NumberFormat::kF16:
        out[i] = size * 0x1p-11f;
        break;
      case NumberFormat::kBF16:
        out[i] = size * 0x1p-8f;
        break;
      case NumberFormat::kInt8:  // half a step
        out[i] = absmax / 127 * 0.5001f;
        break;
      case NumberFormat::kE4M3:  // four bits with the leading one, and a smallest step of 2^-9
        out[i] = std::max(size * 0x1p-4f, absmax / 448 * 0x1p-10f) * 1.0001f;
        break;
      case NumberFormat::kInt4: {  // half a step, and what scale and minimum are rounded by
        const auto begin = x.begin() + static_cast<std::ptrdiff_t>(i / 32 * 32),
                   end = x.begin() +
                         static_cast<std::ptrdiff_t>(std::min(x.size(), i / 32 * 32 + 32));
        const auto [low, high] = std::minmax_element(begin, end);
        const float top = std::max(std::fabs(*low), std::fabs(*high));
        out[i] = (*high - *low) / 15 * 0.51f + top * 0x1p-10f;
        break;
      }
      default:
        ADD_FAILURE() << "no cache has this type";
    }
  }
  return out;
}

// Rows of one channel that is 20 times as large as the others, and one of nothing but zeros.
std::vector<float> outlier_rows(int64_t rows, int64_t n, uint64_t seed) {
  auto x = test::uniform_values(rows * n, seed, 2);
  for (int64_t r = 0; r < rows; ++r) x[static_cast<size_t>(r * n + 1)] *= 20;
  std::fill_n(x.begin() + n, n, 0.0f);
  return x;
}

struct Case {
  NumberFormat type;
  int64_t size;
  bool keys;
  std::string name() const {
    return fmt::format("{} of {} in {}", keys ? "keys" : "values", size, kv_type_name(type));
  }
};
std::vector<Case> cases() {
  std::vector<Case> all;
  for (const NumberFormat type : kTypes) {
    for (const int64_t size : kSizes) {
      for (const bool keys : {false, true}) all.push_back({type, size, keys});
    }
  }
  return all;
}

// Positions [0, count) of a head, row by row.
std::vector<float> read(const CpuKernels& kernels, const KvPlane& plane, bool keys, int64_t head,
                        int64_t count, int64_t n) {
  KvScratch scratch;
  std::vector<float> out(static_cast<size_t>(count * n));
  if (!keys) {
    std::copy_n(plane.rows(kernels, {head, 0, count}, scratch), count * n, out.begin());
    return out;
  }
  const float* const columns = plane.columns(kernels, {head, 0, count}, scratch);
  const int64_t ld = (count + 15) / 16 * 16;
  for (int64_t p = 0; p < count; ++p) {
    for (int64_t i = 0; i < n; ++i) out[static_cast<size_t>(p * n + i)] = columns[i * ld + p];
  }
  return out;
}

TEST(KvCache, rows_come_back_within_the_rounding_of_their_type) {
  constexpr int64_t kRows = 70;  // 2 heads of 35
  for (const Case& c : cases()) {
    const auto x = outlier_rows(kRows, c.size, 5);
    for (const CpuKernels* kernels : test::kernel_levels()) {
      KvPlane plane(c.type, c.keys, 2, kRows / 2, c.size);
      for (int64_t r = kRows - 1; r >= 0; --r)
        plane.write(*kernels, r / (kRows / 2), r % (kRows / 2), x.data() + r * c.size);
      std::vector<float> got = read(*kernels, plane, c.keys, 0, kRows / 2, c.size);
      const auto second = read(*kernels, plane, c.keys, 1, kRows / 2, c.size);
      got.insert(got.end(), second.begin(), second.end());
      for (int64_t r = 0; r < kRows; ++r) {
        std::vector<float> expected(x.begin() + r * c.size, x.begin() + (r + 1) * c.size);
        if (plane.rotated()) rotate_head(expected.data(), c.size);
        const auto bounds = allowed(c.type, expected);
        for (size_t i = 0; i < expected.size(); ++i) {
          ASSERT_LE(std::fabs(got[static_cast<size_t>(r * c.size) + i] - expected[i]), bounds[i])
              << kernels->name << ", " << c.name() << ", row " << r << ", channel " << i << " is "
              << expected[i];
        }
      }
    }
  }
}

TEST(KvCache, positions_from_the_middle_on_are_those_of_the_whole) {
  constexpr int64_t kRows = 50;
  for (const Case& c : cases()) {
    const auto x = outlier_rows(kRows, c.size, 6);
    for (const CpuKernels* kernels : test::kernel_levels()) {
      KvPlane plane(c.type, c.keys, 1, kRows, c.size);
      for (int64_t r = 0; r < kRows; ++r) plane.write(*kernels, 0, r, x.data() + r * c.size);
      const auto all = read(*kernels, plane, c.keys, 0, kRows, c.size);
      KvScratch scratch;
      for (const int64_t first : {16, 32, 48}) {
        const int64_t count = kRows - first, ld = (count + 15) / 16 * 16;
        const float* const got = c.keys ? plane.columns(*kernels, {0, first, count}, scratch)
                                        : plane.rows(*kernels, {0, first, count}, scratch);
        for (int64_t p = 0; p < count; ++p) {
          for (int64_t i = 0; i < c.size; ++i) {
            ASSERT_EQ(c.keys ? got[i * ld + p] : got[p * c.size + i],
                      all[static_cast<size_t>((first + p) * c.size + i)])
                << kernels->name << ", " << c.name();
          }
        }
      }
    }
  }
}

TEST(KvCache, zeros_stay_zeros) {
  for (const Case& c : cases()) {
    const std::vector<float> zeros(static_cast<size_t>(c.size));
    for (const CpuKernels* kernels : test::kernel_levels()) {
      KvPlane plane(c.type, c.keys, 1, 2, c.size);
      plane.write(*kernels, 0, 0, zeros.data());  // the second is never written
      const auto got = read(*kernels, plane, c.keys, 0, 2, c.size);
      for (const float v : got) ASSERT_EQ(v, 0) << kernels->name << c.name();
    }
  }
}

// Nothing is a number in place of another: what cannot be stored is NaN, or infinite in f16.
TEST(KvCache, numbers_that_are_not_finite_stay_so_and_spoil_their_row_alone) {
  for (const Case& c : cases()) {
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
          -std::numeric_limits<float>::infinity()}) {
      const auto good = test::uniform_values(c.size, 11);
      auto spoiled = good;
      spoiled[static_cast<size_t>(c.size - 1)] = bad;
      const CpuKernels& kernels = *test::kernel_levels().front();
      KvPlane plane(c.type, c.keys, 1, 3, c.size);
      plane.write(kernels, 0, 0, good.data());
      plane.write(kernels, 0, 2, good.data());
      plane.write(kernels, 0, 1, spoiled.data());
      const auto got = read(kernels, plane, c.keys, 0, 3, c.size);
      const auto n = static_cast<size_t>(c.size);
      ASSERT_FALSE(std::isfinite(got[2 * n - 1])) << c.name() << " " << bad;
      for (size_t i = 0; i < n; ++i) {
        ASSERT_TRUE(std::isfinite(got[i])) << c.name();
        ASSERT_EQ(got[i], got[2 * n + i]) << c.name();
      }
    }
  }
}

TEST(KvCache, numbers_at_the_ends_of_the_range_are_stored_or_become_infinite) {
  for (const Case& c : cases()) {
    const CpuKernels& kernels = *test::kernel_levels().front();
    for (const float size : {1e-45f, 1e-38f, 1e-20f, 1e-6f, 6e4f, 1e6f, 1e30f}) {
      auto x = test::uniform_values(c.size, 12, size);
      x[0] = size;
      KvPlane plane(c.type, c.keys, 1, 1, c.size);
      plane.write(kernels, 0, 0, x.data());
      const auto got = read(kernels, plane, c.keys, 0, 1, c.size);
      const bool narrow = c.type == NumberFormat::kF16 || c.type == NumberFormat::kInt4;
      if (narrow && size > 3e4f) continue;
      for (const float v : got)
        ASSERT_LE(std::fabs(v), std::max(12 * size, 1e-6f)) << c.name() << " " << size;
    }
  }
}

TEST(KvCache, rotating_heads_keeps_products_and_undoes_itself) {
  for (const int64_t n : {1, 2, 15, 16, 24, 64, 80, 96, 128, 256}) {
    auto a = test::uniform_values(n, 1), b = test::uniform_values(n, 2);
    const auto product = [&] {
      double sum = 0;
      for (size_t i = 0; i < a.size(); ++i)
        sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
      return sum;
    };
    const auto a_before = a;
    const double before = product();
    rotate_head(a.data(), n);
    rotate_head(b.data(), n);
    EXPECT_NEAR(product(), before, 1e-6 * static_cast<double>(n)) << n;
    rotate_head(a.data(), n);
    for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], a_before[i], 1e-6f) << n;
  }
  std::vector<float> one(64);
  one[7] = 8;
  rotate_head(one.data(), 64);
  for (const float v : one) EXPECT_EQ(std::fabs(v), 1.0f);
}

TEST(KvCache, keys_with_an_outlier_channel_lose_less_where_they_are_rotated) {
  constexpr int64_t kSize = 64, kRows = 50;
  const auto x = outlier_rows(kRows, kSize, 13);
  const CpuKernels& kernels = *test::kernel_levels().front();
  const auto error = [&](NumberFormat type, bool keys) {
    KvPlane plane(type, keys, 1, kRows, kSize);
    for (int64_t r = 0; r < kRows; ++r) plane.write(kernels, 0, r, x.data() + r * kSize);
    const auto got = read(kernels, plane, keys, 0, kRows, kSize);
    double sum = 0;
    for (int64_t r = 0; r < kRows; ++r) {
      std::vector<float> row(got.begin() + r * kSize, got.begin() + (r + 1) * kSize);
      if (plane.rotated()) rotate_head(row.data(), kSize);
      for (int64_t i = 0; i < kSize; ++i) {
        const double d = static_cast<double>(row[static_cast<size_t>(i)]) -
                         static_cast<double>(x[static_cast<size_t>(r * kSize + i)]);
        sum += d * d;
      }
    }
    return sum;
  };
  EXPECT_LT(error(NumberFormat::kInt8, true), 0.5 * error(NumberFormat::kInt8, false));
  EXPECT_LT(error(NumberFormat::kInt4, true), 0.8 * error(NumberFormat::kInt4, false));
}

TEST(KvCache, sizes_are_what_is_allocated) {
  const proto::ModelSpec spec = test::tiny_spec();
  const auto& a = spec.layers(0).sublayers(0).attention();
  const uint64_t d = a.head_dim();
  const uint64_t row[] = {d * 4, d * 2, d * 2, d + 4, d + 4, (d + 7) / 8 * 4 + (d + 31) / 32 * 4};
  for (size_t i = 0; i < std::size(kTypes); ++i) {
    for (size_t j = 0; j < std::size(kTypes); ++j) {
      const uint64_t both = row[i] + row[j];
      // Pages of up to 64 tokens, multiples of 16.
      const auto bytes = [&](const KvPages& pages) {
        return CpuKvStorage(spec, {kTypes[i], kTypes[j]}, pages).bytes();
      };
      EXPECT_EQ(bytes(KvPages(3, 10)), 3 * 16 * a.kv_heads() * both);
      EXPECT_EQ(bytes(KvPages(3, 65)), 3 * 128 * a.kv_heads() * both);
      EXPECT_EQ(bytes(KvPages(3, 65, 5)), 5 * 64 * a.kv_heads() * both);
    }
  }
}

TEST(KvTypes, names_are_read_as_they_are_written) {
  for (const NumberFormat k : kTypes) {
    for (const NumberFormat v : kTypes) {
      const KvTypes types{k, v};
      EXPECT_EQ(parse_kv_types(to_string(types), NumberFormat::kF16), types);
    }
  }
  EXPECT_EQ(to_string(KvTypes{NumberFormat::kInt8, NumberFormat::kInt4}), "k:int8,v:int4");
  EXPECT_EQ(to_string(KvTypes(NumberFormat::kE4M3)), "fp8");
  const KvTypes only_keys{NumberFormat::kInt8, NumberFormat::kF32},
      both{NumberFormat::kF16, NumberFormat::kInt4};
  EXPECT_EQ(parse_kv_types("k:int8", NumberFormat::kF32), only_keys);
  EXPECT_EQ(parse_kv_types("v:int4,k:f16", NumberFormat::kF32), both);
  for (const char* text : {"", "q4", "INT8", "k:", "k:int8,", ",", "int8,int4", "k:int8,k:int4",
                           "k:int8,v:int4,v:f16", "x:int8", "k:int8 ,v:int4", "k:f64"}) {
    EXPECT_PITH_ERROR(parse_kv_types(text, NumberFormat::kF16), ErrorKind::kUsage,
                      "f32, f16, bf16, int8, fp8 or int4");
  }
}

}  // namespace
}  // namespace pith
