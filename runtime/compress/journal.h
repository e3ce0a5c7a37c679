// The journal lets a compression survive kill -9: beside `data`, the packed file as it grows, it
// lists the finished units (work_folder.h), one JournalUnit each, written after its planes were
// synced.
//
// A later run reuses the longest prefix of units whose records agree with each other and with the
// bytes of `data`: their planes follow each other without a gap and have the right checksums. So no
// record can point outside of the data, whatever it contains. The driver checks the layers of each
// unit against its plan.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/file.h"
#include "pith.pb.h"
#include "runtime/compress/work_folder.h"

namespace pith {

// The valid prefix of units in these records: the checks above except the checksums. Pure: the fuzz
// target calls it.
std::vector<proto::JournalUnit> parse_units(const std::vector<std::string>& records,
                                            uint64_t data_bytes);

class Journal {
 public:
  // Error(kUsage) naming the difference where an earlier run with another fingerprint finished
  // units.
  Journal(WorkFolder& folder, const Fingerprint& fingerprint);
  // With a folder of its own, which finish() removes.
  Journal(const std::string& output, const Fingerprint& fingerprint);

  const std::vector<proto::JournalUnit>& done() const { return done_; }
  File& data() { return data_; }
  uint64_t data_end() const { return done_.empty() ? 0 : done_.back().data_end(); }

  void commit(const proto::JournalUnit& unit);  // syncs data, then the record
  void drop_from(size_t unit);                  // and all after it
  // Gives the finished data file its final name. If that fails, nothing changes.
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
