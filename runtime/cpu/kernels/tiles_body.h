// Tiles of 16 rows of codes in groups: dequantization and gemv with f32 inputs. Text of body.h.

// Four columns of a half unit (16 columns) each: the four neighbours of a row in the bytes of its
// lane.
struct Half {
  Bytes c[4];
};

// Bits that hold any integer of a code, as products see it.
constexpr int value_bits(NumberFormat format) {
  return is_trellis(format) ? 8 : format == NumberFormat::kE2M1 ? 5 : bits_of(format);
}

// Trellis codes: the window of 16 bits of a column in the low half of its lane, hashed, and the sum
// of the bytes of the hash. The window of the last columns goes on in the next unit.
template <int bits, int column>
PITH_INLINE Bytes tcq_column(const uint8_t* unit) {
  constexpr int kWord = bits * column / 32, kBit = bits * column % 32;
  const Bytes word = load_bytes(unit + 64 * kWord);
  if constexpr (kBit <= 16) {
    return sum_bytes(and_<0x3f>(tcq_hash(shift<kBit>(word))));
  } else {
    const Bytes middle = or_(shift<16>(word), shift<-16>(load_bytes(unit + 64 * (kWord + 1))));
    return sum_bytes(and_<0x3f>(tcq_hash(shift<kBit - 16>(middle))));
  }
}
template <int bits, int column>
PITH_INLINE Bytes four_tcq_columns(const uint8_t* unit) {
  const Bytes low =
      or_(tcq_column<bits, column>(unit), shift<-8>(tcq_column<bits, column + 1>(unit)));
  const Bytes high =
      or_(tcq_column<bits, column + 2>(unit), shift<-8>(tcq_column<bits, column + 3>(unit)));
  return or_(low, shift<-16>(high));
}

template <NumberFormat format, int half>
PITH_INLINE Half load_half(const uint8_t* unit) {
  constexpr int bits = bits_of(format);
  Half h;
  if constexpr (is_trellis(format)) {
    unrolled<4>([&](auto i)
                    PITH_INLINED { h.c[i] = four_tcq_columns<bits, 16 * half + 4 * i>(unit); });
    return h;
  }
  if constexpr (format == NumberFormat::kE2M1) {
    h = load_half<NumberFormat::kInt4, half>(unit);
    for (auto& c : h.c) c = table_lookup(c);
    return h;
  }
  if constexpr (bits == 8) {
    for (int i = 0; i < 4; ++i) h.c[i] = load_bytes(unit + 64 * (4 * half + i));
  } else if constexpr (bits >= 4) {
    for (int i = 0; i < 2; ++i) {
      const Bytes line = load_bytes(unit + 64 * (2 * half + i));
      h.c[2 * i] = and_<0x0f>(line);
      h.c[2 * i + 1] = and_<0x0f>(shift<4>(line));
    }
  } else {
    const Bytes line = load_bytes(unit + 64 * half);
    h.c[0] = and_<3>(line);
    h.c[1] = and_<3>(shift<2>(line));
    h.c[2] = and_<3>(shift<4>(line));
    h.c[3] = and_<3>(shift<6>(line));
  }
  if constexpr (bits == 6) {
    const Bytes line = load_bytes(unit + 64 * (4 + half));
    h.c[0] = or_(h.c[0], and_<0x30>(shift<-4>(line)));
    h.c[1] = or_(h.c[1], and_<0x30>(shift<-2>(line)));
    h.c[2] = or_(h.c[2], and_<0x30>(line));
    h.c[3] = or_(h.c[3], and_<0x30>(shift<2>(line)));
  } else if constexpr (bits == 5 || bits == 3) {
    constexpr int at = bits - 1;  // where the last bit goes
    const Bytes line = load_bytes(unit + 64 * at);
    h.c[0] = or_(h.c[0], and_<1 << at>(shift<4 * half + 0 - at>(line)));
    h.c[1] = or_(h.c[1], and_<1 << at>(shift<4 * half + 1 - at>(line)));
    h.c[2] = or_(h.c[2], and_<1 << at>(shift<4 * half + 2 - at>(line)));
    h.c[3] = or_(h.c[3], and_<1 << at>(shift<4 * half + 3 - at>(line)));
  }
  return h;
}

// f(codes, column) of every half unit of columns [begin, end); begin is a multiple of 16.
template <NumberFormat format, class F>
PITH_INLINE void each_half(const uint8_t* codes, int64_t begin, int64_t end, F f) {
  constexpr int kUnit = 64 * bits_of(format);
  const uint8_t* unit = codes + static_cast<uint64_t>(begin) / 32 * kUnit;
  int64_t i = begin;
  if (i % 32 != 0 && i < end) {
    f(load_half<format, 1>(unit), i);
    i += 16;
    unit += kUnit;
  }
  for (; i + 16 < end; i += 32, unit += kUnit) {
    f(load_half<format, 0>(unit), i);
    f(load_half<format, 1>(unit), i + 16);
  }
  if (i < end) f(load_half<format, 0>(unit), i);
}

// g<format>() for the code of a tile of integers, or of what becomes integers.
template <class G>
inline void with_integers(NumberFormat format, G g) {
  switch (format) {
    case NumberFormat::kE2M1:
      return g.template operator()<NumberFormat::kE2M1>();
    case NumberFormat::kInt2:
      return g.template operator()<NumberFormat::kInt2>();
    case NumberFormat::kInt3:
      return g.template operator()<NumberFormat::kInt3>();
    case NumberFormat::kInt4:
      return g.template operator()<NumberFormat::kInt4>();
    case NumberFormat::kInt5:
      return g.template operator()<NumberFormat::kInt5>();
    case NumberFormat::kInt6:
      return g.template operator()<NumberFormat::kInt6>();
    case NumberFormat::kTcq2:
      return g.template operator()<NumberFormat::kTcq2>();
    case NumberFormat::kTcq3:
      return g.template operator()<NumberFormat::kTcq3>();
    case NumberFormat::kTcq4:
      return g.template operator()<NumberFormat::kTcq4>();
    default:
      return g.template operator()<NumberFormat::kInt8>();
  }
}
template <class G>
inline void with_format(NumberFormat format, G g) {
  if (format == NumberFormat::kNf4) return g.template operator()<NumberFormat::kNf4>();
  with_integers(format, g);
}

// f(values of the 16 rows, column, column % 4) for columns [begin, end).
template <NumberFormat format, class F>
PITH_INLINE void each_column(const uint8_t* codes, int64_t begin, int64_t end, F f) {
  each_half<format>(codes, begin, end, [&](const Half& h, int64_t column) PITH_INLINED {
    const auto g = [&]<int byte>(Bytes four, int64_t at) PITH_INLINED {
      V16 v = byte_values<byte, format == NumberFormat::kNf4>(four);
      if constexpr (format == NumberFormat::kE2M1) v = sub(v, set1(kE2M1Zero));
      if constexpr (is_trellis(format)) v = sub(v, set1(kTcqZero));
      f(v, at, Index<byte>());
    };
    for (int i = 0; i < 4; ++i) {
      const int64_t at = column + 4 * i;
      if (at < end) g.template operator()<0>(h.c[i], at);
      if (at + 1 < end) g.template operator()<1>(h.c[i], at + 1);
      if (at + 2 < end) g.template operator()<2>(h.c[i], at + 2);
      if (at + 3 < end) g.template operator()<3>(h.c[i], at + 3);
    }
  });
}

template <NumberFormat format>
void dequantize_tile_of(const GroupTile& tile, int64_t k, float* to) {
  for (int64_t begin = 0, g = 0; begin < k; begin += tile.group, ++g) {
    const V16 s = load(tile.scales + 16 * g);
    const V16 z = tile.zeros ? load(tile.zeros + 16 * g) : set1(0.0f);
    each_column<format>(tile.codes, begin, min64(k, begin + tile.group),
                        [&](V16 v, int64_t i, auto)
                            PITH_INLINED { store(to + 32 * i, mul(s, sub(v, z))); });
  }
}
void dequantize_tile(const GroupTile& tile, int64_t k, float* to) {
  with_format(tile.format, [&]<NumberFormat format>() { dequantize_tile_of<format>(tile, k, to); });
}

float sum_of(const float* x, int64_t n) {
  V16 sums = set1(0.0f);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) sums = add(sums, load(x + i));
  if (i < n) sums = add(sums, load_first(x + i, n - i));
  return sum(sums);
}

// sum over groups of s * (sum of code * x - z * sum of x)
template <NumberFormat format, int M>
void quant_gemv_of(const GroupTile& tile, int64_t k, const float* x, int64_t ldx, float* y,
                   int64_t ldy, int64_t rows, bool accumulate) {
  V16 total[M];
  unrolled<M>([&](auto t) { total[t] = set1(0.0f); });
  for (int64_t begin = 0, g = 0; begin < k; begin += tile.group, ++g) {
    const int64_t end = min64(k, begin + tile.group);
    V16 part[4 * M];  // four of a token, so that additions need not wait for each other
    unrolled<4 * M>([&](auto i) { part[i] = set1(0.0f); });
    each_column<format>(tile.codes, begin, end, [&](V16 v, int64_t i, auto place) PITH_INLINED {
      unrolled<M>([&](auto t) {
        V16& to = part[4 * t + place];
        to = mul_add(v, set1(x[t * ldx + i]), to);
      });
    });
    unrolled<M>([&](auto t) {
      V16 sum = add(add(part[4 * t], part[4 * t + 1]), add(part[4 * t + 2], part[4 * t + 3]));
      if (tile.zeros)
        sum = mul_add(load(tile.zeros + 16 * g), set1(-sum_of(x + t * ldx + begin, end - begin)),
                      sum);
      total[t] = mul_add(load(tile.scales + 16 * g), sum, total[t]);
    });
  }
  unrolled<M>([&](auto t) {
    float* const to = y + t * ldy;
    store_first(to, accumulate ? add(load_first(to, rows), total[t]) : total[t], rows);
  });
}

// step<M>(t) for tokens t of m, four at a time.
template <class G>
inline void by_tokens(int64_t m, G step) {
  int64_t t = 0;
  for (; m - t >= 4; t += 4) step.template operator()<4>(t);
  if (m - t >= 2) {
    step.template operator()<2>(t);
    t += 2;
  }
  if (t < m) step.template operator()<1>(t);
}

void quant_gemv(const GroupTile& tile, int64_t k, const float* x, int64_t ldx, int64_t m, float* y,
                int64_t ldy, int64_t rows, bool accumulate) {
  by_tokens(m, [&]<int M>(int64_t t) {
    const float* const from = x + t * ldx;
    float* const to = y + t * ldy;
    with_format(tile.format, [&]<NumberFormat format>() {
      quant_gemv_of<format, M>(tile, k, from, ldx, to, ldy, rows, accumulate);
    });
  });
}
