#include "tests/support/test_data.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>

namespace pith::test {

std::string shared_data(const std::string& name) {
  const char* override_folder = std::getenv("PITH_TEST_DATA");
  const std::string folder =
      override_folder ? override_folder : std::string(PITH_SOURCE_DIR) + "/../shared/data";
  const std::string path = folder + "/" + name;
  return std::filesystem::exists(path) ? path : "";
}

std::string fixture(const std::string& name) {
  return std::string(PITH_SOURCE_DIR) + "/tests/" + name;
}

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "pith-test-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) fail(ErrorKind::kIo, "cannot make {}", name);
  path_ = name;
}
TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::permissions(path_, std::filesystem::perms::owner_all, ignored);
  std::filesystem::remove_all(path_, ignored);
}
int TemporaryFolder::files() const {
  int n = 0;
  for ([[maybe_unused]] const auto& e : std::filesystem::recursive_directory_iterator(path_))
    n += e.is_regular_file();
  return n;
}

}  // namespace pith::test

// Tests ask for memory that no machine has and expect Error(kMemory): the sanitizers' allocators
// are to say no instead of ending the program.
extern "C" const char* __asan_default_options();
extern "C" const char* __asan_default_options() { return "allocator_may_return_null=1"; }
extern "C" const char* __tsan_default_options();
extern "C" const char* __tsan_default_options() { return "allocator_may_return_null=1"; }
