#include "runtime/model/patterns.h"

#include <fnmatch.h>

#include "core/regex/regex.h"

namespace pith {

bool matches_linear(const std::string& pattern, const LinearInfo& info) {
  if (pattern.starts_with("re:")) {
    bool found = false;
    Regex(pattern.substr(3), "pattern").for_each_match(info.name, [&](size_t, size_t) {
      found = true;
    });
    return found;
  }
  if (pattern == "lm_head") return info.role == LinearRole::kHead;
  if (pattern == "embed_tokens") return info.role == LinearRole::kEmbedding;
  return pattern == role_name(info.role) || ::fnmatch(pattern.c_str(), info.name.c_str(), 0) == 0;
}

}  // namespace pith
