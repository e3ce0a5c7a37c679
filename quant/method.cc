#include "quant/method.h"

#include <string>

#include "core/error.h"

namespace pith {
namespace {

// A new method is a row here and a file beside this one.
constexpr Method kTable[] = {
    {"minmax", "plain rounding onto the range of each group: the baseline", false, encode_minmax},
    {"rtn", "rounding with a search for the scale and zero point of each group", true, encode_rtn},
};

}  // namespace

std::span<const Method> methods() { return kTable; }

const Method& find_method(std::string_view name) {
  std::string known;
  for (const auto& m : kTable) {
    if (name == m.name) return m;
    known += std::string(known.empty() ? "" : ", ") + m.name;
  }
  fail(ErrorKind::kUsage, "unknown method \"{}\": {}", name, known);
}

}  // namespace pith
