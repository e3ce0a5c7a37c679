// parse_json reads everything that nlohmann's parser accepts alike, within its bounds; everything
// that parse_json accepts reads the same after it was written.

#include <cstdlib>
#include <string_view>

#include "core/error.h"
#include "core/json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const pith::Json j = pith::parse_json(text, "file");
    const bool standard = pith::Json::accept(text);
    if (standard && pith::Json::parse(text) != j) std::abort();
    // NaN and infinities are written as null.
    const std::string written = j.dump();
    if (pith::parse_json(written, "copy").dump() != written) std::abort();
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
  } catch (const pith::Error& e) {
    const bool bounded = std::string_view(e.what()).find("nested deeper") != std::string_view::npos;
    // NUL is the end of the text to nlohmann's parser.
    if (!bounded && text.find('\0') == text.npos && pith::Json::accept(text)) std::abort();
  }
  return 0;
}
