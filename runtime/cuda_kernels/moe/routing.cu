// MoE: the router's top-k, sorting of pairs by expert, and the weighted sum of expert outputs.
#include "runtime/cuda_kernels/device/device.cuh"
#include "runtime/cuda_kernels/launchers.h"
#include "runtime/cuda_kernels/refuse.h"

namespace pith::cuda {
namespace {

constexpr int kThreads = 256;

// And behind it, a score for each expert and each group.
struct RouteWorkspace {
  double sums[32];
  float value[32], logit[kMaxChosen];
  int32_t at[32], expert[kMaxChosen];
};

PITH_DEVICE double sigmoid(float x) { return 1 / (1 + exp(-static_cast<double>(x))); }

// Takes the experts of all but the best groups out of the choice.
PITH_DEVICE void keep_best_groups(const Route& a, float* scores) {
  float* const best = scores + a.experts;
  const int32_t size = a.experts / a.groups;
  for (int32_t g = lane(); g < a.groups; g += 32) {
    float first = -INFINITY, second = -INFINITY;
    for (int32_t e = g * size; e < (g + 1) * size; ++e) {
      second = fmaxf(second, fminf(first, scores[e]));
      first = fmaxf(first, scores[e]);
    }
    best[g] = a.sigmoid && size > 1 ? first + second : first;
  }
  sync_warp();
  for (int32_t g = lane(); g < a.groups; g += 32) {
    int32_t better = 0;
    for (int32_t o = 0; o < a.groups; ++o)
      better += best[o] > best[g] || (best[o] == best[g] && o < g);
    for (int32_t e = g * size; better >= a.chosen_groups && e < (g + 1) * size; ++e)
      scores[e] = -INFINITY;
  }
  sync_warp();
}

// needs   chosen <= experts, kMaxChosen; experts in groups alike     (checked by the launcher)
// sums    in f64: over the chosen from the likeliest on, or over all by lanes
// grid    x: tokens; a warp
// bound   latency: chosen * experts / 32 comparisons
PITH_KERNEL route_kernel(Route a) {
  wait_for_previous();
  const int64_t t = block_x();
  const float* const logits = a.router + t * a.experts;
  auto& workspace = *reinterpret_cast<RouteWorkspace*>(shared_memory());
  auto* const scores = reinterpret_cast<float*>(shared_memory() + sizeof(RouteWorkspace));
  const auto logit = [&](int32_t e) { return logits[e] == logits[e] ? logits[e] : -INFINITY; };
  float top = -INFINITY;
  for (int32_t e = lane(); e < a.experts; e += 32) {
    const float v = logit(e);
    top = fmaxf(top, v);
    scores[e] = a.sigmoid ? static_cast<float>(sigmoid(v)) : v;
    if (a.bias != nullptr) scores[e] += a.bias[e];
  }
  top = warp_reduce(top, [](float x, float y) { return fmaxf(x, y); });
  sync_warp();
  if (a.groups > 0) keep_best_groups(a, scores);
  // Experts are in order by score, then by number: each time the first behind the last one.
  float last = INFINITY;
  int32_t last_at = -1;
  for (int32_t i = 0; i < a.chosen; ++i) {
    float best = -INFINITY;
    int32_t at = a.experts;
    for (int32_t e = lane(); e < a.experts; e += 32) {
      const float v = scores[e];
      const bool left = v < last || (v == last && e > last_at);
      if (!left || (at < a.experts && v <= best)) continue;
      best = v;
      at = e;
    }
    workspace.value[lane()] = best;
    workspace.at[lane()] = at;
    sync_warp();
    last_at = a.experts;
    for (int l = 0; l < 32; ++l) {
      if (workspace.at[l] == a.experts) continue;
      const bool first = last_at == a.experts || workspace.value[l] > last ||
                         (workspace.value[l] == last && workspace.at[l] < last_at);
      if (!first) continue;
      last = workspace.value[l];
      last_at = workspace.at[l];
    }
    if (lane() == 0) {
      workspace.logit[i] = logit(last_at);
      workspace.expert[i] = last_at;
    }
    sync_warp();
  }
  const auto weight = [&](float v) {
    if (a.sigmoid) return sigmoid(v);
    return v == top ? 1.0 : exp(static_cast<double>(v) - static_cast<double>(top));
  };
  double sum = 0;
  if (a.normalized) {
    for (int32_t i = 0; i < a.chosen; ++i) sum += weight(workspace.logit[i]);
  } else {
    for (int32_t e = lane(); e < a.experts; e += 32) sum += weight(logit(e));
    workspace.sums[lane()] = sum;
    sync_warp();
    sum = 0;
    for (int l = 0; l < 32; ++l) sum += workspace.sums[l];
  }
  // Sigmoids may all be 0.
  if (a.sigmoid) sum = a.normalized ? sum + 1e-20 : 1.0;
  for (int32_t i = lane(); i < a.chosen; i += 32) {
    int32_t place = 0;
    for (int32_t j = 0; j < a.chosen; ++j) place += workspace.expert[j] < workspace.expert[i];
    a.expert[t * a.chosen + place] = workspace.expert[i];
    a.weight[t * a.chosen + place] = static_cast<float>(weight(workspace.logit[i]) / sum * a.scale);
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
PITH_KERNEL combine_experts_kernel(CombineExperts a) {
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
  const int64_t row = a.rows[block_x()];
  const float weight = a.weights[row * a.ldw];
  float* const y = a.y + row * a.n;
  for (int64_t i = thread_index(); i < a.n; i += kThreads) y[i] += weight * x[i];
}

// grid  x: tokens
PITH_KERNEL add_gated_kernel(AddGated a) {
  wait_for_previous();
  const float by = 1.0f / (1.0f + exp_of(-a.gate[block_x()]));
  for (int64_t i = block_x() * a.n + thread_index(); i < (block_x() + 1) * a.n; i += kThreads)
    a.y[i] += by * a.x[i];
}

// grid  x: rows
PITH_KERNEL copy_columns_kernel(CopyColumns a) {
  wait_for_previous();
  for (int64_t i = thread_index(); i < a.n; i += block_threads())
    a.y[block_x() * a.ldy + i] = a.x[block_x() * a.ldx + i];
}

}  // namespace

Status route(const Route& a, Stream stream) {
  if (a.chosen < 1 || a.chosen > a.experts || a.chosen > kMaxChosen)
    return refuse("route: %ld of %ld experts, it takes %ld", a.chosen, a.experts, kMaxChosen);
  if (a.groups < 0 || (a.groups > 0 && a.experts % a.groups != 0))
    return refuse("route: %ld experts in %ld groups", a.experts, a.groups);
  const auto scores = static_cast<int64_t>(sizeof(float)) * (a.experts + a.groups);
  return launch(route_kernel,
                {a.m, 1, 1, 32, static_cast<int64_t>(sizeof(RouteWorkspace)) + scores, true},
                stream, a);
}
Status sort_pairs(const SortPairs& a, Stream stream) {
  return launch(
      sort_pairs_kernel,
      {a.experts, 1, 1, kThreads, 2 * kThreads * static_cast<int64_t>(sizeof(int32_t)), true},
      stream, a);
}
Status combine_experts(const CombineExperts& a, Stream stream) {
  return launch(combine_experts_kernel, {a.m, 1, 1, kThreads, 0, true}, stream, a);
}
Status add_rows(const AddRows& a, Stream stream) {
  return launch(add_rows_kernel, {a.m, 1, 1, kThreads, 0, true}, stream, a);
}

Status add_gated(const AddGated& a, Stream stream) {
  return launch(add_gated_kernel, {a.m, 1, 1, kThreads, 0, true}, stream, a);
}
Status copy_columns(const CopyColumns& a, Stream stream) {
  return launch(copy_columns_kernel, {a.m, 1, 1, a.n < kThreads ? 64 : kThreads, 0, true}, stream,
                a);
}

}  // namespace pith::cuda
