// A look at the bytes of a manifest before the protobuf library parses them: an empty message takes
// two bytes of a file and a hundred of memory, and for text that is not UTF-8 the library prints.
#pragma once

#include <string>
#include <string_view>

namespace pith {

// Error(kCorrupt) for text that is not UTF-8, groups, and lengths beyond the end;
// Error(kUnsupported) for more than kMaxManifestRecords messages and unknown fields. `name` begins
// every message.
void check_manifest_wire(std::string_view bytes, const std::string& name);
// The same for a unit of a journal.
void check_unit_wire(std::string_view bytes, const std::string& name);

}  // namespace pith
