#include "formats/tokenizer/stop_tokens.h"

#include <algorithm>

#include "core/error.h"
#include "formats/jinja/chat_template.h"

namespace pith {
namespace {

// The list of llama.cpp.
constexpr std::string_view kEndTexts[] = {"<|im_end|>",
                                          "<|eot_id|>",
                                          "<|eom_id|>",
                                          "<end_of_turn>",
                                          "<|end|>",
                                          "<|return|>",
                                          "<|call|>",
                                          "<|flush|>",
                                          "<|calls|>",
                                          "<|endoftext|>",
                                          "<EOT>",
                                          "_<EOT>",
                                          "[EOT]",
                                          "[EOS]",
                                          "<|end_of_text|>",
                                          "<turn|>",
                                          "<end_of_utterance>"};

// The special token that the template puts behind an answer, with nothing but blanks between.
std::optional<int32_t> behind_answer(const Tokenizer& tokenizer, const std::string& chat_template) {
  static const std::string kAnswer = "ok";
  Json variables = Json::object();
  if (const auto bos = tokenizer.bos()) variables["bos_token"] = tokenizer.token_text(*bos);
  if (const auto eos = tokenizer.eos()) variables["eos_token"] = tokenizer.token_text(*eos);
  try {
    auto segments =
        render_chat(chat_template, {{"user", "hello"}, {"assistant", kAnswer}}, false, variables);
    std::string behind;
    for (; !segments.empty() && segments.back().from_template; segments.pop_back())
      behind.insert(0, segments.back().text);
    if (segments.empty() || segments.back().text != kAnswer) return std::nullopt;
    behind.erase(0, behind.find_first_not_of(" \t\r\n"));
    const auto ids = tokenizer.encode(behind, {.add_special = false, .parse_special = true});
    if (!ids.empty() && tokenizer.is_special(ids.front())) return ids.front();
  } catch (const Error&) {  // a template or a text that cannot be had says nothing
  }
  return std::nullopt;
}

}  // namespace

std::vector<int32_t> find_stop_tokens(const Tokenizer& tokenizer, std::vector<int32_t> known,
                                      const std::string& chat_template) {
  std::vector<int32_t> ids = std::move(known);
  if (const auto eos = tokenizer.eos()) ids.push_back(*eos);
  // Where an answer ends with either of these, "<|end|>" only separates its parts (gpt-oss).
  const bool parts = tokenizer.id_of("<|return|>") && tokenizer.id_of("<|call|>");
  for (const std::string_view text : kEndTexts) {
    if (text == "<|end|>" && parts) continue;
    if (const auto id = tokenizer.id_of(text)) ids.push_back(*id);
  }
  if (!chat_template.empty()) {
    const auto id = behind_answer(tokenizer, chat_template);
    if (id && !(parts && id == tokenizer.id_of("<|end|>"))) ids.push_back(*id);
  }
  std::ranges::sort(ids);
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

}  // namespace pith
