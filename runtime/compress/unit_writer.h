// Writes the linears and vectors of one unit of the journal (tokenizer, embedding, a block, the
// head) into the growing file, compares each with its source, and makes its records.
#pragma once

#include <string>
#include <vector>

#include "core/progress.h"
#include "formats/packed_file.h"
#include "runtime/compress/comparison.h"
#include "runtime/compress/journal.h"
#include "runtime/compress/pass.h"

namespace pith {

class UnitWriter {
 public:
  // Appends to `journal`'s data. `max_fallbacks`: over all units.
  UnitWriter(const ModelSource& source, Journal& journal, int max_fallbacks, Progress& progress);

  void begin(const std::string& name);
  void commit();  // what was written since begin()

  void write_tokenizer();
  // Compares every linear of a block with the original, and writes it. Error(kNumeric) where a
  // weight is not finite, or a mask clears it and it is not zero.
  void check_and_write(const std::vector<LinearInfo>& linears, const Block& original,
                       const Block& block, const Masks& masks, const PassReport& done);
  // The vectors of a block, or (-1) of those outside of the layers.
  void write_vectors(int layer, Block* block = nullptr);

  // A record with name and shape, to be filled; finish() after that.
  proto::LinearRecord* add_linear(const LinearInfo& info);
  void add_terms(const Linear& linear, proto::LinearRecord* record);
  // Warns of rows that became zeros; Error(kNumeric) where all of them did.
  void finish(const Comparison& comparison, const LinearForm& form, const std::string& method,
              proto::LinearRecord* record);

  PackedWriter& file() { return writer_; }
  const Progress& progress() const { return progress_; }
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  void look_for_lost_rows(const std::string& name, const LinearForm& form, const Comparison& c);
  void count_fallback(const std::string& name, const std::string& why);

  const ModelSource& source_;
  Journal& journal_;
  const int max_fallbacks_;
  Progress& progress_;
  PackedWriter writer_;
  proto::JournalUnit unit_;
  std::vector<uint64_t> hashes_;  // of the originals
  int fallbacks_here_ = 0;
  std::vector<std::string> notes_;
};

// A block that an earlier run wrote, read back from the growing file.
Block stored_block(const ModelSource& source, Journal& journal, int layer);

}  // namespace pith
