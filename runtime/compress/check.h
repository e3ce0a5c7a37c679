// The checks of a finished packed file, as a reader will see it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/progress.h"
#include "runtime/model/source.h"

namespace pith {

// w: rows of k weights, from `row` on. Error(kNumeric) naming the one that is not finite.
void check_finite(const std::string& name, int64_t row, int64_t k, std::span<const float> w);

// XXH3-64 of one row of decoded weights, f32 [k].
uint64_t row_hash(const float* row, int64_t k);

struct DecodedLinear {
  uint64_t hash = 0;      // of the hashes of its rows
  bool constant = false;  // all of several weights are the same
};
// Decodes a linear of a packed file. Error(kNumeric) where a number is not finite, Error(kCorrupt)
// where a mask does not fit.
DecodedLinear check_linear(const std::string& path, const Linear& linear);

struct CheckResult {
  double kl = 0;  // mean KL(source || file) over the tokens, nats
  int64_t tokens = 0;
};

// Memory that check_result takes beside one block and the program itself.
uint64_t check_bytes(const ModelSource& source, int64_t tokens);

// Checksums of all planes; every linear decodes, bit for bit, to what the method chose; the file's
// model still says what its source says: mean KL divergence over `tokens` is finite, and below 5 or
// below that of a uniform distribution. Error(kNumeric) or Error(kCorrupt) otherwise. Memory: a
// block of each model.
CheckResult check_result(const std::string& path, const ModelSource& source,
                         const std::vector<int32_t>& tokens, Progress& progress);

}  // namespace pith
