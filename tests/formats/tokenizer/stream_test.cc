// Token by token decoding gives what decoding at once gives, in whole characters.

#include <gtest/gtest.h>

#include <span>

#include "core/file.h"
#include "core/utf8.h"
#include "formats/tokenizer/tokenizer.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

class Streams : public testing::TestWithParam<std::string> {};

TEST_P(Streams, AgreeWithDecodingAtOnce) {
  const std::string path = test::fixture("golden/tokenizers/" + GetParam() + ".json");
  const auto tokenizer = make_json_tokenizer(read_text_file(path, 1 << 26), "");
  std::string text = "The baker counts 12 loaves, ";
  for (int i = 0; i < 40; ++i) text += "東京 naïve 🦙🦙 it's\n";
  const auto ids = tokenizer->encode(text);
  StreamDecoder stream(*tokenizer);
  std::string streamed;
  for (const int32_t id : ids) {
    const std::string piece = stream.push(id);
    EXPECT_EQ(valid_utf8_prefix(piece), piece.size());
    streamed += piece;
  }
  streamed += stream.finish();
  EXPECT_EQ(streamed, tokenizer->decode(ids));
}

// The text of a prompt and what goes on from it: the blank between them belongs to the second.
TEST_P(Streams, GoOnFromAnyPrefix) {
  const std::string path = test::fixture("golden/tokenizers/" + GetParam() + ".json");
  const auto tokenizer = make_json_tokenizer(read_text_file(path, 1 << 26), "");
  const auto ids = tokenizer->encode("Lily and Tom are friends of the baker, and it's late.");
  for (size_t given = 1; given < ids.size(); ++given) {
    const std::span<const int32_t> prompt = std::span(ids).first(given);
    StreamDecoder stream(*tokenizer, prompt);
    std::string text = tokenizer->decode(prompt);
    for (const int32_t id : std::span(ids).subspan(given)) text += stream.push(id);
    EXPECT_EQ(text + stream.finish(), tokenizer->decode(ids)) << given;
  }
}

INSTANTIATE_TEST_SUITE_P(Goldens, Streams,
                         testing::Values("bytelevel_bpe_gpt2", "llama3_style", "llama2_style",
                                         "llama2_metaspace", "qwen2_style", "unigram",
                                         "unigram_bytefallback"),
                         [](const auto& p) { return p.param; });

TEST(Stream, EndsWithTheReplacementOfAnUnfinishedCharacter) {
  const std::string path = test::fixture("golden/tokenizers/bytelevel_bpe_gpt2.json");
  const auto tokenizer = make_json_tokenizer(read_text_file(path, 1 << 26), "");
  const auto ids = tokenizer->encode("a🦙");
  StreamDecoder stream(*tokenizer);
  std::string text;
  for (size_t i = 0; i + 1 < ids.size(); ++i) text += stream.push(ids[i]);
  EXPECT_EQ(text, "a");
  EXPECT_EQ(stream.finish(), "\xef\xbf\xbd");
  EXPECT_EQ(stream.finish(), "");
}

}  // namespace
}  // namespace pith
