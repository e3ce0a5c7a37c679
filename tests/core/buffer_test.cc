#include "core/buffer.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <numeric>

#include "tests/support/test_data.h"

namespace pith {
namespace {

TEST(Buffer, is_aligned_zeroed_and_has_readable_slack) {
  for (const int64_t size : {0, 1, 63, 64, 65, 1000, 1 << 20, (4 << 20) - 1, 4 << 20, 5 << 20}) {
    const Buffer<std::byte> b(size);
    EXPECT_EQ(b.size(), size);
    EXPECT_EQ(b.empty(), size == 0);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(b.data()) % 64, 0u) << size;
    for (int64_t i = 0; i < size + static_cast<int64_t>(kSlack); ++i)
      ASSERT_EQ(b.data()[i], std::byte{0}) << size << " at " << i;
    EXPECT_EQ(b.span().size(), static_cast<size_t>(size));
  }
}

TEST(Buffer, large_ones_begin_at_huge_pages) {
  const Buffer<float> b(4 << 20);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(b.data()) % (2 << 20), 0u);
}

TEST(Buffer, sizes_beyond_memory_are_errors) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  EXPECT_PITH_ERROR(Buffer<std::byte>{kMax}, ErrorKind::kMemory, "cannot allocate");
  EXPECT_PITH_ERROR(Buffer<std::byte>{kMax - 200}, ErrorKind::kMemory, "9223372036854775607");
  EXPECT_PITH_ERROR(Buffer<std::byte>{int64_t{1} << 60}, ErrorKind::kMemory, "cannot allocate");
  // Products that wrap around: to 0 bytes, and to few.
  EXPECT_PITH_ERROR(Buffer<float>{int64_t{1} << 62}, ErrorKind::kMemory, "times 4 bytes");
  EXPECT_PITH_ERROR(Buffer<double>{(int64_t{1} << 61) + 3}, ErrorKind::kMemory, "times 8 bytes");
  EXPECT_PITH_ERROR(Buffer<std::byte>{-1}, ErrorKind::kMemory, "cannot allocate");
  EXPECT_PITH_ERROR(Buffer<float>{-4}, ErrorKind::kMemory, "cannot allocate");
}

TEST(Buffer, requiring_less_keeps_the_memory_and_more_takes_new) {
  Buffer<int> b;
  EXPECT_TRUE(b.empty());
  b.require(10);
  std::iota(b.begin(), b.end(), 0);
  const int* before = b.data();
  b.require(5);
  EXPECT_EQ(b.data(), before);
  EXPECT_EQ(b.size(), 10);
  EXPECT_EQ(b[9], 9);
  b.require(1000);
  EXPECT_EQ(b.size(), 1000);
  EXPECT_EQ(b[9], 0);
}

TEST(Buffer, moves_hand_the_memory_over) {
  Buffer<int> a(3);
  a[2] = 7;
  const int* where = a.data();
  const Buffer<int> b = std::move(a);
  EXPECT_EQ(b.data(), where);
  EXPECT_EQ(b[2], 7);
}

}  // namespace
}  // namespace pith
