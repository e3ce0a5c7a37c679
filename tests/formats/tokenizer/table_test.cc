// Tokenizers put together from many components, and folders of SentencePiece and tiktoken models
// with the files beside them: every text of a list is encoded and decoded as tokenizers,
// transformers and tiktoken did (tests/golden/make_tokenizer_table.py).

#include <gtest/gtest.h>

#include "core/bytes.h"
#include "core/file.h"
#include "core/json.h"
#include "formats/checkpoint.h"
#include "formats/tokenizer/charsmap.h"
#include "formats/tokenizer/tokenizer.h"
#include "formats/tokenizer/unicode.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

using Ids = std::vector<int32_t>;

const Json& table() {
  static const Json made =
      Json::parse(read_text_file(test::fixture("golden/tokenizer_table.json"), 1 << 26));
  return made;
}

// The model of another golden file.
Json model_named(const std::string& name) {
  const bool words = name == "wordlevel";
  const std::string file =
      test::fixture("golden/tokenizers/" + (words ? "wordpiece" : name) + ".json");
  Json model = Json::parse(read_text_file(file, 1 << 26)).at("model");
  if (words) model = {{"type", "WordLevel"}, {"unk_token", "[UNK]"}, {"vocab", model.at("vocab")}};
  return model;
}

// The reference's texts hold U+FFFD where a token ends inside a character; ours end there.
bool same_text(const std::string& ours, const std::string& reference) {
  if (valid_utf8_or_replaced(ours) == reference) return true;
  const size_t good = valid_utf8_prefix(ours);
  return good < ours.size() && reference.starts_with(ours.substr(0, good)) &&
         reference.find_first_not_of("\xef\xbf\xbd", good) == std::string::npos;
}

void expect_agreement(const Tokenizer& tokenizer, const Json& row) {
  const Json& texts = table().at("texts");
  const auto text_of = [&](const Json& j) {
    return j.is_number() ? texts.at(j.get<size_t>()).get<std::string>() : j.get<std::string>();
  };
  for (size_t i = 0; i < texts.size(); ++i) {
    const auto text = texts[i].get<std::string>();
    SCOPED_TRACE(texts[i].dump());
    const auto ids = row.at("ids")[i].get<Ids>();
    EXPECT_EQ(tokenizer.encode(text, {.add_special = true, .parse_special = true}), ids);
    const auto plain = row.contains("ids_plain") ? row["ids_plain"][i].get<Ids>() : ids;
    EXPECT_EQ(tokenizer.encode(text, {.add_special = false, .parse_special = true}), plain);
    if (!row.contains("decoded") && !row.contains("decoded_full")) continue;
    const std::string full = text_of(row.value("decoded_full", row.value("decoded", Json()))[i]);
    EXPECT_PRED2(same_text, tokenizer.decode(ids, false), full);
    if (row.contains("decoded")) {
      EXPECT_PRED2(same_text, tokenizer.decode(ids), text_of(row["decoded"][i]));
    }
  }
}

TEST(TokenizerTable, EveryCombinationEncodesAndDecodesAsTheReference) {
  for (const Json& row : table().at("tokenizers")) {
    SCOPED_TRACE(row.at("name").dump());
    Json whole = row.at("parts");
    whole["model"] = model_named(row.at("model").get<std::string>());
    expect_agreement(*make_json_tokenizer(whole.dump(), ""), row);
  }
}

TEST(TokenizerTable, FoldersOfOlderFilesAreReadAsTransformersReadsThem) {
  for (const Json& row : table().at("folders")) {
    SCOPED_TRACE(row.at("name").dump());
    const test::TemporaryFolder folder;
    for (const auto& [name, content] : row.at("files").items()) {
      const std::string bytes = content.is_string()
                                    ? content.get<std::string>()
                                    : decode_base64(content.at("base64").get<std::string>(), name);
      write_file(folder.file(name), as_bytes(bytes));
    }
    const TokenizerFiles files = read_tokenizer_files(folder.path());
    const auto tokenizer = make_tokenizer(files);
    EXPECT_EQ(tokenizer->eos(), row.at("eos").get<int32_t>());
    expect_agreement(*tokenizer, row);
  }
}

}  // namespace
}  // namespace pith
