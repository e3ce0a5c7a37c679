// Chat templates: the Jinja subset that real checkpoints use, interpreted with fuel, so that a
// hostile template ends in an error: at most 1,000,000 steps, depth 64, 4 MiB of output, ranges of
// 100,000, strings of 1 MiB. No access to anything but the JSON data it is given.
//
// The result is a list of segments marked as the template's own text or as content of a message.
// Only text of the template may become special tokens: encode their joined text with
// EncodeOptions::user_text set to the ranges of the others.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

namespace pith {

struct ChatSegment {
  std::string text;
  bool from_template = false;
  friend bool operator==(const ChatSegment&, const ChatSegment&) = default;
};

struct ChatMessage {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

// `variables` are further names the template may use: bos_token, eos_token, tools, ...
// Error(kUnsupported) naming the line and the construct that is not known; kCorrupt for syntax and
// for raise_exception(); kNumeric never.
std::vector<ChatSegment> render_chat(std::string_view source,
                                     const std::vector<ChatMessage>& messages,
                                     bool add_generation_prompt,
                                     const Json& variables = Json::object());

}  // namespace pith
