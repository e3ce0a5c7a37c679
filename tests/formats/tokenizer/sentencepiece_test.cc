// SentencePiece models and llama2.c vocabularies by hand: merges by score, unused and user-defined
// pieces, spacing, and what is refused.

#include <gtest/gtest.h>

#include <cstring>

#include "core/file.h"
#include "formats/tokenizer/tokenizer.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

using Ids = std::vector<int32_t>;

std::string corpus(const std::string& name) {
  return read_text_file(test::fixture("fuzz/corpus/sentencepiece/" + name), 1 << 20);
}
Ids encode(const Tokenizer& t, std::string_view text) {
  return t.encode(text, {.add_special = false});
}

// Ids: 0 <unk>, 1 <s>, 2 </s>, bytes from 3, text from 259: _ l o lo llo _H i t it L, and "12"
// user-defined.
TEST(SentencePiece, BpeMergesByScoreAndFallsBackToBytes) {
  const auto t = make_sentencepiece_tokenizer(corpus("bpe.model"));
  EXPECT_EQ(encode(*t, "lo"), (Ids{259, 262}));
  EXPECT_EQ(encode(*t, "Hllo"), (Ids{264, 263})) << "l + lo after l + o";
  EXPECT_EQ(encode(*t, "é"), (Ids{259, 3 + 0xc3, 3 + 0xa9}));
  EXPECT_EQ(encode(*t, "l12o"), (Ids{259, 260, 269, 261})) << "user-defined pieces are not merged";
  EXPECT_EQ(t->decode(Ids{1, 264, 263, 3 + 0xc3, 3 + 0xa9}), "Hlloé");
  EXPECT_EQ(t->encode("l"), (Ids{1, 259, 260})) << "BPE models add BOS";
  EXPECT_EQ(encode(*t, "</s>").front(), 259) << "control pieces need leave";
  EXPECT_EQ(t->encode("l</s>", {.add_special = false, .parse_special = true}).back(), 2);
}

TEST(SentencePiece, UnusedPiecesAreTakenApartAgain) {
  const auto t = make_sentencepiece_tokenizer(corpus("bpe_unused.model"));
  EXPECT_EQ(encode(*t, "lo"), (Ids{3, 4, 5}));
  EXPECT_EQ(encode(*t, "llo"), (Ids{3, 7})) << "but merges pass through them";
}

TEST(SentencePiece, UnigramCollapsesBlanksAndMapsCharacters) {
  const auto t = make_sentencepiece_tokenizer(corpus("unigram.model"));
  EXPECT_EQ(encode(*t, "  l   l "), encode(*t, "l l"));
  EXPECT_EQ(encode(*t, "l"), encode(*t, "L")) << "the character map has l -> L";
  EXPECT_EQ(encode(*t, "   "), Ids{});
  EXPECT_EQ(encode(*t, "東東L"), (Ids{3, 0, 12})) << "a run of unknown characters is one unknown";
  EXPECT_EQ(t->encode("L").back(), 2) << "unigram models add EOS";
}

TEST(SentencePiece, ConfigSaysWhatIsAdded) {
  const auto t = make_sentencepiece_tokenizer(corpus("bpe.model"),
                                              R"({"add_bos_token": false, "add_eos_token": true})");
  EXPECT_EQ(t->encode("l"), (Ids{259, 260, 2}));
  EXPECT_FALSE(t->adds_bos());
}

TEST(SentencePiece, BlanksAsSuffixes) {
  const auto t = make_sentencepiece_tokenizer(corpus("suffix.model"));
  EXPECT_EQ(encode(*t, "l"), (Ids{4, 3}));
}

TEST(SentencePiece, BrokenModelsAreRefused) {
  EXPECT_PITH_ERROR(make_sentencepiece_tokenizer(corpus("word.model")), ErrorKind::kUnsupported,
                    "model type 3");
  EXPECT_PITH_ERROR(make_sentencepiece_tokenizer(""), ErrorKind::kCorrupt, "vocabulary is empty");
  const std::string eleven(11, '\xff');
  EXPECT_PITH_ERROR(make_sentencepiece_tokenizer(eleven), ErrorKind::kCorrupt, "varint longer");
  EXPECT_PITH_ERROR(make_sentencepiece_tokenizer("\x0a\xff\xff\xff\xff\x0f"), ErrorKind::kCorrupt,
                    "needs");
  EXPECT_PITH_ERROR(make_sentencepiece_tokenizer("\x0b"), ErrorKind::kCorrupt, "type 3");
  EXPECT_PITH_ERROR(make_sentencepiece_tokenizer(std::string("\x00\x00", 2)), ErrorKind::kCorrupt,
                    "field 0");
  EXPECT_PITH_ERROR(make_sentencepiece_tokenizer(std::string("\x0a\x05\x15\x00\x00\xc0\x7f", 7)),
                    ErrorKind::kCorrupt, "not finite");
  EXPECT_PITH_ERROR(make_sentencepiece_tokenizer("\x0a\x05\x0a\x01x\x18\x09"), ErrorKind::kCorrupt,
                    "type of a token");
  EXPECT_PITH_ERROR(make_sentencepiece_tokenizer("\x0a\x05\x0a\x01x\x18\x06"), ErrorKind::kCorrupt,
                    "<0xHH>");
  EXPECT_PITH_ERROR(make_sentencepiece_tokenizer("\x0a\x03\x0a\x01\xff"), ErrorKind::kCorrupt,
                    "not UTF-8");
}

TEST(SentencePiece, EveryTruncationIsRefusedOrRead) {
  const std::string whole = corpus("unigram.model");
  for (size_t n = 0; n < whole.size(); ++n) {
    try {
      make_sentencepiece_tokenizer(whole.substr(0, n))->encode("l lo");
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kCorrupt) << e.what();
    }
  }
}

std::string llama2c(const std::vector<std::string>& text) {
  std::string bytes;
  const auto put = [&](const auto& v) {
    bytes.append(reinterpret_cast<const char*>(&v), sizeof(v));
  };
  put(uint32_t{8});
  const auto token = [&](float score, const std::string& s) {
    put(score);
    put(static_cast<int32_t>(s.size()));
    bytes += s;
  };
  for (const char* s : {"<unk>", "\n<s>\n", "\n</s>\n"}) token(0, s);
  for (int b = 0; b < 256; ++b) token(0, fmt::format("<0x{:02X}>", b));
  float score = 0;
  for (const auto& s : text) token(score -= 1, s);
  return bytes;
}

TEST(Llama2cVocabulary, MergesByScoreWithABlankInFront) {
  const auto t = make_llama2c_tokenizer(llama2c({" ", "a", "b", "ab", " ab"}));
  EXPECT_EQ(t->encode("ab ab"), (Ids{1, 263, 263}));
  EXPECT_EQ(t->encode("é", {.add_special = false}), (Ids{259, 3 + 0xc3, 3 + 0xa9}));
  EXPECT_EQ(t->decode(Ids{1, 263, 263}), "ab ab");
  EXPECT_EQ(t->encode("a</s>", {.parse_special = true}).back(), 2);
  EXPECT_EQ(t->encode(""), Ids{1});
  EXPECT_EQ(t->bos(), 1);
  EXPECT_EQ(t->eos(), 2);
}

TEST(Llama2cVocabulary, BrokenOnesAreRefused) {
  const std::string whole = llama2c({"a"});
  EXPECT_PITH_ERROR(make_llama2c_tokenizer(""), ErrorKind::kCorrupt, "longest token");
  EXPECT_PITH_ERROR(make_llama2c_tokenizer(whole.substr(0, whole.size() - 1)), ErrorKind::kCorrupt,
                    "needs");
  EXPECT_PITH_ERROR(make_llama2c_tokenizer(whole.substr(0, 30)), ErrorKind::kCorrupt,
                    "2.c vocabulary");
  std::string bad = whole;
  bad[bad.find("<0x41>") + 3] = '5';
  EXPECT_PITH_ERROR(make_llama2c_tokenizer(bad), ErrorKind::kCorrupt, "<0x41>");
  bad = whole;
  std::memset(bad.data() + 8, 0xff, 4);
  EXPECT_PITH_ERROR(make_llama2c_tokenizer(bad), ErrorKind::kCorrupt, "token 0");
  EXPECT_PITH_ERROR(
      make_llama2c_tokenizer(llama2c({"a"}) + std::string("\0\0\xc0\x7f\1\0\0\0b", 9)),
      ErrorKind::kCorrupt, "not finite");
}

TEST(TokenizerFile, IsKnownByItsContent) {
  test::TemporaryFolder folder;
  const auto written = [&](const std::string& bytes) {
    write_file(folder.file("t"), std::as_bytes(std::span(bytes)));
    return read_tokenizer_file(folder.file("t"));
  };
  EXPECT_FALSE(written(" {\"model\": 1}").tokenizer_json.empty());
  EXPECT_FALSE(written(corpus("bpe.model")).sentencepiece.empty());
  EXPECT_FALSE(written(llama2c({})).llama2c.empty());
  EXPECT_PITH_ERROR(written("hello there, this is text"), ErrorKind::kUnsupported,
                    "not a tokenizer.json");
  EXPECT_PITH_ERROR(written(""), ErrorKind::kUnsupported, "not a tokenizer.json");
  EXPECT_PITH_ERROR(make_tokenizer({}), ErrorKind::kUsage, "no tokenizer");
}

}  // namespace
}  // namespace pith
