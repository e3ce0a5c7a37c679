// A rank file of tiktoken and, behind a NUL, the tokenizer_config.json beside it: either an Error,
// or a tokenizer that encodes and decodes.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/error.h"
#include "formats/tokenizer/tokenizer.h"
#include "tests/fuzz/use_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  const size_t end = all.find('\0');
  const std::string_view config = end == all.npos ? "" : all.substr(end + 1);
  try {
    pith::fuzz::use_tokenizer(*pith::make_tiktoken_tokenizer(all.substr(0, end), config));
  } catch (const pith::Error&) {
  }
  return 0;
}
