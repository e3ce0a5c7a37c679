// Products of rounded inputs: in integers bit for bit what the definition gives, on every level,
// for every shape and number of threads; elsewhere what the converted inputs give.

#include "runtime/cpu/int_matmul.h"
#include "runtime/cpu/cpu_executor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/bytes.h"
#include "core/parallel.h"
#include "formats/encodings/int_group.h"
#include "runtime/cpu/matmul.h"
#include "runtime/forward/executor.h"
#include "tests/support/encodings.h"
#include "tests/support/kernel_levels.h"

namespace pith {
namespace {

const InputEncoding kToken{DType::kI8, InputScale::kToken, 0};
const InputEncoding kTensor{DType::kI8, InputScale::kTensor, 0.004f};  // clips half of [-1, 1)
const InputEncoding kBlocks{DType::kI8, InputScale::kBlock128, 0};

std::vector<Encoding> integer_encodings() {
  std::vector<Encoding> all = {Encoding::integer(8, 0), Encoding::integer(8, 128),
                               Encoding::integer(8, 32, false), Encoding::integer(8, 0, false),
                               Encoding::integer(8, 64, true, DType::kBF16, true)};
  for (const int64_t group : test::kGroupSizes) {
    for (const bool two_level : {false, true})
      all.push_back(Encoding::integer(4, group, group % 3 == 1, DType::kF16, two_level));
  }
  for (const int bits : {2, 3, 5, 6}) all.push_back(Encoding::integer(bits, 64, false));
  all.push_back(Encoding::mxfp4());
  return all;
}

// Weights of two levels whose (code - zero) * int8 scale fit 8 bits, or not in some tiles.
Weight two_levels(int64_t n, int64_t k, int64_t group, bool symmetric, int largest_scale) {
  const Encoding e = Encoding::integer(4, group, symmetric, DType::kF16, true);
  const auto values = test::weight_values(n, k, 5);
  const Weight encoded = encode(e, n, k, values.data());
  OwnedWeight w = allocate_weight(e, n, k);
  Rng rng(6);
  for (auto& plane : w.planes) {
    const auto from = encoded.plane(plane.kind);
    std::copy(from.begin(), from.end(), plane.bytes.begin());
    if (plane.kind != PlaneKind::kScales) continue;
    for (auto& b : plane.bytes) {
      const int scale = static_cast<int>(rng.next() % static_cast<uint64_t>(2 * largest_scale + 1));
      b = static_cast<std::byte>(scale - largest_scale);
    }
  }
  return std::move(w.weight);
}

// The definition in int_matmul.h, element by element.
std::vector<float> by_definition(const Weight& w, RoundedInputs& x,
                                 const std::vector<float>& added) {
  const GroupLayout l(w.encoding, w.n, w.k);
  const bool two_level = w.encoding.two_level, mx = w.encoding.kind == EncodingKind::kMx;
  // Columns of one product: with int8 factors, as many as cannot overflow.
  const int64_t largest = w.encoding.bits == 8 ? 255 : (1 << w.encoding.bits) - 1;
  const int64_t exact = INT32_MAX / (largest * 127 * (two_level ? 128 : 1)) / 128 * 128;
  const int64_t piece = std::min({two_level ? w.k : l.group, x.block(), exact});
  std::vector<float> y = added;
  y.resize(static_cast<size_t>(x.m() * w.n));
  std::vector<float> scales(static_cast<size_t>(l.groups));
  std::vector<uint8_t> zeros(round_up(static_cast<uint64_t>(l.groups), 16)),
      codes(round_up(static_cast<uint64_t>(l.k), 32));
  const int8_t* inputs = x.codes();
  for (int64_t r = 0; r < w.n; ++r) {
    load_zeros(w, l, r, zeros.data());
    load_codes(w, l, r, codes.data());
    if (two_level) {
      to_f32(w.encoding.scale, w.plane(PlaneKind::kRowScales).data() + 2 * r, scales.data(), 1);
    } else {
      load_scales(w, l, r, scales.data());
    }
    for (int64_t t = 0; t < x.m(); ++t) {
      for (int64_t c = 0; c < w.k; c += piece) {
        int64_t sum = 0;
        for (int64_t i = c; i < std::min(w.k, c + piece); ++i) {
          const int64_t g = i / l.group;
          const uint8_t code = codes[static_cast<size_t>(i)];
          const int64_t weight = mx ? static_cast<int64_t>(2 * kE2M1Values[code])
                                    : code - zeros[static_cast<size_t>(g)];
          const auto* group_scales =
              reinterpret_cast<const int8_t*>(w.plane(PlaneKind::kScales).data());
          const int64_t factor =
              two_level ? group_scales[(r / 16 * l.groups + g) * 16 + r % 16] : 1;
          sum += weight * factor * inputs[t * x.stride() + i];
        }
        const float scale = scales[two_level ? 0 : static_cast<size_t>(c / l.group)];
        const float both = (mx ? scale / 2 : scale) * x.scales()[c / x.block() * x.m() + t];
        float& to = y[static_cast<size_t>(t * w.n + r)];
        to = std::fma(static_cast<float>(sum), both, added.empty() && c == 0 ? 0.0f : to);
      }
    }
  }
  return y;
}

std::vector<float> product(const CpuKernels& kernels, const Weight& w, RoundedInputs& x,
                           const std::vector<float>& added) {
  std::vector<float> y = added;
  y.resize(static_cast<size_t>(x.m() * w.n), std::numeric_limits<float>::quiet_NaN());
  MatmulScratch scratch;
  matmul(kernels, w, x, y.data(), !added.empty(), scratch);
  return y;
}

void expect_as_defined(const Weight& w, RoundedInputs& x, const std::vector<float>& added) {
  const auto expected = by_definition(w, x, added);
  for (const CpuKernels* kernels : test::kernel_levels()) {
    ASSERT_EQ(product(*kernels, w, x, added), expected)
        << kernels->name << ", " << to_string(w.encoding) << " " << w.n << " x " << w.k
        << ", inputs " << to_string(x.encoding()) << " by " << x.block() << ", m = " << x.m();
  }
}
void expect_as_defined(const Weight& w, const InputEncoding& e, const std::vector<float>& values,
                       int64_t m, const std::vector<float>& added) {
  RoundedInputs x;
  x.set(e, values.data(), m, w.k);
  expect_as_defined(w, x, added);
}

class IntMatmul : public testing::Test {
 protected:
  void TearDown() override { set_threads(0); }
};

TEST_F(IntMatmul, is_as_defined_on_every_level) {
  for (const Encoding& e : integer_encodings()) {
    for (const int64_t k : {1, 16, 17, 64, 130, 300}) {
      for (const int64_t n : {1, 5, 33}) {
        const auto values = test::weight_values(n, k, static_cast<uint64_t>(k));
        const Weight w = encode(e, n, k, values.data());
        const auto x = test::uniform_values((kPanelTokens + 1) * k, 7);
        for (const int64_t m : {int64_t{1}, int64_t{3}, int64_t{7}, int64_t{8}, kPanelTokens + 1}) {
          const auto added = test::uniform_values(m * n, 8);
          for (const InputEncoding& input : {kToken, kTensor, kBlocks}) {
            expect_as_defined(w, input, x, m, {});
            expect_as_defined(w, input, x, m, added);
            if (HasFatalFailure()) return;
          }
        }
      }
    }
  }
}

// Blocks of inputs shorter than the weight's groups, as long, and longer.
TEST_F(IntMatmul, blocks_of_inputs_need_not_be_groups) {
  const int64_t n = 33;
  for (const Encoding& e : integer_encodings()) {
    for (const int64_t k : {96, 300, 576}) {
      const auto values = test::weight_values(n, k, 3);
      const Weight w = encode(e, n, k, values.data());
      const auto inputs = test::uniform_values((kPanelTokens + 1) * k, 4);
      for (const int64_t block : {16, 32, 64, 128}) {
        for (const int64_t m : {int64_t{1}, int64_t{6}, kPanelTokens + 1}) {
          RoundedInputs x;
          x.set_blocks(block, inputs.data(), m, k);
          expect_as_defined(w, x, {});
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

// The definition itself: near the product of the numbers that weights and inputs stand for.
TEST_F(IntMatmul, is_near_the_product_of_the_decoded_numbers) {
  for (const Encoding& e : integer_encodings()) {
    const int64_t n = 33, k = 300, m = 9;
    const auto values = test::weight_values(n, k, 1);
    const Weight w = encode(e, n, k, values.data());
    std::vector<float> d(values.size());
    reference_decode(w, 0, n, d.data());
    const auto inputs = test::uniform_values(m * k, 2);
    for (const InputEncoding& input : {kToken, kTensor, kBlocks}) {
      RoundedInputs x;
      x.set(input, inputs.data(), m, k);
      const auto y = product(cpu_kernels(), w, x, {});
      for (int64_t t = 0; t < m; ++t) {
        for (int64_t r = 0; r < n; ++r) {
          double sum = 0, size = 0;
          for (int64_t i = 0; i < k; ++i) {
            const double v = static_cast<double>(d[static_cast<size_t>(r * k + i)]) *
                             static_cast<double>(x.values()[t * k + i]);
            sum += v;
            size += std::fabs(v);
          }
          ASSERT_NEAR(static_cast<double>(y[static_cast<size_t>(t * n + r)]), sum, 1e-6 * size)
              << to_string(e);
        }
      }
    }
  }
}

TEST_F(IntMatmul, two_levels_of_scales_that_fit_8_bits_or_do_not) {
  for (const int64_t group : {0, 16, 32, 128}) {
    for (const bool symmetric : {true, false}) {
      for (const int largest : {0, 8, 9, 16, 127}) {
        const Weight w = two_levels(70, 300, group, symmetric, largest);
        const auto x = test::uniform_values((kPanelTokens + 1) * 300, 3);
        for (const int64_t m : {int64_t{1}, int64_t{7}, kPanelTokens + 1}) {
          for (const InputEncoding& input : {kToken, kBlocks}) {
            expect_as_defined(w, input, x, m, {});
            if (HasFatalFailure()) return;
          }
        }
      }
    }
  }
}

// All codes and inputs at the end of their range, in rows beyond what int32 can hold.
TEST_F(IntMatmul, long_rows_do_not_overflow) {
  for (const bool two_level : {false, true}) {
    for (const uint8_t code : {uint8_t{0}, uint8_t{255}}) {
      const Encoding e = Encoding::integer(8, two_level ? 128 : 0, false, DType::kF16, two_level);
      const int64_t n = 3, k = 2 * 65536 + 130;
      OwnedWeight w = allocate_weight(e, n, k);
      for (auto& plane : w.planes) {
        std::fill(plane.bytes.begin(), plane.bytes.end(), std::byte{0x3c});
        if (plane.kind == PlaneKind::kCodes)
          std::fill(plane.bytes.begin(), plane.bytes.end(), std::byte{code});
        if (plane.kind == PlaneKind::kZeros)
          std::fill(plane.bytes.begin(), plane.bytes.end(), std::byte(255 - code));
        if (plane.kind == PlaneKind::kScales && two_level)
          std::fill(plane.bytes.begin(), plane.bytes.end(), std::byte{0x80});
      }
      const std::vector<float> x(static_cast<size_t>(kPanelTokens * k), -3.0f);
      for (const int64_t m : {int64_t{1}, kPanelTokens}) {
        for (const InputEncoding& input : {kToken, kBlocks}) {
          expect_as_defined(w.weight, input, x, m, {});
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST_F(IntMatmul, does_not_depend_on_threads_or_on_neighbours) {
  for (const Encoding& e : integer_encodings()) {
    const int64_t n = 100, k = 172;
    constexpr int64_t kMany = 2 * kPanelTokens + 11;
    const auto values = test::weight_values(n, k, 1);
    const Weight w = encode(e, n, k, values.data());
    const auto inputs = test::uniform_values(kMany * k, 2);
    for (const CpuKernels* kernels : test::kernel_levels()) {
      const auto run = [&](int64_t first, int64_t m) {
        RoundedInputs x;
        x.set(kBlocks, inputs.data() + first * k, m, k);
        return product(*kernels, w, x, {});
      };
      set_threads(1);
      const auto all = run(0, kMany);
      set_threads(3);
      ASSERT_EQ(run(0, kMany), all) << to_string(e);
      for (const int64_t m : {1, 6, 11}) {  // the same bits for few tokens as for many
        for (const int64_t first : {0, 5, 123}) {
          const auto part = run(first, m);
          ASSERT_TRUE(std::equal(part.begin(), part.end(), all.begin() + first * n))
              << to_string(e) << ", m = " << m;
        }
      }
    }
  }
}

TEST_F(IntMatmul, tokens_of_zeros_of_any_size_and_not_finite) {
  const int64_t n = 33, k = 130, m = 9;
  const auto values = test::weight_values(n, k, 1);
  for (const Encoding& e : {Encoding::integer(8, 0), Encoding::integer(4, 32, false),
                            Encoding::fp8(DType::kF8E4M3, ScaleArea::kRow)}) {
    const Weight w = encode(e, n, k, values.data());
    auto inputs = test::uniform_values(m * k, 2);
    constexpr float kSizes[] = {1, 0, 1e33f, 1e-36f, 1e-40f, 1, 1, 1e-20f, 1};
    for (int64_t i = 0; i < m * k; ++i) inputs[static_cast<size_t>(i)] *= kSizes[i / k];
    inputs[5 * k] = std::numeric_limits<float>::quiet_NaN();
    inputs[7 * k - 1] = -std::numeric_limits<float>::infinity();
    for (const DType dtype : {DType::kI8, DType::kF8E4M3}) {
      for (const InputScale scale :
           {InputScale::kToken, InputScale::kTensor, InputScale::kBlock128}) {
        for (const CpuKernels* kernels : test::kernel_levels()) {
          for (const int64_t tokens : {m, int64_t{7}}) {
            RoundedInputs x;
            x.set({dtype, scale, 0.01f}, inputs.data(), tokens, k);
            const auto y = product(*kernels, w, x, {});
            for (int64_t i = 0; i < tokens * n; ++i) {
              const int64_t t = i / n;
              const float v = y[static_cast<size_t>(i)];
              ASSERT_EQ(std::isnan(v), t == 5 || t == 6) << to_string(e) << " token " << t;
              if (t == 1 || t == 4) {
                ASSERT_EQ(v, 0);
              }
              if (t < 5) {
                ASSERT_TRUE(std::isfinite(v));
              }
            }
          }
        }
      }
    }
  }
}

TEST_F(IntMatmul, reads_no_more_than_the_slack_behind_a_plane) {
  for (const Encoding& e : integer_encodings()) {
    for (const auto& [n, k] :
         {std::pair<int64_t, int64_t>{1, 1}, {5, 17}, {3, 31}, {2, 64}, {33, 130}}) {
      const auto values = test::weight_values(n, k, 3);
      const Weight w = test::guarded_copy(encode(e, n, k, values.data()));
      for (const CpuKernels* kernels : test::kernel_levels()) {
        for (const int64_t m : {1, 9}) {
          // x and y end where their memory ends.
          test::GuardedMemory x(static_cast<size_t>(m * k) * 4, 0),
              y(static_cast<size_t>(m * n) * 4, 0);
          RoundedInputs rounded;
          rounded.set(kToken, x.as<float>(), m, k);
          MatmulScratch scratch;
          matmul(*kernels, w, rounded, y.as<float>(), false, scratch);
        }
      }
    }
  }
}

TEST_F(IntMatmul, other_types_go_by_conversion) {
  const int64_t n = 33, k = 130;
  const auto values = test::weight_values(n, k, 1);
  const auto inputs = test::uniform_values(9 * k, 2);
  for (const Encoding& e : test::encoding_families()) {
    const Weight w = encode(e, n, k, values.data());
    for (const DType dtype : {DType::kI8, DType::kF8E4M3}) {
      if (dtype == DType::kI8 && has_int_matmul(e)) continue;
      for (const int64_t m : {1, 9}) {
        RoundedInputs x;
        x.set({dtype, InputScale::kBlock128, 0}, inputs.data(), m, k);
        std::vector<float> y(static_cast<size_t>(m * n));
        MatmulScratch scratch;
        matmul(cpu_kernels(), w, x.values(), m, y.data(), false, scratch);
        ASSERT_EQ(product(cpu_kernels(), w, x, {}), y) << to_string(e);
      }
    }
  }
}

// To run a model, inputs of integers are rounded where the layer does not say so; of others not.
TEST_F(IntMatmul, an_executor_rounds_the_inputs_of_integers_alone) {
  const int64_t n = 40, k = 576, m = 17;
  const auto values = test::weight_values(n, k, 1);
  auto x = test::uniform_values(m * k, 2);
  const auto exact = make_cpu_executor(), rounding = make_cpu_executor(CpuInputs::kInt8);
  for (const Encoding& e : test::encoding_families()) {
    Linear linear{.name = "a", .n = n, .k = k, .terms = {}, .bias = {}};
    linear.terms.push_back({encode(e, n, k, values.data()), {}});
    std::vector<float> a(static_cast<size_t>(m * n)), b(a.size());
    for (const auto& [executor, to] : {std::pair(exact.get(), &a), {rounding.get(), &b}}) {
      const Tensor in = executor->buffer(TensorId::kNormed, m, k),
                   out = executor->buffer(TensorId::kHidden, m, n);
      executor->write(x, in);
      executor->run(LinearOp{&linear, in, out});
      executor->read(out, *to);
    }
    if (!has_int_matmul(e)) {
      ASSERT_EQ(a, b) << to_string(e);
      continue;
    }
    double error = 0, size = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      error += std::pow(static_cast<double>(a[i] - b[i]), 2);
      size += std::pow(static_cast<double>(a[i]), 2);
    }
    // Steps of 1/127 of the largest of 32 uniform inputs: 1/(127 sqrt(12)) of 1, whose own root
    // mean square is 1/sqrt(3).
    ASSERT_NEAR(std::sqrt(error / size), 0.0045, 0.002) << to_string(e);
  }
}

// y += bias + W8 x' + up (down x'), x' rounded once for all terms.
TEST_F(IntMatmul, layers_round_their_inputs_for_all_terms) {
  const int64_t n = 40, k = 64, r = 8;
  Linear linear{.name = "a", .n = n, .k = k, .terms = {}, .bias = test::uniform_values(n, 1)};
  const auto values = test::weight_values(n, k, 2);
  const auto down = test::uniform_values(r * k, 3), up = test::uniform_values(n * r, 4);
  linear.terms.push_back({encode(Encoding::integer(8, 0), n, k, values.data()), {}});
  linear.terms.push_back({encode(Encoding::dense(DType::kF16), r, k, down.data()),
                          encode(Encoding::dense(DType::kF16), n, r, up.data())});
  const auto executor = make_cpu_executor();
  for (const int64_t m : {1, 9}) {
    const auto inputs = test::uniform_values(m * k, 5), before = test::uniform_values(m * n, 6);
    const auto run = [&](const InputEncoding& e) {
      linear.input = e;
      const Tensor x = executor->buffer(TensorId::kNormed, m, k);
      const Tensor y = executor->buffer(TensorId::kHidden, m, n);
      executor->write(inputs, x);
      executor->write(before, y);
      executor->run(LinearOp{&linear, x, y, true});
      std::vector<float> out(before.size());
      executor->read(y, out);
      return out;
    };
    const auto plain = run({});
    for (const InputEncoding& e :
         {kToken, kTensor, kBlocks, InputEncoding{DType::kF8E4M3, InputScale::kToken, 0}}) {
      RoundedInputs x;
      x.set(e, inputs.data(), m, k);
      std::vector<float> expected = before, inner(static_cast<size_t>(m * r));
      MatmulScratch scratch;
      const auto& terms = linear.terms;
      matmul(cpu_kernels(), terms[0].w, x, expected.data(), true, scratch);
      matmul(cpu_kernels(), terms[1].w, x, inner.data(), false, scratch);
      matmul(cpu_kernels(), *terms[1].up, inner.data(), m, expected.data(), true, scratch);
      for (size_t i = 0; i < expected.size(); ++i)
        expected[i] += linear.bias[i % static_cast<size_t>(n)];
      const auto y = run(e);
      EXPECT_EQ(y, expected) << to_string(e);
      EXPECT_NE(y, plain) << to_string(e);
    }
  }
}

}  // namespace
}  // namespace pith
