// A trie over byte strings in flat arrays: all prefixes of a text that are keys, in one walk.
// Immutable after construction. child() costs O(log of the node's fan-out).
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace pith {

class ByteTrie {
 public:
  static constexpr uint32_t kRoot = 0;
  static constexpr uint32_t kNone = UINT32_MAX;

  ByteTrie() : ByteTrie(std::vector<std::pair<std::string_view, int32_t>>{}) {}
  // Empty keys are left out; of equal keys the last one counts. Values are >= 0.
  explicit ByteTrie(std::vector<std::pair<std::string_view, int32_t>> keys);

  bool empty() const { return nodes_.size() == 1; }
  uint32_t child(uint32_t node, char byte) const;
  int32_t value(uint32_t node) const { return nodes_[node].value; }  // -1 where no key ends
  uint32_t walk(uint32_t node, std::string_view text) const;         // kNone where it leads nowhere
  // Longest key that is a prefix of text: its length (0: none) and value.
  std::pair<size_t, int32_t> longest(std::string_view text) const;

 private:
  struct Node {
    uint32_t first = 0;  // into edges; its children lie side by side, sorted by byte
    uint32_t count = 0;
    int32_t value = -1;
  };
  std::vector<Node> nodes_;           // child i of a node is nodes_[first + i]
  std::vector<unsigned char> bytes_;  // the byte that leads to a node
};

}  // namespace pith
