#include "runtime/cpu/int_matmul.h"

#include <algorithm>
#include <cstring>

#include "core/bytes.h"
#include "core/parallel.h"
#include "formats/encodings/int_group.h"
#include "runtime/cpu/matmul.h"

namespace pith {
namespace {

constexpr int64_t kExact = 1 << 16;  // columns whose sum fits int32
constexpr int64_t kTile = 32;

// How rows are cut: a step has one zero and one int8 scale, a piece of steps one f32 scale of the
// weight, a block of pieces one of the inputs.
struct Cut {
  int64_t step, steps, piece, pieces;
  int64_t steps_of_piece, steps_of_group, pieces_of_block;

  Cut(const Encoding& e, const GroupLayout& l, int64_t block) {
    piece = std::min({block, kExact, e.two_level ? l.k : l.group});
    step = std::min(piece, l.group);
    steps = ceil_div(l.k, step);
    pieces = ceil_div(l.k, piece);
    steps_of_piece = ceil_div(piece, step);
    steps_of_group = ceil_div(l.group, step);
    pieces_of_block = ceil_div(block, piece);
  }
};

// Per thread, kept between calls. What belongs to the codes of a tile of 4 or 32 rows stands beside
// each other for all rows.
struct TileScratch {
  Buffer<uint8_t> codes, panel;
  std::vector<int32_t> zeros, factors;  // [steps, rows]; factors: the int8 scales of two levels
  std::vector<float> scales;            // [pieces, rows]
  std::vector<int32_t> sums;            // [steps, 4]
  std::vector<float> group_scales;
  std::vector<uint8_t> group_zeros;
};
TileScratch& tile_scratch() {
  thread_local TileScratch scratch;
  return scratch;
}

class IntProduct {
 public:
  IntProduct(const CpuKernels& kernels, const Weight& w, RoundedInputs& x, float* y, bool add,
             IntMatmulScratch& scratch)
      : kernels_(kernels),
        w_(w),
        two_level_(w.encoding.two_level),
        layout_(w.encoding, w.n, w.k),
        cut_(w.encoding, layout_, x.block()),
        padded_(static_cast<int64_t>(round_up(static_cast<uint64_t>(w.k), 16))),
        m_(x.m()),
        x_(x.codes()),
        stride_(x.stride()),
        x_scales_(x.scales()),
        y_(y),
        add_(add) {
    const bool panel = m_ >= kPanelRows;
    if (panel) {
      scratch.piece_sums.require(cut_.pieces * m_);
      piece_sums_ = scratch.piece_sums.data();
      sum_inputs(cut_.piece, cut_.pieces, scratch.piece_sums.data(), 1, m_);
    }
    if (!panel || two_level_) {
      scratch.step_sums.require(cut_.steps * m_);
      step_sums_ = scratch.step_sums.data();
      sum_inputs(cut_.step, cut_.steps, scratch.step_sums.data(), cut_.steps, 1);
    }
  }

  // Rows of w, four at a time, against each token by itself.
  void multiply_rows(int64_t begin, int64_t end) const {
    TileScratch& s = tile_scratch();
    require(4, s);
    for (int64_t r = begin; r < end; r += 4) {
      const int64_t count = std::min<int64_t>(4, end - r);
      const uint8_t* codes[4];
      for (int64_t i = 0; i < 4; ++i) {  // the last row stands for those that are missing
        codes[i] = i < count ? row_codes(r + i, s.codes.data() + i * padded_) : codes[count - 1];
        load(std::min(r + i, end - 1), i, 4, s);
      }
      for (int64_t t = 0; t < m_; ++t) {
        kernels_.int_dot(codes, w_.k, cut_.step, x_ + t * stride_, s.sums.data());
        float y[4] = {};
        float* const to = y_ + t * w_.n + r;
        if (add_) std::copy(to, to + count, y);
        finish(s, t, y);
        std::copy(y, y + count, to);
      }
    }
  }

  // Up to 32 rows of w against all tokens.
  void multiply_panel(int64_t begin, int64_t rows) const {
    TileScratch& s = tile_scratch();
    require(kTile, s);
    const uint8_t* codes[kTile];
    for (int64_t r = 0; r < rows; ++r) {
      uint8_t* unpacked = s.codes.data() + r * padded_;
      codes[r] = row_codes(begin + r, unpacked);
      load(begin + r, r, kTile, s);
      if (!two_level_) continue;
      if (!widen(s, r, codes[r], unpacked)) return multiply_rows(begin, begin + rows);
      codes[r] = unpacked;
    }
    make_panel(codes, rows, s.panel);
    if (two_level_) std::fill(s.zeros.begin(), s.zeros.end(), 128);
    constexpr int64_t kTokens = 96;  // their rows of y stay in the cache from piece to piece
    for (int64_t t = 0; t < m_; t += kTokens) {
      for (int64_t p = 0; p < cut_.pieces; ++p) {
        const int64_t column = p * cut_.piece;
        const IntInputs x{x_ + t * stride_ + column, stride_,
                          x_scales_ + p / cut_.pieces_of_block * m_ + t, piece_sums_ + p * m_ + t};
        const IntPanel panel{s.panel.data() + column * kTile, s.scales.data() + p * kTile,
                             s.zeros.data() + p * kTile};
        kernels_.int_gemm(std::min(kTokens, m_ - t), rows, std::min(cut_.piece, w_.k - column), x,
                          panel, y_ + t * w_.n + begin, w_.n, add_ || p > 0);
      }
    }
  }

 private:
  // Of the inputs in pieces of `width` columns: that of token t and piece p at to[t * token_step +
  // p * piece_step].
  void sum_inputs(int64_t width, int64_t pieces, int32_t* to, int64_t token_step,
                  int64_t piece_step) const {
    const int64_t grain = std::max<int64_t>(1, (1 << 15) / std::max<int64_t>(1, w_.k));
    parallel_ranges(m_, grain, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        for (int64_t p = 0; p < pieces; ++p) {
          const int8_t* x = x_ + t * stride_ + p * width;
          int32_t sum = 0;
          for (int64_t i = 0, n = std::min(width, w_.k - p * width); i < n; ++i) sum += x[i];
          to[t * token_step + p * piece_step] = sum;
        }
      }
    });
  }

  void require(int64_t rows, TileScratch& s) const {
    s.codes.require(rows * padded_);
    s.zeros.resize(static_cast<size_t>(cut_.steps * rows));
    s.factors.resize(two_level_ ? s.zeros.size() : 0);
    s.scales.resize(static_cast<size_t>(cut_.pieces * rows));
    s.sums.resize(static_cast<size_t>(cut_.steps * 4));
    s.group_scales.resize(static_cast<size_t>(layout_.groups));
    s.group_zeros.resize(round_up(static_cast<uint64_t>(layout_.groups), 16));
  }

  const uint8_t* row_codes(int64_t row, uint8_t* unpacked) const {
    const auto* codes = reinterpret_cast<const uint8_t*>(w_.plane(PlaneKind::kCodes).data()) +
                        static_cast<uint64_t>(row) * layout_.code_row_bytes;
    if (layout_.bits == 8) return codes;
    kernels_.unpack(layout_.bits, codes, w_.k, unpacked);
    return unpacked;
  }

  // Zeros and scales of a row to place `slot` of a tile.
  void load(int64_t row, int64_t slot, int64_t rows, TileScratch& s) const {
    const auto group_of = [&](int64_t step) {
      return cut_.steps_of_group == 1 ? step : step / cut_.steps_of_group;
    };
    load_zeros(w_, layout_, row, s.group_zeros.data());
    const uint8_t* const zeros = s.group_zeros.data();
    for (int64_t i = 0; i < cut_.steps; ++i)
      s.zeros[static_cast<size_t>(i * rows + slot)] = zeros[group_of(i)];
    const std::byte* const scales = w_.plane(PlaneKind::kScales).data();
    float* const to = s.scales.data() + slot;
    if (two_level_) {
      const auto* factors = reinterpret_cast<const int8_t*>(scales) + row * layout_.groups;
      for (int64_t i = 0; i < cut_.steps; ++i)
        s.factors[static_cast<size_t>(i * rows + slot)] = factors[group_of(i)];
      float scale;
      to_f32(w_.encoding.scale, w_.plane(PlaneKind::kRowScales).data() + row * 2, &scale, 1);
      for (int64_t p = 0; p < cut_.pieces; ++p) to[p * rows] = scale;
      return;
    }
    float* const wide = s.group_scales.data();
    if (w_.encoding.scale == DType::kF16) {
      kernels_.f16_to_f32(reinterpret_cast<const uint16_t*>(scales) + row * layout_.groups,
                          layout_.groups, wide);
    } else {
      load_scales(w_, layout_, row, wide);
    }
    for (int64_t p = 0; p < cut_.pieces; ++p) to[p * rows] = wide[group_of(p)];  // pieces are steps
  }

  // y[4] (+)= what the sums of the steps of four rows come to.
  void finish(const TileScratch& s, int64_t t, float* y) const {
    const int32_t* const x_sums = step_sums_ + t * cut_.steps;
    for (int64_t p = 0; p < cut_.pieces; ++p) {
      const float x_scale = x_scales_[p / cut_.pieces_of_block * m_ + t];
      const float* const scales = s.scales.data() + 4 * p;
      float part[4];
      if (two_level_) {
        sum_of_steps(s, p, x_sums, part);
      } else {
        for (int64_t i = 0; i < 4; ++i) {
          const int64_t at = 4 * p + i;
          part[i] = static_cast<float>(s.sums.data()[at] - s.zeros.data()[at] * x_sums[p]);
        }
      }
      for (int64_t i = 0; i < 4; ++i) {
        part[i] = part[i] * scales[i] * x_scale;
        y[i] = add_ || p > 0 ? y[i] + part[i] : part[i];
      }
    }
  }

  // In 64 bits: with int8 scales a sum may be anything.
  void sum_of_steps(const TileScratch& s, int64_t p, const int32_t* x_sums, float* part) const {
    int64_t total[4] = {};
    const int64_t begin = p * cut_.steps_of_piece;
    for (int64_t j = begin, end = std::min(cut_.steps, begin + cut_.steps_of_piece); j < end; ++j) {
      for (int64_t i = 0; i < 4; ++i) {
        const int64_t at = 4 * j + i;
        const int32_t sum = s.sums.data()[at] - s.zeros.data()[at] * x_sums[j];
        total[i] += int64_t{s.factors.data()[at]} * sum;
      }
    }
    for (int64_t i = 0; i < 4; ++i) part[i] = static_cast<float>(total[i]);
  }

  // to = (code - zero) * int8 scale + 128 of row `slot` of 32; false where that does not fit.
  bool widen(const TileScratch& s, int64_t slot, const uint8_t* codes, uint8_t* to) const {
    int beyond = 0;
    for (int64_t j = 0; j < cut_.steps; ++j) {
      const auto at = static_cast<size_t>(j * kTile + slot);
      const int factor = s.factors[at], offset = 128 - s.zeros[at] * factor;
      for (int64_t i = j * cut_.step, end = std::min(w_.k, i + cut_.step); i < end; ++i) {
        const int v = codes[i] * factor + offset;
        beyond |= v;
        to[i] = static_cast<uint8_t>(v);
      }
    }
    return (beyond & ~255) == 0;
  }

  // [ceil(k/4), 32, 4]; missing rows are 0.
  void make_panel(const uint8_t* const* codes, int64_t rows, Buffer<uint8_t>& panel) const {
    panel.require(padded_ * kTile);
    for (int64_t c = 0; c < w_.k; c += 4) {
      uint8_t* to = panel.data() + c * kTile;
      for (int64_t r = 0; r < rows; ++r) std::memcpy(to + 4 * r, codes[r] + c, 4);
      std::memset(to + 4 * rows, 0, static_cast<size_t>(4 * (kTile - rows)));
    }
  }

  const CpuKernels& kernels_;
  const Weight& w_;
  const bool two_level_;
  const GroupLayout layout_;
  const Cut cut_;
  const int64_t padded_;  // k
  const int64_t m_;
  const int8_t* const x_;
  const int64_t stride_;
  const float* const x_scales_;
  float* const y_;
  const bool add_;
  const int32_t* step_sums_ = nullptr;   // [m, steps]
  const int32_t* piece_sums_ = nullptr;  // [pieces, m]
};

}  // namespace

bool has_int_matmul(const Encoding& e) { return e.kind == EncodingKind::kInt; }

void int_matmul(const CpuKernels& kernels, const Weight& w, RoundedInputs& x, float* y, bool add,
                IntMatmulScratch& scratch) {
  const IntProduct product(kernels, w, x, y, add, scratch);
  if (x.m() >= kPanelRows) {
    parallel_ranges(w.n, kTile, [&](int64_t begin, int64_t end) {
      product.multiply_panel(begin, end - begin);
    });
    return;
  }
  // As many weights as matmul() takes at a time.
  const int64_t grain = std::max<int64_t>(4, (1 << 15) / std::max<int64_t>(1, w.k) / 4 * 4);
  parallel_ranges(w.n, grain,
                  [&](int64_t begin, int64_t end) { product.multiply_rows(begin, end); });
}

}  // namespace pith
