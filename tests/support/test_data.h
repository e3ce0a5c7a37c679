// Files that tests use: real models and text outside of the project (skipped where missing),
// fixtures inside it, and folders that vanish.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "core/error.h"

namespace pith::test {

// ../shared/data beside the project, or $PITH_TEST_DATA. Empty where the file is missing.
std::string shared_data(const std::string& name);
std::string fixture(const std::string& name);  // tests/NAME of the source tree

class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  int files() const;  // hidden ones included

 private:
  std::string path_;
};

}  // namespace pith::test

// Expects an Error of this kind whose message contains `text`.
#define EXPECT_PITH_ERROR(statement, expected_kind, text)                                          \
  try {                                                                                            \
    statement;                                                                                     \
    ADD_FAILURE() << #statement << " did not fail; expected " << pith::kind_name(expected_kind)    \
                  << ": " << text;                                                                 \
  } catch (const pith::Error& e) {                                                                 \
    EXPECT_EQ(pith::kind_name(e.kind()), std::string(pith::kind_name(expected_kind))) << e.what(); \
    EXPECT_NE(std::string(e.what()).find(text), std::string::npos)                                 \
        << e.what() << "\n  should contain: " << text;                                             \
  }

#define PITH_SHARED_OR_SKIP(variable, name)                   \
  const std::string variable = pith::test::shared_data(name); \
  if (variable.empty()) GTEST_SKIP() << "no ../shared/data/" << name
