// A tokenizer.json is a small program that runs on each text: normalizers that double it, patterns
// that go back again and again, replacements of megabytes. What one text may cost in bytes and in
// steps of patterns is bounded by its own size, whatever the file says.

#include <gtest/gtest.h>

#include <functional>

#include "core/json.h"
#include "core/regex/regex.h"
#include "formats/tokenizer/gguf_splits.h"
#include "formats/tokenizer/normalizer.h"
#include "formats/tokenizer/pre_tokenizer.h"
#include "formats/tokenizer/tokenizer.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

Json word_level() {
  return Json::parse(R"({"added_tokens": [],
    "model": {"type": "WordLevel", "unk_token": "?", "vocab": {"?": 0, "a": 1, " ": 2}}})");
}
Json replace(const std::string& what, const std::string& with) {
  return {{"type", "Replace"}, {"pattern", {{"String", what}}}, {"content", with}};
}
Json replace_pattern(const std::string& what, const std::string& with) {
  return {{"type", "Replace"}, {"pattern", {{"Regex", what}}}, {"content", with}};
}
Json split(const std::string& pattern) {
  return {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}};
}
Json metaspace(const std::string& replacement) {
  return {{"type", "Metaspace"}, {"replacement", replacement}};
}
Json of_type(const char* type) { return {{"type", type}, {"use_regex", false}}; }

Json sequence(const char* key, const std::vector<Json>& parts) {
  Json j = {{"type", "Sequence"}};
  j[key] = parts;
  return j;
}
Json repeated(const char* key, const Json& part, size_t times) {
  return sequence(key, std::vector<Json>(times, part));
}

std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  uint32_t bits = 0;
  int held = 0;
  for (const char c : bytes) {
    bits = (bits << 8) | static_cast<unsigned char>(c);
    for (held += 8; held >= 6;) out += kDigits[(bits >> (held -= 6)) & 63u];
  }
  if (held > 0) out += kDigits[(bits << (6 - held)) & 63u];
  return out;
}

// A character map of "a" to `to`. See formats/tokenizer/charsmap.h.
std::string charsmap(const std::string& to) {
  std::vector<uint32_t> units(0x61, 0);
  units[0] = 1u << 10;
  units[0x60] = 'a' | 0x100u | 0x70u << 10;
  units[0x10] = 0x80000000u;
  std::string blob;
  const auto put = [&](uint32_t n) {
    for (int i = 0; i < 4; ++i) blob += static_cast<char>(n >> (8 * i) & 255u);
  };
  put(static_cast<uint32_t>(units.size() * 4));
  for (const uint32_t u : units) put(u);
  return base64(blob + to + std::string(1, '\0'));
}

enum class When { kEncode, kDecode, kLoad };

struct Hostile {
  const char* name;
  const char* component;  // that the message names
  const char* key;        // of tokenizer.json
  Json part;
  std::string text;  // to encode
  When when = When::kEncode;
};

constexpr const char* kNormalizer = "normalizer";
constexpr const char* kNormalizers = "normalizers";
constexpr const char* kPreTokenizer = "pre_tokenizer";
constexpr const char* kPreTokenizers = "pretokenizers";
constexpr const char* kBacktracking = "(a|aa)+\\d";

std::vector<Hostile> hostile() {
  const std::string megabyte(size_t{1} << 20, 'b');
  const std::string letters(400, 'a'), blanks(400, ' ');
  std::string lines;
  for (int i = 0; i < 20'000; ++i) lines += std::string(24, 'a') + "\n";
  const Json twice = replace("a", "aa");
  const Json lower = of_type("Lowercase"), blank = of_type("WhitespaceSplit");
  return {
      {"normalizers_double", "Replace", kNormalizer, repeated(kNormalizers, twice, 34), "a"},
      {"nested_normalizers_double", "Replace", kNormalizer,
       repeated(kNormalizers, repeated(kNormalizers, twice, 2), 17), "a"},
      {"patterns_double", "Replace", kNormalizer,
       repeated(kNormalizers, replace_pattern("a", "aa"), 34), "a"},
      {"added_tokens_double", "Replace", kNormalizer, repeated(kNormalizers, twice, 34), "",
       When::kLoad},
      {"decoders_double", "Replace", "decoder", repeated("decoders", twice, 34), "", When::kDecode},
      {"normalizer_replaces_by_much", "Replace", kNormalizer, replace("a", megabyte), letters},
      {"pattern_replaces_by_much", "Replace", kNormalizer, replace_pattern("(?=a)|$", megabyte),
       letters},
      {"decoder_replaces_by_much", "Replace", "decoder", replace("a", megabyte), "", When::kDecode},
      {"prepends_much", "Prepend", kNormalizer, {{"type", "Prepend"}, {"prepend", megabyte}}, "a"},
      {"blanks_are_much", "Metaspace", kPreTokenizer, metaspace(megabyte), blanks},
      {"words_get_much", "Metaspace", kPreTokenizer,
       sequence(kPreTokenizers, {split("a"), metaspace(megabyte)}), letters},
      {"characters_map_to_much",
       "character map",
       kNormalizer,
       {{"type", "Precompiled"}, {"precompiled_charsmap", charsmap(megabyte)}},
       letters},
      {"bytes_are_spelled_again_and_again", "ByteLevel", kNormalizer,
       repeated(kNormalizers, of_type("ByteLevel"), 40), "é"},
      {"words_are_spelled_again_and_again", "ByteLevel", kPreTokenizer,
       repeated(kPreTokenizers, of_type("ByteLevel"), 40), "é"},
      {"so_many_normalizers", "Lowercase", kNormalizer,
       repeated(kNormalizers, repeated(kNormalizers, lower, 16), 16), lines},
      {"so_many_splits", "Split", kPreTokenizer,
       repeated(kPreTokenizers, repeated(kPreTokenizers, blank, 16), 16), lines},
      {"more_parts_than_any_tokenizer_has", "more than 300 parts", kPreTokenizer,
       repeated(kPreTokenizers, repeated(kPreTokenizers, split("a"), 200), 200), "", When::kLoad},
      {"a_pattern_goes_back_in_each_word", kBacktracking, kPreTokenizer,
       sequence(kPreTokenizers, {split("\\n"), split(kBacktracking)}), lines},
      {"many_patterns_go_back_in_one_word", kBacktracking, kPreTokenizer,
       repeated(kPreTokenizers, split(kBacktracking), 250), std::string(24, 'a')},
      {"a_pattern_goes_back_in_an_added_token", kBacktracking, kNormalizer,
       replace_pattern("(a|a)+\\d|" + std::string(kBacktracking), ""), "", When::kLoad},
      {"a_normal_form_of_what_was_made", "Replace", kNormalizer,
       sequence(kNormalizers,
                {replace("a", std::string(megabyte.size(), 'c') + "ﷺ"), of_type("NFKC")}),
       letters},
  };
}

TEST(TokenizersThatMultiplyText, AreRefusedByTheNameOfTheComponent) {
  for (const Hostile& h : hostile()) {
    SCOPED_TRACE(h.name);
    Json j = word_level();
    j[h.key] = h.part;
    if (h.when == When::kLoad) {
      j["added_tokens"].push_back(
          {{"id", 3}, {"content", std::string(60, 'a')}, {"normalized", true}});
      EXPECT_PITH_ERROR(make_json_tokenizer(j.dump(), ""), ErrorKind::kCorrupt, h.component);
      continue;
    }
    const auto tokenizer = make_json_tokenizer(j.dump(), "");
    if (h.when == When::kDecode) {
      const std::vector<int32_t> ids = {1};
      EXPECT_PITH_ERROR(tokenizer->decode(ids), ErrorKind::kCorrupt, h.component);
    } else {
      EXPECT_PITH_ERROR(tokenizer->encode(h.text), ErrorKind::kCorrupt, h.component);
      EXPECT_EQ(tokenizer->encode(""), std::vector<int32_t>{});
    }
  }
}

// ---- growth: what ordinary components take of the budget, at three sizes ---------------------

struct Cost {
  uint64_t steps = 0, bytes = 0;
};
using Run = std::function<void(const std::string&, TextBudget&)>;

Cost cost_of(const Run& run, const std::string& text) {
  TextBudget budget("test", text.size());
  const uint64_t steps = budget.steps_left(), bytes = budget.bytes_left();
  run(text, budget);
  return {steps - budget.steps_left(), bytes - budget.bytes_left()};
}

Run of(NormalizerPtr made) {
  return [n = std::shared_ptr<const Normalizer>(std::move(made))](
             const std::string& text, TextBudget& budget) { n->apply(text, budget); };
}
Run of(PreTokenizerPtr made) {
  return [p = std::shared_ptr<const PreTokenizer>(std::move(made))](const std::string& text,
                                                                    TextBudget& budget) {
    Words words{text, {{0, text.size()}}, true};
    p->apply(words, budget);
  };
}
PreTokenizerPtr isolated(std::string_view pattern) {
  return split_regex(Regex(pattern, "test"), SplitBehavior::kIsolated, false);
}

std::vector<std::pair<std::string, Run>> ordinary() {
  std::vector<std::pair<std::string, Run>> made;
  made.emplace_back("nfkd", of(normalize_form(NormalForm::kNfkd)));
  made.emplace_back("bert", of(normalize_bert({})));
  made.emplace_back("replace", of(normalize_replace(" ", std::string(kMetaspace))));
  made.emplace_back("pattern", of(normalize_replace(Regex(" {2,}", "test"), " ")));
  made.emplace_back("bert words", of(split_bert()));
  made.emplace_back("metaspace",
                    of(split_metaspace(std::string(kMetaspace), PrependScheme::kAlways, true)));
  made.emplace_back("byte level", of(split_byte_level(true, true, "test")));
  made.emplace_back("sets", of(isolated("[\\p{L}&&[^\\p{Han}]]+|\\p{Han}+|(?i:'s|'ll)|\\b\\d")));
  for (const GgufSplit& s : gguf_splits()) {
    std::vector<PreTokenizerPtr> parts;
    for (const auto pattern : s.patterns) parts.push_back(isolated(pattern));
    made.emplace_back(std::string(s.name), of(split_sequence(std::move(parts))));
  }
  return made;
}

std::string sample(size_t bytes) {
  constexpr std::string_view kSentence =
      "It's 12:30, and we'll see: naïve Straße  costs 1,234.50 €!\n\n東京タワー, こんにちは "
      "🦙 "
      "ABC "
      "int main() { return x[0] != '\\n'; }\t\tüber_all\r\n";
  std::string text;
  while (text.size() < bytes) text += kSentence;
  return text;
}

TEST(TokenizersThatMultiplyText, OrdinaryOnesCostWhatTheTextIsLong) {
  for (const auto& [name, run] : ordinary()) {
    SCOPED_TRACE(name);
    Cost before;
    for (const size_t size : {size_t{4096}, size_t{16384}, size_t{65536}}) {
      const std::string text = sample(size);
      const Cost cost = cost_of(run, text);
      EXPECT_LE(cost.steps, 300 * text.size());
      EXPECT_LE(cost.bytes, 30 * text.size());
      if (before.bytes > 0) {
        EXPECT_LE(cost.steps, 5 * before.steps + 1000);
        EXPECT_LE(cost.bytes, 5 * before.bytes);
      }
      before = cost;
    }
  }
}

// At each letter of the text nearly all of the token fits.
TEST(TokenizersThatMultiplyText, AnAddedTokenThatANormalizerMadeLongIsSearchedForWithinTheTime) {
  Json j = word_level();
  j[kNormalizer] = repeated(kNormalizers, replace("a", "aa"), 16);
  j["added_tokens"].push_back({{"id", 3}, {"content", "ab"}, {"normalized", true}});
  const auto tokenizer = make_json_tokenizer(j.dump(), "");
  EXPECT_PITH_ERROR(tokenizer->encode("a"), ErrorKind::kCorrupt, "of the added tokens");
}

TEST(TokenizersThatMultiplyText, APatternWhoseGroupCallsItselfFirstIsRefused) {
  for (const char* pattern :
       {R"((?<p>a|\g<p>)((?:|$(a))b|c))", R"((?<p>\([?g:(()]|\g<p>)((?:|$(a))b|ca"ded_toke))",
        R"((?<p>x|(?=a)\g<q>)(?<q>y|\g<p>)z)"}) {
    SCOPED_TRACE(pattern);
    EXPECT_PITH_ERROR(Regex(pattern, "test").for_each_match("aax (gz", [](size_t, size_t) {}),
                      ErrorKind::kUnsupported, "cannot be matched");
  }
}

TEST(TokenizersThatMultiplyText, AWordThatNoModelHasRoomForIsRefused) {
  const auto tokenizer = make_json_tokenizer(word_level().dump(), "");
  const std::string text(TextBudget::kMaxWordBytes + 1, 'a');
  EXPECT_PITH_ERROR(tokenizer->encode(text), ErrorKind::kUsage, "the limit for one is");
}

}  // namespace
}  // namespace pith
