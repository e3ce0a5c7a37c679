#include "runtime/forward/kv_types.h"

#include <optional>

#include "core/error.h"

namespace pith {
namespace {

constexpr const char* kNames[] = {"f32", "f16", "bf16", "int8", "fp8", "int4"};

std::optional<KvType> type_named(std::string_view name) {
  for (size_t i = 0; i < std::size(kNames); ++i) {
    if (name == kNames[i]) return static_cast<KvType>(i);
  }
  return {};
}

}  // namespace

const char* kv_type_name(KvType type) { return kNames[static_cast<size_t>(type)]; }

std::string to_string(const KvTypes& types) {
  if (types.keys == types.values) return kv_type_name(types.keys);
  return fmt::format("k:{},v:{}", kv_type_name(types.keys), kv_type_name(types.values));
}

KvTypes parse_kv_types(std::string_view text, KvTypes otherwise) {
  const auto refuse = [&] {
    fail(ErrorKind::kUsage,
         "cache type \"{}\": f32, f16, bf16, int8, fp8 or int4, for both or as k:TYPE,v:TYPE",
         text);
  };
  if (const auto both = type_named(text)) return *both;
  std::optional<KvType> keys, values;
  for (std::string_view rest = text;;) {
    const size_t comma = rest.find(',');
    const std::string_view part = rest.substr(0, comma);
    auto& to = part.starts_with("k:") ? keys : values;
    if (to || !(part.starts_with("k:") || part.starts_with("v:"))) refuse();
    to = type_named(part.substr(2));
    if (!to) refuse();
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
  }
  return {keys.value_or(otherwise.keys), values.value_or(otherwise.values)};
}

}  // namespace pith
