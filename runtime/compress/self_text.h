// Calibration text that the model writes itself, for when there is none. A window is a sequence of
// documents: each begins with an opening, goes on by sampling, and ends where the model ends it (or
// with the window). Tokens less than 1/50 as likely as the likeliest are left out (min-p), and each
// window has a temperature of 0.7, 1 or 1.2, so that both the text that the model finds likely and
// what lies beside it are seen. Openings and temperatures are drawn by the seed; the first openings
// of windows are all different ones as long as there are so many. Depends on the model, the request
// and the seed alone, and on what it runs on.
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

inline constexpr uint64_t kTextCacheBytes = 256u << 20;

// Tokens [begin, end) of windows [first, first + count), window by window.
struct TextPiece {
  int64_t first = 0, count = 0, begin = 0, end = 0;
  std::vector<int32_t> tokens;
};
std::string to_bytes(const TextPiece& piece);
TextPiece piece_from(std::string_view bytes);  // Error(kCorrupt) where it is none

struct TextRequest {
  int64_t count = 0, length = 0;  // windows, and tokens of each
  uint64_t seed = 0;
  std::vector<int32_t> stops;  // tokens that end a document (stop_tokens())
  // Tokens that a document may begin with, each list with its BOS. None: the model's BOS alone, or
  // a token drawn at random where it has none.
  std::vector<std::vector<int32_t>> openings;
  uint64_t cache_bytes = kTextCacheBytes;
};

// Memory: caches of as many windows as fit `cache_bytes` (at least one), which are written
// together. Calls `keep` with each piece of the text as it is written, also where it is cancelled.
// `written`: the pieces of an earlier call with the same request; windows that are whole are not
// run again, those that were cut off are run up to there, and the text is the same. Error(kUsage)
// where a window is longer than the model's context, or an opening has a token that the model does
// not know.
Windows write_windows(
    Executor& executor, const Model& model, const TextRequest& request,
    Progress& progress = no_progress(), const std::vector<TextPiece>& written = {},
    FunctionRef<void(const TextPiece&)> keep = [](const TextPiece&) {});

// An estimate of the memory that write_windows takes beside the model.
uint64_t text_cache_bytes(const proto::ModelSpec& spec, int64_t count, int64_t length,
                          uint64_t cache_bytes = kTextCacheBytes);

}  // namespace pith
