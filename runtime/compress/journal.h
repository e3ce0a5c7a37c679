// What makes a compression survive kill -9: OUT.work/ holds `data`, the packed file as it grows,
// and `journal`, an append-only list of the units that are done.
//
//   record   u32 length, u64 XXH3-64 of the bytes, bytes
//   first    the fingerprint: lines "key: value" of everything that the result depends on
//   then     one JournalUnit each, written after its planes were synced
//
// A torn or corrupt tail is dropped. A journal with another fingerprint is refused, naming what
// differs. One process at a time.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/file.h"
#include "pith.pb.h"

namespace pith {

class Journal {
 public:
  using Fingerprint = std::map<std::string, std::string>;

  // Opens or creates OUT.work for the output path.
  Journal(const std::string& output, const Fingerprint& fingerprint);

  const std::vector<proto::JournalUnit>& done() const { return done_; }
  File& data() { return data_; }
  uint64_t data_end() const { return done_.empty() ? 0 : done_.back().data_end(); }

  void commit(const proto::JournalUnit& unit);  // syncs data, then the record
  // Gives the finished data file its final name and removes the rest.
  void finish();
  // Removes everything: for errors before anything was done.
  void discard();

  static std::string folder_for(const std::string& output) { return output + ".work"; }

 private:
  void append(const std::string& bytes);
  void read(const Fingerprint& fingerprint);

  std::string output_, folder_;
  File journal_, data_;
  uint64_t journal_end_ = 0;
  std::vector<proto::JournalUnit> done_;
};

}  // namespace pith
