// Products of integer codes with int8 inputs: gemv of tiles, gemm of panels. Text of body.h.

void unpack_tile(NumberFormat format, const uint8_t* codes, int64_t units, uint8_t* to) {
  with_integers(format, [&]<NumberFormat f>() {
    each_half<f>(codes, 0, 32 * units, [&](const Half& h, int64_t column) PITH_INLINED {
      for (int i = 0; i < 4; ++i) store_bytes(to + 32 * column + 128 * i, h.c[i]);
    });
  });
}

void unpack_zeros(NumberFormat format, const uint8_t* from, int64_t units, int32_t* to) {
  with_integers(format, [&]<NumberFormat f>() {
    constexpr int b = bits_of(f);
    for (int64_t i = 0; i < units; ++i) store_i32(to + 16 * i, unpack_codes<b>(from + 2 * b * i));
  });
}

// Whether the next in a row of equal groups is the first of its group, and which group that is.
struct Groups {
  int64_t length, group = -1, left = 0;
  bool begins() {
    if (left > 0) {
      --left;
      return false;
    }
    left = length - 1;
    ++group;
    return true;
  }
};

template <NumberFormat format, int M>
void int8_gemv_of(const IntTile& w, const IntBlocking& blocking, int64_t k, const IntInputs& x,
                  int64_t token, float* y, int64_t ldy, int64_t rows, bool accumulate) {
  const int8_t* const inputs = x.x + token * x.stride;
  const bool few = blocking.step <= kFewColumns;
  V16 total[M];
  unrolled<M>([&](auto t) { total[t] = accumulate ? load_first(y + t * ldy, rows) : set1(0.0f); });
  Groups of_steps{blocking.steps_of_group}, of_pieces{blocking.pieces_of_group};
  I16 zeros = zero_i32();
  V16 scales = set1(0.0f);
  for (int64_t p = 0, step = 0; p < blocking.pieces; ++p) {
    I16 sum[M];
    const int64_t end_of_piece = min64(blocking.steps, step + blocking.steps_of_piece);
    for (bool first = true; step < end_of_piece; ++step, first = false) {
      // Two sums of a token, so that additions need not wait for each other.
      I16 part[2 * M];
      const int32_t* const x_sums = x.sums + step * x.all + token;
      if (w.zeros) {
        zeros = load_i32(w.zeros + 16 * step);
      } else if (of_steps.begins()) {
        zeros =
            unpack_codes<bits_of(format)>(w.packed_zeros + 2 * bits_of(format) * of_steps.group);
      }
      unrolled<M>([&](auto t) {
        part[2 * t] = few ? neg_mul16(zeros, x_sums[t]) : neg_mul(zeros, x_sums[t]);
        part[2 * t + 1] = zero_i32();
      });
      each_half<format>(
          w.codes, step * blocking.step, min64(k, (step + 1) * blocking.step),
          [&](const Half& h, int64_t column) PITH_INLINED {
            const uint8_t* const ahead = w.codes + column * (2 * bits_of(format)) + kAhead;
            unrolled<(bits_of(format) + 1) / 2>(
                [&](auto i) { __builtin_prefetch(ahead + 64 * i); });
            unrolled<M>([&](auto t) {
              dot16<value_bits(format)>(part + 2 * t, h.c, inputs + t * x.stride + column);
            });
          });
      unrolled<M>([&](auto t) {
        I16 all = add(part[2 * t], part[2 * t + 1]);
        if (w.factors) all = mul(all, w.factors + 16 * step);
        sum[t] = first ? all : add(sum[t], all);
      });
    }
    if (w.scales) {
      scales = load(w.scales + 16 * p);
    } else if (of_pieces.begins()) {
      if constexpr (format == NumberFormat::kE2M1)
        scales = load_e8m0(w.powers + 16 * of_pieces.group);
      else
        scales = load_f16(w.half_scales + 16 * of_pieces.group);
    }
    const float* const x_scales = x.scales + p / blocking.pieces_of_block * x.all + token;
    unrolled<M>([&](auto t) {
      total[t] = fma(to_float(sum[t]), mul(scales, set1(x_scales[t])), total[t]);
    });
  }
  unrolled<M>([&](auto t) { store_first(y + t * ldy, total[t], rows); });
}

void int8_gemv(const IntTile& w, const IntBlocking& blocking, int64_t k, const IntInputs& x,
               float* y, int64_t ldy, int64_t rows, bool accumulate) {
  by_tokens(x.m, [&]<int M>(int64_t t) {
    with_integers(w.format, [&]<NumberFormat format>() {
      int8_gemv_of<format, M>(w, blocking, k, x, t, y + t * ldy, ldy, rows, accumulate);
    });
  });
}

// Codes of 16 rows as they come from `unpack`.
bool center_codes(int64_t columns, const int32_t* zeros, const int32_t* factors, uint8_t* codes,
                  int32_t* sums) {
  uint8_t zero[64];
  int32_t offset[64], by[64];
  for (int i = 0; i < 64; ++i) {
    zero[i] = static_cast<uint8_t>(zeros[i / 4]);
    by[i] = factors ? factors[i / 4] : 1;
    offset[i] = 128 - zeros[i / 4] * by[i];
  }
  I16 sum = load_i32(sums);
  const uint8_t ones[4] = {1, 1, 1, 1};
  int32_t beyond = 0;
  for (int64_t c = 0; c < columns; c += 4, codes += 128) {
    if (factors) {
      for (int i = 0; i < 64; ++i) {
        const int32_t v = codes[i] * by[i] + offset[i];
        beyond |= v;
        codes[i] = static_cast<uint8_t>(v - 128);
      }
    } else {
      for (int i = 0; i < 64; ++i) codes[i] = static_cast<uint8_t>(codes[i] - zero[i]);
    }
    for (int64_t i = 0; i < 64 && columns - c < 4; ++i) {
      if (c + i % 4 >= columns) codes[i] = 0;
    }
    sum = dot4_unsigned_inputs<8>(sum, ones, load_bytes(codes));
  }
  store_i32(sums, sum);
  return (beyond & ~255) == 0;
}

constexpr int kPanelTokens = kTileRows > 4 ? kTileRows / 2 : 2;  // sums in integers and in floats

// M tokens by 16 N rows from `row` on, in registers.
template <int bits, bool rest, int M, int N>
void int8_gemm_tile(const IntBlocking& blocking, int64_t begin, int64_t end, int64_t k,
                    const PanelInputs& x, int64_t token, const IntPanel& w, int64_t row, float* c,
                    bool accumulate) {
  const int64_t piece = blocking.step * blocking.steps_of_piece;
  const uint8_t* inputs = x.x + token * x.stride + begin * piece;
  const uint8_t* codes = w.codes + 32 * begin * piece + 4 * row;
  V16 total[M * N];
  unrolled<M * N>([&](auto i) {
    total[i] = accumulate ? load(c + i / N * 32 + row + 16 * (i % N)) : set1(0.0f);
  });
  const float* x_scales = x.scales + begin / blocking.pieces_of_block * x.all + token;
  int64_t of_block = begin % blocking.pieces_of_block;
  for (int64_t p = begin; p < end; ++p) {
    const int64_t at = 32 * p + row;
    I16 sums[M * N];
    unrolled<M * N>([&](auto i) { sums[i] = load_i32(w.offsets + at + 16 * (i % N)); });
    if constexpr (rest) {
      unrolled<M * N>([&](auto i) {
        const int32_t x_sum = x.sums[p * x.all + token + i / N];
        sums[i] = add(sums[i], neg_mul(load_i32(w.rest + at + 16 * (i % N)), x_sum));
      });
    }
    for (int64_t left = min64(piece, k - p * piece); left > 0; left -= 4) {
      Bytes four[N];
      unrolled<N>([&](auto j) { four[j] = load_bytes(codes + 64 * j); });
      unrolled<M * N>([&](auto i) {
        sums[i] = dot4_unsigned_inputs<bits>(sums[i], inputs + i / N * x.stride, four[i % N]);
      });
      codes += 128;
      inputs += 4;
    }
    V16 scales[N];
    unrolled<N>([&](auto j) { scales[j] = load(w.scales + at + 16 * j); });
    unrolled<M * N>([&](auto i) {
      total[i] = fma(to_float(sums[i]), mul(scales[i % N], set1(x_scales[i / N])), total[i]);
    });
    if (++of_block < blocking.pieces_of_block) continue;
    of_block = 0;
    x_scales += x.all;
  }
  unrolled<M * N>([&](auto i) { store(c + i / N * 32 + row + 16 * (i % N), total[i]); });
}

template <int bits, bool rest>
void int8_gemm_of(const IntBlocking& blocking, int64_t begin, int64_t end, int64_t k,
                  const PanelInputs& x, int64_t token, int64_t m, const IntPanel& w, float* c,
                  bool accumulate) {
  for (int64_t row = 0; row < 32; row += 16 * kTileVectors) {
    int64_t t = 0;
    const auto step = [&]<int M>() {
      int8_gemm_tile<bits, rest, M, kTileVectors>(blocking, begin, end, k, x, token + t, w, row,
                                                  c + 32 * t, accumulate);
      t += M;
    };
    while (m - t >= kPanelTokens) step.template operator()<kPanelTokens>();
    if (kPanelTokens > 4 && m - t >= 4) step.template operator()<4>();
    if (kPanelTokens > 2 && m - t >= 2) step.template operator()<2>();
    while (m - t >= 1) step.template operator()<1>();
  }
}
void int8_gemm(int bits, const IntBlocking& blocking, int64_t begin, int64_t end, int64_t k,
               const PanelInputs& x, int64_t token, int64_t m, const IntPanel& w, float* c,
               bool accumulate) {
  const auto multiply = [&](auto of) {
    of(blocking, begin, end, k, x, token, m, w, c, accumulate);
  };
  if (w.rest) return multiply(int8_gemm_of<8, true>);
  if (bits == 8) return multiply(int8_gemm_of<8, false>);
  multiply(int8_gemm_of<6, false>);
}
