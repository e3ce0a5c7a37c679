// Where a compression keeps what it has done, so that kill -9 loses little: the folder OUT.work,
// with files that only grow.
//
//   journal  which parts of the output are done (journal.h); it is locked: one process at a time
//   data     the packed file as it grows
//   text     calibration text that the model writes itself
//   costs    what mixed precision measured
//
// All but `data` are record logs:
//
//   8 bytes  "PITHLOG1"
//   record   u32 length, u64 XXH3-64 of the bytes, bytes
//   first    what the contents depend on: lines "key: value"; values that begin with # are hashes
//   then     what is done; a torn or corrupt tail is dropped
//
// Nothing here is trusted: the folder and its files belong to this user, are no links and have no
// other names, and a folder that was there before has a journal of this form, or it is refused and
// not touched.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/file.h"

namespace pith {

// What a result depends on, in words: named in messages where it differs.
using Fingerprint = std::map<std::string, std::string>;
std::string fingerprint_text(const Fingerprint& f);
Fingerprint parse_fingerprint(std::string_view text);
// "method: rtn then, gptq now; another calibration text"
std::string difference(const Fingerprint& then, const Fingerprint& now);

class RecordLog {
 public:
  RecordLog() = default;
  // Takes an open file and reads it; drops what is torn.
  explicit RecordLog(File file);

  bool has_begun() const { return begun_; }
  const Fingerprint& about() const { return about_; }
  const std::vector<std::string>& records() const { return records_; }
  // Empties it, and writes what it is about.
  void begin(const Fingerprint& about);
  void append(const std::string& record);  // synced
  void drop_from(size_t record);
  void close() { file_.close(); }
  const std::string& path() const { return file_.path(); }

  // Whether a file begins as a log does, or as one that was torn at its very beginning.
  static bool looks_like_log(const File& file);

 private:
  void write(const std::string& bytes);

  File file_;
  uint64_t end_ = 0;
  bool begun_ = false;
  Fingerprint about_;
  std::vector<std::string> records_;
  std::vector<uint64_t> ends_;
};

class WorkFolder {
 public:
  // Opens or makes it for an output. Error(kBusy) where another process has it, Error(kUsage) where
  // the folder of this name is not pith's. `restart`: what an earlier run left is removed.
  explicit WorkFolder(const std::string& output, bool restart = false);
  // Leaves nothing where nothing was done.
  ~WorkFolder();
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;

  static std::string path_for(const std::string& output) { return output + ".work"; }

  const std::string& output() const { return output_; }  // behind links
  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return join_path(path_, name); }
  RecordLog& journal() { return journal_; }
  // Opens a log for contents with this fingerprint: with what an earlier run left where it is the
  // same. Error(kUsage) naming the difference where it is another and has records.
  RecordLog open_log(const std::string& name, const Fingerprint& about);
  // The same of the journal, which is open.
  void begin(RecordLog& log, const std::string& what, const Fingerprint& about);
  // Error(kUsage) as begin() where parts of an earlier run are there and differ in one of these.
  void require_same(const std::string& what, const Fingerprint& some) const;
  bool has_work() const;
  void remove();  // and all in it

 private:
  std::string output_, path_;
  RecordLog journal_;
  bool removed_ = false;
};

}  // namespace pith
