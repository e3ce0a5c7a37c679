#include "formats/encodings/tcq.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/buffer.h"
#include "core/bytes.h"
#include "core/error.h"

namespace pith {
namespace {

constexpr uint32_t kWindows = 1u << kTcqWindow;

// Values by what a window shares with the one before it, then by its new bits: [2^(16 - bits), 2^bits].
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

constexpr float kDead = std::numeric_limits<float>::infinity();

class Search {
 public:
  double run(const TcqSearch& job, int32_t window, uint16_t* windows) {
    job_ = &job;
    require();
    count_ = 1;
    losses_[0] = 0;
    lost_ = 0;
    if (job.feedback != nullptr) std::copy_n(job.target, job.columns, targets_.data());
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
  static constexpr uint32_t kFirst = 4096;  // windows that a row may begin with
  static constexpr size_t kSurvivors = kTcqSurvivors;

  void require() {
    stamps_.resize(kWindows / 4);
    owners_.resize(kWindows / 4);
    for (auto* v : {&losses_, &next_losses_}) v->resize(kSurvivors);
    for (auto* v : {&windows_, &next_windows_}) v->resize(kSurvivors);
    candidates_.resize(std::max<size_t>(kSurvivors * 16, kFirst) + kLine);
    chosen_.resize(candidates_.size());
    width_ = 0;
    parents_.resize(kSurvivors * kTcqColumns);
    path_.resize(kSurvivors * kTcqColumns);
    if (job_->feedback == nullptr) return;
    targets_.require(kTcqSurvivors * kTcqColumns);
    next_targets_.require(kTcqSurvivors * kTcqColumns);
  }

  float target(size_t survivor, int64_t column) const {
    return job_->feedback != nullptr
               ? targets_[static_cast<int64_t>(survivor) * job_->columns + column]
               : job_->target[column];
  }
  float cost(int64_t column) const { return job_->cost != nullptr ? job_->cost[column] : 1; }
  static float value(uint16_t window) { return static_cast<float>(tcq_code(window) - kTcqZero); }

  // The first column of a row: windows spread over all of them.
  void begin() {
    const auto first = [](size_t i) { return static_cast<uint16_t>(i * 40503); };
    const float s = job_->scale[0], d = cost(0);
    for (size_t i = 0; i < kFirst; ++i) {
      const float miss = target(0, 0) - s * value(first(i));
      candidates_[i] = d * miss * miss;
    }
    alive_ = kFirst;
    keep(0, kFirst, [&](size_t i) { return std::pair{size_t{0}, first(i)}; });
  }

  void step(int64_t column) {
    const int bits = job_->bits;
    const auto& values = values_of(bits);
    merge();
    const float s = job_->scale[column], d = cost(column);
    const size_t branches = size_t{1} << bits;
    for (size_t p = 0; p < count_; ++p) {
      const float* const v = values.data() + (size_t{windows_[p]} >> bits << bits);
      const float t = target(p, column), before = losses_[p];
      float* const to = candidates_.data() + p * branches;
      for (size_t b = 0; b < branches; ++b) {
        const float miss = t - s * v[b];
        to[b] = before + d * miss * miss;
      }
    }
    keep(column, count_ * branches, [&](size_t i) {
      const size_t p = i >> bits, fresh = i & (branches - 1);
      return std::pair{p,
                       static_cast<uint16_t>(windows_[p] >> bits | fresh << (kTcqWindow - bits))};
    });
  }

  // Survivors with the same windows from here on: only the best of them goes on.
  void merge() {
    ++stamp_;
    alive_ = 0;
    for (size_t p = 0; p < count_; ++p) {
      const size_t shared = windows_[p] >> job_->bits;
      if (stamps_[shared] == stamp_ && losses_[owners_[shared]] <= losses_[p]) {
        losses_[p] = kDead;
        continue;
      }
      if (stamps_[shared] == stamp_) {
        losses_[owners_[shared]] = kDead;
      } else {
        alive_ += 1 << job_->bits;
      }
      stamps_[shared] = stamp_;
      owners_[shared] = static_cast<uint32_t>(p);
    }
  }

  // Candidates are in whole lines of 16, the last filled with kDead.
  static constexpr size_t kLine = 16;
  void fill_line(size_t count) {
    for (; count % kLine != 0; ++count) candidates_[count] = kDead;
  }
  float least(size_t count) const {
    float lanes[kLine];
    std::fill_n(lanes, kLine, kDead);
    for (size_t c = 0; c < count; c += kLine) {
      for (size_t i = 0; i < kLine; ++i)
        lanes[i] = candidates_[c + i] < lanes[i] ? candidates_[c + i] : lanes[i];
    }
    return *std::min_element(lanes, lanes + kLine);
  }
  int32_t within(size_t count, float loss) const {
    int32_t lanes[kLine] = {};
    for (size_t c = 0; c < count; c += kLine) {
      for (size_t i = 0; i < kLine; ++i) lanes[i] += candidates_[c + i] <= loss ? 1 : 0;
    }
    int32_t sum = 0;
    for (const int32_t l : lanes) sum += l;
    return sum;
  }

  // A loss that at most `survivors` of the candidates do not exceed, and not many fewer. Looked for
  // from the one of the column before on.
  float limit(size_t count, float best) {
    const int32_t most = job_->survivors, enough = most - most / 8;
    float low = best, high = kDead, guess = best + (width_ > 0 ? width_ : 1);
    for (int i = 0; i < 40; ++i) {
      const int32_t n = within(count, guess);
      if (n > most) {
        high = guess;
      } else {
        low = guess;
        if (n >= enough || n == alive_) break;
      }
      const float next = high < kDead ? low + (high - low) / 2 : best + 2 * (guess - best);
      if (!(next > low && next < high)) break;
      guess = next;
    }
    width_ = low - best;
    return low;
  }

  template <class F>
  void keep(int64_t column, size_t count, F candidate) {
    fill_line(count);
    const float best = least(count);
    const float most = limit(count, best);
    lost_ += static_cast<double>(best);
    size_t chosen = 0;
    for (size_t i = 0; i < count; ++i) {
      chosen_[chosen] = static_cast<uint16_t>(i);
      chosen += candidates_[i] <= most ? 1 : 0;
    }
    count_ = std::min(chosen, static_cast<size_t>(job_->survivors));
    const int64_t columns = job_->columns;
    const float s = job_->scale[column];
    for (size_t kept = 0; kept < count_; ++kept) {
      const auto [parent, window] = candidate(chosen_[kept]);
      next_windows_[kept] = window;
      next_losses_[kept] = candidates_[chosen_[kept]] - best;
      const size_t at = static_cast<size_t>(column) * kSurvivors + kept;
      parents_[at] = static_cast<uint8_t>(parent);
      path_[at] = window;
      if (job_->feedback == nullptr) continue;
      const float error = job_->original[column] - s * value(window);
      const float* const u = job_->feedback + column * job_->stride;
      const float* const from = targets_.data() + static_cast<int64_t>(parent) * columns;
      float* const to = next_targets_.data() + static_cast<int64_t>(kept) * columns;
      for (int64_t j = column + 1; j < columns; ++j) to[j] = from[j] + error * u[j];
    }
    std::swap(windows_, next_windows_);
    std::swap(losses_, next_losses_);
    std::swap(targets_, next_targets_);
  }

  double trace(uint16_t* windows) const {
    const auto end = losses_.begin() + static_cast<int64_t>(count_);
    const auto best = std::min_element(losses_.begin(), end);
    auto p = static_cast<size_t>(best - losses_.begin());
    for (auto c = static_cast<size_t>(job_->columns); c-- > 0;) {
      windows[c] = path_[c * kSurvivors + p];
      p = parents_[c * kSurvivors + p];
    }
    return lost_ + static_cast<double>(*best);
  }

  const TcqSearch* job_ = nullptr;
  size_t count_ = 0;
  double lost_ = 0;  // of the best survivor; losses_ are beyond it
  std::vector<float> losses_, next_losses_, candidates_;
  std::vector<uint16_t> windows_, next_windows_;
  Buffer<float> targets_, next_targets_;  // [survivors, columns]
  std::vector<uint8_t> parents_;          // [columns, survivors]
  std::vector<uint16_t> path_;
  std::vector<uint32_t> stamps_, owners_;
  uint32_t stamp_ = 0;
  std::vector<uint16_t> chosen_;
  int32_t alive_ = 0;  // candidates that are not dead
  float width_ = 0;    // of the losses that were kept
};

std::byte* row_words(MutablePlanes to, const GroupLayout& l, int64_t row) {
  return find_plane(to, PlaneKind::kCodes).data() +
         static_cast<uint64_t>(row / GroupLayout::kTileRows) * l.code_tile_bytes +
         4 * (row % GroupLayout::kTileRows);
}

}  // namespace

void store_windows(const GroupLayout& l, MutablePlanes to, int64_t row,
                   std::span<const uint16_t> windows) {
  std::byte* p = row_words(to, l, row);
  uint64_t bits = windows.empty() ? 0 : windows.front();
  int filled = windows.empty() ? 0 : kTcqWindow;
  const auto words = static_cast<int64_t>(l.code_tile_bytes / 64);
  size_t next = 1;
  for (int64_t word = 0; word < words; ++word, p += 64) {
    for (; filled < 32 && next < windows.size(); ++next, filled += l.bits)
      bits |= static_cast<uint64_t>(windows[next] >> (kTcqWindow - l.bits)) << filled;
    const auto low = static_cast<uint32_t>(bits);
    std::memcpy(p, &low, 4);
    bits >>= 32;
    filled = std::max(0, filled - 32);
  }
}

void load_tcq_codes(const Weight& w, const GroupLayout& l, int64_t row, uint8_t* codes) {
  const std::byte* const p =
      w.plane(PlaneKind::kCodes).data() +
      static_cast<uint64_t>(row / GroupLayout::kTileRows) * l.code_tile_bytes +
      4 * (row % GroupLayout::kTileRows);
  std::fill_n(codes, l.units * GroupLayout::kUnitColumns, uint8_t{0});
  for (int64_t i = 0; i < l.k; ++i) {
    const int64_t bit = i * l.bits;
    uint32_t low, high = 0;
    std::memcpy(&low, p + bit / 32 * 64, 4);
    if (bit % 32 > 32 - kTcqWindow) std::memcpy(&high, p + (bit / 32 + 1) * 64, 4);
    const uint64_t both = uint64_t{high} << 32 | low;
    codes[i] = tcq_code(static_cast<uint16_t>(both >> bit % 32));
  }
}

double search_windows(const TcqSearch& job, int32_t window, uint16_t* windows) {
  thread_local Search search;
  return search.run(job, window, windows);
}

void search_row(int bits, int survivors, int64_t k, const float* x, const float* scale,
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
                    .cost = cost == nullptr ? nullptr : cost + i,
                    .survivors = survivors},
                   window, found);
    std::copy_n(found, done, windows + i);
    window = found[done - 1];
  }
}

float tcq_scale(int bits, const float* x, const float* weights, int64_t n) {
  double sum = 0, total = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double w = weights != nullptr ? static_cast<double>(weights[i]) : 1;
    sum += w * static_cast<double>(x[i]) * static_cast<double>(x[i]);
    total += w;
  }
  if (!(sum > 0)) return 0;
  // What loses least of normally distributed numbers: a code reaches 3.4 deviations only.
  const double reach = bits == 4 ? 1.2 : 1.1;
  return static_cast<float>(reach * std::sqrt(sum / total)) / kTcqDeviation;
}

}  // namespace pith
