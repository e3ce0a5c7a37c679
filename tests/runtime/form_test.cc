// Forms of linears, and linears of several terms decoded by the kernels.

#include "runtime/model/form.h"

#include <gtest/gtest.h>

#include <cmath>

#include "runtime/compress/slabs.h"
#include "runtime/cpu/decode.h"
#include "tests/support/encodings.h"

namespace pith {
namespace {

Weight weight(const char* type, int64_t n, int64_t k, uint64_t seed) {
  return encode(parse_encoding(type), n, k, test::uniform_values(n * k, seed).data());
}

Linear two_terms(int64_t n, int64_t k, int64_t rank) {
  Linear linear{.name = "x", .n = n, .k = k, .terms = {}, .bias = {}};
  linear.terms.push_back({weight("int4-g64-asym", n, k, 1), {}});
  linear.terms.push_back({weight("int8-g64", rank, k, 2), weight("f16", n, rank, 3)});
  return linear;
}

TEST(LinearForm, says_what_a_linear_is_stored_as) {
  const Linear linear = two_terms(48, 80, 5);
  const LinearForm form = form_of(linear);
  EXPECT_EQ(to_string(form), "int4-g64-asym + rank 5 of int8-g64 and f16");
  EXPECT_EQ(encoded_bytes(form, 48, 80), linear.bytes());
  EXPECT_FALSE(form.plain());
  EXPECT_TRUE(form.compressed());
  const LinearForm dense = plain_form(Encoding::dense(DType::kBF16));
  EXPECT_TRUE(dense.plain());
  EXPECT_FALSE(dense.compressed());
  EXPECT_EQ(to_string(LinearForm{.terms = {{Encoding::nf4(64), 16, Encoding::nf4(64)}}}),
            "rank 16 of nf4-g64");
}

// Sums in f64 over what the reference decodes of each weight.
std::vector<double> sum_of_terms(const Linear& linear) {
  std::vector<double> sum(static_cast<size_t>(linear.n * linear.k));
  for (const Term& t : linear.terms) {
    std::vector<float> w(static_cast<size_t>(t.w.n * t.w.k));
    reference_decode(t.w, 0, t.w.n, w.data());
    for (size_t i = 0; i < w.size() && !t.up; ++i) sum[i] += static_cast<double>(w[i]);
    if (!t.up) continue;
    std::vector<float> up(static_cast<size_t>(t.up->n * t.up->k));
    reference_decode(*t.up, 0, t.up->n, up.data());
    for (size_t i = 0; i < sum.size(); ++i) {
      const size_t k = static_cast<size_t>(linear.k), rank = static_cast<size_t>(t.w.n);
      for (size_t r = 0; r < rank; ++r) {
        sum[i] += static_cast<double>(up[i / k * rank + r]) * static_cast<double>(w[r * k + i % k]);
      }
    }
  }
  return sum;
}

TEST(DecodeRows, adds_up_terms_and_gives_each_row_the_same_bits_whatever_is_decoded_with_it) {
  for (const auto& [n, k, rank] :
       std::vector<std::array<int64_t, 3>>{{48, 80, 5}, {33, 130, 17}, {16, 64, 1}}) {
    const Linear linear = two_terms(n, k, rank);
    std::vector<float> all(static_cast<size_t>(n * k)), reference(all.size());
    decode_rows(linear, 0, n, all.data());
    reference_decode(linear, 0, n, reference.data());
    const auto expected = sum_of_terms(linear);
    for (size_t i = 0; i < all.size(); ++i) {
      ASSERT_NEAR(static_cast<double>(all[i]), expected[i], 1e-5);
      ASSERT_NEAR(static_cast<double>(reference[i]), expected[i], 1e-5);
    }
    const int64_t slab = slab_rows(linear);
    EXPECT_GT(slab, 0);
    for (const int64_t rows : {int64_t{1}, int64_t{3}, std::min(slab, n)}) {
      for (int64_t row = 0; row + rows <= n; row += rows) {
        std::vector<float> some(static_cast<size_t>(rows * k));
        decode_rows(linear, row, rows, some.data());
        ASSERT_TRUE(std::equal(some.begin(), some.end(), all.begin() + row * k)) << row;
      }
    }
  }
}

}  // namespace
}  // namespace pith
