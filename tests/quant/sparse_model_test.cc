// A model whose matrices are sparse goes all the way: it is written, checked, opened and run, and
// answers as the same model with its zeros stored.

#include <gtest/gtest.h>

#include "core/file.h"
#include "quant/quantize_pass.h"
#include "runtime/compress/driver.h"
#include "runtime/cpu/cpu_executor.h"
#include "runtime/eval/evaluate.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_runtime.h"

namespace pith {
namespace {

std::unique_ptr<ModelSource> sparse_model(const ModelSource& source, const std::string& path,
                                          const std::string& type) {
  Passes passes;
  passes.push_back(make_quantize_pass({.linears = encoding_for_type(type),
                                       .method = parse_method("rtn"),
                                       .ignore = {},
                                       .overrides = {}}));
  compress(source, passes, {.output = path, .calibration = {}}, no_progress());
  return open_model(path);
}

TEST(SparseModel, runs_as_the_same_model_with_its_zeros_stored) {
  const test::TinyRuntime tiny;
  const test::TemporaryFolder folder;
  const auto tokens = test::random_tokens(40, 96, 1);
  for (const char* type : {"f32-2:4", "int8-g32-4:8", "bf16-bitmap20", "nf4-g32-2:4"}) {
    SCOPED_TRACE(type);
    const auto sparse = sparse_model(tiny.source(), folder.file(type), type);
    int found = 0;
    for (const auto& info : linears_of(sparse->spec()))
      found += sparse->form(info).terms.front().weight.is_sparse() ? 1 : 0;
    EXPECT_EQ(found, 3 * 7);
    const Model stored = load_model(*sparse), dense = load_dense_model(*sparse, DType::kF32);
    const auto nll = [&](const Model& model) {
      const auto executor = make_cpu_executor();
      return evaluate_perplexity(*executor, model, {{.tokens = tokens}}).nll;
    };
    EXPECT_NEAR(nll(stored), nll(dense), 1e-5);
  }
}

TEST(SparseModel, carries_the_configuration_of_its_source) {
  const test::TinyRuntime tiny;
  const test::TemporaryFolder folder;
  const ConfigFiles before = tiny.source().config_files();
  EXPECT_FALSE(before.config.empty());
  const auto once = sparse_model(tiny.source(), folder.file("once"), "int4-g32-2:4");
  EXPECT_EQ(once->config_files().config, before.config);
  const auto twice = sparse_model(*once, folder.file("twice"), "w8");
  EXPECT_EQ(twice->config_files().config, before.config);
  EXPECT_EQ(twice->config_files().generation_config, before.generation_config);
}

}  // namespace
}  // namespace pith
