#include "runtime/compress/journal.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "core/bytes.h"
#include "core/error.h"
#include "core/hash.h"
#include "tests/support/fault_syscalls.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

using test::TemporaryFolder;

const Fingerprint kFingerprint = {{"recipe", "1234"}, {"seed", "0"}, {"source", "#abcd"}};

// Three units: vectors of 25 and 14 numbers, and nothing.
constexpr uint64_t kBegins[] = {256, 512, 568}, kEnds[] = {356, 568, 568};

std::vector<std::byte> bytes_of(size_t i) {
  return std::vector<std::byte>(kEnds[i] - kBegins[i], static_cast<std::byte>('a' + i));
}
proto::JournalUnit make_unit(size_t i) {
  proto::JournalUnit u;
  u.set_name("unit " + std::to_string(i));
  u.set_data_end(kEnds[i]);
  u.set_source_hash(i * 77);
  if (kEnds[i] == kBegins[i]) return u;
  auto* vector = u.add_vectors();
  vector->set_name("vector");
  vector->set_length((kEnds[i] - kBegins[i]) / 4);
  vector->mutable_plane()->set_offset(kBegins[i]);
  vector->mutable_plane()->set_bytes(kEnds[i] - kBegins[i]);
  vector->mutable_plane()->set_xxh3(hash64(bytes_of(i)));
  return u;
}
void do_unit(Journal& journal, size_t i) {
  journal.data().write(kBegins[i], bytes_of(i));
  journal.commit(make_unit(i));
}
std::string all_data() {
  std::string text(kEnds[2], '\0');
  for (size_t i = 0; i < 3; ++i)
    text.replace(kBegins[i], kEnds[i] - kBegins[i], as_text(bytes_of(i)));
  return text;
}
std::string text_of(const std::string& path) { return read_text_file(path, 1 << 20); }

// The files of a journal with all three units, and where each of its records ends.
struct Recorded {
  std::string journal, data;
  std::vector<size_t> ends;
};
Recorded record() {
  const TemporaryFolder folder;
  const std::string output = folder.file("out");
  Recorded r;
  Journal journal(output, kFingerprint);
  const auto note_end = [&] {
    r.ends.push_back(std::filesystem::file_size(output + ".work/journal"));
  };
  note_end();
  for (size_t i = 0; i < 3; ++i) {
    do_unit(journal, i);
    note_end();
  }
  r.journal = text_of(output + ".work/journal");
  r.data = text_of(output + ".work/data");
  return r;
}

void lay_out(const std::string& output, std::string_view journal, std::string_view data) {
  std::filesystem::create_directory(output + ".work");
  write_file(output + ".work/journal", as_bytes(journal));
  write_file(output + ".work/data", as_bytes(data));
}

// Expects the first `units` to be known, does the others, and expects the result.
void expect_to_go_on(const std::string& output, size_t units, const std::string& where) {
  {
    Journal journal(output, kFingerprint);
    ASSERT_EQ(journal.done().size(), units) << where;
    for (size_t i = 0; i < units; ++i)
      ASSERT_EQ(journal.done()[i].SerializeAsString(), make_unit(i).SerializeAsString()) << where;
    ASSERT_EQ(journal.data_end(), units ? kEnds[units - 1] : 0) << where;
    ASSERT_GE(journal.data().size(), journal.data_end()) << where;
    for (size_t i = units; i < 3; ++i) do_unit(journal, i);
    journal.data().truncate(journal.data_end());  // as the writer of packed files does
    journal.finish();
  }
  EXPECT_EQ(text_of(output), all_data()) << where;
  EXPECT_FALSE(file_exists(output + ".work")) << where;
}

TEST(Journal, starts_empty_and_leaves_only_the_output) {
  const TemporaryFolder folder;
  {
    Journal journal(folder.file("out"), kFingerprint);
    EXPECT_TRUE(journal.done().empty());
    EXPECT_EQ(journal.data_end(), 0u);
    for (size_t i = 0; i < 3; ++i) do_unit(journal, i);
    EXPECT_FALSE(file_exists(folder.file("out")));
    journal.finish();
  }
  EXPECT_EQ(text_of(folder.file("out")).size(), 568u);
  EXPECT_EQ(folder.files(), 1);
  EXPECT_FALSE(file_exists(folder.file("out.work")));
}

TEST(Journal, a_record_torn_at_any_byte_resumes_from_the_last_whole_one) {
  test::UnsyncedSyscalls unsynced;
  const ScopedSyscalls scope(unsynced);
  const Recorded r = record();
  for (size_t length = 0; length <= r.journal.size(); ++length) {
    const TemporaryFolder folder;
    size_t whole = 0;
    while (whole < 3 && length >= r.ends[whole + 1]) ++whole;
    lay_out(folder.file("out"), r.journal.substr(0, length), r.data);
    expect_to_go_on(folder.file("out"), whole, "cut at " + std::to_string(length));
  }
}

TEST(Journal, a_damaged_record_and_all_behind_it_are_dropped) {
  test::UnsyncedSyscalls unsynced;
  const ScopedSyscalls scope(unsynced);
  const Recorded r = record();
  // A damaged fingerprint is no fingerprint: the work starts anew. Where the very beginning is
  // damaged that takes --restart.
  for (size_t i = 0; i < r.journal.size(); ++i) {
    const TemporaryFolder folder;
    std::string damaged = r.journal;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
    size_t whole = 0;
    while (whole < 3 && i >= r.ends[whole + 1]) ++whole;
    if (i < r.ends[0]) whole = 0;
    lay_out(folder.file("out"), damaged, r.data);
    if (i < 8) {
      EXPECT_PITH_ERROR(Journal(folder.file("out"), kFingerprint), ErrorKind::kUsage,
                        "has a damaged journal");
      EXPECT_EQ(text_of(folder.file("out.work/journal")), damaged);
      continue;
    }
    expect_to_go_on(folder.file("out"), whole, "damaged at " + std::to_string(i));
  }
}

TEST(Journal, garbage_behind_the_records_is_dropped) {
  const Recorded r = record();
  for (const auto& tail : {std::string(1, '\0'), std::string(11, '\xff'), std::string(4096, '\0'),
                           std::string(300, '\xff')}) {
    const TemporaryFolder folder;
    lay_out(folder.file("out"), r.journal + tail, r.data + "more data that nobody committed");
    expect_to_go_on(folder.file("out"), 3, "tail");
  }
}

TEST(Journal, a_unit_whose_data_are_missing_is_done_again) {
  const Recorded r = record();
  for (const size_t length : {0, 1, 355, 356, 567, 568}) {
    const TemporaryFolder folder;
    lay_out(folder.file("out"), r.journal, r.data.substr(0, length));
    expect_to_go_on(folder.file("out"),
                    length >= 568   ? 3
                    : length >= 356 ? 1
                                    : 0,
                    "data of " + std::to_string(length));
  }
  const TemporaryFolder folder;  // no data file at all
  lay_out(folder.file("out"), r.journal, r.data);
  std::filesystem::remove(folder.file("out.work/data"));
  expect_to_go_on(folder.file("out"), 0, "no data");
}

TEST(Journal, another_fingerprint_is_refused_naming_what_differs) {
  const Recorded r = record();
  const TemporaryFolder folder;
  lay_out(folder.file("out"), r.journal, r.data);
  for (const char* key : {"recipe", "seed"}) {
    auto other = kFingerprint;
    other[key] = "new";
    EXPECT_PITH_ERROR(Journal(folder.file("out"), other), ErrorKind::kUsage,
                      fmt::format("3 finished parts of an earlier run with other settings ({}: {} "
                                  "then, new now)",
                                  key, kFingerprint.at(key)));
  }
  auto source = kFingerprint;
  source["source"] = "#1234";
  EXPECT_PITH_ERROR(Journal(folder.file("out"), source), ErrorKind::kUsage, "(another source)");
  auto more = kFingerprint;
  more["z"] = "1";
  EXPECT_PITH_ERROR(Journal(folder.file("out"), more), ErrorKind::kUsage, "z: none then, 1 now");
  EXPECT_EQ(text_of(folder.file("out.work/journal")), r.journal);  // and nothing was touched
  EXPECT_EQ(text_of(folder.file("out.work/data")), r.data);
  expect_to_go_on(folder.file("out"), 3, "after refusals");
}

TEST(Journal, two_at_once_are_refused_and_the_first_goes_on) {
  const TemporaryFolder folder;
  Journal first(folder.file("out"), kFingerprint);
  do_unit(first, 0);
  EXPECT_PITH_ERROR(Journal(folder.file("out"), kFingerprint), ErrorKind::kBusy,
                    "another process is writing");
  do_unit(first, 1);
  do_unit(first, 2);
  first.finish();
  EXPECT_EQ(text_of(folder.file("out")).size(), 568u);
  EXPECT_EQ(folder.files(), 1);
}

TEST(Journal, discarding_leaves_nothing_and_keeps_an_older_output) {
  const TemporaryFolder folder;
  write_file(folder.file("out"), as_bytes("old"));
  {
    Journal journal(folder.file("out"), kFingerprint);
    do_unit(journal, 0);
    journal.discard();
  }
  EXPECT_EQ(text_of(folder.file("out")), "old");
  EXPECT_EQ(folder.files(), 1);
}

TEST(Journal, work_of_an_earlier_run_survives_a_failure_to_read_it) {
  const Recorded r = record();
  const TemporaryFolder folder;
  lay_out(folder.file("out"), r.journal, r.data);
  std::filesystem::rename(folder.file("out.work/data"), folder.file("data"));
  std::filesystem::create_directory(folder.file("out.work/data"));  // cannot be opened for writing
  EXPECT_PITH_ERROR(Journal(folder.file("out"), kFingerprint), ErrorKind::kIo, "out.work/data");
  EXPECT_EQ(text_of(folder.file("out.work/journal")), r.journal);
  std::filesystem::remove(folder.file("out.work/data"));
  std::filesystem::rename(folder.file("data"), folder.file("out.work/data"));
  expect_to_go_on(folder.file("out"), 3, "after a failure");
}

TEST(Journal, an_output_in_a_folder_that_does_not_exist_is_an_io_error) {
  const TemporaryFolder folder;
  EXPECT_PITH_ERROR(Journal(folder.file("no/out"), kFingerprint), ErrorKind::kIo,
                    "no/out: cannot create");
}

TEST(Journal, of_damaged_data_the_units_from_the_first_bad_one_on_are_done_again) {
  test::UnsyncedSyscalls unsynced;
  const ScopedSyscalls scope(unsynced);
  const Recorded r = record();
  for (const auto& [at, units] : {std::pair<size_t, size_t>{300, 0}, {520, 1}, {400, 3}}) {
    const TemporaryFolder folder;
    std::string damaged = r.data;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    lay_out(folder.file("out"), r.journal, damaged);
    Journal journal(folder.file("out"), kFingerprint);
    EXPECT_EQ(journal.done().size(), units) << at;
  }
}

// Whoever can write into the folder can make right hashes.
TEST(Journal, a_record_with_right_hashes_that_leads_elsewhere_is_dropped) {
  const struct {
    const char* what;
    std::function<void(proto::JournalUnit&)> change;
  } cases[] = {
      {"offset", [](auto& u) { u.mutable_vectors(0)->mutable_plane()->set_offset(1 << 20); }},
      {"overlap", [](auto& u) { u.mutable_vectors(0)->mutable_plane()->set_offset(256); }},
      {"length", [](auto& u) { u.mutable_vectors(0)->set_length(1 << 20); }},
      {"bytes", [](auto& u) { u.mutable_vectors(0)->mutable_plane()->set_bytes(1 << 20); }},
      {"end", [](auto& u) { u.set_data_end(1 << 20); }},
      {"end before", [](auto& u) { u.set_data_end(10); }},
      {"end between", [](auto& u) { u.set_data_end(560); }},
      {"planes",
       [](auto& u) {
         auto* w = u.add_linears()->add_terms()->mutable_weight();
         w->set_n(1ull << 40);
         w->set_k(1ull << 40);
       }},
  };
  for (const auto& c : cases) {
    std::vector<std::string> records = {make_unit(0).SerializeAsString()};
    proto::JournalUnit unit = make_unit(1);
    c.change(unit);
    records.push_back(unit.SerializeAsString());
    EXPECT_EQ(parse_units(records, 600).size(), 1u) << c.what;
  }
  EXPECT_EQ(
      parse_units({make_unit(0).SerializeAsString(), make_unit(1).SerializeAsString()}, 600).size(),
      2u);
}

}  // namespace
}  // namespace pith
