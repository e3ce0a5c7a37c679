// Mixtures of experts: the choice, and the sum of what the chosen make.
#include "runtime/cuda/device/device.h"
#include "runtime/cuda/kernels.h"

namespace pith::cuda {
namespace {

constexpr int kThreads = 256;

struct RouteRoom {
  double sums[32];
  float value[32], logit[kMostChosen];
  int32_t at[32], expert[kMostChosen];
};

// needs   chosen <= experts, kMostChosen                              (checked by the launcher)
// sums    in f64: over the chosen from the likeliest on, or over all by lanes
// grid    x: tokens; a warp
// bound   latency: chosen * experts / 32 comparisons
PITH_KERNEL route_kernel(Route a) {
  wait_for_previous();
  const int64_t t = block_x();
  const float* const logits = a.router + t * a.experts;
  auto& room = *reinterpret_cast<RouteRoom*>(shared_memory());
  const auto value = [&](int32_t e) { return logits[e] == logits[e] ? logits[e] : -INFINITY; };
  // Experts are in order by logit, then by number: each time the first behind the last one.
  float last = INFINITY;
  int32_t last_at = -1;
  for (int32_t i = 0; i < a.chosen; ++i) {
    float best = -INFINITY;
    int32_t at = a.experts;
    for (int32_t e = lane(); e < a.experts; e += 32) {
      const float v = value(e);
      const bool left = v < last || (v == last && e > last_at);
      if (!left || (at < a.experts && v <= best)) continue;
      best = v;
      at = e;
    }
    room.value[lane()] = best;
    room.at[lane()] = at;
    sync_warp();
    last_at = a.experts;
    for (int l = 0; l < 32; ++l) {
      if (room.at[l] == a.experts) continue;
      const bool first = last_at == a.experts || room.value[l] > last ||
                         (room.value[l] == last && room.at[l] < last_at);
      if (!first) continue;
      last = room.value[l];
      last_at = room.at[l];
    }
    if (lane() == 0) {
      room.logit[i] = last;
      room.expert[i] = last_at;
    }
    sync_warp();
  }
  const float top = room.logit[0];
  const auto weight = [&](float v) {
    return v == top ? 1.0 : exp(static_cast<double>(v) - static_cast<double>(top));
  };
  double sum = 0;
  if (a.normalized) {
    for (int32_t i = 0; i < a.chosen; ++i) sum += weight(room.logit[i]);
  } else {
    for (int32_t e = lane(); e < a.experts; e += 32) sum += weight(value(e));
    room.sums[lane()] = sum;
    sync_warp();
    sum = 0;
    for (int l = 0; l < 32; ++l) sum += room.sums[l];
  }
  for (int32_t i = lane(); i < a.chosen; i += 32) {
    int32_t place = 0;
    for (int32_t j = 0; j < a.chosen; ++j) place += room.expert[j] < room.expert[i];
    a.expert[t * a.chosen + place] = room.expert[i];
    a.weight[t * a.chosen + place] = static_cast<float>(weight(room.logit[i]) / sum);
  }
}

// needs   a thread's pairs follow each other, so that places keep their order
// grid    x: experts; a block reads all pairs
// bound   the L2 cache: 4 bytes a pair and expert
PITH_KERNEL sort_pairs_kernel(SortPairs a) {
  wait_for_previous();
  auto* const before = reinterpret_cast<int32_t*>(shared_memory());  // [threads]: of lower experts
  int32_t* const mine = before + kThreads;                           // [threads]: of this one
  const auto e = static_cast<int32_t>(block_x());
  const int64_t each = (a.pairs + kThreads - 1) / kThreads, begin = thread_index() * each,
                end = begin + each < a.pairs ? begin + each : a.pairs;
  int32_t lower = 0, equal = 0;
  for (int64_t i = begin; i < end; ++i) {
    lower += a.expert[i] < e;
    equal += a.expert[i] == e;
  }
  before[thread_index()] = lower;
  mine[thread_index()] = equal;
  sync_block();
  int32_t at = 0, all = 0;
  for (int i = 0; i < kThreads; ++i) {
    at += before[i];
    if (i < thread_index()) at += mine[i];
    all += before[i] + mine[i];
  }
  if (thread_index() == 0) {
    a.first[e] = at;
    if (e == a.experts - 1) a.first[a.experts] = all;
  }
  for (int64_t i = begin; i < end; ++i) {
    if (a.expert[i] != e) continue;
    a.place[i] = at;
    a.row[at++] = static_cast<int32_t>(i) / a.sharing;
  }
}

// grid  x: tokens
PITH_KERNEL join_experts_kernel(JoinExperts a) {
  wait_for_previous();
  const int64_t t = block_x();
  for (int64_t i = thread_index(); i < a.n; i += kThreads) {
    float sum = a.y[t * a.n + i];
    for (int64_t pair = t * a.chosen; pair < (t + 1) * a.chosen; ++pair)
      sum += a.weight[pair] * a.x[(a.place ? a.place[pair] : pair) * a.n + i];
    a.y[t * a.n + i] = sum;
  }
}

// grid  x: rows of x
PITH_KERNEL add_rows_kernel(AddRows a) {
  wait_for_previous();
  const float* const x = a.x + block_x() * a.n;
  float* const y = a.y + a.rows[block_x()] * a.n;
  for (int64_t i = thread_index(); i < a.n; i += kThreads) y[i] += a.weights[block_x()] * x[i];
}

}  // namespace

Status route(const Route& a, Stream stream) {
  if (a.chosen < 1 || a.chosen > a.experts || a.chosen > kMostChosen)
    return "route: a number of experts that it does not take";
  return launch(route_kernel, {a.m, 1, 1, 32, sizeof(RouteRoom), true}, stream, a);
}
Status sort_pairs(const SortPairs& a, Stream stream) {
  return launch(
      sort_pairs_kernel,
      {a.experts, 1, 1, kThreads, 2 * kThreads * static_cast<int64_t>(sizeof(int32_t)), true},
      stream, a);
}
Status join_experts(const JoinExperts& a, Stream stream) {
  return launch(join_experts_kernel, {a.m, 1, 1, kThreads, 0, true}, stream, a);
}
Status add_rows(const AddRows& a, Stream stream) {
  return launch(add_rows_kernel, {a.m, 1, 1, kThreads, 0, true}, stream, a);
}

}  // namespace pith::cuda
