// GGUF vocabularies against the token lists that llama.cpp keeps beside them, and hand-made ones.

#include <gtest/gtest.h>

#include <charconv>

#include "core/file.h"
#include "core/regex/regex.h"
#include "formats/gguf.h"
#include "formats/tokenizer/gguf_splits.h"
#include "formats/tokenizer/tokenizer.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

using Ids = std::vector<int32_t>;

std::vector<std::string> separated(const std::string& text, const std::string& separator) {
  std::vector<std::string> parts;
  size_t at = 0;
  for (size_t found; (found = text.find(separator, at)) != std::string::npos;
       at = found + separator.size()) {
    parts.push_back(text.substr(at, found - at));
  }
  parts.push_back(text.substr(at));
  return parts;
}

Ids numbers(const std::string& line) {
  Ids ids;
  for (const std::string& word : separated(line, " ")) {
    if (word.empty()) continue;
    int32_t id = -1;
    std::from_chars(word.data(), word.data() + word.size(), id);
    ids.push_back(id);
  }
  return ids;
}

void check_against_lists(const std::string& path) {
  const auto tokenizer = make_tokenizer(read_tokenizer_file(path));
  const auto texts = separated(read_text_file(path + ".inp", 1 << 20), "\n__ggml_vocab_test__\n");
  auto lines = separated(read_text_file(path + ".out", 1 << 20), "\n");
  if (lines.back().empty()) lines.pop_back();
  ASSERT_LE(lines.size(), texts.size());
  ASSERT_GT(lines.size(), 30u);
  for (size_t i = 0; i < lines.size(); ++i) {
    SCOPED_TRACE("text " + std::to_string(i) + ": " + texts[i]);
    const Ids ids = tokenizer->encode(texts[i], {.add_special = false});
    EXPECT_EQ(ids, numbers(lines[i]));
    EXPECT_EQ(tokenizer->decode(ids), texts[i]);
  }
}

TEST(GgufVocabulary, OfGpt2AgreesWithLlamaCpp) {
  PITH_SHARED_OR_SKIP(path, "tokenizers/ggml-vocab-gpt-2.gguf");
  check_against_lists(path);
}

TEST(GgufVocabulary, OfLlama2AgreesWithLlamaCpp) {
  PITH_SHARED_OR_SKIP(path, "tokenizers/ggml-vocab-llama-spm.gguf");
  check_against_lists(path);
}

TEST(GgufVocabulary, OfGptNeoxRoundTrips) {
  PITH_SHARED_OR_SKIP(path, "tokenizers/ggml-vocab-gpt-neox.gguf");
  const auto tokenizer = make_tokenizer(read_tokenizer_file(path));
  const std::string text = "Hello, world! 12345 \n\n  naïve 東京 🦙";
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
}

TEST(GgufVocabulary, EverySplitCompilesAndCoversText) {
  for (const GgufSplit& split : gguf_splits()) {
    SCOPED_TRACE(std::string(split.name));
    for (const auto pattern : split.patterns) {
      size_t matches = 0;
      Regex(pattern, "test").for_each_match("It's 12345 A b\n\n東京 x,y", [&](size_t, size_t) {
        ++matches;
      });
      EXPECT_GT(matches + (pattern == "\\s+\\z" ? 1 : 0), 0u) << pattern;
    }
  }
}

GgufMetadata small_gpt2() {
  GgufMetadata m;
  m.file = "small.gguf";
  m.values["tokenizer.ggml.model"] = std::string("gpt2");
  m.values["tokenizer.ggml.pre"] = std::string("smollm");
  m.values["tokenizer.ggml.tokens"] =
      std::vector<std::string>{"<|s|>", "a", "b", "ab", "Ġ", "Ġab", "1", "2", "12", "<tool>"};
  m.values["tokenizer.ggml.token_type"] = std::vector<int64_t>{3, 1, 1, 1, 1, 1, 1, 1, 1, 4};
  m.values["tokenizer.ggml.merges"] = std::vector<std::string>{"a b", "Ġ ab", "1 2"};
  m.values["tokenizer.ggml.bos_token_id"] = uint64_t{0};
  m.values["tokenizer.ggml.eos_token_id"] = uint64_t{0};
  m.values["tokenizer.ggml.add_bos_token"] = true;
  return m;
}

TEST(GgufVocabulary, SplitsDigitsWhereItsNameSaysSo) {
  const auto tokenizer = make_gguf_tokenizer(small_gpt2());
  EXPECT_EQ(tokenizer->encode("ab ab12"), (Ids{0, 3, 5, 6, 7}));
  EXPECT_TRUE(tokenizer->adds_bos());
}

TEST(GgufVocabulary, ControlTokensNeedLeaveAndUserDefinedOnesDoNot) {
  const auto tokenizer = make_gguf_tokenizer(small_gpt2());
  EXPECT_EQ(tokenizer->encode("a<|s|>b<tool>a", {.add_special = false, .parse_special = true}),
            (Ids{1, 0, 2, 9, 1}));
  EXPECT_EQ(tokenizer->encode("a<|s|>b<tool>a", {.add_special = false}), (Ids{1, 2, 9, 1}));
}

TEST(GgufVocabulary, RefusesWhatItDoesNotKnow) {
  auto m = small_gpt2();
  m.values["tokenizer.ggml.pre"] = std::string("brand-new");
  EXPECT_PITH_ERROR(make_gguf_tokenizer(m), ErrorKind::kUnsupported, "brand-new");
  m = small_gpt2();
  m.values["tokenizer.ggml.model"] = std::string("rwkv");
  EXPECT_PITH_ERROR(make_gguf_tokenizer(m), ErrorKind::kUnsupported, "rwkv");
  m = small_gpt2();
  m.values["tokenizer.ggml.bos_token_id"] = uint64_t{10};
  EXPECT_EQ(make_gguf_tokenizer(m)->bos(), std::nullopt) << "an id that no token has is none";
  m = small_gpt2();
  m.values["tokenizer.ggml.merges"] = std::vector<std::string>{"a c"};
  EXPECT_PITH_ERROR(make_gguf_tokenizer(m), ErrorKind::kCorrupt, "not in the vocabulary");
  m = small_gpt2();
  m.values["tokenizer.ggml.token_type"] = std::vector<int64_t>{1};
  EXPECT_PITH_ERROR(make_gguf_tokenizer(m), ErrorKind::kCorrupt, "1 types");
}

TEST(GgufVocabulary, OfBertMarksWordsByTheirBeginning) {
  GgufMetadata m;
  m.values["tokenizer.ggml.model"] = std::string("bert");
  m.values["tokenizer.ggml.tokens"] =
      std::vector<std::string>{"[UNK]", "[CLS]", "[SEP]", "▁un", "able", "▁!", "▁able"};
  m.values["tokenizer.ggml.token_type"] = std::vector<int64_t>{2, 3, 3, 1, 1, 1, 1};
  m.values["tokenizer.ggml.unknown_token_id"] = uint64_t{0};
  m.values["tokenizer.ggml.cls_token_id"] = uint64_t{1};
  m.values["tokenizer.ggml.seperator_token_id"] = uint64_t{2};
  const auto tokenizer = make_gguf_tokenizer(m);
  EXPECT_EQ(tokenizer->encode("Unable! able zzz"), (Ids{1, 3, 4, 5, 6, 0, 2}));
  EXPECT_EQ(tokenizer->decode(Ids{1, 3, 4, 5, 6, 2}), "unable ! able");
}

}  // namespace
}  // namespace pith
