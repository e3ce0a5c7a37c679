#include "runtime/compress/settings.h"

#include <algorithm>

#include "core/nearest.h"
#include "core/utf8.h"
#include "formats/printable.h"
#include "formats/type_names.h"

namespace pith {
namespace {

// Whether YAML reads the word as itself without quotes.
bool is_plain(const std::string& word) {
  constexpr std::string_view kOther = "_./+-=";
  const auto letter = [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           kOther.find(c) != kOther.npos;
  };
  return !word.empty() && word.front() != '-' && word != "null" && word != "Null" &&
         word != "NULL" && std::ranges::all_of(word, letter);
}

// In double quotes, with escapes for what YAML does not read as itself there: controls, and the
// breaks of lines of Unicode.
std::string quoted(const std::string& word) {
  if (valid_utf8_prefix(word) != word.size())
    fail(ErrorKind::kUsage, "{} is not UTF-8, as the text of a recipe has to be", printable(word));
  std::string out = "\"";
  for (size_t at = 0; at < word.size();) {
    const char32_t c = next_code_point(word, at);
    const bool printed = (c >= 0x20 && c < 0x7f) || (c >= 0xa0 && c != 0x2028 && c != 0x2029 &&
                                                     c != 0xfeff && c != 0xfffe && c != 0xffff);
    if (c == '"' || c == '\\') out += '\\';
    if (printed) {
      append_utf8(out, c);
    } else {
      out += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
    }
  }
  return out + '"';
}

}  // namespace

std::string to_setting(bool value) { return value ? "true" : "false"; }
std::string to_setting(const std::string& value) { return is_plain(value) ? value : quoted(value); }
void from_setting(const std::string& text, bool* to) {
  if (text != "true" && text != "false") fail(ErrorKind::kUsage, "true or false is expected");
  *to = text == "true";
}
void from_setting(const std::string& text, std::string* to) { *to = text; }
std::string to_setting(DType type) { return info(type).name; }
void from_setting(const std::string& text, DType* to) {
  for (const DType type : {DType::kF16, DType::kBF16, DType::kF32}) {
    if (text == info(type).name) return void(*to = type);
  }
  fail(ErrorKind::kUsage, "f16, bf16 or f32 is expected");
}
std::string to_setting(const Encoding& e) { return to_string(e); }
void from_setting(const std::string& text, Encoding* to) { *to = encoding_for_type(text); }
std::string to_setting(const InputEncoding& e) { return to_string(e); }
void from_setting(const std::string& text, InputEncoding* to) { *to = parse_input_encoding(text); }

void SettingsWriter::line(const char* key, const std::string& value) {
  text_ += fmt::format("      {}:{}{}\n", key, value.empty() ? "" : " ", value);
}
void SettingsWriter::item(const std::string& value) {
  text_ += fmt::format("        - {}\n", value);
}

SettingsReader::SettingsReader(const YamlNode& node, const std::string& file, const char* step)
    : node_(node), file_(file), step_(step) {
  if (node.kind == YamlNode::Kind::kMapping || node.is_null()) return;
  fail_here(node, fmt::format("{}: settings are expected, as \"key: value\"", step));
}

void SettingsReader::fail_here(const YamlNode& at, const std::string& what) const {
  if (file_.empty()) fail(ErrorKind::kUsage, "{}", what);
  fail_at(at, file_, what);
}

const YamlNode* SettingsReader::take(const char* key) {
  key_ = key;
  known_.emplace_back(key);
  return node_.find(key);
}

const std::string& SettingsReader::scalar(const YamlNode& node) const {
  if (node.kind != YamlNode::Kind::kScalar)
    fail_here(node, fmt::format("{}: one value is expected", step_));
  if (node.is_null()) fail_here(node, fmt::format("{}: a value is missing", step_));
  return node.text;
}

std::vector<const YamlNode*> SettingsReader::items(const YamlNode& node) const {
  std::vector<const YamlNode*> out;
  if (node.kind == YamlNode::Kind::kScalar && !node.is_null()) out.push_back(&node);
  if (node.kind == YamlNode::Kind::kMapping)
    fail_here(node, fmt::format("{}: a list is expected", step_));
  for (const auto& item : node.items) out.push_back(&item);
  return out;
}

std::vector<std::pair<const YamlNode*, const YamlNode*>> SettingsReader::pairs(
    const YamlNode& node) const {
  std::vector<std::pair<const YamlNode*, const YamlNode*>> out;
  const auto add = [&](const YamlNode& mapping) {
    if (mapping.kind != YamlNode::Kind::kMapping)
      fail_here(mapping, fmt::format("{}: \"pattern: value\" is expected", step_));
    for (size_t i = 0; i < mapping.keys.size(); ++i)
      out.emplace_back(&mapping.keys[i], &mapping.items[i]);
  };
  if (node.is_null()) return out;
  if (node.kind != YamlNode::Kind::kSequence) {
    add(node);
  } else {
    for (const auto& item : node.items) add(item);
  }
  return out;
}

std::string option_of(std::string_view key) {
  std::string option = "--" + std::string(key);
  std::ranges::replace(option, '_', '-');
  return option;
}

void SettingsReader::finish() const {
  for (const auto& key : node_.keys) {
    if (std::ranges::find(known_, key.text) != known_.end()) continue;
    const std::string meant = nearest(key.text, known_);
    std::string all;
    for (const auto& k : known_) all += (all.empty() ? "" : " ") + k;
    fail_here(key, fmt::format("{} has no setting {}{}", step_, printable(key.text),
                               meant.empty() ? "; it has: " + all : "; is " + meant + " meant?"));
  }
}

void SettingsReader::refuse(const YamlNode& node, const std::string& why) const {
  const std::string name = file_.empty() ? option_of(key_) : key_;
  fail_here(node, fmt::format("{} {}: {}", name, printable(node.text), why));
}

}  // namespace pith
