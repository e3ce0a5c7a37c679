// The formats that read_choice_tasks() knows; see choice.h.

#include <algorithm>
#include <optional>

#include "core/error.h"
#include "core/utf8.h"
#include "formats/printable.h"
#include "runtime/eval/choice.h"

namespace pith {
namespace {

constexpr std::string_view kBlank = " \t\r\n\v\f";

std::string strip(std::string_view s) {
  const size_t begin = s.find_first_not_of(kBlank);
  if (begin == s.npos) return "";
  return std::string(s.substr(begin, s.find_last_not_of(kBlank) - begin + 1));
}

void replace_all(std::string* text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text->find(from, at)) != std::string::npos; at += to.size())
    text->replace(at, from.size(), to);
}

// The first letter in upper case, all others in lower case.
std::string capitalized(const std::string& text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const bool first = at == 0;
    const char32_t c = next_code_point(text, at);
    if (first && c < 0x80)
      out += static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c);
    else if (first)
      append_utf8(out, c);
    else
      append_lower(out, c);
  }
  return out;
}

// HellaSwag's texts without the remains of WikiHow's markup.
std::string hellaswag_text(const std::string& text) {
  std::string s = strip(text);
  replace_all(&s, " [title]", ". ");
  std::string out;
  for (size_t at = 0; at < s.size();) {
    const size_t open = s.find('[', at);
    const size_t close = open == s.npos ? s.npos : s.find(']', open);
    // A bracket that does not end in its line stays.
    if (close == s.npos || s.find('\n', open) < close) {
      const size_t end = open == s.npos ? s.size() : open + 1;
      out += s.substr(at, end - at);
      at = end;
    } else {
      out += s.substr(at, open - at);
      at = close + 1;
    }
  }
  replace_all(&out, "  ", " ");
  return out;
}

const Json& list_of(const Json& j, const char* key, const std::string& where) {
  const Json& list = json_member(j, key, where);
  if (!list.is_array() || list.size() < 2)
    fail(ErrorKind::kCorrupt, "{}: \"{}\" should be a list of two or more", where, key);
  return list;
}

std::vector<std::string> texts_of(const Json& list, const char* key, const std::string& where) {
  std::vector<std::string> out;
  for (const auto& c : list) {
    if (!c.is_string() || c.get_ref<const std::string&>().empty())
      fail(ErrorKind::kCorrupt, "{}: a choice in \"{}\" is not a text", where, key);
    out.push_back(c.get<std::string>());
  }
  return out;
}

// An index as a number, or as a text, which is how data sets are published.
size_t index_of(const Json& j, const char* key, size_t choices, const std::string& where) {
  const Json& v = json_member(j, key, where);
  uint64_t index = 0;
  if (v.is_string()) {
    const auto& text = v.get_ref<const std::string&>();
    if (text.empty())
      fail(ErrorKind::kCorrupt, "{}: \"{}\" is empty: a part without answers?", where, key);
    if (text.size() > 3 || text.find_first_not_of("0123456789") != text.npos)
      fail(ErrorKind::kCorrupt, "{}: \"{}\" is {}, not an index", where, key, printable(text));
    for (const char c : text) index = index * 10 + static_cast<uint64_t>(c - '0');
  } else {
    index = json_uint(j, key, where);
  }
  if (index >= choices)
    fail(ErrorKind::kCorrupt, "{}: answer {} of {} choices in \"{}\"", where, index, choices, key);
  return index;
}

ChoiceTask plain(const Json& j, const std::string& where) {
  ChoiceTask t{.prompt = json_string(j, "prompt", where),
               .choices = texts_of(list_of(j, "choices", where), "choices", where)};
  t.answer = index_of(j, "answer", t.choices.size(), where);
  return t;
}

ChoiceTask lm_eval(const Json& j, const std::string& where) {
  ChoiceTask t{.prompt = json_string(j, "query", where),
               .choices = texts_of(list_of(j, "choices", where), "choices", where)};
  t.answer = index_of(j, "gold", t.choices.size(), where);
  t.delimiter = " ";
  return t;
}

ChoiceTask hellaswag(const Json& j, const std::string& where) {
  ChoiceTask t;
  const std::string context =
      json_find(j, "ctx_a") != nullptr
          ? json_string(j, "ctx_a", where) + " " + capitalized(json_string(j, "ctx_b", where, ""))
          : json_string(j, "ctx", where);
  t.prompt = hellaswag_text(json_string(j, "activity_label", where) + ": " + context);
  for (const auto& e : texts_of(list_of(j, "endings", where), "endings", where)) {
    t.choices.push_back(hellaswag_text(e));
    if (t.choices.back().empty())
      fail(ErrorKind::kCorrupt, "{}: an ending without text in \"endings\"", where);
  }
  t.answer = index_of(j, "label", t.choices.size(), where);
  t.delimiter = " ";
  return t;
}

ChoiceTask winogrande(const Json& j, const std::string& where) {
  ChoiceTask t;
  const std::string sentence = json_string(j, "sentence", where);
  const size_t gap = sentence.find('_');
  if (gap == sentence.npos) fail(ErrorKind::kCorrupt, "{}: no _ in \"sentence\"", where);
  const std::string rest = strip(std::string_view(sentence).substr(gap + 1));
  if (rest.empty()) fail(ErrorKind::kCorrupt, "{}: nothing follows the _ in \"sentence\"", where);
  for (const char* option : {"option1", "option2"}) {
    t.prompts.push_back(sentence.substr(0, gap) + json_string(j, option, where));
    t.choices.push_back(rest);
  }
  t.prompt = t.prompts[0];
  const size_t answer = index_of(j, "answer", 3, where);
  if (answer == 0) fail(ErrorKind::kCorrupt, "{}: \"answer\" is 0, not 1 or 2", where);
  t.answer = answer - 1;
  t.delimiter = " ";
  return t;
}

ChoiceTask arc(const Json& j, const std::string& where) {
  ChoiceTask t;
  std::vector<std::string> labels;
  const Json& question = json_member(j, "question", where);
  std::string stem;
  if (question.is_object()) {
    stem = json_string(question, "stem", where);
    for (const auto& c : list_of(question, "choices", where)) {
      t.choices.push_back(json_string(c, "text", where));
      labels.push_back(json_string(c, "label", where));
    }
  } else {
    stem = json_string(j, "question", where);
    const Json& choices = json_member(j, "choices", where);
    t.choices = texts_of(list_of(choices, "text", where), "text", where);
    labels = texts_of(list_of(choices, "label", where), "label", where);
  }
  if (std::ranges::count(t.choices, "") > 0)
    fail(ErrorKind::kCorrupt, "{}: a choice without text", where);
  const std::string key = json_string(j, "answerKey", where);
  t.answer = static_cast<size_t>(std::ranges::find(labels, key) - labels.begin());
  if (t.answer >= t.choices.size() || labels.size() != t.choices.size())
    fail(ErrorKind::kCorrupt, "{}: \"answerKey\" is {}, no label of a choice", where,
         printable(key));
  t.prompt = "Question: " + stem + "\nAnswer:";
  t.delimiter = " ";
  return t;
}

ChoiceTask mmlu_task(const std::string& question, const std::vector<std::string>& choices,
                     size_t answer, const std::string& subject, const std::string& where) {
  if (choices.size() > 26) fail(ErrorKind::kCorrupt, "{}: more choices than letters", where);
  ChoiceTask t{.prompt = strip(question) + "\n", .choices = {}, .answer = answer};
  for (size_t c = 0; c < choices.size(); ++c) {
    t.choices.emplace_back(1, static_cast<char>('A' + c));
    t.prompt += t.choices.back() + ". " + choices[c] + "\n";
  }
  t.prompt += "Answer:";
  t.delimiter = " ";
  t.subject = subject;
  return t;
}

size_t letter_index(const std::string& text, size_t choices, const char* key,
                    const std::string& where) {
  if (text.size() != 1 || text[0] < 'A' || static_cast<size_t>(text[0] - 'A') >= choices) {
    fail(ErrorKind::kCorrupt, "{}: \"{}\" is {}, no letter of {} choices", where, key,
         printable(text), choices);
  }
  return static_cast<size_t>(text[0] - 'A');
}

ChoiceTask mmlu(const Json& j, const std::string& where) {
  const auto choices = texts_of(list_of(j, "choices", where), "choices", where);
  const Json* answer = json_find(j, "answer");
  const bool letter = answer != nullptr && answer->is_string() &&
                      !answer->get_ref<const std::string&>().empty() &&
                      answer->get_ref<const std::string&>()[0] >= 'A';
  const size_t index =
      letter ? letter_index(answer->get<std::string>(), choices.size(), "answer", where)
             : index_of(j, "answer", choices.size(), where);
  return mmlu_task(json_string(j, "question", where), choices, index,
                   json_string(j, "subject", where, ""), where);
}

// Recognizes a format by the keys that no other format has.
struct Format {
  const char* name;
  std::vector<const char*> keys;
  ChoiceTask (*read)(const Json&, const std::string&);
};
const std::vector<Format>& formats() {
  static const std::vector<Format> all = {{"HellaSwag", {"endings"}, hellaswag},
                                          {"Winogrande", {"sentence"}, winogrande},
                                          {"ARC", {"answerKey"}, arc},
                                          {"lm-eval", {"query"}, lm_eval},
                                          {"MMLU", {"question", "choices"}, mmlu}};
  return all;
}

const Format kPlain = {"plain", {}, plain};

const Format& format_of(const Json& j) {
  for (const auto& f : formats()) {
    if (std::ranges::all_of(f.keys, [&](const char* k) { return json_find(j, k) != nullptr; }))
      return f;
  }
  return kPlain;
}

// Parses the JSON of one line, whose number is in `where`.
Json parse_line(std::string_view line, const std::string& where) {
  try {
    return parse_json(line, where);
  } catch (const Error& e) {
    std::string message = e.what();
    constexpr std::string_view kFirst = " at line 1, column";
    if (const size_t at = message.rfind(kFirst); at != message.npos)
      message.replace(at, kFirst.size(), " at column");
    throw Error(e.kind(), message);
  }
}

void add_task(const Json& j, const std::string& where, ChoiceTasks* to) {
  if (!j.is_object())
    fail(ErrorKind::kCorrupt, "{}: a task should be an object, it is {}", where, j.type_name());
  const Json* row = json_find(j, "row");  // as the data sets' viewer gives them
  const Json& task = row != nullptr && row->is_object() ? *row : j;
  const Format& f = format_of(task);
  if (to->format.empty()) {
    to->format = f.name;
    to->keys.assign(f.keys.begin(), f.keys.end());
  }
  if (to->format != f.name) {
    fail(ErrorKind::kCorrupt, "{}: a task of {} among those of {}", where, f.name, to->format);
  }
  to->tasks.push_back(f.read(task, where));
}

void read_list(const Json& list, const std::string& name, ChoiceTasks* to) {
  for (size_t i = 0; i < list.size(); ++i)
    add_task(list[i], fmt::format("{}, item {}", name, i + 1), to);
}

void read_lines(std::string_view text, const std::string& name, ChoiceTasks* to) {
  for (int number = 1; !text.empty(); ++number) {
    const auto line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (line.find_first_not_of(kBlank) == line.npos) continue;
    const std::string where = fmt::format("{}, line {}", name, number);
    add_task(parse_line(line, where), where, to);
  }
}

// Rows of CSV: fields by commas, quoted ones with "" for a quote and line breaks inside.
class Csv {
 public:
  Csv(std::string_view text, const std::string& name) : text_(text), name_(name) {}

  // False at the end. `line`: the line where the row begins.
  bool next(std::vector<std::string>* fields, int* line) {
    fields->clear();
    while (at_ < text_.size() && (text_[at_] == '\n' || text_[at_] == '\r')) take();
    if (at_ >= text_.size()) return false;
    *line = line_;
    for (;;) {
      fields->push_back(field());
      if (at_ < text_.size() && text_[at_] == ',') {
        take();
        continue;
      }
      return true;
    }
  }

 private:
  char take() {
    if (text_[at_] == '\n') ++line_;
    return text_[at_++];
  }
  std::string field() {
    std::string out;
    if (at_ >= text_.size() || text_[at_] != '"') {
      while (at_ < text_.size() && text_[at_] != ',' && text_[at_] != '\n') out += take();
      if (out.ends_with('\r')) out.pop_back();
      return out;
    }
    const int begin = line_;
    take();
    for (;;) {
      if (at_ >= text_.size())
        fail(ErrorKind::kCorrupt, "{}, line {}: a quote that does not end", name_, begin);
      const char c = take();
      if (c != '"') {
        out += c;
      } else if (at_ < text_.size() && text_[at_] == '"') {
        out += take();
      } else {
        break;
      }
    }
    while (at_ < text_.size() && text_[at_] == '\r') take();
    if (at_ < text_.size() && text_[at_] != ',' && text_[at_] != '\n')
      fail(ErrorKind::kCorrupt, "{}, line {}: text behind a quoted field", name_, line_);
    return out;
  }

  std::string_view text_;
  const std::string& name_;
  size_t at_ = 0;
  int line_ = 1;
};

// "abstract_algebra" of "data/abstract_algebra_test.csv".
std::string subject_of(std::string name) {
  name = name.substr(name.find_last_of('/') + 1);
  for (const std::string_view end : {".gz", ".csv", "_test", "_val", "_dev"}) {
    if (name.ends_with(end)) name.resize(name.size() - end.size());
  }
  const auto is_name = [](char c) { return (c >= 'a' && c <= 'z') || c == '_'; };
  return std::ranges::all_of(name, is_name) && name != "stdin" ? name : "";
}

void read_csv(std::string_view text, const std::string& name, ChoiceTasks* to) {
  to->format = "MMLU";
  Csv csv(text, name);
  std::vector<std::string> fields;
  int line = 0;
  while (csv.next(&fields, &line)) {
    const std::string where = fmt::format("{}, line {}", name, line);
    if (fields.size() < 4) {
      fail(ErrorKind::kCorrupt,
           "{}: neither JSON nor a row of MMLU's CSV (question, choices, letter): {} fields", where,
           fields.size());
    }
    if (to->tasks.empty() && fields.front() == "question" && fields.back() == "answer") continue;
    const std::vector<std::string> choices(fields.begin() + 1, fields.end() - 1);
    const size_t answer = letter_index(strip(fields.back()), choices.size(), "answer", where);
    to->tasks.push_back(mmlu_task(fields[0], choices, answer, subject_of(name), where));
  }
}

}  // namespace

ChoiceTasks read_choice_tasks(std::string_view text, const std::string& name) {
  ChoiceTasks out;
  const size_t begin = text.find_first_not_of(kBlank);
  if (begin == text.npos) fail(ErrorKind::kUsage, "{}: no tasks", name);
  if (text[begin] == '[') {
    read_list(parse_json(text, name), name, &out);
  } else if (text[begin] == '{') {
    // The data sets' viewer gives one object: {"features": ..., "rows": [{"row": task}, ...]}.
    std::string_view first = text.substr(begin + 1);
    first.remove_prefix(std::min(first.size(), first.find_first_not_of(kBlank)));
    if (first.starts_with("\"features\"") || first.starts_with("\"rows\"")) {
      const Json j = parse_json(text, name);
      const Json& list = json_member(j, "rows", name);
      if (!list.is_array()) fail(ErrorKind::kCorrupt, "{}: \"rows\" should be a list", name);
      read_list(list, name, &out);
    } else {
      read_lines(text, name, &out);
    }
  } else {
    read_csv(text, name, &out);
  }
  if (out.tasks.empty()) fail(ErrorKind::kUsage, "{}: no tasks", name);
  return out;
}

std::vector<ChoiceTask> parse_choice_tasks(std::string_view text, const std::string& name) {
  return read_choice_tasks(text, name).tasks;
}

}  // namespace pith
