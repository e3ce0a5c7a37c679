// Which tokens are scored in which windows, on texts of letters: token 10 is "\n", 11 "a", 12 "b".

#include "runtime/eval/protocol.h"

#include <gtest/gtest.h>

#include "tests/support/fake_tokenizer.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

using Kind = Protocol::Kind;
constexpr int32_t kBos = 5;

const test::FakeTokenizer kPlain = test::FakeTokenizer::letters(11);
const test::FakeTokenizer kWithBos = test::FakeTokenizer::letters(11, kBos);

std::vector<std::vector<int32_t>> tokens_of(const std::vector<Window>& windows) {
  std::vector<std::vector<int32_t>> out;
  for (const Window& w : windows) out.push_back(w.tokens);
  return out;
}

TEST(Protocols, gptq_cuts_the_joined_rows_and_scores_all_but_the_first) {
  // Rows "abc\n", "" and "de\n", joined by blank lines: abc\n \n\n \n\n de\n, eleven tokens.
  const std::string text = "abc\n \nde\n";
  EXPECT_EQ(tokens_of(make_windows({Kind::kGptq, 5}, kPlain, text, kBos)),
            (std::vector<std::vector<int32_t>>{{11, 12, 13, 10, 10}, {10, 10, 10, 14, 15}}));
  for (const Window& w : make_windows({Kind::kGptq, 5}, kPlain, text, kBos)) {
    EXPECT_EQ(w.first_scored, 0);
    EXPECT_EQ(w.scored(), 4);
  }
  // BOS at the very start only, and as one of the tokens of the first window.
  EXPECT_EQ(tokens_of(make_windows({Kind::kGptq, 5}, kWithBos, text, kBos)),
            (std::vector<std::vector<int32_t>>{{kBos, 11, 12, 13, 10}, {10, 10, 10, 10, 14}}));
}

TEST(Protocols, gptq_drops_the_tail) {
  for (const size_t n : {8, 9, 15}) {
    EXPECT_EQ(make_windows({Kind::kGptq, 8}, kPlain, std::string(n, 'a'), -1).size(), (n + 1) / 8);
  }
  // A text without a line break at its end is a row as well, and gets one.
  EXPECT_EQ(tokens_of(make_windows({Kind::kGptq, 3}, kPlain, "ab", -1)),
            (std::vector<std::vector<int32_t>>{{11, 12, 10}}));
}

TEST(Protocols, llama_scores_the_second_half_behind_a_replaced_first_token) {
  const std::string text = "abcdefghijklmnopqrstuvw";  // 23: two windows of 8 and a tail
  const auto plain = make_windows({Kind::kLlama, 8}, kPlain, text, kBos);
  ASSERT_EQ(plain.size(), 2u);
  EXPECT_EQ(plain[0].tokens, (std::vector<int32_t>{11, 12, 13, 14, 15, 16, 17, 18}));
  EXPECT_EQ(plain[1].tokens, (std::vector<int32_t>{19, 20, 21, 22, 23, 24, 25, 26}));
  for (const Window& w : plain) {
    EXPECT_EQ(w.first_scored, 4);
    EXPECT_EQ(w.scored(), 3);  // positions 4, 5 and 6, as llama.cpp: n - n / 2 - 1
  }
  // With BOS: that of the tokenizer stays, and the first of each other window is replaced.
  const auto bos = make_windows({Kind::kLlama, 8}, kWithBos, text, kBos);
  ASSERT_EQ(bos.size(), 3u);  // 24 tokens
  EXPECT_EQ(bos[0].tokens, (std::vector<int32_t>{kBos, 11, 12, 13, 14, 15, 16, 17}));
  EXPECT_EQ(bos[1].tokens, (std::vector<int32_t>{kBos, 19, 20, 21, 22, 23, 24, 25}));
  EXPECT_EQ(bos[2].tokens, (std::vector<int32_t>{kBos, 27, 28, 29, 30, 31, 32, 33}));
  EXPECT_EQ(make_windows({Kind::kLlama, 8}, kWithBos, text, -1)[1].tokens[0], 18);
  // 512 tokens: 255 scored.
  EXPECT_EQ(make_windows({Kind::kLlama, 512}, kPlain, std::string(512, 'a'), -1)[0].scored(), 255);
}

TEST(Protocols, llama_takes_the_text_as_it_is) {
  EXPECT_EQ(tokens_of(make_windows({Kind::kLlama, 8}, kPlain, "a\n\n b\nc\n\nd", -1)),
            (std::vector<std::vector<int32_t>>{{11, 10, 10, 12, 10, 13, 10, 10}}));
}

TEST(Protocols, paragraphs_stand_alone_behind_a_bos) {
  const std::string text = "abc\r\n\n  \t\n  de  \nfghijklmnopqrstu";
  const auto windows = make_windows({Kind::kParagraph, 8}, kWithBos, text, kBos);
  EXPECT_EQ(tokens_of(windows),
            (std::vector<std::vector<int32_t>>{{kBos, 11, 12, 13},
                                               {kBos, 14, 15},
                                               {kBos, 16, 17, 18, 19, 20, 21, 22},
                                               {kBos, 23, 24, 25, 26, 27, 28, 29},
                                               {kBos, 30, 31}}));
  int64_t scored = 0;
  for (const Window& w : windows) {
    EXPECT_EQ(w.first_scored, 0);
    scored += w.scored();
  }
  EXPECT_EQ(scored, 3 + 2 + 16);  // every letter once
  EXPECT_EQ(tokens_of(make_windows({Kind::kParagraph, 8}, kPlain, text, kBos)), tokens_of(windows));
}

// Every token of the text, in the order in which windows score them.
std::vector<int32_t> scored_tokens(const std::vector<Window>& windows) {
  std::vector<int32_t> out;
  for (const Window& w : windows)
    out.insert(out.end(), w.tokens.begin() + w.first_scored + 1, w.tokens.end());
  return out;
}

TEST(Protocols, text_is_taken_as_it_is_and_every_token_scored_once) {
  const std::string text = "abc\n\n \ndefghijk";  // 13 tokens: the blank is none
  const auto all = kPlain.encode(text, {});
  for (const int64_t context : {2, 3, 5, 8, 13, 14, 100}) {
    for (int64_t stride = 0; stride < context; ++stride) {
      const Protocol protocol{Kind::kText, context, stride};
      const auto plain = make_windows(protocol, kPlain, text, kBos);
      EXPECT_EQ(scored_tokens(plain), std::vector<int32_t>(all.begin() + 1, all.end()));
      const auto bos = make_windows(protocol, kWithBos, text, kBos);
      EXPECT_EQ(scored_tokens(bos), all);
      for (const auto& w : bos) EXPECT_EQ(w.tokens[0], kBos);
      for (const auto* windows : {&plain, &bos}) {
        for (const auto& w : *windows) EXPECT_LE(std::ssize(w.tokens), context);
      }
    }
  }
  EXPECT_EQ(
      tokens_of(make_windows({Kind::kText, 5}, kPlain, "abcdefghij", -1)),
      (std::vector<std::vector<int32_t>>{{11, 12, 13, 14, 15}, {15, 16, 17, 18, 19}, {19, 20}}));
  EXPECT_EQ(tokens_of(make_windows({Kind::kText, 5}, kWithBos, "abcdef", kBos)),
            (std::vector<std::vector<int32_t>>{{kBos, 11, 12, 13, 14}, {kBos, 15, 16}}));
}

// The example of transformers' documentation: the first window whole, then `stride` tokens at a
// time after context - stride others.
TEST(Protocols, a_stride_leaves_context_before_each_token) {
  const auto windows = make_windows({Kind::kText, 6, 2}, kPlain, "abcdefghi", -1);
  EXPECT_EQ(tokens_of(windows),
            (std::vector<std::vector<int32_t>>{
                {11, 12, 13, 14, 15, 16}, {13, 14, 15, 16, 17, 18}, {15, 16, 17, 18, 19}}));
  EXPECT_EQ(windows[0].scored(), 5);
  EXPECT_EQ(windows[1].scored(), 2);
  EXPECT_EQ(windows[2].scored(), 1);
  EXPECT_PITH_ERROR(make_windows({Kind::kText, 6, 6}, kPlain, "abcdefghi", -1), ErrorKind::kUsage,
                    "at most 5");
}

TEST(Protocols, wikitext_is_known_by_its_headings) {
  EXPECT_TRUE(looks_like_wikitext(" \n = Homarus = \n \n A lobster .\n"));
  EXPECT_TRUE(looks_like_wikitext("x\r\n = = Name = = \r\ny"));
  EXPECT_FALSE(looks_like_wikitext("Once upon a time\n\nx = y =\n = z\n"));
  EXPECT_FALSE(looks_like_wikitext(""));
}

TEST(Protocols, names_parse_back) {
  for (const char* name : {"text-2048", "text-2", "text-512-stride-256", "gptq-2048", "gptq-8",
                           "llama-512", "paragraph-64"})
    EXPECT_EQ(parse_protocol(name, 4096).name(), name);
  EXPECT_EQ(parse_protocol("text", 4096).name(), "text-2048");
  EXPECT_EQ(parse_protocol("text", 512).name(), "text-512");
  EXPECT_EQ(parse_protocol("text-stride-4", 64).name(), "text-64-stride-4");
  EXPECT_EQ(parse_protocol("gptq", 4096).name(), "gptq-2048");
  EXPECT_EQ(parse_protocol("llama", 4096).name(), "llama-512");
  EXPECT_EQ(parse_protocol("paragraph", 256).name(), "paragraph-256");
}

TEST(Protocols, names_that_make_no_sense_are_refused) {
  for (const char* name : {"",
                           "gpt",
                           "wikitext-2048",
                           "gptq-",
                           "gptq--8",
                           "gptq-7",
                           "gptq-0",
                           "gptq-8x",
                           "gptq2048",
                           "gptq-99999999999999999999",
                           "llama 512",
                           "LLAMA",
                           "paragraph-0",
                           "text-",
                           "text-1",
                           "textual",
                           "text-8-stride-",
                           "text-8-stride-0",
                           "text-8-stride-2x",
                           "gptq-8-stride-2"}) {
    EXPECT_PITH_ERROR(parse_protocol(name, 4096), ErrorKind::kUsage, "unknown protocol");
  }
  EXPECT_PITH_ERROR(parse_protocol("gptq", 512), ErrorKind::kUsage, "try gptq-512");
  EXPECT_PITH_ERROR(parse_protocol("llama-1024", 512), ErrorKind::kUsage, "has 512");
  for (const char* name : {"gptq", "paragraph", "paragraph-8"})
    EXPECT_PITH_ERROR(parse_protocol(name, 1), ErrorKind::kUsage, "context of 1");
}

TEST(Protocols, texts_too_short_for_a_window_are_refused) {
  EXPECT_PITH_ERROR(make_windows({Kind::kGptq, 8}, kPlain, "abcdef", -1), ErrorKind::kUsage,
                    "too short for one window of protocol gptq-8");
  EXPECT_PITH_ERROR(make_windows({Kind::kLlama, 8}, kPlain, "abcdefg", -1), ErrorKind::kUsage,
                    "too short");
  for (const char* text : {"", "\n\n \r\n\t\n"}) {
    EXPECT_PITH_ERROR(make_windows({Kind::kParagraph, 8}, kPlain, text, kBos), ErrorKind::kUsage,
                      "too short");
  }
  EXPECT_PITH_ERROR(make_windows({Kind::kParagraph, 8}, kPlain, "abc", -1), ErrorKind::kUsage,
                    "BOS");
  for (const char* text : {"", "a"})
    EXPECT_PITH_ERROR(make_windows({Kind::kText, 8}, kPlain, text, -1), ErrorKind::kUsage, "short");
  EXPECT_EQ(make_windows({Kind::kText, 8}, kWithBos, "a", kBos).size(), 1u);
}

}  // namespace
}  // namespace pith
