// A tiny model ready to run: 3 layers, 96 tokens, a context of 64 (tests/golden/arch/llama).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/file.h"
#include "core/rng.h"
#include "runtime/model/source.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"

namespace pith::test {

class TinyRuntime {
 public:
  explicit TinyRuntime(const std::string& golden = "llama") {
    write_tiny_checkpoint(
        folder_.path(), read_text_file(fixture("golden/arch/" + golden + "/config.json"), 1 << 20));
    source_ = open_model(folder_.path());
  }
  const ModelSource& source() const { return *source_; }
  Model model() const { return load_model(*source_); }

 private:
  TemporaryFolder folder_;
  std::unique_ptr<ModelSource> source_;
};

inline std::vector<int32_t> random_tokens(int64_t n, int32_t vocab, uint64_t seed) {
  Rng rng(seed);
  std::vector<int32_t> out(static_cast<size_t>(n));
  for (int32_t& id : out) id = static_cast<int32_t>(rng.next() % static_cast<uint64_t>(vocab));
  return out;
}

}  // namespace pith::test
