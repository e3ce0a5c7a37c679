// A large JSON tree that is destroyed without allocating: the destructor of nlohmann::json makes a
// list of what it destroys, and where memory has run out that ends the program.
#pragma once

#include <utility>

#include "core/json.h"

namespace pith {

class JsonTree {
 public:
  explicit JsonTree(Json root) : root_(std::move(root)) {}
  ~JsonTree() { empty(root_); }
  JsonTree(const JsonTree&) = delete;
  JsonTree& operator=(const JsonTree&) = delete;

  const Json& root() const { return root_; }

 private:
  // Recursion is as deep as parse_json() allows. A value without elements needs no list.
  static void empty(Json& j) {
    if (auto* object = j.get_ptr<Json::object_t*>()) {
      for (auto& member : *object) empty(member.second);
      object->clear();
    } else if (auto* array = j.get_ptr<Json::array_t*>()) {
      for (auto& element : *array) empty(element);
      array->clear();
    }
  }

  Json root_;
};

}  // namespace pith
