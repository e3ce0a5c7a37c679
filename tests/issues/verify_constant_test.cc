// verify called a file of zeros ok, though it says that it looks for constant weights.

#include <gtest/gtest.h>

#include <algorithm>

#include "core/bytes.h"
#include "core/json.h"
#include "tests/support/process.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"

namespace pith {
namespace {

test::ProcessResult pith_run(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), PITH_PROGRAM);
  return test::run_process(arguments);
}

// Quantizes a model whose tensors with `zeros` in their name are zeros, to `file`.
void quantize(const test::TemporaryFolder& folder, const std::string& file,
              const std::string& zeros) {
  const std::string in = folder.file(file + ".in");
  test::write_tiny_checkpoint(in, test::tiny_config({.layers = 1}), DType::kF32,
                              [&](const std::string& name, std::vector<float>& weights) {
                                const bool norm = name.ends_with("norm.weight");
                                if (!norm && name.find(zeros) != std::string::npos)
                                  std::ranges::fill(weights, 0.f);
                              });
  const auto r = pith_run({"quantize", in, folder.file(file), "w8", "-q"});
  ASSERT_EQ(r.exit_code, 0) << r.err;
}

TEST(Verify, refuses_a_model_of_constants_and_warns_of_a_constant_layer) {
  const test::TemporaryFolder folder;
  quantize(folder, "zeros.pith", "weight");
  quantize(folder, "layer.pith", "o_proj");
  quantize(folder, "plain.pith", "nothing");
  const auto zeros = pith_run({"verify", folder.file("zeros.pith"), "-q"});
  EXPECT_EQ(zeros.exit_code, 5);
  EXPECT_NE(zeros.err.find("in every linear layer all weights are the same"), std::string::npos)
      << zeros.err;
  const auto layer = pith_run({"verify", folder.file("layer.pith"), "-q", "--json", "-"});
  EXPECT_EQ(layer.exit_code, 0);
  EXPECT_NE(layer.err.find("all weights of layers.0.attention.o are the same"), std::string::npos)
      << layer.err;
  EXPECT_EQ(parse_json(layer.out, "output").at("constant").size(), 1u);
  // Several files: all are looked at, one that is bad makes it fail.
  const auto all = pith_run({"verify", folder.file("zeros.pith"), folder.file("plain.pith"),
                             folder.file("none.pith"), "-q", "--json", "-"});
  EXPECT_EQ(all.exit_code, 5);
  EXPECT_NE(all.err.find("2 of 3 files failed"), std::string::npos) << all.err;
  const Json files = parse_json(all.out, "output").at("files");
  ASSERT_EQ(files.size(), 3u);
  EXPECT_EQ(files[0].at("ok"), false);
  EXPECT_EQ(files[1].at("ok"), true);
  EXPECT_EQ(files[2].at("ok"), false);
}

}  // namespace
}  // namespace pith
