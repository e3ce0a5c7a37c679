#include "core/json.h"

#include <gtest/gtest.h>

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
    {"empty", "", "not valid JSON"},
    {"trailing_text", "{} x", "not valid JSON"},
    {"two_values", "1 2", "not valid JSON"},
    {"comment", "// x\n1", "not valid JSON"},
    {"trailing_comma", "[1,]", "not valid JSON"},
    {"nan", "NaN", "not valid JSON"},
    {"leading_zero", "01", "not valid JSON"},
    {"plus", "+1", "not valid JSON"},
    {"invalid_utf8", "\"\xff\"", "not valid JSON"},
    {"lone_surrogate", "\"\\ud800\"", "not valid JSON"},
    {"number_too_large", "1e999", "not valid JSON"},
    {"trailing_nul", std::string("{}\0", 3), "NUL at byte 2"},
    {"text_after_a_nul", std::string("{}\0{", 4), "NUL at byte 2"},
    {"duplicate_key", R"({"a":1,"a":1})", "duplicate key \"a\""},
    {"duplicate_by_escape", R"({"a":1,"\u0061":1})", "duplicate key \"a\""},
    {"duplicate_below", R"([{"x":{"b":1,"c":{"b":1},"b":2}}])", "duplicate key \"b\""},
    {"duplicate_after_an_object", R"({"a":{"b":1},"c":[{"a":2}],"a":3})", "duplicate key \"a\""},
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
