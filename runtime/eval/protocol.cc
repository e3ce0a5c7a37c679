#include "runtime/eval/protocol.h"

#include <charconv>

#include "core/error.h"

namespace pith {
namespace {

constexpr struct {
  Protocol::Kind kind;
  const char* name;
} kProtocols[] = {{Protocol::Kind::kGptq, "gptq"},
                  {Protocol::Kind::kLlama, "llama"},
                  {Protocol::Kind::kParagraph, "paragraph"}};

std::string_view strip(std::string_view s) {
  constexpr std::string_view kSpace = " \t\r\n\v\f";
  const size_t begin = s.find_first_not_of(kSpace);
  return begin == std::string_view::npos ? ""
                                         : s.substr(begin, s.find_last_not_of(kSpace) - begin + 1);
}

template <class F>
void each_line(std::string_view text, F f) {
  while (!text.empty()) {
    const size_t end = text.find('\n');
    f(text.substr(0, end));
    if (end == std::string_view::npos) return;
    text.remove_prefix(end + 1);
  }
}

// The rows of the data set as published: a row keeps its newline, a blank row is empty; joined by
// "\n\n".
std::string join_rows(std::string_view text) {
  std::string out;
  bool first = true;
  each_line(text, [&](std::string_view line) {
    if (!first) out += "\n\n";
    first = false;
    if (!strip(line).empty()) out.append(line).append("\n");
  });
  return out;
}

void cut(const std::vector<int32_t>& tokens, int64_t size, int64_t first_scored, int32_t bos,
         std::vector<Window>* to) {
  for (size_t begin = 0; begin + static_cast<size_t>(size) <= tokens.size();
       begin += static_cast<size_t>(size)) {
    Window w;
    w.tokens.assign(
        tokens.begin() + static_cast<std::ptrdiff_t>(begin),
        tokens.begin() + static_cast<std::ptrdiff_t>(begin + static_cast<size_t>(size)));
    if (bos >= 0) w.tokens[0] = bos;
    w.first_scored = first_scored;
    to->push_back(std::move(w));
  }
}

}  // namespace

std::string Protocol::name() const {
  for (const auto& p : kProtocols) {
    if (p.kind == kind) return fmt::format("{}-{}", p.name, context);
  }
  return "";
}

Protocol parse_protocol(std::string_view name, int64_t model_context) {
  for (const auto& p : kProtocols) {
    std::string_view rest = name;
    if (!rest.starts_with(p.name)) continue;
    rest.remove_prefix(std::string_view(p.name).size());
    Protocol out{p.kind, model_context};
    if (rest.empty() && p.kind != Protocol::Kind::kParagraph) {
      out.context = p.kind == Protocol::Kind::kGptq ? 2048 : 512;
    } else if (!rest.empty()) {
      const char* end = rest.data() + rest.size();
      const auto [stop, error] = std::from_chars(rest.data() + 1, end, out.context);
      if (rest[0] != '-' || error != std::errc() || stop != end || out.context < 8) break;
    }
    if (model_context < 8)
      fail(ErrorKind::kUsage, "a context of {} tokens: 8 are needed", model_context);
    if (out.context > model_context) {
      fail(ErrorKind::kUsage, "protocol {} needs a context of {}, the model has {}: try {}-{}",
           out.name(), out.context, model_context, p.name, model_context);
    }
    return out;
  }
  fail(ErrorKind::kUsage,
       "unknown protocol \"{}\": gptq-2048, llama-512, paragraph (other window lengths alike)",
       name);
}

std::vector<Window> make_windows(const Protocol& protocol, const Tokenizer& tokenizer,
                                 std::string_view text, int32_t bos) {
  std::vector<Window> windows;
  switch (protocol.kind) {
    case Protocol::Kind::kGptq:
      cut(tokenizer.encode(join_rows(text)), protocol.context, 0, -1, &windows);
      break;
    case Protocol::Kind::kLlama:
      cut(tokenizer.encode(text), protocol.context, protocol.context / 2,
          tokenizer.adds_bos() ? bos : -1, &windows);
      break;
    case Protocol::Kind::kParagraph:
      if (bos < 0) fail(ErrorKind::kUsage, "protocol paragraph needs a model with a BOS token");
      each_line(text, [&](std::string_view line) {
        const auto stripped = strip(line);
        if (stripped.empty()) return;
        const auto tokens = tokenizer.encode(stripped, {.add_special = false});
        const auto step = static_cast<size_t>(protocol.context - 1);
        for (size_t begin = 0; begin < tokens.size(); begin += step) {
          const size_t end = std::min(tokens.size(), begin + step);
          Window w;
          w.tokens.push_back(bos);
          w.tokens.insert(w.tokens.end(), tokens.begin() + static_cast<std::ptrdiff_t>(begin),
                          tokens.begin() + static_cast<std::ptrdiff_t>(end));
          windows.push_back(std::move(w));
        }
      });
      break;
  }
  if (windows.empty())
    fail(ErrorKind::kUsage, "the text is too short for one window of protocol {}", protocol.name());
  return windows;
}

}  // namespace pith
