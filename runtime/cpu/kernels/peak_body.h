// Multiply-adds in registers, for the ceilings of benchmarks. Text of body.h.

double int8_peak(int64_t n) {
  constexpr int kSums = kTileRows * kTileVectors;
  uint8_t codes[64] = {1, 2, 3};
  const int8_t x[4] = {1, 2, 3, 4};
  I16 sums[kSums];
  const Bytes c = load_bytes(codes);
  unrolled<kSums>([&](auto i) { sums[i] = neg_mul(zero_i32(), i); });
  for (int64_t p = 0; p < n; ++p) {
    unrolled<kSums>([&](auto i) { sums[i] = dot4<6>(sums[i], c, x); });
    __asm__ volatile("" : : : "memory");
  }
  unrolled<kSums - 1>([&](auto i) { sums[kSums - 1] = add(sums[kSums - 1], sums[i]); });
  int32_t kept[16];
  store_i32(kept, sums[kSums - 1]);
  __asm__ volatile("" : : "r"(kept) : "memory");
  return 2.0 * 64 * kSums * static_cast<double>(n);
}

double f32_peak(int64_t n) {
  constexpr int kSums = kTileRows * kTileVectors;
  V16 sums[kSums];
  const V16 a = set1(0.5f), b = set1(0.25f);
  unrolled<kSums>([&](auto i) { sums[i] = set1(static_cast<float>(i)); });
  for (int64_t p = 0; p < n; ++p) {
    unrolled<kSums>([&](auto i) { sums[i] = mul_add(sums[i], a, b); });
    __asm__ volatile("" : : : "memory");
  }
  unrolled<kSums - 1>([&](auto i) { sums[kSums - 1] = add(sums[kSums - 1], sums[i]); });
  float kept[16];
  store(kept, sums[kSums - 1]);
  __asm__ volatile("" : : "r"(kept) : "memory");
  return 2.0 * 16 * kSums * static_cast<double>(n);
}
