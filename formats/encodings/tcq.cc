#include "formats/encodings/tcq.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/bytes.h"

namespace pith {
namespace {

struct Path {
  double loss;
  uint16_t window;
  uint16_t before;  // which path of the column before it continues
};

// The best paths that differ in the bits that later windows share.
void keep_best(int bits, size_t count, std::vector<Path>* paths) {
  std::ranges::stable_sort(*paths, {}, &Path::loss);
  std::vector<bool> taken(size_t{1} << (kTcqWindow - bits));
  std::erase_if(*paths, [&](const Path& p) {
    const auto shared = static_cast<size_t>(p.window >> bits);
    if (count == 0 || taken[shared]) return true;
    taken[shared] = true;
    --count;
    return false;
  });
}

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

void search_row(int bits, int64_t k, const float* x, const float* scale, uint16_t* windows) {
  constexpr size_t kPaths = 16;
  constexpr uint32_t kFirst = 4096;  // windows that a row may begin with, spread over all
  std::vector<std::vector<Path>> columns(static_cast<size_t>(k));
  for (int64_t i = 0; i < k; ++i) {
    auto& paths = columns[static_cast<size_t>(i)];
    const auto add = [&](double before, uint32_t window, size_t parent) {
      const double miss =
          static_cast<double>(x[i]) -
          static_cast<double>(scale[i]) * (tcq_code(static_cast<uint16_t>(window)) - kTcqZero);
      paths.push_back(
          {before + miss * miss, static_cast<uint16_t>(window), static_cast<uint16_t>(parent)});
    };
    if (i == 0) {
      for (uint32_t w = 0; w < kFirst; ++w) add(0, w * 40503 & 0xffff, 0);
    } else {
      const auto& before = columns[static_cast<size_t>(i - 1)];
      for (size_t p = 0; p < before.size(); ++p) {
        for (uint32_t b = 0; b < 1u << bits; ++b) {
          add(before[p].loss - before.front().loss,
              static_cast<uint32_t>(before[p].window >> bits) | b << (kTcqWindow - bits), p);
        }
      }
    }
    keep_best(bits, kPaths, &paths);
    paths.shrink_to_fit();
  }
  size_t p = 0;
  for (auto i = static_cast<size_t>(k); i-- > 0;) {
    windows[i] = columns[i][p].window;
    p = columns[i][p].before;
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
  // Normally distributed numbers lose least so: a code reaches 3.4 deviations only.
  const double reach = bits == 4 ? 1.2 : 1.1;
  return static_cast<float>(reach * std::sqrt(sum / total)) / kTcqDeviation;
}

}  // namespace pith
