// The destructor of a JSON tree allocates: where memory ran out while a large tokenizer was read,
// the program ended by std::terminate instead of saying so.

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
  for (int i = test::kTinyTokens; i < 60000; ++i) vocab["t" + std::to_string(i)] = i;
  const std::string file = folder.file("tokenizer.json");
  write_file(file, as_bytes(tokenizer.dump()));
  const auto run = [&](int kilobytes) {
    return test::run_process({"/bin/bash", "-c",
                              "ulimit -v " + std::to_string(kilobytes) + "; exec " + PITH_PROGRAM +
                                  " tokenize " + file + " -p a --ids --plain -t 1"});
  };
  int failed = 0, done = 0;  // done: one after the other
  for (int megabytes = 32; megabytes < 1024 && done < 3; ++megabytes) {
    const auto r = run(megabytes << 10);
    if (r.exit_code == 127 || r.err.find("error while loading") != std::string::npos) continue;
    EXPECT_EQ(r.signal, 0) << megabytes << r.err;
    EXPECT_TRUE(r.exit_code == 0 || r.exit_code == 6) << megabytes << " " << r.exit_code << r.err;
    failed += r.exit_code == 6;
    done = r.exit_code == 0 ? done + 1 : 0;
  }
  EXPECT_GT(failed, 0);
  EXPECT_EQ(done, 3);
}

}  // namespace
}  // namespace pith
