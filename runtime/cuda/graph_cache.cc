#include "runtime/cuda/graph_cache.h"

#include <utility>

namespace pith {

Tensor GraphCache::run(const Key& key, FunctionRef<Tensor()> body) {
  Entry& entry = entries_[key];
  if (entry.graph && entry.addresses != context_.address_changes()) entry = {};
  if (!entry.graph) {
    if (std::exchange(entry.runs, entry.runs + 1) == 0 || entry.cannot)
      return run_plainly(&entry, body);
    record(&entry, body);
  }
  context_.device.launch(entry.graph);
  return entry.result;
}

Tensor GraphCache::run_plainly(Entry* entry, FunctionRef<Tensor()> body) {
  forbidden_ = false;
  context_.weights.uploaded_since_last();
  const uint64_t before = context_.address_changes();
  const Tensor result = body();
  entry->cannot = context_.weights.uploaded_since_last() || forbidden_ || inputs_.strayed();
  if (context_.address_changes() != before) entry->runs = 0;
  return result;
}

void GraphCache::record(Entry* entry, FunctionRef<Tensor()> body) {
  GpuDevice& device = context_.device;
  inputs_.use_uploaded([&] {
    device.begin_graph();
    try {
      entry->result = body();
    } catch (...) {
      device.end_graph();  // and forget it
      throw;
    }
    entry->graph = device.end_graph();
  });
  entry->addresses = context_.address_changes();
}

}  // namespace pith
