#include "formats/encodings/ggml.h"

#include <gtest/gtest.h>

#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "core/file.h"
#include "core/json.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

std::vector<std::byte> from_hex(const std::string& hex) {
  std::vector<std::byte> bytes(hex.size() / 2);
  for (size_t i = 0; i < bytes.size(); ++i) {
    uint8_t v = 0;
    std::from_chars(hex.data() + 2 * i, hex.data() + 2 * i + 2, v, 16);
    bytes[i] = std::byte{v};
  }
  return bytes;
}

Weight weight_of(GgmlType type, int64_t n, int64_t k, std::span<const std::byte> codes) {
  return {.encoding = Encoding::of_ggml(type),
          .n = n,
          .k = k,
          .planes = {{PlaneKind::kCodes, codes}},
          .owner = {}};
}

std::vector<float> decode(const Weight& w, int64_t row, int64_t rows) {
  std::vector<float> out(static_cast<size_t>(rows * w.k), NAN);
  kGgmlOps.decode(w, row, rows, out.data());
  return out;
}

// Made by tests/golden/make_ggml_goldens.py.
TEST(Ggml, every_block_type_decodes_to_the_bits_of_the_python_reader) {
  const std::string path = test::fixture("golden/ggml.json");
  const Json cases = parse_json(read_text_file(path, 1 << 20), path);
  size_t compared = 0;
  for (const Json& c : cases) {
    const GgmlTypeInfo* type = ggml_type_info(static_cast<uint32_t>(json_uint(c, "type", path)));
    ASSERT_NE(type, nullptr);
    EXPECT_EQ(type->name, json_string(c, "name", path));
    const auto n = static_cast<int64_t>(json_uint(c, "rows", path));
    const auto k = static_cast<int64_t>(json_uint(c, "k", path));
    const auto bytes = from_hex(json_string(c, "bytes", path));
    const auto expected = from_hex(json_string(c, "f32", path));
    const auto layout = kGgmlOps.planes(Encoding::of_ggml(type->type), n, k);
    ASSERT_EQ(layout[0].bytes, bytes.size()) << type->name;

    const std::vector<float> out = decode(weight_of(type->type, n, k, bytes), 0, n);
    ASSERT_EQ(out.size() * sizeof(float), expected.size()) << type->name;
    for (size_t i = 0; i < out.size(); ++i) {
      uint32_t bits;
      std::memcpy(&bits, expected.data() + i * sizeof(bits), sizeof(bits));
      ASSERT_EQ(std::bit_cast<uint32_t>(out[i]), bits)
          << type->name << " weight " << i << ": " << out[i] << ", expected "
          << std::bit_cast<float>(bits);
    }
    ++compared;
  }
  size_t block_types = 0;
  for (const GgmlTypeInfo& t : ggml_types()) block_types += t.block > 1;
  EXPECT_EQ(compared, block_types) << "a type without a golden";
}

TEST(Ggml, a_q4_1_block_by_hand) {
  std::vector<std::byte> block(20, std::byte{0});
  block[1] = std::byte{0x40};  // d = 2
  block[3] = std::byte{0x3c};  // m = 1
  block[4] = std::byte{0x5f};  // q[0] = 15, q[16] = 5
  const auto out = decode(weight_of(GgmlType::kQ4_1, 1, 32, block), 0, 1);
  EXPECT_EQ(out[0], 31.0f);
  EXPECT_EQ(out[1], 1.0f);
  EXPECT_EQ(out[16], 11.0f);
}

TEST(Ggml, rows_decode_alone_as_they_do_together) {
  for (const GgmlTypeInfo& t : ggml_types()) {
    if (t.block == 1) continue;
    const int64_t n = 5, k = 2 * t.block;
    std::vector<std::byte> bytes(kGgmlOps.planes(Encoding::of_ggml(t.type), n, k)[0].bytes);
    for (size_t i = 0; i < bytes.size(); ++i)
      bytes[i] = static_cast<std::byte>((i * 37 + i / 7) & 0x3f);
    const Weight w = weight_of(t.type, n, k, bytes);
    const auto whole = decode(w, 0, n);
    const auto part = decode(w, 2, 2);
    const std::vector<float> expected(whole.begin() + 2 * k, whole.begin() + 4 * k);
    EXPECT_EQ(part, expected) << t.name;
    EXPECT_TRUE(decode(w, n, 0).empty());
  }
}

TEST(Ggml, names_parse_to_what_they_were_formatted_from) {
  for (const GgmlTypeInfo& t : ggml_types()) {
    EXPECT_EQ(ggml_type_info(static_cast<uint32_t>(t.type)), &t);
    const Encoding e = encoding_of(t.type);
    Encoding back;
    if (t.block == 1) {
      EXPECT_EQ(e.kind, EncodingKind::kDense);
      EXPECT_EQ(info(e.dtype).bytes, t.bytes);
      EXPECT_FALSE(kGgmlOps.parse(std::string("ggml-") + t.name, &back));
      continue;
    }
    EXPECT_EQ(kGgmlOps.format(e), std::string("ggml-") + t.name);
    EXPECT_TRUE(kGgmlOps.parse(kGgmlOps.format(e), &back));
    EXPECT_EQ(back, e);
  }
  Encoding e;
  for (const char* name : {"", "ggml", "ggml-", "q4_1", "ggml-q4_1x", "ggml-Q4_1", "ggml-q8_1"}) {
    EXPECT_FALSE(kGgmlOps.parse(name, &e)) << name;
  }
}

TEST(Ggml, nonsense_is_a_usage_error) {
  const Encoding q4k = Encoding::of_ggml(GgmlType::kQ4_K);
  EXPECT_PITH_ERROR(kGgmlOps.check(Encoding::of_ggml(GgmlType::kF16)), ErrorKind::kUsage,
                    "not a block type");
  EXPECT_PITH_ERROR(kGgmlOps.check(Encoding::of_ggml(static_cast<GgmlType>(99))), ErrorKind::kUsage,
                    "99");
  EXPECT_PITH_ERROR(kGgmlOps.planes(q4k, 2, 255), ErrorKind::kUsage, "a multiple of 256");
  EXPECT_PITH_ERROR(kGgmlOps.planes(q4k, -1, 256), ErrorKind::kUsage, "a matrix of -1 rows");
  EXPECT_PITH_ERROR(kGgmlOps.planes(q4k, INT64_MAX, 256), ErrorKind::kCorrupt, "overflows");
  EXPECT_EQ(kGgmlOps.encode, nullptr);

  const std::vector<std::byte> bytes(2 * 144);
  float out[3 * 256];
  const auto w = weight_of(GgmlType::kQ4_K, 2, 256, bytes);
  EXPECT_PITH_ERROR(kGgmlOps.decode(w, 1, 2, out), ErrorKind::kUsage, "2 rows from row 1 of 2");
  EXPECT_PITH_ERROR(kGgmlOps.decode(w, -1, 1, out), ErrorKind::kUsage, "from row -1");
  const auto cut = weight_of(GgmlType::kQ4_K, 2, 256, std::span(bytes).first(287));
  EXPECT_PITH_ERROR(kGgmlOps.decode(cut, 1, 1, out), ErrorKind::kCorrupt, "in a plane of 287");
}

}  // namespace
}  // namespace pith
