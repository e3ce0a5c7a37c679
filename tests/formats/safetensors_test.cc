#include "formats/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "core/bytes.h"
#include "tests/support/safetensors_bytes.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

using test::parse_text;
using test::safetensors_bytes;
using test::TemporaryFolder;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

constexpr auto kTwo =
    R"({"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]},"a":{"dtype":"BF16","shape":[1,2],"data_offsets":[0,4]}})";

std::vector<std::string> names_of(const std::vector<TensorInfo>& tensors) {
  std::vector<std::string> names;
  for (const auto& t : tensors) names.push_back(t.name);
  return names;
}

TEST(Safetensors, tensors_come_in_the_order_of_their_offsets) {
  const auto header = parse_text(kTwo, 12);
  ASSERT_THAT(names_of(header.tensors), ElementsAre("a", "b"));
  const uint64_t data = 8 + std::strlen(kTwo);
  const auto& a = header.tensors[0];
  EXPECT_EQ(a.encoding, Encoding::dense(DType::kBF16));
  EXPECT_THAT(a.shape, ElementsAre(1, 2));
  EXPECT_EQ(a.offset, data);
  EXPECT_EQ(a.bytes, 4u);
  EXPECT_EQ(header.tensors[1].offset, data + 4);
}

struct Accepted {
  const char* name;
  std::string header;
  uint64_t data_bytes;
};
class SafetensorsAccepts : public testing::TestWithParam<Accepted> {};
TEST_P(SafetensorsAccepts, what_the_format_allows) {
  EXPECT_NO_THROW(parse_text(GetParam().header, GetParam().data_bytes));
}
const Accepted kAccepted[] = {
    {"no_tensors", "{}", 0},
    {"no_tensors_and_padding", "{}      ", 0},
    {"spaces_and_line_ends_inside",
     "{ \n\t\"a\" : {\"dtype\":\"U8\",\r\"shape\":[ ],\"data_offsets\":[0 ,1]}}", 1},
    {"rank_0", R"({"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})", 4},
    {"zero_size", R"({"a":{"dtype":"F32","shape":[3,0],"data_offsets":[0,0]}})", 0},
    {"zero_sizes_between_others",
     R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[0],"data_offsets":[2,2]},)"
     R"("c":{"dtype":"U8","shape":[0,7],"data_offsets":[2,2]},"d":{"dtype":"I8","shape":[1],"data_offsets":[2,3]}})",
     3},
    {"zero_before_large_sizes",
     R"({"a":{"dtype":"I64","shape":[0,9223372036854775807,4],"data_offsets":[0,0]}})", 0},
    {"fields_in_any_order", R"({"a":{"data_offsets":[0,4],"shape":[1],"dtype":"F32"}})", 4},
    {"metadata_first",
     R"({"__metadata__":{"format":"pt","":""},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
     1},
    {"metadata_last", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"__metadata__":{}})",
     1},
    {"empty_name", R"({"":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1},
    {"escapes_and_unicode",
     R"({"\u00e9\n\ud83d\ude00 é{\"":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1},
    {"names_that_differ_in_case",
     R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"A":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
     2},
    {"unaligned_tensors",
     R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}})",
     5},
    {"64_dimensions",
     R"({"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,)"
     R"(1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}})",
     1},
};
INSTANTIATE_TEST_SUITE_P(Table, SafetensorsAccepts, testing::ValuesIn(kAccepted),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(Safetensors, every_dtype_of_the_table_is_read) {
  for (const auto& t : dtypes()) {
    const auto header =
        parse_text(fmt::format(R"({{"a":{{"dtype":"{}","shape":[3],"data_offsets":[0,{}]}}}})",
                               t.safetensors, 3 * t.bytes),
                   3 * t.bytes);
    EXPECT_EQ(header.tensors[0].encoding, Encoding::dense(t.type)) << t.name;
  }
}

TEST(Safetensors, metadata_is_kept) {
  EXPECT_THAT(parse_text(R"({"__metadata__":{"format":"pt","x":"\"\u0041"}})", 0).metadata,
              ElementsAre(Pair("format", "pt"), Pair("x", "\"A")));
}

TEST(Safetensors, is_recognised_by_length_and_brace) {
  const auto bytes = safetensors_bytes(kTwo, 12);
  EXPECT_TRUE(looks_like_safetensors(as_bytes(bytes).first(9), bytes.size()));
  EXPECT_FALSE(looks_like_safetensors(as_bytes(bytes).first(8), bytes.size()));
  EXPECT_FALSE(looks_like_safetensors(as_bytes("GGUF\3\0\0\0\0\0\0\0"), 100));
  EXPECT_FALSE(looks_like_safetensors(as_bytes("{\"metadata\": {}}"), 100));
}

// Many tensors: no quadratic search for duplicates.
TEST(Safetensors, a_hundred_thousand_tensors_parse_fast) {
  std::string text = "{";
  for (int i = 0; i < 100'000; ++i) {
    text += fmt::format(R"({}"t{}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
                        i ? "," : "", i);
  }
  EXPECT_EQ(parse_text(text + "}", 0).tensors.size(), 100'000u);
}

TEST(SafetensorsWriter, orders_by_descending_alignment_then_name_and_aligns) {
  const TemporaryFolder folder;
  const std::vector<std::byte> data(64);
  const auto bytes = std::span(data);
  write_safetensors(folder.file("x"),
                    {{"u8", DType::kU8, {3}, bytes.first(3)},
                     {"b", DType::kF32, {2, 2}, bytes.first(16)},
                     {"i64", DType::kI64, {}, bytes.first(8)},
                     {"a", DType::kI32, {1}, bytes.first(4)},
                     {"empty", DType::kF16, {0, 5}, {}}},
                    {{"format", "pt"}, {"note", "\"\n"}});
  const auto written = read_file(folder.file("x"), 4096);
  const auto header = parse_safetensors(written, written.size(), "x");
  EXPECT_THAT(names_of(header.tensors), ElementsAre("i64", "a", "b", "empty", "u8"));
  EXPECT_THAT(header.metadata, ElementsAre(Pair("format", "pt"), Pair("note", "\"\n")));
  for (const auto& t : header.tensors)
    EXPECT_EQ(t.offset % info(t.encoding.dtype).bytes, 0u) << t.name;
  EXPECT_EQ(header.tensors[0].offset % 8, 0u);
}

TEST(SafetensorsWriter, what_is_written_is_read_back) {
  const TemporaryFolder folder;
  std::vector<TensorData> tensors;
  std::vector<std::vector<std::byte>> contents;
  for (const auto& t : dtypes()) {
    std::vector<std::byte> bytes(6 * t.bytes);
    for (size_t i = 0; i < bytes.size(); ++i)
      bytes[i] = static_cast<std::byte>(i * 37 + contents.size());
    contents.push_back(std::move(bytes));
  }
  for (const auto& t : dtypes())
    tensors.push_back({t.name, t.type, {3, 2}, contents[tensors.size()]});
  write_safetensors(folder.file("model.safetensors"), tensors);
  write_file(folder.file("config.json"), as_bytes("{}"));
  const Checkpoint c = open_safetensors(folder.path());
  ASSERT_EQ(c.tensors.size(), tensors.size());
  for (const auto& t : tensors) {
    const auto& found = c.require(t.name);
    EXPECT_EQ(found.encoding, Encoding::dense(t.dtype));
    EXPECT_EQ(found.shape, t.shape);
    std::vector<std::byte> read(found.bytes);
    c.read(found, 0, 3, read);
    EXPECT_TRUE(std::ranges::equal(read, t.bytes)) << t.name;
  }
}

TEST(SafetensorsWriter, refuses_what_no_reader_would_take) {
  const TemporaryFolder folder;
  const std::vector<std::byte> data(8);
  const auto write = [&](std::vector<TensorData> tensors,
                         const std::map<std::string, std::string>& metadata = {}) {
    write_safetensors(folder.file("x"), std::move(tensors), metadata);
  };
  EXPECT_PITH_ERROR(write({{"a", DType::kF32, {3}, data}}), ErrorKind::kUsage,
                    "needs 12 bytes, 8 are given");
  EXPECT_PITH_ERROR(write({{"a", DType::kF32, {-2}, data}}), ErrorKind::kUsage, "negative");
  EXPECT_PITH_ERROR(write({{"a", DType::kF32, {2}, data}, {"a", DType::kI64, {1}, data}}),
                    ErrorKind::kUsage, "twice");
  EXPECT_PITH_ERROR(write({{"__metadata__", DType::kF32, {2}, data}}), ErrorKind::kUsage,
                    "__metadata__");
  EXPECT_PITH_ERROR(write({{"\xff", DType::kF32, {2}, data}}), ErrorKind::kUsage, "not UTF-8");
  EXPECT_PITH_ERROR(write({}, {{"a", "\xff"}}), ErrorKind::kUsage, "not UTF-8");
  EXPECT_EQ(folder.files(), 0);
}

TEST(Safetensors, real_files_open) {
  PITH_SHARED_OR_SKIP(path, "tinystories-656K");
  const Checkpoint bf16 = open_safetensors(path + "/bf16"),
                   fp32 = open_safetensors(path + "/fp32/model.safetensors");
  EXPECT_EQ(bf16.config.at("model_type"), "llama");
  EXPECT_NE(bf16.find("model.embed_tokens.weight"), nullptr);
  EXPECT_EQ(bf16.find("lm_head.weight"), nullptr);
  EXPECT_EQ(fp32.require("lm_head.weight").encoding, Encoding::dense(DType::kF32));
  // The f32 weights are the bf16 ones, widened.
  for (const auto& t : bf16.tensors) {
    const TensorInfo* wide = fp32.find(t.name);
    if (wide == nullptr) continue;
    ASSERT_EQ(wide->shape, t.shape);
    std::vector<std::byte> a(t.bytes), b(wide->bytes);
    bf16.read(t, 0, t.shape[0], a);
    fp32.read(*wide, 0, t.shape[0], b);
    std::vector<float> widened(a.size() / 2);
    to_f32(DType::kBF16, a.data(), widened.data(), widened.size());
    EXPECT_EQ(std::memcmp(widened.data(), b.data(), b.size()), 0) << t.name;
  }
}

}  // namespace
}  // namespace pith
