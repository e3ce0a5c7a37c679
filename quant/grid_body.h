// The text of grid kernels; included once by each file of an instruction level, inside its
// anonymous namespace.

inline float round_even(
    float v) {  // |v| < 2^22: the f32 adder rounds; beyond, the clamp that follows does not care
  return (v + 12582912.0f) - 12582912.0f;
}
inline float bound(float v, float low, float high) {
  v = v < low ? low : v;
  return v > high ? high : v;
}
inline float lane_sum(float* a) {
  for (int w = 8; w > 0; w /= 2) {
    for (int i = 0; i < w; ++i) a[i] += a[i + w];
  }
  return a[0];
}

void range(const float* x, int64_t n, float* low, float* high) {
  float lows[16] = {}, highs[16] = {};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (int l = 0; l < 16; ++l) {
      lows[l] = x[i + l] < lows[l] ? x[i + l] : lows[l];
      highs[l] = x[i + l] > highs[l] ? x[i + l] : highs[l];
    }
  }
  for (; i < n; ++i) {
    lows[0] = x[i] < lows[0] ? x[i] : lows[0];
    highs[0] = x[i] > highs[0] ? x[i] : highs[0];
  }
  *low = lows[0];
  *high = highs[0];
  for (int l = 1; l < 16; ++l) {
    *low = lows[l] < *low ? lows[l] : *low;
    *high = highs[l] > *high ? highs[l] : *high;
  }
}

void project(const float* x, const float* w, int64_t n, float inverse, float low, float high,
             float* xd, float* dd) {
  float a[16] = {}, b[16] = {};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (int l = 0; l < 16; ++l) {
      const float d = bound(round_even(x[i + l] * inverse), low, high);
      const float wd = w[i + l] * d;
      a[l] += wd * x[i + l];
      b[l] += wd * d;
    }
  }
  for (; i < n; ++i) {
    const float d = bound(round_even(x[i] * inverse), low, high);
    const float wd = w[i] * d;
    a[i % 16] += wd * x[i];
    b[i % 16] += wd * d;
  }
  *xd = lane_sum(a);
  *dd = lane_sum(b);
}

void codes(const float* x, int64_t n, float inverse, float low, float high, uint8_t* out) {
  for (int64_t i = 0; i < n; ++i) {
    out[i] = static_cast<uint8_t>(
        static_cast<int32_t>(bound(round_even(x[i] * inverse), low, high) - low));
  }
}

inline float nearest_integer(float v, float low, float high) {
  return bound(round_even(v), low, high);
}
// `bits` behind the leading one, exponents from `least` on. Adding 1.5 * 2^(e + 23 - bits) leaves
// the f32 adder no more bits than that.
template <int kBits>
inline float nearest_float(float v, float least, float top) {
  v = bound(v, -top, top);
  const auto magnitude = std::bit_cast<int32_t>(v) & 0x7f800000;
  const auto lowest = std::bit_cast<int32_t>(least);
  const int32_t exponent = magnitude > lowest ? magnitude : lowest;
  const auto round = std::bit_cast<float>(exponent + ((23 - kBits) << 23) + 0x400000);
  return (v + round) - round;
}
inline float nearest_nf4(float v) {
  float level = kNf4Values[0];
  for (size_t i = 0; i < 15; ++i)
    level = v > (kNf4Values[i] + kNf4Values[i + 1]) / 2 ? kNf4Values[i + 1] : level;
  return level;
}

// run(nearest) with the rounding of these levels
template <class Run>
inline void with_levels(Levels levels, Run run) {
  switch (levels) {
    case Levels::kIntegers:
      return run([](float v, float low, float high) { return nearest_integer(v, low, high); });
    case Levels::kE4M3:
      return run([](float v, float, float) { return nearest_float<3>(v, 0x1p-6f, 448); });
    case Levels::kE5M2:
      return run([](float v, float, float) { return nearest_float<2>(v, 0x1p-14f, 57344); });
    case Levels::kNf4:
      return run([](float v, float, float) { return nearest_nf4(v); });
  }
}

template <bool kMasked, class Nearest>
inline void sweep_with(const SweepJob& j, Nearest nearest) {
  const int64_t lanes = j.lanes;
  for (int64_t p = j.begin; p < j.end; ++p) {
    float* t = j.target + p * lanes;
    const float* w = j.original + p * lanes;
    float* c = j.codes + p * lanes;
    float* e = j.error + p * lanes;
    const float d = j.variance[p];
    const float* kept = kMasked ? j.kept + p * lanes : nullptr;
    for (int64_t l = 0; l < lanes; ++l) {
      float q = nearest(t[l] * j.inverse[l], -j.zero[l], j.top - j.zero[l]);
      if constexpr (kMasked) q *= kept[l];
      const float value = j.scale[l] * q;
      const float miss = t[l] - value;
      c[l] = q + j.zero[l];
      e[l] = w[l] - value;
      j.loss[l] += d * (miss * miss);
    }
    const float* u = j.feedback + p * j.stride;
    for (int64_t n = p + 1; n < j.reach; ++n) {
      const float f = u[n];
      float* later = j.target + n * lanes;
      for (int64_t l = 0; l < lanes; ++l) later[l] += e[l] * f;
    }
  }
}

template <bool kMasked, class Nearest>
inline void descend_with(const DescentJob& j, Nearest nearest) {
  const int64_t lanes = j.lanes;
  for (int64_t p = j.begin; p < j.end; ++p) {
    float* g = j.gradient + p * lanes;
    float* v = j.value + p * lanes;
    float* c = j.codes + p * lanes;
    const float* h = j.gram + p * j.stride;
    const float* kept = kMasked ? j.kept + p * lanes : nullptr;
    const float inverse_h = 1 / h[p];
    float change[kMaxLanes];
    float any = 0;
    for (int64_t l = 0; l < lanes; ++l) {
      const float wanted = v[l] - g[l] * inverse_h;
      float q = nearest(wanted * j.inverse[l], -j.zero[l], j.top - j.zero[l]);
      if constexpr (kMasked) q *= kept[l];
      const float value = j.scale[l] * q;
      change[l] = value - v[l];
      v[l] = value;
      c[l] = q + j.zero[l];
      any = change[l] != 0 ? 1.0f : any;
    }
    if (any == 0) continue;
    for (int64_t n = p + 1; n < j.reach; ++n) {
      const float f = h[n];
      float* later = j.gradient + n * lanes;
      for (int64_t l = 0; l < lanes; ++l) later[l] += change[l] * f;
    }
  }
}

void sweep(const SweepJob& j) {
  with_levels(j.levels, [&](auto nearest) {
    j.kept == nullptr ? sweep_with<false>(j, nearest) : sweep_with<true>(j, nearest);
  });
}
void descend(const DescentJob& j) {
  with_levels(j.levels, [&](auto nearest) {
    j.kept == nullptr ? descend_with<false>(j, nearest) : descend_with<true>(j, nearest);
  });
}

template <int kBits>
inline void branch_of(const BranchJob& j) {
  constexpr int kBranches = 1 << kBits;
  for (int64_t p = 0; p < j.count; ++p) {
    const float* const v = j.values + (static_cast<int64_t>(j.row[p]) << kBits);
    const float t = j.target[p], before = j.loss[p];
    float* const to = j.out + (p << kBits);
    for (int b = 0; b < kBranches; ++b) {
      const float miss = t - j.scale * v[b];
      to[b] = before + j.cost * (miss * miss);
    }
  }
}
void branch(const BranchJob& j) {
  if (j.bits == 2) return branch_of<2>(j);
  if (j.bits == 3) return branch_of<3>(j);
  branch_of<4>(j);
}

float least(const float* x, int64_t n) {
  float lanes[16];
  for (int l = 0; l < 16; ++l) lanes[l] = x[l];
  for (int64_t i = 16; i < n; i += 16) {
    for (int l = 0; l < 16; ++l) lanes[l] = x[i + l] < lanes[l] ? x[i + l] : lanes[l];
  }
  float low = lanes[0];
  for (int l = 1; l < 16; ++l) low = lanes[l] < low ? lanes[l] : low;
  return low;
}
int64_t count_within(const float* x, int64_t n, float limit) {
  int32_t lanes[16] = {};
  for (int64_t i = 0; i < n; i += 16) {
    for (int l = 0; l < 16; ++l) lanes[l] += x[i + l] <= limit ? 1 : 0;
  }
  int64_t sum = 0;
  for (int l = 0; l < 16; ++l) sum += lanes[l];
  return sum;
}

void advance(const AdvanceJob& j) {
  for (int64_t p = 0; p < j.count; ++p) {
    const float* const from = j.from + j.parent[p] * j.columns;
    float* const to = j.to + p * j.columns;
    const float e = j.error[p];
    for (int64_t i = j.begin; i < j.columns; i += 16) {
      for (int l = 0; l < 16; ++l) to[i + l] = from[i + l] + e * j.feedback[i + l];
    }
  }
}
