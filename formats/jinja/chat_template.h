// Chat templates: Jinja as transformers sets it up (immutable sandbox, trim_blocks, lstrip_blocks,
// `generation`, break and continue, tojson, raise_exception, strftime_now), interpreted with fuel,
// so that a hostile template ends in an error: at most 1,000,000 steps, depth 64, 4 MiB of output,
// ranges of 100,000, strings of 1 MiB. No access to anything but the JSON data it is given. What
// differs from Jinja: integers have 64 bits, `random`, `lipsum` and `urlize` are refused, and so is
// printing what Python prints with an address.
//
// The result is a list of segments marked as the template's own text or as content of a message.
// Only text of the template may become special tokens: encode their joined text with
// EncodeOptions::user_text set to the ranges of the others. All of it is valid UTF-8: what is not,
// in messages, variables or the template, is replaced by U+FFFD first, so that the marks stay true.
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

// `variables` are further names the template may use: bos_token, eos_token, tools, ...; `tools` and
// `documents` are none unless they are given. The result is never empty.
// Error(kUnsupported) naming the line and the construct that is not known; kCorrupt for syntax, for
// raise_exception() and where the template gives no text; kNumeric never.
std::vector<ChatSegment> render_chat(std::string_view source,
                                     const std::vector<ChatMessage>& messages,
                                     bool add_generation_prompt,
                                     const Json& variables = Json::object());

// The same for any template: the result may be empty.
std::vector<ChatSegment> render_template(std::string_view source,
                                         const std::vector<ChatMessage>& messages,
                                         bool add_generation_prompt,
                                         const Json& variables = Json::object());

}  // namespace pith
