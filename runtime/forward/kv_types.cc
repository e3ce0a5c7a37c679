#include "runtime/forward/kv_types.h"

#include <optional>

#include "core/error.h"

namespace pith {
namespace {

struct Name {
  NumberFormat type;
  const char* name;
};
constexpr Name kNames[] = {{NumberFormat::kF32, "f32"},   {NumberFormat::kF16, "f16"},
                           {NumberFormat::kBF16, "bf16"}, {NumberFormat::kInt8, "int8"},
                           {NumberFormat::kE4M3, "fp8"},  {NumberFormat::kInt4, "int4"}};

std::optional<NumberFormat> type_named(std::string_view name) {
  for (const Name& n : kNames) {
    if (name == n.name) return n.type;
  }
  return {};
}

}  // namespace

const char* kv_type_name(NumberFormat type) {
  for (const Name& n : kNames) {
    if (type == n.type) return n.name;
  }
  fail(ErrorKind::kUsage, "no KV cache is stored in number format {}", static_cast<int>(type));
}

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
  std::optional<NumberFormat> keys, values;
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
