// Encodings and decodings that Hugging Face tokenizers, SentencePiece and llama2.c computed
// (tests/golden/tokenizers).

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "core/file.h"
#include "core/json.h"
#include "core/utf8.h"
#include "formats/tokenizer/tokenizer.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

using Ids = std::vector<int32_t>;

Json golden(const std::string& name) {
  const std::string path = test::fixture("golden/tokenizers/" + name);
  return parse_json(read_text_file(path, 1 << 26), name);
}
bool has_golden(const std::string& name) {
  return file_exists(test::fixture("golden/tokenizers/" + name));
}

std::vector<std::string> trained_tokenizers() {
  std::vector<std::string> names;
  for (const auto& entry :
       std::filesystem::directory_iterator(test::fixture("golden/tokenizers"))) {
    const std::string file = entry.path().filename();
    const size_t dot = file.find('.');
    if (file.substr(dot) == ".json") names.push_back(file.substr(0, dot));
  }
  std::sort(names.begin(), names.end());
  return names;
}

// Without parse_special our ids never hold a special token, whatever the text says. Where the
// reference's do (its models find the text of special tokens in their vocabulary), only that is
// compared.
bool holds_special(const Tokenizer& tokenizer, const Ids& ids, const std::string& unknown) {
  return std::any_of(ids.begin(), ids.end(), [&](int32_t id) {
    return tokenizer.is_special(id) && tokenizer.token_text(id) != unknown;
  });
}

// Where tokens end inside a UTF-8 sequence our text does so too. The reference has U+FFFD there,
// one for the sequence or, where bytes are tokens, one for each byte of the run.
void expect_decoded(const std::string& ours, const std::string& reference) {
  const size_t good = valid_utf8_prefix(ours);
  if (good == ours.size() || valid_utf8_or_replaced(ours) == reference) {
    EXPECT_EQ(valid_utf8_or_replaced(ours), reference);
    return;
  }
  EXPECT_TRUE(is_incomplete_utf8(std::string_view(ours).substr(good))) << ours;
  const auto [at_ours, at_reference] =
      std::mismatch(ours.begin(), ours.end(), reference.begin(), reference.end());
  std::string rest(at_reference, reference.end());
  for (size_t i = 0; i < rest.size(); i += 3) EXPECT_EQ(rest.substr(i, 3), "\xef\xbf\xbd");
  EXPECT_EQ(rest.size(), 3 * static_cast<size_t>(ours.end() - at_ours));
}

void check_cases(const Tokenizer& tokenizer, const Json& cases) {
  for (const Json& c : cases) {
    const auto text = c.at("text").get<std::string>();
    SCOPED_TRACE(c.at("text").dump());
    const auto ids = c.at("ids").get<Ids>();
    const auto plain = c.value("ids_plain", ids);
    const auto no_special = c.value("ids_nospecial", plain);
    EXPECT_EQ(tokenizer.encode(text, {.add_special = true, .parse_special = true}), ids);
    EXPECT_EQ(tokenizer.encode(text, {.add_special = false, .parse_special = true}), plain);
    const Ids ours = tokenizer.encode(text, {.add_special = false, .parse_special = false});
    std::string unknown;
    for (const char* name : {"<unk>", "[UNK]"}) {
      if (tokenizer.id_of(name)) unknown = name;
    }
    EXPECT_FALSE(holds_special(tokenizer, ours, unknown));
    if (!holds_special(tokenizer, no_special, unknown)) {
      EXPECT_EQ(ours, no_special);
    }
    const auto decoded = c.value("decoded", text);
    expect_decoded(tokenizer.decode(ids), decoded);
    expect_decoded(tokenizer.decode(ids, false), c.value("decoded_full", decoded));
  }
}

void check_decodings(const Tokenizer& tokenizer, const Json& cases) {
  for (const Json& c : cases) {
    SCOPED_TRACE(c.dump());
    const auto ids = c.at("ids").get<Ids>();
    const auto decoded = c.at("decoded").get<std::string>();
    expect_decoded(tokenizer.decode(ids), decoded);
    expect_decoded(tokenizer.decode(ids, false), c.value("decoded_full", decoded));
  }
}

class TrainedTokenizer : public testing::TestWithParam<std::string> {};

TEST_P(TrainedTokenizer, EncodesAndDecodesAsTheReference) {
  const std::string path = test::fixture("golden/tokenizers/" + GetParam() + ".json");
  const auto tokenizer = make_json_tokenizer(read_text_file(path, 1 << 26), "");
  check_cases(*tokenizer, golden(GetParam() + ".cases.json"));
  if (has_golden(GetParam() + ".decode.json"))
    check_decodings(*tokenizer, golden(GetParam() + ".decode.json"));
}

INSTANTIATE_TEST_SUITE_P(Goldens, TrainedTokenizer, testing::ValuesIn(trained_tokenizers()),
                         [](const auto& p) { return p.param; });

TEST(RealTokenizer, TinyStoriesAgreesWithTheReference) {
  PITH_SHARED_OR_SKIP(path, "tinystories-656K/bf16/tokenizer.json");
  const auto tokenizer = make_tokenizer(read_tokenizer_file(path));
  check_cases(*tokenizer, golden("tinystories.cases.json"));
  check_decodings(*tokenizer, golden("tinystories.decode.json"));
  EXPECT_EQ(tokenizer->bos(), tokenizer->id_of("<|start_story|>"));
  EXPECT_EQ(tokenizer->eos(), tokenizer->id_of("<|end_story|>"));
  EXPECT_TRUE(tokenizer->adds_bos());
}

TEST(RealTokenizer, SentencePieceModelOfLlama2AgreesWithTheReference) {
  PITH_SHARED_OR_SKIP(path, "stories260K/llama2-32k-tokenizer.model");
  const auto tokenizer = make_tokenizer(read_tokenizer_file(path));
  for (const Json& c : golden("llama2_spm.cases.json")) {
    SCOPED_TRACE(c.dump());
    const auto ids = c.at("ids").get<Ids>();
    EXPECT_EQ(tokenizer->encode(c.at("text").get<std::string>(), {.add_special = false}), ids);
    EXPECT_EQ(tokenizer->decode(ids), c.at("decoded").get<std::string>());
  }
  EXPECT_EQ(tokenizer->vocab_size(), 32000);
  EXPECT_TRUE(tokenizer->adds_bos());
}

TEST(RealTokenizer, VocabulariesOfLlama2cAgreeWithTheReference) {
  PITH_SHARED_OR_SKIP(path, "stories260K/tok512.bin");
  const auto tokenizer = make_tokenizer(read_tokenizer_file(path));
  for (const Json& c : golden("tok512.cases.json")) {
    SCOPED_TRACE(c.dump());
    const auto ids = c.at("ids").get<Ids>();
    EXPECT_EQ(tokenizer->encode(c.at("text").get<std::string>(), {.add_special = false}), ids);
    EXPECT_EQ(tokenizer->decode(ids), c.at("decoded").get<std::string>());
  }
  EXPECT_EQ(tokenizer->vocab_size(), 512);
}

}  // namespace
}  // namespace pith
