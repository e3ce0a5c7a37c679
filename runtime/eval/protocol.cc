#include "runtime/eval/protocol.h"

#include <algorithm>
#include <charconv>

#include "core/error.h"

namespace pith {
namespace {

constexpr struct {
  Protocol::Kind kind;
  const char* name;
  int64_t usual;     // context; 0: the model's
  bool fits;         // the usual one becomes the model's where that is less
  int64_t smallest;  // context
  const char* summary;
} kProtocols[] = {
    {Protocol::Kind::kText, "text", 2048, true, 2, "the text as it is, every token scored"},
    {Protocol::Kind::kGptq, "gptq", 2048, false, 8, "lines joined by blank lines, as WikiText-2"},
    {Protocol::Kind::kLlama, "llama", 512, false, 8,
     "the text as it is, the second half of each window scored"},
    {Protocol::Kind::kParagraph, "paragraph", 0, true, 8, "each line alone"}};

constexpr std::string_view kStride = "-stride-";

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

// The number after the first `skip` characters; the text after it stays in `rest`.
bool take_number(std::string_view& rest, size_t skip, int64_t* to) {
  const char* const end = rest.data() + rest.size();
  const auto [stop, error] = std::from_chars(rest.data() + skip, end, *to);
  if (error != std::errc() || rest[skip] == '-') return false;
  rest.remove_prefix(static_cast<size_t>(stop - rest.data()));
  return true;
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
    if (p.kind != kind) continue;
    const std::string name = fmt::format("{}-{}", p.name, context);
    return stride > 0 ? fmt::format("{}{}{}", name, kStride, stride) : name;
  }
  return "";
}

const char* Protocol::summary() const {
  for (const auto& p : kProtocols) {
    if (p.kind == kind) return p.summary;
  }
  return "";
}

Protocol parse_protocol(std::string_view name, int64_t model_context) {
  for (const auto& p : kProtocols) {
    std::string_view rest = name;
    if (!rest.starts_with(p.name)) continue;
    rest.remove_prefix(std::string_view(p.name).size());
    Protocol out{.kind = p.kind, .context = p.usual > 0 ? p.usual : model_context};
    if (p.fits) out.context = std::min(out.context, model_context);
    if (!rest.empty() && !rest.starts_with(kStride)) {
      if (rest[0] != '-' || !take_number(rest, 1, &out.context) || out.context < p.smallest) break;
    }
    if (!rest.empty()) {
      if (p.kind != Protocol::Kind::kText || !rest.starts_with(kStride) ||
          !take_number(rest, kStride.size(), &out.stride) || !rest.empty() || out.stride < 1)
        break;
    }
    if (model_context < p.smallest)
      fail(ErrorKind::kUsage, "a context of {} tokens: {} are needed", model_context, p.smallest);
    if (out.context > model_context) {
      fail(ErrorKind::kUsage,
           "protocol {} needs a context of {}, the model has {}: try {}-{} (--protocol {}-{})",
           out.name(), out.context, model_context, p.name, model_context, p.name, model_context);
    }
    return out;
  }
  fail(ErrorKind::kUsage,
       "unknown protocol \"{}\": text, gptq-2048, llama-512, paragraph (other window lengths "
       "alike: text-512)",
       name);
}

// Every token is scored once, by windows that go on where the one before ended.
std::vector<Window> text_windows(const Protocol& protocol, std::span<const int32_t> tokens,
                                 int32_t bos) {
  const size_t size = static_cast<size_t>(protocol.context), has_bos = bos >= 0;
  const size_t most = size - 1;  // that a window scores
  const size_t stride = protocol.stride > 0 ? static_cast<size_t>(protocol.stride) : most;
  if (stride > most) {
    fail(ErrorKind::kUsage, "protocol {}: a window of {} tokens scores at most {}", protocol.name(),
         size, most);
  }
  std::vector<Window> windows;
  for (size_t scored = 1 - has_bos; scored < tokens.size();) {
    // The first window scores all it has; the others `stride` tokens behind those before.
    const size_t end = std::min(tokens.size(), scored + (windows.empty() ? most : stride));
    const size_t context = windows.empty() ? scored : std::min(scored, size - stride - has_bos);
    Window w;
    if (has_bos) w.tokens.push_back(bos);
    w.tokens.insert(w.tokens.end(), tokens.begin() + static_cast<std::ptrdiff_t>(scored - context),
                    tokens.begin() + static_cast<std::ptrdiff_t>(end));
    w.first_scored = static_cast<int64_t>(has_bos + context) - 1;
    windows.push_back(std::move(w));
    scored = end;
  }
  if (windows.empty())
    fail(ErrorKind::kUsage, "the text has no token that others come before: it is too short");
  return windows;
}

std::vector<Window> make_windows(const Protocol& protocol, const Tokenizer& tokenizer,
                                 std::string_view text, int32_t bos) {
  std::vector<Window> windows;
  switch (protocol.kind) {
    case Protocol::Kind::kText:
      return text_windows(protocol, tokenizer.encode(text, {.add_special = false}),
                          tokenizer.adds_bos() ? bos : -1);
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

bool looks_like_wikitext(std::string_view text) {
  bool found = false;
  each_line(text, [&](std::string_view line) {
    if (line.ends_with('\r')) line.remove_suffix(1);
    while (line.ends_with(' ')) line.remove_suffix(1);
    found = found || (line.size() > 5 && line.starts_with(" = ") && line.ends_with(" ="));
  });
  return found;
}

}  // namespace pith
