// tokenizer.json files with one detail changed: unknown tokens, fallback to bytes, ids with gaps,
// added tokens that conflict, components with odd or missing settings. Each encodes as Hugging Face
// tokenizers does, or is refused by name (tests/golden/make_tokenizer_details.py).

#include <gtest/gtest.h>

#include <algorithm>

#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "formats/tokenizer/tokenizer.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

// What the reference takes and we do not: ambiguous or random there, or a component not written.
constexpr const char* kRefused[] = {
    "model.dropout is",
    "have gaps, and",
    "is both",
    "a template with the text",
    "not the id of a token",
    "\"type\" is missing",
    "those of a template",
    "\"UnicodeScripts\" is not",
    "\"FixedLength\" is not",
    "\"CTC\" is not",
};

bool is_refused_on_purpose(const std::string& message) {
  return std::ranges::any_of(
      kRefused, [&](const char* part) { return message.find(part) != std::string::npos; });
}

Json encoded(const Tokenizer& tokenizer, const std::string& text) {
  try {
    return tokenizer.encode(text, {.add_special = true, .parse_special = true});
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kUnsupported) << e.what();
    return "error";
  }
}

TEST(TokenizerDetails, EveryChangeEncodesAsTheReferenceOrIsRefusedByName) {
  const Json golden = parse_json(
      read_text_file(test::fixture("golden/tokenizer_details.json"), 1 << 22), "details", 64);
  const Json& texts = golden.at("texts");
  int read = 0, refused = 0;
  for (const Json& row : golden.at("cases")) {
    const auto base = row[0].get<std::string>();
    SCOPED_TRACE(base + " " + row[1].dump());
    std::unique_ptr<Tokenizer> tokenizer;
    try {
      tokenizer = make_json_tokenizer(golden["bases"][base].patch(row[1]).dump(), "");
    } catch (const Error& e) {
      if (row[2] != "refused") {
        EXPECT_TRUE(is_refused_on_purpose(e.what())) << e.what();
        ++refused;
      }
      continue;
    }
    if (row[2] == "refused") continue;  // ours has a default for a member that is missing
    ++read;
    for (size_t i = 0; i < texts.size(); ++i) {
      const Json expected = row[2].value(std::to_string(i), golden["ids"][base][i]);
      EXPECT_EQ(encoded(*tokenizer, texts[i].get<std::string>()), expected) << texts[i];
    }
  }
  EXPECT_GE(read, 400);
  EXPECT_LE(refused, 25);
}

}  // namespace
}  // namespace pith
