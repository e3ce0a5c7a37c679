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

// grid  x: tokens
PITH_KERNEL join_experts_kernel(JoinExperts a) {
  wait_for_previous();
  const int64_t t = block_x();
  for (int64_t i = thread_index(); i < a.n; i += kThreads) {
    float sum = a.y[t * a.n + i];
    for (int32_t j = 0; j < a.chosen; ++j)
      sum += a.weight[t * a.chosen + j] * a.x[(t * a.chosen + j) * a.n + i];
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
Status join_experts(const JoinExperts& a, Stream stream) {
  return launch(join_experts_kernel, {a.m, 1, 1, kThreads, 0, true}, stream, a);
}
Status add_rows(const AddRows& a, Stream stream) {
  return launch(add_rows_kernel, {a.m, 1, 1, kThreads, 0, true}, stream, a);
}

}  // namespace pith::cuda
