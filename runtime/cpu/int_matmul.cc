#include "runtime/cpu/int_matmul.h"

#include <algorithm>
#include <cstring>

#include "core/bytes.h"
#include "core/parallel.h"
#include "runtime/cpu/group_tiles.h"
#include "runtime/cpu/matmul.h"

namespace pith {
namespace {

constexpr int64_t kPanel = 32;    // rows
constexpr int64_t kTokens = 96;   // at a time: their part of y stays in the cache
constexpr int64_t kDepth = 2048;  // columns at a time: 64 KiB of a panel

// Columns whose sum of (code - zero) * factor * x fits int32.
int64_t exact_columns(const Encoding& e) {
  const int64_t largest = 127 * (e.kind == EncodingKind::kMx    ? 2 * kE2M1Zero
                                 : e.kind == EncodingKind::kTcq ? 2 * kTcqZero
                                                                : (1 << e.bits) - 1);
  const int64_t columns = INT32_MAX / (e.two_level ? 128 * largest : largest);
  return columns / 128 * 128;
}

IntBlocking blocking_of(const Encoding& e, const GroupLayout& l, int64_t block) {
  const int64_t exact = exact_columns(e);
  const int64_t piece = std::min({block, exact, e.two_level ? l.k : l.group});
  IntBlocking blocking;
  blocking.step = std::min(piece, l.group);
  blocking.steps = ceil_div(l.k, blocking.step);
  blocking.pieces = ceil_div(l.k, piece);
  blocking.steps_of_piece = ceil_div(piece, blocking.step);
  blocking.pieces_of_block = ceil_div(block, piece);
  blocking.steps_of_group = std::max<int64_t>(1, l.group / blocking.step);
  blocking.pieces_of_group = std::max<int64_t>(1, l.group / piece);
  return blocking;
}

// Per thread, kept between calls: what belongs to a tile of 16 rows or to a panel of 32.
struct TileScratch {
  Buffer<uint8_t> panel;
  Buffer<int32_t> zeros, factors, group_zeros, offsets, rest;
  Buffer<float> scales, group_scales, y;
  int32_t zero = 0;  // all of the first `same_zeros` zeros are this
  int64_t same_zeros = 0;

  void fill_zeros(int32_t value, int64_t count) {
    if (zero == value && same_zeros >= count) return;
    std::fill_n(zeros.data(), count, value);
    zero = value;
    same_zeros = count;
  }
};
TileScratch& tile_scratch() {
  thread_local TileScratch scratch;
  return scratch;
}

class IntProduct {
 public:
  IntProduct(const CpuKernels& kernels, RoundedInputs& x, const IntProductTo& product)
      : kernels_(kernels),
        w_(*product.w),
        two_level_(w_.encoding.two_level),
        wide_(w_.encoding.bits == 8 && !w_.encoding.symmetric),
        tiles_(kernels, w_),
        layout_(tiles_.layout()),
        blocking_(blocking_of(w_.encoding, layout_, x.block())),
        whole_steps_(layout_.group % blocking_.step == 0),
        y_(product.y),
        add_(product.add) {
    const int64_t first = product.first, m = product.count < 0 ? x.m() : product.count;
    const int8_t* const codes = x.codes() + first * x.stride();
    const float* const scales = x.scales() + first;
    // Panels have what zeros subtract in their codes, but for `wide_` ones, and but for those of
    // two levels that go the way of few tokens.
    const bool sums = m < kPanelTokens || two_level_ || wide_;
    x_ = {codes, x.stride(), scales, sums ? x.sums(blocking_.step) + first : nullptr, m, x.m()};
    if (by_panels())
      panel_x_ = {x.unsigned_codes() + first * x.stride(), x.stride(), scales, x_.sums, m, x.m()};
  }

  int64_t rows() const { return w_.n; }
  bool by_panels() const { return x_.m >= kPanelTokens; }

  void multiply(int64_t begin, int64_t end) const {
    if (!by_panels()) return multiply_tiles(begin, end);
    for (int64_t row = begin; row < end; row += kPanel)
      multiply_panel(row, std::min(end, row + kPanel));
  }

 private:
  // Rows [begin, end) of w, 16 at a time, against few tokens.
  void multiply_tiles(int64_t begin, int64_t end) const {
    TileScratch& s = tile_scratch();
    for (int64_t row = begin; row < end; row += 16) {
      const int64_t t = row / 16;
      IntTile tile{};
      tile.format = tiles_.format();
      tile.codes = tiles_.codes(t);
      if (whole_steps_) {
        tile.half_scales = tiles_.half_scales(t);
        tile.powers = tiles_.powers(t);
        tile.packed_zeros = tiles_.packed_zeros(t);
      }
      if (tile.half_scales == nullptr && tile.powers == nullptr) {
        load_scales(t, 0, 16, s);
        tile.scales = s.scales.data();
        if (two_level_) tile.factors = s.factors.data();
      }
      if (tile.packed_zeros == nullptr) {
        load_zeros(t, 0, 16, s);
        tile.zeros = s.zeros.data();
      }
      kernels_.int8_gemv(tile, blocking_, w_.k, x_, y_ + row, w_.n,
                         std::min<int64_t>(16, end - row), add_);
    }
  }

  // Up to 32 rows of w against all tokens.
  void multiply_panel(int64_t begin, int64_t end) const {
    TileScratch& s = tile_scratch();
    const int64_t lines = 8 * layout_.units;  // of four columns
    s.panel.require(4 * kPanel * lines);
    if (end - begin <= 16) std::fill(s.panel.begin(), s.panel.end(), uint8_t{0});
    s.offsets.require(blocking_.pieces * kPanel);
    std::fill_n(s.offsets.data(), blocking_.pieces * kPanel, 0);
    if (wide_) s.rest.require(blocking_.pieces * kPanel);
    for (int64_t row = begin; row < end; row += 16) {
      const int64_t slot = row - begin;
      kernels_.unpack(tiles_.format(), tiles_.codes(row / 16), layout_.units,
                      s.panel.data() + 4 * slot);
      load_scales(row / 16, slot, kPanel, s);
      load_zeros(row / 16, slot, kPanel, s);
      if (!center(slot, s)) return multiply_tiles(begin, end);
    }
    for (int64_t i = 0; i < blocking_.pieces * kPanel; ++i) s.offsets[i] *= -128;
    s.y.require(kTokens * kPanel);
    const int64_t depth =
        std::max<int64_t>(1, kDepth / (blocking_.step * blocking_.steps_of_piece));
    const IntPanel panel{s.panel.data(), s.scales.data(), s.offsets.data(),
                         wide_ ? s.rest.data() : nullptr};
    for (int64_t t = 0; t < panel_x_.m; t += kTokens) {
      const int64_t count = std::min(kTokens, panel_x_.m - t);
      const auto each_row_of_y = [&](auto copy) {
        for (int64_t i = 0; i < count; ++i)
          copy(y_ + (t + i) * w_.n + begin, s.y.data() + i * kPanel);
      };
      if (add_) each_row_of_y([&](float* y, float* mine) { std::copy(y, y + end - begin, mine); });
      for (int64_t p = 0; p < blocking_.pieces; p += depth) {
        kernels_.int8_gemm(value_bits(), blocking_, p, std::min(blocking_.pieces, p + depth), w_.k,
                           panel_x_, t, count, panel, s.y.data(), add_ || p > 0);
      }
      each_row_of_y([&](float* y, float* mine) { std::copy(mine, mine + end - begin, y); });
    }
  }

  // Codes of 16 rows to (code - zero) * factor, where that fits.
  bool center(int64_t slot, TileScratch& s) const {
    constexpr int32_t k128[16] = {128, 128, 128, 128, 128, 128, 128, 128,
                                  128, 128, 128, 128, 128, 128, 128, 128};
    bool fits = true;
    for (int64_t i = 0; i < blocking_.steps; ++i) {
      const int64_t column = i * blocking_.step, at = i * kPanel + slot;
      const int32_t* const zeros = s.zeros.data() + at;
      for (int64_t r = 0; r < 16 && wide_; ++r) s.rest[at + r] = zeros[r] - 128;
      fits &= kernels_.center_codes(
          std::min(blocking_.step, w_.k - column), wide_ ? k128 : zeros,
          two_level_ ? s.factors.data() + at : nullptr, s.panel.data() + column * kPanel + 4 * slot,
          s.offsets.data() + i / blocking_.steps_of_piece * kPanel + slot);
    }
    return fits;
  }

  // Scales and factors of a tile to rows [slot, slot + 16) of `rows`.
  void load_scales(int64_t tile, int64_t slot, int64_t rows, TileScratch& s) const {
    s.scales.require(blocking_.pieces * rows);
    if (two_level_) {
      s.factors.require(blocking_.steps * rows);
      float row_scales[16];
      tiles_.row_scales(tile, row_scales);
      for (int64_t p = 0; p < blocking_.pieces; ++p)
        std::copy(row_scales, row_scales + 16, s.scales.data() + p * rows + slot);
      spread(tiles_.factors(tile), blocking_.steps, blocking_.step, slot, rows, s.factors.data());
      return;
    }
    s.group_scales.require(16 * layout_.groups);
    tiles_.scales(tile, s.group_scales.data());
    spread(s.group_scales.data(), blocking_.pieces, blocking_.step * blocking_.steps_of_piece, slot,
           rows, s.scales.data());
  }

  // Its zeros.
  void load_zeros(int64_t tile, int64_t slot, int64_t rows, TileScratch& s) const {
    if (blocking_.steps * rows > s.zeros.size()) {
      s.zeros = Buffer<int32_t>(blocking_.steps * rows);
      s.same_zeros = 0;
    }
    if (w_.encoding.symmetric) return s.fill_zeros(tiles_.zero(), blocking_.steps * rows);
    s.same_zeros = 0;
    s.group_zeros.require(16 * layout_.groups);
    tiles_.zeros(tile, s.group_zeros.data());
    spread(s.group_zeros.data(), blocking_.steps, blocking_.step, slot, rows, s.zeros.data());
  }

  // Bits of (code - zero) * factor.
  int value_bits() const {
    return two_level_ || w_.encoding.kind == EncodingKind::kTcq ? 8 : layout_.bits;
  }

  // What groups [groups, 16] have, to the `count` pieces or steps of `width` columns.
  template <class From, class To>
  void spread(const From* from, int64_t count, int64_t width, int64_t slot, int64_t rows,
              To* to) const {
    for (int64_t i = 0; i < count; ++i) {
      const From* const group = from + 16 * (i * width / layout_.group);
      std::copy(group, group + 16, to + i * rows + slot);
    }
  }

  const CpuKernels& kernels_;
  const Weight& w_;
  const bool two_level_;
  const bool wide_;  // code - zero may have 9 bits
  const GroupTiles tiles_;
  const GroupLayout& layout_;
  const IntBlocking blocking_;
  const bool whole_steps_;  // no step has columns of two groups
  IntInputs x_;
  float* const y_;
  const bool add_;
  PanelInputs panel_x_{};
};

}  // namespace

bool has_int_matmul(const Encoding& e) {
  return e.kind == EncodingKind::kInt || e.kind == EncodingKind::kMx ||
         e.kind == EncodingKind::kTcq;
}

int64_t input_block(const Encoding& e) {
  return e.group == 0 ? 32 : std::min<int64_t>(e.group, 32);
}

void int_matmul(const CpuKernels& kernels, RoundedInputs& x,
                std::span<const IntProductTo> products) {
  std::vector<IntProduct> all;
  all.reserve(products.size());
  int64_t rows = 0;
  for (const IntProductTo& p : products) rows += all.emplace_back(kernels, x, p).rows();
  const int64_t long_grain = row_grain(rows, x.k(), kPanel);
  const auto grain = [&](const IntProduct& p) { return p.by_panels() ? kPanel : long_grain; };
  const auto pieces = [&](const IntProduct& p) { return ceil_div(p.rows(), grain(p)); };
  int64_t count = 0;
  for (const auto& p : all) count += pieces(p);
  parallel_for(count, [&](int64_t i) {
    auto p = all.begin();
    for (; i >= pieces(*p); ++p) i -= pieces(*p);
    p->multiply(i * grain(*p), std::min(p->rows(), (i + 1) * grain(*p)));
  });
}

}  // namespace pith
