#include "tools/calibration_text.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "core/hash.h"
#include "formats/text_input.h"
#include "tools/interrupt.h"
#include "tools/terminal.h"

namespace pith::tools {

void cut_calibration_text(const std::string& path, const ModelSource& source,
                          const Tokenizer& tokenizer, int64_t count, int64_t length,
                          CompressOptions* options) {
  const std::string text = read_text_input(path, 1 << 30, interrupt());
  options->calibration_hash = hash64(std::as_bytes(std::span(text)));
  const auto tokens = tokenizer.encode(text, {.add_special = false});
  const int32_t bos = source.spec().bos_token();
  const int64_t body = length - (bos >= 0);
  const int64_t available = std::ssize(tokens) / std::max<int64_t>(1, body);
  if (available == 0 || body <= 0) {
    fail(ErrorKind::kUsage, "{}: {} tokens, one calibration window needs {}", path, tokens.size(),
         body);
  }
  const int64_t windows = std::min(count, available);
  for (int64_t i = 0; i < windows; ++i) {
    const auto begin = tokens.begin() + i * available / windows * body;
    std::vector<int32_t> w;
    if (bos >= 0) w.push_back(bos);
    w.insert(w.end(), begin, begin + body);
    options->calibration.push_back(std::move(w));
  }
  if (windows < count) {
    warn(
        fmt::format("{} has {} of {} tokens, {} were asked for: a longer text, or a smaller "
                    "--nsamples or --seqlen",
                    path, counted(windows, "window"), length, count));
  }
}

std::vector<int32_t> stops_of(const ModelSource& source, const Tokenizer* tokenizer) {
  const auto& own = source.spec().stop_tokens();
  return tokenizer != nullptr ? stop_tokens(source.spec(), *tokenizer)
                              : std::vector<int32_t>(own.begin(), own.end());
}

uint64_t hash_of_windows(const std::vector<std::vector<int32_t>>& windows) {
  Hasher h;
  for (const auto& w : windows) h.add(std::as_bytes(std::span(w)));
  return h.value();
}

}  // namespace pith::tools
