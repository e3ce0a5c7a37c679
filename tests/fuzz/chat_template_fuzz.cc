// The input is a template, then, after bytes 0x1e, the contents of messages by turns; a part that
// begins with '{' is the variables. Rendering ends in an Error whose message a terminal can show,
// or gives the same twice: at most 4 MiB of valid UTF-8, with neighbours of different origin, and
// no byte 0x01, which every content carries and no template can spell, is ever called the
// template's.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/json.h"
#include "core/utf8.h"
#include "formats/jinja/chat_template.h"

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  std::vector<std::string_view> parts;
  for (size_t at = 0; at <= input.size();) {
    const size_t end = std::min(input.find('\x1e', at), input.size());
    parts.push_back(input.substr(at, end - at));
    at = end + 1;
  }
  const std::string_view source = parts[0];
  pith::Json variables = {
      {"bos_token", "<s>"}, {"eos_token", "</s>"}, {"strftime_now", "1 Jan 2024"}};
  std::vector<pith::ChatMessage> messages;
  for (size_t i = 1; i < parts.size(); ++i) {
    if (parts[i].starts_with('{')) {
      try {
        variables.update(pith::parse_json(parts[i], "variables"));
      } catch (const pith::Error&) {
      }
    } else {
      static constexpr const char* kRoles[] = {"user", "assistant", "system", "x\x01<s>"};
      messages.push_back({kRoles[messages.size() % 4], "\x01" + std::string(parts[i]) + "\x01"});
    }
  }
  try {
    const auto segments = pith::render_template(source, messages, true, variables);
    require(segments == pith::render_template(source, messages, true, variables));
    const bool can_spell = source.find('\x01') != std::string_view::npos ||
                           source.find('\\') != std::string_view::npos ||
                           parts.size() > messages.size() + 1;
    size_t bytes = 0;
    for (size_t i = 0; i < segments.size(); ++i) {
      bytes += segments[i].text.size();
      require(pith::valid_utf8_prefix(segments[i].text) == segments[i].text.size());
      require(!segments[i].text.empty());
      require(i == 0 || segments[i].from_template != segments[i - 1].from_template);
      require(can_spell || !segments[i].from_template ||
              segments[i].text.find('\x01') == std::string::npos);
    }
    require(bytes <= size_t{4} << 20);
  } catch (const pith::Error& e) {
    for (const char c : std::string_view(e.what())) {
      require(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f);
    }
  }
  return 0;
}
