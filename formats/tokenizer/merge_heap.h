// The merge loop that ranked and scored byte-pair encoding share.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

namespace pith {

struct BpeSymbol {
  int32_t id = -1;     // -1: not in the vocabulary
  uint32_t begin = 0;  // bytes in the word
  uint32_t size = 0;   // 0: merged into its left neighbour
  int32_t next = -1, previous = -1;
  bool frozen = false;
};

struct BpeMerge {
  double cost;  // the smallest goes first
  int32_t id;
};

// find(left, right) gives the merge of two neighbours, if there is one.
template <class Find>
void merge_symbols(std::vector<BpeSymbol>& symbols, const Find& find) {
  struct Candidate {
    double cost;
    int32_t left, right, id;
    uint32_t size;  // of both when it was found: how a stale entry is known
  };
  const auto later = [](const Candidate& a, const Candidate& b) {
    return a.cost != b.cost ? a.cost > b.cost : a.left > b.left;
  };
  std::vector<Candidate> heap;
  const auto consider = [&](int32_t left, int32_t right) {
    if (left < 0 || right < 0) return false;
    const BpeSymbol& l = symbols[static_cast<size_t>(left)];
    const BpeSymbol& r = symbols[static_cast<size_t>(right)];
    if (l.frozen || r.frozen) return false;
    const std::optional<BpeMerge> merge = find(l, r);
    if (merge) heap.push_back({merge->cost, left, right, merge->id, l.size + r.size});
    return merge.has_value();
  };
  for (size_t i = 0; i < symbols.size(); ++i) {
    symbols[i].previous = static_cast<int32_t>(i) - 1;
    symbols[i].next = i + 1 < symbols.size() ? static_cast<int32_t>(i) + 1 : -1;
    if (i > 0) consider(static_cast<int32_t>(i) - 1, static_cast<int32_t>(i));
  }
  std::make_heap(heap.begin(), heap.end(), later);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const Candidate top = heap.back();
    heap.pop_back();
    BpeSymbol& left = symbols[static_cast<size_t>(top.left)];
    BpeSymbol& right = symbols[static_cast<size_t>(top.right)];
    if (left.size == 0 || right.size == 0 || left.next != top.right ||
        left.size + right.size != top.size)
      continue;
    left.id = top.id;
    left.size = top.size;
    left.next = right.next;
    right.size = 0;
    if (right.next >= 0) symbols[static_cast<size_t>(right.next)].previous = top.left;
    if (consider(left.previous, top.left)) std::push_heap(heap.begin(), heap.end(), later);
    if (consider(top.left, left.next)) std::push_heap(heap.begin(), heap.end(), later);
  }
}

}  // namespace pith
