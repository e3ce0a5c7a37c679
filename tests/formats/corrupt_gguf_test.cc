// What the GGUF reader refuses, one named case each, and sweeps over truncations and flipped bits.

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "core/bytes.h"
#include "formats/gguf.h"
#include "tests/support/gguf_builder.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

using test::gguf_text;
using test::GgufBuilder;
using test::le;

constexpr uint32_t kF32 = 0, kF16 = 1, kQ4_0 = 2, kQ4_K = 12;
constexpr uint64_t kHuge = uint64_t{1} << 63;

GgufHeader parse(const std::string& file) {
  return parse_gguf(as_bytes(file), file.size(), "x.gguf");
}

std::string zeros(size_t n) { return std::string(n, '\0'); }

GgufBuilder tensor_entry(uint32_t dimensions, const std::vector<uint64_t>& sizes, uint32_t type,
                         uint64_t offset = 0) {
  GgufBuilder b;
  b.raw_tensor("w", dimensions, sizes, type, offset).raw_data(zeros(4096));
  return b;
}

// The file with `bytes` written over it at `offset`.
std::string patched(std::string file, size_t offset, const std::string& bytes) {
  return file.replace(offset, bytes.size(), bytes);
}

// One pair, one tensor of 64 floats; the data end the file.
std::string small_file() {
  return GgufBuilder().pair("general.name", "tiny").tensor("w", kF32, {64}, zeros(256)).build();
}

std::string with_value(uint32_t type, const std::string& value) {
  return GgufBuilder().raw_pair("k", type, value).raw_pair("l", 4, le(1u)).build();
}
// An array of `declared` items of a type, of which only `bytes` are there.
std::string with_array(uint32_t type, uint64_t declared, const std::string& bytes = {}) {
  return with_value(test::kGgufArray, le(type) + le(declared) + bytes);
}

std::string with_alignment(const auto& value) {
  GgufBuilder b;
  b.alignment = 32;
  return b.pair("general.alignment", value).tensor("w", kF32, {8}, zeros(32)).build();
}

struct CorruptCase {
  const char* name;
  std::function<std::string()> file;
  ErrorKind kind;
  const char* text;
};

constexpr ErrorKind kCorrupt = ErrorKind::kCorrupt;
constexpr ErrorKind kUnsupported = ErrorKind::kUnsupported;

const CorruptCase kCases[] = {
    // Beginning of the file.
    {"empty", [] { return std::string(); }, kCorrupt, "the magic number at offset 0"},
    {"half_a_magic_number", [] { return std::string("GG"); }, kCorrupt, "the magic number"},
    {"wrong_magic_number", [] { return patched(small_file(), 0, "GGML"); }, kCorrupt,
     "not a GGUF file"},
    {"magic_number_alone", [] { return std::string("GGUF"); }, kCorrupt, "the version"},
    {"version_0", [] { return patched(small_file(), 4, le(0u)); }, kUnsupported, "GGUF version 0"},
    {"version_1", [] { return patched(small_file(), 4, le(1u)); }, kUnsupported, "GGUF version 1"},
    {"version_4", [] { return patched(small_file(), 4, le(4u)); }, kUnsupported, "GGUF version 4"},
    {"big_endian", [] { return patched(small_file(), 4, le(0x03000000u)); }, kUnsupported,
     "big-endian"},
    {"no_counts", [] { return small_file().substr(0, 8); }, kCorrupt, "the number of tensors"},
    {"half_the_counts", [] { return small_file().substr(0, 20); }, kCorrupt, "the number of pairs"},

    // Counts that the bytes cannot hold.
    {"tensor_count_2_63", [] { return patched(small_file(), 8, le(kHuge)); }, kCorrupt,
     "the number of tensors"},
    {"tensor_count_wraps_times_entry_size",
     [] { return patched(small_file(), 8, le(UINT64_MAX / 33 + 1)); }, kCorrupt,
     "the number of tensors"},
    {"tensor_count_one_too_many",
     [] { return patched(GgufBuilder().pair("k", 1u).build(), 8, le<uint64_t>(1)); }, kCorrupt,
     "the number of tensors"},
    {"pair_count_2_63", [] { return patched(small_file(), 16, le(kHuge)); }, kCorrupt,
     "the number of pairs"},
    {"pair_count_wraps_times_entry_size",
     [] { return patched(small_file(), 16, le(UINT64_MAX / 14 + 1)); }, kCorrupt,
     "the number of pairs"},
    {"pairs_65537_declared_without_bytes",
     [] { return patched(small_file(), 16, le<uint64_t>(65537)); }, kCorrupt,
     "the number of pairs"},
    {"pairs_65537_declared_with_bytes",
     [] { return patched(small_file(), 16, le<uint64_t>(65537)) + zeros(65537 * 14); },
     kUnsupported, "the number of pairs is 65537, at most 65536"},
    {"tensors_1048577_declared_with_bytes",
     [] { return patched(small_file(), 8, le<uint64_t>(1048577)) + zeros(1048577 * 33); },
     kUnsupported, "the number of tensors is 1048577, at most 1048576"},
    {"one_pair_too_few", [] { return patched(small_file(), 16, le<uint64_t>(0)); }, kCorrupt,
     "dimensions"},

    // Keys and values.
    {"empty_key", [] { return GgufBuilder().pair("", 1u).pair("l", 1u).build(); }, kCorrupt,
     "key at offset 24 is empty"},
    {"key_longer_than_the_file", [] { return patched(small_file(), 24, le<uint64_t>(10000)); },
     kCorrupt, "a key"},
    {"key_length_2_63", [] { return patched(small_file(), 24, le(kHuge)); }, kCorrupt, "a key"},
    {"key_length_all_ones", [] { return patched(small_file(), 24, le(UINT64_MAX)); }, kCorrupt,
     "a key"},
    {"duplicate_key", [] { return GgufBuilder().pair("k", 1u).pair("k", 2u).build(); }, kCorrupt,
     "the key 'k' occurs twice"},
    {"value_type_13", [] { return with_value(13, le<uint64_t>(0)); }, kCorrupt, "'k' has type 13"},
    {"value_type_all_ones", [] { return with_value(~0u, le<uint64_t>(0)); }, kCorrupt,
     "has type 4294967295"},
    {"bool_2", [] { return with_value(7, "\2"); }, kCorrupt, "is 2, a bool is 0 or 1"},
    {"bool_255_in_an_array", [] { return with_array(7, 2, "\1\xff"); }, kCorrupt,
     "is 255, a bool is 0 or 1"},
    {"value_cut_off", [] { return GgufBuilder().raw_pair("key", 10, "1234").build(); }, kCorrupt,
     "the value of 'key'"},
    {"string_length_2_63", [] { return with_value(8, le(kHuge)); }, kCorrupt, "the value of 'k'"},
    {"string_length_all_ones", [] { return with_value(8, le(UINT64_MAX)); }, kCorrupt,
     "the value of 'k'"},
    {"string_one_byte_too_long",
     [] { return GgufBuilder().raw_pair("k", 8, le<uint64_t>(4) + "abc").build(); }, kCorrupt,
     "the value of 'k'"},
    {"array_length_2_63", [] { return with_array(0, kHuge); }, kCorrupt, "the value of 'k'"},
    {"array_length_wraps_to_0", [] { return with_array(10, uint64_t{1} << 61); }, kCorrupt,
     "the value of 'k'"},
    {"array_length_wraps_to_8",
     [] { return with_array(10, (uint64_t{1} << 61) + 1, le<uint64_t>(0)); }, kCorrupt,
     "the value of 'k'"},
    {"array_of_bools_2_63", [] { return with_array(7, kHuge); }, kCorrupt, "the value of 'k'"},
    {"array_of_strings_2_63", [] { return with_array(8, kHuge); }, kCorrupt, "the value of 'k'"},
    {"array_of_strings_more_than_bytes", [] { return with_array(8, 1000); }, kCorrupt,
     "the value of 'k'"},
    {"array_with_a_string_of_2_63", [] { return with_array(8, 1, le(kHuge)); }, kCorrupt,
     "the value of 'k'"},
    {"array_of_arrays", [] { return with_array(9, 1, le(9u) + le<uint64_t>(1)); }, kCorrupt,
     "is an array of arrays"},
    {"array_of_arrays_empty", [] { return with_array(9, 0); }, kCorrupt, "is an array of arrays"},
    {"array_of_type_13", [] { return with_array(13, 1, le<uint64_t>(0)); }, kCorrupt,
     "values of type 13"},

    // Alignment.
    {"alignment_0", [] { return with_alignment(0u); }, kCorrupt, "general.alignment is 0"},
    {"alignment_3", [] { return with_alignment(3u); }, kCorrupt, "general.alignment is 3"},
    {"alignment_4", [] { return with_alignment(4u); }, kCorrupt, "general.alignment is 4"},
    {"alignment_131072", [] { return with_alignment(131072u); }, kCorrupt,
     "general.alignment is 131072"},
    {"alignment_2_31", [] { return with_alignment(0x80000000u); }, kCorrupt,
     "general.alignment is 2147483648"},
    {"alignment_2_63", [] { return with_alignment(kHuge); }, kCorrupt, "general.alignment is"},
    {"alignment_negative", [] { return with_alignment(int32_t{-32}); }, kCorrupt,
     "general.alignment is -32"},
    {"alignment_is_a_string", [] { return with_alignment(std::string("32")); }, kCorrupt,
     "general.alignment is a string"},

    // Tensor entries.
    {"empty_tensor_name", [] { return GgufBuilder().tensor("", kF32, {8}, zeros(32)).build(); },
     kCorrupt, "tensor name at offset 24 is empty"},
    {"tensor_name_2_63",
     [] { return patched(GgufBuilder().tensor("w", kF32, {8}, zeros(32)).build(), 24, le(kHuge)); },
     kCorrupt, "a tensor's name"},
    {"duplicate_tensor_name",
     [] {
       return GgufBuilder()
           .tensor("w", kF32, {8}, zeros(32))
           .tensor("w", kF32, {8}, zeros(32))
           .build();
     },
     kCorrupt, "the tensor 'w' occurs twice"},
    {"dimensions_0", [] { return tensor_entry(0, {}, kF32).build(); }, kCorrupt,
     "has 0 dimensions"},
    {"dimensions_5",
     [] {
       return tensor_entry(5, {1, 1, 1, 1, 1}, kF32).build();
     },
     kCorrupt, "has 5 dimensions"},
    {"dimensions_all_ones", [] { return tensor_entry(~0u, {1}, kF32).build(); }, kCorrupt,
     "has 4294967295 dimensions"},
    {"size_2_63", [] { return tensor_entry(1, {kHuge}, kF32).build(); }, kCorrupt, "out of range"},
    {"size_all_ones", [] { return tensor_entry(1, {UINT64_MAX}, kF32).build(); }, kCorrupt,
     "out of range"},
    {"product_wraps_to_0",
     [] {
       return tensor_entry(2, {uint64_t{1} << 32, uint64_t{1} << 32}, kF32).build();
     },
     kCorrupt, "overflows"},
    {"product_wraps_to_something_small",
     [] {
       return tensor_entry(3, {(uint64_t{1} << 62) + 1, 4, 1}, kF32).build();
     },
     kCorrupt, "overflows"},
    {"product_is_2_63",
     [] {
       return tensor_entry(2, {uint64_t{1} << 32, uint64_t{1} << 31}, kF32).build();
     },
     kCorrupt, "out of range"},
    {"bytes_wrap_though_elements_fit",
     [] { return tensor_entry(1, {(uint64_t{1} << 62) + 8}, kF32).build(); }, kCorrupt,
     "overflows"},
    {"exabytes_that_do_not_wrap",
     [] {
       return tensor_entry(2, {uint64_t{1} << 30, uint64_t{1} << 29}, kF16).build();
     },
     kCorrupt, "the file has"},
    {"row_not_a_multiple_of_its_block",
     [] {
       return tensor_entry(2, {33, 32}, kQ4_0).build();
     },
     kCorrupt, "blocks of 32 (q4_0)"},
    {"row_not_a_multiple_of_its_super_block",
     [] {
       return tensor_entry(2, {128, 2}, kQ4_K).build();
     },
     kCorrupt, "blocks of 256 (q4_k)"},
    // Where the data lie.
    {"offset_not_aligned", [] { return tensor_entry(1, {8}, kF32, 16).build(); }, kCorrupt,
     "not aligned to 32"},
    {"offset_beyond_the_end", [] { return tensor_entry(1, {8}, kF32, 1 << 20).build(); }, kCorrupt,
     "the file has"},
    {"offset_2_63", [] { return tensor_entry(1, {8}, kF32, kHuge).build(); }, kCorrupt,
     "the file has"},
    {"offset_plus_data_begin_wraps",
     [] { return tensor_entry(1, {8}, kF32, UINT64_MAX - 31).build(); }, kCorrupt, "overflows"},
    {"offset_plus_bytes_wraps",
     [] { return tensor_entry(1, {uint64_t{1} << 61}, kF32, kHuge - 32 + kHuge - 1024).build(); },
     kCorrupt, "overflows"},
    {"last_byte_beyond_the_end", [] { return small_file().substr(0, small_file().size() - 1); },
     kCorrupt, "the file has"},
    {"overlap",
     [] {
       return GgufBuilder()
           .raw_tensor("a", 1, {16}, kF32, 0)
           .raw_tensor("b", 1, {8}, kF32, 32)
           .raw_data(zeros(64))
           .build();
     },
     kCorrupt, "'a' and 'b' overlap"},
    {"same_place",
     [] {
       return GgufBuilder()
           .raw_tensor("a", 1, {8}, kF32, 0)
           .raw_tensor("b", 1, {8}, kF32, 0)
           .raw_data(zeros(32))
           .build();
     },
     kCorrupt, "overlap"},
    {"overlap_across_an_empty_tensor",
     [] {
       GgufBuilder b;
       b.raw_tensor("a", 1, {16}, kF32, 0)
           .raw_tensor("none", 1, {0}, kF32, 32)
           .raw_tensor("b", 1, {8}, kF32, 32);
       return b.raw_data(zeros(64)).build();
     },
     kCorrupt, "'a' and 'b' overlap"},
    {"no_data_at_all", [] { return GgufBuilder().raw_tensor("w", 1, {8}, kF32, 0).build(); },
     kCorrupt, "the file has"},
};

class CorruptGguf : public testing::TestWithParam<CorruptCase> {};

TEST_P(CorruptGguf, is_refused_with_a_reason) {
  const CorruptCase& c = GetParam();
  EXPECT_PITH_ERROR(parse(c.file()), c.kind, c.text);
  EXPECT_PITH_ERROR(parse(c.file()), c.kind, "x.gguf");
}
INSTANTIATE_TEST_SUITE_P(All, CorruptGguf, testing::ValuesIn(kCases),
                         [](const auto& test) { return std::string(test.param.name); });

// A file with every kind of value, whose last tensor ends it.
GgufBuilder varied() {
  GgufBuilder b;
  b.pair("general.architecture", "llama").pair("b", true).pair("f", 1.5f).pair("i", int16_t{-3});
  b.array("bools", std::vector<bool>{true, false}).array("floats", std::vector<float>{1, 2});
  b.array("texts", std::vector<std::string>{"a", "", "ccc"})
      .array("bytes", std::vector<uint8_t>{1, 2, 3});
  b.tensor("half", kF16, {4, 3}, zeros(24)).tensor("blocks", kQ4_0, {64, 2}, zeros(72));
  return b;
}

TEST(CorruptGgufSweep, every_truncation_is_an_error) {
  const std::string file = varied().build();
  EXPECT_EQ(parse(file).tensors.size(), 2u);
  for (size_t n = 0; n < file.size(); ++n) {
    EXPECT_THROW(parse(file.substr(0, n)), Error) << n;
  }
}

TEST(CorruptGgufSweep, a_prefix_that_holds_the_header_is_enough_and_a_shorter_one_an_error) {
  const std::string file = varied().build();
  const size_t header = varied().header().size();
  for (size_t n = 0; n < file.size(); ++n) {
    const auto prefix = as_bytes(file).first(n);
    if (n >= header) {
      EXPECT_EQ(parse_gguf(prefix, file.size(), "x").tensors.size(), 2u);
    } else {
      EXPECT_PITH_ERROR(parse_gguf(prefix, file.size(), "x"), ErrorKind::kCorrupt, "were given");
    }
  }
}

// Whatever a header says after damage, what it says holds for the file.
TEST(CorruptGgufSweep, every_flipped_bit_is_a_typed_error_or_a_sound_header) {
  const std::string file = varied().build();
  const size_t header = varied().header().size();
  int refused = 0;
  for (size_t bit = 0; bit < header * 8; ++bit) {
    std::string damaged = file;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    try {
      const GgufHeader h = parse(damaged);
      for (const TensorInfo& t : h.tensors) {
        EXPECT_LE(t.offset, file.size()) << bit;
        EXPECT_LE(t.bytes, file.size() - t.offset) << bit;
      }
    } catch (const Error& e) {
      EXPECT_TRUE(e.kind() == ErrorKind::kCorrupt || e.kind() == ErrorKind::kUnsupported)
          << e.what();
      ++refused;
    }
  }
  EXPECT_GT(refused, 1000);
}

// Limits of the clock are far above what is measured (tens of milliseconds) and far below what a
// quadratic search takes.
double seconds(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

TEST(CorruptGgufCost, as_many_pairs_as_are_allowed_parse_quickly) {
  GgufBuilder b;
  for (int i = 0; i < 65536; ++i) b.pair("some.common.prefix." + std::to_string(i), uint8_t{1});
  const std::string file = b.build();
  EXPECT_LT(seconds([&] { EXPECT_EQ(parse(file).metadata.values.size(), 65536u); }), 1.0);
}

TEST(CorruptGgufCost, very_many_tensors_parse_quickly_and_one_duplicate_is_found) {
  GgufBuilder b;
  for (uint64_t i = 0; i < 200000; ++i) b.raw_tensor("t" + std::to_string(i), 1, {0}, kF32, 0);
  b.raw_data(zeros(32));
  const std::string file = b.build();
  EXPECT_LT(seconds([&] { EXPECT_EQ(parse(file).tensors.size(), 200000u); }), 3.0);
  b.raw_tensor("t77", 1, {0}, kF32, 0);
  EXPECT_PITH_ERROR(parse(b.build()), ErrorKind::kCorrupt, "the tensor 't77' occurs twice");
}

}  // namespace
}  // namespace pith
