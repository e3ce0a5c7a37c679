// Models of well-known shapes with random weights made on the fly: for benchmarks that nobody needs
// a checkpoint for. They have no tokenizer.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/model/source.h"

namespace pith {

struct SyntheticTypes {
  Encoding linears;
  Encoding tables;  // embedding and head
  InputEncoding input;
};

std::vector<std::string> synthetic_shapes();  // "llama-850m", ...

// Error(kUsage) naming the shapes that exist.
std::unique_ptr<ModelSource> make_synthetic(const std::string& shape, const SyntheticTypes& types);

}  // namespace pith
