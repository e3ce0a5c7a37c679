// tokenizer.json by hand: what is refused and why, added tokens, special tokens in the text of
// users, settings.

#include <gtest/gtest.h>

#include "core/json.h"
#include "formats/tokenizer/tokenizer.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

using Ids = std::vector<int32_t>;

Json small_bpe() {
  return Json::parse(R"({
    "added_tokens": [{"id": 6, "content": "<|end|>", "special": true, "normalized": false},
                     {"id": 7, "content": "<tool>", "special": false, "normalized": false}],
    "normalizer": null, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
    "post_processor": null, "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "unk_token": null, "vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 3, "Ġab": 4, "Ċ": 5},
              "merges": ["a b", "Ġ ab"]}})");
}

std::unique_ptr<Tokenizer> made(const Json& j, const std::string& config = "") {
  return make_json_tokenizer(j.dump(), config);
}

struct Broken {
  const char* name;
  const char* patch;  // JSON merge patch (RFC 7386) onto small_bpe
  ErrorKind kind;
  const char* message;
};

constexpr ErrorKind kCorrupt = ErrorKind::kCorrupt, kUnsupported = ErrorKind::kUnsupported;

constexpr Broken kBroken[] = {
    {"model_missing", R"({"model": null})", kCorrupt, "\"model\" is missing"},
    {"model_not_object", R"({"model": 3})", kCorrupt, "should be an object"},
    {"model_unknown", R"({"model": {"type": "RNN"}})", kUnsupported, "RNN"},
    {"vocab_missing", R"({"model": {"vocab": null}})", kCorrupt, "\"vocab\" is missing"},
    {"vocab_array", R"({"model": {"vocab": ["a"]}})", kCorrupt, "should be an object"},
    {"id_negative", R"({"model": {"vocab": {"a": -1}}})", kCorrupt, "is not a number"},
    {"id_text", R"({"model": {"vocab": {"a": "0"}}})", kCorrupt, "is not a number"},
    {"id_huge", R"({"model": {"vocab": {"z": 2097152}}})", kCorrupt, "not below"},
    {"id_sparse", R"({"model": {"vocab": {"z": 2000000}}})", kCorrupt, "gaps"},
    {"id_twice", R"({"model": {"vocab": {"z": 1}}})", kCorrupt, "is both"},
    {"merge_part", R"({"model": {"merges": ["a c"]}})", kCorrupt, "merge part \"c\""},
    {"merge_result", R"({"model": {"merges": ["b a"]}})", kCorrupt, "merge result \"ba\""},
    {"merge_shape", R"({"model": {"merges": ["a b a"]}})", kCorrupt, "is not a pair"},
    {"merge_number", R"({"model": {"merges": [7]}})", kCorrupt, "is not a pair"},
    {"merge_triple", R"({"model": {"merges": [["a", "b", "c"]]}})", kCorrupt, "is not a pair"},
    {"normalizer_unknown", R"({"normalizer": {"type": "Rot13"}})", kUnsupported,
     "normalizer \"Rot13\""},
    {"normalizer_list", R"({"normalizer": []})", kCorrupt, "instead of an object"},
    {"charsmap_text", R"({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "!!"}})",
     kCorrupt, "base64"},
    {"charsmap_short",
     R"({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "////fw=="}})", kCorrupt,
     "precompiled_charsmap"},
    {"pattern_broken",
     R"({"normalizer": {"type": "Replace", "pattern": {"Regex": "(a"}, "content": ""}})", kCorrupt,
     "does not compile"},
    {"pattern_missing", R"({"normalizer": {"type": "Replace", "content": ""}})", kCorrupt,
     "\"pattern\" is missing"},
    {"pre_tokenizer_unknown", R"({"pre_tokenizer": {"type": "Words"}})", kUnsupported,
     "pre-tokenizer \"Words\""},
    {"behavior_unknown",
     R"({"pre_tokenizer": {"type": "Split", "pattern": {"String": "a"}, "behavior": "Eaten"}})",
     kUnsupported, "Eaten"},
    {"scheme_unknown", R"({"pre_tokenizer": {"type": "Metaspace", "prepend_scheme": "twice"}})",
     kUnsupported, "twice"},
    {"decoder_unknown", R"({"decoder": {"type": "CTC"}})", kUnsupported, "decoder \"CTC\""},
    {"post_processor_unknown", R"({"post_processor": {"type": "Mail"}})", kUnsupported,
     "post-processor \"Mail\""},
    {"template_id",
     R"({"post_processor": {"type": "BertProcessing", "sep": ["a", 9], "cls": ["a", 0]}})",
     kCorrupt, "is not the id of a token"},
    {"template_token",
     R"({"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x"}}]}})",
     kCorrupt, "\"x\" is missing"},
    {"template_without_text", R"({"post_processor": {"type": "TemplateProcessing", "single": []}})",
     kUnsupported, "0 times"},
    {"added_shape", R"({"added_tokens": {"a": 1}})", kCorrupt, "should be an array"},
    {"added_id", R"({"added_tokens": [{"id": 4000000, "content": "x"}]})", kCorrupt, "too large"},
    {"added_content", R"({"added_tokens": [{"id": 9, "content": 5}]})", kCorrupt,
     "should be a string"},
    {"unigram_shape", R"({"model": {"type": "Unigram", "vocab": ["a"]}})", kCorrupt,
     "a text and a score"},
    {"unigram_score", R"({"model": {"type": "Unigram", "vocab": [["a", "b"]]}})", kCorrupt,
     "finite number"},
    {"unigram_unknown", R"({"model": {"type": "Unigram", "unk_id": 1, "vocab": [["a", -1]]}})",
     kCorrupt, "unk_id 1"},
    {"dropout", R"({"model": {"dropout": 0.1}})", kUnsupported, "model.dropout is 0.1"},
    {"gap_taken", R"({"model": {"vocab": {"z": 7}}})", kCorrupt, "7 is both \"z\" and"},
    {"template_of_two",
     R"({"post_processor": {"type": "TemplateProcessing",
                            "single": [{"Sequence": {"id": "B", "type_id": 0}}]}})",
     kUnsupported, "names a second one"},
};

class BrokenTokenizerJson : public testing::TestWithParam<Broken> {};

TEST_P(BrokenTokenizerJson, IsRefusedByName) {
  Json j = small_bpe();
  j.merge_patch(Json::parse(GetParam().patch));
  EXPECT_PITH_ERROR(made(j), GetParam().kind, GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(Table, BrokenTokenizerJson, testing::ValuesIn(kBroken),
                         [](const auto& p) { return p.param.name; });

TEST(TokenizerJson, WholeFilesThatAreNoneAreRefused) {
  EXPECT_PITH_ERROR(make_json_tokenizer("", ""), ErrorKind::kCorrupt, "not valid JSON");
  EXPECT_PITH_ERROR(make_json_tokenizer("[]", ""), ErrorKind::kCorrupt, "should be an object");
  EXPECT_PITH_ERROR(make_json_tokenizer(std::string(100, '['), ""), ErrorKind::kCorrupt,
                    "nested deeper");
  Json j = small_bpe();
  j["model"]["vocab"][std::string(5000, 'a')] = 6;
  EXPECT_PITH_ERROR(made(j), ErrorKind::kCorrupt, "5000 bytes");
  j = small_bpe();
  for (int i = 0; i < 65'537; ++i)
    j["added_tokens"].push_back({{"id", i}, {"content", std::to_string(i)}});
  EXPECT_PITH_ERROR(made(j), ErrorKind::kCorrupt, "added tokens");
}

TEST(TokenizerJson, EncodesAndDecodes) {
  const auto t = made(small_bpe());
  EXPECT_EQ(t->encode("ab ab\n"), (Ids{2, 4, 5}));
  EXPECT_EQ(t->decode(Ids{2, 4, 5}), "ab ab\n");
  EXPECT_EQ(t->encode(""), Ids{});
  EXPECT_EQ(t->vocab_size(), 8);
  EXPECT_EQ(t->token_text(6), "<|end|>");
  EXPECT_EQ(t->id_of("Ġab"), 4);
  EXPECT_EQ(t->id_of("zzz"), std::nullopt);
  EXPECT_EQ(t->decode(Ids{2, -1, 8, 1000000, 4}), "ab ab") << "ids out of range are skipped";
}

TEST(TokenizerJson, SpecialTokensInTextNeedLeave) {
  const auto t = made(small_bpe());
  EXPECT_EQ(t->encode("a<|end|>b<tool>", {.parse_special = true}), (Ids{0, 6, 1, 7}));
  EXPECT_EQ(t->encode("a<|end|>b<tool>"), (Ids{0, 1, 7}));
  EXPECT_EQ(t->decode(Ids{0, 6, 7}), "a<tool>");
  EXPECT_EQ(t->decode(Ids{0, 6, 7}, false), "a<|end|><tool>");
}

// A model that holds the text of a special token must not give it to users either.
TEST(TokenizerJson, ModelsDoNotFindSpecialTokensInText) {
  const char* const kModels[] = {
      R"({"type": "WordLevel", "unk_token": "?", "vocab": {"?": 0, "</s>": 1}})",
      R"({"type": "Unigram", "unk_id": 0, "vocab": [["?", 0], ["</s>", -1]]})",
      R"({"type": "BPE", "ignore_merges": true, "vocab": {"?": 0, "</s>": 1}, "merges": []})",
      R"({"type": "BPE", "vocab": {"<": 0, "</s>": 1, "/s>": 2}, "merges": ["< /s>"]})",
      R"({"type": "WordPiece", "unk_token": "?", "vocab": {"?": 0, "</s>": 1}})"};
  for (const char* model : kModels) {
    SCOPED_TRACE(model);
    Json j = Json::parse(R"({"added_tokens": [{"id": 1, "content": "</s>", "special": true}]})");
    j["model"] = Json::parse(model);
    const auto t = made(j);
    EXPECT_EQ(t->encode("</s>", {.parse_special = true}), Ids{1});
    for (const int32_t id : t->encode("</s>")) EXPECT_NE(id, 1);
  }
}

TEST(TokenizerJson, InvalidBytesBecomeReplacementCharacters) {
  Json j = small_bpe();
  j["added_tokens"] = Json::array();
  j["model"]["vocab"]["ï"] = 6;
  j["model"]["vocab"]["¿"] = 7;
  j["model"]["vocab"]["½"] = 8;
  const auto t = made(j);
  EXPECT_EQ(t->encode("a\xff"), (Ids{0, 6, 7, 8}));
  EXPECT_EQ(t->encode("\xe6\x9d"), t->encode("\xef\xbf\xbd")) << "one for a part of a sequence";
  EXPECT_EQ(t->encode("\xed\xa0\x80").size(), 9u) << "one for each byte of a surrogate";
}

TEST(TokenizerJson, AGapNeverGivesASpecialTokenTheIdOfAWord) {
  Json j = small_bpe();
  j["added_tokens"] = Json::array();
  j["model"]["vocab"]["z"] = 7;  // the seventh token: the next one would be 7 as well
  EXPECT_PITH_ERROR(made(j, R"({"eos_token": "<|end|>"})"), kCorrupt, "7 is both");
}

TEST(TokenizerJson, ThePaddingTokenIsSpecialAsInTransformers) {
  Json j = small_bpe();
  j["padding"] = {{"pad_token", "ab"}};
  EXPECT_TRUE(made(j)->is_special(2));
  EXPECT_FALSE(made(j, R"({"pad_token": "<|end|>"})")->is_special(2));
}

TEST(TokenizerJson, ConfigNamesTheBeginningAndTheEnd) {
  auto t = made(small_bpe(), R"({"bos_token": {"content": "<|end|>"}, "eos_token": "<|end|>"})");
  EXPECT_EQ(t->bos(), 6);
  EXPECT_EQ(t->eos(), 6);
  EXPECT_FALSE(t->adds_bos());
  t = made(
      small_bpe(),
      R"({"bos_token": "<|end|>", "eos_token": "<|end|>", "add_bos_token": true, "add_eos_token": true,
                            "tokenizer_class": "LlamaTokenizerFast"})");
  EXPECT_TRUE(t->adds_bos());
  EXPECT_EQ(t->encode("ab"), (Ids{6, 2, 6}));
  EXPECT_EQ(t->encode("ab", {.add_special = false}), Ids{2});
  t = made(small_bpe(), R"({"bos_token": "missing"})");
  EXPECT_EQ(t->bos(), 8) << "in no other file: the next id, as transformers adds it";
  EXPECT_TRUE(t->is_special(8));
  EXPECT_PITH_ERROR(made(small_bpe(), "{"), ErrorKind::kCorrupt, "tokenizer_config.json");
}

TEST(TokenizerJson, AddedTokensTakeTheLongestAndTheirBlanks) {
  Json j = small_bpe();
  j["added_tokens"] = Json::parse(R"([
    {"id": 6, "content": "<x", "normalized": false}, {"id": 7, "content": "<x>", "normalized": false},
    {"id": 8, "content": "<l>", "normalized": false, "lstrip": true},
    {"id": 9, "content": "<r>", "normalized": false, "rstrip": true},
    {"id": 10, "content": "word", "normalized": false, "single_word": true}])");
  const auto t = made(j);
  EXPECT_EQ(t->encode("<x>a<xb"), (Ids{7, 0, 6, 1}));
  EXPECT_EQ(t->encode("a \n<l>a"), (Ids{0, 8, 0}));
  EXPECT_EQ(t->encode("a<r> \na"), (Ids{0, 9, 0}));
  EXPECT_EQ(t->encode("word,word"), (Ids{10, 10}));
  EXPECT_EQ(t->encode("awordb"), Ids{2}) << "inside of a word it is none";
}

}  // namespace
}  // namespace pith
