// The text that compression calibrates on, cut into windows.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "formats/tokenizer/tokenizer.h"
#include "runtime/compress/plan.h"

namespace pith::tools {

// Windows of `length` tokens into options->calibration, at most `count`, spread evenly over the
// text, each after a BOS if the model has one; the hash of the text. Warns where the text has fewer
// windows. Error(kUsage) where it has none.
void cut_calibration_text(const std::string& path, const ModelSource& source,
                          const Tokenizer& tokenizer, int64_t count, int64_t length,
                          CompressOptions* options);

// The tokens that end a text where the model writes its own. `tokenizer` may be null.
std::vector<int32_t> stops_of(const ModelSource& source, const Tokenizer* tokenizer);

// The calibration_hash of windows that the model wrote itself.
uint64_t hash_of_windows(const std::vector<std::vector<int32_t>>& windows);

}  // namespace pith::tools
