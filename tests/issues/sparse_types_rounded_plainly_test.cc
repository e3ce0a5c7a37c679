// Sparse types were rounded plainly, whatever the method, and the file recorded the method that was
// asked for. A sparse model that was rounded to its own type again lost some more.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "core/bytes.h"
#include "core/file.h"
#include "quant/quantize_pass.h"
#include "runtime/compress/check.h"
#include "runtime/compress/driver.h"
#include "runtime/cpu/cpu_algebra.h"
#include "runtime/eval/evaluate.h"
#include "tests/support/encodings.h"
#include "tests/support/packed_bytes.h"
#include "tests/support/tiny_runtime.h"

namespace pith {
namespace {

using testing::HasSubstr;

constexpr const char* kSparse[] = {"int4-g32-2:4",      "int4-g32-asym-2:4", "int3-g16-bf16-4:8",
                                   "int8-row-bitmap40", "int4-g32-s8-2:4",   "nf4-g32-2:4",
                                   "mxfp4-2:4",         "int2-g16-bitmap50"};

constexpr int64_t kRows = 40, kColumns = 150;

struct Rounded {
  std::vector<float> w;
  std::vector<uint64_t> row_hashes;
};

Linear linear_of(const std::vector<float>& w) {
  Linear linear{.name = "layers.0.x", .n = kRows, .k = kColumns, .terms = {}, .bias = {}};
  linear.terms.push_back(
      {.w = encode(Encoding::dense(DType::kF32), kRows, kColumns, w.data()), .up = {}});
  return linear;
}

std::vector<float> decoded(const Weight& w) {
  std::vector<float> out(static_cast<size_t>(w.n * w.k));
  reference_decode(w, 0, w.n, out.data());
  return out;
}

double squares(const std::vector<float>& a, const std::vector<float>& b,
               const std::vector<float>& weights) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum += d * d * static_cast<double>(weights[i % kColumns]);
  }
  return sum;
}

TEST(SparseTypes, the_method_rounds_what_is_kept) {
  const auto w = test::weight_values(kRows, kColumns, 5);
  std::vector<float> weights(kColumns, 1.0f);
  for (size_t i = 0; i < weights.size(); i += 3) weights[i] = 30;
  for (const char* type : kSparse) {
    SCOPED_TRACE(type);
    const Encoding e = parse_encoding(type);
    Linear linear = linear_of(w);
    const auto rounded = [&](void (*method)(const RowJob&), const float* channels) {
      Linear copy = linear;
      const LinearReport report = round_rows_of(copy, {e, method, channels}, {});
      const auto out = decoded(copy.terms[0].w);
      for (int64_t r = 0; r < kRows && !report.rows.empty(); ++r) {
        EXPECT_EQ(report.rows[static_cast<size_t>(r)],
                  row_hash(out.data() + r * kColumns, kColumns))
            << r;
      }
      // The mask is that of the largest magnitudes; the rest is exactly zero.
      const auto mask = magnitude_mask(e.sparsity, kColumns, kRows, w.data());
      EXPECT_EQ(stored_mask(copy.terms[0].w, 0, kRows), mask);
      return out;
    };
    const std::vector<float> plain_weights(kColumns, 1.0f);
    const double minmax = squares(rounded(encode_minmax, nullptr), w, plain_weights),
                 rtn = squares(rounded(encode_rtn, nullptr), w, plain_weights);
    EXPECT_LE(rtn, minmax * 1.02);
    EXPECT_LT(squares(rounded(encode_rtn, weights.data()), w, weights),
              squares(rounded(encode_minmax, nullptr), w, weights) * 1.0001);
  }
}

// Row by row, the kept values alone are what the inner encoding makes of them as a matrix.
TEST(SparseTypes, rounding_equals_that_of_the_kept_values_as_a_matrix) {
  const auto w = test::weight_values(kRows, kColumns, 6);
  for (const char* type : kSparse) {
    SCOPED_TRACE(type);
    const Encoding e = parse_encoding(type);
    const auto mask = magnitude_mask(e.sparsity, kColumns, kRows, w.data());
    const auto kept = gather_kept(e.sparsity, kColumns, kRows, mask, w.data(), kColumns);
    const int64_t k = kept_per_row(e.sparsity, kColumns);
    const Encoding inner = e.inner();
    OwnedWeight short_rows = allocate_weight(inner, kRows, k);
    encode_rtn({inner, kRows, k, 0, kRows, kept.data(), nullptr, 0, short_rows.planes, nullptr});
    std::vector<float> expected(w.size());
    expand_rows(e.sparsity, kColumns, kRows, mask, decoded(short_rows.weight).data(),
                expected.data());
    OwnedWeight sparse = allocate_weight(e, kRows, kColumns);
    encode_rtn({e, kRows, kColumns, 0, kRows, w.data(), nullptr, 0, sparse.planes, nullptr});
    EXPECT_EQ(decoded(sparse.weight), expected);
  }
}

TEST(SparseTypes, what_pruning_dropped_stays_zero_and_its_pattern_is_kept) {
  const auto w = test::weight_values(kRows, kColumns, 7);
  for (const char* type : {"int4-g32-2:4", "bf16-4:8", "nf4-row-bitmap60"}) {
    SCOPED_TRACE(type);
    const Encoding e = parse_encoding(type);
    Mask pruned(kRows, kColumns);  // of each four the two largest, and in row 3 all
    for (int64_t r = 0; r < kRows; ++r) {
      const auto largest = magnitude_mask(Sparsity::n_of_m(2, 4), kColumns, 1,
                                          &w[static_cast<size_t>(r * kColumns)]);
      for (int64_t c = 0; c < kColumns; ++c) {
        if (is_kept(largest, c) || r == 3) pruned.drop(r, c);
      }
    }
    Linear linear = linear_of(w);
    round_rows_of(linear, {e, encode_rtn, nullptr, &pruned}, {});
    const auto out = decoded(linear.terms[0].w);
    int64_t others = 0;
    for (int64_t i = 0; i < kRows * kColumns; ++i) {
      if (!pruned.keeps(i / kColumns, i % kColumns)) {
        ASSERT_EQ(out[static_cast<size_t>(i)], 0) << i;
      } else {
        others += out[static_cast<size_t>(i)] != 0;
      }
    }
    EXPECT_GT(others, kRows * kColumns / 4);
  }
}

TEST(SparseTypes, gptq_makes_up_for_what_is_dropped) {
  const int64_t k = 128;
  const auto w = test::uniform_values(kRows * k, 9);
  auto x = test::uniform_values(400 * k, 10);
  for (size_t i = 1; i < x.size(); ++i) x[i] += 0.8f * x[i - 1];
  StatisticsBuilder statistics(cpu_algebra(), "x", {.mean_square = true, .gram = true}, k);
  statistics.add(MatrixRef<const float>{x.data(), 400, k});
  const InputStatistics s = statistics.finish();
  const auto loss = [&](const std::vector<float>& q) {  // (w - q) H (w - q)^T, in f64
    double sum = 0;
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t i = 0; i < k; ++i) {
        for (int64_t j = 0; j < k; ++j) {
          const auto d = [&](int64_t c) {
            const auto at = static_cast<size_t>(r * k + c);
            return static_cast<double>(w[at]) - static_cast<double>(q[at]);
          };
          sum += d(i) * static_cast<double>(s.gram[i * k + j]) * d(j);
        }
      }
    }
    return sum;
  };
  for (const char* type : {"int4-g32-2:4", "int4-g32-asym-4:8", "nf4-g64-2:4", "int8-row-bitmap64",
                           "fp8e4m3-row-2:4", "fp8e4m3-row-bitmap64"}) {
    SCOPED_TRACE(type);
    const Encoding e = parse_encoding(type);
    ASSERT_TRUE(gptq_takes(e));
    const GptqOptions options{.damping = 0.01, .shrink = 0};
    const auto factor =
        GptqFactor::make(cpu_algebra(), s.gram.data(), k, gptq_group(e, k), options);
    ASSERT_NE(factor, nullptr);
    OwnedWeight plain = allocate_weight(e, kRows, k), made = allocate_weight(e, kRows, k);
    std::vector<uint64_t> row_hashes(kRows);
    encode_rtn({e, kRows, k, 0, kRows, w.data(), nullptr, 0, plain.planes, nullptr});
    const GptqLoss said = factor->encode(
        options, {e, kRows, k, 0, kRows, w.data(), nullptr, 0, made.planes, row_hashes.data()});
    const auto q = decoded(made.weight);
    EXPECT_EQ(stored_mask(made.weight, 0, kRows), stored_mask(plain.weight, 0, kRows));
    EXPECT_LT(loss(q), 0.7 * loss(decoded(plain.weight)));
    EXPECT_NEAR(said.error, loss(q), 0.2 * loss(q)) << "damping counts there";
    for (int64_t r = 0; r < kRows; ++r)
      ASSERT_EQ(row_hashes[static_cast<size_t>(r)], row_hash(q.data() + r * k, k)) << r;
  }
  for (const char* type : {"int4-g32-3:5", "int4-g32-bitmap64", "fp8e4m3-128x128-2:4", "bf16-2:4"})
    EXPECT_FALSE(gptq_takes(parse_encoding(type))) << type;
}

class SparseModels : public testing::Test {
 protected:
  CompressReport quantize(const ModelSource& source, const std::string& type,
                          const std::string& method, const std::string& to) const {
    Passes passes;
    passes.push_back(make_quantize_pass({.linears = encoding_for_type(type),
                                         .method = parse_method(method),
                                         .ignore = {},
                                         .overrides = {}}));
    CompressOptions options{.output = folder_.file(to), .calibration = {}};
    if (method != "rtn") {
      for (uint64_t i = 0; i < 8; ++i)
        options.calibration.push_back(test::random_tokens(40, 96, i));
    }
    return compress(source, passes, options, no_progress());
  }
  std::unique_ptr<ModelSource> open(const std::string& name) const {
    return open_model(folder_.file(name));
  }

  const test::TinyRuntime tiny_;
  const test::TemporaryFolder folder_;
};

TEST_F(SparseModels, rounded_to_their_own_type_lose_nothing) {
  for (const char* type : {"int4-g32-2:4", "nf4-g32-bitmap30", "bf16-2:4"}) {
    for (const char* method : {"rtn", "gptq"}) {
      SCOPED_TRACE(std::string(type) + " " + method);
      quantize(tiny_.source(), type, method, "once");
      const auto once = open("once");
      const auto report = quantize(*once, type, "rtn", "twice");
      EXPECT_THAT(report.methods, testing::Contains(testing::Key("kept")));
      const auto twice = open("twice");
      for (const auto& info : linears_of(once->spec())) {
        if (info.layer < 0) continue;
        const Linear a = once->linear(info), b = twice->linear(info);
        EXPECT_EQ(decoded(a.terms[0].w), decoded(b.terms[0].w)) << info.name;
      }
    }
  }
}

TEST_F(SparseModels, keep_their_columns_where_values_are_rounded_to_another_type) {
  quantize(tiny_.source(), "int4-g32-2:4", "rtn", "once");
  const auto once = open("once");
  quantize(*once, "int8-g32-2:4", "rtn", "wider");
  const auto wider = open("wider");
  for (const auto& info : linears_of(once->spec())) {
    if (info.layer < 0) continue;
    EXPECT_EQ(stored_mask(once->linear(info).terms[0].w, 0, info.n),
              stored_mask(wider->linear(info).terms[0].w, 0, info.n));
  }
}

TEST_F(SparseModels, record_the_method_that_made_them) {
  const auto methods = [&](const char* type, const char* method) {
    quantize(tiny_.source(), type, method, "out");
    std::set<std::string> all;
    const auto file = open("out");
    for (const auto& l : file->manifest()->linears()) {
      if (!l.name().starts_with("layers")) continue;
      all.insert(l.method().substr(0, l.method().find(',')));
      EXPECT_EQ(l.expected_hash() != 0, std::string(type).starts_with("int")) << l.name();
    }
    EXPECT_EQ(all.size(), 1u);
    return *all.begin();
  };
  EXPECT_EQ(methods("int4-g32-2:4", "rtn"), "rtn");
  EXPECT_EQ(methods("int4-g32-2:4", "gptq"), "gptq");
  EXPECT_EQ(methods("int4-g32-bitmap30", "gptq"), "rtn weighted by inputs");
  EXPECT_EQ(methods("bf16-2:4", "gptq"), "rtn");
}

TEST_F(SparseModels, with_a_mask_that_does_not_fit_are_refused_by_file_and_matrix) {
  quantize(tiny_.source(), "int4-g32-2:4", "rtn", "good");
  std::string bytes = read_text_file(folder_.file("good"), 1 << 24);
  proto::Manifest m = test::packed_manifest(bytes);
  for (auto& l : *m.mutable_linears()) {
    if (l.name() != "layers.1.mlp.up") continue;
    auto* weight = l.mutable_terms(0)->mutable_weight();
    auto* plane = weight->mutable_planes(weight->planes_size() - 1);  // the mask
    bytes[plane->offset()] = '\xff';
    plane->set_xxh3(hash64(as_bytes(bytes).subspan(plane->offset(), plane->bytes())));
  }
  write_file(folder_.file("bad"), as_bytes(test::with_manifest(bytes, m)));
  const auto bad = open("bad");  // its checksums are right
  const std::string says = folder_.file("bad") + ": layers.1.mlp.up: row 0: ";
  EXPECT_PITH_ERROR(load_model(*bad), ErrorKind::kCorrupt, says);
  EXPECT_PITH_ERROR(quantize(*bad, "w8", "rtn", "out"), ErrorKind::kCorrupt, says);
  for (const auto& info : linears_of(bad->spec())) {
    if (info.name != "layers.1.mlp.up") continue;
    std::vector<float> row(static_cast<size_t>(info.k));
    EXPECT_PITH_ERROR(bad->rows(info, 0, 1, row.data()), ErrorKind::kCorrupt, says);
    EXPECT_PITH_ERROR(check_linear("bad", bad->linear(info)), ErrorKind::kCorrupt,
                      "bad: layers.1.mlp.up: row 0");
  }
}

}  // namespace
}  // namespace pith
