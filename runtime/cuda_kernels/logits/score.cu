// Log-probabilities of target tokens, and KL divergence between rows of logits.
#include "runtime/cuda_kernels/device/device.cuh"
#include "runtime/cuda_kernels/launchers.h"
#include "runtime/cuda_kernels/refuse.h"

namespace pith::cuda {
namespace {

constexpr int kThreads = 256;

// Sums of a block in f64, always in the same order; every thread gets them.
PITH_DEVICE double block_sum(double v, double* workspace) {
  const int t = thread_index();
  sync_block();
  workspace[t] = v;
  for (int by = kThreads / 2; by > 0; by /= 2) {
    sync_block();
    if (t < by) workspace[t] += workspace[t + by];
  }
  sync_block();
  return workspace[0];
}

// grid    x: rows
// shared  a number and an index of each thread
// bound   bytes: a row is read twice, from the L2 cache the second time, and with a base that as
//         well; an exponential in f64 for each number of the base that is not small
PITH_KERNEL score_kernel(Score a) {
  double* const workspace = reinterpret_cast<double*>(shared_memory());
  float* const values = reinterpret_cast<float*>(workspace);
  int32_t* const places = reinterpret_cast<int32_t*>(workspace + kThreads);
  const int t = thread_index();
  const int64_t row = block_x();
  const float* const x = a.logits + row * a.n;
  int32_t place = t < a.n ? t : 0;
  for (int64_t i = t; i < a.n; i += kThreads)
    place = x[i] > x[place] ? static_cast<int32_t>(i) : place;
  values[t] = x[place];
  places[t] = place;
  for (int by = kThreads / 2; by > 0; by /= 2) {
    sync_block();
    if (t < by) {
      const float other = values[t + by];
      const int32_t there = places[t + by];
      if (other > values[t] || (other == values[t] && there < places[t])) {
        values[t] = other;
        places[t] = there;
      }
    }
  }
  sync_block();
  const float most = values[0];
  const int32_t top = places[0];
  double sum = 0;
  for (int64_t i = t; i < a.n; i += kThreads) {
    const float v = x[i] - most;
    sum += static_cast<double>(v != v ? v : exp_of(v));
  }
  const double log_sum = static_cast<double>(most) + log(block_sum(sum, workspace));
  double divergence = 0;
  if (a.base != nullptr) {
    const float* const p = a.base + row * a.n;
    const double base_sum = a.base_log_sums[row];
    for (int64_t i = t; i < a.n; i += kThreads) {
      const double lp = static_cast<double>(p[i]) - base_sum;
      if (lp < -40) continue;  // less than 1e-17 each
      divergence += exp(lp) * (lp - (static_cast<double>(x[i]) - log_sum));
    }
    divergence = block_sum(divergence, workspace);
  }
  if (t != 0) return;
  a.log_sum[row] = log_sum;
  a.divergence[row] = divergence < 0 ? 0 : divergence;  // NaN stays
  a.target[row] = x[a.targets[row]];
  a.top[row] = top;
}

// grid    x: chunks of kTopChunk numbers
// shared  a number of each thread
// bound   latency; an exponential in f64 a number
PITH_KERNEL mass_kernel(MassBehind a) {
  const int64_t begin = block_x() * kTopChunk;
  const int64_t end = begin + kTopChunk < a.n ? begin + kTopChunk : a.n;
  double sum = 0;
  for (int64_t i = begin + thread_index(); i < end; i += kThreads) {
    const float v = a.x[i];
    if (v < a.last || (v == a.last && i > a.last_at))
      sum += exp((static_cast<double>(v) - static_cast<double>(a.top)) / a.temperature);
  }
  sum = block_sum(sum, reinterpret_cast<double*>(shared_memory()));
  if (thread_index() == 0) a.sums[block_x()] = sum;
}

}  // namespace

Status mass_behind(const MassBehind& a, Stream stream) {
  return launch(mass_kernel,
                Grid{(a.n + kTopChunk - 1) / kTopChunk, 1, 1, kThreads,
                     kThreads * static_cast<int64_t>(sizeof(double))},
                stream, a);
}
Status score(const Score& a, Stream stream) {
  if (a.n < 1 || a.n > INT32_MAX) return refuse("score: %ld logits a row", a.n);
  return launch(
      score_kernel,
      Grid{a.m, 1, 1, kThreads, kThreads * static_cast<int64_t>(sizeof(double) + sizeof(int32_t))},
      stream, a);
}

}  // namespace pith::cuda
