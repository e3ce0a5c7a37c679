#include "formats/yaml.h"

#include <yaml.h>

#include <algorithm>

#include "core/error.h"
#include "core/utf8.h"
#include "formats/printable.h"

namespace pith {
namespace {

constexpr int kMaxDepth = 32;
constexpr size_t kMaxNodes = 100'000;

struct Event {
  yaml_event_t e = {};
  Event() = default;
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() { yaml_event_delete(&e); }
};

class Reader {
 public:
  Reader(std::string_view text, const std::string& name) : name_(name) {
    if (yaml_parser_initialize(&parser_) == 0) fail(ErrorKind::kMemory, "{}: no memory", name);
    yaml_parser_set_encoding(&parser_, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser_, reinterpret_cast<const unsigned char*>(text.data()),
                                 text.size());
  }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;
  ~Reader() { yaml_parser_delete(&parser_); }

  YamlNode read() {
    expect(YAML_STREAM_START_EVENT);
    Event start;
    next(&start);
    if (start.e.type == YAML_STREAM_END_EVENT) fail(ErrorKind::kUsage, "{}: is empty", name_);
    Event first;
    next(&first);
    YamlNode root = node(first, 0);
    expect(YAML_DOCUMENT_END_EVENT);
    Event end;
    next(&end);
    if (end.e.type != YAML_STREAM_END_EVENT) fail_here(end, "a second document");
    return root;
  }

 private:
  [[noreturn]] void fail_here(const Event& event, const std::string& what) const {
    YamlNode at;
    set_place(event.e.start_mark, &at);
    fail_at(at, name_, what);
  }
  static void set_place(const yaml_mark_t& mark, YamlNode* to) {
    to->line = static_cast<int>(mark.line) + 1;
    to->column = static_cast<int>(mark.column) + 1;
  }

  void next(Event* event) {
    if (yaml_parser_parse(&parser_, &event->e) != 0) return;
    if (parser_.error == YAML_MEMORY_ERROR) fail(ErrorKind::kMemory, "{}: no memory", name_);
    YamlNode at;
    const bool has_mark = parser_.problem_mark.line != 0 || parser_.problem_mark.column != 0;
    set_place(has_mark ? parser_.problem_mark : parser_.mark, &at);
    fail_at(at, name_,
            std::string("not YAML: ") + (parser_.problem != nullptr ? parser_.problem : "?"));
  }
  void expect(yaml_event_type_t type) {
    Event event;
    next(&event);
    if (event.e.type != type) fail_here(event, "not what is expected here");
  }

  // Refuses what gives one node several places or a meaning that nobody reads.
  void require_plain(const Event& event, const unsigned char* anchor,
                     const unsigned char* tag) const {
    if (anchor != nullptr) fail_here(event, "anchors and aliases are not read");
    if (tag != nullptr && std::string_view(reinterpret_cast<const char*>(tag)) != "!")
      fail_here(event, "tags are not read");
  }

  YamlNode node(const Event& event, int depth) {
    if (depth > kMaxDepth) fail_here(event, fmt::format("nested deeper than {}", kMaxDepth));
    if (++nodes_ > kMaxNodes) fail_here(event, fmt::format("more than {} values", kMaxNodes));
    YamlNode out;
    set_place(event.e.start_mark, &out);
    switch (event.e.type) {
      case YAML_SCALAR_EVENT: {
        const auto& s = event.e.data.scalar;
        require_plain(event, s.anchor, s.tag);
        out.text.assign(reinterpret_cast<const char*>(s.value), s.length);
        out.quoted = s.style != YAML_PLAIN_SCALAR_STYLE;
        return out;
      }
      case YAML_SEQUENCE_START_EVENT: {
        const auto& s = event.e.data.sequence_start;
        require_plain(event, s.anchor, s.tag);
        out.kind = YamlNode::Kind::kSequence;
        while (true) {
          Event item;
          next(&item);
          if (item.e.type == YAML_SEQUENCE_END_EVENT) return out;
          out.items.push_back(node(item, depth + 1));
        }
      }
      case YAML_MAPPING_START_EVENT: {
        const auto& s = event.e.data.mapping_start;
        require_plain(event, s.anchor, s.tag);
        out.kind = YamlNode::Kind::kMapping;
        read_members(depth, &out);
        return out;
      }
      case YAML_ALIAS_EVENT:
        fail_here(event, "anchors and aliases are not read");
      default:
        fail_here(event, "not what is expected here");
    }
  }

  void read_members(int depth, YamlNode* to) {
    while (true) {
      Event key;
      next(&key);
      if (key.e.type == YAML_MAPPING_END_EVENT) break;
      if (key.e.type != YAML_SCALAR_EVENT) fail_here(key, "a key that is not a word");
      to->keys.push_back(node(key, depth + 1));
      Event value;
      next(&value);
      to->items.push_back(node(value, depth + 1));
    }
    std::vector<size_t> order(to->keys.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::ranges::stable_sort(order, {}, [&](size_t i) { return to->keys[i].text; });
    for (size_t i = 1; i < order.size(); ++i) {
      const YamlNode& key = to->keys[order[i]];
      if (key.text == to->keys[order[i - 1]].text)
        fail_at(key, name_, printable(key.text) + " occurs twice");
    }
  }

  const std::string& name_;
  yaml_parser_t parser_ = {};
  size_t nodes_ = 0;
};

}  // namespace

bool YamlNode::is_null() const {
  return kind == Kind::kScalar && !quoted &&
         (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL");
}

const YamlNode* YamlNode::find(std::string_view key) const {
  const auto it = std::ranges::find(keys, key, &YamlNode::text);
  return it == keys.end() ? nullptr : &items[static_cast<size_t>(it - keys.begin())];
}

YamlNode parse_yaml(std::string_view text, const std::string& name) {
  if (text.size() > kMaxYamlBytes) {
    fail(ErrorKind::kUsage, "{}: {} bytes, at most {} are read", name, text.size(), kMaxYamlBytes);
  }
  if (valid_utf8_prefix(text) != text.size()) fail(ErrorKind::kUsage, "{}: is not UTF-8", name);
  return Reader(text, name).read();
}

void fail_at(const YamlNode& node, const std::string& name, const std::string& what) {
  fail(ErrorKind::kUsage, "{}:{}:{}: {}", name, node.line, node.column, what);
}

}  // namespace pith
