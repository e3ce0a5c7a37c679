#include "formats/yaml.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace pith {
namespace {

std::string error_of(const std::string& text) {
  try {
    parse_yaml(text, "r.yaml");
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kUsage);
    return e.what();
  }
  return "";
}

TEST(Yaml, reads_mappings_lists_and_scalars_with_their_places) {
  const YamlNode root = parse_yaml(
      "# a comment\n"
      "steps:\n"
      "  - quantize: {type: w4, ignore: ['re:a: b', \"x\\ty\"]}\n"
      "  - rotate:\n"
      "seed: 7\n",
      "r.yaml");
  ASSERT_EQ(root.kind, YamlNode::Kind::kMapping);
  const YamlNode& steps = *root.find("steps");
  ASSERT_EQ(steps.items.size(), 2u);
  const YamlNode& quantize = *steps.items[0].find("quantize");
  EXPECT_EQ(quantize.find("type")->text, "w4");
  EXPECT_EQ(quantize.find("type")->line, 3);
  EXPECT_EQ(quantize.find("type")->column, 22);
  EXPECT_EQ(quantize.find("ignore")->items[0].text, "re:a: b");
  EXPECT_EQ(quantize.find("ignore")->items[1].text, "x\ty");
  EXPECT_TRUE(steps.items[1].find("rotate")->is_null());
  EXPECT_EQ(root.find("seed")->text, "7");
  EXPECT_EQ(root.find("type"), nullptr);
}

TEST(Yaml, a_word_in_quotes_is_never_nothing) {
  const YamlNode root = parse_yaml("a: null\nb: 'null'\nc: ''\nd: ~\n", "r.yaml");
  EXPECT_TRUE(root.find("a")->is_null());
  EXPECT_FALSE(root.find("b")->is_null());
  EXPECT_FALSE(root.find("c")->is_null());
  EXPECT_TRUE(root.find("d")->is_null());
}

TEST(Yaml, errors_say_where) {
  EXPECT_EQ(error_of("a: 1\nb: 2\na: 3\n"), "r.yaml:3:1: \"a\" occurs twice");
  EXPECT_EQ(error_of("a: &x 1\nb: *x\n"), "r.yaml:1:4: anchors and aliases are not read");
  EXPECT_EQ(error_of("a: !!python/object:os.system x\n"), "r.yaml:1:4: tags are not read");
  EXPECT_EQ(error_of("? [a]\n: b\n"), "r.yaml:1:3: a key that is not a word");
  EXPECT_EQ(error_of("--- a\n--- b\n"), "r.yaml:2:1: a second document");
  EXPECT_EQ(error_of("").substr(0, 7), "r.yaml:");
  EXPECT_EQ(error_of("a: [1, 2\n").substr(0, 8), "r.yaml:2");
  EXPECT_EQ(error_of("a: \xff\n"), "r.yaml: is not UTF-8");
}

TEST(Yaml, is_bounded) {
  EXPECT_NE(error_of(std::string(kMaxYamlBytes + 1, ' ')).find("at most"), std::string::npos);
  EXPECT_NE(error_of(std::string(1000, '[')).find("nested deeper"), std::string::npos);
  std::string many = "[";
  for (int i = 0; i < 100'001; ++i) many += "1,";
  EXPECT_NE(error_of(many + "]").find("more than 100000 values"), std::string::npos);
  std::string aliases = "a: &a [1]\nb: [";
  for (int i = 0; i < 10'000; ++i) aliases += "*a,";
  EXPECT_NE(error_of(aliases + "]").find("aliases"), std::string::npos);
}

}  // namespace
}  // namespace pith
