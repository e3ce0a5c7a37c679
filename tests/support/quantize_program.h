// A tiny model in a folder of its own, and the program that is started to compress it.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "core/bytes.h"
#include "core/file.h"
#include "tests/support/process.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"

namespace pith::test {

class QuantizeProgram : public testing::Test {
 protected:
  using Arguments = std::vector<std::string>;

  QuantizeProgram() {
    write_tiny_checkpoint(in(), tiny_config({.layers = 2, .vocab = 640}), DType::kF16);
    std::filesystem::copy_file(fixture("golden/tokenizers/llama2_style.json"),
                               folder_.file("in/tokenizer.json"));
    std::string text;
    for (int i = 0; i < 300; ++i) text += "the cat sat on mat " + std::to_string(i) + ". ";
    write_file(text_file(), as_bytes(text));
  }
  std::string in() const { return folder_.file("in"); }
  std::string out() const { return folder_.file("out.pith"); }
  std::string text_file() const { return folder_.file("text.txt"); }
  static ProcessResult pith(Arguments command, const std::vector<std::string>& environment = {}) {
    command.insert(command.begin(), PITH_PROGRAM);
    return run_process(command, environment);
  }
  ProcessResult quantize(const Arguments& more) const {
    Arguments command = {"quantize", in(), out()};
    command.insert(command.end(), more.begin(), more.end());
    return pith(command);
  }

  TemporaryFolder folder_;
};

}  // namespace pith::test
