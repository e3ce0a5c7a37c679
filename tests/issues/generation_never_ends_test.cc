// Generation went on to its limit where the end was named in tokenizer_config.json alone, where it
// was a control token of a GGUF file by its text, and where --stop named a special token.

#include <gtest/gtest.h>

#include <algorithm>

#include "core/bytes.h"
#include "core/file.h"
#include "runtime/engine/engine.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"
#include "tests/support/tiny_tokenizer.h"

namespace pith {
namespace {

constexpr int kVocab = test::kTinyTokens + 33;
const std::vector<int32_t> kPrompt = {1, 5, 9, 12};

// A model whose tokens behind the letters are special: "<|0|>", "<|1|>", ..., but one has `text`.
class EndsOfGeneration : public testing::Test {
 protected:
  GenerateResult generate(int renamed, const std::string& text, const std::string& config,
                          const std::vector<std::string>& stop = {}, bool ignore = false) {
    std::vector<std::string> special;
    for (int i = 0; i < 33; ++i)
      special.push_back(i == renamed ? text : "<|" + std::to_string(i) + "|>");
    const test::TemporaryFolder folder;
    test::write_tiny_checkpoint(folder.path(), test::tiny_config({.vocab = kVocab}));
    write_file(folder.file("tokenizer.json"), as_bytes(test::tiny_tokenizer(special).dump()));
    write_file(folder.file("tokenizer_config.json"), as_bytes(config));
    const auto source = open_model(folder.path());
    Engine engine(*source, {});
    GenerateOptions options;
    options.max_tokens = 40;
    options.sampling.temperature = 1.5;
    options.sampling.seed = 3;
    options.stop = stop;
    options.ignore_stop_tokens = ignore;
    return engine.generate(*load_tokenizer(*source), kPrompt, options,
                           [](const std::string&) { return true; });
  }
};

TEST_F(EndsOfGeneration, come_from_the_tokenizers_files_and_from_stop) {
  const GenerateResult all = generate(-1, "", "{}", {}, true);
  ASSERT_EQ(all.finish, "length");
  const auto end =
      std::ranges::find_if(all.tokens, [](int32_t id) { return id >= test::kTinyTokens; });
  ASSERT_NE(end, all.tokens.end());
  const auto before = static_cast<size_t>(end - all.tokens.begin());
  const int which = *end - test::kTinyTokens;
  const std::string name = "<|" + std::to_string(which) + "|>";
  const auto ends = [&](const GenerateResult& r) {
    return r.finish == "stop" && r.tokens.size() == before;
  };
  EXPECT_GT(generate(-1, "", "{}").tokens.size(), before);
  EXPECT_TRUE(ends(generate(-1, "", R"({"eos_token": ")" + name + "\"}")));
  EXPECT_TRUE(ends(generate(which, "<|im_end|>", "{}")));
  EXPECT_TRUE(ends(generate(which, "<|turn_over|>",
                            R"({"chat_template": "{% for m in messages %}{{ m.content }})"
                            R"(<|turn_over|>\n{% endfor %}"})")));
  EXPECT_TRUE(ends(generate(-1, "", "{}", {name})));
  EXPECT_TRUE(ends(generate(-1, "", "{}", {name}, true)))
      << "what --stop names counts all the same";
  EXPECT_EQ(generate(which, "<|im_end|>", "{}", {}, true).finish, "length");
}

}  // namespace
}  // namespace pith
