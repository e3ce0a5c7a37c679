// CUDA graphs of passes, by shape. The first pass of a shape runs as it is, so that all memory is
// there; the second is recorded; from then on one launch does all.
#pragma once

#include <compare>
#include <map>

#include "core/function_ref.h"
#include "runtime/cuda/step_inputs.h"

namespace pith {

class GraphCache {
 public:
  struct Key {
    uint64_t cache;  // its id
    size_t tokens, rows;
    int64_t chunks;
    auto operator<=>(const Key&) const = default;
  };

  GraphCache(GpuContext& context, StepInputs& inputs) : context_(context), inputs_(inputs) {}

  // body(), a pass of this shape whose inputs were uploaded, or its graph.
  Tensor run(const Key& key, FunctionRef<Tensor()> body);
  // What the current pass does depends on more than its shape: the host waited for a result.
  void forbid() { forbidden_ = true; }

 private:
  struct Entry {
    GpuGraph graph;
    Tensor result;
    uint64_t addresses = 0;  // GpuContext::address_changes() when it was recorded
    int runs = 0;
    bool cannot = false;
  };
  Tensor run_plainly(Entry* entry, FunctionRef<Tensor()> body);
  void record(Entry* entry, FunctionRef<Tensor()> body);

  GpuContext& context_;
  StepInputs& inputs_;
  std::map<Key, Entry> entries_;
  bool forbidden_ = false;
};

}  // namespace pith
