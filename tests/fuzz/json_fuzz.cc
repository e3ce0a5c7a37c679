// What parse_json accepts is JSON, has no NUL, and reads the same after it was written.

#include <cstdlib>
#include <string_view>

#include "core/error.h"
#include "core/json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const pith::Json j = pith::parse_json(text, "file");
    if (!pith::Json::accept(text) || text.find('\0') != text.npos) std::abort();
    if (pith::parse_json(j.dump(), "copy") != j) std::abort();
    for (const char* key : {"a", "hidden_size"}) {
      try {
        pith::json_uint(j, key, "file");
      } catch (const pith::Error&) {
      }
      try {
        pith::json_string(j, key, "file", "x");
      } catch (const pith::Error&) {
      }
    }
  } catch (const pith::Error&) {
  }
  return 0;
}
