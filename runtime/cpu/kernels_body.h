// The text of all kernel sets. A file of one instruction level defines, in its own anonymous
// namespace, the 16-lane vector V16 and its primitives (see kernels_scalar.cc), then includes this
// file there, then fills a table with PITH_KERNEL_TABLE. No include guard: one inclusion a file;
// everything here has internal linkage, so that code compiled for one level is never picked by the
// linker for another.

inline V16 load16(const float* p) { return load(p); }

// f(0), f(1), ... f(n - 1), each a constant: arrays of vectors that only such indices touch live in
// registers. (Loops are unrolled too late for that.)
template <int i>
struct Index {
  constexpr operator int() const { return i; }
};
template <int n, class F>
PITH_INLINE void unrolled(F f) {
  if constexpr (n > 0) {
    unrolled<n - 1>(f);
    f(Index<n - 1>());
  }
}

// ---- Elements of a row, 16 at a time ------------------------------------------------------------

template <class T, class Self>
struct Plain {
  static V16 load(const void* row, int64_t i) { return Self::read(static_cast<const T*>(row) + i); }
  // Never touches what follows the row.
  static V16 load_last(const void* row, int64_t i, int64_t count) {
    T last[16] = {};
    for (int64_t j = 0; j < count; ++j) last[j] = static_cast<const T*>(row)[i + j];
    return Self::read(last);
  }
};
struct F32 : Plain<float, F32> {
  static V16 read(const float* p) { return load16(p); }
};
struct F16 : Plain<uint16_t, F16> {
  static V16 read(const uint16_t* p) { return load_f16(p); }
};
struct BF16 : Plain<uint16_t, BF16> {
  static V16 read(const uint16_t* p) { return load_bf16(p); }
};
struct F8E4M3 : Plain<uint8_t, F8E4M3> {
  static V16 read(const uint8_t* p) { return load_f8e4m3(p); }
};
struct F8E5M2 : Plain<uint8_t, F8E5M2> {
  static V16 read(const uint8_t* p) { return load_f8e5m2(p); }
};
struct I8 : Plain<int8_t, I8> {
  static V16 read(const int8_t* p) { return load_i8(p); }
};
template <int bits>
struct Packed {
  static V16 load(const void* row, int64_t i) {
    return to_float(packed_codes<bits>(static_cast<const uint8_t*>(row) + i / 8 * bits));
  }
  static V16 load_last(const void* row, int64_t i, int64_t) { return load(row, i); }
};
inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

template <class Codes>
void decode_row(const CodeRow& row, int64_t k, float* out) {
  for (int64_t begin = 0, g = 0; begin < k; begin += row.group, ++g) {
    const int64_t end = min64(k, begin + row.group);
    const V16 s = set1(row.scales ? row.scales[g] : 1.0f);
    const V16 z = set1(row.zeros ? row.zeros[g] : 0.0f);
    int64_t i = begin;
    for (; i + 16 <= end; i += 16) store(out + i, mul(s, sub(Codes::load(row.codes, i), z)));
    if (i < end)
      store_first(out + i, mul(s, sub(Codes::load_last(row.codes, i, end - i), z)), end - i);
  }
}

template <class Codes>
void decode_columns(const CodeColumns& rows, int64_t k, float* to, int64_t ld) {
  for (int64_t begin = 0, g = 0; begin < k; begin += rows.group, ++g) {
    const V16 s = rows.scales ? load(rows.scales + 16 * g) : set1(1.0f);
    const V16 z = rows.zeros ? load(rows.zeros + 16 * g) : set1(0.0f);
    for (int64_t i = begin; i < min64(k, begin + rows.group); ++i)
      store(to + i * ld, mul(s, sub(Codes::load(rows.codes, 16 * i), z)));
  }
}

// sum over groups of s * (sum of code * x)
template <class Codes, int R>
void dot_rows(const CodeRow* rows, int64_t k, const float* x, float* out) {
  V16 total[R];
  for (int r = 0; r < R; ++r) total[r] = set1(0.0f);
  const int64_t group = rows[0].group;
  for (int64_t begin = 0, g = 0; begin < k; begin += group, ++g) {
    const int64_t end = min64(k, begin + group);
    V16 part[R];
    for (int r = 0; r < R; ++r) part[r] = set1(0.0f);
    int64_t i = begin;
    for (; i + 16 <= end; i += 16) {
      const V16 v = load(x + i);
      for (int r = 0; r < R; ++r) part[r] = fma(Codes::load(rows[r].codes, i), v, part[r]);
    }
    if (i < end) {
      const V16 v = load(x + i);
      for (int r = 0; r < R; ++r)
        part[r] = fma(Codes::load_last(rows[r].codes, i, end - i), v, part[r]);
    }
    for (int r = 0; r < R; ++r) {
      total[r] =
          rows[r].scales ? fma(set1(rows[r].scales[g]), part[r], total[r]) : add(part[r], total[r]);
    }
  }
  for (int r = 0; r < R; ++r) out[r] = sum(total[r]);
}

// f<M>() for a number of rows from 1 to 4.
template <class F>
inline void with_rows(int64_t rows, F f) {
  switch (rows) {
    case 1:
      return f.template operator()<1>();
    case 2:
      return f.template operator()<2>();
    case 3:
      return f.template operator()<3>();
    default:
      return f.template operator()<4>();
  }
}

template <class Codes>
void dot(const CodeRow* rows, int count, int64_t k, const float* x, float* out) {
  with_rows(count, [&]<int R>() { dot_rows<Codes, R>(rows, k, x, out); });
}

// ---- Matrix product -----------------------------------------------------------------------------

// An M x (16 N) tile of c in registers, over all of k; the last vector of the tile has `last`
// lanes.
template <int M, int N, bool whole>
void gemm_tile(int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb, float* c,
               int64_t ldc, bool keep, int64_t last) {
  V16 sums[M][N];
  for (int i = 0; i < M; ++i) {
    for (int j = 0; j < N; ++j) {
      sums[i][j] = !keep   ? set1(0.0f)
                   : whole ? load(c + i * ldc + 16 * j)
                           : load_first(c + i * ldc, last);
    }
  }
  for (int64_t p = 0; p < k; ++p) {
    V16 row[N];
    for (int j = 0; j < N; ++j)
      row[j] = whole ? load(b + p * ldb + 16 * j) : load_first(b + p * ldb, last);
    for (int i = 0; i < M; ++i) {
      const V16 v = set1(a[i * lda + p]);
      for (int j = 0; j < N; ++j) sums[i][j] = fma(v, row[j], sums[i][j]);
    }
  }
  for (int i = 0; i < M; ++i) {
    for (int j = 0; j < N; ++j) {
      if (whole)
        store(c + i * ldc + 16 * j, sums[i][j]);
      else
        store_first(c + i * ldc, sums[i][j], last);
    }
  }
}

template <int N, bool whole>
void gemm_column(int64_t m, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
                 float* c, int64_t ldc, bool keep, int64_t last) {
  int64_t i = 0;
  const auto step = [&]<int M>() {
    gemm_tile<M, N, whole>(k, a + i * lda, lda, b, ldb, c + i * ldc, ldc, keep, last);
    i += M;
  };
  while (m - i >= kTileRows) step.template operator()<kTileRows>();
  if (kTileRows > 8 && m - i >= 8) step.template operator()<8>();
  if (kTileRows > 4 && m - i >= 4) step.template operator()<4>();
  if (m - i >= 2) step.template operator()<2>();
  while (m - i >= 1) step.template operator()<1>();
}

// Whole columns of so few rows that tiles of the usual width would have too few sums to keep the
// multipliers busy; how many columns that were.
template <int M>
int64_t gemm_few(int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
                 float* c, int64_t ldc, bool keep) {
  constexpr int N = 2 * kTileVectors;
  int64_t j = 0;
  for (; n - j >= 16 * N; j += 16 * N)
    gemm_tile<M, N, true>(k, a, lda, b + j, ldb, c + j, ldc, keep, 16);
  return j;
}

void gemm(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
          float* c, int64_t ldc, bool keep) {
  int64_t j = 0;
  constexpr int64_t kFew = kTileRows / 4;
  if (m == 1) j = gemm_few<1>(n, k, a, lda, b, ldb, c, ldc, keep);
  if (m == 2 && kFew >= 2) j = gemm_few<2>(n, k, a, lda, b, ldb, c, ldc, keep);
  if (m == 3 && kFew >= 3) j = gemm_few<3>(n, k, a, lda, b, ldb, c, ldc, keep);
  for (; n - j >= 16 * kTileVectors; j += 16 * kTileVectors) {
    gemm_column<kTileVectors, true>(m, k, a, lda, b + j, ldb, c + j, ldc, keep, 16);
  }
  for (; n - j >= 16; j += 16) gemm_column<1, true>(m, k, a, lda, b + j, ldb, c + j, ldc, keep, 16);
  if (j < n) gemm_column<1, false>(m, k, a, lda, b + j, ldb, c + j, ldc, keep, n - j);
}

void panel(const float* rows, int64_t count, int64_t ld, int64_t k, float* to) {
  constexpr int64_t kBlock = 16;  // columns at a time: the lines of all 32 rows stay in cache
  for (int64_t p0 = 0; p0 < k; p0 += kBlock) {
    const int64_t p1 = min64(k, p0 + kBlock);
    for (int64_t r = 0; r < 32; ++r) {
      for (int64_t p = p0; p < p1; ++p) to[p * 32 + r] = r < count ? rows[r * ld + p] : 0.0f;
    }
  }
}

// ---- Attention from the codes of a cache --------------------------------------------------------

// Bytes of codes that are asked for before they are needed: what is needed next lies behind.
constexpr int64_t kAhead = 4096;

template <class Codes, int M, int N>
void score_tiles(const float* x, int64_t d, const CodeColumns& keys, int64_t step, float* to,
                 int64_t ld) {
  V16 sums[M * N];
  unrolled<M * N>([&](auto i) { sums[i] = set1(0.0f); });
  const auto* const codes = static_cast<const uint8_t*>(keys.codes);
  const int64_t groups = (d + keys.group - 1) / keys.group;
  for (int64_t begin = 0, g = 0; begin < d; begin += keys.group, ++g) {
    const int64_t end = min64(d, begin + keys.group);
    const auto columns = [&](auto value) PITH_INLINED {
      for (int64_t c = begin; c < end; ++c) {
        V16 of_keys[N];
        unrolled<N>([&](auto j) {
          const uint8_t* const tile = codes + j * step;
          __builtin_prefetch(tile + N * step + c * (step / d));
          of_keys[j] = value(Codes::load(tile, 16 * c), j);
        });
        unrolled<M * N>(
            [&](auto i) { sums[i] = fma(set1(x[i / N * d + c]), of_keys[i % N], sums[i]); });
      }
    };
    if (!keys.scales) {
      columns([](V16 v, auto) PITH_INLINED { return v; });
      continue;
    }
    V16 s[N], z[N];
    unrolled<N>([&](auto j) {
      s[j] = load(keys.scales + 16 * (j * groups + g));
      z[j] = keys.zeros ? load(keys.zeros + 16 * (j * groups + g)) : set1(0.0f);
    });
    columns([&](V16 v, auto j) PITH_INLINED { return mul(s[j], sub(v, z[j])); });
  }
  unrolled<M * N>([&](auto i) { store(to + i / N * ld + 16 * (i % N), sums[i]); });
}

constexpr int kFewVectors = kTileVectors > 1 ? 4 : 1;  // whose sums for 4 rows fit the registers

template <class Codes>
void scores(int64_t rows, const float* x, int64_t d, const CodeColumns& keys, int64_t step,
            int64_t tiles, float* to, int64_t ld) {
  const int64_t groups = (d + keys.group - 1) / keys.group;
  with_rows(rows, [&]<int M>() {
    CodeColumns at = keys;
    const auto some = [&]<int N>(int64_t t) {
      score_tiles<Codes, M, N>(x, d, at, step, to + 16 * t, ld);
      at.codes = static_cast<const uint8_t*>(at.codes) + N * step;
      if (at.scales) at.scales += 16 * N * groups;
      if (at.zeros) at.zeros += 16 * N * groups;
    };
    int64_t t = 0;
    for (; tiles - t >= kFewVectors; t += kFewVectors) some.template operator()<kFewVectors>(t);
    for (; t < tiles; ++t) some.template operator()<1>(t);
  });
}

template <class Codes, int M, int N>
void weigh_columns(const float* weights, int64_t ld, const CodeRow& values, int64_t step, int64_t n,
                   int64_t column, int64_t d, float* to) {
  V16 sums[M * N];
  unrolled<M * N>([&](auto i) { sums[i] = load(to + i / N * d + column + 16 * (i % N)); });
  const int64_t groups = (d + values.group - 1) / values.group;
  const auto* codes = static_cast<const uint8_t*>(values.codes);
  const auto keys = [&](auto value) PITH_INLINED {
    for (int64_t key = 0; key < n; ++key, codes += step) {
      V16 of_key[N];
      unrolled<N>([&](auto j) {
        if (64 * j < step) __builtin_prefetch(codes + kAhead + 64 * j);
      });
      unrolled<N>(
          [&](auto j) { of_key[j] = value(Codes::load(codes, column + 16 * j), key, 16 * j); });
      unrolled<M * N>(
          [&](auto i) { sums[i] = fma(set1(weights[i / N * ld + key]), of_key[i % N], sums[i]); });
    }
  };
  if (!values.scales) {
    keys([](V16 v, int64_t, int64_t) PITH_INLINED { return v; });
  } else if (groups == 1) {
    keys([&](V16 v, int64_t key, int64_t) PITH_INLINED {
      return mul(set1(values.scales[key]), sub(v, set1(values.zeros ? values.zeros[key] : 0)));
    });
  } else {
    keys([&](V16 v, int64_t key, int64_t at) PITH_INLINED {
      const int64_t g = key * groups + (column + at) / values.group;
      return mul(set1(values.scales[g]), sub(v, set1(values.zeros ? values.zeros[g] : 0)));
    });
  }
  unrolled<M * N>([&](auto i) { store(to + i / N * d + column + 16 * (i % N), sums[i]); });
}

template <class Codes>
void weigh(int64_t rows, const float* weights, int64_t ld, const CodeRow& values, int64_t step,
           int64_t n, int64_t d, float* to) {
  with_rows(rows, [&]<int M>() {
    int64_t c = 0;
    for (; d - c >= 16 * kFewVectors; c += 16 * kFewVectors)
      weigh_columns<Codes, M, kFewVectors>(weights, ld, values, step, n, c, d, to);
    for (; c < d; c += 16) weigh_columns<Codes, M, 1>(weights, ld, values, step, n, c, d, to);
  });
}

// ---- Tiles of 16 rows of codes in groups --------------------------------------------------------

// Four columns of a half unit (16 columns) each: the four neighbours of a row in the bytes of its
// lane.
struct Half {
  Bytes c[4];
};

// As they are stored.
constexpr int bits_of(int bits) { return bits == kE2M1Bits ? 4 : bits; }
// That hold any code of the integers that kernels see.
constexpr int value_bits(int bits) { return bits == kE2M1Bits ? 5 : bits; }

template <int bits, int half>
PITH_INLINE Half load_half(const uint8_t* unit) {
  Half h;
  if constexpr (bits == kE2M1Bits) {
    h = load_half<4, half>(unit);
    for (auto& c : h.c) c = looked_up(c);
    return h;
  }
  if constexpr (bits == 8) {
    for (int i = 0; i < 4; ++i) h.c[i] = load_bytes(unit + 64 * (4 * half + i));
  } else if constexpr (bits >= 4) {
    for (int i = 0; i < 2; ++i) {
      const Bytes line = load_bytes(unit + 64 * (2 * half + i));
      h.c[2 * i] = masked<0x0f>(line);
      h.c[2 * i + 1] = masked<0x0f>(shifted<4>(line));
    }
  } else {
    const Bytes line = load_bytes(unit + 64 * half);
    h.c[0] = masked<3>(line);
    h.c[1] = masked<3>(shifted<2>(line));
    h.c[2] = masked<3>(shifted<4>(line));
    h.c[3] = masked<3>(shifted<6>(line));
  }
  if constexpr (bits == 6) {
    const Bytes line = load_bytes(unit + 64 * (4 + half));
    h.c[0] = joined(h.c[0], masked<0x30>(shifted<-4>(line)));
    h.c[1] = joined(h.c[1], masked<0x30>(shifted<-2>(line)));
    h.c[2] = joined(h.c[2], masked<0x30>(line));
    h.c[3] = joined(h.c[3], masked<0x30>(shifted<2>(line)));
  } else if constexpr (bits == 5 || bits == 3) {
    constexpr int at = bits - 1;  // where the last bit goes
    const Bytes line = load_bytes(unit + 64 * at);
    h.c[0] = joined(h.c[0], masked<1 << at>(shifted<4 * half + 0 - at>(line)));
    h.c[1] = joined(h.c[1], masked<1 << at>(shifted<4 * half + 1 - at>(line)));
    h.c[2] = joined(h.c[2], masked<1 << at>(shifted<4 * half + 2 - at>(line)));
    h.c[3] = joined(h.c[3], masked<1 << at>(shifted<4 * half + 3 - at>(line)));
  }
  return h;
}

// f(codes, column) of every half unit of columns [begin, end); begin is a multiple of 16.
template <int bits, class F>
PITH_INLINE void each_half(const uint8_t* codes, int64_t begin, int64_t end, F f) {
  constexpr int kUnit = 64 * bits_of(bits);
  const uint8_t* unit = codes + static_cast<uint64_t>(begin) / 32 * kUnit;
  int64_t i = begin;
  if (i % 32 != 0 && i < end) {
    f(load_half<bits, 1>(unit), i);
    i += 16;
    unit += kUnit;
  }
  for (; i + 16 < end; i += 32, unit += kUnit) {
    f(load_half<bits, 0>(unit), i);
    f(load_half<bits, 1>(unit), i + 16);
  }
  if (i < end) f(load_half<bits, 0>(unit), i);
}

// g<bits>() for the bits of a tile.
template <class G>
inline void with_bits(int bits, G g) {
  switch (bits) {
    case kE2M1Bits:
      return g.template operator()<kE2M1Bits>();
    case 2:
      return g.template operator()<2>();
    case 3:
      return g.template operator()<3>();
    case 4:
      return g.template operator()<4>();
    case 5:
      return g.template operator()<5>();
    case 6:
      return g.template operator()<6>();
    default:
      return g.template operator()<8>();
  }
}

// f(values of the 16 rows, column, column % 4) for columns [begin, end).
template <int bits, bool nf4, class F>
PITH_INLINE void each_column(const uint8_t* codes, int64_t begin, int64_t end, F f) {
  each_half<bits>(codes, begin, end, [&](const Half& h, int64_t column) PITH_INLINED {
    const auto g = [&]<int byte>(Bytes four, int64_t at) PITH_INLINED {
      V16 v = byte_values<byte, nf4>(four);
      if constexpr (bits == kE2M1Bits) v = sub(v, set1(kE2M1Zero));
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

template <int bits, bool nf4>
void tile_panel_of(const GroupTile& tile, int64_t k, float* to) {
  for (int64_t begin = 0, g = 0; begin < k; begin += tile.group, ++g) {
    const V16 s = load(tile.scales + 16 * g);
    const V16 z = tile.zeros ? load(tile.zeros + 16 * g) : set1(0.0f);
    each_column<bits, nf4>(tile.codes, begin, min64(k, begin + tile.group),
                           [&](V16 v, int64_t i, auto)
                               PITH_INLINED { store(to + 32 * i, mul(s, sub(v, z))); });
  }
}
void tile_panel(const GroupTile& tile, int64_t k, float* to) {
  if (tile.bits == 0) return tile_panel_of<4, true>(tile, k, to);
  with_bits(tile.bits, [&]<int bits>() { tile_panel_of<bits, false>(tile, k, to); });
}

float sum_of(const float* x, int64_t n) {
  V16 sums = set1(0.0f);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) sums = add(sums, load(x + i));
  if (i < n) sums = add(sums, load_first(x + i, n - i));
  return sum(sums);
}

// sum over groups of s * (sum of code * x - z * sum of x)
template <int bits, bool nf4, int M>
void tile_rows_of(const GroupTile& tile, int64_t k, const float* x, int64_t ldx, float* y,
                  int64_t ldy, int64_t rows, bool keep) {
  V16 total[M];
  unrolled<M>([&](auto t) { total[t] = set1(0.0f); });
  for (int64_t begin = 0, g = 0; begin < k; begin += tile.group, ++g) {
    const int64_t end = min64(k, begin + tile.group);
    V16 part[4 * M];  // four of a token, so that additions need not wait for each other
    unrolled<4 * M>([&](auto i) { part[i] = set1(0.0f); });
    each_column<bits, nf4>(tile.codes, begin, end, [&](V16 v, int64_t i, auto place) PITH_INLINED {
      unrolled<M>([&](auto t) {
        V16& to = part[4 * t + place];
        to = fma(v, set1(x[t * ldx + i]), to);
      });
    });
    unrolled<M>([&](auto t) {
      V16 sum = add(add(part[4 * t], part[4 * t + 1]), add(part[4 * t + 2], part[4 * t + 3]));
      if (tile.zeros)
        sum = fma(load(tile.zeros + 16 * g), set1(-sum_of(x + t * ldx + begin, end - begin)), sum);
      total[t] = fma(load(tile.scales + 16 * g), sum, total[t]);
    });
  }
  unrolled<M>([&](auto t) {
    float* const to = y + t * ldy;
    store_first(to, keep ? add(load_first(to, rows), total[t]) : total[t], rows);
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

void tile_rows(const GroupTile& tile, int64_t k, const float* x, int64_t ldx, int64_t m, float* y,
               int64_t ldy, int64_t rows, bool keep) {
  by_tokens(m, [&]<int M>(int64_t t) {
    const float* const from = x + t * ldx;
    float* const to = y + t * ldy;
    if (tile.bits == 0) return tile_rows_of<4, true, M>(tile, k, from, ldx, to, ldy, rows, keep);
    with_bits(tile.bits, [&]<int bits>() {
      tile_rows_of<bits, false, M>(tile, k, from, ldx, to, ldy, rows, keep);
    });
  });
}

// ---- Products of integers -----------------------------------------------------------------------

void unpack_tile(int bits, const uint8_t* codes, int64_t units, uint8_t* to) {
  with_bits(bits, [&]<int b>() {
    each_half<b>(codes, 0, 32 * units, [&](const Half& h, int64_t column) PITH_INLINED {
      for (int i = 0; i < 4; ++i) store_bytes(to + 32 * column + 128 * i, h.c[i]);
    });
  });
}

void unpack_zeros(int bits, const uint8_t* from, int64_t units, int32_t* to) {
  with_bits(bits, [&]<int b>() {
    for (int64_t i = 0; i < units; ++i) store_ints(to + 16 * i, packed_codes<b>(from + 2 * b * i));
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

template <int bits, int M>
void int_rows_of(const IntTile& w, const IntCut& cut, int64_t k, const IntInputs& x, int64_t token,
                 float* y, int64_t ldy, int64_t rows, bool keep) {
  const int8_t* const inputs = x.x + token * x.stride;
  const bool few = cut.step <= kFewColumns;
  V16 total[M];
  unrolled<M>([&](auto t) { total[t] = keep ? load_first(y + t * ldy, rows) : set1(0.0f); });
  Groups of_steps{cut.steps_of_group}, of_pieces{cut.pieces_of_group};
  I16 zeros = no_ints();
  V16 scales = set1(0.0f);
  for (int64_t p = 0, step = 0; p < cut.pieces; ++p) {
    I16 sum[M];
    const int64_t end_of_piece = min64(cut.steps, step + cut.steps_of_piece);
    for (bool first = true; step < end_of_piece; ++step, first = false) {
      // Two sums of a token, so that additions need not wait for each other.
      I16 part[2 * M];
      const int32_t* const x_sums = x.sums + step * x.all + token;
      if (w.zeros) {
        zeros = load_ints(w.zeros + 16 * step);
      } else if (of_steps.begins()) {
        zeros = packed_codes<bits>(w.packed_zeros + 2 * bits * of_steps.group);
      }
      unrolled<M>([&](auto t) {
        part[2 * t] = few ? minus_small_product(zeros, x_sums[t]) : minus_product(zeros, x_sums[t]);
        part[2 * t + 1] = no_ints();
      });
      each_half<bits>(
          w.codes, step * cut.step, min64(k, (step + 1) * cut.step),
          [&](const Half& h, int64_t column) PITH_INLINED {
            const uint8_t* const ahead = w.codes + column * (2 * bits_of(bits)) + kAhead;
            unrolled<(bits_of(bits) + 1) / 2>([&](auto i) { __builtin_prefetch(ahead + 64 * i); });
            unrolled<M>([&](auto t) {
              dot16<value_bits(bits)>(part + 2 * t, h.c, inputs + t * x.stride + column);
            });
          });
      unrolled<M>([&](auto t) {
        I16 all = plus(part[2 * t], part[2 * t + 1]);
        if (w.factors) all = times(all, w.factors + 16 * step);
        sum[t] = first ? all : plus(sum[t], all);
      });
    }
    if (w.scales) {
      scales = load(w.scales + 16 * p);
    } else if (of_pieces.begins()) {
      if constexpr (bits == kE2M1Bits)
        scales = load_powers(w.powers + 16 * of_pieces.group);
      else
        scales = load_f16(w.half_scales + 16 * of_pieces.group);
    }
    const float* const x_scales = x.scales + p / cut.pieces_of_block * x.all + token;
    unrolled<M>([&](auto t) {
      total[t] = fused(to_float(sum[t]), mul(scales, set1(x_scales[t])), total[t]);
    });
  }
  unrolled<M>([&](auto t) { store_first(y + t * ldy, total[t], rows); });
}

void int_rows(const IntTile& w, const IntCut& cut, int64_t k, const IntInputs& x, float* y,
              int64_t ldy, int64_t rows, bool keep) {
  by_tokens(x.m, [&]<int M>(int64_t t) {
    with_bits(w.bits, [&]<int bits>() {
      int_rows_of<bits, M>(w, cut, k, x, t, y + t * ldy, ldy, rows, keep);
    });
  });
}

// Codes of 16 rows as they come from `unpack`.
bool center(int64_t columns, const int32_t* zeros, const int32_t* factors, uint8_t* codes,
            int32_t* sums) {
  uint8_t zero[64];
  int32_t offset[64], by[64];
  for (int i = 0; i < 64; ++i) {
    zero[i] = static_cast<uint8_t>(zeros[i / 4]);
    by[i] = factors ? factors[i / 4] : 1;
    offset[i] = 128 - zeros[i / 4] * by[i];
  }
  I16 sum = load_ints(sums);
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
    sum = dot_signed<8>(sum, ones, load_bytes(codes));
  }
  store_ints(sums, sum);
  return (beyond & ~255) == 0;
}

constexpr int kPanelTokens = kTileRows > 4 ? kTileRows / 2 : 2;  // sums in integers and in floats

// M tokens by 16 N rows from `row` on, in registers.
template <int bits, bool rest, int M, int N>
void int_tile(const IntCut& cut, int64_t begin, int64_t end, int64_t k, const PanelInputs& x,
              int64_t token, const IntPanel& w, int64_t row, float* c, bool keep) {
  const int64_t piece = cut.step * cut.steps_of_piece;
  const uint8_t* inputs = x.x + token * x.stride + begin * piece;
  const uint8_t* codes = w.codes + 32 * begin * piece + 4 * row;
  V16 total[M * N];
  unrolled<M * N>(
      [&](auto i) { total[i] = keep ? load(c + i / N * 32 + row + 16 * (i % N)) : set1(0.0f); });
  const float* x_scales = x.scales + begin / cut.pieces_of_block * x.all + token;
  int64_t of_block = begin % cut.pieces_of_block;
  for (int64_t p = begin; p < end; ++p) {
    const int64_t at = 32 * p + row;
    I16 sums[M * N];
    unrolled<M * N>([&](auto i) { sums[i] = load_ints(w.offsets + at + 16 * (i % N)); });
    if constexpr (rest) {
      unrolled<M * N>([&](auto i) {
        const int32_t x_sum = x.sums[p * x.all + token + i / N];
        sums[i] = plus(sums[i], minus_product(load_ints(w.rest + at + 16 * (i % N)), x_sum));
      });
    }
    for (int64_t left = min64(piece, k - p * piece); left > 0; left -= 4) {
      Bytes four[N];
      unrolled<N>([&](auto j) { four[j] = load_bytes(codes + 64 * j); });
      unrolled<M * N>([&](auto i) {
        sums[i] = dot_signed<bits>(sums[i], inputs + i / N * x.stride, four[i % N]);
      });
      codes += 128;
      inputs += 4;
    }
    V16 scales[N];
    unrolled<N>([&](auto j) { scales[j] = load(w.scales + at + 16 * j); });
    unrolled<M * N>([&](auto i) {
      total[i] = fused(to_float(sums[i]), mul(scales[i % N], set1(x_scales[i / N])), total[i]);
    });
    if (++of_block < cut.pieces_of_block) continue;
    of_block = 0;
    x_scales += x.all;
  }
  unrolled<M * N>([&](auto i) { store(c + i / N * 32 + row + 16 * (i % N), total[i]); });
}

template <int bits, bool rest>
void int_gemm_of(const IntCut& cut, int64_t begin, int64_t end, int64_t k, const PanelInputs& x,
                 int64_t token, int64_t m, const IntPanel& w, float* c, bool keep) {
  for (int64_t row = 0; row < 32; row += 16 * kTileVectors) {
    int64_t t = 0;
    const auto step = [&]<int M>() {
      int_tile<bits, rest, M, kTileVectors>(cut, begin, end, k, x, token + t, w, row, c + 32 * t,
                                            keep);
      t += M;
    };
    while (m - t >= kPanelTokens) step.template operator()<kPanelTokens>();
    if (kPanelTokens > 4 && m - t >= 4) step.template operator()<4>();
    if (kPanelTokens > 2 && m - t >= 2) step.template operator()<2>();
    while (m - t >= 1) step.template operator()<1>();
  }
}
void int_gemm(int bits, const IntCut& cut, int64_t begin, int64_t end, int64_t k,
              const PanelInputs& x, int64_t token, int64_t m, const IntPanel& w, float* c,
              bool keep) {
  const auto multiply = [&](auto of) { of(cut, begin, end, k, x, token, m, w, c, keep); };
  if (w.rest) return multiply(int_gemm_of<8, true>);
  if (bits == 8) return multiply(int_gemm_of<8, false>);
  multiply(int_gemm_of<6, false>);
}

// ---- Ceilings -----------------------------------------------------------------------------------

double int_peak(int64_t n) {
  constexpr int kSums = kTileRows * kTileVectors;
  uint8_t codes[64] = {1, 2, 3};
  const int8_t x[4] = {1, 2, 3, 4};
  I16 sums[kSums];
  const Bytes c = load_bytes(codes);
  unrolled<kSums>([&](auto i) { sums[i] = minus_product(no_ints(), i); });
  for (int64_t p = 0; p < n; ++p) {
    unrolled<kSums>([&](auto i) { sums[i] = dot4<6>(sums[i], c, x); });
    __asm__ volatile("" : : : "memory");
  }
  unrolled<kSums - 1>([&](auto i) { sums[kSums - 1] = plus(sums[kSums - 1], sums[i]); });
  int32_t kept[16];
  store_ints(kept, sums[kSums - 1]);
  __asm__ volatile("" : : "r"(kept) : "memory");
  return 2.0 * 64 * kSums * static_cast<double>(n);
}

double float_peak(int64_t n) {
  constexpr int kSums = kTileRows * kTileVectors;
  V16 sums[kSums];
  const V16 a = set1(0.5f), b = set1(0.25f);
  unrolled<kSums>([&](auto i) { sums[i] = set1(static_cast<float>(i)); });
  for (int64_t p = 0; p < n; ++p) {
    unrolled<kSums>([&](auto i) { sums[i] = fma(sums[i], a, b); });
    __asm__ volatile("" : : : "memory");
  }
  unrolled<kSums - 1>([&](auto i) { sums[kSums - 1] = add(sums[kSums - 1], sums[i]); });
  float kept[16];
  store(kept, sums[kSums - 1]);
  __asm__ volatile("" : : "r"(kept) : "memory");
  return 2.0 * 16 * kSums * static_cast<double>(n);
}

// ---- Elementwise --------------------------------------------------------------------------------

// e^x within 2 ulp over the range where it is normal; the ends of that range beyond it (1.2e-38,
// 2.2e38). NaN stays NaN: min and max give their second operand where one is NaN. Range reduction
// by ln 2 in two parts (Cody and Waite), polynomial of degree 6.
V16 exp16(V16 x) {
  x = max(set1(-87.3f), min(set1(88.3f), x));
  const V16 n = round_nearest(mul(x, set1(1.44269504088896f)));
  V16 r = fma(n, set1(-0.693359375f), x);
  r = fma(n, set1(2.12194440e-4f), r);
  V16 p = set1(1.0f / 720);
  p = fma(p, r, set1(1.0f / 120));
  p = fma(p, r, set1(1.0f / 24));
  p = fma(p, r, set1(1.0f / 6));
  p = fma(p, r, set1(0.5f));
  p = fma(p, r, set1(1.0f));
  p = fma(p, r, set1(1.0f));
  return mul(p, power_of_two(n));
}

// Calls f(vector, lanes) and stores what it returns.
template <class F>
void map(float* x, int64_t n, F f) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(x + i, f(load(x + i), i, int64_t{16}));
  if (i < n) store_first(x + i, f(load_first(x + i, n - i), i, n - i), n - i);
}

void rms_norm(const float* x, const float* weight, int64_t n, float eps, float* y) {
  V16 squares = set1(0.0f);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) squares = fma(load(x + i), load(x + i), squares);
  if (i < n) {
    const V16 v = load_first(x + i, n - i);
    squares = fma(v, v, squares);
  }
  const float factor = 1.0f / __builtin_sqrtf(sum(squares) / static_cast<float>(n) + eps);
  for (i = 0; i + 16 <= n; i += 16)
    store(y + i, mul(mul(load(x + i), set1(factor)), load(weight + i)));
  if (i < n) {
    store_first(y + i,
                mul(mul(load_first(x + i, n - i), set1(factor)), load_first(weight + i, n - i)),
                n - i);
  }
}

void silu_mul(float* gate, const float* up, int64_t n) {
  map(gate, n, [&](V16 g, int64_t i, int64_t lanes) {
    const V16 u = load_first(up + i, lanes);
    return mul(div(g, add(set1(1.0f), exp16(sub(set1(0.0f), g)))), u);
  });
}

// g sigmoid(2 u) for 0.5 g (1 + tanh(u))
void gelu_tanh_mul(float* gate, const float* up, int64_t n) {
  map(gate, n, [&](V16 g, int64_t i, int64_t lanes) {
    const V16 cubic = fma(mul(g, g), set1(-2 * 0.79788456f * 0.044715f), set1(-2 * 0.79788456f));
    return mul(div(g, add(set1(1.0f), exp16(mul(g, cubic)))), load_first(up + i, lanes));
  });
}

// tanh(u) = 1 - 2 / (e^(2 u) + 1)
void soft_cap(float* x, int64_t n, float cap) {
  map(x, n, [&](V16 v, int64_t, int64_t) {
    const V16 e = exp16(mul(v, set1(2 / cap)));
    return add(set1(cap), div(set1(-2 * cap), add(e, set1(1.0f))));
  });
}

void scale(float* x, int64_t n, float factor) {
  map(x, n, [&](V16 v, int64_t, int64_t) { return mul(v, set1(factor)); });
}

float max_of(const float* x, int64_t n) {
  V16 m = set1(-__builtin_huge_valf());
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) m = max(m, load(x + i));
  float best = max_lane(m);
  for (; i < n; ++i) best = x[i] > best ? x[i] : best;
  return best;
}

float softmax_step(float* x, int64_t n, float* running_max, float* running_sum) {
  const float block_max = max_of(x, n);
  const float new_max = block_max > *running_max ? block_max : *running_max;
  float factor_lanes[16];
  store(factor_lanes, exp16(set1(*running_max - new_max)));
  const float factor = *running_sum == 0 ? 0 : factor_lanes[0];
  V16 total = set1(0.0f);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const V16 e = exp16(sub(load(x + i), set1(new_max)));
    store(x + i, e);
    total = add(total, e);
  }
  float rest = 0;
  if (i < n) {
    store_first(x + i, exp16(sub(load_first(x + i, n - i), set1(new_max))), n - i);
    for (; i < n; ++i) rest += x[i];
  }
  *running_sum = *running_sum * factor + sum(total) + rest;
  *running_max = new_max;
  return factor;
}

double log_sum_exp(const float* x, int64_t n) {
  const float top = max_of(x, n);
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += 1024) {  // f32 within a piece, f64 among them
    const int64_t end = min64(n, begin + 1024);
    V16 part = set1(0.0f);
    int64_t i = begin;
    for (; i + 16 <= end; i += 16) part = add(part, exp16(sub(load(x + i), set1(top))));
    total += static_cast<double>(sum(part));
    for (; i < end; ++i) {
      float lanes[16];
      store(lanes, exp16(set1(x[i] - top)));
      total += static_cast<double>(lanes[0]);
    }
  }
  return static_cast<double>(top) + __builtin_log(total);
}

void widen_f16(const uint16_t* from, int64_t n, float* to) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(to + i, load_f16(from + i));
  if (i < n) store_first(to + i, F16::load_last(from, i, n - i), n - i);
}
void narrow_f16(const float* from, int64_t n, uint16_t* to) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store_f16(to + i, load(from + i));
  if (i < n) {
    uint16_t last[16];
    store_f16(last, load_first(from + i, n - i));
    for (int64_t j = 0; i + j < n; ++j) to[i + j] = last[j];
  }
}

void widen_powers(const uint8_t* from, int64_t n, float* to) {
  for (int64_t i = 0; i < n; i += 16) store(to + i, load_powers(from + i));
}

#define PITH_BY_FLOATS(f) f<F32>, f<F16>, f<BF16>, f<F8E4M3>, f<F8E5M2>
#define PITH_BY_CODES(f) \
  { PITH_BY_FLOATS(f), f<Packed<4>>, f<I8> }
#define PITH_KERNEL_TABLE(name)                                                                  \
  {                                                                                              \
    name, gemm, panel, PITH_BY_CODES(decode_row), {PITH_BY_FLOATS(dot)}, PITH_BY_CODES(scores),  \
        PITH_BY_CODES(weigh), PITH_BY_CODES(decode_columns), tile_panel, tile_rows, unpack_tile, \
        unpack_zeros, int_rows, center, int_gemm, int_peak, float_peak, widen_f16, narrow_f16,   \
        widen_powers, rms_norm, silu_mul, gelu_tanh_mul, soft_cap, softmax_step, scale,          \
        log_sum_exp                                                                              \
  }
