// Writes a miniature Hugging Face checkpoint with the weights that tests give it
// (tests/support/tiny_model.h):
//
//   tiny_checkpoint CONFIG.json FOLDER

#include <fmt/format.h>

#include <cstdio>

#include "core/error.h"
#include "core/file.h"
#include "tests/support/tiny_model.h"

int main(int argc, char** argv) try {
  if (argc != 3) {
    fmt::print(stderr, "usage: tiny_checkpoint CONFIG.json FOLDER\n");
    return 2;
  }
  pith::test::write_tiny_checkpoint(argv[2], pith::read_text_file(argv[1], 1 << 20));
  return 0;
} catch (const std::exception& e) {
  fmt::print(stderr, "{}\n", e.what());
  return 1;
}
