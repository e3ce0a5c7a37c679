// tokenizer.json: either an Error, or a tokenizer that encodes and decodes.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/error.h"
#include "formats/tokenizer/tokenizer.h"
#include "tests/fuzz/use_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    pith::fuzz::use_tokenizer(
        *pith::make_json_tokenizer({reinterpret_cast<const char*>(data), size}, ""));
  } catch (const pith::Error&) {
  }
  return 0;
}
