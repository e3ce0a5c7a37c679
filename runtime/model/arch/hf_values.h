// Values of config.json: their types by key, and errors that name key, type and value.
#pragma once

#include <string>
#include <vector>

#include "core/json.h"

namespace pith {

// The value `v`, for a message: as the file has it.
std::string shown(const Json& v);
// Error(kCorrupt): KEY should be `wanted`, and what it is.
[[noreturn]] void wrong(const std::string& key, const char* wanted, const Json& v);

bool is_integer(const Json& v, int64_t least);
bool is_number(const Json& v, bool zero);  // finite, above 0 or `zero`

// The value as the class has it; of the right type, or Error(kCorrupt).
Json typed(const std::string& key, const Json& value);
// The object of this key, or null. An empty object counts as missing.
Json object_of(const Json& config, const char* key);

// rope_parameters in the one form of read_hf_config(). `known`: the keys of the family's class.
Json rope_parameters(const Json& config, const Json& known, std::vector<std::string>* notes);

}  // namespace pith
