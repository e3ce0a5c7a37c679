// GPTQ: rounds column after column and feeds the error of each back into later ones. A thread has a
// row; what neighbouring threads read lies side by side.
#include "runtime/cuda_kernels/compress/gptq.h"

#include "runtime/cuda_kernels/device/device.cuh"
#include "runtime/cuda_kernels/gemm/convert.cuh"
#include "runtime/cuda_kernels/launchers.h"
#include "runtime/cuda_kernels/refuse.h"

namespace pith::cuda {
namespace {

constexpr int kThreads = 64;
constexpr int kWide = 256;

PITH_DEVICE float bound(float v, float low, float high) {
  v = v < low ? low : v;
  return v > high ? high : v;
}
// `mantissa` bits behind the leading one, exponents from that of `least` on: adding 1.5 * 2^(e + 23
// - mantissa) leaves the adder no more bits than that.
PITH_DEVICE float nearest_float(float v, int mantissa, float least, float top) {
  v = bound(v, -top, top);
  const uint32_t magnitude = float_bits(v) & 0x7f800000u, lowest = float_bits(least);
  const uint32_t exponent = magnitude > lowest ? magnitude : lowest;
  const float round =
      bits_float(exponent + (static_cast<uint32_t>(23 - mantissa) << 23) + 0x400000u);
  return (v + round) - round;
}
PITH_DEVICE float nearest_nf4(float v) {
  float level = kNf4Floats[0];
  for (int i = 0; i < 15; ++i)
    level = v > (kNf4Floats[i] + kNf4Floats[i + 1]) / 2 ? kNf4Floats[i + 1] : level;
  return level;
}
PITH_DEVICE float nearest(Levels levels, float v, float low, float high) {
  switch (levels) {
    case Levels::kE4M3:
      return nearest_float(v, 3, 0x1p-6f, 448);
    case Levels::kE5M2:
      return nearest_float(v, 2, 0x1p-14f, 57344);
    case Levels::kNf4:
      return nearest_nf4(v);
    default:
      return bound(rintf(v), low, high);
  }
}

// What the file will hold of a scale.
PITH_DEVICE float as_stored(const RoundedRows& r, int64_t row, float s) {
  if (r.scales == NumberFormat::kF32) return s;
  const int e = r.exponent[row];
  const float real = ldexpf(s, e);
  if (fabsf(real) < 0x1p-126f) return 0;
  float stored;
  if (r.scales == NumberFormat::kF16) {
    stored = half_float(float_half(real));
  } else {
    const uint32_t bits = float_bits(real);
    stored = bits_float((bits + 0x7fffu + (bits >> 16 & 1)) & 0xffff0000u);
  }
  if (!(fabsf(stored) <= 3.402823466e38f)) return s;  // who stores it will say so
  return ldexpf(stored, -e);
}

// ---- the grid of one group: x[i] with weights w[i], i < n, x `apart` floats apart

struct Grouped {
  const float* x;
  int apart;
  const float* w;
  int n;
};
struct Choice {
  float gain, scale, zero;
};

// d = clamp(round(x * inverse)): the scale that loses least, and what it gains over 0.
PITH_DEVICE void try_grid(const Grouped& g, float inverse, float zero, float top, Choice* best) {
  float xd = 0, dd = 0;
  for (int i = 0; i < g.n; ++i) {
    const float x = g.x[i * g.apart];
    const float d = bound(rintf(x * inverse), -zero, top - zero);
    const float wd = g.w[i] * d;
    xd = fmaf(wd, x, xd);
    dd = fmaf(wd, d, dd);
  }
  if (!(dd > 0)) return;
  const float gain = xd * xd / dd;
  if (gain > best->gain && xd != 0) *best = {gain, xd / dd, zero};
}

PITH_DEVICE Choice choose_integers(const Grouped& g, int bits, bool symmetric, bool search) {
  const float top = static_cast<float>((1 << bits) - 1), half = static_cast<float>(1 << (bits - 1));
  float low = 0, high = 0;
  for (int i = 0; i < g.n; ++i) {
    low = fminf(low, g.x[i * g.apart]);
    high = fmaxf(high, g.x[i * g.apart]);
  }
  const float absmax = fmaxf(-low, high);
  if (!search) {
    if (symmetric) return {0, 2 * absmax / top, half};
    const float scale = (high - low) / top;
    return {0, scale, scale > 0 ? bound(rintf(-low / scale), 0, top) : 0};
  }
  if (low == 0 && high == 0) return {0, 0, symmetric ? half : 0};
  Choice best{0, 0, 0};
  if (symmetric) {
    const int steps = bits >= 6 ? 4 : 9;
    for (int i = -steps; i <= steps; ++i) {
      const float inverse = (half + 0.1f * static_cast<float>(i)) / absmax;
      if (inverse <= 0) continue;
      try_grid(g, inverse, half, top, &best);
      try_grid(g, -inverse, half, top, &best);
    }
  } else {
    const int steps = bits >= 6 ? 6 : 18;
    for (int i = -2; i <= steps; ++i) {
      const float levels = top + 0.1f * static_cast<float>(bits <= 3 ? i : 2 * i);
      const float inverse = levels / (high - low);
      const float zero = bound(rintf(-low * inverse), 0, top);
      try_grid(g, inverse, zero, top, &best);
      if (bits <= 4 && zero > 0) try_grid(g, inverse, zero - 1, top, &best);
      if (bits <= 4 && zero < top) try_grid(g, inverse, zero + 1, top, &best);
    }
  }
  for (int i = 0; i < 2 && best.scale != 0; ++i) {
    const float before = best.gain;
    try_grid(g, 1 / best.scale, best.zero, top, &best);
    if (!(best.gain > before)) break;
  }
  return best;
}

PITH_DEVICE float choose_nf4(const Grouped& g) {
  float absmax = 0;
  for (int i = 0; i < g.n; ++i) absmax = fmaxf(absmax, fabsf(g.x[i * g.apart]));
  float best_gain = 0, best_scale = 0;
  for (int i = 0; i <= 9; ++i) {
    const float scale = i < 9 ? absmax * (1.04f - 0.04f * static_cast<float>(i)) : best_scale;
    if (scale == 0) continue;
    float xd = 0, dd = 0;
    for (int j = 0; j < g.n; ++j) {
      const float x = g.x[j * g.apart], d = nearest_nf4(x / scale), wd = g.w[j] * d;
      xd = fmaf(wd, x, xd);
      dd = fmaf(wd, d, dd);
    }
    if (dd > 0 && xd * xd / dd > best_gain) {
      best_gain = xd * xd / dd;
      best_scale = xd / dd;
    }
  }
  return best_scale;
}

// original[p, row] = w[row, order[p]] * 2^-exponent
//
// grid    x: rows; a block finds the largest magnitude of its row
PITH_KERNEL exponent_kernel(LoadRows a) {
  const float* const x = a.w + block_x() * a.k;
  float most = 0;
  for (int64_t i = thread_index(); i < a.k; i += kWide) most = fmaxf(most, fabsf(x[i]));
  float* const workspace = reinterpret_cast<float*>(shared_memory());
  most = block_reduce(most, workspace, [](float p, float q) { return fmaxf(p, q); });
  if (thread_index() == 0) a.exponent[block_x()] = most > 0 ? ilogbf(most) : 0;
}
// grid    x: places / 32, y: rows / 32; 32 x 8 threads
// shared  a tile of 32 x 32, 33 apart
// bound   bytes; reads are scattered within a row
PITH_KERNEL load_rows_kernel(LoadRows a) {
  float* const tile = reinterpret_cast<float*>(shared_memory());
  const int64_t p0 = block_x() * 32, row0 = block_y() * 32;
  const int x = thread_index() % 32, y = thread_index() / 32;
  for (int i = y; i < 32; i += kWide / 32) {
    const int64_t row = row0 + i, p = p0 + x;
    if (row < a.rows && p < a.k) tile[i * 33 + x] = a.w[row * a.k + a.order[p]];
  }
  sync_block();
  const int64_t row = row0 + x;
  if (row >= a.rows) return;
  const int e = a.exponent[row];
  const float half = ldexpf(1, -e / 2), rest = ldexpf(1, -e - (-e / 2));  // one: out of range
  for (int i = y; i < 32 && p0 + i < a.k; i += kWide / 32)
    a.original[(p0 + i) * a.rows + row] = tile[x * 33 + i] * half * rest;
}

// One block of columns. With errors e so far, place j should become w_j + sum_i e_i u_ij; a group
// whose scale is to be chosen would, if it were free, become w + x for x U_FF = what its places
// should become less w.
//
// grid    x: rows / 64, a thread a row
// shared  errors of the block's places, and the free numbers of a group: [128][64] each
// bound   latency: some 16,000 multiply-adds a row from shared memory, and the search, 20 to 60
//         grids of 3 multiply-adds a place
PITH_KERNEL sweep_kernel(Sweep s) {
  const RoundedRows& r = s.r;
  float* const errors = reinterpret_cast<float*>(shared_memory()) + thread_index();
  float* const free_ones = errors + kMaxPlaces * kThreads;
  const int64_t row = block_x() * kThreads + thread_index();
  if (row >= r.rows) return;
  const float top = static_cast<float>((1 << r.bits) - 1);
  const auto with_feedback = [&](int64_t p, int64_t before) {
    float t = s.target[(p - s.begin) * r.rows + row];
    for (int64_t i = s.begin; i < before; ++i)
      t = fmaf(errors[(i - s.begin) * kThreads], s.feedback[i * r.k + p], t);
    return t;
  };
  for (int64_t p = s.begin; p < s.end;) {
    const int32_t g = r.group[p];
    int64_t end = p + 1;
    while (end < s.end && r.group[end] == g) ++end;
    const int64_t at = g * r.rows + row;
    if (s.from != ScaleFrom::kGiven) {
      for (int64_t j = p; j < end; ++j) {
        float x = with_feedback(j, p);
        for (int64_t i = p; i < j; ++i)
          x = fmaf(-free_ones[(i - p) * kThreads], s.feedback[i * r.k + j], x);
        free_ones[(j - p) * kThreads] = x;
      }
      for (int64_t j = p; j < end; ++j)
        free_ones[(j - p) * kThreads] += r.original[j * r.rows + row];
      const Grouped of{free_ones, kThreads, s.variance + p, static_cast<int>(end - p)};
      Choice c{0, 0, 0};
      if (r.levels == Levels::kNf4) {
        c.scale = choose_nf4(of);
      } else {
        c = choose_integers(of, r.bits, r.symmetric, s.from == ScaleFrom::kSearch);
      }
      r.scale[at] = as_stored(r, row, c.scale);
      r.zero[at] = c.zero;
    }
    const float scale = r.scale[at], zero = r.zero[at], inverse = scale != 0 ? 1 / scale : 0;
    for (; p < end; ++p) {
      const float w = r.original[p * r.rows + row];
      const float q = nearest(r.levels, (w + with_feedback(p, p)) * inverse, -zero, top - zero);
      const float error = w - scale * q;
      errors[(p - s.begin) * kThreads] = error;
      r.error[p * r.rows + row] = error;
      r.codes[p * r.rows + row] = q + zero;
    }
  }
}

// grid    x: rows / 64, a thread a row
// shared  what each place changed by, [128][64]
// bound   latency: 8,000 multiply-adds a row from shared memory
PITH_KERNEL descend_kernel(Descend s) {
  const RoundedRows& r = s.r;
  float* const changes = reinterpret_cast<float*>(shared_memory()) + thread_index();
  const int64_t row = block_x() * kThreads + thread_index();
  if (row >= r.rows) return;
  const float top = static_cast<float>((1 << r.bits) - 1);
  for (int64_t p = s.begin; p < s.end; ++p) {
    float gradient = s.gradient[(p - s.begin) * r.rows + row];
    for (int64_t i = s.begin; i < p; ++i)
      gradient = fmaf(changes[(i - s.begin) * kThreads], s.gram[i * r.k + p], gradient);
    const int64_t at = r.group[p] * r.rows + row, here = p * r.rows + row;
    const float scale = r.scale[at], zero = r.zero[at], inverse = scale != 0 ? 1 / scale : 0;
    const float w = r.original[here], value = w - r.error[here];
    const float wanted = value - gradient / s.gram[p * r.k + p];
    const float q = nearest(r.levels, wanted * inverse, -zero, top - zero);
    const float now = scale * q;
    changes[(p - s.begin) * kThreads] = now - value;
    r.error[here] = w - now;
    r.codes[here] = q + zero;
  }
}

// grid    x: rows / 256, y: places; bound by bytes
PITH_KERNEL from_codes_kernel(FromCodes a) {
  const RoundedRows& r = a.r;
  const int64_t p = block_y(), row = block_x() * kWide + thread_index();
  if (row >= r.rows) return;
  const int64_t at = r.group[p] * r.rows + row, here = p * r.rows + row;
  const float level = r.codes[here] - r.zero[at];
  if (a.to != nullptr) {
    a.to[here] = level;
  } else {
    r.error[here] = r.original[here] - r.scale[at] * level;
  }
}

// By a Cholesky factor of each row's equations, kept in the triangle that is not read.
//
// grid    x: rows / 64, a thread a row
// bound   latency of memory: groups^3 / 6 multiply-adds a row, of which the loads are independent
PITH_KERNEL refit_kernel(Refit a) {
  const RoundedRows& r = a.r;
  const int64_t row = block_x() * kThreads + thread_index(), n = a.groups;
  if (row >= r.rows) return;
  const auto normal = [&](int64_t i, int64_t j) -> double& {
    return a.normal[(i * n + j) * r.rows + row];
  };
  const auto of = [&](double* v, int64_t i) -> double& { return v[i * r.rows + row]; };
  for (int64_t j = 0; j < n; ++j) {
    double d = normal(j, j);
    if (!(d > 0)) {  // no code of it is off its zero: any scale will do
      d = normal(j, j) = 1;
      of(a.right, j) = static_cast<double>(r.scale[j * r.rows + row]);
    }
    for (int64_t p = 0; p < j; ++p) d = fma(-normal(j, p), normal(j, p), d);
    if (!(d > 0) || !(d < 1e300)) return;
    const double root = sqrt(d);
    of(a.diagonal, j) = root;
    for (int64_t i = j + 1; i < n; ++i) {
      double sum = normal(j, i);
#pragma unroll 4
      for (int64_t p = 0; p < j; ++p) sum = fma(-normal(i, p), normal(j, p), sum);
      normal(i, j) = sum / root;
    }
  }
  for (int64_t i = 0; i < n; ++i) {
    double sum = of(a.right, i);
    for (int64_t p = 0; p < i; ++p) sum = fma(-normal(i, p), of(a.next, p), sum);
    of(a.next, i) = sum / of(a.diagonal, i);
  }
  for (int64_t i = n - 1; i >= 0; --i) {
    double sum = of(a.next, i);
    for (int64_t p = i + 1; p < n; ++p) sum = fma(-normal(p, i), of(a.next, p), sum);
    of(a.next, i) = sum / of(a.diagonal, i);
  }
  for (int64_t i = 0; i < n; ++i) {
    const float s = as_stored(r, row, static_cast<float>(of(a.next, i)));
    if (!(fabsf(s) <= 3.402823466e38f) || (r.levels != Levels::kIntegers && s < 0)) return;
    of(a.next, i) = static_cast<double>(s);
  }
  double before = 0, after = 0;  // without the constant w H w^T
  for (int64_t i = 0; i < n; ++i) {
    const double s = of(a.next, i), old = static_cast<double>(r.scale[i * r.rows + row]);
    double of_next = normal(i, i) * s - 2 * of(a.right, i),
           of_old = normal(i, i) * old - 2 * of(a.right, i);
    for (int64_t j = i + 1; j < n; ++j) {
      of_next = fma(2 * normal(i, j), of(a.next, j), of_next);
      of_old = fma(2 * normal(i, j), static_cast<double>(r.scale[j * r.rows + row]), of_old);
    }
    after = fma(s, of_next, after);
    before = fma(old, of_old, before);
  }
  if (!(after < before)) return;
  for (int64_t i = 0; i < n; ++i) r.scale[i * r.rows + row] = static_cast<float>(of(a.next, i));
}

constexpr int64_t blocks_of(int64_t n, int64_t threads) { return (n + threads - 1) / threads; }
constexpr int64_t kPlacesBytes = kMaxPlaces * kThreads * static_cast<int64_t>(sizeof(float));

}  // namespace

Status load_rows(const LoadRows& a, Stream stream) {
  if (a.rows > 65535 * 32) return refuse("load_rows: %ld rows", a.rows);
  const Grid of_rows{a.rows, 1, 1, kWide, 32 * static_cast<int64_t>(sizeof(float))};
  if (const Status bad = launch(exponent_kernel, of_rows, stream, a)) return bad;
  const Grid tiles{blocks_of(a.k, 32), blocks_of(a.rows, 32), 1, kWide,
                   32 * 33 * static_cast<int64_t>(sizeof(float))};
  return launch(load_rows_kernel, tiles, stream, a);
}
Status sweep(const Sweep& a, Stream stream) {
  if (a.end - a.begin > kMaxPlaces)
    return refuse("sweep: %ld columns, it takes %ld", a.end - a.begin, kMaxPlaces);
  return launch(sweep_kernel, Grid{blocks_of(a.r.rows, kThreads), 1, 1, kThreads, 2 * kPlacesBytes},
                stream, a);
}
Status descend(const Descend& a, Stream stream) {
  if (a.end - a.begin > kMaxPlaces)
    return refuse("descend: %ld columns, it takes %ld", a.end - a.begin, kMaxPlaces);
  return launch(descend_kernel, Grid{blocks_of(a.r.rows, kThreads), 1, 1, kThreads, kPlacesBytes},
                stream, a);
}
Status from_codes(const FromCodes& a, Stream stream) {
  if (a.r.k > 65535) return refuse("from_codes: %ld columns", a.r.k);
  return launch(from_codes_kernel, Grid{blocks_of(a.r.rows, kWide), a.r.k, 1, kWide}, stream, a);
}
Status refit(const Refit& a, Stream stream) {
  return launch(refit_kernel, Grid{blocks_of(a.r.rows, kThreads), 1, 1, kThreads}, stream, a);
}

}  // namespace pith::cuda
