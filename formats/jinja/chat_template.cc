#include "formats/jinja/chat_template.h"

#include <algorithm>
#include <iterator>

#include "core/error.h"
#include "core/utf8.h"
#include "formats/jinja/interpreter.h"
#include "formats/jinja/parser.h"

namespace pith {
namespace {

using jinja::Origin;
using jinja::Text;
using jinja::Value;

// The names of special tokens, which the template may write out as such.
bool is_token_name(std::string_view name) {
  static constexpr std::string_view kNames[] = {"bos_token", "eos_token", "unk_token", "pad_token",
                                                "sep_token", "cls_token", "mask_token"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

bool is_known_role(std::string_view role) {
  static constexpr std::string_view kRoles[] = {"system", "user", "assistant", "tool"};
  return std::find(std::begin(kRoles), std::end(kRoles), role) != std::end(kRoles);
}

Value text_value(std::string_view bytes, Origin origin) {
  return std::make_shared<const Text>(valid_utf8_or_replaced(bytes), origin);
}

Value message_list(jinja::Meter& meter, const std::vector<ChatMessage>& messages) {
  std::vector<Value> list;
  for (const ChatMessage& message : messages) {
    const Origin role = is_known_role(message.role) ? Origin::kTemplate : Origin::kContent;
    jinja::Dict dict;
    dict.entries = {
        {text_value("role", Origin::kTemplate), text_value(message.role, role)},
        {text_value("content", Origin::kTemplate), text_value(message.content, Origin::kContent)}};
    list.emplace_back(std::make_shared<const jinja::Dict>(std::move(dict)));
  }
  return jinja::make_list(meter, std::move(list));
}

std::vector<ChatSegment> segments(const Text& text) {
  std::vector<ChatSegment> result;
  for (size_t at = 0; at < text.size();) {
    size_t end = at + 1;
    while (end < text.size() && text.origin(end) == text.origin(at)) ++end;
    result.push_back(
        {std::string(text.view().substr(at, end - at)), text.origin(at) == Origin::kTemplate});
    at = end;
  }
  return result;
}

}  // namespace

std::vector<ChatSegment> render_chat(std::string_view source,
                                     const std::vector<ChatMessage>& messages,
                                     bool add_generation_prompt, const Json& variables) {
  std::vector<ChatSegment> result =
      render_template(source, messages, add_generation_prompt, variables);
  if (result.empty()) fail(ErrorKind::kCorrupt, "the chat template gives no text");
  return result;
}

std::vector<ChatSegment> render_template(std::string_view source,
                                         const std::vector<ChatMessage>& messages,
                                         bool add_generation_prompt, const Json& variables) {
  if (!variables.is_object())
    fail(ErrorKind::kUsage, "the variables of a chat template should be an object");
  const jinja::Program program = jinja::parse(source);
  jinja::Meter meter;
  jinja::Interpreter interpreter(meter);
  interpreter.define("tools", jinja::None{});
  interpreter.define("documents", jinja::None{});
  for (const auto& [name, value] : variables.get_ref<const Json::object_t&>()) {
    Value v =
        jinja::from_json(meter, value, is_token_name(name) ? Origin::kTemplate : Origin::kContent);
    if (name == "strftime_now") {
      interpreter.fix_date(std::move(v));
    } else {
      interpreter.define(name, std::move(v));
    }
  }
  interpreter.define("messages", message_list(meter, messages));
  interpreter.define("add_generation_prompt", add_generation_prompt);
  return segments(interpreter.run(program));
}

}  // namespace pith
