#include "core/json.h"

#include <set>
#include <vector>

#include "core/error.h"

namespace pith {
namespace {

[[noreturn]] void wrong_type(const std::string& name, const char* key, const char* wanted,
                             const Json& got) {
  fail(ErrorKind::kCorrupt, "{}: \"{}\" should be {}, it is {}", name, key, wanted,
       got.type_name());
}

}  // namespace

Json parse_json(std::string_view text, const std::string& name, int max_depth) {
  // The parser would take it for the end of the text.
  if (const size_t nul = text.find('\0'); nul != text.npos) {
    fail(ErrorKind::kCorrupt, "{}: not valid JSON: NUL at byte {}", name, nul);
  }
  std::vector<std::set<std::string>> open_objects;
  const auto check = [&](int depth, Json::parse_event_t event, Json& parsed) {
    using Event = Json::parse_event_t;
    if (depth > max_depth)
      fail(ErrorKind::kCorrupt, "{}: JSON nested deeper than {}", name, max_depth);
    if (event == Event::object_start) open_objects.emplace_back();
    if (event == Event::object_end) open_objects.pop_back();
    if (event == Event::key && !open_objects.back().insert(parsed.get<std::string>()).second) {
      fail(ErrorKind::kCorrupt, "{}: duplicate key \"{}\"", name, parsed.get<std::string>());
    }
    return true;
  };
  try {
    return Json::parse(text, check);
  } catch (const Json::exception& e) {
    fail(ErrorKind::kCorrupt, "{}: not valid JSON: {}", name, e.what());
  }
}

const Json* json_find(const Json& j, const char* key) {
  if (!j.is_object()) return nullptr;
  const auto it = j.find(key);
  return it == j.end() || it->is_null() ? nullptr : &*it;
}

const Json& json_member(const Json& j, const char* key, const std::string& name) {
  if (const Json* found = json_find(j, key)) return *found;
  fail(ErrorKind::kCorrupt, "{}: \"{}\" is missing", name, key);
}

uint64_t json_uint(const Json& j, const char* key, const std::string& name,
                   std::optional<uint64_t> missing) {
  if (missing && json_find(j, key) == nullptr) return *missing;
  const Json& v = json_member(j, key, name);
  if (!v.is_number_unsigned()) wrong_type(name, key, "a non-negative integer", v);
  return v.get<uint64_t>();
}
double json_number(const Json& j, const char* key, const std::string& name,
                   std::optional<double> missing) {
  if (missing && json_find(j, key) == nullptr) return *missing;
  const Json& v = json_member(j, key, name);
  if (!v.is_number()) wrong_type(name, key, "a number", v);
  return v.get<double>();
}
bool json_bool(const Json& j, const char* key, const std::string& name,
               std::optional<bool> missing) {
  if (missing && json_find(j, key) == nullptr) return *missing;
  const Json& v = json_member(j, key, name);
  if (!v.is_boolean()) wrong_type(name, key, "true or false", v);
  return v.get<bool>();
}
std::string json_string(const Json& j, const char* key, const std::string& name,
                        std::optional<std::string> missing) {
  if (missing && json_find(j, key) == nullptr) return *missing;
  const Json& v = json_member(j, key, name);
  if (!v.is_string()) wrong_type(name, key, "a string", v);
  return v.get<std::string>();
}

}  // namespace pith
