// Attention of few queries, straight from the codes of a KV cache. Text of body.h.

// Bytes of codes that are asked for before they are needed: what is needed next lies behind.
constexpr int64_t kAhead = 4096;

template <class Codes, int M, int N>
void attn_qk_tiles(const float* x, int64_t d, const CodeColumns& keys, int64_t step, float* to,
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
            [&](auto i) { sums[i] = mul_add(set1(x[i / N * d + c]), of_keys[i % N], sums[i]); });
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
void attn_qk(int64_t rows, const float* x, int64_t d, const CodeColumns& keys, int64_t step,
             int64_t tiles, float* to, int64_t ld) {
  const int64_t groups = (d + keys.group - 1) / keys.group;
  with_rows(rows, [&]<int M>() {
    CodeColumns at = keys;
    const auto some = [&]<int N>(int64_t t) {
      attn_qk_tiles<Codes, M, N>(x, d, at, step, to + 16 * t, ld);
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
void attn_pv_columns(const float* weights, int64_t ld, const CodeRow& values, int64_t step,
                     int64_t n, int64_t column, int64_t d, float* to) {
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
      unrolled<M * N>([&](auto i) {
        sums[i] = mul_add(set1(weights[i / N * ld + key]), of_key[i % N], sums[i]);
      });
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
void attn_pv(int64_t rows, const float* weights, int64_t ld, const CodeRow& values, int64_t step,
             int64_t n, int64_t d, float* to) {
  with_rows(rows, [&]<int M>() {
    int64_t c = 0;
    for (; d - c >= 16 * kFewVectors; c += 16 * kFewVectors)
      attn_pv_columns<Codes, M, kFewVectors>(weights, ld, values, step, n, c, d, to);
    for (; c < d; c += 16) attn_pv_columns<Codes, M, 1>(weights, ld, values, step, n, c, d, to);
  });
}
