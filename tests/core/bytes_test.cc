#include "core/bytes.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/support/test_data.h"

namespace pith {
namespace {

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

TEST(Checked, sums_and_products_that_fit_pass) {
  EXPECT_EQ(checked_add(kMax, 0, "x"), kMax);
  EXPECT_EQ(checked_add(kMax - 5, 5, "x"), kMax);
  EXPECT_EQ(checked_mul(kMax, 1, "x"), kMax);
  EXPECT_EQ(checked_mul(kMax, 0, "x"), 0u);
  EXPECT_EQ(checked_mul(0xffffffff, 0x100000001, "x"), kMax);
}
TEST(Checked, sums_and_products_that_wrap_are_corrupt) {
  EXPECT_PITH_ERROR(checked_add(kMax, 1, "the sum"), ErrorKind::kCorrupt,
                    "the sum: 18446744073709551615 + 1 overflows");
  EXPECT_PITH_ERROR(checked_mul(uint64_t{1} << 32, uint64_t{1} << 32, "x"), ErrorKind::kCorrupt,
                    "overflows");
  EXPECT_PITH_ERROR(checked_mul(7, 7905747460161236407, "x"), ErrorKind::kCorrupt, "overflows");
}
TEST(Checked, casts_pass_only_what_fits) {
  EXPECT_EQ(checked_cast<uint8_t>(255, "x"), 255);
  EXPECT_EQ(checked_cast<int64_t>(kMax >> 1, "x"), std::numeric_limits<int64_t>::max());
  EXPECT_PITH_ERROR(checked_cast<uint8_t>(256, "x"), ErrorKind::kCorrupt, "x: 256 is out of range");
  EXPECT_PITH_ERROR(checked_cast<uint8_t>(-1, "x"), ErrorKind::kCorrupt, "out of range");
  EXPECT_PITH_ERROR(checked_cast<int64_t>(uint64_t{1} << 63, "x"), ErrorKind::kCorrupt,
                    "out of range");
}

TEST(Rounding, goes_up_to_multiples) {
  EXPECT_EQ(round_up(0, 8), 0u);
  EXPECT_EQ(round_up(1, 8), 8u);
  EXPECT_EQ(round_up(8, 8), 8u);
  EXPECT_EQ(ceil_div(0, 8), 0);
  EXPECT_EQ(ceil_div(9, 8), 2);
}

TEST(ByteReader, reads_little_endian_numbers_in_order) {
  const std::string bytes("\x01\x02\x00\x00\x00\x80\x3f\xff!", 9);
  ByteReader r(as_bytes(bytes), "file");
  EXPECT_EQ(r.read<uint16_t>("a"), 0x0201);
  EXPECT_EQ(r.read<uint8_t>("b"), 0);
  EXPECT_EQ(r.read<float>("c"), 1.0f);
  EXPECT_EQ(r.read<int8_t>("d"), -1);
  EXPECT_EQ(r.text(1, "e"), "!");
  EXPECT_EQ(r.offset(), 9u);
  EXPECT_EQ(r.remaining(), 0u);
}

TEST(ByteReader, never_reads_beyond_the_end) {
  const std::string bytes = "12345";
  for (size_t n = 0; n < 8; ++n) {
    ByteReader r(as_bytes(bytes).first(n < 5 ? n : 5), "file");
    EXPECT_PITH_ERROR(r.read<uint64_t>("number"), ErrorKind::kCorrupt,
                      "file: number at offset 0 needs 8 bytes");
  }
  ByteReader r(as_bytes(bytes), "file");
  r.bytes(3, "x");
  EXPECT_PITH_ERROR(r.bytes(3, "part"), ErrorKind::kCorrupt,
                    "file: part at offset 3 needs 3 bytes, 2 remain");
  EXPECT_PITH_ERROR(r.text(kMax, "part"), ErrorKind::kCorrupt, "needs 18446744073709551615 bytes");
  EXPECT_EQ(r.offset(), 3u);  // a failed read takes nothing
  EXPECT_EQ(r.bytes(2, "x").size(), 2u);
  EXPECT_EQ(r.bytes(0, "x").size(), 0u);
}

TEST(ByteReader, counts_are_bounded_by_what_remains) {
  const std::string bytes(100, 'x');
  ByteReader r(as_bytes(bytes), "file");
  EXPECT_EQ(r.count(25, 4, "items"), 25u);
  EXPECT_PITH_ERROR(r.count(26, 4, "items"), ErrorKind::kCorrupt,
                    "file: items at offset 0 is 26, more than");
  EXPECT_PITH_ERROR(r.count(kMax, 16, "items"), ErrorKind::kCorrupt, "can hold");
}

}  // namespace
}  // namespace pith
