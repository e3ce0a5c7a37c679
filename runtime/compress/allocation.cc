#include "runtime/compress/allocation.h"

#include <algorithm>
#include <utility>

#include "core/bytes.h"

namespace pith {
namespace {

uint64_t smallest(std::span<const AllocationOptions> parts) {
  uint64_t sum = 0;
  for (const auto& p : parts) sum += p.front().bytes;
  return sum;
}
uint64_t largest(std::span<const AllocationOptions> parts) {
  uint64_t sum = 0;
  for (const auto& p : parts) sum += p.back().bytes;
  return sum;
}
double cost_of(std::span<const AllocationOptions> parts, const Allocation& a) {
  double sum = 0;
  for (size_t i = 0; i < parts.size(); ++i) sum += parts[i][a.chosen[i]].cost;
  return sum;
}

}  // namespace

Allocation allocate_within_bytes(std::span<const AllocationOptions> parts, uint64_t budget) {
  Allocation out{std::vector<size_t>(parts.size()), false};
  const uint64_t least = smallest(parts), most = largest(parts);
  if (least > budget) return out;
  // cost[u]: the least of the parts so far with u units beyond their smallest options.
  constexpr size_t kUnits = 1 << 16;
  const uint64_t unit = (std::min(budget, most) - least) / kUnits + 1;
  const size_t units = (std::min(budget, most) - least) / unit;
  std::vector<double> cost(units + 1), next(units + 1);
  std::vector<std::vector<uint8_t>> taken(parts.size(), std::vector<uint8_t>(units + 1));
  const auto size = [&](const AllocationOptions& p, size_t option) {
    return static_cast<size_t>(ceil_div(p[option].bytes - p.front().bytes, unit));
  };
  for (size_t i = 0; i < parts.size(); ++i) {
    for (size_t option = 0; option < parts[i].size(); ++option) {
      const size_t by = size(parts[i], option);
      const double more = parts[i][option].cost;
      for (size_t u = by; u <= units; ++u) {
        if (option > 0 && !(cost[u - by] + more < next[u])) continue;
        next[u] = cost[u - by] + more;
        taken[i][u] = static_cast<uint8_t>(option);
      }
    }
    std::swap(cost, next);
  }
  size_t left = units;
  for (size_t i = parts.size(); i-- > 0;) {
    out.chosen[i] = taken[i][left];
    left -= size(parts[i], out.chosen[i]);
  }
  out.within = true;
  return out;
}

Allocation allocate_within_cost(std::span<const AllocationOptions> parts, double budget) {
  uint64_t low = smallest(parts), high = largest(parts);  // too few; enough
  Allocation out = allocate_within_bytes(parts, low);
  if (cost_of(parts, out) <= budget) return out;
  out = allocate_within_bytes(parts, high);
  out.within = cost_of(parts, out) <= budget;
  if (!out.within) return out;
  const uint64_t enough = (high - low) / 1000;
  while (high - low > enough + 1) {
    const uint64_t middle = low + (high - low) / 2;
    (cost_of(parts, allocate_within_bytes(parts, middle)) <= budget ? high : low) = middle;
  }
  return allocate_within_bytes(parts, high);
}

}  // namespace pith
