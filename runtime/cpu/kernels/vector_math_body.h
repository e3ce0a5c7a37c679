// Elementwise functions, norms, softmax, conversions. Text of body.h.

// e^x within 2 ulp over the range where it is normal; the ends of that range beyond it (1.2e-38,
// 2.2e38). NaN stays NaN: min and max give their second operand where one is NaN. Range reduction
// by ln 2 in two parts (Cody and Waite), polynomial of degree 6.
V16 exp16(V16 x) {
  x = max(set1(-87.3f), min(set1(88.3f), x));
  const V16 n = round_nearest(mul(x, set1(1.44269504088896f)));
  V16 r = mul_add(n, set1(-0.693359375f), x);
  r = mul_add(n, set1(2.12194440e-4f), r);
  V16 p = set1(1.0f / 720);
  p = mul_add(p, r, set1(1.0f / 120));
  p = mul_add(p, r, set1(1.0f / 24));
  p = mul_add(p, r, set1(1.0f / 6));
  p = mul_add(p, r, set1(0.5f));
  p = mul_add(p, r, set1(1.0f));
  p = mul_add(p, r, set1(1.0f));
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
  for (; i + 16 <= n; i += 16) squares = mul_add(load(x + i), load(x + i), squares);
  if (i < n) {
    const V16 v = load_first(x + i, n - i);
    squares = mul_add(v, v, squares);
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
    const V16 cubic =
        mul_add(mul(g, g), set1(-2 * 0.79788456f * 0.044715f), set1(-2 * 0.79788456f));
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

void f16_to_f32(const uint16_t* from, int64_t n, float* to) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(to + i, load_f16(from + i));
  if (i < n) store_first(to + i, F16::load_last(from, i, n - i), n - i);
}
void f32_to_f16(const float* from, int64_t n, uint16_t* to) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store_f16(to + i, load(from + i));
  if (i < n) {
    uint16_t last[16];
    store_f16(last, load_first(from + i, n - i));
    for (int64_t j = 0; i + j < n; ++j) to[i + j] = last[j];
  }
}

void e8m0_to_f32(const uint8_t* from, int64_t n, float* to) {
  for (int64_t i = 0; i < n; i += 16) store(to + i, load_e8m0(from + i));
}
