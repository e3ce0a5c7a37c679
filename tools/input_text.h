// Texts to calibrate and evaluate on: a plain text, or conversations, each of which goes through
// the model's chat template.
//
// A file holds conversations where its name ends in .jsonl (or .jsonl.gz), or where its first line
// is one. Each line that is not blank is one, in any of the forms of messages_from().
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "formats/tokenizer/chat_format.h"
#include "runtime/model/source.h"

namespace pith::tools {

struct Conversation {
  int64_t line;  // of the file, from 1
  std::vector<ChatMessage> messages;
};

struct InputText {
  std::string path;
  std::string text;                         // as it is in the file
  uint64_t hash = 0;                        // of that
  std::vector<Conversation> conversations;  // empty: plain text

  bool is_plain() const { return conversations.empty(); }
};

// Error(kUsage) where there is no text in it, Error(kCorrupt) naming file and line where a line is
// no conversation; else as read_text_input().
InputText read_input_text(const std::string& path);
// The same of a text that is at hand; `path` names it.
InputText parse_input_text(const std::string& path, std::string text);

// The tokens of a text, of conversations one after the other, without a BOS but for those that the
// chat template writes. Error(kUsage) for conversations where the model has no chat template; where
// the template refuses one, its error with file and line.
std::vector<int32_t> tokens_of(const InputText& text, const ModelSource& source,
                               const Tokenizer& tokenizer);

}  // namespace pith::tools
