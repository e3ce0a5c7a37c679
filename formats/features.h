// Parts of the packed format that came with version 3, by name. A file lists those that it uses, so
// that a program of another age says which one it lacks instead of computing something else.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pith.pb.h"

namespace pith {

struct Feature {
  const char* name;     // in the file: "norm.layer"
  const char* meaning;  // in messages: "layer norms"
};
// Every one that this program can read, sorted by name.
std::span<const Feature> known_features();
const Feature* find_feature(std::string_view name);  // nullptr where it is not known

// The names of those in use, sorted: by the model, or by the model and the encodings.
std::vector<std::string> features_of(const proto::ModelSpec& spec);
std::vector<std::string> features_of(const proto::Manifest& manifest);

}  // namespace pith
