// Calibration text that the model writes itself, for when there is none: each window begins with a
// BOS (or a token drawn at random where the model has none) and goes on by sampling at temperature
// 1, what is less than 1/50 as likely as the likeliest left out. A window that comes to an end of
// text begins again. Depends on the model, the counts and the seed alone, and on what it runs on.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/function_ref.h"
#include "core/progress.h"
#include "runtime/forward/executor.h"

namespace pith {

using Windows = std::vector<std::vector<int32_t>>;

inline constexpr uint64_t kTextCacheBytes = 512u << 20;

// Tokens [begin, end) of windows [first, first + count), window by window.
struct TextPiece {
  int64_t first = 0, count = 0, begin = 0, end = 0;
  std::vector<int32_t> tokens;
};
std::string to_bytes(const TextPiece& piece);
TextPiece piece_from(std::string_view bytes);  // Error(kCorrupt) where it is none

// `count` windows of `length` tokens. `stops`: the tokens that end a text (stop_tokens()). Memory:
// caches of as many windows as fit `cache_bytes` (at least one), which are written together. Calls
// `keep` with each piece of the text as it is written, also where it is cancelled. `written`: the
// pieces of an earlier call with the same arguments; their tokens are not generated again, and the
// text is the same. (On a GPU, windows that were cut off may continue otherwise: a pass over
// several tokens of one window may give other bits there.)
Windows write_windows(
    Executor& executor, const Model& model, int64_t count, int64_t length, uint64_t seed,
    const std::vector<int32_t>& stops, Progress& progress = no_progress(),
    uint64_t cache_bytes = kTextCacheBytes, const std::vector<TextPiece>& written = {},
    FunctionRef<void(const TextPiece&)> keep = [](const TextPiece&) {});

// An estimate of the memory that write_windows takes beside the model.
uint64_t text_cache_bytes(const proto::ModelSpec& spec, int64_t count, int64_t length,
                          uint64_t cache_bytes = kTextCacheBytes);

}  // namespace pith
