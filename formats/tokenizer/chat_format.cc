#include "formats/tokenizer/chat_format.h"

#include <array>
#include <utility>

#include "core/error.h"

namespace pith {
namespace {

std::string role_from(const std::string& sharegpt, const std::string& name) {
  constexpr std::array<std::pair<const char*, const char*>, 3> kRoles = {
      {{"human", "user"}, {"gpt", "assistant"}, {"system", "system"}}};
  for (const auto& [from, role] : kRoles) {
    if (sharegpt == from) return role;
  }
  fail(ErrorKind::kCorrupt, "{}: \"from\" is none of human, gpt and system", name);
}

}  // namespace

std::vector<ChatMessage> messages_from(const Json& j, const std::string& name) {
  const Json* list = &j;
  bool sharegpt = false;
  if (j.is_object()) {
    list = json_find(j, "messages");
    if (list == nullptr) {
      list = json_find(j, "conversations");
      sharegpt = list != nullptr;
    }
  }
  if (list == nullptr || !list->is_array() || list->empty()) {
    fail(ErrorKind::kCorrupt,
         "{}: expected {{\"messages\": [{{\"role\": ..., \"content\": ...}}, ...]}} with one "
         "message or more",
         name);
  }
  std::vector<ChatMessage> messages;
  for (const Json& m : *list) {
    messages.push_back(
        sharegpt ? ChatMessage{role_from(json_string(m, "from", name), name),
                               json_string(m, "value", name)}
                 : ChatMessage{json_string(m, "role", name), json_string(m, "content", name)});
  }
  return messages;
}

ChatFormat::ChatFormat(std::string chat_template, const Tokenizer& tokenizer)
    : template_(std::move(chat_template)), tokenizer_(tokenizer) {
  if (const auto bos = tokenizer.bos()) variables_["bos_token"] = tokenizer.token_text(*bos);
  if (const auto eos = tokenizer.eos()) variables_["eos_token"] = tokenizer.token_text(*eos);
}

std::vector<int32_t> ChatFormat::encode(const std::vector<ChatMessage>& messages,
                                        bool begins_answer) const {
  // All of it is encoded as one text.
  std::string text;
  std::vector<std::pair<size_t, size_t>> user_text;
  for (const auto& s : render_chat(template_, messages, begins_answer, variables_)) {
    if (!s.from_template) user_text.emplace_back(text.size(), text.size() + s.text.size());
    text += s.text;
  }
  auto ids = tokenizer_.encode(
      text, {.add_special = false, .parse_special = true, .user_text = user_text});
  if (ids.empty()) fail(ErrorKind::kCorrupt, "the chat template gives no text");
  return ids;
}

}  // namespace pith
