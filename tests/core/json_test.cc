#include "core/json.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <limits>

#include "tests/support/test_data.h"

namespace pith {
namespace {

struct Bad {
  const char* name;
  std::string text;
  const char* message;
};
std::string nested(int depth) { return std::string(depth, '[') + std::string(depth, ']'); }

const Bad kBad[] = {
    {"empty", "", "file: not valid JSON: the text is empty"},
    {"trailing_text", "{} x", "not valid JSON"},
    {"two_values", "1 2", "not valid JSON"},
    {"comment", "// x\n1", "not valid JSON"},
    {"trailing_comma", "[1,]", "not valid JSON"},
    {"leading_zero", "01", "not valid JSON"},
    {"plus", "+1", "not valid JSON"},
    {"invalid_utf8", "\"\xff\"", "not valid JSON"},
    {"trailing_nul", std::string("{}\0", 3), "not valid JSON: text follows the value"},
    {"text_after_a_nul", std::string("{}\0{", 4), "not valid JSON: text follows the value"},
    {"nul_in_a_string", std::string("\"\0\"", 3), "a control character in a string"},
    {"place", "{\"a\": 1,\n \"b\" 2}", "expected \":\" at line 2, column 6"},
    {"nan_in_small_letters", "nan", "not valid JSON"},
    {"inf", "-Inf", "not valid JSON"},
    {"bare_key", "{a: 1}", "expected a key in quotes at line 1, column 2"},
    {"single_quotes", "{'a': 1}", "expected a key in quotes"},
    {"no_digits", "[1.]", "expected a digit"},
    {"no_exponent", "[1e+]", "expected a digit"},
    {"unknown_escape", R"(["\x41"])", "an unknown escape"},
    {"short_escape", R"(["\u41"])", "four hexadecimal digits"},
    {"signed_escape", R"(["\u-123"])", "four hexadecimal digits"},
    {"open_string", "[\"a", "the text ends in a string"},
    {"open_array", "[1", "expected \",\" or \"]\""},
    {"overlong_utf8", "\"\xc0\xaf\"", "not UTF-8"},
    {"surrogate_in_utf8", "\"\xed\xa0\x80\"", "not UTF-8"},
    {"cut_utf8", "\"\xe2\x82\"", "not UTF-8"},
    {"too_deep", nested(66), "nested deeper than 64"},
    {"far_too_deep", std::string(1'000'000, '['), "nested deeper than 64"},
    {"far_too_deep_objects",
     [] {
       std::string s;
       for (int i = 0; i < 100'000; ++i) s += "{\"a\":";
       return s;
     }(),
     "nested deeper"},
};
class BadJson : public testing::TestWithParam<Bad> {};
TEST_P(BadJson, is_refused) {
  EXPECT_PITH_ERROR(parse_json(GetParam().text, "file"), ErrorKind::kCorrupt, GetParam().message);
}
INSTANTIATE_TEST_SUITE_P(Table, BadJson, testing::ValuesIn(kBad),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(Json, is_read_as_python_reads_it) {
  const struct {
    const char *text, *dumped;
  } kCases[] = {
      {R"({"a":1,"b":2,"a":{"c":3}})", R"({"a":{"c":3},"b":2})"},
      {R"([1,-0,18446744073709551615,-9223372036854775808])",
       "[1,0,18446744073709551615,-9223372036854775808]"},
      {"\xef\xbb\xbf[true, false, null]\r\n\t ", "[true,false,null]"},
      {R"(["\u0041\n\"\\\/\ud83d\ude00\u20ac\u00e9"])", R"(["A\n\"\\/😀€é"])"},
      {R"(["\ud800","\ude00x","\ud800\u0041"])", R"(["�","�x","�A"])"},
      {"[1.5e3,1E-2,0.1]", "[1500.0,0.01,0.1]"},
      {"[]", "[]"},
      {" { } ", "{}"},
  };
  for (const auto& c : kCases) EXPECT_EQ(parse_json(c.text, "file").dump(), c.dumped);
}

TEST(Json, numbers_that_do_not_fit_become_doubles_as_in_python) {
  constexpr double kInfinite = std::numeric_limits<double>::infinity();
  const struct {
    std::string text;
    double value;
  } kCases[] = {
      {"Infinity", kInfinite},
      {"-Infinity", -kInfinite},
      {"18446744073709551616", 18446744073709551616.0},
      {"-9223372036854775809", -9223372036854775808.0},
      {"1000000000000000019884624838656", 1e30},
      {"1e999", kInfinite},
      {"-1e99999", -kInfinite},
      {"1e-999", 0},
      {"1e-99999", 0},
      {"1" + std::string(400, '0'), kInfinite},
      {"1" + std::string(6000, '0'), kInfinite},
      {"0." + std::string(6000, '0') + "1", 0},
      {"0e99999", 0},
  };
  for (const auto& c : kCases) EXPECT_EQ(parse_json(c.text, "file").get<double>(), c.value);
  EXPECT_TRUE(std::isnan(parse_json("NaN", "file").get<double>()));
}

TEST(Json, a_key_that_occurs_twice_is_noted) {
  std::vector<std::string> notes;
  parse_json(R"({"a":1,"b":[{"c\u001b":1,"c\u001b":2}],"\u0061":2})", "file", 64, &notes);
  EXPECT_EQ(notes, (std::vector<std::string>{
                       R"(file: the key "c\u001b" occurs twice; its last value counts)",
                       R"(file: the key "a" occurs twice; its last value counts)"}));
  parse_json(R"({"a":1,"a":1,"a":1,"a":1,"a":1,"a":1,"a":1})", "file", 64, &notes);
  EXPECT_EQ(notes.size(), 5u);
}

// A callback per object of the parser underneath once made this quadratic.
TEST(Json, takes_time_that_is_linear_in_the_text) {
  const auto seconds = [](size_t objects) {
    std::string text = "[{}";
    for (size_t i = 1; i < objects; ++i) text += ",{}";
    text += "]";
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_EQ(parse_json(text, "file").size(), objects);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  seconds(10'000);
  EXPECT_LT(seconds(800'000), 5);  // 0.1 s; the square took minutes
}

TEST(Json, has_a_bound_on_its_values) {
  const auto array = [](size_t n, std::string_view item) {
    std::string text = "[";
    for (size_t i = 0; i < n; ++i) text.append(item).append(i + 1 < n ? "," : "]");
    return text;
  };
  EXPECT_EQ(parse_json(array(kMaxJsonValues - 1, "1"), "file").size(), kMaxJsonValues - 1);
  for (const char* item : {"1", "[]", "\"\"", "{}"})
    EXPECT_PITH_ERROR(parse_json(array(kMaxJsonValues, item), "file"), ErrorKind::kCorrupt,
                      "more than 4000000 values");
}

TEST(Json, the_same_key_in_different_objects_is_fine) {
  EXPECT_EQ(parse_json(R"({"a":{"a":[{"a":1},{"a":2}]},"b":{"a":3}})", "file").at("b").at("a"), 3);
}
TEST(Json, depth_can_be_chosen) {
  EXPECT_NO_THROW(parse_json(nested(64), "file"));
  EXPECT_NO_THROW(parse_json(nested(3), "file", 3));
  EXPECT_PITH_ERROR(parse_json(nested(5), "file", 3), ErrorKind::kCorrupt, "deeper than 3");
}

TEST(JsonGetters, convert_exactly) {
  const Json j = parse_json(
      R"({"n":18446744073709551615,"neg":-1,"f":1.0,"e":1e3,"s":"x","t":true,"z":null,"big":18446744073709551616})",
      "file");
  EXPECT_EQ(json_uint(j, "n", "file"), 18446744073709551615u);
  EXPECT_EQ(json_number(j, "neg", "file"), -1.0);
  EXPECT_EQ(json_number(j, "e", "file"), 1000.0);
  EXPECT_EQ(json_string(j, "s", "file"), "x");
  EXPECT_TRUE(json_bool(j, "t", "file"));
  for (const char* key : {"neg", "f", "e", "s", "t", "big"}) {
    EXPECT_PITH_ERROR(json_uint(j, key, "file"), ErrorKind::kCorrupt,
                      fmt::format("file: \"{}\" should be a non-negative integer", key));
  }
  EXPECT_PITH_ERROR(json_bool(j, "n", "file"), ErrorKind::kCorrupt,
                    "should be true or false, it is number");
  EXPECT_PITH_ERROR(json_string(j, "t", "file"), ErrorKind::kCorrupt,
                    "should be a string, it is boolean");
  EXPECT_PITH_ERROR(json_number(j, "s", "file"), ErrorKind::kCorrupt,
                    "should be a number, it is string");
}

TEST(JsonGetters, take_the_default_where_a_key_is_missing_or_null) {
  const Json j = parse_json(R"({"z":null,"s":"x"})", "file");
  EXPECT_EQ(json_uint(j, "z", "file", 7), 7u);
  EXPECT_EQ(json_uint(j, "y", "file", 7), 7u);
  EXPECT_EQ(json_string(j, "y", "file", "d"), "d");
  EXPECT_TRUE(json_bool(j, "z", "file", true));
  EXPECT_EQ(json_number(j, "z", "file", 0.5), 0.5);
  EXPECT_PITH_ERROR(json_uint(j, "z", "file"), ErrorKind::kCorrupt, "file: \"z\" is missing");
  // A value of another type is never replaced by the default.
  EXPECT_PITH_ERROR(json_uint(j, "s", "file", 7), ErrorKind::kCorrupt, "should be");
  EXPECT_EQ(json_find(j, "z"), nullptr);
  EXPECT_EQ(json_find(Json::array(), "z"), nullptr);
  EXPECT_PITH_ERROR(json_member(Json(1), "z", "file"), ErrorKind::kCorrupt, "\"z\" is missing");
}

}  // namespace
}  // namespace pith
