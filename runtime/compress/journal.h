// What makes a compression survive kill -9: beside `data`, the packed file as it grows, the journal
// lists the units that are done (work_folder.h): one JournalUnit each, written after its planes
// were synced.
//
// Of an earlier run stand the units from the first on whose records agree with each other and with
// the bytes of `data`: planes that follow each other without a gap and have their checksums. So no
// record of a journal leads out of the data, whatever is written in it. What it says of layers is
// checked against the plan by the driver.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/file.h"
#include "pith.pb.h"
#include "runtime/compress/work_folder.h"

namespace pith {

// Units that stand, of records: the checks above but for the checksums. Pure: the fuzz target calls
// it.
std::vector<proto::JournalUnit> parse_units(const std::vector<std::string>& records,
                                            uint64_t data_bytes);

class Journal {
 public:
  // Error(kUsage) naming what differs where an earlier run had another fingerprint and had done
  // something.
  Journal(WorkFolder& folder, const Fingerprint& fingerprint);
  // With a folder of its own, which finish() removes.
  Journal(const std::string& output, const Fingerprint& fingerprint);

  const std::vector<proto::JournalUnit>& done() const { return done_; }
  File& data() { return data_; }
  uint64_t data_end() const { return done_.empty() ? 0 : done_.back().data_end(); }

  void commit(const proto::JournalUnit& unit);  // syncs data, then the record
  void drop_from(size_t unit);                  // and all behind it
  // Gives the finished data file its final name. Where that fails, all stays as it is.
  void finish();
  // Forgets everything: for errors that would come again.
  void discard();

 private:
  Journal(std::unique_ptr<WorkFolder> own, const Fingerprint& fingerprint);
  void open(const Fingerprint& fingerprint);

  std::unique_ptr<WorkFolder> own_;
  WorkFolder& folder_;
  File data_;
  std::vector<proto::JournalUnit> done_;
};

}  // namespace pith
