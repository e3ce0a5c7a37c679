// YAML of untrusted files, as settings are written in: one document of mappings, sequences and
// scalars, read by libyaml into a tree that knows where everything stood. Anchors, aliases, tags,
// keys that are not scalars or occur twice, and a second document are refused; so are more than
// 1 MiB, a depth beyond 32 and more than 100,000 nodes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pith {

struct YamlNode {
  enum class Kind { kScalar, kSequence, kMapping };
  Kind kind = Kind::kScalar;
  std::string text;             // of a scalar
  bool quoted = false;          // a scalar in quotes is a text, whatever it looks like
  int line = 0, column = 0;     // from 1
  std::vector<YamlNode> keys;   // of a mapping, as they come
  std::vector<YamlNode> items;  // values of a mapping, items of a sequence

  // A scalar that says nothing: "", ~, null.
  bool is_null() const;
  // The value of a key; null where it is missing.
  const YamlNode* find(std::string_view key) const;
};

constexpr size_t kMaxYamlBytes = size_t{1} << 20;

// Error(kUsage) "NAME:LINE:COLUMN: what is wrong".
YamlNode parse_yaml(std::string_view text, const std::string& name);

// Error(kUsage) at a node.
[[noreturn]] void fail_at(const YamlNode& node, const std::string& name, const std::string& what);

}  // namespace pith
