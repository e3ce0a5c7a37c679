#include "quant/gptq.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "core/parallel.h"
#include "runtime/compress/check.h"
#include "tests/support/encodings.h"
#include "tests/support/statistics.h"

namespace pith {
namespace {

// Mean of x x^T over m inputs of k channels that are correlated and of unequal size.
std::vector<float> make_gram(int64_t m, int64_t k, uint64_t seed, bool outliers = true) {
  auto x = test::uniform_values(m * k, seed);
  for (int64_t t = 0; t < m; ++t) {
    for (int64_t i = 1; i < k; ++i)
      x[static_cast<size_t>(t * k + i)] += 0.7f * x[static_cast<size_t>(t * k + i - 1)];
    if (outliers) x[static_cast<size_t>(t * k + k / 3)] *= 20;
  }
  const InputStatistics s =
      test::statistics_of({.mean_square = true, .gram = true}, m, k, x.data());
  return {s.gram.begin(), s.gram.end()};
}

double loss_of(const std::vector<float>& gram, int64_t n, int64_t k, const std::vector<float>& w,
               const Weight& q, double damping = 0) {
  std::vector<float> decoded(w.size());
  reference_decode(q, 0, n, decoded.data());
  double total = 0, mean = 0;
  const auto kk = static_cast<size_t>(k);
  for (size_t i = 0; i < kk; ++i)
    mean += static_cast<double>(gram[i * kk + i]) / static_cast<double>(k);
  for (int64_t r = 0; r < n; ++r) {
    std::vector<double> d(kk);
    for (size_t i = 0; i < kk; ++i) {
      const size_t at = static_cast<size_t>(r) * kk + i;
      d[i] = static_cast<double>(w[at]) - static_cast<double>(decoded[at]);
      total += damping * mean * d[i] * d[i];
    }
    for (size_t i = 0; i < kk; ++i) {
      for (size_t j = 0; j < kk; ++j) total += d[i] * static_cast<double>(gram[i * kk + j]) * d[j];
    }
  }
  return total;
}

float absmax_of(const std::vector<float>& w) {
  float out = 0;
  for (const float v : w) out = std::max(out, std::fabs(v));
  return out;
}

struct Result {
  OwnedWeight w;
  GptqLoss loss;
  std::vector<uint64_t> row_hashes;
};
Result run(const Encoding& e, int64_t n, int64_t k, const std::vector<float>& w,
           const std::vector<float>& gram, const GptqOptions& options = {}) {
  Result out{allocate_weight(e, n, k), {}, std::vector<uint64_t>(static_cast<size_t>(n))};
  const auto factor =
      GptqFactor::make(cpu_algebra(), gram.data(), k, gptq_group(e, k), options_for(e, options));
  if (!factor) throw std::runtime_error("no factor");
  out.loss = factor->encode(options, {e, n, k, 0, n, w.data(), nullptr, absmax_of(w), out.w.planes,
                                      out.row_hashes.data()});
  return out;
}

// The textbook form: inverse of the damped matrix, its upper Cholesky factor, columns in their
// order, errors pushed to the right. All in f64, symmetric scales of plain rounding.
std::vector<double> textbook(const std::vector<float>& gram, int64_t n, int64_t k, int bits,
                             double damping, const std::vector<float>& w) {
  const auto kk = static_cast<size_t>(k);
  double mean = 0;
  for (size_t i = 0; i < kk; ++i)
    mean += static_cast<double>(gram[i * kk + i]) / static_cast<double>(k);
  std::vector<double> h(kk * kk), inverse(kk * kk), u(kk * kk);
  for (size_t i = 0; i < kk * kk; ++i) h[i] = static_cast<double>(gram[i]);
  for (size_t i = 0; i < kk; ++i) h[i * kk + i] += damping * mean;
  for (size_t i = 0; i < kk; ++i) inverse[i * kk + i] = 1;
  for (size_t p = 0; p < kk; ++p) {  // Gauss-Jordan
    const double pivot = h[p * kk + p];
    for (size_t j = 0; j < kk; ++j) h[p * kk + j] /= pivot, inverse[p * kk + j] /= pivot;
    for (size_t i = 0; i < kk; ++i) {
      if (i == p) continue;
      const double f = h[i * kk + p];
      for (size_t j = 0; j < kk; ++j) {
        h[i * kk + j] -= f * h[p * kk + j];
        inverse[i * kk + j] -= f * inverse[p * kk + j];
      }
    }
  }
  for (size_t i = 0; i < kk; ++i) {  // inverse = u^T u
    for (size_t j = i; j < kk; ++j) {
      double sum = inverse[i * kk + j];
      for (size_t p = 0; p < i; ++p) sum -= u[p * kk + i] * u[p * kk + j];
      u[i * kk + j] = j == i ? std::sqrt(sum) : sum / u[i * kk + i];
    }
  }
  std::vector<double> out(static_cast<size_t>(n) * kk);
  const double top = (1 << bits) - 1, half = 1 << (bits - 1);
  for (size_t r = 0; r < static_cast<size_t>(n); ++r) {
    std::vector<double> row(w.begin() + static_cast<int64_t>(r * kk),
                            w.begin() + static_cast<int64_t>((r + 1) * kk));
    double absmax = 0;
    for (const double v : row) absmax = std::max(absmax, std::fabs(v));
    const double s =
        static_cast<double>(f16_to_f32(f32_to_f16(static_cast<float>(2 * absmax / top))));
    for (size_t j = 0; j < kk; ++j) {
      const double q = s * std::clamp(std::nearbyint(row[j] / s), -half, half - 1);
      const double error = (row[j] - q) / u[j * kk + j];
      out[r * kk + j] = q;
      for (size_t i = j; i < kk; ++i) row[i] -= error * u[j * kk + i];
    }
  }
  return out;
}

TEST(Gptq, without_order_and_search_it_is_the_textbook_form) {
  const int64_t n = 9, k = 150;
  const auto w = test::uniform_values(n * k, 1);
  const auto gram = make_gram(400, k, 2);
  const Encoding e = Encoding::integer(4, 0);
  const auto ours =
      run(e, n, k, w, gram,
          {.damping = 0.01, .shrink = 0, .order = false, .search = false, .refine = 0});
  const auto expected = textbook(gram, n, k, 4, 0.01, w);
  std::vector<float> decoded(w.size());
  reference_decode(ours.w.weight, 0, n, decoded.data());
  int different = 0;
  for (size_t i = 0; i < w.size(); ++i)
    different += std::fabs(static_cast<double>(decoded[i]) - expected[i]) > 1e-5;
  EXPECT_LE(different, static_cast<int>(w.size() / 200)) << "beyond what f32 explains";
}

struct Case {
  int bits;
  int64_t group;
  bool symmetric;
  int64_t k;
};
constexpr Case kCases[] = {{4, 64, false, 192}, {3, 32, false, 170}, {4, 128, true, 300},
                           {2, 16, false, 64},  {8, 0, true, 257},   {4, 0, false, 130},
                           {5, 64, true, 65},   {3, 128, false, 100}};

TEST(Gptq, loses_less_than_rounding_and_refinement_never_loses) {
  for (const auto& c : kCases) {
    const int64_t n = 50;
    const Encoding e = Encoding::integer(c.bits, c.group, c.symmetric);
    const auto w = test::uniform_values(n * c.k, 3);
    const auto gram = make_gram(600, c.k, 4);
    OwnedWeight rtn = allocate_weight(e, n, c.k);
    std::vector<float> diagonal(static_cast<size_t>(c.k));
    for (size_t i = 0; i < diagonal.size(); ++i) diagonal[i] = gram[i * diagonal.size() + i];
    encode_rtn({e, n, c.k, 0, n, w.data(), diagonal.data(), 0, rtn.planes, nullptr});
    const double rounded = loss_of(gram, n, c.k, w, rtn.weight, 0.01);
    const auto swept = run(e, n, c.k, w, gram, {.damping = 0.01, .shrink = 0, .refine = 0}),
               refined = run(e, n, c.k, w, gram, {.damping = 0.01, .shrink = 0});
    const double sweep = loss_of(gram, n, c.k, w, swept.w.weight, 0.01),
                 refine = loss_of(gram, n, c.k, w, refined.w.weight, 0.01);
    EXPECT_LT(sweep, 0.8 * rounded) << to_string(e) << " k " << c.k;
    EXPECT_LT(refine, sweep * (1 + 1e-6)) << to_string(e) << " k " << c.k;
  }
}

TEST(Gptq, rounds_to_8_bit_and_normal_floats_as_to_integers) {
  const int64_t n = 150, k = 300;
  const auto w = test::uniform_values(n * k, 3);
  const auto gram = make_gram(600, k, 4);
  for (const char* name :
       {"fp8e4m3-row", "fp8e5m2-row", "fp8e4m3-tensor", "fp8e4m3-128x128", "nf4-g64", "nf4-row"}) {
    const Encoding e = parse_encoding(name);
    ASSERT_TRUE(gptq_takes(e));
    OwnedWeight rtn = allocate_weight(e, n, k);
    std::vector<float> diagonal(static_cast<size_t>(k));
    for (size_t i = 0; i < diagonal.size(); ++i) diagonal[i] = gram[i * diagonal.size() + i];
    encode_rtn({e, n, k, 0, n, w.data(), diagonal.data(), absmax_of(w), rtn.planes, nullptr});
    const double rounded = loss_of(gram, n, k, w, rtn.weight, 0.01);
    const auto swept = run(e, n, k, w, gram, {.damping = 0.01, .shrink = 0, .refine = 0}),
               refined = run(e, n, k, w, gram, {.damping = 0.01, .shrink = 0});
    const double sweep = loss_of(gram, n, k, w, swept.w.weight, 0.01),
                 refine = loss_of(gram, n, k, w, refined.w.weight, 0.01);
    EXPECT_LT(sweep, 0.6 * rounded) << name;
    EXPECT_LT(refine, sweep * (1 + 1e-6)) << name;
    const double all = loss_of(gram, n, k, std::vector<float>(w.size()),
                               encode(Encoding::dense(DType::kF32), n, k, w.data()), 0.01);
    EXPECT_NEAR(refined.loss.error / refined.loss.norm, refine / all, 1e-3 * refine / all) << name;
    std::vector<float> row(static_cast<size_t>(k));
    for (int64_t r = 0; r < n; ++r) {
      reference_decode(refined.w.weight, r, 1, row.data());
      ASSERT_EQ(refined.row_hashes[static_cast<size_t>(r)], row_hash(row.data(), k)) << name;
    }
  }
}

TEST(Gptq, reports_the_loss_of_what_it_stored) {
  const int64_t n = 20, k = 192;
  const Encoding e = Encoding::integer(4, 64, false);
  const auto w = test::uniform_values(n * k, 3);
  const auto gram = make_gram(600, k, 4);
  const auto r = run(e, n, k, w, gram, {.damping = 0.01, .shrink = 0});
  std::vector<float> zeros(w.size());
  const Weight nothing = encode(Encoding::dense(DType::kF32), n, k, zeros.data());
  const double ratio =
      loss_of(gram, n, k, w, r.w.weight, 0.01) / loss_of(gram, n, k, w, nothing, 0.01);
  EXPECT_NEAR(r.loss.error / r.loss.norm, ratio, 1e-3 * ratio);
}

TEST(Gptq, bytes_do_not_depend_on_threads_or_on_how_rows_are_cut) {
  for (const char* name : {"int3-g64-asym", "tcq3-g64", "tcq2-row-s8"}) {
    SCOPED_TRACE(name);
    const int64_t n = 101, k = 200;
    const Encoding e = parse_encoding(name);
    const auto w = test::uniform_values(n * k, 3);
    const auto gram = make_gram(600, k, 4);
    set_threads(1);
    const auto one = run(e, n, k, w, gram);
    for (const int threads : {2, 3, 7}) {
      set_threads(threads);
      const auto many = run(e, n, k, w, gram);
      for (size_t p = 0; p < one.w.planes.size(); ++p)
        EXPECT_TRUE(std::ranges::equal(one.w.planes[p].bytes, many.w.planes[p].bytes));
      EXPECT_EQ(one.loss.error, many.loss.error);
    }
    set_threads(0);
    const GptqOptions options;
    const auto factor =
        GptqFactor::make(cpu_algebra(), gram.data(), k, gptq_group(e, k), options_for(e, options));
    OwnedWeight pieces = allocate_weight(e, n, k);
    for (int64_t r = 0; r < n; r += 7) {
      const int64_t rows = std::min<int64_t>(7, n - r);
      factor->encode(options,
                     {e, n, k, r, rows, w.data() + r * k, nullptr, 0, pieces.planes, nullptr});
    }
    for (size_t p = 0; p < one.w.planes.size(); ++p)
      EXPECT_TRUE(std::ranges::equal(one.w.planes[p].bytes, pieces.planes[p].bytes));
  }
}

TEST(Gptq, finds_paths_that_lose_less_than_rounding) {
  const int64_t n = 24, k = 300;
  const auto w = test::uniform_values(n * k, 3);
  const auto gram = make_gram(600, k, 4);
  std::vector<float> diagonal(static_cast<size_t>(k));
  for (size_t i = 0; i < diagonal.size(); ++i) diagonal[i] = gram[i * diagonal.size() + i];
  for (const char* name : {"tcq2-g64", "tcq3-g32-s8", "tcq4-row"}) {
    SCOPED_TRACE(name);
    const Encoding e = parse_encoding(name);
    ASSERT_TRUE(gptq_takes(e));
    OwnedWeight rtn = allocate_weight(e, n, k);
    encode_rtn({e, n, k, 0, n, w.data(), diagonal.data(), 0, rtn.planes, nullptr});
    const auto quick = run(e, n, k, w, gram, {.damping = 0.01, .shrink = 0, .refine = 0}),
               found = run(e, n, k, w, gram, {.damping = 0.01, .shrink = 0});
    const double rounded = loss_of(gram, n, k, w, rtn.weight, 0.01),
                 loss = loss_of(gram, n, k, w, found.w.weight, 0.01);
    EXPECT_LT(loss, 0.8 * rounded);
    EXPECT_LT(loss, loss_of(gram, n, k, w, quick.w.weight, 0.01));
    const double all = loss_of(gram, n, k, std::vector<float>(w.size()),
                               encode(Encoding::dense(DType::kF32), n, k, w.data()), 0.01);
    EXPECT_NEAR(found.loss.error / found.loss.norm, loss / all, 1e-3 * loss / all);
    std::vector<float> row(static_cast<size_t>(k));
    for (int64_t r = 0; r < n; ++r) {
      reference_decode(found.w.weight, r, 1, row.data());
      ASSERT_EQ(found.row_hashes[static_cast<size_t>(r)], row_hash(row.data(), k));
    }
  }
}

TEST(Gptq, hazards_give_finite_results_by_their_policy) {
  const int64_t n = 17, k = 128;
  const Encoding e = Encoding::integer(4, 32, false);
  const auto w = test::uniform_values(n * k, 3);
  const auto good = make_gram(600, k, 4, false);
  const auto nk = static_cast<size_t>(k);
  const auto expect_fine = [&](const char* what, const std::vector<float>& weights,
                               const std::vector<float>& gram) {
    const auto r = run(e, n, k, weights, gram);
    std::vector<float> decoded(weights.size());
    reference_decode(r.w.weight, 0, n, decoded.data());
    double error = 0, norm = 0;
    for (size_t i = 0; i < decoded.size(); ++i) {
      ASSERT_TRUE(std::isfinite(decoded[i])) << what;
      const double d = static_cast<double>(decoded[i]) - static_cast<double>(weights[i]);
      error += d * d;
      norm += static_cast<double>(weights[i]) * static_cast<double>(weights[i]);
    }
    EXPECT_LE(error, 0.1 * norm) << what;
  };
  auto gram = good;
  for (size_t i = 0; i < nk; ++i) gram[5 * nk + i] = gram[i * nk + 5] = 0;
  expect_fine("a dead column keeps its weight", w, gram);
  gram = good;
  for (size_t i = 0; i < nk; ++i) gram[6 * nk + i] = gram[5 * nk + i];
  for (size_t i = 0; i < nk; ++i) gram[i * nk + 6] = gram[i * nk + 5];
  expect_fine("two equal columns: damping tells them apart", w, gram);
  expect_fine("fewer tokens than columns", w, make_gram(20, k, 9, false));
  for (const float size : {1e-30f, 1e30f}) {
    gram = good;
    for (auto& v : gram) v *= size;
    expect_fine("tiny and huge inputs", w, gram);
  }
  auto weights = w;
  std::fill(weights.begin() + 3 * k, weights.begin() + 4 * k, 0.25f);
  std::fill(weights.begin() + 5 * k + 32, weights.begin() + 5 * k + 64, 0.0f);
  std::fill(weights.begin() + 7 * k, weights.begin() + 8 * k, 0.0f);
  expect_fine("a constant row, a zero group, a zero row", weights, good);
}

TEST(Gptq, matrices_that_cannot_be_factored_are_refused) {
  const int64_t k = 32;
  auto gram = make_gram(100, k, 4);
  gram[3 * 32 + 3] = std::numeric_limits<float>::infinity();
  EXPECT_EQ(GptqFactor::make(cpu_algebra(), gram.data(), k, 16, {}), nullptr);
  const std::vector<float> zero(static_cast<size_t>(k * k));
  EXPECT_EQ(GptqFactor::make(cpu_algebra(), zero.data(), k, 16, {}), nullptr);
  gram = make_gram(100, k, 4);
  gram[2 * 32 + 9] = gram[9 * 32 + 2] = 1e6f;  // no matrix of products is like that
  EXPECT_EQ(GptqFactor::make(cpu_algebra(), gram.data(), k, 16, {}), nullptr);
}

TEST(Gptq, groups_stay_whole_and_the_important_come_first) {
  const int64_t k = 150;
  auto gram = make_gram(300, k, 4, false);
  gram[140 * 150 + 140] *= 100;
  const auto f = GptqFactor::make(cpu_algebra(), gram.data(), k, 64, {});
  ASSERT_EQ(f->groups.size(), 3u);
  EXPECT_EQ(f->groups[0].index, 2) << "the short group with the large column";
  EXPECT_EQ(f->order[0], 140);
  std::vector<int64_t> seen = f->order;
  std::ranges::sort(seen);
  for (int64_t i = 0; i < k; ++i) EXPECT_EQ(seen[static_cast<size_t>(i)], i);
  for (const auto& g : f->groups) {
    for (int64_t p = g.begin; p < g.end; ++p)
      EXPECT_EQ(f->order[static_cast<size_t>(p)] / 64, g.index);
  }
  for (const auto& b : f->blocks) EXPECT_LE(b.width(), 128);
}

}  // namespace
}  // namespace pith
