// The destructor of a JSON tree allocates: where memory ran out while a large tokenizer was read, the
// program ended by std::terminate instead of saying so.

#include <gtest/gtest.h>

#include "core/bytes.h"
#include "core/file.h"
#include "core/json.h"
#include "tests/support/process.h"
#include "tests/support/sanitized.h"
#include "tests/support/tiny_tokenizer.h"

namespace pith {
namespace {

TEST(MemoryThatRunsOut, while_a_tokenizer_is_read_is_an_error_and_no_crash) {
  if (test::kSanitized) GTEST_SKIP() << "sanitizers take address space";
  const test::TemporaryFolder folder;
  Json tokenizer = test::tiny_tokenizer();
  auto& vocab = tokenizer["model"]["vocab"];
  auto& merges = tokenizer["model"]["merges"];
  for (int i = test::kTinyTokens; i < 60000; ++i) {
    const std::string letter(1, static_cast<char>('a' + i % 26));
    vocab["t" + std::to_string(i)] = i;
    merges.push_back(Json::array({letter, letter}));
  }
  const std::string file = folder.file("tokenizer.json");
  write_file(file, as_bytes(tokenizer.dump()));
  const auto run = [&](int kilobytes) {
    return test::run_process({"/bin/bash", "-c",
                              "ulimit -v " + std::to_string(kilobytes) + "; exec " + PITH_PROGRAM +
                                  " tokenize " + file + " -p a --ids --plain -t 1"});
  };
  int least = 1 << 17;  // address space in which the program starts
  while (run(least).exit_code == 127) least += 1 << 13;
  int failed = 0;
  for (int more = 0; more < 24; ++more) {
    const auto r = run(least + more * 2048);
    EXPECT_EQ(r.signal, 0) << more << r.err;
    EXPECT_TRUE(r.exit_code == 0 || r.exit_code == 6 || r.exit_code == 127)
        << more << " " << r.exit_code << r.err;
    failed += r.exit_code == 6;
  }
  EXPECT_GT(failed, 0);
}

}  // namespace
}  // namespace pith
