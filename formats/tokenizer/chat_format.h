// Conversations as the tokens that a model was trained on: its chat template with its tokenizer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/json.h"
#include "formats/jinja/chat_template.h"
#include "formats/tokenizer/tokenizer.h"

namespace pith {

// The messages of a JSON value from `name`, which is one of
//   [{"role": "user", "content": "..."}, ...]
//   {"messages": [...]}, the same list
//   {"conversations": [{"from": "human", "value": "..."}, ...]}, as ShareGPT has them: from human,
//   gpt and system
// Other keys are ignored. Error(kCorrupt) for other values, and where there is no message.
std::vector<ChatMessage> messages_from(const Json& j, const std::string& name);

// Thread-safe.
class ChatFormat {
 public:
  // The template's Jinja source, not empty. The tokenizer outlives it.
  ChatFormat(std::string chat_template, const Tokenizer& tokenizer);

  // The tokens of these messages, and of the beginning of an answer where that is asked for; at
  // least one. Text of the template may become special tokens, content of messages may not. Error
  // as render_chat() says it.
  std::vector<int32_t> encode(const std::vector<ChatMessage>& messages,
                              bool begins_answer = true) const;

 private:
  const std::string template_;
  const Tokenizer& tokenizer_;
  Json variables_ = Json::object();
};

}  // namespace pith
