// Names of files are any bytes, texts of a manifest are UTF-8: a model from a folder with such a
// name was compressed to the end and then could not be read.

#include <gtest/gtest.h>

#include "runtime/compress/driver.h"
#include "runtime/model/source.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"

namespace pith {
namespace {

TEST(SourceName, a_folder_whose_name_is_not_utf8_is_compressed_and_read_back) {
  const test::TemporaryFolder folder;
  const std::string model = folder.file("model-\xff");
  test::write_tiny_checkpoint(model, R"({"model_type": "llama", "vocab_size": 24, "hidden_size": 32,
      "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48,
      "max_position_embeddings": 64})");
  CompressOptions options;
  options.output = folder.file("x.pith");
  compress(*open_model(model), {}, options);
  const auto packed = open_model(options.output);
  EXPECT_EQ(packed->manifest()->provenance().source_name(), "model-\xef\xbf\xbd");
}

}  // namespace
}  // namespace pith
