// Patterns that say which linears a setting is about: a whole name ("layers.3.mlp.down"), a role
// ("down", "head"), with * and ?, or "re:" and a regular expression that is searched for. "lm_head"
// and "embed_tokens" mean head and embedding.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "runtime/model/spec.h"

namespace pith {

// Error(kCorrupt) or Error(kUnsupported) where the regular expression is none that is known.
bool matches_linear(const std::string& pattern, const LinearInfo& info);

// The same errors for all patterns of a setting.
template <class T>
void require_patterns(const std::vector<std::string>& ignore,
                      const std::vector<std::pair<std::string, T>>& overrides) {
  for (const auto& p : ignore) matches_linear(p, {});
  for (const auto& o : overrides) matches_linear(o.first, {});
}

}  // namespace pith
