// Embedding and head, which may be large: read, compressed, compared and written slab by slab,
// never whole in memory.
#pragma once

#include "runtime/compress/plan.h"
#include "runtime/compress/unit_writer.h"

namespace pith {

// Writes a table as it is.
void copy_table(const ModelSource& source, const LinearInfo& info, UnitWriter& writer);

// Writes it in another encoding. `inputs`: what it is multiplied with, where that is known.
void encode_table(const ModelSource& source, const LinearInfo& info, const TargetEncoding& to,
                  const InputStatistics* inputs, UnitWriter& writer);

}  // namespace pith
