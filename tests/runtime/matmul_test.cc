// Products with weights in every encoding: against float64 over the reference decoder, and the same
// bits on any number of threads.

#include "runtime/cpu/matmul.h"
#include "runtime/cpu/decode.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/bytes.h"
#include "core/parallel.h"
#include "formats/encodings/ggml.h"
#include "formats/encodings/int_group.h"
#include "tests/support/encodings.h"
#include "tests/support/kernel_levels.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

constexpr int64_t kRows[] = {1, 2, 3, 7, 8, 9, 33};

struct Product {
  std::vector<double> value;  // [m, n]
  std::vector<double> bound;  // of the error of f32
};

// 32 significant roundings at most lie on the way of a term through 16 lanes and a group; integers
// are summed before their zero is taken off, which weighs as much as the largest code.
Product reference(const Weight& w, const std::vector<float>& x, int64_t m,
                  const std::vector<float>& added) {
  std::vector<float> d(static_cast<size_t>(w.n * w.k));
  reference_decode(w, 0, w.n, d.data());
  std::vector<double> offset(d.size());  // scale * zero
  if (w.encoding.kind == EncodingKind::kInt) {
    const GroupLayout l(w.encoding, w.n, w.k);
    std::vector<float> scales(static_cast<size_t>(l.groups));
    std::vector<uint8_t> zeros(round_up(static_cast<uint64_t>(l.groups), 16));
    for (int64_t r = 0; r < w.n; ++r) {
      load_scales(w, l, r, scales.data());
      load_zeros(w, l, r, zeros.data());
      for (int64_t i = 0; i < w.k; ++i) {
        const auto g = static_cast<size_t>(i / l.group);
        offset[static_cast<size_t>(r * w.k + i)] = static_cast<double>(scales[g]) * zeros[g];
      }
    }
  }
  Product p;
  for (int64_t t = 0; t < m; ++t) {
    for (int64_t r = 0; r < w.n; ++r) {
      double sum = 0, size = 0;
      for (int64_t i = 0; i < w.k; ++i) {
        const auto at = static_cast<size_t>(r * w.k + i);
        const auto v = static_cast<double>(x[static_cast<size_t>(t * w.k + i)]);
        sum += static_cast<double>(d[at]) * v;
        size += (std::fabs(static_cast<double>(d[at])) + 2 * std::fabs(offset[at])) * std::fabs(v);
      }
      if (!added.empty()) {
        const auto a = static_cast<double>(added[static_cast<size_t>(t * w.n + r)]);
        sum += a;
        size += std::fabs(a);
      }
      p.value.push_back(sum);
      p.bound.push_back(3e-6 * size + 1e-30);
    }
  }
  return p;
}

void expect_product(const CpuKernels& kernels, const Weight& w, const Product& expected,
                    const std::vector<float>& x, int64_t m, const std::vector<float>& added,
                    std::vector<float>* y, bool has_kernel = true) {
  y->assign(static_cast<size_t>(m * w.n), std::numeric_limits<float>::quiet_NaN());
  if (!added.empty()) *y = added;
  MatmulScratch scratch;
  matmul(kernels, w, x.data(), m, y->data(), !added.empty(), scratch);
  EXPECT_EQ(scratch.fallbacks.contains(to_string(w.encoding)), !has_kernel);
  for (size_t i = 0; i < y->size(); ++i) {
    ASSERT_NEAR(static_cast<double>((*y)[i]), expected.value[i], expected.bound[i])
        << to_string(w.encoding) << " " << w.n << " x " << w.k << ", m = " << m << ", element "
        << i;
  }
}

class Matmul : public testing::Test {
 protected:
  void TearDown() override { set_threads(0); }
};

TEST_F(Matmul, equals_float64_and_does_not_depend_on_the_number_of_threads) {
  for (const Encoding& e : test::encoding_families()) {
    for (const int64_t k : {1, 17, 64, 172, 600}) {
      for (const int64_t n : {1, 31, 32, 33, 100}) {
        const auto values = test::weight_values(n, k, static_cast<uint64_t>(n));
        const Weight w = encode(e, n, k, values.data());
        const auto x = test::uniform_values(33 * k, 20);
        const auto all_added = test::uniform_values(33 * n, 21);
        for (const bool add : {false, true}) {
          std::vector<float> added;
          if (add) added = all_added;
          const Product all = reference(w, x, add && k != 172 ? 9 : 33, added);
          for (const CpuKernels* kernels : test::kernel_levels()) {
            SCOPED_TRACE(kernels->name);
            std::vector<std::vector<float>> first;
            for (const int threads : {1, 2, 3}) {
              // One thread and three elsewhere; all of them where tiles are several.
              if (threads == 2 && n < 100) continue;
              set_threads(threads);
              size_t i = 0;
              for (const int64_t m : kRows) {
                if (m * n > static_cast<int64_t>(all.value.size())) continue;
                std::vector<float> y, part;
                if (add) part.assign(added.begin(), added.begin() + m * n);
                expect_product(*kernels, w, all, x, m, part, &y);
                if (HasFatalFailure()) return;
                if (threads == 1) {
                  first.push_back(std::move(y));
                } else {
                  ASSERT_EQ(y, first[i++])
                      << to_string(e) << ", m = " << m << ", " << threads << " threads";
                }
              }
            }
          }
        }
      }
    }
  }
}

// They have no kernels yet: rows are decoded.
TEST_F(Matmul, sparse_products_equal_float64) {
  const int64_t n = 33, k = 172;
  for (const Encoding& e : test::sparse_encodings()) {
    const Weight w = encode(e, n, k, test::weight_values(n, k, 5).data());
    const auto x = test::uniform_values(33 * k, 22);
    const Product expected = reference(w, x, 33, {});
    std::vector<float> y;
    for (const int64_t m : {1, 9, 33}) {
      expect_product(*test::kernel_levels().front(), w, expected, x, m, {}, &y, false);
      if (HasFatalFailure()) return;
    }
  }
}

// A row of x gives the same bits whatever runs beside it, on each side of the panel limit.
TEST_F(Matmul, a_token_does_not_depend_on_its_neighbours) {
  const CpuKernels& kernels = *test::kernel_levels().front();
  for (const Encoding& e : test::encoding_families()) {
    const int64_t n = 70, k = 172;
    const auto values = test::weight_values(n, k, 1);
    const Weight w = encode(e, n, k, values.data());
    const auto x = test::uniform_values(40 * k, 2);
    MatmulScratch scratch;
    const auto run = [&](int64_t first, int64_t m) {
      std::vector<float> y(static_cast<size_t>(m * n));
      matmul(kernels, w, x.data() + first * k, m, y.data(), false, scratch);
      return y;
    };
    const auto few = run(0, kPanelRows - 1), many = run(0, 40);
    for (int64_t t = 0; t + 1 < kPanelRows; ++t) {
      const auto alone = run(t, 1);
      ASSERT_TRUE(std::equal(alone.begin(), alone.end(), few.begin() + t * n)) << to_string(e);
    }
    for (const int64_t first : {0, 5, 23}) {
      const auto part = run(first, 13);
      ASSERT_TRUE(std::equal(part.begin(), part.end(), many.begin() + first * n)) << to_string(e);
    }
  }
}

TEST_F(Matmul, reads_no_more_than_the_slack_behind_a_plane) {
  for (const Encoding& e : test::writable_encodings()) {
    for (const auto& [n, k] :
         {std::pair<int64_t, int64_t>{1, 1}, {5, 17}, {3, 31}, {2, 64}, {33, 130}}) {
      const auto values = test::weight_values(n, k, 3);
      const Weight w = encode(e, n, k, values.data());
      const Weight guarded = test::guarded_copy(w);
      for (const CpuKernels* kernels : test::kernel_levels()) {
        std::vector<float> a(static_cast<size_t>(n * k)), b(a.size());
        decode_rows(*kernels, w, 0, n, a.data());
        decode_rows(*kernels, guarded, 0, n, b.data());
        ASSERT_EQ(a, b) << to_string(e);
        for (const int64_t m : {1, 9}) {
          // x and y end where their memory ends: they have no slack of their own.
          test::GuardedMemory x(static_cast<size_t>(m * k) * 4, 0),
              y(static_cast<size_t>(m * n) * 4, 0);
          MatmulScratch scratch;
          matmul(*kernels, guarded, x.as<float>(), m, y.as<float>(), false, scratch);
        }
      }
    }
  }
}

TEST_F(Matmul, encodings_without_a_kernel_go_through_the_reference_and_are_noted) {
  for (const GgmlTypeInfo& type : ggml_types()) {
    if (type.block == 1) continue;
    const Encoding e = Encoding::of_ggml(type.type);
    EXPECT_EQ(row_format(e), std::nullopt);
    const int64_t n = 37, k = 512;
    const OwnedWeight owned = allocate_weight(e, n, k);
    Rng rng(4);
    for (std::byte& b : owned.planes[0].bytes) b = static_cast<std::byte>(rng.next() & 0x3f);
    std::vector<float> decoded(static_cast<size_t>(n * k)), by_kernels(decoded.size());
    reference_decode(owned.weight, 0, n, decoded.data());
    decode_rows(*test::kernel_levels().front(), owned.weight, 0, n, by_kernels.data());
    EXPECT_EQ(decoded, by_kernels);
    const auto x = test::uniform_values(9 * k, 5);
    for (const CpuKernels* kernels : test::kernel_levels()) {
      for (const int64_t m : {1, 3, 9}) {
        std::vector<float> y;
        expect_product(*kernels, owned.weight, reference(owned.weight, x, m, {}), x, m, {}, &y,
                       false);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_F(Matmul, encodings_with_a_kernel_are_not_noted) {
  const std::vector<float> values(64), x(64);
  float y = 0;
  MatmulScratch scratch;
  for (const Encoding& e : test::writable_encodings()) {
    matmul(cpu_kernels(), encode(e, 1, 64, values.data()), x.data(), 1, &y, false, scratch);
  }
  EXPECT_TRUE(scratch.fallbacks.empty());
}

}  // namespace
}  // namespace pith
