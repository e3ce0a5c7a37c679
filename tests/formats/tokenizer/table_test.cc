// Tokenizers put together from many components, and folders of SentencePiece and tiktoken models
// with the files beside them: every text of a list is encoded and decoded as tokenizers,
// transformers and tiktoken did (tests/golden/make_tokenizer_table.py).

#include <gtest/gtest.h>

#include "core/bytes.h"
#include "core/file.h"
#include "core/json.h"
#include "core/utf8.h"
#include "formats/checkpoint.h"
#include "formats/tokenizer/charsmap.h"
#include "formats/tokenizer/tokenizer.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

using Ids = std::vector<int32_t>;

const Json& table() {
  static const Json made =
      Json::parse(read_text_file(test::fixture("golden/tokenizer_table.json"), 1 << 26));
  return made;
}

Json golden(const std::string& name) {
  return Json::parse(read_text_file(test::fixture("golden/tokenizers/" + name + ".json"), 1 << 26));
}

// The model of another golden file.
Json model_named(const std::string& name) {
  const bool words = name == "wordlevel";
  Json model = golden(words ? "wordpiece" : name).at("model");
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
    if (row.contains("tokenizer_json")) {
      Json whole = golden(row["tokenizer_json"].get<std::string>());
      whole["added_tokens"].erase(whole["added_tokens"].begin() + 1, whole["added_tokens"].end());
      write_file(folder.file("tokenizer.json"), as_bytes(whole.dump()));
    }
    const TokenizerFiles files = read_tokenizer_files(folder.path());
    const auto tokenizer = make_tokenizer(files);
    EXPECT_EQ(tokenizer->eos(), row.at("eos").get<int32_t>());
    expect_agreement(*tokenizer, row);
  }
}

// The same vocabulary in a GGUF file, which need not have merges.
TEST(TokenizerTable, AGgufFileOfKimiSplitsTextAsItsTiktokenModel) {
  for (const Json& row : table().at("folders")) {
    if (row.at("name") != "kimi") continue;
    const auto original =
        make_tiktoken_tokenizer(row.at("files").at("tiktoken.model").get<std::string>(),
                                row.at("files").at("tokenizer_config.json").get<std::string>());
    GgufMetadata m;
    m.values["tokenizer.ggml.model"] = std::string("gpt2");
    m.values["tokenizer.ggml.pre"] = std::string("kimi-k2");
    std::vector<std::string> tokens;
    std::vector<int64_t> types;
    for (int32_t id = 0; id < original->vocab_size(); ++id) {
      tokens.push_back(original->token_text(id));
      types.push_back(original->is_special(id) ? 3 : 1);
    }
    m.values["tokenizer.ggml.tokens"] = std::move(tokens);
    m.values["tokenizer.ggml.token_type"] = std::move(types);
    m.values["tokenizer.ggml.eos_token_id"] = row.at("eos").get<uint64_t>();
    expect_agreement(*make_gguf_tokenizer(m), row);
  }
}

}  // namespace
}  // namespace pith
