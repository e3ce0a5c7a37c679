// OUT.work was trusted: through a link in it any file of the user was overwritten, and a user's own
// folder of that name lost its data.

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "core/bytes.h"
#include "core/error.h"
#include "quant/quantize_pass.h"
#include "runtime/compress/driver.h"
#include "runtime/compress/journal.h"
#include "tests/support/fault_syscalls.h"
#include "tests/support/stop_after.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"

namespace pith {
namespace {

class WorkFolderTest : public testing::Test {
 protected:
  WorkFolderTest() {
    test::write_tiny_checkpoint(folder_.file("in"), test::tiny_config({.layers = 2}), DType::kF16);
    source_ = open_model(folder_.file("in"));
    write_file(folder_.file("victim"), as_bytes("precious"));
  }
  CompressReport quantize(Progress& progress = no_progress(), WorkFolder* work = nullptr) {
    Passes passes;
    passes.push_back(make_quantize_pass({.linears = encoding_for_type("w4")}));
    CompressOptions options{.output = output(), .calibration = {}};
    options.work = work;
    return compress(*source_, passes, options, progress);
  }
  std::string output() const { return folder_.file("out.pith"); }
  std::string work(const std::string& file = "") const {
    return output() + ".work" + (file.empty() ? "" : "/" + file);
  }
  std::string victim() const { return read_text_file(folder_.file("victim"), 1000); }

  test::UnsyncedSyscalls unsynced_;
  ScopedSyscalls scope_{unsynced_};
  test::TemporaryFolder folder_;
  std::unique_ptr<ModelSource> source_;
};

TEST_F(WorkFolderTest, of_a_user_is_refused_and_not_touched) {
  std::filesystem::create_directory(work());
  write_file(work("data"), as_bytes("mine"));
  EXPECT_PITH_ERROR(quantize(), ErrorKind::kUsage, "a folder that pith did not make");
  write_file(work("journal"), as_bytes("Dear diary"));
  EXPECT_PITH_ERROR(quantize(), ErrorKind::kUsage, "a journal that is not pith's");
  EXPECT_EQ(read_text_file(work("data"), 100), "mine");
  EXPECT_EQ(read_text_file(work("journal"), 100), "Dear diary");
}

TEST_F(WorkFolderTest, that_is_a_link_or_a_file_is_refused) {
  std::filesystem::create_directory(folder_.file("elsewhere"));
  std::filesystem::create_directory_symlink(folder_.file("elsewhere"), work());
  EXPECT_PITH_ERROR(quantize(), ErrorKind::kUsage, "is a link");
  EXPECT_TRUE(std::filesystem::is_empty(folder_.file("elsewhere")));
  std::filesystem::remove(work());
  write_file(work(), as_bytes("mine"));
  EXPECT_PITH_ERROR(quantize(), ErrorKind::kUsage, "is no folder");
  EXPECT_EQ(read_text_file(work(), 100), "mine");
}

TEST_F(WorkFolderTest, with_links_in_it_leads_nowhere_else) {
  for (const char* name : {"journal", "data"}) {
    for (const bool hard : {false, true}) {
      test::StopAfter stop(3);
      EXPECT_PITH_ERROR(quantize(stop), ErrorKind::kCancelled, "");
      std::filesystem::remove(work(name));
      if (hard) {
        std::filesystem::create_hard_link(folder_.file("victim"), work(name));
      } else {
        std::filesystem::create_symlink(folder_.file("victim"), work(name));
      }
      EXPECT_PITH_ERROR(quantize(), ErrorKind::kUsage, "out.pith.work");
      EXPECT_EQ(victim(), "precious");
      EXPECT_FALSE(file_exists(output()));
      std::filesystem::remove_all(work());
    }
  }
}

// Right hashes, and records of another model: those units are made again.
TEST_F(WorkFolderTest, whose_journal_was_tampered_with_gives_the_same_bytes) {
  quantize();
  const auto expected = read_file(output(), 1 << 26);
  std::filesystem::remove(output());
  const std::pair<const char*, std::function<void(proto::JournalUnit&)>> cases[] = {
      {"name", [](auto& u) { u.set_name("layer 7"); }},
      {"linear", [](auto& u) { u.mutable_linears(0)->set_name("layers.9.mlp.up"); }},
      {"missing", [](auto& u) { u.mutable_linears()->RemoveLast(); }},
      {"n", [](auto& u) { u.mutable_linears(0)->set_n(1 << 20); }},
      {"planes",
       [](auto& u) {
         auto* w = u.mutable_linears(0)->mutable_terms(0)->mutable_weight();
         *w->add_planes() = w->planes(0);
       }},
      {"term", [](auto& u) { u.mutable_linears(0)->clear_terms(); }},
      {"vector", [](auto& u) { u.mutable_vectors(0)->set_length(3); }}};
  for (const auto& [what, change] : cases) {
    test::StopAfter stop(4);
    EXPECT_PITH_ERROR(quantize(stop), ErrorKind::kCancelled, "");
    {
      WorkFolder folder(output());
      proto::JournalUnit unit;
      ASSERT_TRUE(unit.ParseFromString(folder.journal().records()[2]));
      change(unit);
      folder.journal().drop_from(2);
      folder.journal().append(unit.SerializeAsString());
    }
    EXPECT_EQ(quantize().resumed_units, 2) << what;
    EXPECT_TRUE(read_file(output(), 1 << 26) == expected) << what;
    std::filesystem::remove(output());
  }
}

TEST_F(WorkFolderTest, loses_only_what_is_damaged) {
  quantize();
  const auto expected = read_file(output(), 1 << 26);
  std::filesystem::remove(output());
  test::StopAfter stop(4);
  EXPECT_PITH_ERROR(quantize(stop), ErrorKind::kCancelled, "");
  {
    WorkFolder folder(output());
    const Journal journal(folder, folder.journal().about());
    ASSERT_EQ(journal.done().size(), 4u);
    File data = File::open_read_write(work("data"));
    std::byte b;
    const uint64_t at = journal.done()[3].linears(0).terms(0).weight().planes(0).offset();
    data.read(at, {&b, 1});
    b ^= std::byte{1};
    data.write(at, {&b, 1});
  }
  EXPECT_EQ(quantize().resumed_units, 3);
  EXPECT_TRUE(read_file(output(), 1 << 26) == expected);
}

// The complete file stays where it is while its name is taken by a folder.
TEST_F(WorkFolderTest, keeps_the_finished_file_when_it_cannot_get_its_name) {
  class Blocked final : public Progress {
   public:
    explicit Blocked(std::string path) : path_(std::move(path)) {}
    void begin(const std::string& what, int64_t, int64_t) override {
      if (what == "checking") std::filesystem::create_directory(path_);
    }
    void advance(int64_t, const std::string&) override {}
    void end() override {}
    void note(const std::string&) override {}

   private:
    std::string path_;
  } blocked(output());
  EXPECT_PITH_ERROR(quantize(blocked), ErrorKind::kIo, "cannot rename");
  EXPECT_TRUE(file_exists(work("data")));
  std::filesystem::remove(output());
  EXPECT_EQ(quantize().resumed_units, 5);
  EXPECT_FALSE(file_exists(work()));
}

TEST_F(WorkFolderTest, survives_a_full_disk_on_resuming) {
  test::StopAfter stop(3);
  EXPECT_PITH_ERROR(quantize(stop), ErrorKind::kCancelled, "");
  for (int n = 1;; ++n) {
    test::FaultSyscalls faults(n, ENOSPC);
    try {
      const ScopedSyscalls scope(faults);
      quantize();
      break;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kNoSpace) << e.what();
      if (std::string(faults.call()) == "rename" || file_exists(output())) break;
      ASSERT_TRUE(file_exists(work("journal"))) << faults.call();
    }
  }
}

TEST_F(WorkFolderTest, of_other_settings_can_be_discarded) {
  test::StopAfter stop(3);
  EXPECT_PITH_ERROR(quantize(stop), ErrorKind::kCancelled, "");
  {
    WorkFolder folder(output(), /*restart=*/true);
    EXPECT_TRUE(folder.journal().records().empty());
    EXPECT_EQ(quantize(no_progress(), &folder).resumed_units, 0);
  }
  EXPECT_FALSE(file_exists(work()));
}

TEST_F(WorkFolderTest, is_for_one_process_at_a_time) {
  WorkFolder first(output());
  EXPECT_PITH_ERROR(quantize(), ErrorKind::kBusy, "another process is writing");
}

TEST_F(WorkFolderTest, tokens_that_the_model_does_not_know_are_refused) {
  Passes passes;
  passes.push_back(
      make_quantize_pass({.linears = encoding_for_type("w4"), .method = parse_method("gptq")}));
  for (const int32_t id : {96, 900000, -1}) {
    EXPECT_PITH_ERROR(
        compress(*source_, passes, {.output = output(), .calibration = {{1, 2, id, 4}}}),
        ErrorKind::kCorrupt, "the model knows tokens below 96");
  }
  EXPECT_PITH_ERROR(compress(*source_, passes, {.output = output(), .calibration = {}}),
                    ErrorKind::kUsage, "gptq needs a calibration text");
  EXPECT_FALSE(file_exists(work()));
}

}  // namespace
}  // namespace pith
