#include "lowrank/ranks.h"

#include <algorithm>

#include "core/bytes.h"
#include "core/error.h"
#include "runtime/compress/allocation.h"
#include "runtime/model/patterns.h"

namespace pith {

void check_ranks(const RankOverrides& overrides) {
  for (const auto& [pattern, rank] : overrides) {
    if (rank < 0) fail(ErrorKind::kUsage, "\"{}\": rank {}", pattern, rank);
  }
}

std::optional<int64_t> rank_by(const LinearInfo& info, const std::vector<std::string>& ignore,
                               const RankOverrides& overrides, FunctionRef<int64_t()> otherwise) {
  const auto matches = [&](const std::string& pattern) { return matches_linear(pattern, info); };
  if (info.layer < 0 || is_gate(info.role) || std::ranges::any_of(ignore, matches))
    return std::nullopt;
  const auto last = std::find_if(overrides.rbegin(), overrides.rend(),
                                 [&](const auto& o) { return matches(o.first); });
  const int64_t rank = last != overrides.rend() ? last->second : otherwise();
  return rank > 0 ? std::optional(rank) : std::nullopt;
}

int64_t rank_for_share(int64_t n, int64_t k, double share) {
  const auto rank = static_cast<int64_t>(share * static_cast<double>(n) * static_cast<double>(k) /
                                         static_cast<double>(n + k));
  return rank > kRankStep ? rank / kRankStep * kRankStep : std::max<int64_t>(rank, 1);
}

RankChoice choose_ranks(std::span<const RankCurve> curves, int64_t budget, int64_t step) {
  if (step < 1) fail(ErrorKind::kUsage, "ranks in steps of {}", step);
  constexpr int64_t kOptions = 255;  // of a linear, beside staying dense
  std::vector<AllocationOptions> parts;
  std::vector<std::vector<int64_t>> ranks;  // of the options
  int64_t least = 0;
  for (const RankCurve& c : curves) {
    auto& options = parts.emplace_back();
    auto& of_options = ranks.emplace_back();
    const int64_t most = std::min(std::ssize(c.squares), (c.n * c.k - 1) / (c.n + c.k));
    const int64_t by = step * std::max<int64_t>(1, ceil_div(most, step * kOptions));
    const double unit = c.norm > 0 ? c.weight / c.norm : 0;
    double left = c.norm;
    for (int64_t rank = 1; rank <= most; ++rank) {
      left -= c.squares[static_cast<size_t>(rank - 1)];
      if (rank % by != 0) continue;
      options.push_back({static_cast<uint64_t>(rank * (c.n + c.k)), unit * std::max(0.0, left)});
      of_options.push_back(rank);
    }
    options.push_back({static_cast<uint64_t>(c.n * c.k), 0});
    of_options.push_back(0);
    least += static_cast<int64_t>(options.front().bytes);
  }
  const Allocation best =
      allocate_within_bytes(parts, static_cast<uint64_t>(std::max<int64_t>(budget, 0)));
  if (!best.within) {
    fail(ErrorKind::kUsage, "a budget of {} parameters: these linears have at least {}", budget,
         least);
  }
  RankChoice out;
  for (size_t i = 0; i < curves.size(); ++i) {
    const size_t chosen = best.chosen[i];
    out.ranks.emplace_back(curves[i].name, ranks[i][chosen]);
    out.parameters += static_cast<int64_t>(parts[i][chosen].bytes);
    out.loss += parts[i][chosen].cost;
  }
  return out;
}

}  // namespace pith
