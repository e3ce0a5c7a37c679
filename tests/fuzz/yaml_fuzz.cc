// parse_yaml reads a tree whose nodes lie in the text, and settings are read from it or refused at
// a place that exists.

#include <cstdlib>
#include <string_view>

#include "core/error.h"
#include "runtime/compress/settings.h"

namespace {

void check(const pith::YamlNode& node, int lines, int depth) {
  using Kind = pith::YamlNode::Kind;
  if (depth > 40 || node.line < 1 || node.line > lines || node.column < 1) std::abort();
  if (node.kind == Kind::kMapping && node.keys.size() != node.items.size()) std::abort();
  if (node.kind != Kind::kMapping && !node.keys.empty()) std::abort();
  if (node.kind == Kind::kScalar && !node.items.empty()) std::abort();
  for (const auto& key : node.keys) check(key, lines, depth + 1);
  for (const auto& item : node.items) check(item, lines, depth + 1);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::string file = "file";
  std::vector<std::string> list;
  std::vector<std::pair<std::string, std::string>> pairs;
  try {
    const pith::YamlNode root = pith::parse_yaml(text, file);
    int lines = 1;  // CR, NEL and the separators of Unicode break lines too
    for (const char c : text) lines += c == '\n' || c == '\r' || static_cast<uint8_t>(c) >= 0x80;
    check(root, lines + 1, 0);
    pith::SettingsReader reader(root, file, "step");
    bool flag = false;
    double number = 0;
    int64_t whole = 0;
    reader("flag", flag);
    reader("number", number, "", {0, 10});
    reader("whole", whole);
    reader("list", list);
    reader("pairs", pairs);
    reader.finish();
    if (!(number >= 0 && number <= 10)) std::abort();
  } catch (const pith::Error&) {
    return 0;
  }
  // What is written is read back.
  pith::SettingsWriter writer("step");
  writer("list", list, "");
  writer("pairs", pairs, "");
  if (list.empty() && pairs.empty()) return 0;
  const std::string written = "steps:\n" + writer.text();
  const pith::YamlNode again = pith::parse_yaml(written, file);
  pith::SettingsReader copy(*again.find("steps")->items[0].find("step"), file, "step");
  std::vector<std::string> list2;
  std::vector<std::pair<std::string, std::string>> pairs2;
  copy("list", list2);
  copy("pairs", pairs2);
  if (list2 != list || pairs2 != pairs) std::abort();
  return 0;
}
