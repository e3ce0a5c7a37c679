#include "formats/tokenizer/stop_tokens.h"

#include <algorithm>

#include "core/error.h"
#include "formats/chat_template.h"

namespace pith {
namespace {

// As llama.cpp knows them.
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

std::string_view without_blanks(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  return begin == std::string_view::npos ? "" : text.substr(begin);
}

// What the template writes behind an answer; empty where it cannot be rendered.
std::string behind_answer(const Tokenizer& tokenizer, const std::string& chat_template) {
  static const std::string kAnswer = "ok";
  Json variables = Json::object();
  if (const auto bos = tokenizer.bos()) variables["bos_token"] = tokenizer.token_text(*bos);
  if (const auto eos = tokenizer.eos()) variables["eos_token"] = tokenizer.token_text(*eos);
  std::vector<ChatSegment> segments;
  try {
    segments =
        render_chat(chat_template, {{"user", "hello"}, {"assistant", kAnswer}}, false, variables);
  } catch (const Error&) {
    return "";
  }
  std::string behind;
  while (!segments.empty() && segments.back().from_template) {
    behind.insert(0, segments.back().text);
    segments.pop_back();
  }
  return segments.empty() || segments.back().text != kAnswer ? "" : behind;
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
    const std::string behind = behind_answer(tokenizer, chat_template);
    const auto first =
        tokenizer.encode(without_blanks(behind), {.add_special = false, .parse_special = true});
    const bool separates = parts && !first.empty() && first.front() == tokenizer.id_of("<|end|>");
    if (!first.empty() && tokenizer.is_special(first.front()) && !separates)
      ids.push_back(first.front());
  }
  std::ranges::sort(ids);
  const auto same = std::ranges::unique(ids);
  ids.erase(same.begin(), same.end());
  return ids;
}

}  // namespace pith
