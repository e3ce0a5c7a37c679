#include "runtime/compress/journal.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "core/bytes.h"
#include "core/error.h"
#include "core/hash.h"

namespace pith {
namespace {

constexpr uint64_t kMaxRecord = 64 << 20;

std::string fingerprint_text(const Journal::Fingerprint& f) {
  std::string text;
  for (const auto& [key, value] : f) text += key + ": " + value + "\n";
  return text;
}

// The first line that only one of two texts has.
std::string first_difference(std::string_view ours, std::string_view theirs) {
  while (!ours.empty() || !theirs.empty()) {
    const std::string_view a = ours.substr(0, ours.find('\n')),
                           b = theirs.substr(0, theirs.find('\n'));
    if (a != b) return fmt::format("now \"{}\", then \"{}\"", a, b);
    ours.remove_prefix(std::min(ours.size(), a.size() + 1));
    theirs.remove_prefix(std::min(theirs.size(), b.size() + 1));
  }
  return "";
}

}  // namespace

Journal::Journal(const std::string& output, const Fingerprint& fingerprint)
    : output_(output), folder_(folder_for(output)) {
  const bool made = !is_folder(folder_);
  if (made && syscalls().mkdir(folder_.c_str(), 0777) != 0) {
    const int error = errno;
    fail(error == ENOSPC ? ErrorKind::kNoSpace : ErrorKind::kIo, "{}: cannot create folder: {}",
         folder_, std::strerror(error));
  }
  try {
    const std::string path = join_path(folder_, "journal");
    journal_ = File::open_read_write(path);
    // Another process may have finished, and removed this file, between the opening and the lock.
    if (!journal_.try_lock() || !journal_.is_at(path))
      fail(ErrorKind::kUsage, "{}: another process is writing {}", folder_, output);
    const bool has_data = file_exists(join_path(folder_, "data"));
    data_ = File::open_read_write(join_path(folder_, "data"));
    if (has_data && journal_.size() > 0) read(fingerprint);
    if (journal_end_ == 0) {
      journal_.truncate(0);
      append(fingerprint_text(fingerprint));
    }
    data_.truncate(data_end());
    sync_folder_of(join_path(folder_, "data"));
    sync_folder_of(folder_);
  } catch (const Error& e) {
    // What was there before, of this process or of another, stays.
    if (made && e.kind() != ErrorKind::kUsage) discard();
    throw;
  }
}

void Journal::append(const std::string& bytes) {
  std::string record(12, '\0');
  const auto length = static_cast<uint32_t>(bytes.size());
  const uint64_t hash = hash64(as_bytes(bytes));
  std::memcpy(record.data(), &length, 4);
  std::memcpy(record.data() + 4, &hash, 8);
  record += bytes;
  journal_.write(journal_end_, as_bytes(record));
  journal_.sync();
  journal_end_ += record.size();
}

void Journal::read(const Fingerprint& fingerprint) {
  const uint64_t size = journal_.size();
  const uint64_t data_size = data_.size();
  const std::string expected = fingerprint_text(fingerprint);
  while (size - journal_end_ >= 12) {
    std::byte head[12];
    journal_.read(journal_end_, head);
    uint32_t length;
    uint64_t hash;
    std::memcpy(&length, head, 4);
    std::memcpy(&hash, head + 4, 8);
    if (length > kMaxRecord || length > size - journal_end_ - 12) break;
    std::string bytes(length, '\0');
    journal_.read(journal_end_ + 12, {reinterpret_cast<std::byte*>(bytes.data()), bytes.size()});
    if (hash64(as_bytes(bytes)) != hash) break;
    if (journal_end_ == 0) {
      if (bytes != expected) {
        fail(ErrorKind::kUsage,
             "{}: an interrupted run with other settings left its work here ({}); run it to its "
             "end, or remove the folder",
             folder_, first_difference(expected, bytes));
      }
    } else {
      proto::JournalUnit unit;
      if (!unit.ParseFromString(bytes) || unit.data_end() > data_size) break;
      done_.push_back(std::move(unit));
    }
    journal_end_ += 12 + length;
  }
  journal_.truncate(journal_end_);
}

void Journal::commit(const proto::JournalUnit& unit) {
  data_.sync();
  append(unit.SerializeAsString());
  done_.push_back(unit);
}

void Journal::finish() {
  data_.close();
  rename_file(join_path(folder_, "data"), output_);
  remove_file(join_path(folder_, "journal"));  // while it is locked
  journal_.close();
  syscalls().rmdir(folder_.c_str());
}

void Journal::discard() {
  syscalls().unlink(join_path(folder_, "data").c_str());
  syscalls().unlink(join_path(folder_, "journal").c_str());
  syscalls().rmdir(folder_.c_str());
}

}  // namespace pith
