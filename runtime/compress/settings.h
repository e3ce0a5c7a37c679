// The settings of a step of a recipe, described once; recipes are written and read by that, and
// commands have options by it:
//
//   template <class V>
//   void describe(V& v, RotateOptions& o) {
//     v("residual", o.residual, "rotate the residual stream");
//     v("seed", o.seed, "of the rotations");
//   }
//
// A key is the long option of the command, with _ for each - inside. Values are numbers, words, and
// lists; a type T of words takes part through to_setting(const T&) and from_setting(const
// std::string&, T*) in its namespace, the latter with Error(kUsage) saying what is expected.
#pragma once

#include <charconv>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "formats/encodings/encoding.h"
#include "formats/encodings/input.h"
#include "formats/yaml.h"

namespace pith {

struct NumberRange {
  double low = -std::numeric_limits<double>::max(), high = std::numeric_limits<double>::max();
};

std::string to_setting(bool value);
std::string to_setting(const std::string& value);
std::string to_setting(DType type);
std::string to_setting(const Encoding& e);
std::string to_setting(const InputEncoding& e);
template <class T>
requires(std::integral<T> || std::floating_point<T>) std::string to_setting(T value) {
  return fmt::format("{}", value);
}
void from_setting(const std::string& text, bool* to);
void from_setting(const std::string& text, std::string* to);
void from_setting(const std::string& text, DType* to);     // f16, bf16 or f32
void from_setting(const std::string& text, Encoding* to);  // a type (type_names.h)
void from_setting(const std::string& text, InputEncoding* to);
template <class T>
requires(std::integral<T> || std::floating_point<T>) void from_setting(const std::string& text,
                                                                       T* to) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() ||
      !std::isfinite(static_cast<double>(value)))
    fail(ErrorKind::kUsage, "a{} number is expected", std::integral<T> ? " whole" : "");
  *to = value;
}

// Lines "  - STEP:" and "      KEY: VALUE", as recipes have them under `steps`.
class SettingsWriter {
 public:
  static constexpr bool kReads = false;
  explicit SettingsWriter(const char* step) : text_(fmt::format("  - {}:\n", step)) {}

  template <class T>
  void operator()(const char* key, const T& value, const char*, NumberRange = {}) {
    line(key, to_setting(value));
  }
  template <class T>
  void operator()(const char* key, const std::optional<T>& value, const char*, NumberRange = {}) {
    if (value) line(key, to_setting(*value));
  }
  template <class T>
  void operator()(const char* key, const std::vector<T>& list, const char*) {
    if (!list.empty()) line(key, "");
    for (const auto& value : list) item(to_setting(value));
  }
  // In order: the last that matches a name may be the one that counts.
  template <class T>
  void operator()(const char* key, const std::vector<std::pair<std::string, T>>& list,
                  const char*) {
    if (!list.empty()) line(key, "");
    for (const auto& [name, value] : list) item(to_setting(name) + ": " + to_setting(value));
  }

  const std::string& text() const { return text_; }

 private:
  void line(const char* key, const std::string& value);
  void item(const std::string& value);

  std::string text_;
};

// Reads a mapping of such keys. Errors are kUsage and say where in the file; without a file's name
// the keys are those of options, and called so.
class SettingsReader {
 public:
  static constexpr bool kReads = true;
  // `node`: a mapping, or nothing, for a step that takes all defaults. All outlive the reader.
  SettingsReader(const YamlNode& node, const std::string& file, const char* step);
  SettingsReader(YamlNode&& node, const std::string& file, const char* step) = delete;

  template <class T>
  void operator()(const char* key, T& value, const char* = "", NumberRange range = {}) {
    if (const YamlNode* node = take(key)) read(*node, &value, range);
  }
  template <class T>
  void operator()(const char* key, std::optional<T>& value, const char* = "",
                  NumberRange range = {}) {
    if (const YamlNode* node = take(key)) read(*node, &value.emplace(), range);
  }
  template <class T>
  void operator()(const char* key, std::vector<T>& list, const char* = "") {
    const YamlNode* node = take(key);
    if (node == nullptr) return;
    list.clear();
    for (const YamlNode* item : items(*node)) read(*item, &list.emplace_back(), {});
  }
  template <class T>
  void operator()(const char* key, std::vector<std::pair<std::string, T>>& list, const char* = "") {
    const YamlNode* node = take(key);
    if (node == nullptr) return;
    list.clear();
    for (const auto& [name, value] : pairs(*node)) {
      auto& entry = list.emplace_back();
      read(*name, &entry.first, {});
      read(*value, &entry.second, {});
    }
  }

  // The value of a key; null where it is missing. find() leaves it to be read.
  const YamlNode* find(const char* key) const { return node_.find(key); }
  const YamlNode* take(const char* key);
  // Error where a key is left that nothing asked for, naming the nearest that was.
  void finish() const;
  // At a place in the file, or of an option.
  [[noreturn]] void fail_here(const YamlNode& at, const std::string& what) const;

 private:
  const std::string& scalar(const YamlNode& node) const;
  // One scalar stands for a list of one.
  std::vector<const YamlNode*> items(const YamlNode& node) const;
  // The pairs of a mapping, or of a list of mappings with a key each.
  std::vector<std::pair<const YamlNode*, const YamlNode*>> pairs(const YamlNode& node) const;

  template <class T>
  void read(const YamlNode& node, T* to, NumberRange range) const {
    const std::string& text = scalar(node);
    try {
      from_setting(text, to);
    } catch (const Error& e) {
      refuse(node, e.what());
    }
    if constexpr (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>) {
      const auto value = static_cast<double>(*to);
      if (!(value >= range.low && value <= range.high))
        refuse(node, fmt::format("must be {:g} to {:g}", range.low, range.high));
    }
  }
  [[noreturn]] void refuse(const YamlNode& node, const std::string& why) const;

  const YamlNode& node_;
  const std::string& file_;
  const char* step_;
  const char* key_ = "";            // that is being read
  std::vector<std::string> known_;  // keys that were asked for
};

// "--damp-percent" for "damp_percent".
std::string option_of(std::string_view key);

// Lists the settings, for the options of a command.
struct SettingHelp {
  enum class Kind { kValue, kSwitch, kList, kPairs };
  std::string key;
  const char* help;
  Kind kind;
  std::string standard;  // as a setting; empty: nothing, or a list
};
class SettingsHelp {
 public:
  static constexpr bool kReads = true;

  template <class T>
  void operator()(const char* key, const T& value, const char* help, NumberRange = {}) {
    using Kind = SettingHelp::Kind;
    all.push_back(
        {key, help, std::is_same_v<T, bool> ? Kind::kSwitch : Kind::kValue, to_setting(value)});
  }
  template <class T>
  void operator()(const char* key, const std::optional<T>&, const char* help, NumberRange = {}) {
    all.push_back({key, help, SettingHelp::Kind::kValue, ""});
  }
  template <class T>
  void operator()(const char* key, const std::vector<T>&, const char* help) {
    all.push_back({key, help, SettingHelp::Kind::kList, ""});
  }
  template <class T>
  void operator()(const char* key, const std::vector<std::pair<std::string, T>>&,
                  const char* help) {
    all.push_back({key, help, SettingHelp::Kind::kPairs, ""});
  }

  std::vector<SettingHelp> all = {};
};

}  // namespace pith
