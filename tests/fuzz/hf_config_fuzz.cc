// The input is a config.json. A checkpoint with it and without tensors always ends in an Error.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "core/error.h"
#include "runtime/model/arch/arch.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pith::Checkpoint checkpoint;
  checkpoint.path = "fuzz";
  try {
    checkpoint.config = pith::parse_json({reinterpret_cast<const char*>(data), size}, "fuzz");
    checkpoint.generation_config = checkpoint.config;
    pith::import_model(checkpoint);
    std::abort();
  } catch (const pith::Error&) {
  }
  return 0;
}
