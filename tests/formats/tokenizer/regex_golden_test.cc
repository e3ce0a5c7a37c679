// Regular expressions of tokenizers against Oniguruma, as Python's `tokenizers` runs it
// (golden/make_regex_goldens.py): the same matches, or a refusal that names the construct.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "core/file.h"
#include "core/json.h"
#include "core/regex/regex.h"
#include "formats/tokenizer/normalizer.h"
#include "formats/tokenizer/pre_tokenizer.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

const Json& goldens() {
  static const Json made = Json::parse(read_text_file(test::fixture("golden/regex.json"), 1 << 24));
  return made;
}

// Patterns that Oniguruma accepts and pith refuses.
const std::set<std::string>& refused() {
  static const std::set<std::string> made = {
      "[\\x{110000}]",          // members that no text has
      "(?=a\\K)b",              // \K in a look-around
      "\\pL+",                  // \p without braces, which versions read differently
      "\\PL+",                  //
      "\\p{In_Hiragana}+",      // blocks
      "\\p{InBasicLatin}+",     //
      "\\x{6771 4eac}",         // several code points in one escape
      "\\M-a",                  //
      "\\y",                    // text segments
      "\\Y",                    //
      "\\y\\X",                 //
      "(?y{w})\\X",             //
      "a{0,100000}",            // more than PCRE2 repeats
      "(?<x>a)|(?<x>b)\\k<x>",  // one of several groups
      "(a|b)\\g<1>\\1",         // a group that is called and read
      "(a)\\k<1+0>",            // levels
      "(?<=a+)b",               // look-behind of any length
      "(?<=a*)b",               //
      "(?<=a{1,2})b",           //
      "(?i)(?<=[ß])e",          //
      "(?i)(s)\\1",             // a back reference that ignores case
      "(?C)(a)",                // options of the whole pattern
      "(?I)k",                  //
      "(?L)a|ab",               //
      "(?~abc)",                // absent operators
      "(?~|abc|\\w+)",          //
      "(?~|)",                  //
      "(*FAIL)",                // callouts
      "(*MAX{2})",              //
      "(?{x})",                 //
      "(?(*FAIL)a|b)",          //
      "(?:()|())*\\1\\2",       // loops of nothing that set groups
      "(?:(a)|b|\\1)+",         //
  };
  return made;
}

uint32_t fnv(std::string_view text) {
  uint32_t hash = 0x811c9dc5;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x01000193u;
  return hash;
}

class RegexGoldens : public testing::TestWithParam<bool> {};

TEST_P(RegexGoldens, MatchAsOnigurumaDoesOrAreRefused) {
  const Json& g = goldens();
  size_t matched = 0;
  std::set<std::string> missing = refused();
  for (const Json& c : g["cases"]) {
    const auto pattern = c[0].get<std::string>();
    SCOPED_TRACE(pattern);
    std::optional<Regex> regex;
    try {
      regex.emplace(pattern, "test", GetParam());
    } catch (const Error& e) {
      if (c[1].is_null()) continue;
      EXPECT_EQ(missing.erase(pattern), 1u) << e.what();
      continue;
    }
    if (c[1].is_null()) continue;  // nobody has such a file
    ++matched;
    for (size_t i = 0; i < g["texts"].size(); ++i) {
      const auto text = g["texts"][i].get<std::string>();
      std::vector<size_t> spans;
      regex->for_each_match(text, [&](size_t begin, size_t end) {
        if (begin < end) spans.insert(spans.end(), {begin, end});
      });
      EXPECT_EQ(spans, c[1][i][1].get<std::vector<size_t>>()) << text;
      TextBudget budget("test", text.size());
      EXPECT_EQ(fnv(replace_all(text, *regex, "\u00a6", budget)), c[1][i][0].get<uint32_t>())
          << text;
    }
  }
  EXPECT_GE(matched, 450u);
  EXPECT_THAT(missing, testing::IsEmpty()) << "no longer refused";
}

INSTANTIATE_TEST_SUITE_P(Both, RegexGoldens, testing::Bool(),
                         [](const auto& p) { return p.param ? "compiled" : "interpreted"; });

TEST(RegexGoldens, EmptyMatchesSplitAsTheyDoThere) {
  const std::map<std::string, SplitBehavior> kBehaviors = {
      {"removed", SplitBehavior::kRemoved},
      {"isolated", SplitBehavior::kIsolated},
      {"merged_with_previous", SplitBehavior::kMergedWithPrevious},
      {"merged_with_next", SplitBehavior::kMergedWithNext},
      {"contiguous", SplitBehavior::kContiguous}};
  const auto text = goldens()["split_text"].get<std::string>();
  for (const Json& s : goldens()["splits"]) {
    Words words{text, {{0, text.size()}}, true};
    TextBudget budget("test", text.size());
    split_regex(Regex(s[0].get<std::string>(), "test"), kBehaviors.at(s[1].get<std::string>()),
                s[2].get<bool>())
        ->apply(words, budget);
    std::vector<std::string> pieces;
    for (const auto& span : words.spans)
      pieces.push_back(text.substr(span.begin, span.end - span.begin));
    EXPECT_EQ(pieces, s[3].get<std::vector<std::string>>()) << s.dump();
  }
}

struct Refusal {
  const char* pattern;
  ErrorKind kind;
  const char* message;
};
constexpr ErrorKind kCorrupt = ErrorKind::kCorrupt, kUnsupported = ErrorKind::kUnsupported;
constexpr Refusal kRefusals[] = {
    {"(?~abc)", kUnsupported, "an absent operator (?~ is not supported"},
    {"\\p{In_Hiragana}", kUnsupported, "property \"In_Hiragana\""},
    {"(?<=a+)b", kUnsupported, "lookbehind assertion is not fixed length"},
    {"(*FAIL)", kUnsupported, "a callout"},
    {"(?<=(?1))b|(\\Kaaa)", kCorrupt, "an undefined group option"},
    {"(?<=\\g<1>)b|(\\Kaaa)", kUnsupported, "\\K"},
    {"(?=\\Ka)", kUnsupported, "\\K"},
    {"[a-", kCorrupt, "the pattern ends too early"},
    {"[[:foo:]]", kCorrupt, "POSIX bracket"},
    {"a**?)", kCorrupt, "\")\" without \"(\""},
};

TEST(Regex, RefusalsNameTheConstruct) {
  for (const Refusal& r : kRefusals) {
    EXPECT_PITH_ERROR(Regex(r.pattern, "test"), r.kind, r.message);
  }
  const std::string deep = std::string(5000, '(') + std::string(5000, ')');
  EXPECT_PITH_ERROR(Regex(deep, "test"), kCorrupt, "nested too deep");
  EXPECT_PITH_ERROR(Regex(std::string(5000, '['), "test"), kCorrupt, "nested too deep");
  std::string classes = "(?i)";
  for (int i = 0; i < 1000; ++i) classes += "[a-z]";
  EXPECT_PITH_ERROR(Regex(classes, "test"), kUnsupported, "so many classes");
  std::string references = "(?<a>x)";
  for (int i = 0; i < 2500; ++i) references += "\\g<a>";
  EXPECT_NO_THROW(Regex(references, "test"));
}

TEST(Regex, OrdinaryPatternsStayShort) {
  EXPECT_EQ(Regex::translate("\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s+(?!\\S)"),
            "\\p{n}{1,3}|\\x{20}?[^\\p{White_Space}\\p{l}\\p{n}]+[\\x{d}\\x{a}]*|"
            "\\p{White_Space}+(?!\\P{White_Space})");
  EXPECT_EQ(Regex::translate("(?i:'s|'re)"), "(?:\\x{27}[sS\\x{17f}]|\\x{27}[rR][eE])");
  EXPECT_EQ(Regex::translate("[\\p{Lu}&&[^\\p{Han}]]*"), "(?:(?=\\P{sc:han})\\p{lu})*");
}

}  // namespace
}  // namespace pith
