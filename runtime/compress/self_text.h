// Calibration text that the model writes itself, for when there is none: each window begins with a
// BOS (or a token drawn at random where the model has none) and goes on by sampling at temperature
// 1, what is less than 1/50 as likely as the likeliest left out. A window that comes to an end of
// text begins again. Depends on the model, the counts and the seed alone.
#pragma once

#include <cstdint>
#include <vector>

#include "core/progress.h"
#include "runtime/executor.h"

namespace pith {

// `count` windows of `length` tokens. Memory: caches of as many windows as fit `cache_bytes` (at
// least one), which are written together.
std::vector<std::vector<int32_t>> write_windows(Executor& executor, const Model& model,
                                                int64_t count, int64_t length, uint64_t seed,
                                                Progress& progress = no_progress(),
                                                uint64_t cache_bytes = 512u << 20);

}  // namespace pith
