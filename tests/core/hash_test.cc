#include "core/hash.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/bytes.h"
#include "core/rng.h"

namespace pith {
namespace {

std::vector<std::byte> noise(size_t n) {
  std::vector<std::byte> out(n);
  for (size_t i = 0; i < n; ++i) out[i] = static_cast<std::byte>(Rng(3).at(i));
  return out;
}

TEST(Hash, is_xxh3_of_64_bits) {
  EXPECT_EQ(hash64({}), 0x2d06800538d394c2u);  // published for the empty input
  EXPECT_NE(hash64({}, 1), hash64({}));
}

TEST(Hash, pieces_of_any_size_give_the_hash_of_the_whole) {
  for (const size_t n : {0, 1, 16, 17, 128, 240, 241, 1024, 100000}) {
    const auto bytes = noise(n);
    const uint64_t whole = hash64(bytes);
    for (const size_t piece : {1, 7, 64, 1000, 1 << 20}) {
      Hasher h;
      for (size_t i = 0; i < n; i += piece)
        h.add(std::span(bytes).subspan(i, std::min(piece, n - i)));
      ASSERT_EQ(h.value(), whole) << n << " in pieces of " << piece;
      ASSERT_EQ(h.value(), whole) << "asked again";
    }
  }
}

TEST(Hash, sees_every_bit) {
  auto bytes = noise(300);
  const uint64_t before = hash64(bytes);
  for (size_t i = 0; i < bytes.size() * 8; ++i) {
    bytes[i / 8] ^= static_cast<std::byte>(1 << i % 8);
    ASSERT_NE(hash64(bytes), before) << "bit " << i;
    bytes[i / 8] ^= static_cast<std::byte>(1 << i % 8);
  }
  bytes.push_back(std::byte{0});
  EXPECT_NE(hash64(bytes), before);
}

TEST(Hash, a_hasher_that_moved_goes_on) {
  Hasher a;
  a.add(as_bytes("one "));
  Hasher b = std::move(a);
  b.add(as_bytes("two"));
  EXPECT_EQ(b.value(), hash64(as_bytes("one two")));
}

}  // namespace
}  // namespace pith
