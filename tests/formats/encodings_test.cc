// What must hold of every encoding, over every encoding that can be written and shapes with all the
// edges of groups, units and blocks.

#include "formats/encodings/encoding.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>

#include "core/buffer.h"
#include "core/bytes.h"
#include "core/error.h"
#include "core/parallel.h"
#include "formats/encodings/int_group.h"
#include "formats/encodings/sparse.h"
#include "formats/encodings/tcq.h"
#include "tests/support/encodings.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

struct Shape {
  int64_t n, k;
};
constexpr Shape kShapes[] = {{1, 1},  {5, 15}, {4, 16},  {3, 17},    {6, 31},
                             {3, 64}, {7, 80}, {3, 172}, {129, 130}, {2, 576}};

std::string shape_name(const Encoding& e, Shape s) {
  return fmt::format("{} of {} x {}", to_string(e), s.n, s.k);
}

std::vector<Encoding> all_encodings() {
  auto all = test::writable_encodings();
  std::ranges::copy(test::sparse_encodings(), std::back_inserter(all));
  return all;
}

template <class F>
void for_all(F f) {
  for (const Encoding& e : all_encodings()) {
    for (const Shape s : kShapes) {
      SCOPED_TRACE(shape_name(e, s));
      f(e, s);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

std::vector<float> decode_all(const Weight& w) {
  std::vector<float> out(static_cast<size_t>(w.n * w.k));
  reference_decode(w, 0, w.n, out.data());
  return out;
}

void expect_same_planes(const Weight& a, const Weight& b) {
  ASSERT_EQ(a.planes.size(), b.planes.size());
  for (size_t i = 0; i < a.planes.size(); ++i) {
    EXPECT_EQ(a.planes[i].kind, b.planes[i].kind);
    EXPECT_TRUE(std::ranges::equal(a.planes[i].bytes, b.planes[i].bytes))
        << plane_name(a.planes[i].kind);
  }
}

// ---- Names ----

TEST(Encodings, names_parse_back_and_are_unique) {
  std::set<std::string> names;
  for (const Encoding& e : all_encodings()) {
    const std::string name = to_string(e);
    EXPECT_TRUE(names.insert(name).second) << name << " names two encodings";
    EXPECT_EQ(parse_encoding(name), e) << name;
    EXPECT_TRUE(can_encode(e)) << name;
  }
  EXPECT_EQ(names.size(), 3u + 5 * 4 * 13 + 4 * 4 + 6 + 1 + test::sparse_encodings().size());
}

TEST(Encodings, names_are_what_the_documents_say) {
  EXPECT_EQ(to_string(Encoding::dense(DType::kBF16)), "bf16");
  EXPECT_EQ(to_string(Encoding::integer(4, 64, false)), "int4-g64-asym");
  EXPECT_EQ(to_string(Encoding::integer(3, 0, true, DType::kBF16, true)), "int3-row-bf16-s8");
  EXPECT_EQ(to_string(Encoding::nf4(32)), "nf4-g32");
  EXPECT_EQ(to_string(Encoding::fp8(DType::kF8E5M2, ScaleArea::kBlock128)), "fp8e5m2-128x128");
  EXPECT_EQ(to_string(Encoding::mxfp4()), "mxfp4");
  EXPECT_EQ(parse_encoding("int8"), Encoding::integer(8, 64));
  EXPECT_EQ(parse_encoding("nf4"), Encoding::nf4(64));
  EXPECT_EQ(parse_encoding("fp8"), Encoding::fp8(DType::kF8E4M3, ScaleArea::kRow));
  EXPECT_EQ(parse_encoding("int4-g128-sym-f16"), Encoding::integer(4, 128));
}

TEST(Encodings, unknown_names_are_refused) {
  for (const char* name : {"",
                           "-",
                           "int",
                           "int4-",
                           "int-4",
                           "int4-g",
                           "int4-g-64",
                           "int4-g64-",
                           "int4-g64x",
                           "int4-g0",
                           "int4-g99999999999999999999",
                           "int99999999999999999999",
                           "int4 ",
                           "INT4",
                           "nf4-foo",
                           "fp8e4m3-row-row",
                           "fp8e4m3-64x64",
                           "fp8e3m4",
                           "f64",
                           "f8e4m3",
                           "i8x",
                           "ggml-q9_9",
                           "ggml-f16",
                           "int4-g64-asymm"}) {
    EXPECT_PITH_ERROR(parse_encoding(name), ErrorKind::kUsage, "unknown encoding");
  }
  EXPECT_PITH_ERROR(parse_encoding("int7-g64"), ErrorKind::kUsage, "7 bits");
  EXPECT_PITH_ERROR(parse_encoding("int1"), ErrorKind::kUsage, "1 bits");
  EXPECT_PITH_ERROR(parse_encoding("int4-g48"), ErrorKind::kUsage, "group size 48");
  EXPECT_PITH_ERROR(parse_encoding("int4-g256"), ErrorKind::kUsage, "group size 256");
  EXPECT_PITH_ERROR(parse_encoding("nf4-asym"), ErrorKind::kUsage, "no zero points");
  EXPECT_PITH_ERROR(parse_encoding("tcq3-g32-asym"), ErrorKind::kUsage, "no zero points");
  EXPECT_PITH_ERROR(parse_encoding("tcq5-g32"), ErrorKind::kUsage, "2, 3 or 4 bits");
}

TEST(Encodings, nonsense_is_refused_before_it_is_used) {
  const auto refused = [](const Encoding& nonsense, const char* text) {
    EXPECT_PITH_ERROR(plane_layouts(nonsense, 4, 64), ErrorKind::kUsage, text);
    const std::vector<float> w(256);
    EXPECT_PITH_ERROR(encode(nonsense, 4, 64, w.data()), ErrorKind::kUsage, text);
  };
  refused(Encoding::integer(7, 64), "7 bits");
  refused(Encoding::integer(0, 64), "0 bits");
  refused(Encoding::integer(-4, 64), "-4 bits");
  refused(Encoding::integer(4, -16), "group size -16");
  refused(Encoding::integer(4, 8), "group size 8");
  refused(Encoding::integer(4, 64, true, DType::kF32), "f16 or bf16");
  refused(Encoding::fp8(DType::kF16, ScaleArea::kRow), "not f16");
  Encoding wide = Encoding::nf4(64);
  wide.bits = 8;
  refused(wide, "4 bits");
  Encoding none;
  none.kind = static_cast<EncodingKind>(200);
  EXPECT_PITH_ERROR(plane_layouts(none, 4, 64), ErrorKind::kCorrupt, "does not exist");
  EXPECT_PITH_ERROR(plane_layouts(Encoding::dense(DType::kF32), -1, 4), ErrorKind::kCorrupt,
                    "-1 x 4");
}

TEST(Encodings, what_is_read_only_is_not_encoded) {
  const std::vector<float> w(256);
  for (const Encoding& read_only :
       {Encoding::of_ggml(GgmlType::kQ4_0), Encoding::dense(DType::kI32)}) {
    EXPECT_FALSE(can_encode(read_only));
    EXPECT_PITH_ERROR(encode(read_only, 1, 256, w.data()), ErrorKind::kUnsupported,
                      to_string(read_only));
  }
}

// ---- Planes ----

TEST(Encodings, planes_have_the_sizes_of_their_layouts) {
  for_all([](const Encoding& e, Shape s) {
    const auto w = test::weight_values(s.n, s.k, 1);
    const Weight weight = encode(e, s.n, s.k, w.data());
    const auto layouts = plane_layouts(e, s.n, s.k);
    ASSERT_EQ(weight.planes.size(), layouts.size());
    uint64_t total = 0;
    for (size_t i = 0; i < layouts.size(); ++i) {
      const auto& l = layouts[i];
      EXPECT_EQ(weight.planes[i].kind, l.kind);
      EXPECT_EQ(weight.planes[i].bytes.size(), l.bytes);
      const auto units = static_cast<uint64_t>(ceil_div(s.n, l.unit_rows));
      EXPECT_EQ(units * l.unit_bytes, l.bytes) << plane_name(l.kind);
      total += l.bytes;
    }
    EXPECT_EQ(encoded_bytes(e, s.n, s.k), total);
    EXPECT_EQ(weight.bytes(), total);
    EXPECT_FALSE(weight.plane(PlaneKind::kCodes).empty());
  });
}

TEST(Encodings, sizes_are_those_of_the_format) {
  EXPECT_EQ(encoded_bytes(Encoding::dense(DType::kBF16), 3, 5), 30u);
  // Whole tiles of 16 rows: 2 units of 16 bytes and 2 f16 scales a row; of zeros half a byte each.
  EXPECT_EQ(encoded_bytes(Encoding::integer(4, 32), 32, 64), 32u * (2 * 16 + 2 * 2));
  EXPECT_EQ(encoded_bytes(Encoding::integer(4, 32, false), 32, 64), 32u * (2 * 16 + 2 * 2 + 1));
  EXPECT_EQ(encoded_bytes(Encoding::integer(4, 32, false), 17, 64), 32u * (2 * 16 + 2 * 2 + 1));
  EXPECT_EQ(encoded_bytes(Encoding::integer(3, 64, true, DType::kF16, true), 2, 172),
            16u * (6 * 12 + 3) + 2u * 2);
  EXPECT_EQ(encoded_bytes(Encoding::nf4(0), 2, 17), 16u * (16 + 2));
  EXPECT_EQ(encoded_bytes(Encoding::mxfp4(), 2, 33), 16u * (2 * 16 + 2));
  EXPECT_EQ(encoded_bytes(Encoding::fp8(DType::kF8E4M3, ScaleArea::kTensor), 7, 9), 63u + 4);
  EXPECT_EQ(encoded_bytes(Encoding::fp8(DType::kF8E4M3, ScaleArea::kRow), 7, 9), 63u + 28);
  EXPECT_EQ(encoded_bytes(Encoding::fp8(DType::kF8E4M3, ScaleArea::kBlock128), 129, 257),
            129u * 257 + 4 * 2 * 3);
}

TEST(Encodings, sizes_that_overflow_are_errors) {
  for (const Encoding& encoding : all_encodings()) {
    const int64_t k = int64_t{1} << 40;
    EXPECT_PITH_ERROR(plane_layouts(encoding, k, k), ErrorKind::kCorrupt, "overflows");
  }
}

// ---- Values ----

TEST(Encodings, slabs_of_rows_give_the_bytes_of_the_whole) {
  for_all([](const Encoding& e, Shape s) {
    const auto w = test::weight_values(s.n, s.k, 2);
    const Weight whole = encode(e, s.n, s.k, w.data());
    float absmax = 0;
    for (const float v : w) absmax = std::max(absmax, std::fabs(v));
    const OwnedWeight slabs = allocate_weight(e, s.n, s.k);
    const bool blocks = e.value_kind() == EncodingKind::kFp8 && e.area == ScaleArea::kBlock128;
    const int64_t unit = blocks ? 128 : 1;
    for (int64_t row = 0; row < s.n; row += unit) {
      ops(e.kind).encode(e, s.n, s.k, row, std::min(unit, s.n - row), w.data() + row * s.k, absmax,
                         slabs.planes);
    }
    expect_same_planes(whole, slabs.weight);
  });
}

TEST(Encodings, rows_decode_alone_as_in_the_whole) {
  for_all([](const Encoding& e, Shape s) {
    const auto w = test::weight_values(s.n, s.k, 3);
    const Weight weight = encode(e, s.n, s.k, w.data());
    const auto whole = decode_all(weight);
    for (const int64_t row : {int64_t{0}, s.n / 2, s.n - 1}) {
      const int64_t rows = std::min<int64_t>(2, s.n - row);
      std::vector<float> part(static_cast<size_t>(rows * s.k));
      reference_decode(weight, row, rows, part.data());
      ASSERT_EQ(std::memcmp(part.data(), whole.data() + row * s.k, part.size() * 4), 0) << row;
    }
  });
}

// The scale that each element was stored with, as the planes have it.
std::vector<double> stored_scales(const Weight& w) {
  const GroupLayout l(w.encoding, w.n, w.k);
  std::vector<double> out(static_cast<size_t>(w.n * w.k));
  std::vector<float> scales(static_cast<size_t>(l.groups));
  for (int64_t r = 0; r < w.n; ++r) {
    load_scales(w, l, r, scales.data());
    for (int64_t i = 0; i < w.k; ++i)
      out[static_cast<size_t>(r * w.k + i)] =
          static_cast<double>(scales[static_cast<size_t>(i / l.group)]);
  }
  return out;
}

// No code of the group's scale (and zero) is nearer to x than the chosen one; f32 arithmetic of the
// encoder may prefer the other of two that are nearly as near.
void expect_nearest_codes(const Weight& w, const std::vector<float>& x) {
  const Encoding& e = w.encoding;
  const GroupLayout l(e, w.n, w.k);
  const auto scales = stored_scales(w);
  const auto y = decode_all(w);
  std::vector<uint8_t> zeros(round_up(static_cast<uint64_t>(l.groups), 16));
  for (int64_t r = 0; r < w.n; ++r) {
    if (e.kind == EncodingKind::kInt) load_zeros(w, l, r, zeros.data());
    for (int64_t c = 0; c < w.k; ++c) {
      const auto i = static_cast<size_t>(r * w.k + c);
      const int zero = zeros[static_cast<size_t>(c / l.group)];
      double best = std::numeric_limits<double>::infinity(), top = 0;
      for (int q = 0; q < 1 << e.bits; ++q) {
        const auto& values = e.kind == EncodingKind::kNf4 ? kNf4Values : kE2M1Values;
        const double value = e.kind == EncodingKind::kInt
                                 ? q - zero
                                 : static_cast<double>(values[static_cast<size_t>(q)]);
        best = std::min(best, std::fabs(static_cast<double>(x[i]) - scales[i] * value));
        top = std::max(top, std::fabs(scales[i] * value));
      }
      const double error = std::fabs(static_cast<double>(x[i]) - static_cast<double>(y[i]));
      ASSERT_LE(error, best + 1e-6 * std::max(top, std::fabs(static_cast<double>(x[i]))))
          << "row " << r << ", column " << c << ": " << x[i] << " became " << y[i];
    }
  }
}

// Half a step of the scale, and what is cut off where the stored scale is smaller than the wanted
// one: f16 and bf16 by up to half of their last place, int8 by half of a 127th of the row's
// largest.
void expect_within_half_a_step(const Weight& w, const std::vector<float>& x) {
  const Encoding& e = w.encoding;
  const GroupLayout l(e, w.n, w.k);
  const auto y = decode_all(w);
  const auto scales = stored_scales(w);
  const double rounding = e.scale == DType::kF16 ? 0x1p-11 : 0x1p-8;
  const double range = (1 << e.bits) - 1;
  double widest_gap = 0;  // of nf4, between neighbours
  for (size_t i = 1; i < 16; ++i)
    widest_gap = std::max(widest_gap, static_cast<double>(kNf4Values[i] - kNf4Values[i - 1]));
  for (int64_t r = 0; r < w.n; ++r) {
    const auto row = std::span(x).subspan(static_cast<size_t>(r * w.k), static_cast<size_t>(w.k));
    double row_scale = 0;  // the largest scale wanted in the row
    for (const float v : row)
      row_scale = std::max(row_scale, static_cast<double>(std::fabs(v)) * 2 / range);
    if (e.kind == EncodingKind::kNf4) row_scale *= range / 2;
    for (int64_t c = 0; c < w.k; ++c) {
      const auto i = static_cast<size_t>(r * w.k + c);
      const double s = scales[i];
      const double lost = rounding * row_scale + (e.two_level ? 0.51 / 127 * row_scale : 0);
      // Subnormal scales of f16 lose more: half of 2^-24.
      const double cut = (lost + (e.scale == DType::kF16 ? 0x1p-25 * 128 : 0)) *
                         (e.kind == EncodingKind::kNf4 ? 1 : range);
      const double step = e.kind == EncodingKind::kNf4 ? s * widest_gap : s;
      ASSERT_LE(std::fabs(static_cast<double>(x[i]) - static_cast<double>(y[i])),
                step / 2 * (1 + 1e-5) + cut)
          << "row " << r << ", column " << c << ": " << x[i] << " became " << y[i];
    }
  }
}

// Half of the widest gap, between 4 and 6, or what is cut off above 6; half of the least code.
void expect_mx_rounding(const Weight& w, const std::vector<float>& x) {
  const auto y = decode_all(w);
  const auto scales = stored_scales(w);
  for (size_t i = 0; i < x.size(); ++i) {
    const auto v = static_cast<double>(x[i]);
    ASSERT_NEAR(static_cast<double>(y[i]), v, std::max(std::fabs(v) / 4, scales[i] / 4)) << i;
    ASSERT_EQ(std::exp2(std::round(std::log2(scales[i]))), scales[i]);
  }
}

void expect_fp8_rounding(const Weight& w, const std::vector<float>& x) {
  const bool e4m3 = w.encoding.dtype == DType::kF8E4M3;
  const auto y = decode_all(w);
  const double relative = e4m3 ? 0x1p-4 : 0x1p-3;    // half of the last place of the mantissa
  const double smallest = e4m3 ? 0x1p-10 : 0x1p-17;  // half of the smallest subnormal
  double absmax = 0;
  for (const float v : x) absmax = std::max(absmax, std::fabs(static_cast<double>(v)));
  const double scale = absmax / (e4m3 ? 448.0 : 57344.0);  // the largest of any area
  for (size_t i = 0; i < x.size(); ++i) {
    const auto v = static_cast<double>(x[i]);
    ASSERT_NEAR(static_cast<double>(y[i]), v,
                std::max(std::fabs(v) * relative, scale * smallest) * (1 + 1e-5));
  }
}

// The kept columns decode as they do in the inner encoding, the others are 0.
void expect_inner_values(const Weight& w, const std::vector<float>& x) {
  const Sparsity& s = w.encoding.sparsity;
  const auto mask = magnitude_mask(s, w.k, w.n, x.data());
  ASSERT_EQ(stored_mask(w, 0, w.n), mask);
  const auto inner = decode_all(kept_values(w));
  const auto y = decode_all(w);
  for (int64_t r = 0; r < w.n; ++r) {
    auto from = static_cast<size_t>(r * kept_per_row(s, w.k));
    for (int64_t c = 0; c < w.k; ++c) {
      const bool kept =
          is_kept(std::span(mask).subspan(static_cast<size_t>(r * mask_words(w.k))), c);
      ASSERT_EQ(y[static_cast<size_t>(r * w.k + c)], kept ? inner[from++] : 0) << r << ", " << c;
    }
  }
}

// Bit i of the stream of a row, as docs/format.md has it.
uint32_t stream_bit(const Weight& w, const GroupLayout& l, int64_t row, int64_t i) {
  const auto line = static_cast<size_t>(i / 32), byte = static_cast<size_t>(i % 32 / 8);
  const size_t at = static_cast<size_t>(row / 16) * l.code_tile_bytes + 64 * line +
                    4 * static_cast<size_t>(row % 16) + byte;
  return static_cast<uint32_t>(w.plane(PlaneKind::kCodes)[at]) >> (i % 8) & 1u;
}

// Each value by the definition of the code, bit for bit.
void expect_trellis_values(const Weight& w) {
  const GroupLayout l(w.encoding, w.n, w.k);
  const auto got = decode_all(w);
  std::vector<float> scales(static_cast<size_t>(l.groups));
  for (int64_t r = 0; r < w.n; ++r) {
    load_scales(w, l, r, scales.data());
    for (int64_t i = 0; i < w.k; ++i) {
      uint32_t window = 0;
      for (int64_t b = 0; b < 16; ++b) window |= stream_bit(w, l, r, l.bits * i + b) << b;
      const int64_t number = window < 0x8000 ? window : int64_t{window} - 0x10000;
      const auto hash = static_cast<uint32_t>(number * 31255 + 839847847);
      int sum = 0;
      for (int byte = 0; byte < 4; ++byte) sum += static_cast<int>(hash >> 8 * byte & 63);
      const float scale = scales[static_cast<size_t>(i / l.group)];
      ASSERT_EQ(got[static_cast<size_t>(r * w.k + i)], scale * static_cast<float>(sum - 126))
          << r << ", " << i;
    }
  }
}

// Mean squared errors of normal numbers of variance 1, beside those of the best table of as many
// values (Max, 1960).
TEST(Encodings, trellis_codes_miss_normal_numbers_by_less_than_any_table_could) {
  constexpr int64_t kRows = 4, kColumns = 2048;
  Rng rng(9);
  std::vector<float> x(kRows * kColumns);
  for (float& v : x) {
    double sum = -6;
    for (int i = 0; i < 12; ++i) sum += rng.uniform();
    v = static_cast<float>(sum);
  }
  const double of_table[] = {0.1175, 0.0345, 0.0095};
  for (const int bits : {2, 3, 4}) {
    const auto y = decode_all(encode(Encoding::tcq(bits, 128), kRows, kColumns, x.data()));
    double lost = 0, power = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      lost += std::pow(static_cast<double>(y[i]) - static_cast<double>(x[i]), 2);
      power += std::pow(static_cast<double>(x[i]), 2);
    }
    EXPECT_LT(lost / power, 0.95 * of_table[bits - 2]) << bits;
  }
}

TEST(Encodings, decoding_what_was_encoded_stays_within_the_bound_of_the_encoding) {
  for_all([](const Encoding& e, Shape s) {
    const auto w = test::weight_values(s.n, s.k, 4);
    const Weight weight = encode(e, s.n, s.k, w.data());
    switch (e.kind) {
      case EncodingKind::kDense: {
        std::vector<std::byte> bytes(w.size() * info(e.dtype).bytes);
        from_f32(e.dtype, w.data(), bytes.data(), w.size());
        std::vector<float> expected(w.size());
        to_f32(e.dtype, bytes.data(), expected.data(), w.size());
        ASSERT_EQ(decode_all(weight), expected);
        break;
      }
      case EncodingKind::kFp8:
        expect_fp8_rounding(weight, w);
        break;
      case EncodingKind::kSparse:
        expect_inner_values(weight, w);
        break;
      case EncodingKind::kMx:
        expect_nearest_codes(weight, w);
        expect_mx_rounding(weight, w);
        break;
      case EncodingKind::kTcq:
        expect_trellis_values(weight);
        break;
      default:
        expect_nearest_codes(weight, w);
        expect_within_half_a_step(weight, w);
    }
  });
}

TEST(Encodings, zeros_stay_zeros) {
  for_all([](const Encoding& e, Shape s) {
    const std::vector<float> w(static_cast<size_t>(s.n * s.k));
    for (const float v : decode_all(encode(e, s.n, s.k, w.data()))) ASSERT_EQ(v, 0);
  });
}

TEST(Encodings, encoding_does_not_depend_on_the_number_of_threads) {
  for (const Encoding& e : test::encoding_families()) {
    SCOPED_TRACE(to_string(e));
    const Shape s{e.kind == EncodingKind::kTcq ? 100 : 700, 576};
    const auto w = test::weight_values(s.n, s.k, 5);
    set_threads(1);
    const Weight one = encode(e, s.n, s.k, w.data());
    for (const int threads : {2, 3, 7}) {
      set_threads(threads);
      expect_same_planes(one, encode(e, s.n, s.k, w.data()));
    }
  }
  set_threads(0);
}

// Magnitudes at the ends of f32: what comes out is finite and near, or the error says why not.
TEST(Encodings, tiny_and_huge_weights_decode_to_finite_numbers_or_are_refused) {
  for (const Encoding& e : all_encodings()) {
    for (const float size : {1e-45f, 1e-40f, 1e-38f, 1e-36f, 1e-30f, 1e-7f, 1e5f, 1e30f, 3e38f}) {
      SCOPED_TRACE(fmt::format("{} of size {}", to_string(e), size));
      auto w = test::uniform_values(3 * 40, 6, 1);
      for (float& v : w) v *= size;
      w[7] = 0;
      Weight weight;
      try {
        weight = encode(e, 3, 40, w.data());
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::kNumeric) << error.what();
        EXPECT_GE(size, e.scale == DType::kF16 ? 1e5f : 1e30f);
        continue;
      }
      if (e.value_kind() == EncodingKind::kDense) continue;
      const auto y = decode_all(weight);
      for (size_t i = 0; i < w.size(); ++i) {
        ASSERT_TRUE(std::isfinite(y[i])) << w[i];
        // Never a larger error than 0 would have, but for the last place of a subnormal scale.
        ASSERT_LE(std::fabs(y[i] - w[i]), size * 1.01f + 1e-5f) << w[i] << " became " << y[i];
      }
      if (e.kind == EncodingKind::kTcq) continue;  // no code of it is 0
      ASSERT_EQ(y[7], 0);
    }
  }
}

TEST(Encodings, weights_that_are_not_numbers_are_refused) {
  for (const Encoding& encoding : test::encoding_families()) {
    if (encoding.kind == EncodingKind::kDense) continue;
    SCOPED_TRACE(to_string(encoding));
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      auto w = test::weight_values(3, 40, 7);
      w[57] = bad;
      EXPECT_PITH_ERROR(encode(encoding, 3, 40, w.data()), ErrorKind::kNumeric, "row");
    }
  }
}

TEST(Encodings, fp8_codes_decode_as_the_dtype_does) {
  for (const DType dtype : {DType::kF8E4M3, DType::kF8E5M2}) {
    OwnedWeight owned = allocate_weight(Encoding::fp8(dtype, ScaleArea::kTensor), 2, 128);
    const auto codes = find_plane(owned.planes, PlaneKind::kCodes);
    for (size_t i = 0; i < 256; ++i) codes[i] = static_cast<std::byte>(i);
    const float scale = 0.375f;
    std::memcpy(find_plane(owned.planes, PlaneKind::kScales).data(), &scale, 4);
    const auto y = decode_all(owned.weight);
    for (size_t i = 0; i < 256; ++i) {
      const auto code = static_cast<uint8_t>(i);
      const float value = dtype == DType::kF8E4M3 ? f8e4m3_to_f32(code) : f8e5m2_to_f32(code);
      if (std::isnan(value)) {
        EXPECT_TRUE(std::isnan(y[i])) << i;
      } else {
        EXPECT_EQ(y[i], scale * value) << i;
      }
    }
  }
}

TEST(Encodings, numbers_of_mxfp4_stay_as_they_are) {
  std::vector<float> w;
  for (const int exponent : {-126, -20, 0, 7, 120}) {
    for (int i = 0; i < 32; ++i)
      w.push_back(std::ldexp(kE2M1Values[static_cast<size_t>(i * 5 % 16)], exponent));
  }
  const Weight encoded = encode(Encoding::mxfp4(), 1, std::ssize(w), w.data());
  EXPECT_EQ(decode_all(encoded), w);
  EXPECT_EQ(mx_scale(0), 0x1p-127f);
  EXPECT_EQ(mx_scale(254), 0x1p127f);
  EXPECT_TRUE(std::isnan(mx_scale(255)));
}

// ---- Parts of integers ----

TEST(Encodings, codes_zeros_and_scales_load_as_they_were_stored) {
  for (const Encoding& e : test::writable_encodings()) {
    if (e.kind != EncodingKind::kInt && e.kind != EncodingKind::kNf4) continue;
    for (const Shape s : {Shape{1, 1}, {3, 17}, {20, 172}, {2, 2100}}) {
      SCOPED_TRACE(shape_name(e, s));
      OwnedWeight owned = allocate_weight(e, s.n, s.k);
      const GroupLayout l(e, s.n, s.k);
      EXPECT_EQ(l.groups, e.group == 0 ? 1 : ceil_div(s.k, e.group));
      EXPECT_EQ(l.group_end(l.groups - 1), s.k);
      const auto random_codes = [&](int64_t count, uint64_t seed) {
        std::vector<uint8_t> out(static_cast<size_t>(count));
        Rng rng(seed);
        for (auto& c : out) c = static_cast<uint8_t>(rng.next() % (1u << e.bits));
        return out;
      };
      std::vector<std::vector<float>> scales;
      for (int64_t r = 0; r < s.n; ++r) {
        const auto seed = static_cast<uint64_t>(r);
        auto& kept = scales.emplace_back(test::uniform_values(l.groups, seed, 3));
        store_scales(e, l, owned.planes, r, kept);
        if (!e.symmetric) store_zeros(l, owned.planes, r, random_codes(l.groups, seed + 100));
        store_codes(l, owned.planes, r, random_codes(s.k, seed + 200));
      }
      for (int64_t r = 0; r < s.n; ++r) {
        const auto seed = static_cast<uint64_t>(r);
        std::vector<float> got_scales(static_cast<size_t>(l.groups));
        load_scales(owned.weight, l, r, got_scales.data());
        ASSERT_EQ(got_scales, scales[static_cast<size_t>(r)]);
        std::vector<uint8_t> zeros(round_up(static_cast<uint64_t>(l.groups), 16));
        load_zeros(owned.weight, l, r, zeros.data());
        zeros.resize(static_cast<size_t>(l.groups));
        ASSERT_EQ(zeros, e.symmetric ? std::vector<uint8_t>(static_cast<size_t>(l.groups),
                                                            static_cast<uint8_t>(1 << (e.bits - 1)))
                                     : random_codes(l.groups, seed + 100));
        std::vector<uint8_t> codes(round_up(static_cast<uint64_t>(s.k), 32));
        load_codes(owned.weight, l, r, codes.data());
        for (size_t i = static_cast<size_t>(s.k); i < codes.size(); ++i) ASSERT_EQ(codes[i], 0);
        codes.resize(static_cast<size_t>(s.k));
        ASSERT_EQ(codes, random_codes(s.k, seed + 200));
      }
    }
  }
}

TEST(Encodings, stored_scales_are_those_wanted_up_to_rounding) {
  for (const DType type : {DType::kF16, DType::kBF16}) {
    for (const bool two_level : {false, true}) {
      const Encoding e = Encoding::integer(4, 16, true, type, two_level);
      OwnedWeight owned = allocate_weight(e, 1, 160);
      const auto wanted = test::uniform_values(10, 8, 0.1f);
      auto kept = wanted;
      store_scales(e, GroupLayout(e, 1, 160), owned.planes, 0, kept);
      const float largest = std::ranges::max(wanted, {}, [](float v) { return std::fabs(v); });
      for (size_t i = 0; i < wanted.size(); ++i) {
        const float relative = type == DType::kF16 ? 0x1p-11f : 0x1p-8f;
        EXPECT_NEAR(kept[i], wanted[i],
                    relative * std::fabs(wanted[i]) +
                        (two_level ? std::fabs(largest) * (1 + relative) * 0.5f / 127 : 0));
      }
    }
  }
}

TEST(Encodings, scales_that_do_not_fit_are_refused_by_row) {
  const auto store = [](DType type, bool two_level, float s) {
    const Encoding e = Encoding::integer(4, 16, true, type, two_level);
    OwnedWeight owned = allocate_weight(e, 2, 16);
    std::vector<float> scales = {s};
    store_scales(e, GroupLayout(e, 2, 16), owned.planes, 1, scales);
    return scales[0];
  };
  const float inf = std::numeric_limits<float>::infinity(),
              nan = std::numeric_limits<float>::quiet_NaN();
  for (const bool two_level : {false, true}) {
    for (const float bad : {inf, -inf, nan}) {
      EXPECT_PITH_ERROR(store(DType::kBF16, two_level, bad), ErrorKind::kNumeric, "row 1");
      EXPECT_PITH_ERROR(store(DType::kF16, two_level, bad), ErrorKind::kNumeric, "row 1");
    }
    EXPECT_PITH_ERROR(store(DType::kF16, two_level, 1e9f), ErrorKind::kNumeric, "bf16 scales");
    EXPECT_NEAR(store(DType::kBF16, two_level, 1e9f), 1e9f, 1e7f);
    EXPECT_EQ(store(DType::kF16, two_level, 1e-9f), 0);
    // A scale whose inverse is not a number is no scale.
    EXPECT_EQ(store(DType::kBF16, two_level, 1e-40f), 0);
  }
}

// Where int_group.h says that a code lies, part by part, and nothing elsewhere.
TEST(Encodings, codes_lie_in_words_of_16_rows) {
  for (const int bits : test::kIntBits) {
    const Encoding e = Encoding::integer(bits, 32, false);
    const int64_t n = 18, k = 70;
    OwnedWeight w = allocate_weight(e, n, k);
    const GroupLayout l(e, n, k);
    Rng rng(static_cast<uint64_t>(bits));
    std::vector<std::vector<uint8_t>> codes(n), zeros(n);
    const auto random = [&](int64_t count) {
      std::vector<uint8_t> out(static_cast<size_t>(count));
      for (auto& c : out) c = static_cast<uint8_t>(rng.next() % (1u << bits));
      return out;
    };
    for (int64_t r = 0; r < n; ++r) {
      codes[static_cast<size_t>(r)] = random(k);
      zeros[static_cast<size_t>(r)] = random(l.groups);
      store_codes(l, w.planes, r, codes[static_cast<size_t>(r)]);
      store_zeros(l, w.planes, r, zeros[static_cast<size_t>(r)]);
    }
    const auto bit_of = [](std::span<const std::byte> plane, int64_t bit) {
      return static_cast<unsigned>(plane[static_cast<size_t>(bit / 8)]) >> (bit % 8) & 1;
    };
    const auto code_plane = w.weight.plane(PlaneKind::kCodes);
    ASSERT_EQ(code_plane.size(), static_cast<size_t>(2 * 3 * bits * 64));
    const std::vector<int> parts = bits == 3   ? std::vector{2, 1}
                                   : bits == 5 ? std::vector{4, 1}
                                   : bits == 6 ? std::vector{4, 2}
                                               : std::vector{bits};
    int64_t set = 0, expected_set = 0;
    for (int64_t i = 0; i < static_cast<int64_t>(code_plane.size()) * 8; ++i)
      set += bit_of(code_plane, i);
    for (int64_t r = 0; r < n; ++r) {
      for (int64_t c = 0; c < k; ++c) {
        const int64_t unit = (r / 16 * 3 + c / 32) * bits * 64, i = c % 32;
        int64_t line = 0;
        int below = 0;
        for (const int part : parts) {
          const int64_t byte = unit + (line + i / (32 / part)) * 64 + r % 16 * 4 + i % 4;
          for (int b = 0; b < part; ++b) {
            const unsigned expected =
                codes[static_cast<size_t>(r)][static_cast<size_t>(c)] >> (below + b) & 1u;
            expected_set += expected;
            ASSERT_EQ(bit_of(code_plane, 8 * byte + i / 4 * part % 8 + b), expected)
                << bits << " bits, row " << r << ", column " << c;
          }
          line += part;
          below += part;
        }
      }
      for (int64_t g = 0; g < l.groups; ++g) {
        for (int b = 0; b < bits; ++b) {
          const int64_t bit = (r / 16 * l.groups + g) * 16 * bits + r % 16 * bits + b;
          ASSERT_EQ(bit_of(w.weight.plane(PlaneKind::kZeros), bit),
                    zeros[static_cast<size_t>(r)][static_cast<size_t>(g)] >> b & 1u);
        }
      }
    }
    EXPECT_EQ(set, expected_set) << "what stands for missing rows and columns is 0";
  }
}

// ---- Views ----

TEST(Encodings, a_plane_that_is_missing_is_named) {
  const OwnedWeight owned = allocate_weight(Encoding::integer(4, 16), 2, 16);
  EXPECT_TRUE(owned.weight.plane(PlaneKind::kZeros).empty());
  EXPECT_PITH_ERROR(find_plane(owned.planes, PlaneKind::kZeros), ErrorKind::kUsage, "zeros");
}

}  // namespace
}  // namespace pith
