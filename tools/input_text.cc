#include "tools/input_text.h"

#include <fmt/format.h>
#include <algorithm>

#include <utility>

#include "core/error.h"
#include "core/hash.h"
#include "formats/text_input.h"
#include "tools/interrupt.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

constexpr const char* kBlank = " \t\r\n";

// Without the blanks around it; empty where there is nothing else.
std::string_view stripped(std::string_view line) {
  const size_t begin = line.find_first_not_of(kBlank);
  return begin == line.npos ? "" : line.substr(begin, line.find_last_not_of(kBlank) + 1 - begin);
}

std::string place(const InputText& text, int64_t line) {
  return fmt::format("{}, line {}", one_line(text.path), line);
}

bool is_conversation(std::string_view line) {
  if (!line.starts_with('{') && !line.starts_with('[')) return false;
  try {
    return !messages_from(parse_json(line, ""), "").empty();
  } catch (const Error&) {
    return false;
  }
}

bool holds_conversations(const InputText& text) {
  if (text.path.ends_with(".jsonl") || text.path.ends_with(".jsonl.gz")) return true;
  const std::string_view all = text.text;
  const size_t begin = all.find_first_not_of(kBlank);
  const std::string_view rest = all.substr(std::min(begin, all.size()));
  return is_conversation(stripped(rest.substr(0, rest.find('\n'))));
}

void parse_conversations(InputText* text) {
  std::string_view rest = text->text;
  for (int64_t line = 1; !rest.empty(); ++line) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view here = stripped(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (here.empty()) continue;
    interrupt().check();
    const std::string name = place(*text, line);
    text->conversations.push_back({line, messages_from(parse_json(here, name), name)});
  }
}

}  // namespace

InputText parse_input_text(const std::string& path, std::string text) {
  InputText t{.path = path, .text = std::move(text), .conversations = {}};
  t.hash = hash64(std::as_bytes(std::span(t.text)));
  if (stripped(t.text).empty()) fail(ErrorKind::kUsage, "{}: no text in it", one_line(path));
  if (holds_conversations(t)) parse_conversations(&t);
  return t;
}

InputText read_input_text(const std::string& path) {
  return parse_input_text(path, read_text_input(path, 1 << 30, interrupt()));
}

std::vector<int32_t> tokens_of(const InputText& text, const ModelSource& source,
                               const Tokenizer& tokenizer) {
  if (text.is_plain()) return tokenizer.encode(text.text, {.add_special = false});
  if (source.tokenizer().chat_template.empty()) {
    fail(ErrorKind::kUsage,
         "{}: these are conversations, and {} has no chat template: take a plain text",
         one_line(text.path), one_line(source.path()));
  }
  const ChatFormat format(source.tokenizer().chat_template, tokenizer);
  std::vector<int32_t> tokens;
  for (const auto& c : text.conversations) {
    interrupt().check();
    try {
      const auto here = format.encode(c.messages, false);
      tokens.insert(tokens.end(), here.begin(), here.end());
    } catch (const Error& e) {
      throw Error(e.kind(), fmt::format("{}: {}", place(text, c.line), e.what()));
    }
  }
  return tokens;
}

}  // namespace pith::tools
