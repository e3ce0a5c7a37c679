// Every rule of safetensors.h and of its reference implementation, broken once.

#include <gtest/gtest.h>

#include <functional>

#include "tests/support/safetensors_bytes.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

using test::parse_whole;
using test::safetensors_bytes;
using test::u64_bytes;

// One U8 tensor "a" of `bytes` bytes with these fields.
std::string one(std::string_view dtype, std::string_view shape, std::string_view offsets,
                uint64_t bytes) {
  return safetensors_bytes(
      fmt::format(R"({{"a":{{"dtype":{},"shape":{},"data_offsets":{}}}}})", dtype, shape, offsets),
      bytes);
}
std::string shape(std::string_view s) { return one(R"("U8")", s, "[0,1]", 1); }
std::string offsets(std::string_view s) { return one(R"("U8")", "[1]", s, 1); }
std::string dtype(std::string_view s) { return one(s, "[1]", "[0,1]", 1); }
// A header with one good tensor and this in front of it.
std::string before(std::string_view s) {
  return safetensors_bytes(
      fmt::format(R"({{{}"a":{{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}}})", s), 1);
}
// The members of a header: U8 tensors that take [begin, end) each.
struct Piece {
  const char* name;
  int begin, end;
};
std::string pieces(std::initializer_list<Piece> list, uint64_t bytes) {
  std::string text = "{";
  for (const auto& p : list) {
    if (text.size() > 1) text += ',';
    text += fmt::format(R"("{}":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}})", p.name,
                        p.end - p.begin, p.begin, p.end);
  }
  return safetensors_bytes(text + "}", bytes);
}
std::string repeat(std::string_view s, int n) {
  std::string out;
  for (int i = 0; i < n; ++i) out += s;
  return out;
}

struct Corrupt {
  const char* name;
  std::string bytes;
  std::string text;  // part of the message
  ErrorKind kind = ErrorKind::kCorrupt;
};

const Corrupt kCorrupt[] = {
    // The length.
    {"empty_file", "", "0 bytes are too few"},
    {"seven_bytes", "\2\0\0\0\0\0", "too few"},
    {"only_a_length", u64_bytes(2), "header length 2 goes beyond the file of 8 bytes"},
    {"length_one_too_large", u64_bytes(3) + "{}", "goes beyond the file"},
    {"length_0", u64_bytes(0), "does not begin with '{'"},
    {"length_0_and_data", u64_bytes(0) + "{}", "does not begin with '{'"},
    {"length_1", u64_bytes(1) + "{", "does not end with '}'"},
    {"length_above_the_limit", u64_bytes(100'000'001) + "{}",
     "header length 100000001 is more than 100000000"},
    {"length_2_to_the_63", u64_bytes(uint64_t{1} << 63) + "{}",
     "header length 9223372036854775808"},
    {"length_all_ones", u64_bytes(~uint64_t{0}) + "{}", "header length 18446744073709551615"},
    {"length_all_ones_minus_7", u64_bytes(~uint64_t{7}) + "{}", "is more than"},
    {"length_big_endian", std::string("\0\0\0\0\0\0\0\2", 8) + "{}", "is more than"},
    // The text.
    {"bom", safetensors_bytes("\xef\xbb\xbf{}", 0), "does not begin with '{'"},
    {"utf16", safetensors_bytes(std::string_view("{\0}\0", 4), 0), "does not end with '}'"},
    {"leading_space", safetensors_bytes(" {}", 0), "does not begin with '{'"},
    {"array", safetensors_bytes("[]", 0), "does not begin with '{'"},
    {"null", safetensors_bytes("null", 0), "does not begin with '{'"},
    {"padded_with_line_end", safetensors_bytes("{}\n", 0), "does not end with '}' and spaces"},
    {"padded_with_nul", safetensors_bytes(std::string_view("{}\0", 3), 0),
     "does not end with '}' and spaces"},
    {"nul_then_brace", safetensors_bytes(std::string_view("{}\0}", 4), 0), "NUL at byte 2"},
    {"nul_in_a_name", before(std::string_view("\"\0\":{},", 7)), "NUL at byte 2"},
    {"two_objects", safetensors_bytes("{}{}", 0), "not valid JSON"},
    {"text_after_the_object", safetensors_bytes("{} x }", 0), "not valid JSON"},
    {"comment", before("/* x */"), "not valid JSON"},
    {"single_quotes", safetensors_bytes("{'a':1}", 0), "not valid JSON"},
    {"trailing_comma",
     safetensors_bytes(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},})", 1),
     "not valid JSON"},
    {"unclosed", safetensors_bytes(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]})", 1),
     "not valid JSON"},
    {"invalid_utf8", before("\"\xff\":{},"), "UTF-8"},
    {"overlong_utf8", before("\"\xc0\x80\":{},"), "UTF-8"},
    {"utf8_surrogate", before("\"\xed\xa0\x80\":{},"), "UTF-8"},
    {"lone_escaped_surrogate", before(R"("\ud800":{},)"), "not valid JSON"},
    {"line_end_in_a_name", before("\"\n\":{},"), "control character"},
    {"bad_escape", before(R"("\x41":{},)"), "not valid JSON"},
    {"nested_arrays", shape(repeat("[", 100'000)), "shape holds an array"},
    {"nested_objects", safetensors_bytes(repeat("{\"a\":", 100'000) + "}", 0), "unknown key \"a\""},
    // Members.
    {"tensor_is_null", before(R"("b":null,)"), "tensor \"b\": null instead of an object"},
    {"tensor_is_a_string", before(R"("b":"x",)"), "a string instead of an object"},
    {"tensor_is_a_number", before(R"("b":1,)"), "a number instead of an object"},
    {"tensor_is_an_array", before(R"("b":[],)"), "an array instead of an object"},
    {"tensor_is_true", before(R"("b":true,)"), "a boolean instead of an object"},
    {"tensor_is_empty", before(R"("b":{},)"), "tensor \"b\": dtype is missing"},
    {"no_dtype", before(R"("b":{"shape":[0],"data_offsets":[0,0]},)"), "dtype is missing"},
    {"no_shape", before(R"("b":{"dtype":"U8","data_offsets":[0,0]},)"), "shape is missing"},
    {"no_offsets", before(R"("b":{"dtype":"U8","shape":[0]},)"), "data_offsets is missing"},
    {"extra_field",
     before(R"("b":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"device":"cpu"},)"),
     "unknown key \"device\""},
    {"field_in_capitals", before(R"("b":{"DType":"U8","shape":[0],"data_offsets":[0,0]},)"),
     "unknown key \"DType\""},
    {"duplicate_tensor", pieces({{"a", 0, 1}, {"a", 1, 2}}, 2), "duplicate tensor \"a\""},
    {"duplicate_tensor_with_equal_range", pieces({{"a", 0, 1}, {"a", 0, 1}}, 1),
     "duplicate tensor \"a\""},
    {"duplicate_tensor_of_size_0", pieces({{"a", 0, 0}, {"a", 0, 0}}, 0), "duplicate tensor \"a\""},
    {"duplicate_tensor_by_escape", pieces({{"a", 0, 1}, {"\\u0061", 1, 2}}, 2),
     "duplicate tensor \"a\""},
    {"duplicate_dtype",
     before(R"("b":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]},)"),
     "duplicate key \"dtype\""},
    {"duplicate_shape",
     before(R"("b":{"dtype":"U8","shape":[0],"shape":[0],"data_offsets":[0,0]},)"),
     "duplicate key \"shape\""},
    {"duplicate_offsets",
     before(R"("b":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"data_offsets":[0,0]},)"),
     "duplicate key \"data_offsets\""},
    {"duplicate_metadata", before(R"("__metadata__":{},"__metadata__":{},)"),
     "duplicate key \"__metadata__\""},
    {"duplicate_in_metadata", before(R"("__metadata__":{"x":"1","x":"1"},)"),
     "duplicate key \"x\" in __metadata__"},
    {"metadata_is_null", before(R"("__metadata__":null,)"),
     "__metadata__ is null instead of an object"},
    {"metadata_is_an_array", before(R"("__metadata__":[],)"), "__metadata__ is an array"},
    {"metadata_is_a_string", before(R"("__metadata__":"x",)"), "__metadata__ is a string"},
    {"metadata_holds_a_number", before(R"("__metadata__":{"x":1},)"),
     "__metadata__ holds a number"},
    {"metadata_holds_a_fraction", before(R"("__metadata__":{"x":1.5},)"),
     "__metadata__ holds a negative, fractional"},
    {"metadata_holds_null", before(R"("__metadata__":{"x":null},)"), "__metadata__ holds null"},
    {"metadata_holds_an_object", before(R"("__metadata__":{"x":{}},)"),
     "__metadata__ holds an object"},
    {"metadata_holds_an_array", before(R"("__metadata__":{"x":[]},)"),
     "__metadata__ holds an array"},
    {"metadata_holds_true", before(R"("__metadata__":{"x":true},)"),
     "__metadata__ holds a boolean"},
    // Dtypes.
    {"dtype_unknown", dtype(R"("F33")"), "unknown dtype \"F33\""},
    {"dtype_empty", dtype(R"("")"), "unknown dtype \"\""},
    {"dtype_in_small_letters", dtype(R"("u8")"), "unknown dtype \"u8\""},
    {"dtype_with_space", dtype(R"("U8 ")"), "unknown dtype \"U8 \""},
    {"dtype_is_a_number", dtype("8"), "dtype is a number instead of a string"},
    {"dtype_is_null", dtype("null"), "dtype is null instead of a string"},
    {"dtype_is_an_array", dtype(R"(["U8"])"), "dtype is an array instead of a string"},
    {"bool_of_wrong_size", one(R"("BOOL")", "[2]", "[0,1]", 1), "shape and dtype need 2 bytes"},
    {"f64_of_wrong_size", one(R"("F64")", "[2]", "[0,8]", 8), "shape and dtype need 16 bytes"},
    {"f4_that_ends_within_a_byte", one(R"("F4")", "[3]", "[0,2]", 2), "ends within a byte"},
    {"f6_of_wrong_size", one(R"("F6_E3M2")", "[4]", "[0,4]", 4), "shape and dtype need 3 bytes"},
    {"dtype_twice", one(R"("BOOL","dtype":"U8")", "[1]", "[0,1]", 1), "duplicate key \"dtype\""},
    // Integers.
    {"size_1e0", shape("[1e0]"), "shape holds a negative, fractional"},
    {"size_1_0", shape("[1.0]"), "shape holds a negative, fractional"},
    {"size_minus_1", shape("[-1]"), "shape holds a negative"},
    {"size_minus_0", shape("[-0,1]"), "shape holds a negative"},
    {"size_plus_1", shape("[+1]"), "not valid JSON"},
    {"size_01", shape("[01]"), "not valid JSON"},
    {"size_hex", shape("[0x1]"), "not valid JSON"},
    {"size_nan", shape("[NaN]"), "not valid JSON"},
    {"size_2_to_the_63", shape("[9223372036854775808]"),
     "size 9223372036854775808 is out of range"},
    {"size_2_to_the_63_beside_0", one(R"("U8")", "[0,9223372036854775808]", "[0,0]", 0),
     "is out of range"},
    {"size_2_to_the_64", shape("[18446744073709551616]"),
     "shape holds a negative, fractional or too large"},
    {"size_1e999", shape("[1e999]"), "not valid JSON"},
    {"size_is_a_string", shape(R"(["1"])"), "shape holds a string"},
    {"size_is_null", shape("[null]"), "shape holds null"},
    {"size_is_true", shape("[true]"), "shape holds a boolean"},
    {"size_is_an_array", shape("[[1]]"), "shape holds an array"},
    {"size_is_an_object", shape("[{}]"), "shape holds an object"},
    {"shape_is_a_number", shape("1"), "shape is a number instead of an array"},
    {"shape_is_an_object", shape("{}"), "shape is an object instead of an array"},
    {"shape_is_null", shape("null"), "shape is null instead of an array"},
    {"65_dimensions", shape("[1" + repeat(",1", 64) + "]"), "more than 64 dimensions",
     ErrorKind::kUnsupported},
    {"shape_wraps_to_0", one(R"("U8")", "[4294967296,4294967296]", "[0,0]", 0), "overflows"},
    {"shape_wraps_to_1", shape("[7,7905747460161236407]"), "overflows"},
    {"shape_overflows_before_a_0", one(R"("U8")", "[4294967296,4294967296,0]", "[0,0]", 0),
     "overflows"},
    {"bytes_wrap_to_0", one(R"("F32")", "[4611686018427387904]", "[0,0]", 0), "overflows"},
    {"bytes_wrap_to_8", one(R"("I64")", "[2305843009213693953]", "[0,8]", 8), "overflows"},
    // Offsets.
    {"offset_1e0", offsets("[0,1e0]"), "data_offsets holds a negative, fractional"},
    {"offset_1_0", offsets("[0,1.0]"), "data_offsets holds a negative, fractional"},
    {"offset_minus_0", offsets("[-0,1]"), "data_offsets holds a negative"},
    {"offset_plus_0", offsets("[+0,1]"), "not valid JSON"},
    {"offset_00", offsets("[00,1]"), "not valid JSON"},
    {"offset_is_a_string", offsets(R"(["0",1])"), "data_offsets holds a string"},
    {"offset_is_null", offsets("[null,1]"), "data_offsets holds null"},
    {"offsets_are_an_object", offsets("{}"), "data_offsets is an object instead of an array"},
    {"offsets_are_a_number", offsets("1"), "data_offsets is a number instead of an array"},
    {"no_offset", offsets("[]"), "data_offsets has 0 numbers instead of two"},
    {"one_offset", offsets("[1]"), "data_offsets has 1 numbers instead of two"},
    {"three_offsets", offsets("[0,1,1]"), "data_offsets has more than two numbers"},
    {"end_before_begin", offsets("[1,0]"), "data_offsets [1, 0] end before they begin"},
    {"end_beyond_the_file", one(R"("U8")", "[2]", "[0,2]", 1), "go beyond the 1 bytes of data"},
    {"end_2_to_the_63", one(R"("U8")", "[9223372036854775807]", "[1,9223372036854775808]", 1),
     "go beyond"},
    {"end_all_ones", offsets("[18446744073709551614,18446744073709551615]"), "go beyond"},
    {"end_2_to_the_64", offsets("[0,18446744073709551616]"),
     "data_offsets holds a negative, fractional or too large"},
    {"shape_needs_less", one(R"("U8")", "[1]", "[0,2]", 2),
     "need 1 bytes, data_offsets [0, 2] hold 2"},
    {"shape_needs_more", one(R"("F32")", "[1]", "[0,2]", 2),
     "need 4 bytes, data_offsets [0, 2] hold 2"},
    {"bytes_for_a_zero_size", one(R"("F32")", "[0]", "[0,4]", 4), "need 0 bytes"},
    {"no_bytes_for_rank_0", one(R"("F32")", "[]", "[0,0]", 0), "need 4 bytes"},
    // The whole.
    {"trailing_bytes", pieces({{"a", 0, 1}}, 5), "4 bytes behind the last tensor belong to none"},
    {"trailing_bytes_and_no_tensor", safetensors_bytes("{}", 4), "4 bytes behind the last tensor"},
    {"hole_at_the_beginning", pieces({{"a", 1, 2}}, 2),
     "begins at data offset 1, a hole follows 0"},
    {"hole_between", pieces({{"a", 0, 1}, {"b", 2, 3}}, 3),
     "begins at data offset 2, a hole follows 1"},
    {"overlap", pieces({{"a", 0, 2}, {"b", 1, 3}}, 3), "inside the one before it"},
    {"same_range_twice", pieces({{"a", 0, 2}, {"b", 0, 2}}, 2), "inside the one before it"},
    {"one_inside_another", pieces({{"a", 0, 4}, {"b", 1, 2}}, 4), "inside the one before it"},
    {"zero_size_inside_another", pieces({{"a", 0, 4}, {"b", 2, 2}}, 4), "inside the one before it"},
    {"many_on_the_same_bytes", pieces({{"a", 0, 4}, {"b", 0, 4}, {"c", 0, 4}, {"d", 0, 4}}, 4),
     "inside the one"},
};

class CorruptSafetensors : public testing::TestWithParam<Corrupt> {};
TEST_P(CorruptSafetensors, is_refused) {
  EXPECT_PITH_ERROR(parse_whole(GetParam().bytes), GetParam().kind, GetParam().text);
}
INSTANTIATE_TEST_SUITE_P(Table, CorruptSafetensors, testing::ValuesIn(kCorrupt),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(CorruptSafetensorsTable, a_string_of_17_mebibytes_is_refused) {
  EXPECT_PITH_ERROR(parse_whole(before("\"" + std::string(17 << 20, 'x') + "\":{},")),
                    ErrorKind::kUnsupported, "string longer than 16777216");
}

TEST(CorruptSafetensorsTable, too_much_metadata_is_refused) {
  std::string text = "{\"__metadata__\":{";
  for (int i = 0; i <= 65'536; ++i) text += fmt::format("{}\"{}\":\"\"", i ? "," : "", i);
  EXPECT_PITH_ERROR(parse_whole(safetensors_bytes(text + "}}", 0)), ErrorKind::kUnsupported,
                    "65536 entries");
}

TEST(CorruptSafetensorsTable, messages_stay_short_and_printable) {
  try {
    parse_whole(before("\"" + std::string(100'000, '\x7f') + "\":1,"));
    FAIL();
  } catch (const Error& e) {
    EXPECT_LT(std::string_view(e.what()).size(), 600u);
    EXPECT_EQ(std::string_view(e.what()).find('\x7f'), std::string_view::npos);
  }
}

std::string small_file() {
  return safetensors_bytes(
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
      R"("b":{"dtype":"BF16","shape":[],"data_offsets":[8,10]}} )",
      10);
}

TEST(CorruptSafetensorsSweep, every_truncation_is_refused) {
  const std::string whole = small_file();
  EXPECT_NO_THROW(parse_whole(whole));
  for (size_t n = 0; n < whole.size(); ++n)
    EXPECT_PITH_ERROR(parse_whole(whole.substr(0, n)), ErrorKind::kCorrupt, "");
}

TEST(CorruptSafetensorsSweep, a_header_that_is_cut_in_memory_is_refused) {
  const std::string whole = small_file();
  for (size_t n = 0; n < whole.size() - 10; ++n) {
    EXPECT_PITH_ERROR(parse_safetensors(as_bytes(whole).first(n), whole.size(), "file"),
                      ErrorKind::kCorrupt, "");
  }
}

TEST(CorruptSafetensorsSweep, every_flipped_bit_of_the_header_is_refused_or_harmless) {
  const std::string whole = small_file();
  int refused = 0;
  for (size_t bit = 0; bit < 8 * (whole.size() - 10); ++bit) {
    std::string flipped = whole;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    try {
      for (const auto& t : parse_whole(flipped).tensors)
        EXPECT_LE(t.offset + t.bytes, flipped.size());
    } catch (const Error& e) {
      EXPECT_TRUE(e.kind() == ErrorKind::kCorrupt || e.kind() == ErrorKind::kUnsupported)
          << e.what();
      ++refused;
    }
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace pith
