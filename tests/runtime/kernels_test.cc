// Every inner loop of every level that this processor can run, against core/dtype, the reference
// decoder or float64.

#include "runtime/cpu/kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "core/bytes.h"
#include "core/dtype.h"
#include "formats/encodings/int_group.h"
#include "runtime/cpu/decode.h"
#include "runtime/cpu/matmul.h"
#include "tests/support/encodings.h"
#include "tests/support/kernel_levels.h"

namespace pith {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr int64_t kLengths[] = {1, 2, 15, 16, 17, 31, 32, 33, 64, 100, 1023, 1024, 1025, 2500};

// f(kernels) for every level.
template <class F>
void for_levels(F f) {
  for (const CpuKernels* level : test::kernel_levels()) {
    SCOPED_TRACE(level->name);
    f(*level);
    if (testing::Test::HasFatalFailure()) return;
  }
}

double dbl(float v) { return static_cast<double>(v); }

TEST(Kernels, the_last_level_is_plain_and_each_has_a_name_of_its_own) {
  const auto levels = test::kernel_levels();
  ASSERT_FALSE(levels.empty());
  EXPECT_STREQ(levels.back()->name, "scalar");
  for (size_t i = 1; i < levels.size(); ++i) EXPECT_STRNE(levels[i]->name, levels[i - 1]->name);
}

// ---- Rows of codes ----

TEST(Kernels, rows_decode_to_the_bits_of_the_reference) {
  for_levels([](const CpuKernels& kernels) {
    for (const Encoding& e : test::writable_encodings()) {
      for (const int64_t k : {1, 15, 16, 17, 31, 64, 130, 172, 576}) {
        const int64_t n = 5;
        const auto values = test::weight_values(n, k, static_cast<uint64_t>(k));
        const Weight w = encode(e, n, k, values.data());
        std::vector<float> expected(values.size()), got(values.size() + 16, -7.0f);
        reference_decode(w, 0, n, expected.data());
        decode_rows(kernels, w, 0, n, got.data());
        for (size_t i = 0; i < expected.size(); ++i) {
          ASSERT_EQ(std::bit_cast<uint32_t>(got[i]), std::bit_cast<uint32_t>(expected[i]))
              << to_string(e) << ", k = " << k << ", element " << i;
        }
        for (size_t i = expected.size(); i < got.size(); ++i) ASSERT_EQ(got[i], -7.0f);
      }
    }
  });
}

// Every pattern of 8 and 16 bits that is a finite number.
TEST(Kernels, all_small_floats_decode_to_the_bits_of_the_reference) {
  for (const DType dtype : {DType::kF16, DType::kBF16, DType::kF8E4M3, DType::kF8E5M2}) {
    const bool wide = info(dtype).bytes == 2;
    const int64_t k = wide ? 65536 : 256;
    std::vector<std::byte> codes(static_cast<size_t>(k) * info(dtype).bytes + kSlack);
    for (size_t i = 0; i < static_cast<size_t>(k); ++i) {
      if (wide) {
        const auto code = static_cast<uint16_t>(i);
        std::memcpy(codes.data() + 2 * i, &code, 2);
      } else {
        codes[i] = static_cast<std::byte>(i);
      }
    }
    std::vector<float> expected(static_cast<size_t>(k)), got(expected.size());
    to_f32(dtype, codes.data(), expected.data(), expected.size());
    const Encoding e = wide ? Encoding::dense(dtype) : Encoding::fp8(dtype, ScaleArea::kRow);
    for_levels([&](const CpuKernels& kernels) {
      const CodeRow row{codes.data(), nullptr, nullptr, k};
      kernels.decode[static_cast<size_t>(*row_format(e))](row, k, got.data());
      for (size_t i = 0; i < expected.size(); ++i) {
        if (std::isnan(expected[i]) || (!wide && std::isinf(expected[i]))) continue;
        ASSERT_EQ(std::bit_cast<uint32_t>(got[i]), std::bit_cast<uint32_t>(expected[i]))
            << info(dtype).name << " " << i;
      }
    });
  }
}

// Rows of each kind of floats, with scales or without, as a product in float64.
TEST(Kernels, products_of_rows_equal_float64) {
  for (int kind = 0; kind < kRowFloats; ++kind) {
    for (const int64_t k : {1, 15, 16, 17, 31, 63, 64, 129, 172, 576, 2051}) {
      for (const int64_t group : {int64_t{16}, int64_t{32}, int64_t{128}, k}) {
        auto x = test::uniform_values(k, 12);
        x.resize(round_up(static_cast<uint64_t>(k), 16));
        const auto groups = static_cast<size_t>(ceil_div(k, group));
        const size_t row_bytes = static_cast<size_t>(k) * 4 + kSlack;
        std::vector<std::byte> codes(4 * row_bytes);
        Rng rng(static_cast<uint64_t>(k));
        for (auto& b : codes) b = static_cast<std::byte>(rng.next() & 0x3f);  // finite numbers
        const auto scales = test::uniform_values(static_cast<int64_t>(4 * groups), 13);
        for_levels([&](const CpuKernels& kernels) {
          for (const bool scaled : {false, true}) {
            CodeRow rows[4];
            double expected[4] = {}, condition[4] = {};
            for (size_t r = 0; r < 4; ++r) {
              rows[r] = {codes.data() + r * row_bytes, nullptr, nullptr, k};
              std::vector<float> plain(static_cast<size_t>(k));
              kernels.decode[kind](rows[r], k, plain.data());
              if (scaled) rows[r] = {rows[r].codes, scales.data() + r * groups, nullptr, group};
              for (size_t i = 0; i < plain.size(); ++i) {
                const size_t g = r * groups + i / static_cast<size_t>(group);
                const double product = (scaled ? dbl(scales[g]) : 1) * dbl(plain[i]) * dbl(x[i]);
                expected[r] += product;
                condition[r] += std::fabs(product);
              }
            }
            for (int count = 1; count <= 4; ++count) {
              float got[5] = {-7, -7, -7, -7, -7};
              kernels.dot[kind](rows, count, k, x.data(), got);
              for (int r = 0; r < count; ++r)
                ASSERT_NEAR(dbl(got[r]), expected[r], 2e-6 * condition[r] + 1e-30)
                    << "kind " << kind << ", k = " << k << ", row " << r << " of " << count;
              for (int r = count; r < 5; ++r) ASSERT_EQ(got[r], -7);
            }
          }
        });
      }
    }
  }
}

TEST(Kernels, integers_of_rows_are_signed_bytes_and_nibbles) {
  for_levels([](const CpuKernels& kernels) {
    std::vector<uint8_t> codes(16 + kSlack);
    for (size_t i = 0; i < 16; ++i) codes[i] = static_cast<uint8_t>(37 * i + 11);
    float got[16];
    const CodeRow row{codes.data(), nullptr, nullptr, 16};
    kernels.decode[static_cast<int>(NumberFormat::kInt8)](row, 16, got);
    for (size_t i = 0; i < 16; ++i) ASSERT_EQ(got[i], static_cast<int8_t>(codes[i]));
    kernels.decode[static_cast<int>(NumberFormat::kInt4)](row, 16, got);
    for (size_t i = 0; i < 16; ++i) ASSERT_EQ(got[i], codes[i / 2] >> (i % 2 * 4) & 15);
  });
}

// As rows of which each is one column after the other.
TEST(Kernels, columns_of_16_rows_are_the_rows_that_decode_gives) {
  for (int kind = 0; kind < kRowFormats; ++kind) {
    for (const int64_t k : {1, 2, 16, 31, 80}) {
      for (const int64_t group : {int64_t{16}, int64_t{32}, k}) {
        const int64_t groups = ceil_div(k, group);
        std::vector<std::byte> codes(static_cast<size_t>(16 * k) * 4 + kSlack);
        Rng rng(static_cast<uint64_t>(k));
        for (auto& b : codes) b = static_cast<std::byte>(rng.next() & 0x3f);  // finite numbers
        const auto scales = test::uniform_values(16 * groups, 13),
                   zeros = test::uniform_values(16 * groups, 14, 8);
        for_levels([&](const CpuKernels& kernels) {
          for (const bool scaled : {false, true}) {
            std::vector<float> plain(static_cast<size_t>(16 * k));
            kernels.decode[kind]({codes.data(), nullptr, nullptr, 16 * k}, 16 * k, plain.data());
            const int64_t ld = 23;
            std::vector<float> got(static_cast<size_t>(k * ld), -7);
            CodeColumns rows{codes.data(), nullptr, nullptr, group};
            if (scaled) rows = {codes.data(), scales.data(), zeros.data(), group};
            kernels.decode_columns[kind](rows, k, got.data(), ld);
            for (int64_t i = 0; i < k * ld; ++i) {
              const int64_t column = i / ld, r = i % ld;
              float expected = -7;
              if (r < 16) {
                const auto g = static_cast<size_t>(column / group * 16 + r);
                const float v = plain[static_cast<size_t>(16 * column + r)];
                expected = scaled ? scales[g] * (v - zeros[g]) : v;
              }
              ASSERT_EQ(got[static_cast<size_t>(i)], expected) << "kind " << kind << " k " << k;
            }
          }
        });
      }
    }
  }
}

// ---- Matrix product ----

TEST(Kernels, gemm_equals_float64_and_writes_its_tile_only) {
  for_levels([](const CpuKernels& kernels) {
    for (const int64_t m : {1, 2, 3, 4, 5, 7, 8, 12, 13, 25}) {
      for (const int64_t n : {1, 7, 15, 16, 17, 31, 32, 33, 47, 64, 70}) {
        for (const int64_t k : {1, 2, 16, 37}) {
          const int64_t lda = k + 3, ldb = n + 5, ldc = n + 2;
          const auto a = test::uniform_values(m * lda, 1), b = test::uniform_values(k * ldb, 2);
          const auto before = test::uniform_values(m * ldc, 3);
          for (const bool add : {false, true}) {
            auto c = before;
            if (!add) {  // what is overwritten may be anything
              for (int64_t i = 0; i < m; ++i) std::fill_n(c.begin() + i * ldc, n, kNan);
            }
            kernels.gemm(m, n, k, a.data(), lda, b.data(), ldb, c.data(), ldc, add);
            for (int64_t i = 0; i < m; ++i) {
              for (int64_t j = 0; j < ldc; ++j) {
                const auto at = static_cast<size_t>(i * ldc + j);
                if (j >= n) {
                  ASSERT_EQ(c[at], before[at]);
                  continue;
                }
                double sum = add ? dbl(before[at]) : 0, size = std::fabs(sum);
                for (int64_t p = 0; p < k; ++p) {
                  const double t = dbl(a[static_cast<size_t>(i * lda + p)]) *
                                   dbl(b[static_cast<size_t>(p * ldb + j)]);
                  sum += t;
                  size += std::fabs(t);
                }
                ASSERT_NEAR(dbl(c[at]), sum, 4e-6 * size)
                    << m << " x " << n << " x " << k << " at " << i << ", " << j;
              }
            }
          }
        }
      }
    }
  });
}

TEST(Kernels, a_row_of_gemm_has_the_same_bits_in_any_tile) {
  for_levels([](const CpuKernels& kernels) {
    constexpr int64_t kM = 29, kN = 70, kK = 53;
    const auto a = test::uniform_values(kM * kK, 1), b = test::uniform_values(kK * kN, 2);
    std::vector<float> whole(kM * kN), part(kM * kN);
    kernels.gemm(kM, kN, kK, a.data(), kK, b.data(), kN, whole.data(), kN, false);
    for (int64_t m = 1; m <= 5; ++m) {
      for (const int64_t n : {int64_t{9}, int64_t{32}, kN}) {
        for (int64_t i = 0; i + m <= kM; i += 7) {
          kernels.gemm(m, n, kK, a.data() + i * kK, kK, b.data(), kN, part.data(), kN, false);
          for (int64_t r = 0; r < m; ++r) {
            ASSERT_EQ(std::memcmp(part.data() + r * kN, whole.data() + (i + r) * kN,
                                  static_cast<size_t>(n) * 4),
                      0);
          }
        }
      }
    }
  });
}

TEST(Kernels, a_panel_is_the_transpose_with_zeros_for_missing_rows) {
  for_levels([](const CpuKernels& kernels) {
    for (const int64_t count : {1, 2, 31, 32}) {
      for (const int64_t k : {1, 15, 16, 17, 50}) {
        const int64_t ld = k + 3;
        const auto rows = test::uniform_values(count * ld, 4);
        std::vector<float> panel(static_cast<size_t>(k * 32 + 1), kNan);
        kernels.transpose_panel(rows.data(), count, ld, k, panel.data());
        for (int64_t p = 0; p < k; ++p) {
          for (int64_t r = 0; r < 32; ++r) {
            ASSERT_EQ(panel[static_cast<size_t>(p * 32 + r)],
                      r < count ? rows[static_cast<size_t>(r * ld + p)] : 0);
          }
        }
        ASSERT_TRUE(std::isnan(panel.back()));
      }
    }
  });
}

// ---- Elementwise ----

TEST(Kernels, half_floats_convert_to_the_bits_of_the_dtype) {
  std::vector<uint16_t> all(65536);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
  // Around every half: itself, its neighbours in f32, and the points half way to the next.
  std::vector<float> floats;
  for (const uint16_t h : all) {
    const float v = f16_to_f32(h);
    if (!std::isfinite(v)) continue;
    const float next = f16_to_f32(static_cast<uint16_t>(h + 1));
    const float middle = std::isfinite(next) ? (v + next) / 2 : v;
    for (const float f : {v, std::nextafter(v, kInf), std::nextafter(v, -kInf), middle,
                          std::nextafter(middle, kInf), std::nextafter(middle, -kInf)})
      floats.push_back(f);
  }
  for (const float f : {kInf, -kInf, 65519.996f, 65520.0f, -65520.0f, 1e10f, 1e-10f, 1e-45f, -0.0f})
    floats.push_back(f);
  floats.push_back(kNan);
  for_levels([&](const CpuKernels& kernels) {
    std::vector<float> wide(all.size());
    kernels.f16_to_f32(all.data(), 65536, wide.data());
    for (size_t i = 0; i < all.size(); ++i) {
      const float expected = f16_to_f32(all[i]);
      if (std::isnan(expected)) {
        ASSERT_TRUE(std::isnan(wide[i])) << i;
      } else {
        ASSERT_EQ(std::bit_cast<uint32_t>(wide[i]), std::bit_cast<uint32_t>(expected)) << i;
      }
    }
    std::vector<uint16_t> narrow(floats.size());
    kernels.f32_to_f16(floats.data(), static_cast<int64_t>(floats.size()), narrow.data());
    for (size_t i = 0; i + 1 < floats.size(); ++i)
      ASSERT_EQ(narrow[i], f32_to_f16(floats[i])) << floats[i];
    EXPECT_TRUE(std::isnan(f16_to_f32(narrow.back())));
    for (const int64_t n : kLengths) {
      if (n > 100) continue;
      std::vector<uint16_t> h(static_cast<size_t>(n) + 1, 0x1234);
      kernels.f32_to_f16(floats.data() + 100, n, h.data());
      for (int64_t i = 0; i < n; ++i)
        ASSERT_EQ(h[static_cast<size_t>(i)], f32_to_f16(floats[static_cast<size_t>(100 + i)]));
      ASSERT_EQ(h.back(), 0x1234);
    }
  });
}

TEST(Kernels, rms_norm_equals_float64) {
  for_levels([](const CpuKernels& kernels) {
    for (const int64_t n : kLengths) {
      for (const float size : {1e-4f, 1.0f, 300.0f}) {
        const auto x = test::uniform_values(n, 5, size), weight = test::uniform_values(n, 6);
        std::vector<float> y(static_cast<size_t>(n) + 1, -7);
        kernels.rms_norm(x.data(), weight.data(), n, 1e-6f, y.data());
        double squares = 0;
        for (const float v : x) squares += dbl(v) * dbl(v);
        const double factor = 1 / std::sqrt(squares / static_cast<double>(n) + dbl(1e-6f));
        for (size_t i = 0; i < x.size(); ++i) {
          const double expected = dbl(x[i]) * factor * dbl(weight[i]);
          ASSERT_NEAR(dbl(y[i]), expected, 1e-6 * std::fabs(expected)) << n;
        }
        ASSERT_EQ(y.back(), -7);
        auto in_place = x;
        kernels.rms_norm(in_place.data(), weight.data(), n, 1e-6f, in_place.data());
        ASSERT_TRUE(std::equal(in_place.begin(), in_place.end(), y.begin()));
      }
    }
  });
}

TEST(Kernels, silu_mul_equals_float64) {
  for_levels([](const CpuKernels& kernels) {
    for (const int64_t n : kLengths) {
      auto gate = test::uniform_values(n, 7, 12);
      gate[0] = -90;
      gate[gate.size() / 2] = 95;
      const auto before = gate, up = test::uniform_values(n, 8, 3);
      gate.push_back(-7);
      kernels.silu_mul(gate.data(), up.data(), n);
      for (size_t i = 0; i < before.size(); ++i) {
        const double g = dbl(before[i]), expected = g / (1 + std::exp(-g)) * dbl(up[i]);
        ASSERT_NEAR(dbl(gate[i]), expected, 1e-6 * std::fabs(expected) + 1e-35) << before[i];
      }
      ASSERT_EQ(gate.back(), -7);
    }
  });
}

TEST(Kernels, gelu_tanh_mul_equals_float64) {
  for_levels([](const CpuKernels& kernels) {
    for (const int64_t n : kLengths) {
      auto gate = test::uniform_values(n, 7, 6);
      gate[0] = -40;
      gate[gate.size() / 2] = 40;
      const auto before = gate, up = test::uniform_values(n, 8, 3);
      gate.push_back(-7);
      kernels.gelu_tanh_mul(gate.data(), up.data(), n);
      for (size_t i = 0; i < before.size(); ++i) {
        const double g = dbl(before[i]), u = std::sqrt(2 / M_PI) * (g + 0.044715 * g * g * g),
                     expected = 0.5 * g * (1 + std::tanh(u)) * dbl(up[i]);
        // The argument of the exponential is rounded: to its last place.
        ASSERT_NEAR(dbl(gate[i]), expected,
                    (1e-6 + 3e-7 * std::fabs(u)) * std::fabs(expected) + 1e-35)
            << before[i];
      }
      ASSERT_EQ(gate.back(), -7);
    }
  });
}

TEST(Kernels, soft_cap_equals_float64) {
  for_levels([](const CpuKernels& kernels) {
    for (const int64_t n : kLengths) {
      auto x = test::uniform_values(n, 7, 90);
      x[0] = -1e30f;
      x[x.size() / 2] = 0.01f;
      const auto before = x;
      x.push_back(-7);
      kernels.soft_cap(x.data(), n, 30);
      for (size_t i = 0; i < before.size(); ++i)
        ASSERT_NEAR(dbl(x[i]), 30 * std::tanh(dbl(before[i]) / 30), 6e-6) << before[i];
      ASSERT_EQ(x.back(), -7);
    }
  });
}

TEST(Kernels, powers_are_exact_to_the_least) {
  for_levels([](const CpuKernels& kernels) {
    std::vector<uint8_t> bytes(256);
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i);
    std::vector<float> to(256);
    kernels.e8m0_to_f32(bytes.data(), 256, to.data());
    for (int e = 0; e < 255; ++e)
      ASSERT_EQ(dbl(to[static_cast<size_t>(e)]), std::ldexp(1.0, e - 128)) << e;
    EXPECT_FALSE(std::isfinite(to[255]));
  });
}

TEST(Kernels, scale_multiplies_each_element) {
  for_levels([](const CpuKernels& kernels) {
    for (const int64_t n : kLengths) {
      const auto before = test::uniform_values(n, 9);
      auto x = before;
      x.push_back(-7);
      kernels.scale(x.data(), n, 0.37f);
      for (size_t i = 0; i < before.size(); ++i) ASSERT_EQ(x[i], before[i] * 0.37f);
      ASSERT_EQ(x.back(), -7);
    }
  });
}

// A softmax in blocks as attention runs it, against one in float64.
void expect_softmax(const CpuKernels& kernels, const std::vector<std::vector<float>>& blocks) {
  float max = -3.0e38f, sum = 0;
  std::vector<double> weights;  // of all elements so far, under the maximum so far
  for (const auto& block : blocks) {
    auto x = block;
    x.push_back(-7);
    const float factor =
        kernels.softmax_step(x.data(), static_cast<int64_t>(block.size()), &max, &sum);
    for (double& w : weights) w *= dbl(factor);
    for (size_t i = 0; i < block.size(); ++i) weights.push_back(dbl(x[i]));
    ASSERT_EQ(x.back(), -7);
  }
  double top = -1e300, total = 0;
  for (const auto& block : blocks) {
    for (const float v : block) top = std::max(top, dbl(v));
  }
  for (const auto& block : blocks) {
    for (const float v : block) total += std::exp(dbl(v) - top);
  }
  EXPECT_EQ(dbl(max), top);
  EXPECT_NEAR(dbl(sum), total, 2e-6 * total);
  size_t i = 0;
  for (const auto& block : blocks) {
    for (const float v : block) {
      const double expected = std::exp(dbl(v) - top);
      // The argument is rounded too: an error of its last place is a relative error of the result.
      const double relative =
          1e-6 + 2 * std::fabs(dbl(v) - top) * 0x1p-24 * static_cast<double>(blocks.size());
      ASSERT_NEAR(weights[i], expected, relative * expected + 2e-38) << "element " << i;
      ++i;
    }
  }
}

TEST(Kernels, softmax_in_blocks_equals_float64) {
  for_levels([](const CpuKernels& kernels) {
    for (const int64_t n : {1, 15, 16, 17, 64}) {
      const auto block = [&](uint64_t seed, float size, float shift) {
        auto x = test::uniform_values(n, seed, size);
        for (float& v : x) v += shift;
        return x;
      };
      expect_softmax(kernels, {block(1, 4, 0)});
      expect_softmax(kernels, {block(1, 4, 0), block(2, 4, 0), block(3, 4, 0)});
      // The maximum rises, falls, jumps; blocks that weigh nothing before and after.
      expect_softmax(kernels, {block(1, 4, -50), block(2, 4, 0), block(3, 4, 50)});
      expect_softmax(kernels, {block(1, 4, 50), block(2, 4, 0), block(3, 4, -50)});
      expect_softmax(kernels, {block(1, 1, -1e4f), block(2, 1, 1e4f), block(3, 1, -1e4f)});
      expect_softmax(kernels, {block(1, 1e30f, 0), block(2, 1e30f, 0)});
      expect_softmax(kernels, {block(1, 1, -1e30f), block(2, 1, -1e30f)});
      expect_softmax(kernels, {std::vector<float>(static_cast<size_t>(n), 3), block(2, 0, 3)});
    }
  });
}

TEST(Kernels, log_sum_exp_equals_float64) {
  for_levels([](const CpuKernels& kernels) {
    for (const int64_t n : kLengths) {
      for (const auto& [size, shift] : {std::pair{5.0f, 0.0f},
                                        {0.0f, 3.0f},
                                        {40.0f, 0.0f},
                                        {5.0f, -1e4f},
                                        {5.0f, 1e4f},
                                        {1e30f, 0.0f}}) {
        auto x = test::uniform_values(n, 10, size);
        for (float& v : x) v += shift;
        const double top = dbl(std::ranges::max(x));
        double total = 0;
        for (const float v : x) total += std::exp(dbl(v) - top);
        ASSERT_NEAR(kernels.log_sum_exp(x.data(), n), top + std::log(total), 2e-6)
            << n << " of size " << size << " around " << shift;
      }
    }
  });
}

// What is not a number must not turn into one on the way: the checks behind would not see it.
TEST(Kernels, nan_and_infinity_do_not_become_numbers) {
  for_levels([](const CpuKernels& kernels) {
    for (const int64_t n : {1, 16, 17, 40}) {
      for (const size_t at : {size_t{0}, static_cast<size_t>(n - 1), static_cast<size_t>(n / 2)}) {
        auto x = test::uniform_values(n, 11);
        x[at] = kNan;
        EXPECT_TRUE(std::isnan(kernels.log_sum_exp(x.data(), n))) << n << ", " << at;
        auto gate = x;
        const auto up = test::uniform_values(n, 12);
        kernels.silu_mul(gate.data(), up.data(), n);
        EXPECT_TRUE(std::isnan(gate[at]));
        gate = x;
        kernels.gelu_tanh_mul(gate.data(), up.data(), n);
        EXPECT_TRUE(std::isnan(gate[at]));
        gate = x;
        kernels.soft_cap(gate.data(), n, 30);
        EXPECT_TRUE(std::isnan(gate[at]));
        float max = -3e38f, sum = 0;
        kernels.softmax_step(x.data(), n, &max, &sum);
        EXPECT_TRUE(std::isnan(sum)) << n << ", " << at;
        auto infinite = test::uniform_values(n, 13);
        infinite[at] = kInf;
        EXPECT_FALSE(std::isfinite(kernels.log_sum_exp(infinite.data(), n)));
        const auto weight = test::uniform_values(n, 14);
        kernels.rms_norm(infinite.data(), weight.data(), n, 1e-6f, infinite.data());
        EXPECT_TRUE(std::isnan(infinite[at]));
      }
    }
  });
}

// ---- Memory ----

TEST(Kernels, elementwise_loops_touch_no_byte_behind_their_last) {
  for_levels([](const CpuKernels& kernels) {
    for (const int64_t n : {1, 3, 15, 16, 17, 31, 33}) {
      const auto bytes = static_cast<size_t>(n) * 4;
      test::GuardedMemory a(bytes, 0), b(bytes, 0), c(bytes, 0), h(bytes / 2, 0);
      kernels.rms_norm(a.as<float>(), b.as<float>(), n, 1e-6f, c.as<float>());
      kernels.silu_mul(a.as<float>(), b.as<float>(), n);
      kernels.gelu_tanh_mul(a.as<float>(), b.as<float>(), n);
      kernels.soft_cap(a.as<float>(), n, 30);
      kernels.scale(a.as<float>(), n, 2);
      kernels.f32_to_f16(a.as<float>(), n, h.as<uint16_t>());
      kernels.f16_to_f32(h.as<uint16_t>(), n, c.as<float>());
      float max = -3e38f, sum = 0;
      kernels.softmax_step(a.as<float>(), n, &max, &sum);
      kernels.log_sum_exp(a.as<float>(), n);
      test::GuardedMemory left(bytes, 0), right(bytes * static_cast<size_t>(n), 0);
      kernels.gemm(1, n, n, left.as<float>(), n, right.as<float>(), n, c.as<float>(), n, false);
    }
  });
}

}  // namespace
}  // namespace pith
