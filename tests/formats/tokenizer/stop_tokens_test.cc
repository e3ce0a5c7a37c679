// Which tokens end a generation, for files of every kind.

#include <gtest/gtest.h>

#include "core/file.h"
#include "formats/gguf_metadata.h"
#include "formats/tokenizer/stop_tokens.h"
#include "formats/tokenizer/tokenizer.h"
#include "tests/support/tiny_tokenizer.h"

namespace pith {
namespace {

std::vector<std::string> texts(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  std::vector<std::string> out;
  for (const int32_t id : ids) out.push_back(tokenizer.token_text(id));
  return out;
}

std::vector<std::string> stops_of(const TokenizerFiles& files) {
  const auto tokenizer = make_tokenizer(files);
  return texts(*tokenizer, tokenizer->stop_tokens());
}

using Texts = std::vector<std::string>;

struct Case {
  const char* name;
  Texts special;
  const char* config;
  const char* chat_template;
  Texts stops;
};

TEST(StopTokens, ofAFolderAreEosEndsOfTurnsAndWhatTheTemplatePutsBehindAnAnswer) {
  constexpr const char* kTurns =
      "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|done|>\n{% endfor %}";
  const Case cases[] = {
      {"nothing is said", {}, "", "", {}},
      {"eos_token", {}, R"({"eos_token": "</s>"})", "", {"</s>"}},
      {"eos_token with flags", {}, R"({"eos_token": {"content": "</s>"}})", "", {"</s>"}},
      {"a new eos_token", {}, R"({"eos_token": "<|over|>"})", "", {"<|over|>"}},
      {"ChatML", {"<|im_start|>", "<|im_end|>"}, "", "", {"<|im_end|>"}},
      {"Llama 3",
       {"<|eot_id|>", "<|eom_id|>"},
       R"({"eos_token": "</s>"})",
       "",
       {"</s>", "<|eot_id|>", "<|eom_id|>"}},
      {"gpt-oss", {"<|end|>", "<|return|>", "<|call|>"}, "", "", {"<|return|>", "<|call|>"}},
      {"Phi 3", {"<|end|>"}, "", "", {"<|end|>"}},
      {"the template's own", {"<|done|>", "<|user|>"}, "", kTurns, {"<|done|>"}},
      {"a template that cannot be rendered", {"<|done|>"}, "", "{{ raise_exception('no') }}", {}},
      {"a template with text behind", {"<|done|>"}, "", "{{ messages[1].content }} over", {}},
      {"eos of the template",
       {},
       R"({"eos_token": "</s>"})",
       "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}",
       {"</s>"}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    TokenizerFiles files;
    files.tokenizer_json = test::tiny_tokenizer(c.special).dump();
    files.tokenizer_config = c.config;
    files.chat_template = c.chat_template;
    EXPECT_EQ(stops_of(files), c.stops);
  }
}

GgufMetadata gguf(const std::string& model, Texts tokens, std::vector<int64_t> types) {
  GgufMetadata m;
  m.values["tokenizer.ggml.model"] = model;
  m.values["tokenizer.ggml.pre"] = std::string("gpt-2");
  m.values["tokenizer.ggml.scores"] = std::vector<double>(tokens.size());
  m.values["tokenizer.ggml.tokens"] = std::move(tokens);
  m.values["tokenizer.ggml.token_type"] = std::move(types);
  m.values["tokenizer.ggml.merges"] = Texts{};
  return m;
}

TEST(StopTokens, ofAGgufFileAreItsIdsOrDefaultsAndControlTokensByTheirText) {
  const auto stops = [](const GgufMetadata& m) {
    const auto tokenizer = make_gguf_tokenizer(m);
    return find_stop_tokens(*tokenizer, tokenizer->stop_tokens(), "");
  };
  using Ids = std::vector<int32_t>;
  auto m = gguf("llama", {"<unk>", "<s>", "</s>", "<|im_end|>", "a"}, {2, 3, 3, 3, 1});
  EXPECT_EQ(stops(m), (Ids{2, 3})) << "without a key, 2 is EOS";
  m.values["tokenizer.ggml.eos_token_id"] = uint64_t{4294967295u};
  EXPECT_EQ(stops(m), (Ids{2, 3})) << "nor with one that says none";
  m.values["tokenizer.ggml.eos_token_id"] = uint64_t{1};
  m.values["tokenizer.ggml.eot_token_id"] = uint64_t{4};
  EXPECT_EQ(stops(m), (Ids{1, 3, 4}));
  Texts tokens(13, "");
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = std::string(1, static_cast<char>('a' + i));
  std::vector<int64_t> types(13, 1);
  EXPECT_EQ(stops(gguf("gpt2", tokens, types)), Ids{});
  types[11] = 3;
  EXPECT_EQ(stops(gguf("gpt2", tokens, types)), Ids{11}) << "llama.cpp's default";
  tokens[3] = "<end_of_turn>";
  tokens[4] = "<|file_sep|>";
  types[3] = 4;
  EXPECT_EQ(stops(gguf("gpt2", tokens, types)), (Ids{3, 4, 11}));
}

}  // namespace
}  // namespace pith
