// The f32 gemm and the transposition of its panels. Text of body.h.

// An M x (16 N) tile of c in registers, over all of k; the last vector of the tile has `last`
// lanes.
template <int M, int N, bool whole>
void gemm_tile(int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb, float* c,
               int64_t ldc, bool accumulate, int64_t last) {
  V16 sums[M][N];
  for (int i = 0; i < M; ++i) {
    for (int j = 0; j < N; ++j) {
      sums[i][j] = !accumulate ? set1(0.0f)
                   : whole     ? load(c + i * ldc + 16 * j)
                               : load_first(c + i * ldc, last);
    }
  }
  for (int64_t p = 0; p < k; ++p) {
    V16 row[N];
    for (int j = 0; j < N; ++j)
      row[j] = whole ? load(b + p * ldb + 16 * j) : load_first(b + p * ldb, last);
    for (int i = 0; i < M; ++i) {
      const V16 v = set1(a[i * lda + p]);
      for (int j = 0; j < N; ++j) sums[i][j] = mul_add(v, row[j], sums[i][j]);
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
                 float* c, int64_t ldc, bool accumulate, int64_t last) {
  int64_t i = 0;
  const auto step = [&]<int M>() {
    gemm_tile<M, N, whole>(k, a + i * lda, lda, b, ldb, c + i * ldc, ldc, accumulate, last);
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
                 float* c, int64_t ldc, bool accumulate) {
  constexpr int N = 2 * kTileVectors;
  int64_t j = 0;
  for (; n - j >= 16 * N; j += 16 * N)
    gemm_tile<M, N, true>(k, a, lda, b + j, ldb, c + j, ldc, accumulate, 16);
  return j;
}

void gemm(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
          float* c, int64_t ldc, bool accumulate) {
  int64_t j = 0;
  constexpr int64_t kFew = kTileRows / 4;
  if (m == 1) j = gemm_few<1>(n, k, a, lda, b, ldb, c, ldc, accumulate);
  if (m == 2 && kFew >= 2) j = gemm_few<2>(n, k, a, lda, b, ldb, c, ldc, accumulate);
  if (m == 3 && kFew >= 3) j = gemm_few<3>(n, k, a, lda, b, ldb, c, ldc, accumulate);
  for (; n - j >= 16 * kTileVectors; j += 16 * kTileVectors) {
    gemm_column<kTileVectors, true>(m, k, a, lda, b + j, ldb, c + j, ldc, accumulate, 16);
  }
  for (; n - j >= 16; j += 16)
    gemm_column<1, true>(m, k, a, lda, b + j, ldb, c + j, ldc, accumulate, 16);
  if (j < n) gemm_column<1, false>(m, k, a, lda, b + j, ldb, c + j, ldc, accumulate, n - j);
}

void transpose_panel(const float* rows, int64_t count, int64_t ld, int64_t k, float* to) {
  constexpr int64_t kBlock = 16;  // columns at a time: the lines of all 32 rows stay in cache
  for (int64_t p0 = 0; p0 < k; p0 += kBlock) {
    const int64_t p1 = min64(k, p0 + kBlock);
    for (int64_t r = 0; r < 32; ++r) {
      for (int64_t p = p0; p < p1; ++p) to[p * 32 + r] = r < count ? rows[r * ld + p] : 0.0f;
    }
  }
}
