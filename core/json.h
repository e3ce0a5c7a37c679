// JSON of untrusted files: duplicate keys, too much depth and trailing text are kCorrupt, numbers
// keep their exact type, and the getters name the key and what was expected.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace pith {

using Json = nlohmann::json;

Json parse_json(std::string_view text, const std::string& name, int max_depth = 64);

// Member `key` of object j, converted exactly; Error(kCorrupt) where it is missing or of another
// type. The forms with a default take it where the key is missing or null.
const Json& json_member(const Json& j, const char* key, const std::string& name);
const Json* json_find(const Json& j, const char* key);  // nullptr where missing or null
uint64_t json_uint(const Json& j, const char* key, const std::string& name,
                   std::optional<uint64_t> missing = {});
double json_number(const Json& j, const char* key, const std::string& name,
                   std::optional<double> missing = {});
bool json_bool(const Json& j, const char* key, const std::string& name,
               std::optional<bool> missing = {});
std::string json_string(const Json& j, const char* key, const std::string& name,
                        std::optional<std::string> missing = {});

}  // namespace pith
