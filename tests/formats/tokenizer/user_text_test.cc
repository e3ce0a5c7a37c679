// Special tokens in chats: the template's count, the users' do not.

#include <gtest/gtest.h>

#include <algorithm>

#include "core/file.h"
#include "formats/tokenizer/tokenizer.h"
#include "tests/support/test_data.h"

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

}  // namespace
}  // namespace pith
