#include "runtime/compress/work_folder.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "core/bytes.h"
#include "core/error.h"
#include "core/hash.h"
#include "formats/printable.h"

namespace pith {
namespace {

constexpr std::string_view kMagic = "PITHLOG1";
constexpr uint64_t kMaxRecord = 64 << 20;
constexpr uint64_t kHead = 12;  // of a record

std::string_view next_line(std::string_view& text) {
  const std::string_view line = text.substr(0, text.find('\n'));
  text.remove_prefix(std::min(text.size(), line.size() + 1));
  return line;
}

// In quotes only where there is something to escape.
std::string shown(const std::string& text) {
  if (text.empty()) return "none";
  const std::string quoted = printable(text);
  return quoted == '"' + text + '"' ? text : quoted;
}

}  // namespace

std::string fingerprint_text(const Fingerprint& f) {
  std::string text;
  for (const auto& [key, value] : f) text += key + ": " + value + "\n";
  return text;
}

Fingerprint parse_fingerprint(std::string_view text) {
  Fingerprint f;
  while (!text.empty()) {
    const std::string_view line = next_line(text);
    const size_t colon = line.find(": ");
    if (colon != std::string_view::npos) f.emplace(line.substr(0, colon), line.substr(colon + 2));
  }
  return f;
}

std::string difference(const Fingerprint& then, const Fingerprint& now) {
  constexpr size_t kNamed = 5;
  std::vector<std::string> parts;
  const auto add = [&](const std::string& key, const std::string& before,
                       const std::string& after) {
    if (before.starts_with('#') || after.starts_with('#')) {
      parts.push_back("another " + shown(key));
    } else {
      parts.push_back(fmt::format("{}: {} then, {} now", shown(key), shown(before), shown(after)));
    }
  };
  for (const auto& [key, value] : now) {
    const auto it = then.find(key);
    if (it == then.end() || it->second != value)
      add(key, it == then.end() ? "" : it->second, value);
  }
  for (const auto& [key, value] : then) {
    if (!now.contains(key)) add(key, value, "");
  }
  std::string text;
  for (size_t i = 0; i < std::min(kNamed, parts.size()); ++i)
    text += (i > 0 ? "; " : "") + parts[i];
  if (parts.size() > kNamed) text += fmt::format("; and {} more", parts.size() - kNamed);
  return text;
}

bool RecordLog::looks_like_log(const File& file) {
  char first[kMagic.size()];
  const size_t n = std::min<uint64_t>(file.size(), kMagic.size());
  file.read(0, std::as_writable_bytes(std::span(first, n)));
  return std::string_view(first, n) == kMagic.substr(0, n);
}

RecordLog::RecordLog(File file) : file_(std::move(file)) {
  const uint64_t size = file_.size();
  if (size < kMagic.size() || !looks_like_log(file_)) return;
  end_ = kMagic.size();
  while (size - end_ >= kHead) {
    std::byte head[kHead];
    file_.read(end_, head);
    uint32_t length;
    uint64_t hash;
    std::memcpy(&length, head, 4);
    std::memcpy(&hash, head + 4, 8);
    if (length > kMaxRecord || length > size - end_ - kHead) break;
    std::string bytes(length, '\0');
    file_.read(end_ + kHead, std::as_writable_bytes(std::span(bytes)));
    if (hash64(as_bytes(bytes)) != hash) break;
    end_ += kHead + length;
    if (!begun_) {
      about_ = parse_fingerprint(bytes);
      begun_ = true;
    } else {
      records_.push_back(std::move(bytes));
    }
    ends_.push_back(end_);
  }
}

void RecordLog::write(const std::string& bytes) {
  std::string record(kHead, '\0');
  const auto length = static_cast<uint32_t>(bytes.size());
  const uint64_t hash = hash64(as_bytes(bytes));
  std::memcpy(record.data(), &length, 4);
  std::memcpy(record.data() + 4, &hash, 8);
  record += bytes;
  file_.write(end_, as_bytes(record));
  // Dropped bytes after the end would follow the new record.
  if (file_.size() > end_ + record.size()) file_.truncate(end_ + record.size());
  file_.sync();
  end_ += record.size();
  ends_.push_back(end_);
}

void RecordLog::begin(const Fingerprint& about) {
  // Old records are removed before anything new is written, so that they never follow another
  // fingerprint. The magic, by which the folder is recognized, stays at all times.
  file_.truncate(std::min<uint64_t>(file_.size(), kMagic.size()));
  file_.write(0, as_bytes(kMagic));
  end_ = kMagic.size();
  records_.clear();
  ends_.clear();
  begun_ = false;
  write(fingerprint_text(about));
  about_ = about;
  begun_ = true;
}

void RecordLog::append(const std::string& record) {
  write(record);
  records_.push_back(record);
}

void RecordLog::drop_from(size_t record) {
  if (record >= records_.size()) return;
  records_.resize(record);
  ends_.resize(record + 1);
  end_ = ends_.back();
  file_.truncate(end_);
}

namespace {

[[noreturn]] void refuse(const std::string& path, const char* why) {
  fail(ErrorKind::kUsage,
       "{}: {}, and pith keeps its work under this name: choose another output, or move it away",
       path, why);
}

// Makes the folder, or checks that pith may use the one that is there. Returns whether it was made.
bool own_folder(const std::string& path) {
  if (syscalls().mkdir(path.c_str(), 0700) == 0) return true;
  const int error = errno;
  struct stat s;
  if (error != EEXIST || ::lstat(path.c_str(), &s) != 0) {
    const bool full = error == ENOSPC || error == EDQUOT;
    fail(full ? ErrorKind::kNoSpace : ErrorKind::kIo, "{}: cannot create folder: {}", path,
         std::strerror(error));
  }
  if (S_ISLNK(s.st_mode)) refuse(path, "is a link");
  if (!S_ISDIR(s.st_mode)) refuse(path, "is no folder");
  if (s.st_uid != ::geteuid()) refuse(path, "belongs to another user");
  if (std::filesystem::is_empty(path)) return false;
  const std::string journal = join_path(path, "journal");
  if (::lstat(journal.c_str(), &s) != 0 || !S_ISREG(s.st_mode))
    refuse(path, "is a folder that pith did not make");
  return false;
}

}  // namespace

WorkFolder::WorkFolder(const std::string& output, bool restart) {
  const OutputPath to = resolve_output(output);
  if (to.special) fail(ErrorKind::kUsage, "{}: the output is not a regular file", output);
  output_ = to.path;
  path_ = path_for(output_);
  const bool made = own_folder(path_);
  try {
    const std::string path = file("journal");
    File journal = File::open_own(path);
    // Another process may have finished, and removed this file, between the opening and the lock.
    if (!journal.try_lock() || !journal.is_at(path))
      fail(ErrorKind::kBusy, "{}: another process is writing {}", path_, output);
    // An empty journal is one that was just made, and nothing is beside it.
    const bool alone = std::distance(std::filesystem::directory_iterator(path_), {}) == 1;
    if (!RecordLog::looks_like_log(journal) || (journal.size() < kMagic.size() && !alone))
      refuse(path_, "has a journal that is not pith's");
    journal_ = RecordLog(std::move(journal));
    if (restart) {
      for (const char* name : {"data", "text", "costs"}) remove_file(file(name));
      journal_.begin({});
    } else if (!journal_.has_begun() || !file_exists(file("data"))) {
      journal_.begin({});  // without data it is a list of nothing
    }
    sync_folder_of(path);
    sync_folder_of(path_);
  } catch (const Error& e) {
    if (made && e.kind() != ErrorKind::kBusy) {
      syscalls().unlink(file("journal").c_str());
      syscalls().rmdir(path_.c_str());
    }
    throw;
  }
}

WorkFolder::~WorkFolder() {
  if (!removed_ && !has_work()) remove();
}

bool WorkFolder::has_work() const {
  if (!journal_.records().empty() && file_exists(file("data"))) return true;
  for (const char* name : {"text", "costs"}) {
    try {
      if (file_exists(file(name)) && !RecordLog(File::open_read(file(name))).records().empty())
        return true;
    } catch (const Error&) {
      return true;  // not known
    }
  }
  return false;
}

namespace {

void require_about(const RecordLog& log, const std::string& folder, const std::string& what,
                   const Fingerprint& then, const Fingerprint& now) {
  if (log.records().empty() || then == now) return;
  fail(ErrorKind::kUsage,
       "{} holds {} {} of an earlier run with other settings ({}): run that command to its end, "
       "or add --restart to discard it",
       folder, log.records().size(), what, difference(then, now));
}

}  // namespace

void WorkFolder::begin(RecordLog& log, const std::string& what, const Fingerprint& about) {
  if (log.has_begun() && log.about() == about) return;
  require_about(log, path_, what, log.about(), about);
  log.begin(about);
}

void WorkFolder::require_same(const std::string& what, const Fingerprint& some) const {
  Fingerprint then;
  for (const auto& [key, value] : journal_.about()) {
    if (some.contains(key)) then[key] = value;
  }
  require_about(journal_, path_, what, then, some);
}

RecordLog WorkFolder::open_log(const std::string& name, const Fingerprint& about) {
  RecordLog log(File::open_own(file(name)));
  begin(log, "parts of the " + name, about);
  sync_folder_of(file(name));
  return log;
}

void WorkFolder::remove() {
  removed_ = true;
  // The journal goes last, while it is locked. A file that cannot be removed is no error: the
  // result is complete.
  for (const char* name : {"data", "text", "costs", "journal"})
    syscalls().unlink(file(name).c_str());
  journal_.close();
  syscalls().rmdir(path_.c_str());
}

}  // namespace pith
