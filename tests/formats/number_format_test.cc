#include "formats/encodings/number_format.h"

#include <gtest/gtest.h>

#include "tests/support/encodings.h"

namespace pith {
namespace {

TEST(NumberFormat, an_integer_of_so_many_bits_has_them) {
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    EXPECT_TRUE(is_integer(int_format(bits)));
    EXPECT_EQ(bits_of(int_format(bits)), bits);
  }
}

TEST(NumberFormat, the_first_are_those_of_kernels_over_rows) {
  constexpr NumberFormat kRows[] = {NumberFormat::kF32,  NumberFormat::kF16,  NumberFormat::kBF16,
                                    NumberFormat::kE4M3, NumberFormat::kE5M2, NumberFormat::kInt8,
                                    NumberFormat::kInt4};
  static_assert(std::size(kRows) == kRowFormats);
  for (int i = 0; i < kRowFormats; ++i) {
    EXPECT_EQ(static_cast<int>(kRows[i]), i);
    EXPECT_EQ(is_integer(kRows[i]), i >= kRowFloats);
  }
}

// Rows and columns of whole units, so that the plane of codes has nothing but codes.
TEST(NumberFormat, of_an_encoding_has_the_bits_of_its_codes) {
  constexpr int64_t n = 32, k = 256;
  for (const Encoding& e : test::writable_encodings()) {
    const auto format = number_format(e);
    ASSERT_TRUE(format) << to_string(e);
    for (const PlaneLayout& plane : plane_layouts(e, n, k)) {
      if (plane.kind != PlaneKind::kCodes) continue;
      const int64_t of_row = k * bits_of(*format) + (is_trellis(*format) ? 32 : 0);  // last window
      EXPECT_EQ(plane.bytes * 8, static_cast<uint64_t>(n * of_row)) << to_string(e);
    }
  }
}

TEST(NumberFormat, is_none_of_blocks_sparse_weights_and_integers_without_scales) {
  EXPECT_FALSE(number_format(Encoding::of_ggml(GgmlType::kQ4_K)));
  EXPECT_FALSE(number_format(Encoding::sparse(Encoding::integer(4, 64), Sparsity::n_of_m(2, 4))));
  EXPECT_FALSE(number_format(Encoding::dense(DType::kI8)));
}

}  // namespace
}  // namespace pith
