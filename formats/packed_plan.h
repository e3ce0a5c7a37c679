// The size of a packed file before there is one: planes are given their places as PackedWriter
// gives them, and the manifest is measured with numbers in place of those that are known last.
#pragma once

#include <string>

#include "formats/packed_file.h"

namespace pith {

class PackedPlan {
 public:
  // As those of PackedWriter, without bytes.
  proto::PlaneRecord add_plane(PlaneKind kind, uint64_t bytes);
  proto::WeightRecord add_weight(const Encoding& e, int64_t n, int64_t k);
  void add_blobs(const BlobSizes& blobs, proto::Manifest* manifest);

  // With the list of features that the manifest will have.
  uint64_t file_bytes(proto::Manifest manifest) const;

 private:
  uint64_t end_ = 0;
};

}  // namespace pith
