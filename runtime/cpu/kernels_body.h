// The text of all kernel sets. A file of one instruction level defines, in its own anonymous
// namespace, the 16-lane vector V16 and its primitives (see kernels_scalar.cc), then includes this
// file there, then fills a table with PITH_KERNEL_TABLE. No include guard: one inclusion a file;
// everything here has internal linkage, so that code compiled for one level is never picked by the
// linker for another.

inline V16 load16(const float* p) { return load(p); }

// ---- Elements of a row, 16 at a time
// ---------------------------------------------------------------------------------

template <class T, class Self>
struct Plain {
  static V16 load(const void* row, int64_t i) { return Self::read(static_cast<const T*>(row) + i); }
  static V16 load_last(const void* row, int64_t i,
                       int64_t count) {  // never touches what follows the row
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
template <int bits>
struct Packed {
  static V16 load(const void* row, int64_t i) {
    return codes<bits>(static_cast<const uint8_t*>(row) + i / 8 * bits);
  }
  static V16 load_last(const void* row, int64_t i, int64_t) { return load(row, i); }
};
struct Nf4 {
  static V16 load(const void* row, int64_t i) {
    return nf4_values(static_cast<const uint8_t*>(row) + i / 2);
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

// sum over groups of s * (sum of code * x - z * sum of x)
template <class Codes, int R>
void dot_rows(const CodeRow* rows, int64_t k, const float* x, float* out) {
  V16 total[R];
  for (int r = 0; r < R; ++r) total[r] = set1(0.0f);
  const int64_t group = rows[0].group;
  const bool has_zeros = rows[0].zeros != nullptr;
  for (int64_t begin = 0, g = 0; begin < k; begin += group, ++g) {
    const int64_t end = min64(k, begin + group);
    V16 part[R], x_sum = set1(0.0f);
    for (int r = 0; r < R; ++r) part[r] = set1(0.0f);
    int64_t i = begin;
    for (; i + 16 <= end; i += 16) {
      const V16 v = load(x + i);
      x_sum = add(x_sum, v);
      for (int r = 0; r < R; ++r) part[r] = fma(Codes::load(rows[r].codes, i), v, part[r]);
    }
    if (i < end) {
      const V16 v = load(x + i);
      x_sum = add(x_sum, v);
      for (int r = 0; r < R; ++r)
        part[r] = fma(Codes::load_last(rows[r].codes, i, end - i), v, part[r]);
    }
    for (int r = 0; r < R; ++r) {
      if (has_zeros) part[r] = fma(set1(-rows[r].zeros[g]), x_sum, part[r]);
      total[r] =
          rows[r].scales ? fma(set1(rows[r].scales[g]), part[r], total[r]) : add(part[r], total[r]);
    }
  }
  for (int r = 0; r < R; ++r) out[r] = sum(total[r]);
}

template <class Codes>
void dot(const CodeRow* rows, int count, int64_t k, const float* x, float* out) {
  switch (count) {
    case 4:
      dot_rows<Codes, 4>(rows, k, x, out);
      break;
    case 3:
      dot_rows<Codes, 3>(rows, k, x, out);
      break;
    case 2:
      dot_rows<Codes, 2>(rows, k, x, out);
      break;
    default:
      dot_rows<Codes, 1>(rows, k, x, out);
      break;
  }
}

// ---- Matrix product
// --------------------------------------------------------------------------------------------------

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

void gemm(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
          float* c, int64_t ldc, bool keep) {
  int64_t j = 0;
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

// ---- Products of integers
// ----------------------------------------------------------------------------------------------

template <int bits>
void unpack_row(const uint8_t* from, int64_t k, uint8_t* to) {
  for (int64_t i = 0; i < k; i += 16) store_bytes(to + i, codes<bits>(from + i / 8 * bits));
}

void unpack_codes(int bits, const uint8_t* from, int64_t k, uint8_t* to) {
  switch (bits) {
    case 2:
      return unpack_row<2>(from, k, to);
    case 3:
      return unpack_row<3>(from, k, to);
    case 4:
      return unpack_row<4>(from, k, to);
    case 5:
      return unpack_row<5>(from, k, to);
    default:
      return unpack_row<6>(from, k, to);
  }
}

void int_dot(const uint8_t* const* rows, int64_t k, int64_t step, const int8_t* x, int32_t* sums) {
  for (int64_t i = 0; i < k; i += step, sums += 4) dot_bytes(rows, i, min64(k, i + step), x, sums);
}

// M tokens by 16 N rows from `row` on, in registers; the last vector of rows has `last` of them.
template <int M, int N>
void int_tile(int64_t k, const IntInputs& x, int64_t token, const IntPanel& w, int64_t row,
              float* c, int64_t ldc, bool keep, int64_t last) {
  const int8_t* const inputs = x.x + token * x.stride;
  const uint8_t* const codes = w.codes + 4 * row;
  I16 sums[M][N];
  for (int i = 0; i < M; ++i) {
    for (int j = 0; j < N; ++j)
      sums[i][j] = minus_product(w.zeros + row + 16 * j, x.sums[token + i]);
  }
  for (int64_t p = 0; p < k; p += 4) {
    Codes4 four[N];
    for (int j = 0; j < N; ++j) four[j] = load_codes4(codes + 32 * p + 64 * j);
    for (int i = 0; i < M; ++i) {
      const Inputs4 v = broadcast4(inputs + i * x.stride + p);
      for (int j = 0; j < N; ++j) sums[i][j] = dot4(sums[i][j], four[j], v);
    }
  }
  for (int j = 0; j < N; ++j) {
    const V16 scales = load(w.scales + row + 16 * j);
    const int64_t lanes = j + 1 < N ? 16 : last;
    for (int i = 0; i < M; ++i) {
      float* const to = c + (token + i) * ldc + row + 16 * j;
      const V16 y = mul(mul(to_float(sums[i][j]), scales), set1(x.scales[token + i]));
      store_first(to, keep ? add(load_first(to, lanes), y) : y, lanes);
    }
  }
}

template <int N>
void int_column(int64_t m, int64_t k, const IntInputs& x, const IntPanel& w, int64_t row, float* c,
                int64_t ldc, bool keep, int64_t last) {
  int64_t t = 0;
  const auto step = [&]<int M>() {
    int_tile<M, N>(k, x, t, w, row, c, ldc, keep, last);
    t += M;
  };
  while (m - t >= kTileRows) step.template operator()<kTileRows>();
  if (kTileRows > 8 && m - t >= 8) step.template operator()<8>();
  if (kTileRows > 4 && m - t >= 4) step.template operator()<4>();
  if (m - t >= 2) step.template operator()<2>();
  while (m - t >= 1) step.template operator()<1>();
}

void int_gemm(int64_t m, int64_t n, int64_t k, const IntInputs& x, const IntPanel& w, float* c,
              int64_t ldc, bool keep) {
  if (kTileVectors == 2 && n > 16) return int_column<2>(m, k, x, w, 0, c, ldc, keep, n - 16);
  for (int64_t r = 0; r < n; r += 16) int_column<1>(m, k, x, w, r, c, ldc, keep, min64(16, n - r));
}

// ---- Elementwise
// -----------------------------------------------------------------------------------------------------

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

#define PITH_BY_CODES(f)                                                                     \
  {                                                                                          \
    f<F32>, f<F16>, f<BF16>, f<F8E4M3>, f<F8E5M2>, f<Packed<2>>, f<Packed<3>>, f<Packed<4>>, \
        f<Packed<5>>, f<Packed<6>>, f<Packed<8>>, f<Nf4>                                     \
  }
#define PITH_KERNEL_TABLE(name)                                                               \
  {                                                                                           \
    name, gemm, panel, PITH_BY_CODES(decode_row), PITH_BY_CODES(dot), unpack_codes, int_dot,  \
        int_gemm, widen_f16, narrow_f16, rms_norm, silu_mul, softmax_step, scale, log_sum_exp \
  }
