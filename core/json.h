// JSON of untrusted files, read as Python's json module reads it: of a key that occurs twice the
// last value counts, NaN, Infinity and -Infinity are numbers, integers beyond 64 bits become
// doubles, a lone surrogate becomes U+FFFD; a byte order mark at the start is skipped. All else
// that is not JSON is kCorrupt with its line and column: comments, trailing text or commas, NUL,
// bytes that are not UTF-8. So are too much depth and more than kMaxJsonValues values.
//
// Time is linear in the text but for the logarithm of the members of an object; memory is at most
// about 110 bytes a value beside the text of strings.
//
// Numbers keep their exact type, and the getters name the key and what was expected.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pith {

using Json = nlohmann::json;

// The tokenizer of Gemma 3, the largest in use, has 1.8 million.
inline constexpr size_t kMaxJsonValues = 4'000'000;

// `notes` receives a line for each of the first few keys that occur twice.
Json parse_json(std::string_view text, const std::string& name, int max_depth = 64,
                std::vector<std::string>* notes = nullptr);

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
