#include "quant/tcq_search.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "core/buffer.h"
#include "core/error.h"
#include "formats/encodings/tcq.h"
#include "quant/grid.h"

namespace pith {
namespace {

constexpr uint32_t kWindows = 1u << kTcqWindow;
constexpr int64_t kLine = 16;  // of the kernels
constexpr float kPruned = std::numeric_limits<float>::infinity();

// Values by what a window shares with the one before it, then by its new bits:
// [2^(16 - bits), 2^bits].
const std::vector<float>& values_of(int bits) {
  static const auto tables = [] {
    std::array<std::vector<float>, 5> all;
    for (uint32_t b = 2; b <= 4; ++b) {
      all[b].resize(kWindows);
      for (uint32_t w = 0; w < kWindows; ++w) {
        const uint32_t shared = w & ((kWindows >> b) - 1), fresh = w >> (kTcqWindow - b);
        all[b][shared << b | fresh] =
            static_cast<float>(tcq_code(static_cast<uint16_t>(w)) - kTcqZero);
      }
    }
    return all;
  }();
  return tables[static_cast<size_t>(bits)];
}

class Search {
 public:
  Search()
      : losses_(kMaxSurvivors),
        next_losses_(kMaxSurvivors),
        now_(kMaxSurvivors),
        errors_(kMaxSurvivors),
        candidates_(kMaxSurvivors * 16),
        targets_(kMaxSurvivors * kTcqColumns),
        next_targets_(kMaxSurvivors * kTcqColumns),
        windows_(kMaxSurvivors),
        next_windows_(kMaxSurvivors),
        rows_(kMaxSurvivors),
        chosen_(candidates_.size()),
        parents_(kMaxSurvivors * kTcqColumns),
        path_(kMaxSurvivors * kTcqColumns),
        stamps_(kWindows / 4),
        owners_(kWindows / 4) {}

  double run(const TcqSearch& job, int32_t window, uint16_t* windows) {
    job_ = &job;
    count_ = 1;
    losses_[0] = 0;
    lost_ = 0;
    width_ = 0;
    std::copy_n(job.target, job.columns, targets_.data());
    int64_t column = 0;
    if (window < 0) {
      begin();
      ++column;
    } else {
      windows_[0] = static_cast<uint16_t>(window);
    }
    for (; column < job.columns; ++column) step(column);
    return trace(windows);
  }

 private:
  static constexpr int64_t kFirst = 4096;  // windows that a row may begin with
  static_assert(kFirst == kMaxSurvivors * 16);

  static float value(uint16_t window) { return static_cast<float>(tcq_code(window) - kTcqZero); }

  // The first column of a row: windows spread over all of them.
  void begin() {
    const auto first = [](int64_t i) { return static_cast<uint16_t>(i * 40503); };
    const float s = job_->scale[0], d = job_->cost[0], t = job_->target[0];
    for (int64_t i = 0; i < kFirst; ++i) {
      const float miss = t - s * value(first(i));
      candidates_[i] = d * (miss * miss);
    }
    live_ = kFirst;
    keep(0, kFirst, [&](int64_t i) { return std::pair{int64_t{0}, first(i)}; });
  }

  void step(int64_t column) {
    const int bits = job_->bits;
    merge();
    for (int64_t p = 0; p < count_; ++p) {
      rows_[static_cast<size_t>(p)] =
          static_cast<uint16_t>(windows_[static_cast<size_t>(p)] >> bits);
      now_[p] =
          job_->feedback != nullptr ? targets_[p * kTcqColumns + column] : job_->target[column];
    }
    kernels_.branch({bits, count_, losses_.data(), now_.data(), rows_.data(),
                     values_of(bits).data(), job_->scale[column], job_->cost[column],
                     candidates_.data()});
    const int64_t fresh = (int64_t{1} << bits) - 1;
    keep(column, count_ << bits, [&](int64_t i) {
      const int64_t p = i >> bits;
      return std::pair{p, static_cast<uint16_t>(rows_[static_cast<size_t>(p)] |
                                                (i & fresh) << (kTcqWindow - bits))};
    });
  }

  // Paths with the same windows from here on: only the best of them goes on.
  void merge() {
    ++stamp_;
    live_ = 0;
    for (int64_t p = 0; p < count_; ++p) {
      const auto shared = static_cast<size_t>(windows_[static_cast<size_t>(p)] >> job_->bits);
      int64_t& owner = owners_[shared];
      if (stamps_[shared] != stamp_) {
        live_ += 1 << job_->bits;
      } else if (losses_[owner] <= losses_[p]) {
        losses_[p] = kPruned;
        continue;
      } else {
        losses_[owner] = kPruned;
      }
      stamps_[shared] = stamp_;
      owner = p;
    }
  }

  // A loss that at most `survivors` of the candidates do not exceed, and not many fewer. Looked for
  // from the one of the column before on.
  float limit(int64_t column, int64_t count, float best) {
    const int64_t most = job_->survivors, enough = most - most / 8;
    const float s = job_->scale[column], unit = job_->cost[column] * s * s * 64;
    float low = best, high = kPruned, guess = best + (width_ > 0 ? width_ : unit);
    if (!(guess > best)) guess = std::nextafter(best, kPruned);
    for (int i = 0; i < 40; ++i) {
      const int64_t n = kernels_.count_within(candidates_.data(), count, guess);
      if (n > most) {
        high = guess;
      } else {
        low = guess;
        if (n >= enough || n == live_) break;
      }
      const float next = high < kPruned ? low + (high - low) / 2 : best + 2 * (guess - best);
      if (!(next > low && next < high)) break;
      guess = next;
    }
    width_ = low - best;
    return low;
  }

  // candidate(i): the path that candidate i continues, and its window.
  template <class F>
  void keep(int64_t column, int64_t count, F candidate) {
    for (; count % kLine != 0; ++count) candidates_[count] = kPruned;
    const float best = kernels_.least(candidates_.data(), count);
    if (!(best < kPruned)) fail(ErrorKind::kNumeric, "trellis codes: what they lose is not finite");
    const float most = limit(column, count, best);
    lost_ += static_cast<double>(best);
    // Equal losses can be more than asked for.
    count_ = std::min<int64_t>(
        kernels_.select_within(candidates_.data(), count, most, chosen_.data()), job_->survivors);
    const float s = job_->scale[column], w = job_->original[column];
    uint8_t* const parents = parents_.data() + column * kMaxSurvivors;
    uint16_t* const path = path_.data() + column * kMaxSurvivors;
    for (int64_t kept = 0; kept < count_; ++kept) {
      const int64_t i = chosen_[static_cast<size_t>(kept)];
      const auto [parent, window] = candidate(i);
      next_windows_[static_cast<size_t>(kept)] = path[kept] = window;
      next_losses_[kept] = candidates_[i] - best;
      parents[kept] = static_cast<uint8_t>(parent);
      errors_[kept] = w - s * value(window);
    }
    std::swap(windows_, next_windows_);
    std::swap(losses_, next_losses_);
    if (job_->feedback == nullptr) return;
    kernels_.advance({count_, column / kLine * kLine, kTcqColumns, targets_.data(), parents,
                      errors_.data(), job_->feedback + column * kTcqColumns, next_targets_.data()});
    std::swap(targets_, next_targets_);
  }

  double trace(uint16_t* windows) const {
    int64_t p = std::min_element(losses_.data(), losses_.data() + count_) - losses_.data();
    const double lost = lost_ + static_cast<double>(losses_[p]);
    for (int64_t c = job_->columns; c-- > 0;) {
      const auto at = static_cast<size_t>(c * kMaxSurvivors + p);
      windows[c] = path_[at];
      p = parents_[at];
    }
    return lost;
  }

  const GridKernels& kernels_ = grid_kernels();
  const TcqSearch* job_ = nullptr;
  int64_t count_ = 0;  // of paths
  int64_t live_ = 0;   // candidates that are not pruned
  double lost_ = 0;    // of the best path; losses_ are beyond it
  float width_ = 0;    // of the losses that were kept
  Buffer<float> losses_, next_losses_, now_, errors_, candidates_;
  Buffer<float> targets_, next_targets_;  // [paths, kTcqColumns]
  std::vector<uint16_t> windows_, next_windows_, rows_, chosen_;
  std::vector<uint8_t> parents_;  // [columns, paths]
  std::vector<uint16_t> path_;
  std::vector<uint64_t> stamps_;
  std::vector<int64_t> owners_;
  uint64_t stamp_ = 0;
};

}  // namespace

double search_windows(const TcqSearch& job, int32_t window, uint16_t* windows) {
  thread_local Search search;
  return search.run(job, window, windows);
}

void search_windows_of_row(int bits, int survivors, int64_t k, const float* x, const float* scale,
                           const float* cost, uint16_t* windows) {
  uint16_t found[kTcqColumns];
  int32_t window = -1;
  for (int64_t i = 0; i < k; i += kTcqPiece) {
    const int64_t columns = std::min(kTcqColumns, k - i), done = std::min(kTcqPiece, k - i);
    search_windows({.bits = bits,
                    .columns = columns,
                    .original = x + i,
                    .target = x + i,
                    .scale = scale + i,
                    .cost = cost + i,
                    .survivors = survivors},
                   window, found);
    std::copy_n(found, done, windows + i);
    window = found[done - 1];
  }
}

}  // namespace pith
