#include "formats/tokenizer/byte_trie.h"

#include <algorithm>
#include <deque>

namespace pith {

// Level by level: a node is a range of the sorted keys that share a prefix.
ByteTrie::ByteTrie(std::vector<std::pair<std::string_view, int32_t>> keys) {
  std::stable_sort(keys.begin(), keys.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  struct Range {
    uint32_t node;
    size_t begin, end, depth;
  };
  nodes_.emplace_back();
  bytes_.push_back(0);
  std::deque<Range> open{{kRoot, 0, keys.size(), 0}};
  while (!open.empty()) {
    Range r = open.front();
    open.pop_front();
    for (; r.begin < r.end && keys[r.begin].first.size() == r.depth; ++r.begin) {
      if (r.depth > 0) nodes_[r.node].value = keys[r.begin].second;
    }
    nodes_[r.node].first = static_cast<uint32_t>(nodes_.size());
    while (r.begin < r.end) {
      const char byte = keys[r.begin].first[r.depth];
      size_t end = r.begin + 1;
      while (end < r.end && keys[end].first[r.depth] == byte) ++end;
      open.push_back({static_cast<uint32_t>(nodes_.size()), r.begin, end, r.depth + 1});
      nodes_.emplace_back();
      bytes_.push_back(static_cast<unsigned char>(byte));
      ++nodes_[r.node].count;
      r.begin = end;
    }
  }
}

uint32_t ByteTrie::child(uint32_t node, char byte) const {
  const Node& n = nodes_[node];
  const auto begin = bytes_.begin() + n.first, end = begin + n.count;
  const auto found = std::lower_bound(begin, end, static_cast<unsigned char>(byte));
  if (found == end || *found != static_cast<unsigned char>(byte)) return kNone;
  return static_cast<uint32_t>(found - bytes_.begin());
}

uint32_t ByteTrie::walk(uint32_t node, std::string_view text) const {
  for (const char c : text) {
    node = child(node, c);
    if (node == kNone) break;
  }
  return node;
}

std::pair<size_t, int32_t> ByteTrie::longest(std::string_view text) const {
  std::pair<size_t, int32_t> best{0, -1};
  uint32_t node = kRoot;
  for (size_t i = 0; i < text.size(); ++i) {
    node = child(node, text[i]);
    if (node == kNone) break;
    if (value(node) >= 0) best = {i + 1, value(node)};
  }
  return best;
}

}  // namespace pith
