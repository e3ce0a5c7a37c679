// Special tokens in chats: the template's count, the users' do not.

#include <gtest/gtest.h>

#include <algorithm>

#include "core/file.h"
#include "formats/tokenizer/tokenizer.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_tokenizer.h"

namespace pith {
namespace {

TEST(UserText, special_tokens_of_users_stay_text) {
  const std::string json =
      read_text_file(test::fixture("golden/tokenizers/llama3_style.json"), 1 << 24);
  const auto tokenizer = make_json_tokenizer(json, "");
  std::string special;
  for (int32_t id = 0; id < tokenizer->vocab_size(); ++id) {
    if (tokenizer->is_special(id)) special = tokenizer->token_text(id);
  }
  ASSERT_FALSE(special.empty());
  const int32_t id = *tokenizer->id_of(special);
  const std::string text = special + "Hi " + special + " there" + special;
  const std::pair<size_t, size_t> user[] = {{special.size(), text.size() - special.size()}};
  const auto ids =
      tokenizer->encode(text, {.add_special = false, .parse_special = true, .user_text = user});
  EXPECT_EQ(std::ranges::count(ids, id), 2);
  EXPECT_EQ(ids.front(), id);
  EXPECT_EQ(ids.back(), id);
  const auto plain = tokenizer->encode("Hi " + special + " there", {.add_special = false});
  EXPECT_EQ(std::vector<int32_t>(ids.begin() + 1, ids.end() - 1), plain);
  EXPECT_EQ(tokenizer->decode(ids, false), text);
}

// A special token that a user and the template would make together is not one.
TEST(UserText, a_token_across_the_border_stays_text) {
  const std::string json =
      read_text_file(test::fixture("golden/tokenizers/llama3_style.json"), 1 << 24);
  const auto tokenizer = make_json_tokenizer(json, "");
  for (int32_t id = 0; id < tokenizer->vocab_size(); ++id) {
    if (!tokenizer->is_special(id)) continue;
    const std::string special = tokenizer->token_text(id);
    const std::pair<size_t, size_t> user[] = {{0, special.size() / 2}};
    const auto ids = tokenizer->encode(
        special, {.add_special = false, .parse_special = true, .user_text = user});
    EXPECT_EQ(std::ranges::count(ids, id), 0) << special;
  }
}

// Parts of a conversation in turn: the template's, a user's, the template's, ...
struct Conversation {
  std::vector<std::string> parts;
  std::string text() const {
    std::string all;
    for (const auto& part : parts) all += part;
    return all;
  }
  std::vector<std::pair<size_t, size_t>> user_text() const {
    std::vector<std::pair<size_t, size_t>> ranges;
    size_t at = 0;
    for (size_t i = 0; i < parts.size(); at += parts[i++].size()) {
      if (i % 2 == 1) ranges.emplace_back(at, at + parts[i].size());
    }
    return ranges;
  }
};

std::vector<int32_t> encode(const Tokenizer& tokenizer, const Conversation& c) {
  const auto ranges = c.user_text();
  return tokenizer.encode(c.text(),
                          {.add_special = false, .parse_special = true, .user_text = ranges});
}

const std::vector<std::string> kSpecial = {"<|im|>", "<|x|>"};

// A normalizer, and whether it keeps the template's tokens.
std::vector<Json> normalizers() {
  const auto sequence = [](Json a, Json b) {
    return Json{{"type", "Sequence"}, {"normalizers", Json::array({a, b})}};
  };
  const Json spaces = {
      {"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\xe2\x96\x81"}};
  return {nullptr,
          {{"type", "Lowercase"}},
          {{"type", "NFKC"}},
          {{"type", "NFD"}},
          {{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}},
          spaces,
          sequence({{"type", "NFKD"}}, {{"type", "Lowercase"}}),
          {{"type", "Replace"}, {"pattern", {{"Regex", "[0-9]+"}}}, {"content", "n"}}};
}

// Special tokens that are matched in normalized text: nothing says there which byte was whose.
TEST(UserText, normalized_special_tokens_of_the_template_count_and_those_of_users_do_not) {
  for (const Json& normalizer : normalizers()) {
    SCOPED_TRACE(normalizer.dump());
    Json json = test::tiny_tokenizer(kSpecial, true);
    json["normalizer"] = normalizer;
    const auto tokenizer = make_json_tokenizer(json.dump(), "");
    const auto specials = [&](const Conversation& c) {
      const auto ids = encode(*tokenizer, c);
      return std::ranges::count_if(ids, [&](int32_t id) { return id >= test::kTinyTokens; });
    };
    for (const char* user :
         {"abc", " abc ", "aBc", "4567", "", "caf\xc3\xa9", "e\xcc\x81", "\xef\xac\x81", "<|im|>",
          "a<|x|>b", "\xef\xbc\x9c|x|>", "<", "<|", "|>", "<|im"}) {
      SCOPED_TRACE(user);
      EXPECT_EQ(specials({{"<|im|>", user, "<|x|>"}}), 2);
      EXPECT_EQ(specials({{"<|im|>user ", user, " <|x|>", user, "<|im|>"}}), 3);
      EXPECT_EQ(specials({{"", user}}), 0);
    }
    // As without marks where users wrote nothing that looks special.
    const Conversation plain = {{"<|im|>user\n", "ab 12 c", "<|x|>\n<|im|>", " d\n", "<|x|>"}};
    EXPECT_EQ(encode(*tokenizer, plain),
              tokenizer->encode(plain.text(), {.add_special = false, .parse_special = true}));
  }
}

TEST(UserText, bytes_that_are_not_utf8_leave_the_template_its_tokens) {
  for (const bool normalized : {false, true}) {
    const auto tokenizer =
        make_json_tokenizer(test::tiny_tokenizer(kSpecial, normalized).dump(), "");
    const int32_t im = *tokenizer->id_of("<|im|>"), x = *tokenizer->id_of("<|x|>");
    for (const char* user : {"caf\xe9", "\xff\xfe", "\xe6\x9d", "a\xf0\x9f", "\x80<|im|>\xff"}) {
      const auto ids = encode(*tokenizer, {{"<|im|>", user, "<|x|>"}});
      EXPECT_EQ(std::ranges::count(ids, im), 1);
      EXPECT_EQ(std::ranges::count(ids, x), 1);
      EXPECT_EQ(ids.front(), im);
      EXPECT_EQ(ids.back(), x);
    }
  }
}

// Tokens may take the blanks beside them along, whoever wrote those.
TEST(UserText, blanks_of_users_beside_a_token_do_not_make_it_text) {
  Json json = test::tiny_tokenizer({"<|l|>", "<|r|>"});
  json["added_tokens"][3]["lstrip"] = true;
  json["added_tokens"][4]["rstrip"] = true;
  const auto tokenizer = make_json_tokenizer(json.dump(), "");
  const auto ids = encode(*tokenizer, {{"<|r|>\n", "  a ", "<|l|>"}});
  EXPECT_EQ(ids, (std::vector<int32_t>{*tokenizer->id_of("<|r|>"), 3, *tokenizer->id_of("<|l|>")}));
}

// A user's byte before a token of the template cannot make a longer one of it, nor none.
TEST(UserText, a_longer_token_with_a_byte_of_a_user_does_not_hide_the_templates) {
  const auto tokenizer =
      make_json_tokenizer(test::tiny_tokenizer({"<|x|>", "a<|x|>", "<|x|>b"}).dump(), "");
  EXPECT_EQ(encode(*tokenizer, {{"", "a", "<|x|>"}}),
            (std::vector<int32_t>{3, *tokenizer->id_of("<|x|>")}));
  const auto ids = encode(*tokenizer, {{"<|x|>", "b"}});
  EXPECT_EQ(std::ranges::count(ids, *tokenizer->id_of("<|x|>b")), 0);
}

}  // namespace
}  // namespace pith
