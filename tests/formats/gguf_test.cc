#include "formats/gguf.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "core/bytes.h"
#include "core/file.h"
#include "formats/encodings/ggml.h"
#include "tests/support/gguf_builder.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

using test::GgufBuilder;

constexpr uint32_t kF32 = 0, kQ4_1 = 3;

GgufHeader parse(const std::string& file) {
  return parse_gguf(as_bytes(file), file.size(), "x.gguf");
}
std::string zeros(size_t n) { return std::string(n, '\0'); }

TEST(Gguf, is_recognised_by_its_first_bytes) {
  EXPECT_TRUE(looks_like_gguf(as_bytes("GGUF")));
  EXPECT_TRUE(looks_like_gguf(as_bytes(GgufBuilder().build())));
  for (const char* other : {"", "GGU", "GGML", "gguf", "PK\x03\x04"}) {
    EXPECT_FALSE(looks_like_gguf(as_bytes(other)));
  }
}

TEST(Gguf, versions_2_and_3_give_values_of_every_type_widened) {
  for (const uint32_t version : {2u, 3u}) {
    GgufBuilder b;
    b.version = version;
    b.pair("u8", uint8_t{200})
        .pair("u16", uint16_t{60000})
        .pair("u32", 4000000000u)
        .pair("u64", UINT64_MAX);
    b.pair("i8", int8_t{-100})
        .pair("i16", int16_t{-3})
        .pair("i32", int32_t{-4})
        .pair("i64", INT64_MIN);
    b.pair("f32", 0.5f)
        .pair("f64", 0.1)
        .pair("yes", true)
        .pair("no", false)
        .pair("text", "caf\xc3\xa9");
    b.array("u8s", std::vector<uint8_t>{0, 255}).array("i8s", std::vector<int8_t>{-1, 1});
    b.array("f32s", std::vector<float>{-1.5f}).array("f64s", std::vector<double>{0.1});
    b.array("bools", std::vector<bool>{true, false, true})
        .array("texts", std::vector<std::string>{"", "b"});
    b.array("none", std::vector<uint64_t>{});
    const GgufHeader h = parse(b.build());
    const GgufMetadata& m = h.metadata;

    EXPECT_EQ(h.version, version);
    EXPECT_EQ(m.file, "x.gguf");
    EXPECT_EQ(m.values.size(), 20u);
    EXPECT_EQ(m.uint("u8"), 200u);
    EXPECT_EQ(m.uint("u16"), 60000u);
    EXPECT_EQ(m.uint("u32"), 4000000000u);
    EXPECT_EQ(m.uint("u64"), UINT64_MAX);
    EXPECT_EQ(*m.find("i8"), GgufValue(int64_t{-100}));
    EXPECT_EQ(*m.find("i64"), GgufValue(INT64_MIN));
    EXPECT_EQ(m.number("i16"), -3.0);
    EXPECT_EQ(m.number("f32"), 0.5);
    EXPECT_EQ(m.number("f64"), 0.1);
    EXPECT_TRUE(m.boolean("yes"));
    EXPECT_FALSE(m.boolean("no"));
    EXPECT_EQ(m.text("text"), "caf\xc3\xa9");
    EXPECT_EQ(m.numbers("u8s"), (std::vector<double>{0, 255}));
    EXPECT_EQ(m.integers("u8s"), (std::vector<int64_t>{0, 255}));
    EXPECT_EQ(m.integers("i8s"), (std::vector<int64_t>{-1, 1}));
    EXPECT_EQ(m.numbers("f32s"), std::vector<double>{-1.5});
    EXPECT_EQ(m.numbers("f64s"), std::vector<double>{0.1});
    EXPECT_EQ(*m.find("bools"), GgufValue(std::vector<bool>{true, false, true}));
    EXPECT_EQ(m.texts("texts"), (std::vector<std::string>{"", "b"}));
    EXPECT_TRUE(m.numbers("none").empty());
  }
}

// Files may have a value for each layer where the model has one for all.
TEST(GgufMetadata, arrays_of_equal_values_are_one_value) {
  GgufBuilder b;
  b.array("u", std::vector<uint32_t>{4, 4, 4})
      .array("i", std::vector<int32_t>{4, 2})
      .array("minus", std::vector<int32_t>{-1, -1})
      .array("f", std::vector<float>{0.5f, 0.5f})
      .array("t", std::vector<bool>{true, true})
      .array("none", std::vector<uint32_t>{})
      .pair("one", 7u);
  const GgufMetadata m = parse(b.build()).metadata;
  EXPECT_EQ(m.uint("u"), 4u);
  EXPECT_EQ(m.number("f"), 0.5);
  EXPECT_EQ(m.number("u"), 4.0);
  EXPECT_TRUE(m.boolean("t"));
  EXPECT_EQ(m.uint_of_layer("u", 2), 4u);
  EXPECT_EQ(m.uint_of_layer("i", 0), 4u);
  EXPECT_EQ(m.uint_of_layer("i", 1), 2u);
  EXPECT_EQ(m.uint_of_layer("one", 5), 7u);
  EXPECT_EQ(m.uint_of_layer("nope", 5, 9), 9u);
  EXPECT_PITH_ERROR(m.uint("i"), ErrorKind::kUnsupported, "\"i\" differs from layer to layer");
  EXPECT_PITH_ERROR(m.uint("minus"), ErrorKind::kCorrupt, "minus is -1, expected 0 or more");
  EXPECT_PITH_ERROR(m.uint("f"), ErrorKind::kCorrupt, "f is a float");
  EXPECT_PITH_ERROR(m.uint("none"), ErrorKind::kCorrupt, "\"none\" has 0 values");
  EXPECT_PITH_ERROR(m.uint_of_layer("i", 2), ErrorKind::kCorrupt,
                    "\"i\" has 2 values, one of layer 2 is needed");
}

// No reason to refuse a model that has no use for them.
TEST(Gguf, tensors_of_types_that_are_not_read_are_errors_only_where_they_are_needed) {
  const struct {
    uint32_t type;
    const char* message;
  } kCases[] = {{16, "has type 16 (iq2_xxs), which is not read"},
                {4, "has type 4 (q4_2)"},
                {26, "has type 26 (i32)"},
                {1000, "has type 1000 (unknown)"},
                {~0u, "has type 4294967295"}};
  for (const auto& c : kCases) {
    GgufBuilder b;
    b.tensor("other", c.type, {256}, std::string(256, 'x'));
    b.tensor("w", 0, {8}, std::string(32, '\0'));
    const test::TemporaryFolder folder;
    write_file(folder.file("x.gguf"), as_bytes(b.build()));
    const Checkpoint checkpoint = open_gguf(folder.file("x.gguf"));
    EXPECT_EQ(checkpoint.tensors.size(), 1u);
    EXPECT_NO_THROW(checkpoint.require("w"));
    EXPECT_PITH_ERROR(checkpoint.require("other"), ErrorKind::kUnsupported, c.message);
    EXPECT_EQ(checkpoint.notes.size(), 1u);
  }
}

TEST(Gguf, doubles_are_read_as_f32) {
  const double values[] = {0.1, -2.5, 1e-3};
  GgufBuilder b;
  b.tensor("w", 28, {3}, std::string(reinterpret_cast<const char*>(values), sizeof values));
  const test::TemporaryFolder folder;
  write_file(folder.file("x.gguf"), as_bytes(b.build()));
  const Checkpoint checkpoint = open_gguf(folder.file("x.gguf"));
  std::vector<float> read(3);
  checkpoint.read(checkpoint.require("w"), 0, 3, std::as_writable_bytes(std::span(read)));
  EXPECT_EQ(read, (std::vector<float>{0.1f, -2.5f, 1e-3f}));
}

TEST(GgufMetadata, getters_name_the_key_and_what_it_should_be) {
  GgufBuilder b;
  b.pair("n", int32_t{-1})
      .pair("f", 1.5f)
      .pair("s", "x")
      .array("big", std::vector<uint64_t>{UINT64_MAX});
  const GgufMetadata m = parse(b.build()).metadata;
  EXPECT_PITH_ERROR(m.uint("nope"), ErrorKind::kCorrupt, "x.gguf: nope is missing");
  EXPECT_PITH_ERROR(m.uint("n"), ErrorKind::kCorrupt, "n is -1, expected 0 or more");
  EXPECT_PITH_ERROR(m.uint("f"), ErrorKind::kCorrupt, "f is a float, expected an unsigned integer");
  EXPECT_PITH_ERROR(m.number("s"), ErrorKind::kCorrupt, "s is a string, expected a number");
  EXPECT_PITH_ERROR(m.boolean("n"), ErrorKind::kCorrupt, "expected a bool");
  EXPECT_PITH_ERROR(m.text("n"), ErrorKind::kCorrupt, "expected a string");
  EXPECT_PITH_ERROR(m.texts("big"), ErrorKind::kCorrupt, "expected an array of strings");
  EXPECT_PITH_ERROR(m.numbers("s"), ErrorKind::kCorrupt, "expected an array of numbers");
  EXPECT_PITH_ERROR(m.integers("f"), ErrorKind::kCorrupt, "expected an array of integers");
  EXPECT_PITH_ERROR(m.integers("big"), ErrorKind::kCorrupt, "big holds 18446744073709551615");
  EXPECT_PITH_ERROR(m.uint("f", 7), ErrorKind::kCorrupt, "f is a float");
  EXPECT_EQ(m.uint("nope", 7), 7u);
  EXPECT_EQ(m.number("nope", 0.5), 0.5);
  EXPECT_TRUE(m.boolean("nope", true));
  EXPECT_EQ(m.text("nope", "d"), "d");
}

TEST(Gguf, tensors_come_in_order_of_offset_with_shapes_outermost_first) {
  GgufBuilder b;
  b.raw_tensor("last", 2, {64, 3}, kQ4_1, 64).raw_tensor("first", 4, {2, 1, 3, 1}, kF32, 0);
  b.raw_tensor("empty", 1, {0}, kF32, 64).raw_data(zeros(64 + 120));
  const std::string file = b.build();
  const GgufHeader h = parse(file);
  EXPECT_EQ(h.data_begin, round_up(b.header().size(), 32));
  ASSERT_EQ(h.tensors.size(), 3u);
  EXPECT_EQ(h.tensors[0].name, "first");
  EXPECT_EQ(h.tensors[0].shape, (std::vector<int64_t>{1, 3, 1, 2}));
  EXPECT_EQ(h.tensors[0].encoding, Encoding::dense(DType::kF32));
  EXPECT_EQ(h.tensors[0].offset, h.data_begin);
  EXPECT_EQ(h.tensors[0].bytes, 24u);
  EXPECT_EQ(h.tensors[1].name, "empty");
  EXPECT_EQ(h.tensors[1].bytes, 0u);
  EXPECT_EQ(h.tensors[2].name, "last");
  EXPECT_EQ(h.tensors[2].shape, (std::vector<int64_t>{3, 64}));
  EXPECT_EQ(h.tensors[2].encoding, Encoding::of_ggml(GgmlType::kQ4_1));
  EXPECT_EQ(h.tensors[2].bytes, 120u);
  EXPECT_EQ(h.tensors[2].offset + h.tensors[2].bytes, file.size());
}

TEST(Gguf, every_type_that_is_listed_is_read) {
  for (const GgmlTypeInfo& t : ggml_types()) {
    const auto k = static_cast<uint64_t>(t.block) * 2;
    GgufBuilder b;
    b.tensor("w", static_cast<uint32_t>(t.type), {k, 3}, zeros(t.bytes * 6));
    const GgufHeader h = parse(b.build());
    EXPECT_EQ(h.tensors[0].encoding, encoding_of(t.type)) << t.name;
    EXPECT_EQ(h.tensors[0].bytes, t.bytes * 6) << t.name;
  }
}

TEST(Gguf, alignment_is_taken_from_the_metadata) {
  for (const uint32_t alignment : {8u, 64u, 65536u}) {
    GgufBuilder b;
    b.alignment = alignment;
    b.pair("general.alignment", alignment)
        .tensor("a", kF32, {1}, zeros(4))
        .tensor("b", kF32, {1}, zeros(4));
    const GgufHeader h = parse(b.build());
    EXPECT_EQ(h.data_begin, round_up(b.header().size(), alignment));
    EXPECT_EQ(h.tensors[1].offset, h.data_begin + alignment);
  }
}

TEST(Gguf, written_metadata_read_back_equal) {
  const double inf = std::numeric_limits<double>::infinity();
  GgufMetadata m;
  m.values = {
      {"tokenizer.u", uint64_t{7}},
      {"tokenizer.u64", UINT64_MAX},
      {"tokenizer.i", int64_t{-7}},
      {"tokenizer.i64", INT64_MIN},
      {"tokenizer.f", 0.25},
      {"tokenizer.f64", 0.1},
      {"tokenizer.huge", 1e300},
      {"tokenizer.inf", -inf},
      {"tokenizer.b", true},
      {"tokenizer.s", std::string("a\0b", 3)},
      {"tokenizer.us", std::vector<uint64_t>{1, UINT32_MAX}},
      {"tokenizer.us64", std::vector<uint64_t>{1, uint64_t{1} << 32}},
      {"tokenizer.is", std::vector<int64_t>{-1, INT32_MAX}},
      {"tokenizer.is64", std::vector<int64_t>{INT64_MIN}},
      {"tokenizer.fs", std::vector<double>{0.5, inf}},
      {"tokenizer.fs64", std::vector<double>{0.5, 0.1, 1e300}},
      {"tokenizer.bs", std::vector<bool>{true, false}},
      {"tokenizer.ss", std::vector<std::string>{"", "x"}},
      {"tokenizer.none", std::vector<double>{}},
  };
  EXPECT_EQ(parse(write_gguf_metadata(m, "")).metadata.values, m.values);

  auto more = m;
  more.values["a"] = uint64_t{1};
  more.values["tokenizes"] = uint64_t{1};
  const GgufHeader back = parse(write_gguf_metadata(more, "tokenizer."));
  EXPECT_EQ(back.metadata.values, m.values);
  EXPECT_TRUE(back.tensors.empty());
  EXPECT_EQ(back.version, 3u);
  EXPECT_TRUE(parse(write_gguf_metadata(more, "nothing.")).metadata.values.empty());
}

void write(const std::string& path, const GgufBuilder& b) { write_file(path, as_bytes(b.build())); }

TEST(OpenGguf, gives_tensors_metadata_and_tokenizer) {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("m.gguf");
  GgufBuilder b;
  b.pair("general.architecture", "llama")
      .array("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b"});
  b.pair("tokenizer.chat_template", "{{ messages }}").tensor("w", kF32, {2, 3}, zeros(24));
  write(path, b);
  const Checkpoint c = open_gguf(path);
  EXPECT_EQ(c.kind, Checkpoint::Kind::kGguf);
  EXPECT_EQ(c.path, path);
  ASSERT_EQ(c.files.size(), 1u);
  EXPECT_EQ(c.files[0].path(), path);
  ASSERT_EQ(c.tensors.size(), 1u);
  EXPECT_EQ(c.by_name.at("w"), 0u);
  EXPECT_EQ(c.gguf.text("general.architecture"), "llama");
  EXPECT_TRUE(c.config.is_null());
  EXPECT_EQ(c.tokenizer.chat_template, "{{ messages }}");
  const GgufMetadata tokenizer = parse(c.tokenizer.gguf).metadata;
  EXPECT_EQ(tokenizer.values.size(), 2u);
  EXPECT_EQ(tokenizer.texts("tokenizer.ggml.tokens"), (std::vector<std::string>{"a", "b"}));
}

TEST(OpenGguf, a_file_without_a_tokenizer_has_none) {
  const test::TemporaryFolder folder;
  write(folder.file("m.gguf"), GgufBuilder().tensor("w", kF32, {2}, zeros(8)));
  EXPECT_TRUE(open_gguf(folder.file("m.gguf")).tokenizer.empty());
}

TEST(OpenGguf, headers_of_many_megabytes_are_read) {
  const test::TemporaryFolder folder;
  std::vector<std::string> tokens;
  for (int i = 0; i < 300000; ++i) tokens.push_back("token number " + std::to_string(i));
  GgufBuilder b;
  b.array("tokenizer.ggml.tokens", tokens)
      .array("tokenizer.ggml.scores", std::vector<float>(300000, -1.0f));
  b.tensor("w", kF32, {8}, zeros(32));
  write(folder.file("m.gguf"), b);
  const Checkpoint c = open_gguf(folder.file("m.gguf"));
  EXPECT_EQ(c.gguf.texts("tokenizer.ggml.tokens"), tokens);
  EXPECT_EQ(c.tensors.size(), 1u);
}

TEST(OpenGguf, a_header_that_claims_more_than_256_MiB_is_refused_before_it_is_read) {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("m.gguf");
  GgufBuilder b;
  b.raw_pair("k", test::kGgufArray, test::le(0u) + test::le(uint64_t{1} << 33));
  write(path, b);
  File::open_read_write(path).truncate(uint64_t{1} << 34);  // a hole
  EXPECT_PITH_ERROR(open_gguf(path), ErrorKind::kUnsupported, "the header needs 8589934");
}

TEST(OpenGguf, what_is_not_there_is_an_io_error_and_what_is_empty_is_corrupt) {
  const test::TemporaryFolder folder;
  EXPECT_PITH_ERROR(open_gguf(folder.file("m.gguf")), ErrorKind::kIo, "m.gguf");
  EXPECT_PITH_ERROR(open_gguf(folder.path()), ErrorKind::kIo, "");
  write_file(folder.file("m.gguf"), {});
  EXPECT_PITH_ERROR(open_gguf(folder.file("m.gguf")), ErrorKind::kCorrupt, "m.gguf");
}

// Vocabulary files of llama.cpp: a quick look at files that others wrote.
TEST(OpenGguf, real_vocabulary_files_open_and_their_tokenizer_survives_a_rewrite) {
  const std::pair<const char*, size_t> files[] = {
      {"gpt-2", 50257}, {"llama-spm", 32000}, {"gpt-neox", 50432}};
  for (const auto& [name, tokens] : files) {
    PITH_SHARED_OR_SKIP(path, std::string("tokenizers/ggml-vocab-") + name + ".gguf");
    const Checkpoint c = open_gguf(path);
    EXPECT_EQ(c.gguf.texts("tokenizer.ggml.tokens").size(), tokens) << name;
    EXPECT_TRUE(c.tensors.empty());
    GgufMetadata expected = c.gguf;
    std::erase_if(expected.values,
                  [](const auto& v) { return !v.first.starts_with("tokenizer."); });
    EXPECT_EQ(parse(c.tokenizer.gguf).metadata.values, expected.values) << name;
  }
}

// Two shards of one model; tests change one thing.
struct Split {
  test::TemporaryFolder folder;
  GgufBuilder first, second;
  std::string first_name = "m-00001-of-00002.gguf", second_name = "m-00002-of-00002.gguf";

  static GgufBuilder shard(uint16_t no, uint16_t count, int32_t tensors, const std::string& name) {
    GgufBuilder b;
    b.pair("split.no", no).pair("split.count", count).pair("split.tensors.count", tensors);
    b.tensor(name, kF32, {8}, std::string(32, static_cast<char>(no)));
    return b;
  }
  Split() : first(shard(0, 2, 2, "z")), second(shard(1, 2, 2, "a")) {
    first.pair("general.architecture", "llama");
  }
  Checkpoint open() const {
    write(folder.file(first_name), first);
    write(folder.file(second_name), second);
    return open_gguf(folder.file(first_name));
  }
};

TEST(SplitGguf, shards_make_one_checkpoint_with_the_metadata_of_the_first) {
  const Split split;
  const Checkpoint c = split.open();
  ASSERT_EQ(c.files.size(), 2u);
  ASSERT_EQ(c.tensors.size(), 2u);
  EXPECT_EQ(c.tensors[0].name, "z");
  EXPECT_EQ(c.tensors[0].file, 0u);
  EXPECT_EQ(c.tensors[1].name, "a");
  EXPECT_EQ(c.tensors[1].file, 1u);
  EXPECT_EQ(c.by_name.at("a"), 1u);
  EXPECT_EQ(c.gguf.text("general.architecture"), "llama");
  std::byte data[32];
  c.files[1].read(c.tensors[1].offset, data);
  EXPECT_EQ(data[31], std::byte{1});
}

TEST(SplitGguf, a_set_of_one_needs_no_name) {
  const test::TemporaryFolder folder;
  write(folder.file("m.gguf"), Split::shard(0, 1, 1, "w"));
  EXPECT_EQ(open_gguf(folder.file("m.gguf")).tensors.size(), 1u);
}

TEST(SplitGguf, another_shard_than_the_first_is_refused_with_a_remedy) {
  const Split split;
  split.open();
  EXPECT_PITH_ERROR(open_gguf(split.folder.file(split.second_name)), ErrorKind::kUsage,
                    "is shard 2 of 2; open the first one, *-00001-of-00002.gguf");
}

TEST(SplitGguf, disagreements_between_shards_are_corrupt) {
  {
    Split s;
    s.first_name = "m.gguf";
    EXPECT_PITH_ERROR(s.open(), ErrorKind::kCorrupt, "should end in -00001-of-00002.gguf");
  }
  {
    Split s;
    s.first = Split::shard(0, 3, 2, "z");
    EXPECT_PITH_ERROR(s.open(), ErrorKind::kCorrupt, "should end in -00001-of-00003.gguf");
  }
  {
    Split s;
    s.second_name = "n-00002-of-00002.gguf";
    EXPECT_PITH_ERROR(s.open(), ErrorKind::kIo, "m-00002-of-00002.gguf");
  }
  {
    Split s;
    s.second = Split::shard(0, 2, 2, "a");
    EXPECT_PITH_ERROR(s.open(), ErrorKind::kCorrupt,
                      "holds shard 1 of 2 (split.no, split.count), expected 2 of 2");
  }
  {
    Split s;
    s.second = Split::shard(1, 3, 2, "a");
    EXPECT_PITH_ERROR(s.open(), ErrorKind::kCorrupt, "holds shard 2 of 3");
  }
  {
    Split s;
    s.second = Split::shard(1, 2, 2, "z");
    EXPECT_PITH_ERROR(s.open(), ErrorKind::kCorrupt, "'z' occurs twice");
  }
  {
    Split s;
    s.first = Split::shard(0, 2, 3, "z");
    EXPECT_PITH_ERROR(s.open(), ErrorKind::kCorrupt,
                      "split.tensors.count is 3, the 2 files hold 2 tensors");
  }
  {
    Split s;
    s.second = GgufBuilder().tensor("a", kF32, {8}, zeros(32));
    EXPECT_PITH_ERROR(s.open(), ErrorKind::kCorrupt, "split.no is missing");
  }
}

}  // namespace
}  // namespace pith
