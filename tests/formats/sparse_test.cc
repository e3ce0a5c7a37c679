// Sparse matrices: masks, the bytes of their planes, and planes that lie. What holds of every
// encoding is tested over the list of them in encodings_test.cc.

#include "formats/encodings/sparse.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/rng.h"
#include "tests/support/encodings.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

const Encoding kF32 = Encoding::dense(DType::kF32);

std::vector<float> decode_all(const Weight& w) {
  std::vector<float> out(static_cast<size_t>(w.n * w.k));
  reference_decode(w, 0, w.n, out.data());
  return out;
}

// The mask as a table, from its words.
std::vector<bool> table_of(std::span<const uint32_t> mask, int64_t rows, int64_t k) {
  std::vector<bool> out;
  const auto words = static_cast<size_t>(mask_words(k));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < k; ++c)
      out.push_back(is_kept(mask.subspan(static_cast<size_t>(r) * words, words), c));
  }
  return out;
}

TEST(Sparse, names_are_what_the_documents_say) {
  const Encoding two_four = Encoding::sparse(Encoding::integer(4, 64), Sparsity::n_of_m(2, 4));
  EXPECT_EQ(to_string(two_four), "int4-g64-2:4");
  EXPECT_EQ(parse_encoding("int4-g64-2:4"), two_four);
  EXPECT_EQ(parse_encoding("bf16-bitmap512"),
            Encoding::sparse(Encoding::dense(DType::kBF16), Sparsity::bitmap(512)));
  EXPECT_EQ(parse_encoding("mxfp4-4:8").inner(), Encoding::mxfp4());
  EXPECT_FALSE(kF32.is_sparse());
  EXPECT_EQ(kF32.inner(), kF32);
  for (const char* name : {"int4-g64-2:", "int4-g64-:4", "int4-g64-2:4x", "2:4", "int4-g64-bitmap",
                           "bitmap4", "int4-g64-2:4-2:4", "int9x-2:4", "q4_0-2:4"})
    EXPECT_PITH_ERROR(parse_encoding(name), ErrorKind::kUsage, "unknown encoding");
  for (const char* name : {"int4-g64-0:4", "int4-g64-4:4", "int4-g64-5:4", "int4-g64-2:2000",
                           "int4-g64--1:4", "int4-g64-bitmap0", "int7-2:4", "int4-g48-2:4"})
    EXPECT_PITH_ERROR(parse_encoding(name), ErrorKind::kUsage, "");
}

TEST(Sparse, what_no_matrix_can_have_is_refused) {
  const auto refused = [](const Encoding& nonsense) {
    EXPECT_PITH_ERROR(plane_layouts(nonsense, 4, 64), ErrorKind::kUsage, "");
  };
  refused(Encoding::sparse(Encoding::of_ggml(GgmlType::kQ4_0), Sparsity::n_of_m(2, 4)));
  refused(Encoding::sparse(Encoding::dense(DType::kI8), Sparsity::n_of_m(2, 4)));
  refused(Encoding::sparse(kF32, {}));
  refused(Encoding::sparse(kF32, {SparsityKind::kBitmap, 4, 8}));
  refused(Encoding::sparse(kF32, {static_cast<SparsityKind>(3), 2, 4}));
  Encoding nested = Encoding::sparse(kF32, Sparsity::n_of_m(2, 4));
  nested.values = EncodingKind::kSparse;
  EXPECT_THROW(plane_layouts(nested, 4, 64), Error);
}

TEST(Sparse, sizes_count_the_mask) {
  const auto bits = [](const char* name) {
    return static_cast<double>(encoded_bytes(parse_encoding(name), 4096, 4096)) / (4096 * 512);
  };
  EXPECT_DOUBLE_EQ(bits("bf16-2:4"), 8 + 1);
  EXPECT_DOUBLE_EQ(bits("int4-g64-2:4"), 4.25 / 2 + 1);
  EXPECT_DOUBLE_EQ(bits("int4-g64-bitmap1024"), 4.25 / 4 + 1);
  // 3 groups of 4 and one of 2: 8 values; 14 columns: one word.
  EXPECT_EQ(kept_per_row(Sparsity::n_of_m(2, 4), 14), 8);
  EXPECT_EQ(kept_per_row(Sparsity::n_of_m(3, 4), 14), 11);
  EXPECT_EQ(kept_per_row(Sparsity::bitmap(20), 14), 14);
  EXPECT_EQ(encoded_bytes(Encoding::sparse(kF32, Sparsity::n_of_m(2, 4)), 3, 14), 3u * (32 + 4));
}

// The example of docs/format.md.
TEST(Sparse, bytes_are_those_of_the_format) {
  const float w[] = {0, 5, 0, -6, 7, 0, 0, 8, 0, 9};
  const Weight encoded =
      encode(Encoding::sparse(Encoding::dense(DType::kF16), Sparsity::n_of_m(2, 4)), 1, 10, w);
  ASSERT_EQ(encoded.planes.size(), 2u);
  EXPECT_EQ(encoded.planes[0].kind, PlaneKind::kCodes);
  EXPECT_EQ(encoded.planes[1].kind, PlaneKind::kIndices);
  std::vector<float> values(6);
  to_f32(DType::kF16, encoded.planes[0].bytes.data(), values.data(), 6);
  EXPECT_EQ(values, (std::vector<float>{5, -6, 7, 8, 0, 9}));
  uint32_t mask;
  std::memcpy(&mask, encoded.planes[1].bytes.data(), 4);
  EXPECT_EQ(mask, 0b11'1001'1010u);
}

TEST(Sparse, magnitude_keeps_the_largest_of_each_group) {
  for (const Sparsity s : {Sparsity::n_of_m(2, 4), Sparsity::n_of_m(1, 3), Sparsity::n_of_m(5, 8),
                           Sparsity::bitmap(1), Sparsity::bitmap(37)}) {
    for (const int64_t k : {1, 2, 31, 32, 33, 100}) {
      const auto w = test::weight_values(5, k, 3);
      const auto kept = table_of(magnitude_mask(s, k, 5, w.data()), 5, k);
      const int64_t group = s.kind == SparsityKind::kNM ? s.of : k;
      for (int64_t i = 0; i < 5 * k; ++i) {
        const int64_t row = i / k, begin = i % k / group * group;
        int64_t before = 0;  // larger ones of the group, and equal ones on the left
        for (int64_t c = begin; c < std::min(k, begin + group); ++c) {
          const float a = std::fabs(w[static_cast<size_t>(row * k + c)]),
                      b = std::fabs(w[static_cast<size_t>(i)]);
          before += a > b || (a == b && c < i % k) ? 1 : 0;
        }
        ASSERT_EQ(kept[static_cast<size_t>(i)], before < s.kept) << to_string(s) << " " << i;
      }
    }
  }
}

// Any mask that fits: what is kept is what the inner encoding keeps of the values side by side.
TEST(Sparse, encodes_the_values_of_a_mask_as_the_inner_encoding_does) {
  Rng rng(11);
  for (const Encoding& e : test::sparse_encodings()) {
    SCOPED_TRACE(to_string(e));
    const int64_t n = 20, k = 77, kept = kept_per_row(e.sparsity, k);
    const int64_t group = e.sparsity.kind == SparsityKind::kNM ? e.sparsity.of : k;
    std::vector<uint32_t> mask(static_cast<size_t>(n * mask_words(k)));
    const auto w = test::weight_values(n, k, 12);
    std::vector<float> values(static_cast<size_t>(n * kept));
    for (int64_t r = 0; r < n; ++r) {
      float* to = values.data() + r * kept;
      for (int64_t begin = 0; begin < k; begin += group) {
        const int64_t size = std::min(group, k - begin);
        int64_t left = std::min(e.sparsity.kept, size);
        if (e.sparsity.kind == SparsityKind::kBitmap) left -= r % 3;  // rows that keep fewer
        for (int64_t c = begin; c < begin + size; ++c) {
          const int64_t rest = begin + size - c;
          if (static_cast<int64_t>(rng.next() % static_cast<uint64_t>(rest)) >= left) continue;
          --left;
          mask[static_cast<size_t>(r * mask_words(k) + c / 32)] |= 1u << (c % 32);
          *to++ = w[static_cast<size_t>(r * k + c)];
        }
      }
    }
    float absmax = 0;
    for (const float v : values) absmax = std::max(absmax, std::fabs(v));
    const OwnedWeight sparse = allocate_weight(e, n, k);
    encode_masked(e, n, k, 0, n, w.data(), mask, absmax, sparse.planes);
    EXPECT_EQ(stored_mask(sparse.weight, 0, n), mask);
    const Weight inner = encode(e.inner(), n, kept, values.data());
    const Weight view = kept_values(sparse.weight);
    for (const auto& p : inner.planes)
      EXPECT_TRUE(std::ranges::equal(p.bytes, view.plane(p.kind))) << plane_name(p.kind);
    const auto expected = decode_all(inner), decoded = decode_all(sparse.weight);
    const auto table = table_of(mask, n, k);
    for (int64_t r = 0; r < n; ++r) {
      auto from = static_cast<size_t>(r * kept);
      for (int64_t c = 0; c < k; ++c) {
        const auto i = static_cast<size_t>(r * k + c);
        ASSERT_EQ(decoded[i], table[i] ? expected[from++] : 0) << r << ", " << c;
      }
    }
  }
}

TEST(Sparse, masks_that_do_not_fit_are_corrupt) {
  struct Case {
    Sparsity sparsity;
    uint32_t mask;  // of 10 columns
    const char* text;
  };
  for (const Case& c : {
           Case{Sparsity::n_of_m(2, 4), 0b11'1001'1010u, nullptr},
           Case{Sparsity::n_of_m(2, 4), 0b11'1001'1110u, "3 columns of [0, 4) are kept, 2"},
           Case{Sparsity::n_of_m(2, 4), 0b11'1000'1010u, "1 columns of [4, 8) are kept, 2"},
           Case{Sparsity::n_of_m(2, 4), 0b10'1001'1010u, "1 columns of [8, 10) are kept, 2"},
           Case{Sparsity::n_of_m(2, 4), 0b111'1001'1010u, "a column beyond the 10"},
           Case{Sparsity::bitmap(3), 0b00'0000'0000u, nullptr},
           Case{Sparsity::bitmap(3), 0b10'0100'1000u, nullptr},
           Case{Sparsity::bitmap(3), 0b10'0100'1001u, "4 columns of [0, 10) are kept, 3"},
           Case{Sparsity::bitmap(3), 0x80000000u, "a column beyond the 10"},
       }) {
    const Encoding sparse = Encoding::sparse(kF32, c.sparsity);
    const OwnedWeight w = allocate_weight(sparse, 2, 10);
    const std::vector<float> x(20, 1);
    const uint32_t good = c.sparsity.kind == SparsityKind::kNM ? 0b11'0011'0011u : 0b111u;
    const std::vector<uint32_t> mask = {good, c.mask};
    std::memcpy(find_plane(w.planes, PlaneKind::kIndices).data(), mask.data(), 8);
    std::vector<float> out(20);
    if (c.text == nullptr) {
      EXPECT_NO_THROW(reference_decode(w.weight, 0, 2, out.data()));
      EXPECT_NO_THROW(encode_masked(sparse, 2, 10, 0, 2, x.data(), mask, 1, w.planes));
      continue;
    }
    EXPECT_PITH_ERROR(reference_decode(w.weight, 0, 2, out.data()), ErrorKind::kCorrupt, c.text);
    EXPECT_PITH_ERROR(reference_decode(w.weight, 1, 1, out.data()), ErrorKind::kCorrupt, "row 1");
    EXPECT_NO_THROW(reference_decode(w.weight, 0, 1, out.data()));
    EXPECT_PITH_ERROR(encode_masked(sparse, 2, 10, 0, 2, x.data(), mask, 1, w.planes),
                      ErrorKind::kCorrupt, c.text);
  }
  const Encoding sparse = Encoding::sparse(kF32, Sparsity::n_of_m(2, 4));
  const OwnedWeight w = allocate_weight(sparse, 2, 10);
  const std::vector<float> x(20, 1);
  EXPECT_PITH_ERROR(
      encode_masked(sparse, 2, 10, 0, 2, x.data(), std::vector<uint32_t>(3), 1, w.planes),
      ErrorKind::kUsage, "a mask of 3 words");
}

}  // namespace
}  // namespace pith
