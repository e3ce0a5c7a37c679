// A tokenizer with more ids than the model has rows was used: an id beyond the embedding read
// memory that was not its own.

#include <gtest/gtest.h>

#include "core/bytes.h"
#include "core/file.h"
#include "runtime/cpu/cpu_executor.h"
#include "runtime/forward/forward.h"
#include "runtime/model/source.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"
#include "tests/support/tiny_tokenizer.h"

namespace pith {
namespace {

// A model of `vocab` rows beside this tokenizer and configuration of it.
std::unique_ptr<ModelSource> model(const test::TemporaryFolder& folder, int vocab,
                                   const Json& tokenizer, const std::string& config = "{}") {
  test::write_tiny_checkpoint(folder.path(), test::tiny_config({.layers = 1, .vocab = vocab}));
  write_file(folder.file("tokenizer.json"), as_bytes(tokenizer.dump()));
  write_file(folder.file("tokenizer_config.json"), as_bytes(config));
  return open_model(folder.path());
}

TEST(TokenizerOfAnotherModel, is_refused_where_text_can_make_an_id_beyond_the_vocabulary) {
  struct Case {
    const char* name;
    int vocab;
    Json added;  // behind the letters
    const char* config;
    bool refused;
  };
  const int n = test::kTinyTokens;
  const auto one = [&](const char* text, int id, bool special) {
    return Json::array({test::tiny_added_token(text, id, special)});
  };
  const Case cases[] = {
      {"all fit", n, Json::array(), "{}", false},
      {"words beyond", n - 1, Json::array(), "{}", true},
      {"an added token beyond", n, one("[TOOL]", n, false), "{}", true},
      {"an added token far beyond", n, one("[TOOL]", 900000, false), "{}", true},
      {"special, of the template", n, one("<|im|>", n, true),
       R"({"chat_template": "<|im|>{{ messages[0].content }}"})", true},
      {"special, begins every text", n, one("<|im|>", n, true),
       R"({"bos_token": "<|im|>", "add_bos_token": true, "tokenizer_class": "LlamaTokenizer"})",
       true},
      // Published so: an image's place, a [PAD] that a fine-tuner added.
      {"special, that nothing makes", n, one("<image>", n, true), "{}", false},
      {"a name in the configuration alone", n, Json::array(), R"({"pad_token": "[PAD]"})", false},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    const test::TemporaryFolder folder;
    Json tokenizer = test::tiny_tokenizer();
    for (const Json& token : c.added) tokenizer["added_tokens"].push_back(token);
    const auto source = model(folder, c.vocab, tokenizer, c.config);
    if (c.refused) {
      EXPECT_PITH_ERROR(load_tokenizer(*source), ErrorKind::kCorrupt,
                        "a vocabulary of " + std::to_string(c.vocab));
    } else {
      EXPECT_NO_THROW(load_tokenizer(*source));
    }
  }
}

TEST(TokenizerOfAnotherModel, that_is_much_smaller_is_named) {
  const auto notes = [](int vocab) {
    const test::TemporaryFolder folder;
    std::vector<std::string> lines;
    load_tokenizer(*model(folder, vocab, test::tiny_tokenizer()), &lines);
    return lines;
  };
  EXPECT_TRUE(notes(test::kTinyTokens).empty());
  EXPECT_TRUE(notes(40).empty()) << "padded";
  ASSERT_EQ(notes(64).size(), 1u);
  EXPECT_NE(notes(64)[0].find("31"), std::string::npos);
}

// No id reaches a table that has no row for it, wherever it came from.
TEST(TokenizerOfAnotherModel, no_id_beyond_the_embedding_is_looked_up) {
  const test::TemporaryFolder folder;
  const auto source = model(folder, 32, test::tiny_tokenizer());
  const Model loaded = load_model(*source);
  const auto executor = make_cpu_executor();
  const auto cache = executor->make_cache(loaded.spec, {1, 8, NumberFormat::kF32});
  for (const int32_t id : {-1, 32, 900000}) {
    const std::vector<int32_t> tokens = {3, id};
    const Segment segment{0, 0, 2};
    EXPECT_PITH_ERROR(forward_hidden(*executor, loaded, {tokens, std::span(&segment, 1)}, *cache),
                      ErrorKind::kUsage, "vocabulary of 32");
  }
}

}  // namespace
}  // namespace pith
