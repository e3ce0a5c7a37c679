// Texts of 1 MiB that make a naive tokenizer quadratic or its regular expressions run out of stack.

#include <gtest/gtest.h>

#include <ctime>

#include "core/file.h"
#include "core/regex/regex.h"
#include "core/utf8.h"
#include "formats/tokenizer/gguf_splits.h"
#include "formats/tokenizer/tokenizer.h"
#include "tests/support/sanitized.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

constexpr size_t kMiB = size_t{1} << (test::kSanitized ? 17 : 20);  // instrumented code is slow

struct LongText {
  const char* name;
  const char* repeated;
};
constexpr LongText kTexts[] = {{"letter", "a"},
                               {"blank", " "},
                               {"newline", "\n"},
                               {"digit", "7"},
                               {"comma", ","},
                               {"blank_letter", "    a"},
                               {"newline_blank", "\n "},
                               {"upper_lower", "aA"},
                               {"two_byte", "é"},
                               {"ideograph", "東"},
                               {"emoji", "🦙"},
                               {"metaspace", "▁"},
                               {"combining", "a\u0323\u0307"},
                               {"apostrophe", "'"}};

std::string of_a_mib(const char* repeated) {
  std::string text;
  while (text.size() < kMiB) text += repeated;
  return text;
}

// In optimized builds, where the machine is not shared by much else, below 0.4 s; the bound is for
// all others.
double seconds_to_encode(const Tokenizer& tokenizer, const std::string& text) {
  const std::clock_t begin = std::clock();  // of the processor: the machine may be busy
  const std::vector<int32_t> ids = tokenizer.encode(text, {.add_special = false});
  const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  EXPECT_LE(ids.size(), 4 * text.size());
  return seconds;
}

class LongTexts : public testing::TestWithParam<std::string> {};

TEST_P(LongTexts, EncodeInSecondsAtMost) {
  const std::string path = test::fixture("golden/tokenizers/" + GetParam() + ".json");
  const auto tokenizer = make_json_tokenizer(read_text_file(path, 1 << 26), "");
  for (const LongText& t : kTexts) {
    const double seconds = seconds_to_encode(*tokenizer, of_a_mib(t.repeated));
    EXPECT_LT(seconds, 5) << t.name;
    std::string property = std::string(t.name) + "_ms";
    RecordProperty(property, static_cast<int>(seconds * 1000));
  }
}

INSTANTIATE_TEST_SUITE_P(Goldens, LongTexts,
                         testing::Values("bytelevel_bpe_gpt2", "llama3_style", "gpt4o_style",
                                         "llama2_style", "qwen2_style", "unigram",
                                         "unigram_bytefallback", "wordpiece", "bpe_suffix",
                                         "pretok_deepseek_style"),
                         [](const auto& p) { return p.param; });

TEST(LongText, EncodesWithTheVocabulariesOfRealModels) {
  for (const char* name :
       {"stories260K/llama2-32k-tokenizer.model", "stories260K/tok512.bin",
        "tokenizers/ggml-vocab-gpt-2.gguf", "tokenizers/ggml-vocab-llama-spm.gguf",
        "tinystories-656K/bf16/tokenizer.json"}) {
    PITH_SHARED_OR_SKIP(path, name);
    const auto tokenizer = make_tokenizer(read_tokenizer_file(path));
    for (const LongText& t : kTexts) {
      const double seconds = seconds_to_encode(*tokenizer, of_a_mib(t.repeated));
      EXPECT_LT(seconds, 5) << name << " " << t.name;
      std::string property =
          std::string(name + std::string(name).rfind('/') + 1) + "_" + t.name + "_ms";
      RecordProperty(property, static_cast<int>(seconds * 1000));
    }
  }
}

TEST(LongText, MarksAreOrderedInLessThanQuadraticTime) {
  const std::string text = "a" + of_a_mib("\u0323\u0307\u0345");
  const std::string composed = normal_form(text, NormalForm::kNfc);
  EXPECT_EQ(normal_form(composed, NormalForm::kNfd).size(), text.size());
}

TEST(LongText, PatternsThatBacktrackWithoutEndAreRefused) {
  const std::string text(64 * 1024, 'a');
  for (const char* pattern : {"(a+)+[bc]", "(?:a|a)*[bc]", "(a*)*c|d"}) {
    for (const bool jit : {true, false}) {
      SCOPED_TRACE(pattern + std::string(jit ? " compiled" : " interpreted"));
      const Regex regex(pattern, "hostile.json", jit);
      const auto ignore = [](size_t, size_t) {};
      EXPECT_PITH_ERROR(regex.for_each_match(text, ignore), ErrorKind::kCorrupt, pattern);
    }
  }
}

TEST(LongText, PatternsOfRealModelsMatchAllOfItAlsoInterpreted) {
  for (const char* name : {"gpt-2", "llama-bpe", "qwen2", "tekken", "gpt-4o"}) {
    for (const bool jit : {true, false}) {
      SCOPED_TRACE(name + std::string(jit ? " compiled" : " interpreted"));
      const Regex regex(find_gguf_split(name)->patterns[0], "test", jit);
      for (const LongText& t : kTexts) {
        const std::string text = of_a_mib(t.repeated);
        size_t end_of_last = 0, gaps = 0;
        regex.for_each_match(text, [&](size_t begin, size_t end) {
          gaps += begin != end_of_last;
          end_of_last = end;
        });
        EXPECT_EQ(gaps, 0u) << t.name;
        EXPECT_EQ(end_of_last, text.size()) << t.name;
      }
    }
  }
}

}  // namespace
}  // namespace pith
