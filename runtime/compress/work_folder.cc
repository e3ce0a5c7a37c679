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
#include "formats/packed_file.h"
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

// All that pith puts into the folder beside the journal.
constexpr const char* kParts[] = {"data", "text", "costs", "calibration-states"};

[[noreturn]] void refuse(const std::string& path, const char* why, bool restartable = false) {
  fail(ErrorKind::kUsage,
       "{}: {}, and pith keeps its work under this name: choose another output, or move it away{}",
       path, why, restartable ? ", or add --restart to discard it and begin anew" : "");
}

// Whether a file begins with zeros, as one does whose content was lost with the power.
bool begins_with_zeros(const File& file) {
  std::byte first[64];
  const auto head = std::span(first, std::min<uint64_t>(file.size(), sizeof(first)));
  file.read(0, head);
  return std::ranges::all_of(head, [](std::byte b) { return b == std::byte{0}; });
}

bool begins_like(const std::string& name, const File& file) {
  if (begins_with_zeros(file)) return true;
  if (name == "data") {  // zeros until the header is written at the end
    std::byte first[8];
    if (file.size() < sizeof(first)) return false;
    file.read(0, first);
    return looks_like_packed(first);
  }
  return name == "calibration-states" || RecordLog::looks_like_log(file);
}

struct Content {
  bool only_ours = true;  // by name, owner, links and first bytes
  bool any = false;       // a part that is not empty
};
// The files of the folder but for the journal.
Content content_of(const std::string& folder) {
  Content c;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    struct stat s;
    if (::lstat(entry.path().c_str(), &s) != 0 || !S_ISREG(s.st_mode) || s.st_nlink != 1 ||
        s.st_uid != ::geteuid())
      return {.only_ours = false};
    if (name == "journal") continue;
    if (std::ranges::find(kParts, name, [](const char* p) { return std::string(p); }) ==
            std::end(kParts) ||
        !begins_like(name, File::open_read(entry.path().string())))
      return {.only_ours = false};
    c.any |= s.st_size > 0;
  }
  return c;
}

// Makes the folder, or checks that pith may use the one that is there. Returns whether it was made.
bool own_folder(const std::string& path, bool restart) {
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
  if (::lstat(journal.c_str(), &s) == 0) {
    if (!S_ISREG(s.st_mode)) refuse(path, "is a folder that pith did not make");
    return false;
  }
  const Content c = content_of(path);
  if (!c.only_ours) refuse(path, "is a folder that pith did not make");
  if (!restart && c.any) refuse(path, "is a folder without a journal", true);
  return false;
}

}  // namespace

// A journal that has not its form: made this moment, torn, lost with the power, or not pith's.
bool WorkFolder::may_use(const File& journal, bool made, bool restart) const {
  const bool is_log = RecordLog::looks_like_log(journal);
  if (made || (is_log && journal.size() >= kMagic.size())) return true;
  const Content c = content_of(path_);
  if (!c.only_ours) return false;
  if (is_log || begins_with_zeros(journal)) return true;
  if (c.any && !restart) refuse(path_, "has a damaged journal", true);
  return c.any;
}

WorkFolder::WorkFolder(const std::string& output, bool restart) {
  const OutputPath to = resolve_output(output);
  if (to.special) fail(ErrorKind::kUsage, "{}: the output is not a regular file", output);
  output_ = to.path;
  path_ = path_for(output_);
  const bool made = own_folder(path_, restart);
  try {
    const std::string path = file("journal");
    File journal = File::open_own(path);
    // Another process may have finished, and removed this file, between the opening and the lock.
    if (!journal.try_lock() || !journal.is_at(path)) {
      fail(ErrorKind::kBusy, "{}: another process is writing {}", path_, output);
    }
    if (!may_use(journal, made, restart)) refuse(path_, "has a journal that is not pith's");
    journal_ = RecordLog(std::move(journal));
    if (restart) {
      for (const char* name : kParts) remove_file(file(name));
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
  return records_in("text") + records_in("costs") > 0;
}

size_t WorkFolder::records_in(const std::string& name) const {
  try {
    return file_exists(file(name)) ? RecordLog(File::open_read(file(name))).records().size() : 0;
  } catch (const Error&) {
    return 1;  // not known
  }
}

std::string WorkFolder::left_value(const std::string& output, const std::string& key) {
  const std::string folder = path_for(resolve_output(output).path);
  for (const char* name : {"journal", "text", "costs"}) {
    const std::string path = join_path(folder, name);
    struct stat s;
    if (::lstat(path.c_str(), &s) != 0 || !S_ISREG(s.st_mode)) continue;
    const RecordLog log(File::open_read(path));
    if (const auto it = log.about().find(key); it != log.about().end()) return it->second;
  }
  return "";
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

std::string WorkFolder::remove() {
  removed_ = true;
  // The journal goes last, while it is locked. A file that cannot be removed is no error: the
  // result is complete.
  for (const char* name : kParts) syscalls().unlink(file(name).c_str());
  syscalls().unlink(file("journal").c_str());
  journal_.close();
  if (syscalls().rmdir(path_.c_str()) == 0) return "";
  std::string names;
  std::error_code error;
  int count = 0;
  for (std::filesystem::directory_iterator it(path_, error), end; !error && it != end;
       it.increment(error)) {
    constexpr int kNamed = 3;
    if (++count <= kNamed)
      names += (names.empty() ? "" : ", ") + printable(it->path().filename().string());
  }
  if (count == 0) return "";  // gone, or made anew by another process
  return fmt::format("{} is not pith's, so {} was not removed", names + (count > 3 ? ", ..." : ""),
                     path_);
}

}  // namespace pith
