// The folder OUT.work, where a compression keeps its finished parts, so that kill -9 loses little.
// Its files only grow.
//
//   journal  the finished parts of the output (journal.h); locked: one process at a time
//   data     the packed file as it grows
//   text     calibration text that the model writes itself
//   costs    the measurements of mixed precision
//
// All but `data` are record logs:
//
//   8 bytes  "PITHLOG1"
//   record   u32 length, u64 XXH3-64 of the bytes, bytes
//   first    the fingerprint: lines "key: value"; values that begin with # are hashes
//   then     the finished parts; a torn or corrupt tail is dropped
//
// Nothing here is trusted: the folder and its files must belong to this user, be no symbolic links
// and have no further hard links, and a folder that existed before must have a journal of this
// form; otherwise it is refused and not touched. A crash or a loss of power may leave a journal
// that is empty, torn or zeros: the folder is pith's then if it holds pith's files and nothing
// else, and begins anew. A journal that is missing or damaged otherwise takes --restart.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/file.h"

namespace pith {

// The inputs that a result depends on, by names that messages use where they differ.
using Fingerprint = std::map<std::string, std::string>;
std::string fingerprint_text(const Fingerprint& f);
Fingerprint parse_fingerprint(std::string_view text);
// "method: rtn then, gptq now; another calibration text"
std::string difference(const Fingerprint& then, const Fingerprint& now);

class RecordLog {
 public:
  RecordLog() = default;
  // Takes an open file and reads it; drops a torn tail.
  explicit RecordLog(File file);

  bool has_begun() const { return begun_; }
  const Fingerprint& about() const { return about_; }
  const std::vector<std::string>& records() const { return records_; }
  // Empties it, and writes the fingerprint.
  void begin(const Fingerprint& about);
  void append(const std::string& record);  // synced
  void drop_from(size_t record);
  void close() { file_.close(); }
  const std::string& path() const { return file_.path(); }

  // Whether a file begins like a log, or like one that was torn at its very beginning.
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
  // Opens or makes it for an output. Error(kBusy) where another process uses it, Error(kUsage)
  // where pith did not make the folder of this name. `restart` removes the parts of an earlier run.
  explicit WorkFolder(const std::string& output, bool restart = false);
  // Removes the folder where no part is finished.
  ~WorkFolder();
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;

  static std::string path_for(const std::string& output) { return output + ".work"; }

  const std::string& output() const { return output_; }  // behind links
  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return join_path(path_, name); }
  RecordLog& journal() { return journal_; }
  // Opens a log with this fingerprint, and keeps its records where an earlier run had the same one.
  // Error(kUsage) naming the difference where it had another and left records.
  RecordLog open_log(const std::string& name, const Fingerprint& about);
  // The same for a log that is open: the journal.
  void begin(RecordLog& log, const std::string& what, const Fingerprint& about);
  // Error(kUsage), as in begin(), where an earlier run left parts and differs in one of these.
  void require_same(const std::string& what, const Fingerprint& some) const;
  bool has_work() const;
  // Finished parts of a log that this run may not use: "text", "costs".
  size_t records_in(const std::string& name) const;
  // With all of pith's files. What is not pith's stays, and so does the folder then: returns a
  // sentence that says so, else "".
  std::string remove();

  // The value of a key in the fingerprints that an earlier run for this output left; "" where there
  // is none. Reads only, and takes no lock.
  static std::string left_value(const std::string& output, const std::string& key);

 private:
  bool may_use(const File& journal, bool made, bool restart) const;

  std::string output_, path_;
  RecordLog journal_;
  bool removed_ = false;
};

}  // namespace pith
